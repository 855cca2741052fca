"""Evaluation over a real cluster: that its numbers are those of a direct computation, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client
from scipy.special import expit
from typer.testing import CliRunner

from twinlines.models import checkpoint, evaluation
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.ensemble import Ensemble
from twinlines.models.network import Network
from twinlines.models.pairs import PairArrays, load_pairs
from twinlines.models.vocabulary import TEST
from twinlines.pipeline.arms import ARM_NAMES, ARMS, BLUE
from twinlines.pipeline.cli import main
from twinlines.pipeline.cli.evaluation import write
from twinlines.pipeline.evaluation import evaluation as job
from twinlines.pipeline.evaluation import twins
from twinlines.pipeline.evaluation.answers import Answer, Answers
from twinlines.pipeline.evaluation.evaluation import EvaluationError, Options, evaluate
from twinlines.pipeline.evaluation.report import PAPER, EvaluationReport, TableRow, reference
from twinlines.pipeline.evaluation.twins import RATIOS, SEPARATIONS, TWINS, Twin
from twinlines.pipeline.figures import evaluation as evaluationfigures
from twinlines.pipeline.jobs.locks import LockedError, lock
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis.beyond_table1 import CoolGiants, Extras
from twinlines.pipeline.synthesis.spectra import Stars, component
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

OPTIONS = Options(twins=1, rotations=(50.0,), rule_pairs=12)
QUICK = Options(twins=0, rule_pairs=0)


@pytest.fixture(scope="module")
def store(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, some of which are for the test, and some of which hold two single stars."""
    out = tmp_path_factory.mktemp("evaluation") / "pairs.zarr"
    synthesize(client, TrainingSet(n_pairs=190, seed=3, extras=Extras(CoolGiants(0.2))), out)
    return out


@pytest.fixture(scope="module")
def weights(store: Path, untrained_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained members at penalties 4 and 16 that say they know the store, and call most of its spectra binaries."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ARM_NAMES:
        pairs = load_pairs(store, name)
        for member, penalty in ((1, 16), (2, 16), (1, 4)):
            network, header = checkpoint.load(untrained_weights / f"{name}_p16_m{member}.safetensors")
            with torch.no_grad():
                network.last.weight *= 30
                network.last.bias -= evaluation.logits_of(network, pairs.flux[:20]).quantile(0.2)
            header = replace(header, pairs=pairs.digest, penalty=penalty)
            checkpoint.save(folder / f"{header.stem}{checkpoint.SUFFIX}", network, header)
    return folder


@pytest.fixture(scope="module")
def report(client: Client, store: Path, weights: Path) -> EvaluationReport:
    return evaluate(client, store, weights, OPTIONS)


def _row(report: EvaluationReport, arm: str, penalty: int) -> TableRow:
    return next(row for row in report.table if (row.arm, row.penalty) == (arm, penalty))


def _direct(network: Network, pairs: PairArrays) -> tuple[float, float]:
    rows = pairs.split == TEST
    return evaluation.rates(evaluation.logits_of(network, pairs.flux[:][rows]), pairs.label[rows].astype(np.float32))


def test_rates_are_those_of_a_direct_computation(report: EvaluationReport, store: Path, weights: Path) -> None:
    assert report.n_pairs == 20
    assert {(row.arm, row.penalty, row.members) for row in report.table} == {
        *(("B", 4, 1), ("B", 16, 2), ("R", 4, 1), ("R", 16, 2))
    }
    for name in ARM_NAMES:
        pairs = load_pairs(store, name)
        for penalty, members in ((4, (1,)), (16, (1, 2))):
            networks = [checkpoint.load(weights / f"{name}_p{penalty}_m{member}.safetensors")[0] for member in members]
            direct = np.mean([_direct(network, pairs) for network in networks], axis=0)
            row = _row(report, name, penalty)
            assert [row.rates.tpr.value, row.rates.fpr.value] == pytest.approx(direct.tolist(), abs=1e-12)
            mine = [one.rates for one in report.members if (one.arm, one.penalty) == (name, penalty)]
            assert np.mean([one.tpr.value for one in mine]) == pytest.approx(row.rates.tpr.value)
            assert row.precision == evaluation.precision(row.rates, 0.02)


def test_counts_add_up(report: EvaluationReport, store: Path) -> None:
    with stores.open_store(store, PAIRS) as pairs:
        rows = pairs["split"].values == TEST
        label = pairs["label"].values[rows]
        inside = np.abs(pairs["separation"].values[rows]) <= 500
    binaries = int(label.sum())
    assert 0 < binaries < 20
    for row in report.table:
        assert (row.rates.tpr.trials, row.rates.fpr.trials) == (binaries, 40 - binaries)
        assert 0 < row.rates.tpr.count + row.rates.fpr.count < 40  # else the tests here would show nothing
        bins = next(one.bins for one in report.reliability if (one.arm, one.penalty) == (row.arm, row.penalty))
        assert sum(one.rate.trials for one in bins) == 40
        assert sum(one.rate.count for one in bins) == binaries
    assert [(one.arm, one.parameter) for one in report.marginals] == [(n, p) for n in ARM_NAMES for p in job.MARGINALS]
    for one in report.marginals:
        assert one.penalty == 16
        if one.parameter in ("separation", "mass_ratio"):
            assert sum(part.rate.trials for part in one.bins) == inside.sum()
            assert sum(part.rate.count for part in one.bins) == pytest.approx(_row(report, one.arm, 16).rates.tpr.count)


def test_the_rule_is_the_catalog_s(report: EvaluationReport, store: Path, weights: Path) -> None:
    ensemble = Ensemble.load(weights)
    with stores.open_store(store, PAIRS) as pairs:
        rows = np.flatnonzero(pairs["split"].values == TEST)[:12]
        spectra = {name: pairs[f"flux_{name}"].values[rows] for name in ARM_NAMES}
        snr = {name: pairs[f"snr_{name}"].values[rows] for name in ARM_NAMES}
        truth = pairs["label"].values[rows] == 1
    for found in report.rule:
        positive = np.ones((12, 2), bool)
        for kind in (0, 1):
            keys = np.stack([rows, np.full(12, kind)], axis=1)
            for name in ARM_NAMES:
                flux = spectra[name][:, kind]
                sigma = np.sqrt(np.maximum(flux, 0)) / snr[name][:, None]
                values = ensemble.values(name, flux, sigma, keys, seed=0, n_draws=20)[found.penalty]
                positive[:, kind] &= values.min(axis=1) > 0.5
        assert (found.rates.tpr.count, found.rates.tpr.trials) == (positive[truth].sum(), truth.sum())
        assert (found.rates.fpr.count, found.rates.fpr.trials) == (positive[~truth].sum(), (~truth).sum())
    assert sum(found.rates.tpr.count + found.rates.fpr.count for found in report.rule) > 0
    assert [one.penalty for one in report.rule] == [4, 16]


def test_the_json_is_complete_and_plain(report: EvaluationReport) -> None:
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(content) == {*report.__dataclass_fields__, "axes", "notes"}
    assert content["table"][1]["paper"] == {"tpr": 0.359925, "fpr": 0.001275}
    assert all(one["same_set"] for one in content["provenance"])
    assert all("unseen by construction" in note for note in content["notes"])
    assert len(content["twins"]) == len(TWINS) * 2 * 2
    for one in content["twins"]:
        assert np.shape(one["percentiles"]) == (len(SEPARATIONS), len(RATIOS), 3)
        assert np.all(np.diff(one["percentiles"], axis=2) >= 0)
    assert content["axes"]["separation"][-1] == 200.0
    assert len(content["frames"]) == len(TWINS) * 2 * 2
    for one in content["frames"]:
        assert (len(one["displaced"]), len(one["centred"])) == (len(twins.DISPLACED), len(twins.CENTRED))


def test_populations_are_judged_apart_and_at_the_paper_s_rate(
    report: EvaluationReport, store: Path, weights: Path
) -> None:
    with stores.open_store(store, PAIRS) as pairs:
        rows = pairs["split"].values == TEST
        population, label = pairs["population"].values[rows], pairs["label"].values[rows].astype(np.float32)
    assert set(population) == {0, 1}
    assert [row.population for row in report.populations] == ["all", "table1", "cool_giant"] * 4
    for name, penalty in (("B", 16), ("R", 4)):
        stored = load_pairs(store, name)
        members = [
            evaluation.logits_of(checkpoint.load(path)[0], stored.flux[:][rows])
            for path in sorted(weights.glob(f"{name}_p{penalty}_m*"))
        ]
        mine = {row.population: row for row in report.populations if (row.arm, row.penalty) == (name, penalty)}
        assert mine["all"].rates == _row(report, name, penalty).rates
        giants = mine["cool_giant"]
        assert (giants.rates.tpr.trials, giants.members.trials, giants.ensemble.trials) == (0, 0, 0)
        assert giants.rates.fpr.trials == 2 * np.count_nonzero(population == 1)
        chosen = population == 0
        row = mine["table1"]
        assert row.fpr == PAPER[name][penalty][1]
        expected = [evaluation.tpr_at(one[chosen], label[chosen], row.fpr) for one in members]
        assert row.members.value == pytest.approx(np.mean(expected), abs=1e-6)
        mean = torch.stack(members).double().sigmoid().mean(dim=0)
        assert row.ensemble.value == pytest.approx(evaluation.tpr_at(mean[chosen], label[chosen], row.fpr), abs=1e-6)


def test_killed_it_goes_on_and_nothing_stale_is_taken_for_new(
    client: Client,
    report: EvaluationReport,
    store: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = tmp_path / ".answers"

    def kill(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("twins", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(client, store, weights, OPTIONS, answers=answers, progress=kill)
    stored = sorted(answers.glob("answers/*.npz"))
    assert len(stored) == 2 + 1 + 3  # blocks of both arms, one of the rule, twins
    stored[0].write_bytes(stored[0].read_bytes()[:100])  # a damaged one is asked for again
    asked: list[str] = []

    def counted(self: Answers, key: str, answer: Answer, **about: Any) -> None:
        asked.append(about["stage"])
        keep(self, key, answer, **about)

    keep = Answers.keep
    monkeypatch.setattr(Answers, "keep", counted)
    resumed = evaluate(client, store, weights, OPTIONS, answers=answers)
    assert resumed.to_json() == report.to_json()
    whole = 2 + 1 + 2 * len(TWINS) + 2 * len(TWINS)
    assert len(asked) == whole - 5
    asked.clear()
    assert evaluate(client, store, weights, OPTIONS, answers=answers).to_json() == report.to_json()
    assert not asked
    other = evaluate(client, store, weights, replace(OPTIONS, twins=0, seed=1), answers=answers)
    assert asked.count("rule") == 1
    assert "judge" not in asked  # no noise is in it
    assert other.table == report.table
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    path = changed / "B_p4_m1.safetensors"
    network, header = checkpoint.load(path)
    with torch.no_grad():
        network.last.bias += 1.0
    checkpoint.save(path, network, header)
    evaluate(client, store, changed, QUICK, answers=answers)
    assert asked.count("judge") == 2
    with lock(answers, "a test"), pytest.raises(LockedError, match="in use by"):
        evaluate(client, store, weights, OPTIONS, answers=answers)


def test_two_evaluations_on_one_scheduler_use_their_own_weights(
    client: Client, store: Path, weights: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    for path in changed.glob("*.safetensors"):
        network, header = checkpoint.load(path)
        with torch.no_grad():
            network.last.bias += 3.0
        checkpoint.save(path, network, header)
    alone = {folder: evaluate(client, store, folder, QUICK) for folder in (weights, changed)}
    assert alone[weights].table != alone[changed].table
    within: list[EvaluationReport] = []

    def meanwhile(stage: str, done: int, _: int) -> None:
        # The first one's ensemble is on the workers when the second evaluation starts, and ends.
        if (stage, done) == ("judge", 0) and not within:
            with Client(client.scheduler_info()["address"]) as other:
                within.append(evaluate(other, store, changed, QUICK))

    around = evaluate(client, store, weights, QUICK, progress=meanwhile)
    assert around.to_json() == alone[weights].to_json()
    assert within[0].to_json() == alone[changed].to_json()


def test_files_and_figures_are_written(report: EvaluationReport, tmp_path: Path) -> None:
    paths = write(report, tmp_path / "new")
    assert {path.name for path in paths} == {
        *("evaluation.json", "table3.csv", "evaluation.txt", "figure4.png", "figure6.png", "reliability.png"),
        *("figure5_B.png", "figure5_R.png"),
    }
    assert all(path.stat().st_size > 200 for path in paths)
    lines = (tmp_path / "new/table3.csv").read_text().splitlines()
    assert len(lines) == 5
    trials = _row(report, "B", 16).rates
    assert lines[2].split(",")[:5] == ["B", "16", "2", str(trials.tpr.trials), str(trials.fpr.trials)]
    assert lines[2].endswith(",0.359925,0.001275")
    text = (tmp_path / "new/evaluation.txt").read_text()
    assert "penalty 16" in text
    assert "unseen by construction" in text


def test_a_star_that_the_library_lacks_is_left_out_with_the_reason(
    report: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = Twin("O dwarf", 40_000.0, 4.0)
    assert "above Teff 10000 K" in (hot.outside(Library.load()) or "")
    monkeypatch.setattr(evaluationfigures, "TWINS", (*TWINS[:5], hot))
    lacking = replace(report, twins_left_out={"O dwarf": "no library node above"})
    assert "twins: O dwarf is left out: no library node above" in lacking.notes
    figure = evaluationfigures.twins(lacking, "B")
    assert sum(text.get_text() == "not in the library" for panel in figure.axes for text in panel.texts) == 1


def test_more_twins_begin_with_the_same(weights: Path) -> None:
    ensemble, library = Ensemble.load(weights), Library.load()
    one, again = (twins.probabilities(ensemble, library, BLUE, TWINS[2], 5.0, 1, 0) for _ in range(2))
    np.testing.assert_array_equal(one[16], again[16])
    assert np.ptp(one[16], axis=2).max() == 0.0  # percentiles of a single spectrum
    # Of two values, the 16th and 84th percentiles lie 0.16 of their distance inside.
    low, _, high = np.moveaxis(twins.probabilities(ensemble, library, BLUE, TWINS[2], 5.0, 2, 0)[16], 2, 0)
    inset = 0.16 * (high - low) / 0.68
    distance = np.minimum(np.abs(one[16][..., 0] - (low - inset)), np.abs(one[16][..., 0] - (high + inset)))
    assert distance.max() < 1e-3
    other = twins.probabilities(ensemble, library, BLUE, TWINS[2], 5.0, 1, 1)
    assert not np.array_equal(other[16], one[16])


def test_displacement_is_of_the_star_and_of_both_about_their_mean(weights: Path) -> None:
    ensemble, library, twin = Ensemble.load(weights), Library.load(), TWINS[2]
    displaced, centred = twins.displacement(ensemble, library, BLUE, twin, 3, 0)[16]
    # At no velocity both are one star at rest, the second twice as bright; only the noise differs.
    still = twins.probabilities(ensemble, library, BLUE, twin, 5.0, 3, 0)[16][0, RATIOS.index(40.0), 1]
    assert displaced[0] == pytest.approx(still, abs=0.1)
    assert centred[0] == pytest.approx(still, abs=0.1)
    velocity = np.array([50.0, -30.0, 30.0])
    stars = Stars(np.tile(twin.labels, (3, 1)), np.ones(3), np.full(3, 5.0), velocity)
    light = component(BLUE, library, stars)
    for flux, found in ((light[0], displaced[4]), (light[1] + light[2], centred[1])):
        normalised, _ = normalise(torch.from_numpy(BLUE.wavelength), flux.double()[None])
        clean = expit(evaluation.judge(ensemble, "B", normalised.float().numpy())[16]).mean()
        assert found == pytest.approx(clean, abs=0.1)


def test_other_pairs_are_judged_but_said(client: Client, store: Path, untrained_weights: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        client, store, untrained_weights, replace(QUICK, split="all"), progress=lambda *step: told.append(step)
    )
    assert found.n_pairs == 190
    assert (found.twins, found.frames, found.rule) == ((), (), ())
    assert found.notes[0] == "arm B: trained on another set (digest none): unseen if seeds differ"
    assert "all splits were judged" in found.notes[2]
    assert [step for step in told if step[1] == step[2]] == [("digest", 2, 2), ("judge", 2, 2)]


def test_what_training_saw_is_not_judged(client: Client, store: Path, weights: Path) -> None:
    with pytest.raises(EvaluationError, match=r"would judge what training saw; use --split test"):
        evaluate(client, store, weights, replace(QUICK, split="all"))


def test_wrong_stores_and_weights_are_clear_errors(client: Client, store: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match=r"none\.zarr does not exist"):
        evaluate(client, tmp_path / "none.zarr", weights, QUICK)
    with pytest.raises(CheckpointError, match="is no folder"):
        evaluate(client, store, tmp_path / "none", QUICK)
    shutil.copytree(weights, tmp_path / "blue", ignore=shutil.ignore_patterns("R_*"))
    with pytest.raises(CheckpointError, match="no member for arm R"):
        evaluate(client, store, tmp_path / "blue", QUICK)
    shutil.copytree(store, tmp_path / "pairs.zarr")
    split: Any = zarr.open_array(tmp_path / "pairs.zarr", path="split", mode="r+")
    split[:] = 0
    stores.seal(tmp_path / "pairs.zarr", PAIRS, contents=False)
    with pytest.raises(EvaluationError, match="190 pairs and none in its test split"):
        evaluate(client, tmp_path / "pairs.zarr", weights, QUICK)


def test_a_task_that_fails_names_its_pairs(client: Client, store: Path, weights: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "pairs.zarr")
    flux: Any = zarr.open_array(tmp_path / "pairs.zarr", path="flux_R", mode="r+")
    with stores.open_store(store, PAIRS) as pairs:
        row = int(np.flatnonzero(pairs["split"].values == TEST)[3])
    flux[row, 1, 100] = np.nan
    stores.seal(tmp_path / "pairs.zarr", PAIRS, contents=False)
    words = rf"judge: pairs .* arm R: EvaluationError: pair {row} holds flux that is not finite"
    with pytest.raises(EvaluationError, match=words):
        evaluate(client, tmp_path / "pairs.zarr", weights, QUICK)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "train"}, "split is 'train'; give test or all"),
        ({"sb2_fraction": 1.5}, "SB2 fraction is 1.5"),
        ({"twins": -1}, "-1 twins"),
    ],
)
def test_odd_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        Options(**options)


def test_the_paper_s_table_and_its_penalty() -> None:
    assert set(PAPER) == set(ARMS)
    for rows in PAPER.values():
        assert list(rows) == [2**power for power in range(10)]
        assert list(rows.values()) == sorted(rows.values(), reverse=True)  # both rates fall with the penalty
    assert reference([1, 8, 16, 64]) == 16
    assert reference([1, 64]) == 64


def test_from_the_command_line(client: Client, store: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/figure5_B.png").write_bytes(b"of an earlier evaluation")
    arguments = ["evaluate", "--pairs", store, "--weights", weights, "--out", tmp_path / "out", "--twins", 0]
    address = client.scheduler_info()["address"]
    done = CliRunner().invoke(
        main.app, [*map(str, arguments), "--rule-pairs", "0", "--sb2-fraction", "0.1", "--cluster", address, "--json"]
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["sb2_fraction"] == 0.1
    assert all(Path(path).exists() for path in summary["files"])
    assert not (tmp_path / "out/figure5_B.png").exists()
    assert not (tmp_path / "out/.answers").exists()
