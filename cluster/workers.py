"""Which workers there are, and what one keeps between tasks: objects that are dear to load, such as an ensemble.

A loader and its arguments (a path, a hash) travel to the workers; the object itself never does. Every worker loads it
once, also one that joins later, and tasks ask for it with :func:`kept_object`, by a name that no other job has: on a
scheduler that several clients share, none is handed the ensemble of another, and one that was killed leaves nothing
behind for long.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from distributed import Client, Scheduler, Worker, WorkerPlugin, get_worker


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """What the scheduler knows of each worker, by address.

    Not ``client.scheduler_info()``: that returns a field which the client itself refreshes now and then without the
    workers, so that in a moment of bad luck there seem to be none.
    """
    identity: dict[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)  # type: ignore[union-attr]
    return dict(identity["workers"])


GPU = {"GPU": 1.0}
"""Resource of a worker that has a GPU; a task that asks for it has the GPU for itself."""


def every_worker_has_a_gpu(client: Client) -> bool:
    """Whether there are workers, and each has a GPU."""
    workers = workers_of(client).values()
    return bool(workers) and all((worker.get("resources") or {}).get("GPU") for worker in workers)


_device: ContextVar[str] = ContextVar("twinlines-device", default="cpu")
_tasks: ContextVar[int] = ContextVar("twinlines-tasks", default=1)


def device() -> str:
    """Device of the worker whose task or loader calls this, as torch names it: "cuda" where it has the resource GPU.

    Not what torch finds: many workers for a machine's cores must not all take its GPU. Without a worker, "cpu".
    """
    try:
        return _device_of(get_worker())
    except ValueError:
        return _device.get()


def tasks_at_once() -> int:
    """Tasks that the worker whose task or loader calls this computes at a time; 1 without a worker."""
    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return _tasks.get()


def _device_of(worker: Worker) -> str:
    return "cuda" if worker.state.total_resources.get("GPU") else "cpu"


_KEPT = "twinlines-keeps"


class WorkerError(RuntimeError):
    """A worker cannot load what it should keep, or does not keep what a task asks for."""


class Keep(WorkerPlugin):
    """Loads ``loader(*args)`` once on every worker and keeps it under ``name``.

    The loader runs in a thread, because a worker that does not answer for seconds is taken for dead. What it raises is
    kept, too, and raised to whoever asks for the object: a worker that refuses to start would leave a run waiting for
    ever.
    """

    def __init__(self, name: str, loader: Callable[..., object], *args: object) -> None:
        self.name = name
        self._loader = loader
        self._args = args
        self._object: object = None
        self._failure: str | None = None

    async def setup(self, worker: Worker) -> None:
        """Load the object (called by the worker)."""
        _device.set(_device_of(worker))
        _tasks.set(worker.state.nthreads)
        try:
            self._object = await asyncio.to_thread(self._loader, *self._args)
        except Exception as error:
            trace = "".join(traceback.format_exception(error)[-3:])
            self._failure = f"the worker {worker.address} cannot load {self.name}: {error}\n{trace}"

    def teardown(self, worker: Worker) -> None:
        """Let the object go (called by the worker)."""
        self._object = None

    def get(self) -> Any:
        """Return the object.

        Raises
        ------
        WorkerError
            With the loader's error, if it failed.
        """
        if self._failure is not None:
            raise WorkerError(self._failure)
        return self._object


def kept_object(name: str) -> Any:
    """Return, within a task, the object that this worker keeps under ``name``.

    Raises
    ------
    WorkerError
        If the worker keeps nothing of that name, or could not load it.
    """
    return _kept(name, get_worker())


def _kept(name: str, worker: Worker) -> Any:
    plugin = worker.plugins.get(name)
    if not isinstance(plugin, Keep):
        raise WorkerError(
            f"the worker {worker.address} keeps nothing called {name!r}; it was not registered, or let go"
        )
    return plugin.get()


def _check(name: str, dask_worker: Worker) -> str | None:
    try:
        _kept(name, dask_worker)
    except WorkerError as error:
        return str(error)
    return None


@contextmanager
def keeping(client: Client, what: str, loader: Callable[..., object], *args: object) -> Iterator[str]:
    """While the context lasts, every worker of ``client`` keeps ``loader(*args)``; yields the name to ask for it by.

    Objects of clients that are gone, which were killed perhaps before they could take them back, are let go first.

    Parameters
    ----------
    client
        A connected client.
    what
        What it is, for people.
    loader, args
        Make it, on a worker.

    Raises
    ------
    WorkerError
        If the loader fails on a worker that is there now; the message carries its error.
    """
    let_go_of_clients_gone(client, _KEPT)
    # The number makes it the name of this call alone: a scheduler takes a known name for the object that it knows.
    name = f"{_KEPT} {client.id} {what} {uuid4().hex}"
    client.register_plugin(Keep(what, loader, *args), name=name)
    try:
        for failure in client.run(_check, name, on_error="return").values():
            # A worker that is lost meanwhile is the scheduler's business, as at any other time.
            if isinstance(failure, BaseException) and not isinstance(failure, OSError):
                raise failure
            if isinstance(failure, str):
                raise WorkerError(failure)
        yield name
    finally:
        # Whoever lost the scheduler has an error to tell already; there is nothing to take back then.
        if client.status == "running":
            let_go(client, name)


def let_go(client: Client, name: str) -> None:
    """Take a plugin back from the workers, if it is still there."""
    # A worker that is leaving may have let go by itself (KeyError); another client may have, too (ValueError).
    with suppress(OSError, KeyError, ValueError):
        client.unregister_worker_plugin(name)


def let_go_of_clients_gone(client: Client, kind: str) -> None:
    """Take back plugins of clients that the scheduler no longer knows, which were killed perhaps.

    Parameters
    ----------
    client
        A connected client.
    kind
        The first word of their names; the second is the client's number.
    """
    for stale in client.run_on_scheduler(_of_clients_gone, kind):
        let_go(client, stale)


def _of_clients_gone(kind: str, dask_scheduler: Scheduler) -> list[str]:
    names = [name for name in dask_scheduler.worker_plugins if name.startswith(f"{kind} ")]
    return [name for name in names if name.split(" ")[1] not in dask_scheduler.clients]
