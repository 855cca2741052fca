"""What a worker does to ingest a release: scan a batch of files into an index, write one shard of the exposures store.

Both are plain functions of paths; spectra go from file to store inside a task, or through a scratch file of rows, and
only markers and indexes come out. Knows files and stores, no Dask.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.ingest.filewalk import Batch, FileList, ListFile
from twinlines.pipeline.ingest.index import Index
from twinlines.pipeline.ingest.reader import PAUSES, Reading, read_all
from twinlines.pipeline.ingest.rows import ROW, read_back, records
from twinlines.pipeline.jobs.markers import Markers, fingerprint, fingerprint_of
from twinlines.pipeline.lamost import reader, times
from twinlines.pipeline.lamost.exposures import LamostError, MrsFile, OutOfReachError
from twinlines.pipeline.schema import Schema
from twinlines.pipeline.storage import atomic, stores


class IngestError(RuntimeError):
    """A release cannot be ingested as asked."""


INDEX, ROWS = "index", "rows"
"""Folders of what a scan writes: the batches' indexes, and the rows that they keep."""

PARTS = "parts"
"""Folder of what the client writes for the tasks that write shards: what each shard holds."""


def index_path(markers: Markers, batch: Batch) -> Path:
    """File of a batch's index."""
    return markers.folder / INDEX / f"{batch.key}.npz"


def rows_path(markers: Markers, batch: Batch) -> Path:
    """Scratch file of a batch's rows."""
    return markers.folder / ROWS / f"{batch.key}.rows"


def scan(
    batch: Batch, folder: Path, listed: ListFile, markers: Markers, reading: Reading, keep_rows: bool = False
) -> int:
    """Read every file of a batch wholly, write its index, then its marker, and return the number of files.

    Parameters
    ----------
    batch
        The batch.
    folder
        Folder that is ingested.
    listed
        The list of which the batch is a part; its paths are relative to the folder.
    markers
        Folder of the scan: its markers, indexes and kept rows.
    reading
        How files are read: in a process beside this one, which a file may bring down.
    keep_rows
        Keep the rows in a scratch file, so that writing need not read the files again.
    """
    keep = rows_path(markers, batch) if keep_rows else None
    rows: list[tuple[int | float, ...]] = []
    quarantined: list[tuple[int, str, str]] = []
    warnings: list[tuple[int, str]] = []
    if keep is not None:
        keep.unlink(missing_ok=True)  # of a scan that was broken off
    answers = read_all(
        (str(folder / name) for name in listed.paths(batch)), reading, None if keep is None else str(keep)
    )
    for number, answer in enumerate(answers):
        if answer.reason:
            quarantined.append((number, answer.reason, answer.message))
        warnings += [(number, problem) for problem in answer.problems]
        kept = answer.kept or (-1,) * len(answer.rows)
        rows += [(number, *row, place) for row, place in zip(answer.rows, kept, strict=True)]
    index = Index.of(rows, tuple(quarantined), tuple(warnings))
    data = index.to_bytes()
    atomic.write_bytes(index_path(markers, batch), data)
    markers.mark(batch.key, len(index), fingerprint_of(data), out_of_reach=index.out_of_reach, **batch.about)
    return batch.count


def scanned(markers: Markers, batch: Batch) -> dict[str, Any]:
    """The marker of a batch whose index is what was written; empty if there is none.

    It has the batch's ``rows``, and ``out_of_reach``, its files that the system did not let us read.
    """
    whole = markers.finished(batch.key, [index_path(markers, batch)], verify=True)
    return markers.marker(batch.key) if whole else {}


def read_index(markers: Markers, batch: Batch) -> Index:
    """The index of a batch that is scanned.

    Raises
    ------
    IngestError
        If it cannot be read back.
    """
    path = index_path(markers, batch)
    try:
        return Index.from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IngestError(f"{path}: what was scanned cannot be read back ({error}); ingest again") from error


@dataclass(frozen=True)
class FileRows:
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


@dataclass(frozen=True)
class Shard:
    """One shard of the release that is written."""

    start: int
    """First row."""
    rows: int
    """Number of rows."""
    key: str
    """Key of the task: a hash of the rows' content, of the files that they are from, and of the release's size."""

    @property
    def about(self) -> dict[str, int]:
        """What a failure's file should say of it."""
        return {"start": self.start, "stop": self.start + self.rows}

    def __str__(self) -> str:
        return f"rows {self.start} to {self.start + self.rows}"


def parts_path(markers: Markers, shard: Shard) -> Path:
    """File that says what a shard holds."""
    return markers.folder / PARTS / f"{shard.key}.json"


def write_parts(
    markers: Markers, shard: Shard, index: Index, rows: NDArray[np.int64], files: FileList, scanned: Markers
) -> None:
    """Write down what a shard holds, for the task that writes it: a task's arguments must be few, :class:`ListFile`.

    Parameters
    ----------
    markers
        Folder of the writing.
    shard
        The shard.
    index
        Rows of the folder that is ingested.
    rows
        (row,) those of them that the shard holds, in order.
    files
        The folder's files.
    scanned
        Folder of the scan.
    """
    numbers = index.file[rows]
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    listed = []
    for low, high in pairwise(cuts):
        some, number = rows[low:high], int(numbers[low])
        columns = (index.lmjm[some].tolist(), index.content_hash[some].tolist(), index.kept[some].tolist())
        listed.append((files.path(number), str(rows_path(scanned, files.batch(number))), *columns))
    atomic.write_bytes(parts_path(markers, shard), json.dumps(listed).encode())


def read_parts(markers: Markers, shard: Shard) -> Iterator[FileRows]:
    """What a shard holds, in order.

    Raises
    ------
    IngestError
        If that cannot be read.
    """
    path = parts_path(markers, shard)
    try:
        for name, rows, lmjm, content_hash, kept in json.loads(path.read_bytes()):
            yield FileRows(name, tuple(lmjm), tuple(content_hash), Path(rows), tuple(kept))
    except (OSError, ValueError) as error:
        raise IngestError(f"{path}: what {shard} are cannot be read ({error}); ingest again") from error


def write_rows(shard: Shard, folder: Path, store: Path, schema: Schema, markers: Markers) -> int:
    """Read the exposures of one shard, write the shard, then its marker; return the number of rows.

    Parameters
    ----------
    shard
        The shard.
    folder
        Folder that is ingested.
    store
        The exposures store, made beforehand.
    schema
        Its schema.
    markers
        Where the client has written what the shard holds, and where to note that the shard is done.

    Raises
    ------
    IngestError
        If a file that must be read again is not what it was when it was scanned.
    """
    rows = shard.rows
    columns: dict[str, NDArray[Any]] = {
        name: variable.empty(schema.shape(name, rows)) for name, variable in schema.variables.items()
    }
    mid_utc = np.full(rows, np.nan)
    row = 0
    for part in read_parts(markers, shard):
        part_rows, planid = _rows(folder, part)
        some = slice(row, row + len(part_rows))
        for name in ROW.names or ():
            if name in columns:
                columns[name][some] = part_rows[name]
        columns["planid"][some] = planid
        columns["source_file"][some] = part.path.encode("utf-8", "backslashreplace").decode()
        mid_utc[some] = part_rows["mid_utc"]
        row = some.stop
    columns["bjdmid"] = times.bjd_tdb(mid_utc, columns["ra"], columns["dec"])
    stores.write_shard(store, schema, shard.start, schema.dataset(columns, rows))
    files = stores.shard_files(store, schema, shard.start)
    stores.sync(files)  # a marker must not survive a power cut that its data do not
    markers.mark(shard.key, rows, fingerprint(files), **shard.about)
    return rows


def _read_patiently(path: Path) -> MrsFile:
    for pause in PAUSES:
        try:
            return reader.read(path)
        except OutOfReachError:
            time.sleep(pause)
    return reader.read(path)


def _rows(folder: Path, part: FileRows) -> tuple[NDArray[np.void], str]:
    """The rows of a part, of :data:`twinlines.pipeline.ingest.rows.ROW`, and their plan: kept ones, or read again."""
    expected = tuple(zip(part.lmjm, part.content_hash, strict=True))
    rows = read_back(part.rows, part.kept, expected)
    if rows is not None:
        return rows, rows["planid"][0].decode()
    try:
        file = _read_patiently(folder / part.path)
    except LamostError as error:
        raise IngestError(f"changed while it was ingested: {error}; or leave it out, and ingest again") from error
    rows = records(file)
    rows = rows[np.isin(rows["lmjm"], part.lmjm)]
    there = dict(zip(rows["lmjm"].tolist(), rows["content_hash"].tolist(), strict=True))
    for lmjm, content in expected:
        if there.get(lmjm) != content:
            raise IngestError(
                f"{folder / part.path}: exposure {lmjm} changed while it was ingested; "
                "let nobody write to the folder, and ingest again"
            )
    return rows, file.planid
