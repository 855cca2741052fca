"""The FITS files under a folder, however many: walked lazily, in the order of their paths, and listed on disk.

A release has a million files. As Python objects, their list would be hundreds of megabytes on the client; here it is a
file, cut into batches, and a batch is read when it is wanted. Knows folders and names, no FITS.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
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


@dataclass(frozen=True)
class Batch:
    """Some consecutive files of a list."""

    number: int
    """Number of the batch, from 0."""
    first: int
    """Number of its first file."""
    count: int
    """Its files."""
    offset: int
    """Where its lines begin in the list's file, bytes."""
    key: str
    """Hash of its files' paths, sizes and times: a file that is another by one of them makes it another batch."""

    @property
    def about(self) -> dict[str, int]:
        """What a failure's file should say of it."""
        return {"first": self.first, "count": self.count}

    def __str__(self) -> str:
        return f"files {self.first} to {self.first + self.count} of the list"


class FileList:
    """The files that were found, on disk, in batches; numbered from 0 in the order of paths."""

    def __init__(self, file: Path, batches: tuple[Batch, ...], batch_files: int) -> None:
        self._file = file
        self.batches = batches
        self._batch_files = batch_files
        # Rows come in the order of files: two batches' paths at hand serve a look at each row in turn.
        self._cached = lru_cache(maxsize=2)(self._read)

    def __len__(self) -> int:
        return self.batches[-1].first + self.batches[-1].count if self.batches else 0

    @classmethod
    def write(cls, file: Path, found: Iterable[FoundFile], batch_files: int, salt: str) -> FileList:
        """Write the list to ``file``, in batches of ``batch_files``, whose keys also hash ``salt``."""
        batches: list[Batch] = []
        source, first = iter(found), 0
        with file.open("wb") as out:
            while some := list(islice(source, batch_files)):
                offset, digest = out.tell(), hashlib.blake2b(salt.encode(errors="surrogateescape"), digest_size=16)
                for one in some:
                    line = json.dumps([one.path, one.size, one.changed]).encode() + b"\n"
                    digest.update(line)
                    out.write(line)
                batches.append(Batch(len(batches), first, len(some), offset, digest.hexdigest()))
                first += len(some)
        return cls(file, tuple(batches), batch_files)

    def paths(self, batch: Batch) -> tuple[str, ...]:
        """Paths of a batch's files, relative to the folder."""
        return self._cached(batch.number)

    def batch(self, number: int) -> Batch:
        """Batch of one file."""
        return self.batches[number // self._batch_files]

    def path(self, number: int) -> str:
        """Path of one file."""
        return self._cached(number // self._batch_files)[number % self._batch_files]

    def _read(self, number: int) -> tuple[str, ...]:
        batch = self.batches[number]
        with self._file.open("rb") as lines:
            lines.seek(batch.offset)
            return tuple(json.loads(line)[0] for line in islice(lines, batch.count))
