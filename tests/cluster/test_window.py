from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest
from distributed import Client

from twinlines.cluster.environment import FEW_MESSAGES
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.cluster.window import TASKS_PER_WORKER, run_window


def square(number: int) -> int:
    if number == 13:
        raise ValueError("13 is unlucky")
    return number**2


def mark(folder: str, number: int) -> int:
    (Path(folder) / str(number)).touch()
    return number


def pid_of_worker(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_every_task_comes_back_once_with_its_result(client: Client) -> None:
    results = {task: future.result() for task, future in run_window(client, square, ((n,) for n in range(12)))}
    assert results == {(n,): n**2 for n in range(12)}


def test_a_client_that_was_closed_out_of_turn_does_not_matter(client: Client) -> None:
    """Dask's current client is then a closed one, in whose loop nothing ever finishes."""

    def close_out_of_turn() -> dict[tuple[int], int]:
        first, second = Client(client.scheduler.address), Client(client.scheduler.address)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        return {task: future.result() for task, future in run_window(client, square, ((n,) for n in range(3)))}

    # In a context of its own: the current client is a context's, and other tests have this one's.
    assert copy_context().run(close_out_of_turn) == {(n,): n**2 for n in range(3)}


def test_tasks_are_drawn_no_faster_than_they_finish(client: Client) -> None:
    drawn = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal drawn
        for drawn in range(1, 41):
            yield (drawn + 100,)

    window = TASKS_PER_WORKER * sum(client.nthreads().values())
    for finished, _ in enumerate(run_window(client, square, tasks()), start=1):
        assert drawn <= finished + window
    assert drawn == 40


def test_a_scheduler_forgets_what_it_has_handed_out(client: Client) -> None:
    """Dask would keep the last thousand messages to each worker, and what tasks were handed in them."""
    logs = [comm.recent_message_log for comm in client.cluster.scheduler.stream_comms.values()]
    assert [log.maxlen for log in logs] == [*FEW_MESSAGES.values()] * 2


def test_a_failed_task_is_handed_over_and_the_others_go_on(client: Client) -> None:
    errors, results = [], []
    for _, future in run_window(client, square, [(n,) for n in (12, 13, 14)], retries=0):
        if future.status == "error":
            errors.append(str(future.exception()))
        else:
            results.append(future.result())
    assert errors == ["13 is unlucky"]
    assert sorted(results) == [144, 196]


def test_a_caller_who_stops_leaves_nothing_queued(client: Client, tmp_path: Path) -> None:
    window = run_window(client, mark, ((str(tmp_path), number) for number in range(100)))
    next(window)
    window.close()  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) <= 2 * TASKS_PER_WORKER * sum(client.nthreads().values())


def test_no_tasks(client: Client) -> None:
    with pytest.raises(StopIteration):
        next(run_window(client, square, []))


def test_workers_that_come_later_widen_the_window() -> None:
    drawn = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal drawn
        for drawn in range(1, 31):
            yield (drawn,)

    with launch(Local(n_workers=1)) as client:
        window = run_window(client, pid_of_worker, tasks())
        next(window)
        assert drawn == 1 + TASKS_PER_WORKER
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=120)
        next(window)
        assert drawn == 2 + 2 * TASKS_PER_WORKER
        assert len({future.result() for _, future in window}) == 2
    assert drawn == 30


def test_a_result_that_dies_with_its_worker_is_computed_again() -> None:
    """It was finished, and lost before anybody looked: no end of the cluster."""
    with launch(Local(n_workers=1)) as own:
        window = run_window(own, pid_of_worker, [(1,), (2,)])
        _, first = next(window)
        worker = first.result()
        (second,) = (state for key, state in own.futures.items() if key != first.key)
        deadline = time.monotonic() + 60
        while second.status != "finished" and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(worker, signal.SIGKILL)
        while second.status != "lost" and time.monotonic() < deadline:
            time.sleep(0.001)
        assert second.status == "lost"
        task, future = next(window)
        assert (task, future.status) == ((2,), "finished")
        assert future.result() != worker
        assert next(window, None) is None
