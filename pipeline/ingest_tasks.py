"""What a worker does to ingest a release: scan a batch of files into an index, write one shard of the exposures store.

Both are plain functions of paths; spectra go from file to store inside a task, and only markers and indexes come out.
Knows files and stores, no Dask.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline import atomic, lamost, stores, times
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.lamost import LamostError
from twinlines.pipeline.mrs import Exposure, MrsFile
from twinlines.pipeline.schema import Schema

CONTENT_VERSION = 1
"""Raised when the reader gives other values for the same file, or their hash is made in another way."""


class IngestError(RuntimeError):
    """A release cannot be ingested as asked."""


def content_hash(file: MrsFile, exposure: Exposure, mid_utc: float) -> int:
    """First 64 bits of BLAKE2b over all that results can depend on.

    That is pixels, masks, S/N, length, time, position and identifiers, but not the path: a copy is the same exposure.
    The time goes in as UTC of the telescope, not as BJD, whose last digits depend on the version of astropy.

    Parameters
    ----------
    file, exposure
        The exposure and the file it is from.
    mid_utc
        Middle of the exposure, modified Julian days, UTC.
    """
    planid = file.planid.encode()
    digest = hashlib.blake2b(digest_size=8, person=f"exposure {CONTENT_VERSION}".encode())
    digest.update(struct.pack("<5q", file.obsid, exposure.lmjm, file.lmjd, file.spid, file.fiberid))
    digest.update(struct.pack("<3dq", file.ra, file.dec, mid_utc, len(planid)) + planid)
    for name, arm in exposure.arms.items():
        digest.update(name.encode() + struct.pack("<2f", arm.snr, arm.exptime))
        for pixels in (arm.flux, arm.ivar, arm.loglam):
            digest.update(np.ascontiguousarray(pixels, "<f4").data)
        digest.update(np.ascontiguousarray(arm.mask, "u1").data)
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True)
class Index:
    """The rows that files would give, without their spectra; and what is wrong with the files."""

    file: NDArray[np.int64]
    """(row,) number of the file, from 0 in the order of sorted paths; ascending."""
    obsid: NDArray[np.int64]
    """(row,) observation identifier."""
    lmjm: NDArray[np.int32]
    """(row,) local modified Julian minute, ascending within a file."""
    content_hash: NDArray[np.uint64]
    """(row,) hash of the content; see :func:`content_hash`."""
    quarantined: tuple[tuple[int, str, str], ...]
    """File number, reason and message of each file that gives no row."""
    warnings: tuple[tuple[int, str], ...]
    """File number and message of what is wrong in files that are used nevertheless."""

    def __len__(self) -> int:
        return int(self.file.size)

    def to_bytes(self) -> bytes:
        """Return the index as the content of an ``.npz`` file."""
        notes = json.dumps({"quarantined": self.quarantined, "warnings": self.warnings})
        content = io.BytesIO()
        np.savez(
            content,
            file_number=self.file,
            obsid=self.obsid,
            lmjm=self.lmjm,
            content_hash=self.content_hash,
            notes=np.frombuffer(notes.encode(), np.uint8),
        )
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """Return what :meth:`to_bytes` stored.

        Raises
        ------
        ValueError
            If ``content`` is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                notes = json.loads(stored["notes"].tobytes())
                return cls(
                    file=stored["file_number"],
                    obsid=stored["obsid"],
                    lmjm=stored["lmjm"],
                    content_hash=stored["content_hash"],
                    quarantined=tuple((n, reason, message) for n, reason, message in notes["quarantined"]),
                    warnings=tuple((n, message) for n, message in notes["warnings"]),
                )
        except (KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"not an index of a release: {error}") from error

    @classmethod
    def concatenate(cls, parts: list[tuple[int, Index]]) -> Index:
        """Join indexes; each comes with the number of the file that is 0 in it."""
        return cls(
            file=np.concatenate([part.file + first for first, part in parts]),
            obsid=np.concatenate([part.obsid for _, part in parts]),
            lmjm=np.concatenate([part.lmjm for _, part in parts]),
            content_hash=np.concatenate([part.content_hash for _, part in parts]),
            quarantined=tuple((n + first, *rest) for first, part in parts for n, *rest in part.quarantined),  # type: ignore[misc]
            warnings=tuple((n + first, message) for first, part in parts for n, message in part.warnings),
        )


def scan(folder: Path, files: tuple[str, ...], marker: Path) -> int:
    """Read every file of a batch wholly, write its index to ``marker``, and return the number of rows.

    Parameters
    ----------
    folder
        Folder that is ingested.
    files
        Paths relative to it.
    marker
        Where the index goes; its existence says that the batch is done.
    """
    rows: list[tuple[int, int, int, int]] = []
    quarantined: list[tuple[int, str, str]] = []
    warnings: list[tuple[int, str]] = []
    for number, name in enumerate(files):
        try:
            file = lamost.read(folder / name)
        except LamostError as error:
            quarantined.append((number, str(error.reason), str(error)))
            continue
        warnings += [(number, problem) for problem in file.problems]
        rows += [(number, file.obsid, exposure.lmjm, content) for exposure, content, _ in _contents(file)]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    index = Index(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint64),
        tuple(quarantined),
        tuple(warnings),
    )
    atomic.write_bytes(marker, index.to_bytes())
    return len(index)


def _contents(file: MrsFile) -> Iterator[tuple[Exposure, int, float]]:
    """Yield each exposure with its content hash and the middle of it, UTC."""
    for exposure, mid_utc in zip(file.exposures, lamost.mid_exposure_utc(file).tolist(), strict=True):
        yield exposure, content_hash(file, exposure, mid_utc), mid_utc


@dataclass(frozen=True)
class Piece:
    """The rows that a shard takes from one file."""

    path: str
    """Path of the file, relative to the folder that is ingested."""
    lmjm: tuple[int, ...]
    """Its exposures that are wanted, ascending."""
    content_hash: tuple[int, ...]
    """Their content, as scanned."""


def write_rows(
    folder: Path, store: Path, schema: Schema, start: int, pieces: tuple[Piece, ...], marker: Path, key: str
) -> int:
    """Read the exposures of one shard, write the shard, then its marker; return the number of rows.

    Parameters
    ----------
    folder
        Folder that is ingested.
    store
        The exposures store, made beforehand.
    schema
        Its schema.
    start
        First row of the shard.
    pieces
        What the shard holds, in order.
    marker
        Where to note that the shard is done.
    key
        What the marker says: the key of the shard's content.

    Raises
    ------
    IngestError
        If a file is not what it was when it was scanned.
    """
    rows = sum(len(piece.lmjm) for piece in pieces)
    columns: dict[str, NDArray[Any]] = {
        name: variable.empty(schema.shape(name, rows)) for name, variable in schema.variables.items()
    }
    mid_utc = np.full(rows, np.nan)
    row = 0
    for piece in pieces:
        for file, exposure, content, middle in _wanted(folder, piece):
            _fill(columns, row, file, exposure)
            columns["source_file"][row] = piece.path.encode("utf-8", "backslashreplace").decode()
            columns["content_hash"][row] = content
            mid_utc[row] = middle
            row += 1
    columns["bjdmid"] = times.bjd_tdb(mid_utc, columns["ra"], columns["dec"])
    stores.write_shard(store, schema, start, schema.dataset(columns, rows))
    _flush(store, start // schema.shard_rows)
    atomic.write_json(marker, {"key": key, "rows": rows})
    return rows


def _wanted(folder: Path, piece: Piece) -> Iterator[tuple[MrsFile, Exposure, int, float]]:
    try:
        file = lamost.read(folder / piece.path)
    except LamostError as error:
        raise IngestError(f"changed while it was ingested: {error}; or leave it out, and ingest again") from error
    found = {exposure.lmjm: (exposure, content, middle) for exposure, content, middle in _contents(file)}
    for lmjm, expected in zip(piece.lmjm, piece.content_hash, strict=True):
        exposure, content, middle = found.get(lmjm, (None, 0, 0.0))
        if exposure is None or content != expected:
            raise IngestError(
                f"{folder / piece.path}: exposure {lmjm} changed while it was ingested; "
                "let nobody write to the folder, and ingest again"
            )
        yield file, exposure, content, middle


def _fill(columns: dict[str, NDArray[Any]], row: int, file: MrsFile, exposure: Exposure) -> None:
    for name in ("obsid", "lmjd", "planid", "spid", "fiberid", "ra", "dec"):
        columns[name][row] = getattr(file, name)
    columns["lmjm"][row] = exposure.lmjm
    for name, arm in exposure.arms.items():
        place = row, ARM_NAMES.index(name)
        for variable in ("snr", "exptime", "flux", "ivar", "loglam", "mask"):
            columns[variable][place] = getattr(arm, variable)


def _flush(store: Path, shard: int) -> None:
    """Force a shard's files to the disk: a marker must not survive a power cut that its data do not."""
    for variable in store.iterdir():
        place = variable / "c" / str(shard)
        for file in [place] if place.is_file() else place.rglob("*"):
            if file.is_file():
                handle = os.open(file, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
