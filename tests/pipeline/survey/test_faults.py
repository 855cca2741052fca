"""What a survey survives: killed workers and schedulers, full disks, damaged shards; and always the same catalog after.

A killed client, two runs at once and damaged results are tried in ``test_survey.py``; files that crash the reader in
``test_ingest.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address, Local
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.jobs import markers
from twinlines.pipeline.jobs.engine import JobError
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.schema import EXPOSURES, SchemaError
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey import compute as survey
from twinlines.pipeline.survey import status as surveystatus
from twinlines.pipeline.survey.compute import RunReport
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.testing.exposures import random_file
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights

SHARDS, SHARD_ROWS = 8, 10


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey that is not yet run; only to be copied."""
    folder = tmp_path_factory.mktemp("fresh") / "survey"
    write_release(folder, "dr1", np.arange(1, 1 + SHARDS * SHARD_ROWS))
    return folder


@pytest.fixture
def folder(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh, tmp_path / "survey"))


@pytest.fixture(scope="module")
def quiet(client: Client, weights: Path, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The catalog of a run without any disturbance."""
    folder = Path(shutil.copytree(fresh, tmp_path_factory.mktemp("quiet") / "survey"))
    assert _run(client, folder, weights).complete
    return _catalog(folder)


def _run(client: Client, folder: Path, weights: Path, **options: Any) -> RunReport:
    options = {"parameters": ToyParameters(), "shard_rows": SHARD_ROWS, "loader": ToyInference.load, **options}
    return survey.run(client, folder, weights=weights, **options)


def _catalog(folder: Path) -> dict[str, bytes]:
    """All files of the current catalog but the one that holds the time of its making."""
    catalog = folder / "catalogs" / (folder / "CURRENT").read_text().strip()
    paths = (path for path in catalog.rglob("*") if path.is_file() and path != catalog / "zarr.json")
    return {str(path.relative_to(catalog)): path.read_bytes() for path in paths}


def _fill(filler: Path) -> None:
    """Fill a disk to its last byte."""
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(b"0"):
            pass


def test_workers_killed_at_random_change_nothing(folder: Path, weights: Path, quiet: dict[str, bytes]) -> None:
    random = np.random.default_rng(5)
    moments = set(random.choice(np.arange(1, SHARDS), 3, replace=False).tolist())
    killed: list[int] = []
    with launch(Local(n_workers=2)) as own:

        def kill(stage: str, done: int, total: int) -> None:
            if done // SHARD_ROWS in moments:
                moments.remove(done // SHARD_ROWS)
                victims = sorted(own.run(os.getpid, on_error="ignore").values())
                killed.append(victims[int(random.integers(len(victims)))])
                os.kill(killed[-1], signal.SIGKILL)

        report = _run(own, folder, weights, parameters=ToyParameters(pause=0.1), progress=kill)
    assert len(killed) == 3
    assert report.complete
    assert _catalog(folder) == quiet


def test_a_shard_that_ends_its_worker_is_put_aside_and_takes_nobody_along(
    client: Client, folder: Path, weights: Path, quiet: dict[str, bytes]
) -> None:
    def load(weights: str, digest: str, parameters: object, device: str) -> Callable[[xr.Dataset], xr.Dataset]:
        import os
        import signal

        from twinlines.pipeline.testing.survey import ToyInference, ToyParameters

        toy = ToyInference(digest, ToyParameters())

        def infer(block: xr.Dataset) -> xr.Dataset:
            if 15 in block["obsid"].values:
                os.kill(os.getpid(), signal.SIGKILL)
            return toy(block)

        return infer

    # One worker: whatever waits for it is suspected with the task of which it dies.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), launch(Local(n_workers=1)) as own:
        report = _run(own, folder, weights, loader=load)
    (failure,) = report.failed
    assert failure.piece == "rows 10 to 20 of dr1"
    assert "its worker dies of it" in failure.error
    assert report.computed == SHARDS - 1
    assert surveystatus.status(folder).failures == (failure,)
    _run(client, folder, weights, parameters=ToyParameters(poison=15))
    assert json.loads(Path(failure.file).read_text())["runs"] == 2
    assert _run(client, folder, weights).computed == 1
    assert _catalog(folder) == quiet


_SCHEDULER = """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(600)
"""


def test_a_killed_scheduler_is_one_clear_error(
    client: Client, folder: Path, weights: Path, quiet: dict[str, bytes], tmp_path: Path
) -> None:
    script = tmp_path / "scheduler.py"
    script.write_text(_SCHEDULER)
    victim = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert victim.stdout is not None
    address = victim.stdout.readline().strip()

    def kill(stage: str, done: int, total: int) -> None:
        if done:
            os.killpg(victim.pid, signal.SIGKILL)

    try:
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
            launch(Address(address)) as own,
            pytest.raises(JobError, match=r"the cluster was lost.*run again"),
        ):
            _run(own, folder, weights, parameters=ToyParameters(pause=0.2), progress=kill)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(victim.pid, signal.SIGKILL)
        victim.communicate()
    assert not (folder / "CURRENT").exists()
    report = _run(client, folder, weights)
    assert 1 <= report.skipped < SHARDS
    assert _catalog(folder) == quiet


@pytest.mark.parametrize("shards", [1, SHARDS], ids=["computing", "publishing"])
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(
    client: Client, fresh: Path, weights: Path, quiet: dict[str, bytes], small_disk: Path, shards: int
) -> None:
    folder, filler = Path(shutil.copytree(fresh, small_disk / "survey")), small_disk / "filler"

    def fill(stage: str, done: int, total: int) -> None:
        if done >= shards * SHARD_ROWS and not filler.exists():
            _fill(filler)

    with pytest.raises(JobError, match=r"No space left.*free some space"):
        _run(client, folder, weights, progress=fill)
    assert not (folder / "CURRENT").exists()
    filler.unlink()
    report = _run(client, folder, weights)
    assert report.skipped >= shards
    assert report.complete
    assert _catalog(folder) == quiet


def test_a_full_disk_does_not_spoil_an_ingestion(client: Client, small_disk: Path, tmp_path: Path) -> None:
    for seed in range(3):
        reader.write(tmp_path / f"{seed}.fits", random_file(seed, 2))
    filler = small_disk / "filler"

    def fill(stage: str, done: int, total: int) -> None:
        if stage == "write" and not filler.exists():
            _fill(filler)

    with pytest.raises(JobError, match=r"No space left.*free some space"):
        ingest(client, tmp_path, small_disk / "s", "r", progress=fill)
    filler.unlink()
    assert ingest(client, tmp_path, small_disk / "s", "r").rows == 6
    ingest(client, tmp_path, tmp_path / "s", "r")
    stored = [
        stores.open_store(s / "releases/r/exposures.zarr", EXPOSURES).load() for s in (small_disk / "s", tmp_path / "s")
    ]
    assert stored[0].identical(stored[1])


def test_a_damaged_shard_of_a_release_is_found_before_anything_is_computed_of_it(
    client: Client, folder: Path, weights: Path, quiet: dict[str, bytes]
) -> None:
    pixels = folder / "releases" / "dr1" / "exposures.zarr" / "flux" / "c" / "0" / "0" / "0"
    whole = pixels.read_bytes()
    pixels.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    found = surveystatus.status(folder, verify=True)
    assert len(found.damaged) == 1
    report = _run(client, folder, weights)
    assert len(report.failed) == SHARDS
    assert "shard 0 (rows from 0 on) is damaged (its checksum differs); restore" in report.failed[0].error
    pixels.unlink()
    assert len(_run(client, folder, weights).failed) == SHARDS  # a file that is gone would read as missing values
    pixels.write_bytes(whole)
    assert surveystatus.status(folder, verify=True).damaged == ()
    assert _run(client, folder, weights).computed == SHARDS
    assert _catalog(folder) == quiet


@pytest.mark.parametrize("name", ["snr_R/zarr.json", "rv_obs_B/c/0", "arm/zarr.json", "zarr.json"])
def test_a_catalog_of_other_bytes_but_the_same_size_is_published_again(
    client: Client, folder: Path, weights: Path, quiet: dict[str, bytes], name: str
) -> None:
    catalog = _run(client, folder, weights).catalog
    assert catalog is not None
    victim = catalog / name
    if not victim.exists():  # a variable of which all values are missing has no file
        victim = next(path for path in sorted(catalog.glob("*/c/**/*")) if path.is_file())
    victim.write_bytes(bytes(victim.stat().st_size))
    assert len(surveystatus.status(folder, verify=True).damaged or ()) == 1
    report = _run(client, folder, weights)
    assert (report.computed, report.published) == (0, True)
    assert surveystatus.status(folder, verify=True).damaged == ()
    assert _catalog(folder) == quiet
    assert not _run(client, folder, weights).published


@pytest.mark.parametrize(
    ("name", "find", "put"),
    [
        ("checksums.json", None, None),
        ("checksums.json", b'"shard_rows": 4096', b'"shard_rows": 4097'),
        ("release.json", b'"number": 1', b'"number": 5'),
        ("release.json", b'"rows": 80', b'"rows": 70'),
        ("exposures.zarr/ivar/zarr.json", b'"fill_value": "NaN"', b'"fill_value": 0.0'),
        ("exposures.zarr/flux/zarr.json", b'"long_name"', b'"long_namf"'),
        ("exposures.zarr/arm/c/0", b"B", b"R"),
        ("exposures.zarr/zarr.json", b"exposures", b"exposured"),
    ],
)
def test_what_says_what_a_release_is_has_a_checksum_too(
    client: Client, folder: Path, weights: Path, name: str, find: bytes | None, put: bytes | None
) -> None:
    path = folder / "releases" / "dr1" / name
    whole = path.read_bytes()
    if find is None or put is None:
        path.unlink()
    else:
        assert find in whole
        path.write_bytes(whole.replace(find, put))
    said = ""
    try:
        said += " ".join(surveystatus.status(folder, verify=True).damaged or ())
    except SurveyError as error:
        said += str(error)
    assert str(folder / "releases" / "dr1") in said
    assert "restore" in said
    with suppress(SurveyError, StoreError, SchemaError):
        assert len(_run(client, folder, weights).failed) == SHARDS
    assert not (folder / "CURRENT").exists()
    path.write_bytes(whole)
    assert surveystatus.status(folder, verify=True).damaged == ()
    assert _run(client, folder, weights).complete


def test_releases_and_runs_are_ordered_by_number_whatever_the_clock(
    client: Client, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_release(folder, "dr0", np.arange(1, 11), seed=9, day=1)  # by name and clock, it is the older one
    assert _run(client, folder, weights).releases == ("dr1", "dr0")
    monkeypatch.setattr(markers, "now", lambda: "1970-01-01T00:00:00.000+00:00")
    last = _run(client, folder, weights, parameters=ToyParameters(seed=3))
    assert [run.config_key for run in Survey(folder).runs][-1] == last.config_key
    assert surveystatus.status(folder).run["config_key"] == last.config_key
