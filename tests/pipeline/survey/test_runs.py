"""Runs of a survey: keys that follow content, markers that are believed only with their data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.jobs.markers import RecipeError
from twinlines.pipeline.schema import RESULTS
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.runs import CONFIG_KEY_DIGITS, Recipe, SurveyRun, task_key
from twinlines.pipeline.survey.status import status
from twinlines.pipeline.testing.survey import write_release

RECIPE = Recipe(Path("/weights"), "d" * 64, {"seed": 0, "n_draws": 20}, 1)
RESULT = RESULTS.dataset({"obsid": np.arange(5), "planid": np.array(["TD"] * 5, dtype=object)}, 5)


def _run(survey: Path) -> SurveyRun:
    run = Survey(survey).run(RECIPE.key)
    run.begin(RECIPE, 4096, Survey(survey).next_start_number)
    return run


def test_the_config_key_follows_what_decides_results_and_nothing_else() -> None:
    assert len(RECIPE.key) == CONFIG_KEY_DIGITS
    assert replace(RECIPE, weights=Path("/elsewhere")).key == RECIPE.key
    assert replace(RECIPE, parameters={"n_draws": 20, "seed": 0}).key == RECIPE.key
    others = [
        replace(RECIPE, digest="e" * 64),
        replace(RECIPE, parameters={"seed": 1, "n_draws": 20}),
        replace(RECIPE, numerics=2),
    ]
    assert len({RECIPE.key, *(other.key for other in others)}) == 4


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**31 - 1), st.integers(0, 2**64 - 1)), min_size=1),
    column=st.integers(0, 2),
    data=st.data(),
)
def test_the_task_key_changes_with_any_value_of_any_row(
    rows: list[tuple[int, int, int]], column: int, data: st.DataObject
) -> None:
    def key(values: list[tuple[int, int, int]], config: str = "c") -> str:
        obsid, lmjm, content = zip(*values, strict=True)
        return task_key(config, np.array(obsid, np.int64), np.array(lmjm, np.int32), np.array(content, dtype=np.uint64))

    row = data.draw(st.integers(0, len(rows) - 1))
    changed = [list(one) for one in rows]
    changed[row][column] ^= 1
    assert key(rows) == key(list(rows))
    assert key(rows) != key([(a, b, c) for a, b, c in changed])
    assert key(rows) != key(rows, "other")
    assert key(rows) != key([*rows, rows[-1]])


def test_a_result_counts_with_its_marker_only(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert not run.is_done("k")
    marker = run.record("k", RESULT, worker="tcp://w")
    assert run.is_done("k", verify=True)
    assert marker["rows"] == 5
    assert marker["worker"] == "tcp://w"
    run.marker_path("k").unlink()
    assert not run.is_done("k")


def test_a_marker_counts_with_its_whole_result_only(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.record("k", RESULT)
    path = run.result_path("k")
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert not run.is_done("k")
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run.is_done("k")
    assert not run.is_done("k", verify=True)
    path.unlink()
    assert not run.is_done("k")


def test_a_damaged_marker_does_not_count(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.record("k", RESULT)
    run.marker_path("k").write_text("{")
    assert not run.is_done("k")


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert run.record("a", RESULT)["sha256"] == run.record("b", RESULT.copy(deep=True))["sha256"]


def test_a_result_takes_back_an_earlier_failure(tmp_path: Path) -> None:
    run = _run(tmp_path)
    path = run.record_failure("k", "ValueError: no", "line 1\nline 2", start=0)
    assert path.exists()
    run.record("k", RESULT)
    assert not path.exists()


def test_beginning_again_keeps_what_is_done_and_sweeps_what_is_half_written(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.record("k", RESULT)
    created = run.description()["created"]
    stale = run.folder / "results" / ".x.zarr.zip.1-00000000.tmp"
    stale.write_bytes(b"half")
    run.begin(RECIPE, 128, 2)
    assert not stale.exists()
    assert run.is_done("k", verify=True)
    assert run.description()["created"] == created
    assert run.description()["shard_rows"] == 128
    assert set(run.description()["versions"]) >= {"twinlines", "torch", "numpy"}


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with pytest.raises(RecipeError, match="another recipe"):
        run.begin(replace(RECIPE, numerics=2), 4096, 2)


def test_runs_are_listed_by_their_last_start(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    assert survey.runs == ()
    first = _run(tmp_path)
    other = replace(RECIPE, numerics=2)
    second = survey.run(other.key)
    second.begin(other, 4096, survey.next_start_number)
    assert survey.runs == (first, second)
    first.begin(RECIPE, 4096, survey.next_start_number)
    assert survey.runs == (second, first)


def test_a_flipped_bit_of_a_key_is_no_other_exposure(tmp_path: Path) -> None:
    """Else its row would be another task's: computed under a name that no file of the survey has."""
    release = write_release(tmp_path, "dr1", np.arange(1, 30))
    _run(tmp_path)
    assert status(tmp_path).rows_left == 29
    file = release / "exposures.zarr" / "obsid" / "c" / "0"
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(changed) // 4] ^= 2
    file.write_bytes(changed)
    with pytest.raises(StoreError, match=r"obsid.c.0 is damaged \(its checksum differs\); .*status --verify'"):
        status(tmp_path)
    damaged, unknown = status(tmp_path, verify=True).damaged or ()
    assert "shard 0 (rows from 0 on) is damaged (its checksum differs); restore the files c/0" in damaged
    assert "not known until its releases are mended" in unknown
    file.write_bytes(whole)
    assert status(tmp_path, verify=True).damaged == ()
