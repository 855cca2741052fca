"""The files under a folder that are named like spectra, walked lazily in the order of their paths; reads none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twinlines.pipeline.lamost import names as file_names

_EXAMPLES = 100


@dataclass(frozen=True)
class FoundFile:
    """A file that may be a spectrum."""

    path: str
    """Path relative to the folder, with slashes."""
    size: int
    """Bytes; -1 if it cannot be told."""
    changed: int
    """Time of its last change, ns since 1970; tells versions of one file apart, orders nothing."""


@dataclass
class PassedOver:
    """What a walk does not yield, though it may hold spectra: filled as the walk goes on."""

    hidden: int = 0
    """Hidden folders, with all in them, and hidden spectra: their names begin with a dot."""
    named_otherwise: int = 0
    """Files whose names resemble a spectrum's but are none, such as ``x.fits.gz.1``."""
    examples: list[str] = field(default_factory=list)
    """Paths of the first hundred, relative to the folder; folders end with a slash."""

    def add(self, path: str, *, hidden: bool) -> None:
        """Note a file or a folder."""
        self.hidden += hidden
        self.named_otherwise += not hidden
        if len(self.examples) < _EXAMPLES:
            self.examples.append(path)

    def __str__(self) -> str:
        counts = [(self.hidden, "hidden"), (self.named_otherwise, f"not named like spectra ({file_names.PATTERNS})")]
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        return f"{said}; the first is {self.examples[0]}" if said else "nothing"


def walk(folder: Path, passed_over: PassedOver | None = None) -> Iterator[FoundFile]:
    """Yield the FITS files under ``folder``, by their names, in the order of their paths.

    The names of one folder are in memory at a time, with those of the folders that hold it. Links are followed, but in
    no circle. Hidden folders and files are passed over: they hold what was thrown away, or half a copy.

    Parameters
    ----------
    folder
        The folder.
    passed_over
        Where to note what is not yielded.

    Raises
    ------
    OSError
        If a folder cannot be listed: what lacks its files must not pass for a whole release.
    """
    yield from _walk(str(folder), "", (os.path.realpath(folder),), passed_over or PassedOver())


def _walk(folder: str, prefix: str, way: tuple[str, ...], passed_over: PassedOver) -> Iterator[FoundFile]:
    with os.scandir(folder) as entries:
        # A folder sorts with its slash: this makes the order of the walk that of whole paths.
        names = [entry.name + "/" if _is_folder(entry) else entry.name for entry in entries]
    names.sort()
    for name in names:
        inside = name.endswith("/") or file_names.is_spectrum(name)
        if file_names.is_hidden(name):
            if inside:
                passed_over.add(prefix + name, hidden=True)
            continue
        if not inside:
            if file_names.resembles_spectrum(name):
                passed_over.add(prefix + name, hidden=False)
            continue
        path = f"{folder}/{name}"
        if not name.endswith("/"):
            yield _found(prefix + name, path)
            continue
        real = os.path.realpath(path)
        # A link may lead back to a folder that holds it, or to one through which we came.
        circle = Path(path).is_symlink() and any(Path(step).is_relative_to(real) for step in way)
        if not circle:
            yield from _walk(path.rstrip("/"), prefix + name, (*way, real), passed_over)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself is no folder; what does not answer may be a full one
            raise
        return False


def _found(name: str, path: str) -> FoundFile:
    try:
        status = Path(path).stat()
    except OSError:
        return FoundFile(name, -1, 0)  # reading it will say why
    return FoundFile(name, status.st_size, status.st_mtime_ns)
