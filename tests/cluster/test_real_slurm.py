"""A real SLURM: controller here, node on a host of its own, as far as network namespaces make one. ``make slurm``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from distributed import Client

from tests.cluster.slurm_here import CORES, SlurmHere, missing, slurm
from twinlines.cluster import slurm as profile_slurm
from twinlines.cluster.errors import LaunchError
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Slurm
from twinlines.cluster.workers import workers_of
from twinlines.pipeline.survey import compute as survey
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

ROWS, SHARD_ROWS = 80, 10


@pytest.fixture(scope="module")
def here() -> Iterator[SlurmHere]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def site(here: SlurmHere, tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    """A small site: two jobs of a worker each."""
    folder = tmp_path_factory.mktemp("site")
    return Slurm(
        jobs=2,
        cores=1,
        memory=2 * 2**30,
        walltime="10:00",
        host=here.head,
        shared_directory=folder / "shared",
        local_directory=str(folder),
        log_directory=folder / "logs",
        dask={"distributed.deploy.lost-worker-timeout": "500ms"},
    )


@pytest.fixture(scope="module")
def quiet(client: Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A survey not yet run, the same one run on this machine's cores, and the weights."""
    folder = tmp_path_factory.mktemp("surveys")
    weights = write_weights(folder / "weights")
    write_release(folder / "fresh", "dr1", np.arange(1, 1 + ROWS), seed=1)
    shutil.copytree(folder / "fresh", folder / "local")
    assert _run(client, folder / "local", weights).complete
    return folder / "fresh", folder / "local", weights


def _run(client: Client, folder: Path, weights: Path, pause: float = 0.0, **options: object) -> survey.RunReport:
    toy = {"parameters": ToyParameters(pause=pause), "shard_rows": SHARD_ROWS, "loader": ToyInference.load}
    return survey.run(client, folder, weights=weights, **toy, **options)  # type: ignore[arg-type]


def _files(folder: Path) -> dict[str, bytes]:
    """All files of the catalog but the one that holds the time of its making."""
    catalog = folder / "catalogs" / (folder / "CURRENT").read_text().strip()
    paths = (path for path in catalog.rglob("*") if path.is_file() and path != catalog / "zarr.json")
    return {str(path.relative_to(catalog)): path.read_bytes() for path in paths}


def _queue(form: str = "%i") -> list[str]:
    return subprocess.run(["squeue", "-h", f"-o{form}"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(autouse=True)
def _no_job_outlives_its_cluster(launched: Client) -> Iterator[None]:
    yield
    until = time.monotonic() + 60
    while set(_queue()) - set(launched.cluster.job_ids):
        assert time.monotonic() < until, "jobs outlive their cluster"
        time.sleep(0.2)


def test_a_survey_through_two_jobs_gives_the_catalog_of_this_machine(
    launched: Client, quiet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    fresh, local, weights = quiet
    assert sorted(_queue("%i,%T")) == sorted(f"{job},RUNNING" for job in launched.cluster.job_ids)
    folder = Path(shutil.copytree(fresh, tmp_path / "survey"))
    report = _run(launched, folder, weights, pause=0.5)
    assert (report.complete, report.computed, report.rows_computed) == (True, 8, ROWS)
    assert _files(folder) == _files(local)
    assert _run(launched, folder, weights).computed == 0


_KNOCK = """
import asyncio, sys
from pathlib import Path
from distributed.comm.core import connect
from distributed.security import Security
from twinlines.cluster.security import in_folder
address, credentials = sys.argv[1:]
own = {"none": Security, "others": Security.temporary}.get(credentials, lambda: in_folder(Path(credentials)))()
async def knock():
    comm = await connect(address, timeout=5, **own.get_connection_args("client"))
    await comm.close()
asyncio.run(knock())
"""


def _say(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_two_hosts_speak_tls_and_who_has_no_certificate_is_refused(here: SlurmHere, launched: Client) -> None:
    if here.namespace is None:
        pytest.skip("this kernel lets us have no network namespaces")
    address = str(launched.scheduler.address)
    workers = list(workers_of(launched))
    assert urlsplit(address).hostname == here.head
    assert {urlsplit(worker).hostname for worker in workers} == {here.head.removesuffix(".1") + ".2"}
    assert all(one.startswith("tls://") for one in [address, *workers])
    own = str(Path(launched.security.tls_ca_file).parent)
    for target, place in [(address, here.on_node), *((worker, list) for worker in workers)]:
        knock = [sys.executable, "-c", _KNOCK]
        assert _say(place([*knock, target, own])).returncode == 0
        for wrong, credentials in [(target, "others"), (target.replace("tls://", "tcp://"), "none")]:
            refused = _say(place([*knock, wrong, credentials]))
            assert refused.returncode == 1
            assert "Error" in refused.stderr.splitlines()[-1]
    # What listens at one host's loopback is not there for the other.
    port = urlsplit(launched.dashboard_link).port
    looks = f"import socket; socket.create_connection(('{here.head}', {port}), timeout=5)"
    assert "refused" in _say(here.on_node([sys.executable, "-c", looks])).stderr


def test_a_command_on_another_host_joins_with_certificates_and_is_told_what_it_lacks(
    here: SlurmHere, launched: Client, quiet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    if here.namespace is None:
        pytest.skip("this kernel lets us have no network namespaces")
    address = launched.scheduler.address
    site = tmp_path / "site.yaml"
    site.write_text(
        f"profile: address\naddress: {address}\ntls-ca-file: {launched.security.tls_ca_file}\n"
        f"tls-client-cert: {launched.security.tls_client_cert}\ntls-client-key: {launched.security.tls_client_key}\n"
    )
    check = [str(Path(sys.executable).with_name("twinlines")), "cluster", "check", "--cluster"]
    without = _say(here.on_node([*check, address]))
    assert without.returncode == 1
    assert "set the credentials in the site's file (tls-ca-file" in without.stderr
    assert "Traceback" not in without.stderr
    with_them = _say(here.on_node([*check, str(site)]))
    assert with_them.returncode == 0, with_them.stderr
    assert "2 workers" in with_them.stdout or with_them.stdout.count("cpu") >= 2


def test_a_cancelled_job_is_replaced_in_mid_run(site: Slurm, quiet: tuple[Path, Path, Path], tmp_path: Path) -> None:
    fresh, local, weights = quiet
    folder = Path(shutil.copytree(fresh, tmp_path / "survey"))
    with launch(site) as client:
        client.wait_for_workers(2, timeout=60)
        first = list(client.cluster.job_ids)

        def cancel(stage: str, done: int, total: int) -> None:
            if done == SHARD_ROWS:
                subprocess.run(["scancel", first[0]], check=True)

        assert _run(client, folder, weights, pause=2.0, progress=cancel).complete
        client.wait_for_workers(2, timeout=60)
        assert first[1] in client.cluster.job_ids
        assert first[0] not in client.cluster.job_ids
    assert _files(folder) == _files(local)


def test_a_survey_outlives_a_walltime_of_one_minute(
    site: Slurm, quiet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    fresh, local, weights = quiet
    folder = Path(shutil.copytree(fresh, tmp_path / "survey"))
    short = replace(site, jobs=1, walltime="1:00", leave_before=20.0, stagger=2.0)
    with launch(short) as client:
        first = client.cluster.job_ids
        # The worker leaves 36 to 40 s after it came, and eight shards of 7 s take it longer.
        assert _run(client, folder, weights, pause=7.0).complete
        assert client.cluster.job_ids != first
    assert _files(folder) == _files(local)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"memory": 100 * 2**30}, r"SLURM does not take the job(.|\n)*Memory specification can not be satisfied"),
        ({"queue": "nosuch"}, r"SLURM does not take the job(.|\n)*invalid partition specified: nosuch"),
        (
            {"queue": "short"},
            r"SLURM cannot start the jobs as they are asked for: \d+ is pending \(PartitionTimeLimit\)",
        ),
        ({"cores": 9}, r"SLURM (does not take|cannot start) the job(.|\n)*(PartitionConfig|not available)"),
    ],
    ids=["memory", "partition", "walltime", "cores"],
)
def test_a_job_that_can_never_start_is_an_error_with_slurm_s_words(
    site: Slurm, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object], words: str
) -> None:
    monkeypatch.setattr(profile_slurm, "POLL", 2.0)
    with pytest.raises(LaunchError, match=words), launch(replace(site, jobs=1, **wrong)):  # type: ignore[arg-type]
        pass


def test_a_job_that_waits_for_others_is_waited_for_and_its_reason_told(
    launched: Client, site: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(profile_slurm._log, "warning", lambda text, *values: told.append(text % values))
    monkeypatch.setattr(profile_slurm, "POLL", 2.0)
    # What the launched cluster leaves.
    other = subprocess.run(
        ["sbatch", "--parsable", f"-c{CORES - 2}", "--mem=1000", "-o/dev/null", "--wrap=sleep 600"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    try:
        with (
            pytest.raises(LaunchError, match=r"no worker came within 8 s; SLURM says .* is pending \(Resources\)"),
            launch(replace(site, jobs=1, wait=8.0)),
        ):
            pass
    finally:
        subprocess.run(["scancel", other], check=True)
    assert any("(Resources)" in words for words in told)
