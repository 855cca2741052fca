"""The demo, small: the whole chain on a mock release, with weights that know nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from rich.console import Console

from twinlines.pipeline.binaries.schema import ORBITS, SOURCES
from twinlines.pipeline.cli.mock import show_demo
from twinlines.pipeline.figures.demo import write
from twinlines.pipeline.mock.comparison import compare_binaries
from twinlines.pipeline.mock.demo import DemoResult, prepare_folder, run_demo
from twinlines.pipeline.mock.release import MockConfig
from twinlines.pipeline.mock.stars import Mixture
from twinlines.pipeline.spectra.inference import InferenceParameters

pytestmark = pytest.mark.filterwarnings(  # untrained networks are not those that evidence was calibrated with
    "ignore:the catalog is of the weights:twinlines.pipeline.binaries.sources.survey.CalibrationWarning"
)

SMALL = MockConfig(mixture=Mixture(sb2=0.5, sb1=0.0, giant=0.0), nights=(2, 2), exposures=(2, 2), median_snr=40.0)


@pytest.fixture(scope="module")
def result(client: Client, untrained_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    folder = tmp_path_factory.mktemp("demo")
    return run_demo(
        client,
        folder,
        stars=4,
        seed=2,
        weights=untrained_weights,
        config=SMALL,
        parameters=InferenceParameters(n_draws=2),
        draw=write,
    )


def test_nothing_is_lost_and_bad_files_are_named(result: DemoResult) -> None:
    assert result.comparison.lost == []
    reasons = sorted(file.reason for file in result.ingested.quarantined)
    assert reasons == ["truncated", "wrong format"]
    assert result.ingested.duplicates == 2
    expected = len(result.truth.exposures) - 2  # those of the truncated file
    assert result.ingested.rows == expected == int(result.comparison.exposures["in_catalog"].sum())


def test_a_ruined_night_and_a_missing_arm_are_not_judged(result: DemoResult) -> None:
    table, judged = result.comparison.exposures, result.comparison.judged
    sound = (table["defect"] == "") | (table["defect"] == "duplicate")
    usable = sound & (table["snr_B"] > 5) & (table["snr_R"] > 5)
    assert usable.sum() >= 10
    assert np.array_equal(judged, usable)
    lacking = table[table["defect"] == "no blue arm"]
    assert np.isnan(lacking["p50_B"]).all()
    assert np.isfinite(lacking["p50_R"]).all()


def test_measured_velocities_are_the_injected_ones(result: DemoResult) -> None:
    for arm, values in result.comparison.velocities().items():
        assert values["exposures"] >= 5, arm
        assert abs(values["median_kms"]) < 1.0, arm
        assert values["scatter_kms"] < 2.0, arm


def test_numbers_pictures_and_words_come_out(result: DemoResult) -> None:
    figures = [path.name for path in result.figures]
    assert figures[:3] == ["epochs.png", "probability.png", "velocities.png"]
    assert figures[3:] == (["binary.png"] if result.binaries else [])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in result.figures)
    assert json.loads((result.folder / "demo.json").read_text()) == json.loads(json.dumps(result.to_json()))
    console = Console(file=io.StringIO(), width=160)
    show_demo(result, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("Candidates against the injected truth", "SB2, |Δv| >100 km/s", "quarantined", "velocities.png"):
        assert words in printed


def test_a_demo_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    prepare_folder(folder)
    (folder / "release").mkdir()
    (folder / "release" / "old.fits").write_text("old")
    (folder / "demo.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    assert prepare_folder(folder) == folder.resolve()
    assert sorted(path.name for path in folder.iterdir()) == [".twinlines-demo", "notes.txt"]
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="no earlier demo"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
def test_the_demo_as_it_ships_finds_binaries_and_not_much_else(client: Client, tmp_path: Path) -> None:
    result = run_demo(client, tmp_path / "demo", stars=60, seed=1)
    numbers = result.to_json()
    assert numbers["lost_files"] == []
    wide = numbers["sb2_exposures"][-1]
    others = {row["kind"]: row for row in numbers["other_exposures"]}
    assert wide["candidates"] > 0.4 * wide["exposures"]
    assert sum(row["candidates"] for row in others.values()) < 0.05 * sum(row["exposures"] for row in others.values())
    assert result.comparison.velocities()["B"]["scatter_kms"] < 1.5
    known = [each for each in numbers["binaries"] if each["period_probability"] > 0.95]
    assert len(known) >= 3
    for each in known:
        assert each["kind"] == "SB2"
        assert each["period"] == pytest.approx(each["true_period"], rel=0.02)
        assert each["mass_ratio"] == pytest.approx(each["true_mass_ratio"], abs=0.15)


def test_binaries_stand_beside_their_truth(result: DemoResult) -> None:
    truth = result.truth.exposures
    double = truth[truth["kind"] == "SB2"]
    columns = {name: variable.empty((1,)) for name, variable in SOURCES.variables.items()}
    columns |= {"obsid": np.array([double["obsid"][0]]), "period": np.array([3.5]), "epochs_double": np.array([4])}
    columns |= {"bjd_first": np.array([0.0]), "bjd_last": np.array([100.0])}
    true = float(double["period"][0])
    solutions = {
        "obsid": np.repeat(double["obsid"][:1], 3),
        "period": np.array([3.5, 1.0 / (1.0 / true + 0.004), 1.0 / (1.0 / true + 0.006)]),
        "mode_probability": np.array([0.7, 0.2, 0.1]),
    }
    orbits = ORBITS.dataset(solutions, 3)
    (compared,) = compare_binaries(result.truth, SOURCES.dataset(columns, 1), orbits)
    # Half a cycle in 100 days is 0.005 in frequency.
    assert compared.true_period_probability == pytest.approx(0.2 + 0.7 * (abs(1.0 / 3.5 - 1.0 / true) < 0.005))
    (without,) = compare_binaries(result.truth, SOURCES.dataset(columns, 1), ORBITS.dataset({}, 0))
    assert np.isnan(without.true_period_probability)
    assert (compared.obsid, compared.kind, compared.epochs, compared.period) == (double["obsid"][0], "SB2", 4, 3.5)
    assert compared.true_period == double["period"][0]
    assert compared.true_mass_ratio == double["q"][0]
