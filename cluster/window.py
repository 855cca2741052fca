"""A bounded window of tasks: the scheduler never sees more of a job than the workers can chew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from distributed import Client, as_completed

Task = TypeVar("Task", bound=tuple[Any, ...])

TASKS_PER_WORKER = 2
"""Outstanding tasks per worker thread: one that runs and one that waits, so that no worker idles."""


def run_window(
    client: Client,
    function: Callable[..., Any],
    tasks: Iterable[Task],
    *,
    retries: int = 2,
    resources: dict[str, float] | None = None,
) -> Iterator[tuple[Task, Any]]:
    """Call ``function(*task)`` on the workers for each task, and yield (task, finished future) as they finish.

    ``tasks`` is consumed lazily, at most :data:`TASKS_PER_WORKER` tasks per worker thread ahead; workers that come
    later, as jobs leave a queue, widen the window as soon as a task finishes. The future is
    finished, so its ``result()`` returns, or raises what the task raised after ``retries`` retries, at once. Results
    should be small: they pass through the scheduler's memory and the client's.
    """
    source = iter(tasks)
    running: dict[Any, Task] = {}

    def submit(task: Task) -> Any:
        future = client.submit(function, *task, pure=False, retries=retries, resources=resources)
        running[future] = task
        return future

    def room() -> int:
        try:
            threads: int = max(1, sum(client.nthreads().values()))
        except OSError:  # the scheduler is gone, and what runs is about to end as lost
            return 0
        return max(0, TASKS_PER_WORKER * threads - len(running))

    # Without a loop, it takes that of whichever client this process used last, which may be closed: none would finish.
    finished = as_completed([submit(task) for task in islice(source, room())], loop=client.loop)
    try:
        for future in finished:
            if future.status in ("lost", "pending"):
                # The worker that had the result died before we looked at it: another computes it again.
                finished.add(future)
                continue
            task = running.pop(future)
            # A future that is neither finished nor an error was lost with its scheduler, which takes no more.
            for following in islice(source, room() if future.status in ("finished", "error") else 0):
                finished.add(submit(following))
            yield task, future
            future.release()
    finally:
        # Reached early when the caller stops, or fails: what is still queued must not run on.
        client.cancel(list(running))
