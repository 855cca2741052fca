"""Launching: real processes, reachable from this machine only, gone afterwards."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import NoWorkerError

from twinlines.cluster import launch as module
from twinlines.cluster import security
from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.launch import LaunchError, launch
from twinlines.cluster.profiles import Address, Local, SchedulerFile, Ssh


@pytest.fixture(scope="module")
def local() -> Iterator[Client]:
    with launch(Local(n_workers=1, memory=2**30)) as client:
        yield client


def test_workers_are_single_threaded_processes_with_single_threaded_libraries(local: Client) -> None:
    assert set(local.nthreads().values()) == {1}
    (worker,) = local.run(
        lambda: (os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ["RAYON_NUM_THREADS"])
    ).values()
    assert worker[0] != os.getpid()
    assert worker[1:] == ("1", "1")


def test_a_worker_has_the_memory_it_was_given(local: Client) -> None:
    assert set(local.run(lambda dask_worker: dask_worker.memory_manager.memory_limit).values()) == {2**30}


def test_nothing_listens_beyond_this_machine(local: Client) -> None:
    worker = psutil.Process(next(iter(local.run(os.getpid).values())))
    sockets = [one for one in worker.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}
    scheduler = local.cluster.scheduler
    ports = {scheduler.port, scheduler.http_server.port}
    sockets = [one for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in sockets if one.laddr.port in ports} == {"127.0.0.1"}
    assert {one.laddr.port for one in sockets} >= ports
    assert local.dashboard_link.startswith("http://127.0.0.1:")


def test_an_address_joins_a_scheduler_and_leaves_it_running(local: Client) -> None:
    with launch(Address(local.scheduler.address)) as joined:
        assert joined.submit(sum, [1, 2]).result() == 3
    assert local.submit(sum, [2, 3]).result() == 5


def test_an_address_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(LaunchError, match=f"no scheduler answers at tcp://{address}.*is it running"),
        launch(Address(f"tcp://{address}")),
    ):
        pass
    with pytest.raises(LaunchError, match="set the credentials"), launch(Address(f"tls://{address}")):
        pass


def test_a_scheduler_s_file_is_an_address(local: Client, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with pytest.raises(LaunchError, match=r"scheduler\.json names no scheduler"), launch(SchedulerFile(file=file)):
        pass
    file.write_text(json.dumps({"address": local.scheduler.address}))
    with launch(SchedulerFile(file=file)) as joined:
        assert joined.submit(sum, [1, 2]).result() == 3
    file.write_text(json.dumps({"address": "tcp://192.0.2.1:8786"}))
    with pytest.raises(LaunchError, match="not encrypted"), launch(SchedulerFile(file=file)):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "head.example.org", "[2001:db8::1]", "0.0.0.0", "127.evil.example.org"])
def test_a_plain_address_of_another_machine_is_refused(host: str) -> None:
    with (
        pytest.raises(LaunchError, match=f"tcp://{re.escape(host)}:8786 is not encrypted.*tls://HOST:PORT.*--insecure"),
        launch(Address(f"tcp://{host}:8786")),
    ):
        pass
    security.refuse_plain(f"tcp://{host}:8786", insecure=True)
    security.refuse_plain(f"tls://{host}:8786", insecure=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_a_plain_address_of_this_machine_is_none_of_others(host: str) -> None:
    security.refuse_plain(f"tcp://{host}:8786", insecure=False)


def test_one_s_own_credentials_join_a_scheduler(tmp_path: Path) -> None:
    with security.temporary(tmp_path) as credentials, LocalCluster(
        n_workers=1, processes=False, security=credentials, protocol="tls://", host="127.0.0.1",
        dashboard_address=security.LOOPBACK, worker_dashboard_address=security.LOOPBACK,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        own = Address(
            address,
            tls_ca_file=Path(credentials.tls_ca_file),
            tls_client_cert=Path(credentials.tls_client_cert),
            tls_client_key=Path(credentials.tls_client_key),
        )
        with launch(own) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        with launch(Address(address, dask=security.configuration(credentials))) as client:
            assert client.submit(sum, [2, 2]).result() == 4
        with (
            pytest.raises(LaunchError, match=r"tls_client_key: .*/none\.pem cannot be read"),
            launch(replace(own, tls_client_key=tmp_path / "none.pem")),
        ):
            pass


def test_without_the_package_that_makes_certificates_nothing_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no cryptography")

    monkeypatch.setattr(security.Security, "temporary", missing)
    with (
        pytest.raises(LaunchError, match=r"pip install 'twinlines\[tls\]'; .* say --insecure"),
        launch(Ssh(hosts=("node1",))),
    ):
        pass


def test_where_a_site_asks_for_tls_even_this_machine_s_workers_use_it(tmp_path: Path) -> None:
    with dask.config.set({"distributed.comm.require-encryption": True}):
        with launch(Local(n_workers=1)) as client:
            assert client.scheduler_info()["address"].startswith("tls://127.0.0.1:")
            assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(LaunchError, match="not encrypted, and dask's configuration asks for TLS"):
            next(launch(Address("tcp://127.0.0.1:1"), insecure=True).gen)
        ssh = Ssh(hosts=("node1",), shared_directory=tmp_path)
        with pytest.raises(LaunchError, match="--insecure contradicts dask's configuration"):
            next(launch(ssh, insecure=True).gen)


def test_a_machine_on_which_nothing_starts_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cluster(**_: object) -> None:
        # As dask has it: what happened is the cause of the cause.
        raise RuntimeError("Cluster failed to start") from OSError(24, "Too many open files")

    monkeypatch.setattr(module, "LocalCluster", no_cluster)
    with pytest.raises(LaunchError, match=r"no workers can be started on this machine: .*Too many open files"):
        next(launch(Local(n_workers=1)).gen)


def test_nothing_is_left_in_the_system_s_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with launch(Local(n_workers=1)) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_workers_of_every_nanny_have_the_environment_and_no_profiler(local: Client) -> None:
    (environment,) = local.run(lambda: dict(os.environ)).values()
    assert {name: environment.get(name) for name in WORKER_ENVIRONMENT} == WORKER_ENVIRONMENT
    assert not any(local.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks).values())


def test_workers_take_no_module_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python puts the working folder first on the path of what is run by -c, as these workers are."""
    for name in ("pickle", "selectors", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('run, and ought not to be')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with launch(Local(n_workers=1)) as client:
        assert client.submit(sum, [1, 2]).result(timeout=120) == 3
    # What workers are started with is not left in the caller's environment.
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("PYTHONSAFEPATH")) == ("7", None)


def test_tasks_fail_when_no_worker_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NO_WORKERS_TIMEOUT", "200 ms")
    with launch(Local(n_workers=1)) as client:
        client.cluster.scale(0)
        with pytest.raises(NoWorkerError):
            client.submit(sum, [1, 2]).result(timeout=120)


def test_no_process_stays_behind() -> None:
    before = set(psutil.Process().children(recursive=True))
    with launch(Local(n_workers=1)) as client:
        worker = next(iter(client.run(os.getpid).values()))
    assert not psutil.pid_exists(worker)
    left = {child for child in psutil.Process().children(recursive=True) if child.is_running()} - before
    assert not [child for child in left if "spawn_main" in " ".join(child.cmdline())]
