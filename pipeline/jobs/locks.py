"""The lock of a folder: of two processes that want to work in it, the second is refused, and told who is at work.

``filelock`` holds it, by the kernel's ``flock``: the kernel lets go when the holder dies, however it dies. Between
machines this holds where the file system passes ``flock`` on: NFS from Linux 2.6.12 on (unless it is mounted with
``local_lock=flock``), and Lustre that is mounted with ``-o flock``; Lustre's ``localflock`` sees one machine only.
Where a file system has no ``flock`` at all, newer versions of ``filelock`` make do with a file that exists while the
lock is held, which a holder that dies may leave behind; older ones refuse.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from twinlines.pipeline.jobs.markers import now, read_json
from twinlines.pipeline.storage import atomic

LOCK = ".lock"
"""File of a job's lock; in a survey's folder, that of its runs."""

PATIENCE = 0.2
"""Seconds to wait for a lock: whoever merely asks who holds it, holds it for an instant."""


class LockedError(RuntimeError):
    """Somebody else is at work in the folder."""


def _holder_path(path: Path) -> Path:
    # Beside the lock's file, which filelock may empty.
    return path.with_name(f"{path.name}.holder")


@contextmanager
def lock(folder: Path, purpose: str, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a folder.

    Parameters
    ----------
    folder
        Folder of a survey, or of another job.
    purpose
        What for, in a word.
    name
        Name of the lock's file: what may go on at the same time has locks of its own.

    Raises
    ------
    LockedError
        If it is held, naming the holder.
    """
    path = Path(folder) / name
    held = FileLock(path, timeout=PATIENCE)
    try:
        held.acquire(poll_interval=PATIENCE / 4)
    except Timeout:
        raise LockedError(f"{folder} is in use by {_in_words(path)}; wait until it has finished, or end it") from None
    try:
        holder = {"purpose": purpose, "pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        atomic.write_bytes(_holder_path(path), (json.dumps(holder) + "\n").encode())
        yield
    finally:
        _holder_path(path).unlink(missing_ok=True)
        held.release()


def _in_words(path: Path) -> str:
    about = read_json(_holder_path(path))
    if not about:
        return "a process that has just started"
    return f"'{about['purpose']}', process {about['pid']} on {about['host']}, since {about['since']}"


def holder(folder: Path, name: str = LOCK) -> str | None:
    """Who holds a lock of the folder, in words; None if nobody does.

    Where the folder may not be written to, what the last holder left is believed.
    """
    path = Path(folder) / name
    if not path.exists():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return _in_words(path)
    except PermissionError:
        return _in_words(path) if _holder_path(path).exists() else None
