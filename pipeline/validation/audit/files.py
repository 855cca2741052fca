"""What the files of a folder say that they hold, batch by batch, read without ingestion's code or notes.

Only where contents are compared is the reader asked that ingestion uses, too: what a hash is of, it alone knows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.lamost import headers, reader
from twinlines.pipeline.lamost.content_hash import contents
from twinlines.pipeline.lamost.exposures import LamostError

CLAIM = np.dtype([("obsid", "<i8"), ("lmjm", "<i4"), ("arms", "u1"), ("file", "<u4"), ("content", "<u8")])
"""An exposure that a file says it has: identifiers, bits of its arms, number of the file, and hash of what it holds, 0
where that was not asked."""

_SPECTRUM = re.compile(r".*\.(fits|fit|fts)(\.(gz|bz2|xz|fz|z|zst|zip))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Listed:
    """A file of a folder."""

    path: str
    """Path relative to the folder, as a release writes it down."""
    real: str
    """Path by which it is opened."""
    changed: float
    """When it was changed, s since 1970; infinite if that cannot be told."""


@dataclass(frozen=True)
class Answer:
    """What one file said."""

    number: int
    """Number of the file."""
    claims: NDArray[np.void]
    """(exposure,) of :data:`CLAIM`."""
    problem: str
    """Why it could not be read to the end; empty: it could."""


def files(folder: Path) -> Iterator[Listed]:
    """Files under a folder whose names are those of spectra; hidden ones, which nobody ingests, left out."""
    yield from _walk(str(folder), "", (os.path.realpath(folder),))


def _walk(folder: str, prefix: str, way: tuple[str, ...]) -> Iterator[Listed]:
    with os.scandir(folder) as entries:
        there = sorted(entries, key=lambda entry: entry.name)
    for entry in there:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in way:  # a link may lead back
                yield from _walk(entry.path, f"{prefix}{entry.name}/", (*way, real))
        elif _SPECTRUM.fullmatch(entry.name):
            try:
                changed = entry.stat().st_mtime
            except OSError:
                changed = float("inf")
            yield Listed(as_written(prefix + entry.name), entry.path, changed)


def as_written(path: str) -> str:
    """A path as a release writes it down: what is no UTF-8 in escaped form."""
    return path.encode("utf-8", "backslashreplace").decode()


def digest(path: str) -> int:
    """A path as 64 bits."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


def ask(first: int, paths: tuple[str, ...], compare: bool) -> list[Answer]:
    """Ask files what they hold.

    Parameters
    ----------
    first
        Number of the first file.
    paths
        The files.
    compare
        Hash what their exposures hold, too, for which the files are read wholly.
    """
    return [_ask(first + place, Path(path), compare) for place, path in enumerate(paths)]


def _ask(number: int, path: Path, compare: bool) -> Answer:
    try:
        said = headers.claims(path)
    except OSError as error:
        return Answer(number, np.empty(0, CLAIM), str(error))
    hashes: dict[int, int] = {}
    problem = "" if said.whole else "its headers break off"
    if compare and said.whole:
        try:
            hashes = {exposure.lmjm: int(content) for exposure, content, _ in contents(reader.read(path))}
        except (LamostError, OSError) as error:
            problem = str(error)
    claims = np.zeros(len(said.arms), CLAIM)
    for row, (minute, arms) in zip(claims, sorted(said.arms.items()), strict=True):
        row["obsid"], row["lmjm"], row["arms"], row["file"] = said.obsid, minute, arms, number
        row["content"] = hashes.get(minute, 0)
    return Answer(number, claims, problem)
