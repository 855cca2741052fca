"""The FITS files under a folder, however many, listed on disk in the order of their paths.

A release has a million files. As Python objects, their list would be hundreds of megabytes on the client; here it is a
file, cut into batches, and a batch is read when it is wanted. Knows folders and names, no FITS.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from twinlines.pipeline.lamost.walking import FoundFile as FoundFile
from twinlines.pipeline.lamost.walking import PassedOver as PassedOver
from twinlines.pipeline.lamost.walking import walk as walk


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


@dataclass(frozen=True)
class ListFile:
    """Where a list is: what tasks are told of it, so that no paths travel with them.

    A scheduler keeps the last thousand messages to each worker, and with them what tasks were handed.
    """

    path: Path
    """The file: a line for each FITS file."""
    salt: str
    """What the batches' keys hash besides its lines."""

    def paths(self, batch: Batch) -> tuple[str, ...]:
        """Read the paths of a batch's files, relative to the folder.

        Raises
        ------
        ValueError
            If the file has other lines than the batch was made of.
        """
        with self.path.open("rb") as file:
            file.seek(batch.offset)
            lines = list(islice(file, batch.count))
        if _key(self.salt, lines) != batch.key:
            raise ValueError(f"{self.path} has other files than it had for {batch}: ingest again, and once at a time")
        return tuple(json.loads(line)[0] for line in lines)


def _key(salt: str, lines: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(salt.encode(errors="surrogateescape"), digest_size=16)
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


class FileList:
    """The files that were found, on disk, in batches; numbered from 0 in the order of paths."""

    def __init__(self, file: ListFile, batches: tuple[Batch, ...], batch_files: int) -> None:
        self.file = file
        self.batches = batches
        self._batch_files = batch_files
        # Rows come in the order of files: two batches' paths at hand serve a look at each row in turn.
        self._cached = lru_cache(maxsize=2)(self._read)

    def __len__(self) -> int:
        return self.batches[-1].first + self.batches[-1].count if self.batches else 0

    @classmethod
    def write(cls, file: Path, listed: Iterable[FoundFile], batch_files: int, salt: str) -> FileList:
        """Write the list to ``file``, in batches of ``batch_files``, whose keys also hash ``salt``."""
        batches: list[Batch] = []
        source, first = iter(listed), 0
        with file.open("wb") as out:
            while some := list(islice(source, batch_files)):
                offset = out.tell()
                lines = [json.dumps([each.path, each.size, each.changed]).encode() + b"\n" for each in some]
                out.writelines(lines)
                batches.append(Batch(len(batches), first, len(some), offset, _key(salt, lines)))
                first += len(some)
        return cls(ListFile(file, salt), tuple(batches), batch_files)

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
        return self.file.paths(self.batches[number])
