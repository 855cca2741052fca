"""Files that are there whole or not at all: written aside, flushed to the disk, renamed into place.

Whoever sees a file under its final name sees all of it, also after a power cut. The pipeline's done-markers, reports
and publications rest on this as weights do; it stands here because the pipeline imports the networks, never they it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system that names no file (a full disk does not say which) the name ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old content or the new, never a part.

    Raises
    ------
    OSError
        If the folder is missing or the disk is full; then ``path`` is as it was.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.tmp")
    try:
        with naming(path), aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the entries of ``folder``: a rename survives a power cut only after this."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
