"""Files, and folders of files, that are there whole or not at all, however an export of them ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.storage import atomic


@contextmanager
def file(path: Path, *, overwrite: bool, suffix: str = "") -> Iterator[Path]:
    """Lend the name of a file beside ``path``, which becomes ``path`` when the context ends well, and goes otherwise.

    Parameters
    ----------
    path
        File that is wanted. What a link leads to is replaced, and the link stays.
    overwrite
        Whether one that is there may be replaced.
    suffix
        Ending of the name that is lent.

    Raises
    ------
    ExportError
        If the file may not, or cannot, be written.
    """
    target = _target(path, overwrite=overwrite)
    if target.is_dir():
        raise ExportError(f"{path} is a folder; choose another name for the file")
    # A name of its own: two may export to one path at a time, and the last one's table stays.
    aside = target.with_name(f".partial-{uuid4().hex}{suffix}")
    with _said(path, lambda: aside.unlink(missing_ok=True)):
        yield aside
        atomic.sync_folder(aside)  # a file, too, is flushed so
        aside.replace(target)
        atomic.sync_folder(target.parent)


@contextmanager
def folder(path: Path, *, overwrite: bool, mark: str) -> Iterator[Path]:
    """Lend a new folder beside ``path``, which becomes ``path`` when the context ends well, and goes otherwise.

    Parameters
    ----------
    path
        Folder that is wanted.
    overwrite
        Whether one that is there may be replaced: only one that has a file ``mark``.
    mark
        Name of a file that all such folders have.

    Raises
    ------
    ExportError
        If the folder may not, or cannot, be written.
    """
    target = _target(path, overwrite=overwrite)
    if target.exists() and not (target / mark).is_file():
        raise ExportError(f"{path} is there and is no such table (it has no file {mark!r}); choose another name")
    aside = target.with_name(f".partial-{uuid4().hex}")
    old = target.with_name(f".replaced-{uuid4().hex}")
    with _said(path, lambda: shutil.rmtree(aside, ignore_errors=True)):
        aside.mkdir()
        yield aside
        for place, _, names in os.walk(aside):
            for name in (*names, "."):
                atomic.sync_folder(Path(place, name))
        if target.exists():
            target.rename(old)
        aside.rename(target)
        atomic.sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def _target(path: Path, *, overwrite: bool) -> Path:
    if path.exists() and not overwrite:
        raise ExportError(f"{path} exists already; choose another name or allow it to be overwritten (--overwrite)")
    target = path.resolve()
    if not target.parent.is_dir():
        raise ExportError(f"there is no folder {target.parent} to write {path.name} in; make it first")
    return target


@contextmanager
def _said(path: Path, remove: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        remove()
        if isinstance(error, OSError):
            said = error.strerror or str(error).splitlines()[0]  # further lines name what is beside it
            raise ExportError(f"{path} cannot be written ({said}); make room or choose another place") from error
        raise
