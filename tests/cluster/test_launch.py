"""Launching: real processes, reachable from this machine only, gone afterwards."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import psutil
import pytest
from distributed import Client
from distributed.scheduler import NoWorkerError

from twinlines.cluster import launch as module
from twinlines.cluster.launch import LaunchError, launch
from twinlines.cluster.profiles import Address, Local


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
    assert local.scheduler.address.startswith("tcp://127.0.0.1:")
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
