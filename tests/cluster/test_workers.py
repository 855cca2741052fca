"""What workers keep: loaded once on each, found by tasks, and a clear error where it cannot be loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client

from twinlines.cluster.workers import WorkerError, keeping, kept


def _counting_loader(folder: Path) -> Callable[[str], object]:
    """Make a loader that leaves a file for each time it ran. Nested, so that it travels by value."""

    def load(what: str) -> object:
        import os
        import uuid

        (folder / f"{os.getpid()}-{uuid.uuid4().hex}").touch()
        return {"what": what, "pid": os.getpid()}

    return load


def test_each_worker_loads_once_and_tasks_share_it(client: Client, tmp_path: Path) -> None:
    with keeping(client, "counted", _counting_loader(tmp_path), "ensemble"):
        found = client.gather([client.submit(kept, "counted", pure=False) for _ in range(20)])
    assert {one["what"] for one in found} == {"ensemble"}
    pids = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert sorted(pids) == sorted({str(pid) for pid in client.run(_pid()).values()})


def _pid() -> Callable[[], int]:
    def pid() -> int:
        import os

        return os.getpid()

    return pid


def test_it_is_let_go(client: Client) -> None:
    with keeping(client, "gone", str, "x"):
        assert client.submit(kept, "gone", pure=False).result() == "x"
    with pytest.raises(WorkerError, match="keeps nothing called 'gone'"):
        client.submit(kept, "gone", pure=False).result()


def test_a_loader_that_fails_says_so_at_once(client: Client) -> None:
    with (
        pytest.raises(WorkerError, match=r"the worker tcp://.* cannot load number: invalid literal for int"),
        keeping(client, "number", int, "no number"),
    ):
        pytest.fail("the context was entered")


def test_a_restarted_worker_loads_again_and_if_it_cannot_its_tasks_fail(client: Client, tmp_path: Path) -> None:
    (tmp_path / "loads").mkdir()
    path = tmp_path / "weights"
    path.write_text("w")
    with (
        keeping(client, "again", _counting_loader(tmp_path / "loads"), "ensemble"),
        keeping(client, "lost", Path.read_text, path),
    ):
        path.unlink()
        client.restart(timeout=60)
        assert client.submit(kept, "again", pure=False).result()["what"] == "ensemble"
        with pytest.raises(WorkerError, match=r"cannot load lost: .*No such file"):
            client.submit(kept, "lost", pure=False).result()
    assert len(list((tmp_path / "loads").iterdir())) == 2 * len(client.nthreads())


def test_outside_a_task_there_is_no_worker() -> None:
    with pytest.raises(ValueError, match="No worker found"):
        kept("anything")
