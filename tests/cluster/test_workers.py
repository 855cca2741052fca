"""What workers keep: loaded once on each, found by tasks, and a clear error where it cannot be loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.cluster.workers import WorkerError, device, keeping, kept_object


def _counting_loader(folder: Path) -> Callable[[str], object]:
    """Make a loader that leaves a file for each time it ran. Nested, so that it travels by value."""

    def load(what: str) -> object:
        import os
        import uuid

        (folder / f"{os.getpid()}-{uuid.uuid4().hex}").touch()
        return {"what": what, "pid": os.getpid()}

    return load


def test_each_worker_loads_once_and_tasks_share_it(client: Client, tmp_path: Path) -> None:
    with keeping(client, "counted", _counting_loader(tmp_path), "ensemble") as name:
        objects = client.gather([client.submit(kept_object, name, pure=False) for _ in range(20)])
    assert {made["what"] for made in objects} == {"ensemble"}
    pids = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert sorted(pids) == sorted(str(pid) for pid in client.run(os.getpid).values())


def test_it_is_let_go(client: Client) -> None:
    with keeping(client, "gone", str, "x") as name:
        assert client.submit(kept_object, name, pure=False).result() == "x"
    with pytest.raises(WorkerError, match=r"keeps nothing called 'twinlines-keeps Client-\S+ gone "):
        client.submit(kept_object, name, pure=False).result()


def test_two_clients_of_one_scheduler_have_what_they_asked_for(client: Client) -> None:
    """What one job calls its own, another's may be called as well."""
    address = client.scheduler_info()["address"]
    with Client(address) as other, keeping(client, "ensemble", str, "first") as mine:
        with keeping(other, "ensemble", str, "second") as theirs:
            assert client.submit(kept_object, mine, pure=False).result() == "first"
            assert other.submit(kept_object, theirs, pure=False).result() == "second"
        assert client.submit(kept_object, mine, pure=False).result() == "first"


_VICTIM = """
import sys, time
from distributed import Client
from twinlines.cluster.workers import keeping
with Client(sys.argv[1]) as client, keeping(client, "ensemble", str, "of the dead") as name:
    print(name, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_client_left_is_let_go(client: Client) -> None:
    address = client.scheduler_info()["address"]
    with subprocess.Popen([sys.executable, "-c", _VICTIM, address], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        left = victim.stdout.readline().strip()
        assert client.submit(kept_object, left, pure=False).result() == "of the dead"
        victim.kill()
    deadline = time.monotonic() + 60
    while left.split()[1] in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with keeping(client, "ensemble", str, "of the living") as name:
        assert client.submit(kept_object, name, pure=False).result() == "of the living"
        with pytest.raises(WorkerError, match="keeps nothing called"):
            client.submit(kept_object, left, pure=False).result()


def test_a_loader_that_fails_says_so_at_once(client: Client) -> None:
    with (
        pytest.raises(WorkerError, match=r"the worker tcp://.* cannot load number: invalid literal for int"),
        keeping(client, "number", int, "no number"),
    ):
        pytest.fail("the context was entered")


def test_a_new_worker_loads_again_and_if_it_cannot_its_tasks_fail(tmp_path: Path) -> None:
    (tmp_path / "loads").mkdir()
    path = tmp_path / "weights"
    path.write_text("w")
    with (
        launch(Local(n_workers=1)) as client,
        keeping(client, "again", _counting_loader(tmp_path / "loads"), "ensemble") as again,
        keeping(client, "lost", Path.read_text, path) as lost,
    ):
        path.unlink()
        (first,) = client.run(os.getpid).values()
        os.kill(first, signal.SIGKILL)
        made = client.submit(kept_object, again, pure=False, retries=2).result(timeout=120)
        assert made["what"] == "ensemble"
        assert made["pid"] != first
        with pytest.raises(WorkerError, match=r"cannot load lost: .*No such file"):
            client.submit(kept_object, lost, pure=False).result(timeout=120)
    assert len(list((tmp_path / "loads").iterdir())) == 2


def test_outside_a_task_there_is_no_worker() -> None:
    with pytest.raises(ValueError, match="No worker found"):
        kept_object("anything")


def test_loaders_and_tasks_learn_the_device_of_their_worker(client: Client) -> None:
    with keeping(client, "device", device) as name:
        assert client.submit(kept_object, name, pure=False).result() == "cpu"
    assert client.submit(device, pure=False).result() == "cpu"
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", resources={"GPU": 1}
        ) as cluster,
        Client(cluster) as gpus,
        keeping(gpus, "device", device) as name,
    ):
        assert gpus.submit(kept_object, name, pure=False).result() == "cuda"
        assert gpus.submit(device, pure=False).result() == "cuda"
    assert device() == "cpu"
