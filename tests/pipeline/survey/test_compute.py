"""A survey's run on a real cluster: resumed, refused, failed in part, and always the same catalog."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from rich.console import Console

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.cluster.workers import WorkerError
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog import diff as catalogdiff
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.cli.catalog import show_diff
from twinlines.pipeline.cli.survey import duration, show_run, show_status
from twinlines.pipeline.jobs.locks import LockedError
from twinlines.pipeline.schema import CATALOG, EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import compute as survey
from twinlines.pipeline.survey import status as surveystatus
from twinlines.pipeline.survey.compute import RunReport, SurveyError
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.runs import SurveyRun
from twinlines.pipeline.survey.stages import Stages
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights

OLD, NEW = np.arange(1, 101), np.arange(81, 141)
"""Two releases' obsids: twenty rows of the old one are changed in the new one."""
SHARD_ROWS = 20
SHARDS = 8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of two releases, not yet run; only to be copied."""
    folder = tmp_path_factory.mktemp("fresh") / "survey"
    write_release(folder, "dr1", OLD, seed=1, day=0)
    write_release(folder, "dr2", NEW, seed=2, day=1)
    return folder


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Path:
    """A survey of two releases, not yet run."""
    return Path(shutil.copytree(fresh, tmp_path / "survey"))


@pytest.fixture(scope="module")
def quiet(client: Client, weights: Path, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey that was run without any disturbance."""
    folder = Path(shutil.copytree(fresh, tmp_path_factory.mktemp("quiet") / "survey"))
    assert _run(client, folder, weights).complete
    return folder


def _run(client: Client, folder: Path, weights: Path, **options: Any) -> RunReport:
    options = {"parameters": ToyParameters(), "shard_rows": SHARD_ROWS, "loader": ToyInference.load, **options}
    return survey.run(client, folder, weights=weights, **options)


def _files(catalog: Path) -> dict[str, bytes]:
    """All files of a catalog but the one that holds the time of its making."""
    paths = (path for path in catalog.rglob("*") if path.is_file() and path != catalog / "zarr.json")
    return {str(path.relative_to(catalog)): path.read_bytes() for path in paths}


def _catalog(folder: Path) -> Path:
    return folder / "catalogs" / (folder / "CURRENT").read_text().strip()


def _the_run(folder: Path) -> SurveyRun:
    (run,) = Survey(folder).runs
    return run


def test_a_run_computes_and_publishes_and_the_next_one_is_idle(client: Client, folder: Path, weights: Path) -> None:
    told: list[tuple[str, int, int]] = []
    first = _run(client, folder, weights, progress=lambda *now: told.append(now))
    assert (first.shards, first.computed, first.skipped, first.rows, first.rows_computed) == (
        SHARDS,
        SHARDS,
        0,
        160,
        160,
    )
    assert first.complete
    assert first.published
    assert first.releases == ("dr1", "dr2")
    assert told[0] == ("exposures", 0, 160)
    assert told[-1] == ("exposures", 160, 160)
    assert len(told) == SHARDS + 1
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    second = _run(client, folder, weights)
    assert (second.computed, second.skipped, second.published) == (0, SHARDS, False)
    assert second.complete
    assert second.catalog == first.catalog
    shown = io.StringIO()
    show_run(second, Console(file=shown, width=300))
    assert "nothing to do" in shown.getvalue()
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    written = {path.name for path in after if after[path] != before.get(path)}
    assert written <= {".lock", "run.json"}


def test_the_newest_row_wins_and_rows_are_sorted(quiet: Path) -> None:
    catalog = stores.open_store(_catalog(quiet), CATALOG)
    obsid = catalog["obsid"].values
    assert sorted(obsid) == list(range(1, 141))
    assert set(obsid[catalog["release"].values == "dr2"]) == set(NEW)
    order = np.lexsort((catalog["lmjm"].values, obsid, catalog["healpix29"].values))
    assert np.array_equal(order, np.arange(140))
    assert set(catalog["run"].values) == {_the_run(quiet).config_key}
    exposures = xr.concat(
        [stores.open_store(quiet / "releases" / name / "exposures.zarr", EXPOSURES) for name in ("dr1", "dr2")],
        "exposure",
        data_vars="minimal",
    )
    newest = {key: row for row, key in enumerate(exposures["obsid"].values.tolist())}
    rows = exposures.isel(exposure=[newest[one] for one in obsid.tolist()]).load()
    expected = ToyInference("", ToyParameters())(rows)
    for name in expected.data_vars:
        assert np.array_equal(catalog[name].values, expected[name].values, equal_nan=expected[name].dtype.kind == "f")
    assert catalog.attrs["superseded_rows"] == 20
    assert catalog.attrs["releases"] == ["dr1", "dr2"]
    assert catalog.attrs["parameters"] == {"seed": 0}


@pytest.mark.parametrize("shard_rows", [33, EXPOSURES.shard_rows])
def test_the_size_of_shards_changes_no_bit(
    client: Client, folder: Path, weights: Path, quiet: Path, shard_rows: int
) -> None:
    assert _run(client, folder, weights, shard_rows=shard_rows).complete
    assert _files(_catalog(folder)) == _files(_catalog(quiet))


def test_blocks_cover_a_shard_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, store = Stages(ToyInference("toy", ToyParameters())), str(folder / "releases/dr1/exposures.zarr")
    assert [block.sizes["exposure"] for block in survey._results(stages, store, 3, 90)] == [87]
    monkeypatch.setattr(survey, "BLOCK_ROWS", 8)
    few = [block["obsid"].values.tolist() for block in survey._results(stages, store, 3, 22)]
    assert few == [[*range(4, 12)], [*range(12, 20)], [20, 21, 22]]


VICTIM = """
import sys
from pathlib import Path
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.pipeline.survey import compute
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters

if __name__ == "__main__":
    with launch(Local(n_workers=1)) as client:
        compute.run(client, Path(sys.argv[1]), weights=Path(sys.argv[2]), parameters=ToyParameters(pause=0.5),
                   shard_rows=int(sys.argv[3]), loader=ToyInference.load)
"""


def test_a_killed_client_loses_nothing_and_nothing_is_done_twice(
    client: Client, folder: Path, weights: Path, quiet: Path, tmp_path: Path
) -> None:
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)
    arguments = [str(folder), str(weights), str(SHARD_ROWS)]
    victim = subprocess.Popen([sys.executable, str(script), *arguments], stderr=subprocess.PIPE)
    try:
        _wait_for(lambda: victim.poll() is not None or len([*folder.glob("runs/*/done/[!.]*.json")]) >= 2)
        assert victim.poll() is None, victim.communicate()[1].decode()
        with pytest.raises(LockedError, match=f"process {victim.pid} on"):
            _run(client, folder, weights)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/done/[!.]*.json")}
    assert 2 <= len(done) < SHARDS
    assert not (folder / "CURRENT").exists()
    report = _run(client, folder, weights)
    assert report.complete
    # A worker may finish a shard in the instant in which it learns that its client is dead.
    assert report.skipped in (len(done), len(done) + 1)
    assert report.computed == SHARDS - report.skipped
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert _files(_catalog(folder)) == _files(_catalog(quiet))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_neither_the_number_of_workers_nor_a_killed_one_changes_a_bit(folder: Path, weights: Path, quiet: Path) -> None:
    with launch(Local(n_workers=1)) as alone:
        killed: list[int] = []

        def kill_once(stage: str, done: int, total: int) -> None:
            if done and not killed:
                killed.extend(alone.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)

        report = _run(alone, folder, weights, parameters=ToyParameters(pause=0.1), progress=kill_once)
    assert killed
    assert (report.computed, report.complete) == (SHARDS, True)
    assert _files(_catalog(folder)) == _files(_catalog(quiet))


def test_only_what_lacks_its_marker_or_its_data_is_computed_again(
    client: Client, folder: Path, weights: Path, quiet: Path
) -> None:
    catalog = _run(client, folder, weights).catalog
    run = _the_run(folder)
    without_marker, without_data, damaged, *_ = sorted(path.stem for path in (run.folder / "done").iterdir())
    run.marker_path(without_marker).unlink()
    run.result_path(without_data).unlink()
    data = bytearray(run.result_path(damaged).read_bytes())
    data[len(data) // 2] ^= 1
    run.result_path(damaged).write_bytes(data)
    assert surveystatus.status(folder).releases[0].pending + surveystatus.status(folder).releases[1].pending == 2
    report = _run(client, folder, weights)
    assert (report.computed, report.skipped) == (3, SHARDS - 3)
    assert catalog is not None
    assert report.catalog == catalog
    assert _files(catalog) == _files(_catalog(quiet))


def test_a_shard_that_fails_is_reported_and_nothing_is_published(
    client: Client, folder: Path, weights: Path, quiet: Path
) -> None:
    report = _run(client, folder, weights, parameters=ToyParameters(poison=30))
    assert not report.complete
    assert report.catalog is None
    assert (report.computed, report.rows_computed) == (SHARDS - 1, 140)
    (failure,) = report.failed
    assert failure.piece == "rows 20 to 40 of dr1"
    assert failure.error == "ValueError: cannot digest the exposure of obsid 30"
    written = json.loads(Path(failure.file).read_text())
    assert "ValueError" in "".join(written["traceback"])
    assert written["start"] == 20
    assert not (folder / "CURRENT").exists()
    assert json.loads(json.dumps(report.to_json()))["complete"] is False
    first = surveystatus.status(folder).releases[0]
    assert (first.shards, first.done, first.pending, first.failed) == (5, 4, 1, 1)
    mended = _run(client, folder, weights)
    assert (mended.computed, mended.complete) == (1, True)
    assert not Path(failure.file).exists()
    assert _files(_catalog(folder)) == _files(_catalog(quiet))


def test_an_inference_that_mixes_up_rows_is_found_out(client: Client, folder: Path, weights: Path) -> None:
    def load(weights: str, digest: str, parameters: object, device: str) -> Callable[[xr.Dataset], xr.Dataset]:
        from twinlines.pipeline.testing.survey import ToyInference, ToyParameters

        toy = ToyInference(digest, ToyParameters())
        return lambda block: toy(block).isel(exposure=slice(None, None, -1))

    report = _run(client, folder, weights, loader=load)
    assert len(report.failed) == SHARDS
    assert "differ in 'obsid'" in report.failed[0].error


def test_weights_that_a_worker_cannot_load_end_the_run_at_once(client: Client, folder: Path, weights: Path) -> None:
    def load(weights: str, digest: str, parameters: object, device: str) -> Callable[[xr.Dataset], xr.Dataset]:
        raise ValueError(f"{weights} changed")

    with pytest.raises(WorkerError, match=r"cannot load the inference .* changed"):
        _run(client, folder, weights, loader=load)


@pytest.mark.parametrize("resources", [{}, {"GPU": 1}])
def test_a_run_uses_the_gpu_of_workers_that_have_one(
    resources: dict[str, int], folder: Path, weights: Path, tmp_path: Path
) -> None:
    def load(weights: str, digest: str, parameters: object, device: str) -> Callable[[xr.Dataset], xr.Dataset]:
        from twinlines.pipeline.testing.survey import ToyInference, ToyParameters

        (tmp_path / device).touch()
        return ToyInference(digest, ToyParameters())

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", resources=resources) as cluster,
        Client(cluster) as workers,
    ):
        assert _run(workers, folder, weights, loader=load).complete
    assert (tmp_path / ("cuda" if resources else "cpu")).exists()
    assert not (tmp_path / ("cpu" if resources else "cuda")).exists()


def test_a_gpu_whose_blocks_are_prepared_ahead_makes_the_same_catalog(folder: Path, weights: Path, quiet: Path) -> None:
    def load(weights: str, digest: str, parameters: object, device: str) -> object:
        from twinlines.pipeline.testing.survey import ToyInference, ToyParameters

        class InTwoParts(ToyInference):
            def prepare(self, block: xr.Dataset) -> xr.Dataset:
                return block

            def verdict(self, prepared: xr.Dataset) -> xr.Dataset:
                return self(prepared)

        return InTwoParts(digest, ToyParameters())

    with (
        LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address=":0", resources={"GPU": 1}) as cluster,
        Client(cluster) as workers,
    ):
        assert _run(workers, folder, weights, loader=load).complete
    assert _files(_catalog(folder)) == _files(_catalog(quiet))


def test_a_worker_that_would_compute_something_else_is_refused(client: Client, folder: Path, weights: Path) -> None:
    class Local(ToyParameters):
        """Means something else in every process, as a library does that each machine has its own of."""

        def to_json(self) -> dict[str, object]:
            return {"library": os.getpid()}

    with pytest.raises(WorkerError, match="install the same version of twinlines"):
        _run(client, folder, weights, parameters=Local())


def test_rows_that_a_release_has_lost_are_noticed(client: Client, folder: Path, weights: Path) -> None:
    column = folder / "releases" / "dr1" / "exposures.zarr" / "obsid" / "c" / "0"
    content = column.read_bytes()
    column.write_bytes(content[:10] + bytes(40) + content[50:])
    with pytest.raises(stores.StoreError, match=r"exposures\.zarr.obsid.c.0 is damaged \("):
        _run(client, folder, weights)
    column.unlink()
    with pytest.raises(SurveyError, match=r"dr1.*has lost rows between 0 and 20"):
        _run(client, folder, weights)


def test_status_takes_a_damaged_description(client: Client, folder: Path, weights: Path) -> None:
    _run(client, folder, weights)
    (_the_run(folder).folder / "run.json").write_text("{}")
    assert [one.rows for one in surveystatus.status(folder).releases] == [100, 60]


def test_two_runs_at_once_are_refused(client: Client, folder: Path, weights: Path) -> None:
    with (
        Survey(folder).run_lock("twinlines run"),
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
    ):
        _run(client, folder, weights)


def test_an_older_release_and_other_parameters_have_catalogs_of_their_own(
    client: Client, folder: Path, weights: Path
) -> None:
    both = _run(client, folder, weights)
    old = _run(client, folder, weights, release="dr1")
    assert (old.computed, old.releases) == (0, ("dr1",))
    other = _run(client, folder, weights, parameters=ToyParameters(seed=1))
    assert other.computed == SHARDS
    catalogs = [one.catalog for one in (both, old, other) if one.catalog is not None]
    assert [stores.open_store(path, CATALOG).sizes["exposure"] for path in catalogs] == [140, 100, 140]
    report = surveystatus.status(folder)
    assert report.catalogs == tuple(sorted(path.name for path in catalogs))
    assert report.catalog == catalogs[-1].name
    assert report.in_use_by is None
    back = _run(client, folder, weights)
    assert (back.computed, back.published) == (0, False)
    assert _catalog(folder) == catalogs[0]


def test_the_catalog_of_every_release_stays_readable(client: Client, folder: Path, weights: Path) -> None:
    new = _run(client, folder, weights)
    assert new.catalog is not None
    with pytest.raises(CatalogError, match=r"no catalog of release 'dr1'; it has .*twinlines run .* --release dr1"):
        catalog.open(folder, release="dr1")
    _run(client, folder, weights, release="dr1")
    other = _run(client, folder, weights, parameters=ToyParameters(seed=1))
    assert other.catalog is not None
    assert catalog.open(folder).attrs["run"] == other.config_key
    # Of several catalogs of a release, that of the current one's run; else the one that was published last.
    assert catalog.open(folder, release="dr2").attrs["run"] == other.config_key
    assert catalog.open(folder, release="dr1").attrs["run"] == new.config_key
    assert json.loads(catalog.open(folder, new.catalog.name).attrs["code"]) == {metadata.version("twinlines"): 160}
    with pytest.raises(CatalogError, match="give one of them"):
        catalog.open(folder, new.catalog.name, release="dr1")

    one_run = catalogdiff.diff(folder, "dr1", new.catalog.name)
    assert (one_run.rows_old, one_run.rows_new) == (100, 140)
    counts = (one_run.added, one_run.gone, one_run.changed, one_run.recomputed, one_run.same)
    assert counts == (40, 0, 20, 0, 80)
    old, newer = catalog.open(folder, release="dr1").load(), catalog.open(folder, new.catalog.name).load()
    crossed = {
        (obsid, "J")
        for obsid in range(81, 101)
        if len({float(c["pb_pct_J_16"][c["obsid"].values == obsid, 2][0]) > 0.5 for c in (old, newer)}) == 2
    }
    assert {(one.obsid, one.head) for one in one_run.crossings} == crossed
    assert crossed
    assert {one.cause for one in one_run.crossings} == {"data"}
    two_runs = catalogdiff.diff(folder, new.catalog.name, "dr2")
    assert (two_runs.added, two_runs.gone, two_runs.changed, two_runs.recomputed, two_runs.same) == (0, 0, 0, 140, 0)
    assert list(two_runs.recipe) == ["parameters"]
    assert {one.cause for one in two_runs.crossings} == {"run"}
    back = catalogdiff.diff(folder, "dr2", "dr1")
    assert (back.added, back.gone) == (0, 40)
    shown = io.StringIO()
    show_diff(one_run, Console(file=shown, width=300))
    assert "40 new, 0 gone, 20 changed by content, 0 recomputed, 80 as they were" in shown.getvalue()
    assert json.loads(json.dumps(one_run.to_json()))["added"] == 40


def test_status_tells_the_time_that_is_left(client: Client, folder: Path, weights: Path) -> None:
    _run(client, folder, weights, parameters=ToyParameters(poison=30))
    run = _the_run(folder)
    for path in (run.folder / "done").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 5.0}))
    (folder / "releases" / ".dr3.work").mkdir()
    found = surveystatus.status(folder)
    assert (found.rows_left, found.seconds_left) == (20, pytest.approx(20 * 5.0 / 20 / 2))
    (failure,) = found.failures
    assert failure.piece == "rows 20 to 40 of dr1"
    shown = io.StringIO()
    show_status(found, Console(file=shown, width=300))
    assert "to do: 20 exposures; time left with as many workers: 2 s" in shown.getvalue()
    assert "dr3 is being ingested: 0 batches scanned" in shown.getvalue()
    assert "cannot digest the exposure of obsid 30" in shown.getvalue()
    words = [duration(one) for one in (59, 600, 8000, 10**6)]
    assert words == ["59 s", "10 min", "2 h 13 min", "11 d 13 h"]


def test_what_does_not_exist_is_named_with_what_does(client: Client, folder: Path, weights: Path) -> None:
    with pytest.raises(SurveyError, match=r"there is no survey at .*nowhere"):
        _run(client, folder / "nowhere", weights)
    with pytest.raises(SurveyError, match=r"there is no survey at .*nowhere"):
        surveystatus.status(folder / "nowhere")
    with pytest.raises(SurveyError, match="has no release 'dr9'; it has dr1, dr2"):
        _run(client, folder, weights, release="dr9")
    with pytest.raises(SurveyError, match="shard_rows is 0"):
        _run(client, folder, weights, shard_rows=0)
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(SurveyError, match="has no release yet"):
        _run(client, empty, weights)
    assert surveystatus.status(empty).releases == ()
    assert not [*empty.iterdir()]


def test_status_before_any_run(folder: Path) -> None:
    report = surveystatus.status(folder)
    assert (report.run, report.catalog, report.catalogs) == (None, None, ())
    assert [(one.name, one.rows, one.pending) for one in report.releases] == [
        ("dr1", 100, 1),
        ("dr2", 60, 1),
    ]


def test_a_release_that_changed_is_not_taken_for_the_one_that_was_published(
    client: Client, folder: Path, weights: Path
) -> None:
    _run(client, folder, weights)
    shutil.rmtree(folder / "releases" / "dr2")
    write_release(folder, "dr2", NEW, seed=3, day=1)
    with pytest.raises(SurveyError, match="was made from other exposures"):
        _run(client, folder, weights)


def test_a_damaged_release_file_is_named(folder: Path) -> None:
    (folder / "releases" / "dr1" / "release.json").write_text("{}")
    with pytest.raises(SurveyError, match=r"dr1/release.json is damaged .*'created'"):
        surveystatus.status(folder)
