"""Warnings that are raised on workers, shown by the client's process: as it shows its own, and each text once.

A worker's own way to show one, path and line of code on its standard error, would end up among a command's messages, or
in the log of some node. A warning travels as an event, on the connection that tells the scheduler of finished tasks, so
that it is there before the result of the task that raised it is.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from distributed import Client, Worker, WorkerPlugin

from twinlines.cluster.workers import let_go

_TOPIC = "twinlines-warning"


class TellWarnings(WorkerPlugin):
    """Sends the warnings of a worker's process to whoever listens to ``twinlines-warning``.

    To be given to workers alone that are processes of their own, and ours: how warnings are shown is the process's.
    """

    idempotent = True
    _before: Callable[..., None]

    def setup(self, worker: Worker) -> None:
        """Show warnings by sending them (called by the worker)."""
        self._before = warnings.showwarning
        process = os.getpid()

        def send(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            stream = worker.batched_stream
            connected = stream is not None and stream.comm is not None and not stream.comm.closed()
            if connected and file is None and os.getpid() == process:  # a fork has no connection of its own
                told = {"text": str(message), "filename": filename, "lineno": lineno}
                worker.log_event(_TOPIC, {**told, "category": _named(category)})
            else:
                (file or sys.stderr).write(f"{category.__name__}: {message}\n")

        warnings.showwarning = send

    def teardown(self, worker: Worker) -> None:
        """Show warnings as before (called by the worker)."""
        warnings.showwarning = self._before


def _named(category: type[Warning]) -> bytes:
    try:
        return pickle.dumps(category)
    except Exception:  # of a class that was made within a function, say; whatever its metaclass raises
        return pickle.dumps(UserWarning)


@contextmanager
def telling_warnings(client: Client) -> Iterator[None]:
    """While the context lasts, show warnings of the client's workers, by ``warnings.showwarning``."""
    told: set[tuple[type[Warning], str]] = set()

    def heard(event: tuple[float, Mapping[str, Any]]) -> None:
        said = event[1]
        category, text = pickle.loads(said["category"]), said["text"]
        if (category, text) not in told:  # of many workers each has its own count of what was shown
            told.add((category, text))
            # Not warn_explicit: filters have had their say on the worker, and an error here would be nobody's.
            warnings.showwarning(text, category, said["filename"], said["lineno"])

    name = f"{_TOPIC} {client.id}"
    client.subscribe_topic(_TOPIC, heard)
    client.register_plugin(TellWarnings(), name=name)
    try:
        yield
    finally:
        if client.status == "running":
            with suppress(OSError, KeyError):
                client.unsubscribe_topic(_TOPIC)
            let_go(client, name)
