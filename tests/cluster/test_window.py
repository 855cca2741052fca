from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from twinlines.cluster.window import TASKS_PER_WORKER, run_window


def square(number: int) -> int:
    if number == 13:
        raise ValueError("13 is unlucky")
    return number**2


def mark(folder: str, number: int) -> int:
    (Path(folder) / str(number)).touch()
    return number


def test_every_task_comes_back_once_with_its_result(client: Client) -> None:
    results = {task: future.result() for task, future in run_window(client, square, ((n,) for n in range(12)))}
    assert results == {(n,): n**2 for n in range(12)}


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
