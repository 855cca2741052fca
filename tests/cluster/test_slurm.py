"""SLURM without SLURM: job scripts to the letter, and real jobs through commands that stand in for SLURM's."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import dask
import numpy as np
import psutil
import pytest
from distributed import Client
from distributed.comm.core import CommClosedError, connect
from distributed.security import Security

from twinlines.cluster import security, slurm
from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.errors import LaunchError, ProfileError
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Slurm
from twinlines.cluster.show import show
from twinlines.cluster.workers import workers_of
from twinlines.pipeline.survey import compute as survey
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights

FAKES = Path(__file__).parent / "fake_slurm"
GOLDEN = Path(__file__).parent / "golden"

SITE = Slurm(
    jobs=4,
    cores=32,
    memory=120 * 2**30,
    walltime="1-00:00:00",
    account="astro",
    queue="regular",
    python="/opt/twinlines/bin/python",
    prologue=("module load gcc",),
    directives=("--constraint=avx512",),
    host="login1",
    port=8786,
    shared_directory=Path("/shared/me"),
    local_directory="$TMPDIR",
    log_directory=Path("/shared/me/logs"),
)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("cpu", SITE),
        ("gpu", replace(SITE, gpus=4, gres="gpu:a100:4", queue="gpu", directives=())),
    ],
)
def test_the_job_s_script_to_the_letter(name: str, profile: Slurm) -> None:
    assert show(profile).script == (GOLDEN / f"{name}.sh").read_text()


def test_a_script_without_tls_says_so_and_has_no_credentials() -> None:
    shown = show(SITE, insecure=True)
    assert shown.script is not None
    assert "tcp://login1:8786" in shown.script
    assert "tls" not in shown.script
    assert "none (--insecure)" in shown.security


def test_dask_s_own_configuration_decides_where_the_site_says_nothing() -> None:
    own = {"cores": 8, "memory": "16GiB", "queue": "long", "walltime": "2:00:00", "job-script-prologue": ["echo hello"]}
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in own.items()}):
        script = show(Slurm()).script
        assert script is not None
        for line in ("#SBATCH -p long", "#SBATCH --cpus-per-task=8", "#SBATCH -t 2:00:00", "echo hello"):
            assert line in script.splitlines()
        assert "#SBATCH -p short" in str(show(Slurm(queue="short")).script)


def test_what_nobody_says_is_asked_for() -> None:
    with pytest.raises(ProfileError, match=r"cores is not set; .* or as jobqueue\.slurm\.cores"):
        show(Slurm())


def test_workers_leave_before_the_walltime_and_not_all_at_once() -> None:
    assert slurm.lifetime("1-00:00:00", None, 120.0) == (86400 - 120 - 900, 900)
    mean, spread = slurm.lifetime("30", None, 120.0)
    assert mean + spread + 120 == 1800
    with pytest.raises(ProfileError, match="the walltime 3 leaves workers no time"):
        slurm.lifetime("3", 60.0, 120.0)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A machine on which SLURM's commands are ours."""
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{FAKES}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("FAKE_SLURM", str(folder))
        yield folder
    jobs = [int(file.read_text()) for file in folder.glob("job.*")]
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in jobs if psutil.pid_exists(pid)], timeout=20)
    assert not left


@pytest.fixture(scope="module")
def site(commands: Path) -> Slurm:
    """A small site: a job of two workers."""
    return Slurm(
        cores=2,
        memory=2 * 2**30,
        walltime="5:00",
        host="127.0.0.1",
        shared_directory=commands / "shared",
        local_directory=str(commands),
        log_directory=commands / "logs",
        dask={"distributed.deploy.lost-worker-timeout": "500ms"},
    )


def _files(folder: Path) -> dict[str, bytes]:
    """All files of the catalog but the one that holds the time of its making."""
    catalog = folder / "catalogs" / (folder / "CURRENT").read_text().strip()
    paths = (path for path in catalog.rglob("*") if path.is_file() and path != catalog / "zarr.json")
    return {str(path.relative_to(catalog)): path.read_bytes() for path in paths}


def _run(client: Client, folder: Path, weights: Path, pause: float = 0.0) -> survey.RunReport:
    return survey.run(
        client,
        folder,
        weights=weights,
        parameters=ToyParameters(pause=pause),
        shard_rows=20,
        loader=ToyInference.load,
    )


@pytest.fixture(scope="module")
def quiet(client: Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A survey not yet run, the same one run on this machine's cores, and the weights."""
    folder = tmp_path_factory.mktemp("surveys")
    weights = write_weights(folder / "weights")
    write_release(folder / "fresh", "dr1", np.arange(1, 81), seed=1)
    shutil.copytree(folder / "fresh", folder / "local")
    assert _run(client, folder / "local", weights).complete
    return folder / "fresh", folder / "local", weights


def test_a_survey_through_jobs_gives_the_catalog_of_this_machine(
    launched: Client, quiet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    fresh, local, weights = quiet
    folder = Path(shutil.copytree(fresh, tmp_path / "survey"))
    report = _run(launched, folder, weights)
    assert (report.complete, report.computed, report.rows_computed) == (True, 4, 80)
    assert _files(folder) == _files(local)
    assert _run(launched, folder, weights).computed == 0


def test_workers_have_their_names_memory_and_environment(launched: Client) -> None:
    workers = workers_of(launched).values()
    assert {worker["name"] for worker in workers} == {"twinlines-0-0", "twinlines-0-1"}
    assert {(worker["nthreads"], worker["memory_limit"]) for worker in workers} == {(1, 2**30)}
    for environment in launched.run(lambda: dict(os.environ)).values():
        assert {name: environment.get(name) for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT
    assert not any(launched.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks).values())


async def _connect(address: str, credentials: Security) -> None:
    comm = await connect(address, timeout=2, **credentials.get_connection_args("client"))
    await comm.close()


def test_nobody_connects_without_the_credentials(launched: Client) -> None:
    addresses = [launched.scheduler.address, *workers_of(launched)]
    assert all(address.startswith("tls://") for address in addresses)
    for address in addresses:
        asyncio.run(_connect(address, launched.security))
        with pytest.raises(CommClosedError):
            asyncio.run(_connect(address.replace("tls://", "tcp://"), Security()))
        with pytest.raises(CommClosedError, match="TLS certificate does not match"):
            asyncio.run(_connect(address, Security.temporary()))
        _intrude(address)


def _intrude(address: str) -> None:
    """Encrypt, believe whatever certificate is shown, show none: the other side must hang up without a word."""
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    parts = urlsplit(address)
    with (
        socket.create_connection((parts.hostname, parts.port), timeout=5) as plain,
        pytest.raises(ssl.SSLError, match=r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"),
        careless.wrap_socket(plain) as wrapped,
    ):
        wrapped.recv(1)


def test_dashboards_listen_on_this_machine_only_and_nothing_speaks_plainly(launched: Client) -> None:
    """The scheduler's and the workers' own words, held against the sockets of their processes."""
    assert launched.dashboard_link.startswith("http://127.0.0.1:")
    ports = launched.run(lambda dask_worker: (os.getpid(), dask_worker.http_server.port, dask_worker.port))
    for pid, dashboard, port in [
        *ports.values(),
        (os.getpid(), launched.cluster.scheduler.http_server.port, launched.cluster.scheduler.port),
    ]:
        sockets = [one.laddr for one in psutil.Process(pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        assert {one.ip for one in sockets if one.port == dashboard} == {"127.0.0.1"}
        if pid != os.getpid():  # of this process, other tests use other sockets
            assert {one.port for one in sockets} == {dashboard, port}


def test_the_credentials_are_this_user_s_and_go_with_the_cluster(site: Slurm) -> None:
    with security.temporary(site.shared_directory) as credentials:
        files = [Path(credentials.tls_ca_file), Path(credentials.tls_worker_key)]
        assert [file.stat().st_mode & 0o777 for file in (*files, files[0].parent)] == [0o600, 0o600, 0o700]
    assert not files[0].parent.exists()


def test_a_job_that_slurm_refuses_is_an_error_with_its_words(site: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SLURM_REFUSES", "Invalid account")
    with pytest.raises(LaunchError, match=r"SLURM does not take the job(.|\n)*Invalid account"), launch(site):
        pass


def test_jobs_that_end_before_a_worker_came_are_not_waited_for(site: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.2)
    broken = replace(site, prologue=("echo no such module", "exit 1"), log_directory=site.log_directory / "broken")
    with (
        pytest.raises(LaunchError, match=r"the jobs ended before a worker came; their output in .*/broken"),
        launch(broken),
    ):
        pass
    assert [file.read_text() for file in broken.log_directory.iterdir()] == ["no such module\n"]


def test_a_worker_that_does_not_come_in_time_is_an_error(site: Slurm) -> None:
    slow = replace(site, prologue=("sleep 60",), wait=0.3)
    with (
        pytest.raises(LaunchError, match=r"no worker came within 0\.3 s; SLURM says .* is running \('squeue --me'"),
        launch(slow),
    ):
        pass


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "QOSMaxCpuPerJobLimit"])
def test_jobs_that_can_never_start_are_not_waited_for(
    site: Slurm, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(slurm, "POLL", 0.2)
    monkeypatch.setenv("FAKE_SLURM_PENDING", reason)
    with (
        pytest.raises(LaunchError, match=rf"SLURM cannot start the jobs .*: \d+ is pending \({reason}\)"),
        launch(site),
    ):
        pass


def test_what_jobs_wait_for_is_told_once(site: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    # Not caplog, whose handler dask's cluster silences.
    monkeypatch.setattr(slurm._log, "warning", lambda text, *values: told.append(text % values))
    monkeypatch.setattr(slurm, "POLL", 0.2)
    monkeypatch.setenv("FAKE_SLURM_PENDING", "Resources")
    with (
        pytest.raises(LaunchError, match=r"no worker came within 2 s; SLURM says of the jobs: \d+ is pending \(Resour"),
        launch(replace(site, wait=2.0)),
    ):
        pass
    assert len(told) == 1
    assert "is pending (Resources)" in told[0]


def test_without_slurm_it_says_where_to_launch(monkeypatch: pytest.MonkeyPatch, site: Slurm) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LaunchError, match="no command sbatch"), launch(site):
        pass


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_job_that_is_lost_is_replaced(site: Slurm, forgotten: bool) -> None:
    """Also where its workers are asked for anew, and so forgotten, before the cluster hears that they have left."""
    with launch(site) as client:
        client.wait_for_workers(2, timeout=60)
        (job,) = client.cluster.job_ids
        before = set(workers_of(client))
        if forgotten:
            client.cluster.scheduler_info["workers"].clear()
        os.killpg(int((Path(os.environ["FAKE_SLURM"]) / f"job.{job}").read_text()), signal.SIGKILL)
        while set(workers_of(client)) & before:
            client.submit(str, 1, pure=False)
        client.wait_for_workers(2, timeout=60)
        assert client.cluster.job_ids != [job]
        names = {worker["name"] for worker in workers_of(client).values()}
        assert names == {"twinlines-0-0", "twinlines-0-1"}


@pytest.mark.slow
def test_a_survey_outlives_the_walltime_of_its_jobs(
    site: Slurm, quiet: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    fresh, local, weights = quiet
    folder = Path(shutil.copytree(fresh, tmp_path / "survey"))
    short = replace(site, cores=1, walltime="0:45", leave_before=15.0, stagger=2.0)
    with launch(short) as client:
        first = client.cluster.job_ids
        # The worker leaves 26 to 30 s after it came, and four shards of 8 s take it longer.
        assert _run(client, folder, weights, pause=8.0).complete
        assert client.cluster.job_ids != first
    assert _files(folder) == _files(local)


def test_ctrl_c_stays_the_command_s() -> None:
    """dask-jobqueue takes it when it is imported, and would end a run with status 0 and without a word."""
    looks = "import signal; from twinlines.cluster.site import parse; from twinlines.cluster.slurm import job_options; "
    works = "job_options(parse('slurm:cores=1,memory=1GiB,walltime=1:00:00')); "
    says = "assert 'dask_jobqueue' in __import__('sys').modules; print(signal.getsignal(signal.SIGINT))"
    done = subprocess.run([sys.executable, "-c", looks + works + says], capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout


def test_its_configuration_outlives_a_setting_that_was_there_before_it() -> None:
    """What dask.config.set makes it takes away at its end, and what was put beside it meanwhile."""
    works = (
        "import dask; from twinlines.cluster import jobqueue\n"
        "with dask.config.set({'jobqueue.slurm.cores': 8}): jobqueue.load()\n"
        "jobqueue.load(); print(dask.config.get('jobqueue.slurm.job-extra-directives'))"
    )
    done = subprocess.run([sys.executable, "-c", works], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
