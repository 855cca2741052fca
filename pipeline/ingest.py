"""Ingest a release: a folder of LAMOST MRS FITS files becomes an immutable store of exposures in a survey.

Two passes over the files, both as tasks on the workers of a Dask client. *Scan* reads every file wholly and notes which
rows it would give, by key and content hash, or why it gives none. From these notes alone, the client settles which file
gives a row that several have, and in which order rows stand. *Write* fills the store, one task per shard. What is done
is marked, so that a killed ingestion goes on where it was; the release appears under its name by one atomic rename.

Files: ``releases/.<name>.work`` holds the markers, ``releases/.<name>.partial`` the release in the making; both are
gone when ``releases/<name>`` is there, with ``exposures.zarr``, ``release.json`` and ``report.json``.
The workers must see the folder and the survey under the client's paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from twinlines.cluster.window import run_window
from twinlines.pipeline import atomic, ledger, stores
from twinlines.pipeline.ingest_report import Conflict, FileWarning, IngestReport, Quarantined
from twinlines.pipeline.ingest_tasks import CONTENT_VERSION, Index, IngestError, Piece, scan, write_rows
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES, Schema

__all__ = ["Conflict", "FileWarning", "IngestError", "IngestReport", "Quarantined", "ingest"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def ingest(
    client: Client,
    folder: Path,
    survey: Path,
    release: str,
    *,
    progress: Progress | None = None,
    files_per_task: int = 256,
    schema: Schema = EXPOSURES,
) -> IngestReport:
    """Make release ``release`` of ``survey`` from the FITS files under ``folder``.

    Rows are keyed by (obsid, lmjm) and stand in the order of (path, lmjm). Of several files that have one exposure, the
    first in the order of paths gives it. A file that cannot be used is in the report, and the rest goes on.

    Parameters
    ----------
    client
        Whose workers do it.
    folder
        Searched for ``*.fits`` and ``*.fits.gz``, subfolders and links included.
    survey
        Folder of the survey; made if it is not there.
    release
        Name of the new release: letters, digits, ``.``, ``_``, ``-``.
    progress
        Called with "scan" (files) and "write" (exposures).
    files_per_task
        Files of one task of the first pass.
    schema
        Of the exposures store; another than the default only to test with small shards.

    Raises
    ------
    IngestError
        If the name is taken or unusable, the folder has no FITS file or none with an exposure (then its message says
        where the report is), a file changes meanwhile, or a task fails to the last retry. What is done stays done:
        ingesting again goes on from there.
    """
    folder, survey = Path(folder).resolve(), Path(survey).resolve()
    target = survey / "releases" / release
    if not _NAME.fullmatch(release):
        raise IngestError(f"{release!r} cannot name a release; use letters, digits, '.', '_' and '-', e.g. 'dr8'")
    if files_per_task < 1:
        raise IngestError(f"files_per_task is {files_per_task}; give 1 or more")
    if not folder.is_dir():
        raise IngestError(f"{folder} is not a folder; give the folder that holds the FITS files")
    work = target.with_name(f".{release}.work")
    if target.exists():
        shutil.rmtree(work, ignore_errors=True)
        raise IngestError(f"{target} exists already, and a release never changes; choose another name for the new one")
    files = find_files(folder)
    if not files:
        raise IngestError(f"no *.fits or *.fits.gz file in {folder}; give the folder that holds the FITS files")
    work.mkdir(parents=True, exist_ok=True)
    with ledger.lock(work, f"ingest {release}"):
        job = _Job(client, folder, survey, release, work, schema, progress or silent)
        report = job.run(files, files_per_task)
        shutil.rmtree(work)
    return report


@dataclass(frozen=True)
class FoundFile:
    """A file that may be a spectrum."""

    path: str
    """Path relative to the folder, with slashes."""
    size: int
    """Bytes; -1 if it cannot be told."""
    changed: int
    """Time of its last change, ns since 1970."""


def find_files(folder: Path) -> list[FoundFile]:
    """Return the FITS files under ``folder``, by their names, sorted by path; links are followed, but in no circle."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent)
        folders[:] = [name for name in folders if not _leads_back(here / name, folder)]
        for name in names:
            if name.lower().endswith((".fits", ".fits.gz")):
                path = here / name
                try:
                    status = path.stat()
                    size, changed = status.st_size, status.st_mtime_ns
                except OSError:
                    size, changed = -1, 0  # reading it will say why
                found.append(FoundFile(path.relative_to(folder).as_posix(), size, changed))
    return sorted(found, key=lambda file: file.path)


def _leads_back(path: Path, top: Path) -> bool:
    """Whether a link leads to a folder that holds it, or one of those through which we came from ``top`` to it."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    way = [path.parent, *path.parent.parents]
    return any(step.resolve().is_relative_to(target) for step in way[: way.index(top) + 1])


def resolve(index: Index) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Settle which row of several with one key is kept: that of the first file.

    The comparison with earlier releases belongs here: what is known already, by key and content, need not be kept.

    Returns
    -------
    kept : (row of the release,) int64
        Rows of the index, ascending.
    duplicates : int
        Rows left out with the content of the one kept.
    conflicts : (conflict, 2) int64
        Row kept and row left out, where their contents differ.
    """
    if not len(index):
        return np.empty(0, np.int64), 0, np.empty((0, 2), np.int64)
    order = np.lexsort((index.file, index.lmjm, index.obsid))
    obsid, lmjm, content = index.obsid[order], index.lmjm[order], index.content_hash[order]
    first = np.ones(order.size, bool)
    first[1:] = (obsid[1:] != obsid[:-1]) | (lmjm[1:] != lmjm[:-1])
    winner = np.maximum.accumulate(np.where(first, np.arange(order.size), 0))
    differs = content != content[winner]
    conflicts = np.stack([order[winner[differs]], order[differs]], axis=1)
    return np.sort(order[first]), int(np.sum(~first & ~differs)), conflicts[np.argsort(conflicts[:, 1])]


@dataclass(frozen=True)
class _Job:
    """One ingestion."""

    client: Client
    folder: Path
    survey: Path
    release: str
    work: Path
    schema: Schema
    progress: Progress

    @property
    def target(self) -> Path:
        return self.survey / "releases" / self.release

    @property
    def partial(self) -> Path:
        return self.target.with_name(f".{self.release}.partial")

    def run(self, files: list[FoundFile], files_per_task: int) -> IngestReport:
        index = self._scan(files, files_per_task)
        kept, duplicates, conflicts = resolve(index)
        paths = [file.path for file in files]
        report = IngestReport(
            release=self.release,
            folder=str(self.folder),
            files_seen=len(files),
            rows=len(kept),
            duplicates=duplicates,
            conflicts=tuple(
                Conflict(int(index.obsid[a]), int(index.lmjm[a]), paths[index.file[a]], paths[index.file[b]])
                for a, b in conflicts.tolist()
            ),
            quarantined=tuple(Quarantined(paths[n], reason, message) for n, reason, message in index.quarantined),
            warnings=tuple(FileWarning(paths[n], message) for n, message in index.warnings),
        )
        if not len(kept):
            atomic.write_json(self.work / "report.json", report.to_json())
            raise IngestError(
                f"none of the {len(files)} files in {self.folder} has a usable exposure; "
                f"{self.work / 'report.json'} says why of each"
            )
        self._write(index, kept, paths)
        self._publish(report, index, kept)
        return report

    def _scan(self, files: list[FoundFile], files_per_task: int) -> Index:
        """Scan what is not scanned, and return the index of all files."""
        batches = [files[i : i + files_per_task] for i in range(0, len(files), files_per_task)]
        markers = [self.work / f"scan-{self._batch_key(batch)}.npz" for batch in batches]
        indexes = {n: found for n, marker in enumerate(markers) if (found := _stored_index(marker)) is not None}
        missing = [n for n in range(len(batches)) if n not in indexes]
        done = sum(len(batches[n]) for n in indexes)
        self.progress("scan", done, len(files))
        tasks = ((self.folder, tuple(file.path for file in batches[n]), markers[n]) for n in missing)
        for task in self._run(scan, tasks):
            done += len(task[1])
            self.progress("scan", done, len(files))
        for n in missing:
            indexes[n] = Index.from_bytes(markers[n].read_bytes())
        return Index.concatenate([(n * files_per_task, indexes[n]) for n in range(len(batches))])

    def _batch_key(self, batch: list[FoundFile]) -> str:
        """Key of a batch: a file that is other by path, size or time makes it another batch."""
        content = [str(self.folder), CONTENT_VERSION, [(file.path, file.size, file.changed) for file in batch]]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    def _write(self, index: Index, kept: NDArray[np.int64], paths: list[str]) -> None:
        """Write the shards that are not written."""
        store = self._store(len(kept))
        size = self.schema.shard_rows
        starts = range(0, len(kept), size)
        markers = [self.work / f"shard-{number:06d}.json" for number in range(len(starts))]
        keys = [
            _content_digest(index, kept[start : start + size], paths_of=paths, salt=f"{self.folder} {len(kept)}")
            for start in starts
        ]
        missing = [n for n, key in enumerate(keys) if _stored_key(markers[n]) != key]
        done = len(kept) - sum(min(size, len(kept) - starts[n]) for n in missing)
        self.progress("write", done, len(kept))
        tasks = (
            (
                self.folder,
                store,
                self.schema,
                starts[n],
                tuple(_pieces(index, kept[starts[n] : starts[n] + size], paths)),
                markers[n],
                keys[n],
            )
            for n in missing
        )
        for task in self._run(write_rows, tasks):
            done += min(size, len(kept) - task[3])
            self.progress("write", done, len(kept))

    def _store(self, rows: int) -> Path:
        """Return the store, made anew if there is none of this many rows."""
        store = self.partial / "exposures.zarr"
        if store.exists():
            if len(stores.read_columns(store, ["obsid"])["obsid"]) == rows:
                return store
            shutil.rmtree(self.partial)
        for marker in self.work.glob("shard-*.json"):
            marker.unlink()
        self.partial.mkdir(exist_ok=True)
        fresh = self.partial / ".fresh.zarr"
        shutil.rmtree(fresh, ignore_errors=True)
        stores.create(fresh, self.schema, rows, {"release": self.release})
        fresh.rename(store)
        return store

    def _publish(self, report: IngestReport, index: Index, kept: NDArray[np.int64]) -> None:
        about = {
            "name": self.release,
            "rows": report.rows,
            "quarantined": len(report.quarantined),
            "created": ledger.now(),
            "digest": _content_digest(index, kept),
            "twinlines": metadata.version("twinlines"),
            "folder": str(self.folder),
        }
        atomic.write_json(self.partial / "report.json", report.to_json())
        atomic.write_json(self.partial / "release.json", about)
        self.partial.rename(self.target)
        atomic.sync_folder(self.target.parent)

    def _run(self, function: Callable[..., int], tasks: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Run tasks on the workers, and yield each when it is done."""
        for task, future in run_window(self.client, function, tasks):
            try:
                future.result()
            except IngestError:
                raise
            except Exception as error:
                raise IngestError(
                    f"a task of ingesting {self.folder} failed ({function.__name__}, {type(error).__name__}: {error}); "
                    "mend the cause and ingest again: what is done stays done"
                ) from error
            yield task


def _stored_index(marker: Path) -> Index | None:
    try:
        return Index.from_bytes(marker.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _stored_key(marker: Path) -> str | None:
    try:
        return str(json.loads(marker.read_bytes())["key"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _content_digest(index: Index, rows: NDArray[np.int64], paths_of: list[str] | None = None, salt: str = "") -> str:
    """Digest of rows by key and content, in their order; with ``paths_of``, also of the files they are from."""
    digest = hashlib.blake2b(salt.encode(errors="surrogateescape"), digest_size=16)
    for column, dtype in ((index.obsid, "<i8"), (index.lmjm, "<i4"), (index.content_hash, "<u8")):
        digest.update(column[rows].astype(dtype).tobytes())
    if paths_of is not None:
        digest.update(json.dumps([paths_of[n] for n in index.file[rows].tolist()]).encode())
    return digest.hexdigest()


def _pieces(index: Index, rows: NDArray[np.int64], paths: list[str]) -> Iterator[Piece]:
    """Group a shard's rows by file."""
    files = index.file[rows]
    cuts = [0, *(np.flatnonzero(np.diff(files)) + 1).tolist(), len(rows)]
    for low, high in pairwise(cuts):
        some = rows[low:high]
        yield Piece(paths[files[low]], tuple(index.lmjm[some].tolist()), tuple(index.content_hash[some].tolist()))
