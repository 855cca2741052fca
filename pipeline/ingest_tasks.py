"""What a worker does to ingest a release: scan a batch of files into an index, write one shard of the exposures store.

Both are plain functions of paths; spectra go from file to store inside a task, and only markers and indexes come out.
Knows files and stores, no Dask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline import atomic, lamost, ledger, stores, times
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.content import contents
from twinlines.pipeline.fitsreader import Reading, read_all
from twinlines.pipeline.ingest_index import Index
from twinlines.pipeline.lamost import LamostError
from twinlines.pipeline.mrs import Exposure, MrsFile
from twinlines.pipeline.schema import Schema


class IngestError(RuntimeError):
    """A release cannot be ingested as asked."""


def scan(folder: Path, files: tuple[str, ...], marker: Path, reading: Reading) -> int:
    """Read every file of a batch wholly, write its index to ``marker``, and return the number of rows.

    Parameters
    ----------
    folder
        Folder that is ingested.
    files
        Paths relative to it.
    marker
        Where the index goes; its existence says that the batch is done.
    reading
        How files are read: in a process beside this one, which a file may bring down.
    """
    rows: list[tuple[int, int, int, int]] = []
    quarantined: list[tuple[int, str, str]] = []
    warnings: list[tuple[int, str]] = []
    answers = read_all((str(folder / name) for name in files), reading)
    for number, answer in enumerate(answers):
        if answer.reason:
            quarantined.append((number, answer.reason, answer.message))
        warnings += [(number, problem) for problem in answer.problems]
        rows += [(number, *row) for row in answer.rows]
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
    files = stores.shard_files(store, schema, start)
    stores.sync(files)  # a marker must not survive a power cut that its data do not
    atomic.write_json(marker, {"key": key, "rows": rows, **ledger.fingerprint(files)})
    return rows


def _wanted(folder: Path, piece: Piece) -> Iterator[tuple[MrsFile, Exposure, int, float]]:
    try:
        file = lamost.read(folder / piece.path)
    except LamostError as error:
        raise IngestError(f"changed while it was ingested: {error}; or leave it out, and ingest again") from error
    found = {exposure.lmjm: (exposure, content, middle) for exposure, content, middle in contents(file)}
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
