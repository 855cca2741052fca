"""What a worker does to ingest a release: scan a batch of files into an index, write one shard of the exposures store.

Both are plain functions of paths; spectra go from file to store inside a task, or through a scratch file of rows, and
only markers and indexes come out. Knows files and stores, no Dask.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline import atomic, lamost, ledger, stores, times
from twinlines.pipeline.fitsreader import Reading, read_all
from twinlines.pipeline.ingest_index import Index
from twinlines.pipeline.ingest_rows import ROW, kept, records
from twinlines.pipeline.lamost import LamostError
from twinlines.pipeline.schema import Schema


class IngestError(RuntimeError):
    """A release cannot be ingested as asked."""


def scan(folder: Path, files: tuple[str, ...], marker: Path, reading: Reading, keep: Path | None = None) -> int:
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
    keep
        Scratch file for the rows, so that writing need not read the files again; None keeps none.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    quarantined: list[tuple[int, str, str]] = []
    warnings: list[tuple[int, str]] = []
    if keep is not None:
        keep.unlink(missing_ok=True)  # of a scan that was broken off
    answers = read_all((str(folder / name) for name in files), reading, None if keep is None else str(keep))
    for number, answer in enumerate(answers):
        if answer.reason:
            quarantined.append((number, answer.reason, answer.message))
        warnings += [(number, problem) for problem in answer.problems]
        for place, row in enumerate(answer.rows):
            rows.append((number, *row, answer.kept if answer.kept < 0 else answer.kept + place * ROW.itemsize))
    columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
    index = Index(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint64),
        np.array(columns[4], np.int64),
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
    rows: Path
    """Where their batch has kept its rows, if it has."""
    kept: tuple[int, ...]
    """Where they begin in it, bytes; -1 for one that was not kept."""


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
        If a file that must be read again is not what it was when it was scanned.
    """
    rows = sum(len(piece.lmjm) for piece in pieces)
    columns: dict[str, NDArray[Any]] = {
        name: variable.empty(schema.shape(name, rows)) for name, variable in schema.variables.items()
    }
    mid_utc = np.full(rows, np.nan)
    row = 0
    for piece in pieces:
        found, planid = _rows(folder, piece)
        some = slice(row, row + len(found))
        for name in ROW.names or ():
            if name in columns:
                columns[name][some] = found[name]
        columns["planid"][some] = planid
        columns["source_file"][some] = piece.path.encode("utf-8", "backslashreplace").decode()
        mid_utc[some] = found["mid_utc"]
        row = some.stop
    columns["bjdmid"] = times.bjd_tdb(mid_utc, columns["ra"], columns["dec"])
    stores.write_shard(store, schema, start, schema.dataset(columns, rows))
    files = stores.shard_files(store, schema, start)
    stores.sync(files)  # a marker must not survive a power cut that its data do not
    atomic.write_json(marker, {"key": key, "rows": rows, **ledger.fingerprint(files)})
    return rows


def _rows(folder: Path, piece: Piece) -> tuple[NDArray[np.void], str]:
    """The rows of a piece, of :data:`twinlines.pipeline.ingest_rows.ROW`, and their plan: kept ones, or read again."""
    expected = tuple(zip(piece.lmjm, piece.content_hash, strict=True))
    found = kept(piece.rows, piece.kept, expected)
    if found is not None:
        return found, found["planid"][0].decode()
    try:
        file = lamost.read(folder / piece.path)
    except LamostError as error:
        raise IngestError(f"changed while it was ingested: {error}; or leave it out, and ingest again") from error
    found = records(file)
    found = found[np.isin(found["lmjm"], piece.lmjm)]
    there = dict(zip(found["lmjm"].tolist(), found["content_hash"].tolist(), strict=True))
    for lmjm, content in expected:
        if there.get(lmjm) != content:
            raise IngestError(
                f"{folder / piece.path}: exposure {lmjm} changed while it was ingested; "
                "let nobody write to the folder, and ingest again"
            )
    return found, file.planid
