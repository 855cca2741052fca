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

from twinlines.models import checkpoint, evaluation
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.ensemble import Ensemble
from twinlines.models.vocabulary import HEADS, TEST
from twinlines.pipeline.evaluation import twins
from twinlines.pipeline.evaluation.evaluation import Options, evaluate
from twinlines.pipeline.evaluation.measures import MARGINALS, STRATA
from twinlines.pipeline.evaluation.paper import PAPER
from twinlines.pipeline.evaluation.report import EvaluationReport
from twinlines.pipeline.evaluation.rows import RULES, Provenance, TableRow
from twinlines.pipeline.evaluation.tasks import EvaluationError, ratios_of
from twinlines.pipeline.evaluation.twins import RATIOS, SEPARATIONS, TWINS
from twinlines.pipeline.jobs.answers import Answer, Answers
from twinlines.pipeline.jobs.engine import JobError
from twinlines.pipeline.jobs.locks import LockedError, lock
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores

from .conftest import PENALTIES, logits, read

SLOTS = [(head, penalty) for head in HEADS for penalty in PENALTIES]


def _row(report: EvaluationReport, head: str, penalty: int) -> TableRow:
    return next(row for row in report.table if (row.head, row.penalty) == (head, penalty))


def _test_rows(store: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    with stores.open_store(store, PAIRS) as pairs:
        return np.flatnonzero(pairs["split"].values == TEST)


def _members(store: Path, weights: Path) -> list[dict[str, torch.Tensor]]:
    """Logits of the test split by each member."""
    flux = read(store, _test_rows(store))
    return [logits(checkpoint.load(path)[0], flux) for path in checkpoint.members(weights)]


def _label(store: Path) -> torch.Tensor:
    with stores.open_store(store, PAIRS) as pairs:
        return torch.from_numpy(pairs["label"].values[_test_rows(store)])


def test_rates_are_those_of_a_direct_computation(report: EvaluationReport, store: Path, weights: Path) -> None:
    assert report.n_pairs == 20
    assert [(row.head, row.penalty, row.members) for row in report.table] == [(*slot, 2) for slot in SLOTS]
    label, members = _label(store), _members(store, weights)
    for head, penalty in SLOTS:
        each = [evaluation.rates(made[head][..., PENALTIES.index(penalty)], label) for made in members]
        row = _row(report, head, penalty)
        direct = np.mean(each, axis=0).tolist()
        assert [row.rates.tpr.value, row.rates.fpr.value] == pytest.approx(direct, abs=1e-12)
        mine = [one.rates for one in report.members if (one.head, one.penalty) == (head, penalty)]
        np.testing.assert_allclose([(one.tpr.value, one.fpr.value) for one in mine], each)
        assert row.precision == evaluation.precision(row.rates, 0.02)


def test_counts_add_up(report: EvaluationReport, store: Path) -> None:
    binaries = int(_label(store).sum())
    assert 0 < binaries < 20
    for row in report.table:
        assert (row.rates.tpr.trials, row.rates.fpr.trials) == (binaries, 40 - binaries)
        assert 0 < row.rates.tpr.count + row.rates.fpr.count < 40  # else the tests here would show nothing
        bins = next(one.bins for one in report.reliability if (one.head, one.penalty) == (row.head, row.penalty))
        assert sum(one.rate.trials for one in bins) == 40
        assert sum(one.rate.count for one in bins) == binaries
    assert [(one.head, one.parameter) for one in report.marginals] == [(n, p) for n in HEADS for p in MARGINALS]
    for one in report.marginals:
        assert one.penalty == 16
        if one.parameter in ("separation", "mass_ratio"):
            assert sum(part.rate.trials for part in one.bins) == binaries
            assert sum(part.rate.count for part in one.bins) == pytest.approx(
                _row(report, one.head, 16).rates.tpr.count
            )


def test_operating_points_are_of_the_mean_logit(report: EvaluationReport, store: Path, weights: Path) -> None:
    label, members = _label(store), _members(store, weights)
    assert [(row.head, row.penalty) for row in report.operating] == [(head, 16) for head in HEADS]
    for row in report.operating:
        mean = torch.stack([made[row.head][..., 1] for made in members]).mean(dim=0)
        assert row.point.rates.tpr.value == pytest.approx(evaluation.tpr_at(mean, label, row.point.fpr))
        assert row.point.fpr == evaluation.PAPER_FPR[row.head]
        assert [stratum.parameter for stratum in row.strata] == list(STRATA)
        for stratum in row.strata:
            assert sum(part.rate.trials for part in stratum.bins) == int(label.sum())
            assert sum(part.rate.count for part in stratum.bins) == row.point.rates.tpr.count
    assert [curve.verdict for curve in report.curves] == [*HEADS, *RULES]
    for curve in report.curves[:3]:
        mean = torch.stack([made[curve.verdict][..., 1] for made in members]).mean(dim=0)
        for point in curve.points:
            assert point.rates.tpr.value == pytest.approx(evaluation.tpr_at(mean, label, point.fpr))


def test_the_rules_are_the_catalog_s(report: EvaluationReport, store: Path, weights: Path) -> None:
    ensemble, rows = Ensemble.load(weights), _test_rows(store)[:12]
    flux, truth = read(store, rows), _label(store)[:12].numpy() == 1
    keys = np.stack([np.repeat(rows, 2), np.tile([0, 1], 12)], axis=1)
    sigma = {
        str(name): np.sqrt(np.maximum(flux[name], 0)) / np.repeat(ratio[rows], 2)[:, None]
        for name, ratio in ratios_of(store).items()
    }
    values = ensemble.values(flux, sigma, keys, seed=0, n_draws=20)
    assert [(one.rule, one.penalty) for one in report.rule] == [(rule, p) for rule in RULES for p in PENALTIES]
    for found in report.rule:
        drawn = {head: values[head][found.penalty] for head in HEADS}
        positive = {
            "paper": np.minimum(drawn["B"].min(axis=1), drawn["R"].min(axis=1)) > 0.5,
            "joint": np.median(drawn["J"], axis=1) > 0.5,
            "joint p0": drawn["J"].min(axis=1) > 0.5,
        }[found.rule].reshape(12, 2)
        assert (found.rates.tpr.count, found.rates.tpr.trials) == (positive[truth].sum(), truth.sum())
        assert (found.rates.fpr.count, found.rates.fpr.trials) == (positive[~truth].sum(), (~truth).sum())
    assert sum(found.rates.tpr.count + found.rates.fpr.count for found in report.rule) > 0


def test_pairs_of_a_joined_set_count_as_seen() -> None:
    assert "unseen by construction" in Provenance("a", ("a",)).verdict
    assert Provenance("a", ("a",)).same_set
    both = Provenance("a", ("a", "b"))
    assert "unseen by construction" in both.verdict
    assert "another set (digest b)" in both.verdict
    assert "unseen if seeds differ" in Provenance("c", ("a", "b")).verdict


def test_the_json_is_complete_and_plain(report: EvaluationReport) -> None:
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(content) == {*report.__dataclass_fields__, "axes", "notes"}
    assert content["table"][1]["paper"] == {"tpr": 0.359925, "fpr": 0.001275}
    assert content["table"][-1]["paper"] is None  # the paper has no verdict of both arms together
    assert content["provenance"]["same_set"]
    assert "unseen by construction" in content["notes"][1]
    assert len(content["twins"]) == len(TWINS) * len(SLOTS)
    for one in content["twins"]:
        assert np.shape(one["percentiles"]) == (len(SEPARATIONS), len(RATIOS), 3)
        assert np.all(np.diff(one["percentiles"], axis=2) >= 0)
    assert content["axes"]["separation"][-1] == 200.0
    assert len(content["frames"]) == len(TWINS) * len(SLOTS)
    for one in content["frames"]:
        assert (len(one["displaced"]), len(one["centred"])) == (len(twins.DISPLACED), len(twins.CENTRED))
    assert {"fpr", "threshold", "rates"} == set(content["curves"][0]["points"][0])


def test_populations_are_judged_apart_and_at_the_paper_s_rate(
    report: EvaluationReport, store: Path, weights: Path
) -> None:
    with stores.open_store(store, PAIRS) as pairs:
        population = pairs["population"].values[_test_rows(store)]
    label, members = _label(store), _members(store, weights)
    assert set(population) == {0, 1}
    assert [row.population for row in report.populations] == ["all", "table1", "cool_giant"] * len(SLOTS)
    for head, penalty, fpr in (("B", 16, PAPER["B"][16][1]), ("R", 4, PAPER["R"][4][1]), ("J", 16, PAPER["B"][16][1])):
        mine = {row.population: row for row in report.populations if (row.head, row.penalty) == (head, penalty)}
        assert mine["all"].rates == _row(report, head, penalty).rates
        giants = mine["cool_giant"]
        assert (giants.rates.tpr.trials, giants.members.trials, giants.ensemble.trials) == (0, 0, 0)
        assert giants.rates.fpr.trials == 2 * np.count_nonzero(population == 1)
        chosen, row = population == 0, mine["table1"]
        assert row.fpr == fpr
        values = [made[head][..., PENALTIES.index(penalty)] for made in members]
        expected = [evaluation.tpr_at(one[chosen], label[chosen], fpr) for one in values]
        assert row.members.value == pytest.approx(np.mean(expected), abs=1e-6)
        mean = torch.stack(values).double().sigmoid().mean(dim=0)
        assert row.ensemble.value == pytest.approx(evaluation.tpr_at(mean[chosen], label[chosen], fpr), abs=1e-6)


def _shift(path: Path, by: float) -> None:
    """Move all logits of a member."""
    network, header = checkpoint.load(path)
    with torch.no_grad():
        for head in network.heads.values():
            head.last.bias += by  # type: ignore[operator, union-attr]
    checkpoint.save(path, network, header)


def test_killed_it_goes_on_and_nothing_stale_is_taken_for_new(
    client: Client,
    report: EvaluationReport,
    store: Path,
    weights: Path,
    options: Options,
    quick: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = tmp_path / ".answers"

    def kill(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("twins", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(client, store, weights, options, answers=answers, progress=kill)
    stored = sorted(answers.glob("answers/*.npz"))
    assert len(stored) == 1 + 1 + 3  # a block, one of the rules, twins
    stored[0].write_bytes(stored[0].read_bytes()[:100])  # a damaged one is asked for again
    asked: list[str] = []

    def counted(self: Answers, key: str, answer: Answer, **about: Any) -> None:
        asked.append(about["stage"])
        keep(self, key, answer, **about)

    keep = Answers.keep
    monkeypatch.setattr(Answers, "keep", counted)
    resumed = evaluate(client, store, weights, options, answers=answers)
    assert resumed.to_json() == report.to_json()
    whole = 1 + 1 + len(TWINS) + len(TWINS)
    assert len(asked) == whole - 4
    asked.clear()
    assert evaluate(client, store, weights, options, answers=answers).to_json() == report.to_json()
    assert not asked
    # A threshold is applied to the answers that are there.
    bold = evaluate(client, store, weights, replace(options, joint_threshold=0.01), answers=answers)
    assert not asked
    assert bold.rule[:2] == report.rule[:2]  # the paper's has its own
    assert bold.rule[-1].rates.tpr.count > report.rule[-1].rates.tpr.count
    other = evaluate(client, store, weights, replace(options, twins=0, seed=1), answers=answers)
    assert asked == ["rule"]  # no noise is in the rest
    assert other.table == report.table
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    _shift(changed / "member_1.safetensors", 1.0)
    evaluate(client, store, changed, quick, answers=answers)
    assert asked.count("judge") == 1
    with lock(answers, "a test"), pytest.raises(LockedError, match="in use by"):
        evaluate(client, store, weights, options, answers=answers)


def test_two_evaluations_on_one_scheduler_use_their_own_weights(
    client: Client, store: Path, weights: Path, quick: Options, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(weights, changed)
    for path in checkpoint.members(changed):
        _shift(path, 3.0)
    alone = {folder: evaluate(client, store, folder, quick) for folder in (weights, changed)}
    assert alone[weights].table != alone[changed].table
    within: list[EvaluationReport] = []

    def meanwhile(stage: str, done: int, _: int) -> None:
        # The first one's ensemble is on the workers when the second evaluation starts, and ends.
        if (stage, done) == ("judge", 0) and not within:
            with Client(client.scheduler_info()["address"]) as other:
                within.append(evaluate(other, store, changed, quick))

    around = evaluate(client, store, weights, quick, progress=meanwhile)
    assert around.to_json() == alone[weights].to_json()
    assert within[0].to_json() == alone[changed].to_json()


def test_other_pairs_are_judged_but_said(client: Client, store: Path, strange_weights: Path, quick: Options) -> None:
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        client, store, strange_weights, replace(quick, split="all"), progress=lambda *step: told.append(step)
    )
    assert found.n_pairs == 190
    assert (found.twins, found.frames, found.rule) == ((), (), ())
    assert found.notes[1] == "trained on another set (digest none): unseen if seeds differ"
    assert "all splits were judged" in found.notes[2]
    assert [step for step in told if step[1] == step[2]] == [("judge", 1, 1)]
    assert [curve.verdict for curve in found.curves] == list(HEADS)


def _attributes(store: Path, copy: Path, **changes: Any) -> Path:
    """A copy of a store whose attributes are changed, as one of before checksums; None takes one away."""
    shutil.copytree(store, copy)
    group = zarr.open_group(copy, mode="r+")
    attributes = {**group.attrs.asdict(), "checksum": None, **changes}
    group.attrs.put({name: value for name, value in attributes.items() if value is not None})
    return copy


def test_the_frame_of_the_pairs_is_said(
    client: Client, store: Path, weights: Path, quick: Options, tmp_path: Path
) -> None:
    with stores.open_store(store, PAIRS) as pairs:
        provenance = pairs.attrs["provenance"]
    for frame, words in (("measured", "as in a survey"), ("drawn", "as in Table 1")):
        path = _attributes(store, tmp_path / f"{frame}.zarr", provenance={**provenance, "frame": frame})
        found = evaluate(client, path, weights, quick)
        assert found.frame == found.to_json()["frame"] == frame
        assert found.notes[0].startswith(f"frame of the pairs: {frame} (")
        assert words in found.notes[0]
    older = {name: value for name, value in provenance.items() if name != "frame"}
    assert (
        evaluate(client, _attributes(store, tmp_path / "old.zarr", provenance=older), weights, quick).frame == "drawn"
    )
    found = evaluate(client, _attributes(store, tmp_path / "none.zarr", provenance=None), weights, quick)
    assert found.frame == "unknown"
    assert "is not said" in found.notes[0]


def test_what_training_saw_is_not_judged(client: Client, store: Path, weights: Path, quick: Options) -> None:
    with pytest.raises(EvaluationError, match=r"would judge what training saw; use --split test"):
        evaluate(client, store, weights, replace(quick, split="all"))


def test_wrong_stores_and_weights_are_clear_errors(
    client: Client, store: Path, weights: Path, quick: Options, tmp_path: Path
) -> None:
    with pytest.raises(stores.StoreError, match=r"none\.zarr does not exist"):
        evaluate(client, tmp_path / "none.zarr", weights, quick)
    with pytest.raises(CheckpointError, match="is no folder"):
        evaluate(client, store, tmp_path / "none", quick)
    shutil.copytree(store, tmp_path / "pairs.zarr")
    split: Any = zarr.open_array(tmp_path / "pairs.zarr", path="split", mode="r+")
    split[:] = 0
    stores.seal(tmp_path / "pairs.zarr", PAIRS, contents=False)
    with pytest.raises(EvaluationError, match="190 pairs and none in its test split"):
        evaluate(client, tmp_path / "pairs.zarr", weights, quick)


def test_a_task_that_fails_names_its_pairs(
    client: Client, store: Path, weights: Path, quick: Options, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "pairs.zarr")
    flux: Any = zarr.open_array(tmp_path / "pairs.zarr", path="flux_R", mode="r+")
    row = int(_test_rows(store)[3])
    flux[row, 1, 100] = np.nan
    stores.seal(tmp_path / "pairs.zarr", PAIRS, contents=False)
    words = rf"judge: pairs .*: EvaluationError: pair {row} holds flux that is not finite in arm R"
    with pytest.raises(JobError, match=words):
        evaluate(client, tmp_path / "pairs.zarr", weights, quick)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "train"}, "split is 'train'; give test or all"),
        ({"sb2_fraction": 1.5}, "SB2 fraction is 1.5"),
        ({"joint_threshold": 1.0}, "threshold of J is 1; give a number between 0 and 1"),
        ({"twins": -1}, "-1 twins"),
    ],
)
def test_odd_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        Options(**options)
