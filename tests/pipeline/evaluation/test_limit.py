"""The information limit: distances that must vanish or grow as they should, noise as theory has it, and its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from scipy.stats import chi2, norm
from typer.testing import CliRunner

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.cli import main
from twinlines.pipeline.evaluation import limit as information
from twinlines.pipeline.evaluation.evaluation import EvaluationError, Options, evaluate
from twinlines.pipeline.evaluation.limit import FPR, FREEDOM, Sample, detected
from twinlines.pipeline.evaluation.measures import STRATA
from twinlines.pipeline.evaluation.noncentrality import (
    ARM_SETS,
    Binaries,
    lights_of,
    noise_maxima,
    noncentrality,
    read_binaries,
)
from twinlines.pipeline.jobs.answers import Answer, Answers
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.beyond_table1 import Extras, Field
from twinlines.pipeline.synthesis.starlight import Starlight
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

SUN = (5772.0, 4.44, 0.0, 0.0, 8.0)


@pytest.fixture(scope="module")
def lights() -> dict[ArmName, Starlight]:
    return lights_of(Library.load())


@pytest.fixture(scope="module")
def store(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("limit") / "pairs.zarr"
    synthesize(client, TrainingSet(n_pairs=48, seed=3, extras=Extras(field=Field(0.5))), out)
    return out


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold of few stars, companions and realisations."""
    for name, number in (("STARS", 2), ("COMPANIONS", 10), ("REALISATIONS", 500)):
        monkeypatch.setattr(information, name, number)


def twins(separation: list[float], snr: list[float]) -> Binaries:
    """Two Suns so many km/s apart, at so many S/N."""
    velocity = np.array(separation)
    first, second = (np.column_stack([np.tile(SUN, (len(velocity), 1)), speed]) for speed in (0 * velocity, velocity))
    return Binaries(
        serial=np.arange(len(velocity)),
        first=torch.from_numpy(first),
        second=torch.from_numpy(second),
        area=torch.ones(len(velocity)),
        snr={name: torch.tensor(snr) for name in ARM_NAMES},
        on_detector=torch.zeros(len(velocity), dtype=torch.bool),
    )


def test_the_distance_grows_as_the_square_of_the_signal(lights: dict[ArmName, Starlight]) -> None:
    far = noncentrality(lights, twins([120.0] * 3, [10.0, 20.0, 40.0])).fitted
    np.testing.assert_allclose(far[1:] / far[:-1], 4.0, rtol=0.01)
    assert (far[0] > 50.0).all()  # equal stars far apart are found at S/N 10
    assert np.all(far[:, 2] >= far[:, 0] + far[:, 1])  # arms that must agree are explained no better


def test_one_star_twice_is_one_star(lights: dict[ArmName, Starlight]) -> None:
    same = noncentrality(lights, twins([0.0, 3.0], [100.0, 100.0]))
    assert same.known[0].max() < 0.01
    assert same.fitted.max() < 0.5  # two lines 3 km/s apart are one that is a little wider
    assert same.known[1].min() > 10.0  # but not the line of the one star at rest


def test_stored_binaries_are_nearer_to_fitted_stars_than_to_their_primaries(
    lights: dict[ArmName, Starlight], store: Path
) -> None:
    binaries = read_binaries(store, np.arange(10, 20))
    found = noncentrality(lights, binaries)
    assert np.all(found.fitted <= found.known * (1 + 1e-9))
    assert np.all(found.fitted[:, 2] > (found.fitted[:, 0] + found.fitted[:, 1]) * 0.99 - 0.05)
    again = noncentrality(lights, binaries.take(torch.tensor([4, 2])))
    np.testing.assert_allclose(again.fitted, found.fitted[[4, 2]], rtol=0.02, atol=0.02)
    columns = stores.read_columns(store, ["snr_R", "velocity2"])
    assert binaries.on_detector.all()  # in the measured frame
    np.testing.assert_array_equal(binaries.snr["R"], columns["snr_R"][10:20])
    np.testing.assert_allclose(binaries.second[:, 5], columns["velocity2"][10:20])
    assert len(set(read_binaries(store, np.arange(48)).serial.tolist())) == 48


def test_noise_of_one_direction_is_a_normal_number(lights: dict[ArmName, Starlight]) -> None:
    star = twins([100.0], [50.0])
    made = noise_maxima(lights, star, star, 4000, 1)
    for values in made:
        for level in (0.5, 1.0, 2.0):
            assert (values > level).mean() == pytest.approx(norm.sf(level), abs=4 * np.sqrt(norm.sf(level) / 4000))
    np.testing.assert_array_equal(noise_maxima(lights, star, star, 4000, 1), made)
    assert not np.array_equal(noise_maxima(lights, star, star, 4000, 2), made)
    # Five times the same companion is one; five of them, in different places, are more chances for noise.
    same = noise_maxima(lights, star, star.take(torch.zeros(5, dtype=torch.int64)), 4000, 1)
    apart = noise_maxima(lights, star, twins([60.0, 100.0, 150.0, -90.0, 200.0], [50.0] * 5), 4000, 1)
    assert (same > 1.0).mean() == pytest.approx(norm.sf(1.0), abs=0.03)
    assert (apart > 1.0).mean() > 2 * norm.sf(1.0)


def test_a_companion_that_adds_nothing_explains_no_noise(lights: dict[ArmName, Starlight]) -> None:
    star = twins([0.0], [50.0])
    faint = replace(twins([100.0], [50.0]), area=torch.tensor([1e-9]))
    assert noise_maxima(lights, star, faint, 100, 1).max() == 0.0
    # A little brighter, and it explains noise no better than its own light can.
    faint = replace(faint, area=torch.tensor([3e-3]))
    some = noise_maxima(lights, star, faint, 2000, 1)
    assert 0.0 < some.max() < 3.0


@pytest.mark.parametrize("name", ARM_NAMES)
def test_noise_of_the_detector_is_stronger_at_the_scale_of_lines(name: ArmName) -> None:
    arm = ARMS[name]
    keys = np.stack([np.arange(1500), np.zeros(1500, np.int64)], axis=1)
    noise = observing.on_grid(arm, observing.detector_noise(arm, keys, 1), np.zeros(1500)).numpy()
    line = np.exp(-0.5 * (np.arange(-25, 26) / 5.0) ** 2)
    for centre in (300, 1700, 3000):
        measured = (noise[:, centre - 25 : centre + 26] @ line).var() / (line**2).sum()
        assert measured == pytest.approx(observing.coarseness(arm)[centre], rel=0.15)


def test_the_chance_of_detection() -> None:
    chance = detected(np.array([0.0, 5.0, 17.0, 100.0, 1e5]), 17.0)
    assert chance[0] == pytest.approx(chi2.sf(17.0, FREEDOM))
    assert np.all(np.diff(chance) > 0)
    assert chance[2] == pytest.approx(0.6, abs=0.1)
    assert chance[-1] == 1.0


def test_thresholds_are_exceeded_at_the_stated_rate() -> None:
    maxima = np.sqrt(np.random.default_rng(1).chisquare(3, (20, 5000))).astype(np.float32)
    even = np.full(20, 0.05)
    assert information._threshold(maxima, even) == pytest.approx(chi2.isf(FPR, 3), rel=0.05)
    # A population that counts for nothing does not raise it.
    maxima[:10] *= 2
    assert information._threshold(maxima, np.repeat([0.0, 0.1], 10)) == pytest.approx(chi2.isf(FPR, 3), rel=0.07)


def test_evaluate_measures_it_and_goes_on_where_it_was(
    client: Client, store: Path, untrained_weights: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(split="all", twins=0, rule_pairs=0, limit=12)
    report = evaluate(client, store, untrained_weights, options, answers=tmp_path)
    found = report.limit
    assert found is not None
    assert (found.fpr, found.binaries) == (FPR, 12)
    assert [(row.population, row.arms) for row in found.rows] == [
        (population, arms) for population in ("all", "table1", "field") for arms in ARM_SETS
    ]
    for row in found.rows:
        assert 0.0 <= row.low <= row.fraction <= row.high <= 1.0
        assert row.fraction <= row.known + 1e-9
        assert row.binaries == (12 if row.population == "all" else 6)
        assert row.stars == (4 if row.population == "all" else 2)
        assert 4.0 < row.threshold < 40.0
    assert [(one.arms, one.parameter) for one in found.marginals] == [(n, p) for n in ARM_SETS for p in STRATA]
    bins = next(one.bins for one in found.marginals if (one.arms, one.parameter) == ("J", "separation"))
    assert sum(one.rate.count for one in bins) == pytest.approx(12 * found.rows[2].fraction)
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))["limit"]
    assert content["rows"][0]["threshold"] == found.rows[0].threshold
    assert len(content["marginals"]) == 3 * len(STRATA)
    asked: list[str] = []

    def counted(self: Answers, key: str, answer: Answer, **about: Any) -> None:
        asked.append(about["stage"])
        keep(self, key, answer, **about)

    keep = Answers.keep
    monkeypatch.setattr(Answers, "keep", counted)
    assert evaluate(client, store, untrained_weights, options, answers=tmp_path).limit == found
    assert not asked
    evaluate(client, store, untrained_weights, replace(options, seed=1), answers=tmp_path)
    assert asked == ["limit's noise"]  # no other seed decides a distance


def test_no_binary_no_limit() -> None:
    with pytest.raises(EvaluationError, match="-3 binaries for the limit"):
        Options(limit=-3)
    singles = Sample(np.arange(4), np.zeros((4, 2), np.int8), np.ones(4, np.int8), {})
    with pytest.raises(EvaluationError, match="no pair of the split holds a binary"):
        singles.first_binaries(3)


def test_from_the_command_line(
    client: Client, store: Path, untrained_weights: Path, tmp_path: Path, small: None
) -> None:
    paths = ["--pairs", store, "--weights", untrained_weights, "--out", tmp_path / "out"]
    counts = ["--split", "all", "--twins", 0, "--rule-pairs", 0, "--limit", 4]
    cluster = ["--cluster", client.scheduler_info()["address"], "--json"]
    done = CliRunner().invoke(main.app, ["evaluate", *map(str, [*paths, *counts, *cluster])])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["limit"]["binaries"] == 4
    assert "information limit" in (tmp_path / "out/evaluation.txt").read_text()
