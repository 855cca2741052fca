"""Runs the tasks of a job over a Dask client, through a bounded window, and keeps account of those that fail.

A survey's run, an ingestion, an evaluation, a training and the making of a training set are all such jobs. What is done
has a marker (:class:`twinlines.pipeline.jobs.markers.Markers`), written after its data by whoever writes those: a task,
or the client in ``finished``. Knows no survey and no star.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from distributed import Client
from distributed.scheduler import KilledWorker

from twinlines.cluster.window import run_window
from twinlines.cluster.workers import GPU, every_worker_has_a_gpu
from twinlines.pipeline.jobs.markers import Markers

RETRIES = 2
"""How often a failed task is tried again."""


class JobError(RuntimeError):
    """A job cannot go on."""


class Piece(Protocol):
    """What a task computes; its text names it for people."""

    @property
    def key(self) -> str:
        """Key of the task."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What a failure's file should say of it, as JSON."""


Task = TypeVar("Task", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Failure:
    """A piece that failed to the last retry."""

    piece: str
    """The piece, in words."""
    error: str
    """Its error."""
    file: str
    """Where the traceback is."""

    def to_json(self) -> dict[str, str]:
        """Make a JSON object."""
        return {"shard": self.piece, "error": self.error, "file": self.file}


def compute(
    client: Client,
    markers: Markers,
    function: Callable[..., Any],
    tasks: Iterable[Task],
    finished: Callable[[Any, Any], None],
    *,
    together: bool = False,
) -> dict[str, Failure]:
    """Call ``function(*task)`` on the workers for each task; returns the failures by key.

    A task is tried :data:`RETRIES` times more when it fails; when it fails to the last, the others go on.

    Parameters
    ----------
    client
        Client of the cluster that computes.
    markers
        Where failures are written down.
    function
        Computes and keeps one piece.
    tasks
        Tuples of arguments, the first of which is the :class:`Piece`.
    finished
        Called with each piece that succeeded, and with what its task returned, which should be small.
    together
        Whether a GPU's worker, which has several threads, may compute several pieces at a time.

    Raises
    ------
    JobError
        If the cluster was lost, or a disk is full: then the other tasks would fail like the first.
    """
    failed: dict[str, Failure] = {}
    suspects: list[Task] = []

    def settle(task: Task, future: Any) -> None:
        piece: Any = task[0]
        if future.status == "error":
            failed[piece.key] = _failure(markers, piece, future)
        elif future.status != "finished":
            raise JobError(f"the cluster was lost ({piece} is {future.status}); run again: what has a marker is kept")
        else:
            try:
                result = future.result()
            except CancelledError as error:
                raise JobError(
                    f"the cluster was lost ({piece}: {error}); run again: what has a marker is kept"
                ) from error
            finished(piece, result)

    resources = None if together or not every_worker_has_a_gpu(client) else GPU
    with _full_disk_said():
        for task, future in run_window(client, function, tasks, retries=RETRIES, resources=resources):
            if future.status == "error" and isinstance(future.exception(), KilledWorker):
                suspects.append(task)
            else:
                settle(task, future)
        # What waited on a worker that died often is suspected with the task that killed it: each gets a worker alone.
        for suspect in suspects:
            for task, future in run_window(client, function, [suspect], retries=0, resources=resources):
                settle(task, future)
    return failed


_FREE = "free some space and give the same command again: what has a marker is kept"


@contextmanager
def _full_disk_said() -> Iterator[None]:
    """Say what to do where the client's own disk is full, on which tasks are prepared and their ends are written."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise JobError(f"{error}; {_FREE}") from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk is full, or a quota used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _failure(markers: Markers, piece: Any, future: Any) -> Failure:
    error = future.exception()
    if is_full(error):
        raise JobError(f"{piece}: {error}; {_FREE}") from error
    trace = "".join(traceback.format_exception(type(error), error, future.traceback()))
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, KilledWorker):
        words = (
            "its worker dies of it, each time; if that is for want of memory, give each worker more (fewer workers, or "
            f"memory=... in the profile): {error}"
        )
    path = markers.record_failure(piece.key, words, trace, **piece.about)
    return Failure(str(piece), words, str(path))
