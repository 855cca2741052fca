"""Ingest a release: a folder of LAMOST MRS FITS files becomes an immutable store of exposures in a survey.

Two passes, both as tasks on the workers of a Dask client. *Scan* reads every file wholly and notes which
rows it would give, by key and content hash, or why it gives none. From these notes alone, the client settles which file
gives a row that several have, which rows earlier releases have already, and in which order rows stand. *Write* fills
the store, one task per shard, from rows that the scan has kept in scratch files, as far as there was room for them, or
from the files once more. What is done is marked, so that a killed ingestion goes on where it was; the release
appears under its name by one atomic rename.

Files: ``releases/.<name>.work`` holds the list of files, the markers and the scratch files,
``releases/.<name>.partial`` the release in the making; both are gone when ``releases/<name>`` is there, with
``exposures.zarr``, ``release.json``, ``checksums.json`` and ``report.json``. The workers must see the folder and the
survey under the client's paths.
"""

from __future__ import annotations

import hashlib
import json
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
from twinlines.pipeline import atomic, ledger, plan, sizing, stores
from twinlines.pipeline.content import CONTENT_VERSION
from twinlines.pipeline.filewalk import Batch, FileList, walk
from twinlines.pipeline.fitsreader import Reading
from twinlines.pipeline.ingest_index import Index, Known, resolve
from twinlines.pipeline.ingest_report import Conflict, FileWarning, IngestReport, Quarantined
from twinlines.pipeline.ingest_tasks import IngestError, Piece, scan, write_rows
from twinlines.pipeline.jobs import is_full
from twinlines.pipeline.plan import Release
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES, Schema

__all__ = ["Conflict", "FileWarning", "IngestError", "IngestReport", "Quarantined", "ingest"]

KEPT_SHARE = 0.25
"""Largest part of the free space that scans may use to keep rows. A row takes 105 kB there, twice what it takes in a
release; where the space is needed for the release, what was kept goes, and files are read again."""

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
    reading: Reading | None = None,
    ignore_plan: bool = False,
) -> IngestReport:
    """Make release ``release`` of ``survey`` from the FITS files under ``folder``.

    Rows are keyed by (obsid, lmjm) and stand in the order of (path, lmjm). Of several files that have one exposure, the
    first in the order of paths gives it. The release follows the survey's newest one, and holds only exposures that are
    new, or differ in content from the newest row that the releases so far have of them. A file that cannot be used, be
    it that the reader crashes on it, is in the report, and the rest goes on.

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
    reading
        How files are read, and how long for one is too long.
    ignore_plan
        Write the release even if memory or space seem too small for it.

    Raises
    ------
    IngestError
        If the name is taken or unusable, the folder has no FITS file or none with an exposure (then its message says
        where the report is), a file changes meanwhile, a disk is full, or a task fails to the last retry. What is done
        stays done: ingesting again goes on from there.
    twinlines.pipeline.ledger.SurveyLockedError
        If another ingestion is at work on the survey.
    twinlines.pipeline.sizing.SizingError
        If the workers' memory, or the space on the disk, is too small for the release. What is scanned stays done.
    OSError
        If a folder cannot be listed.
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
    if next(walk(folder), None) is None:
        raise IngestError(f"no *.fits or *.fits.gz file in {folder}; give the folder that holds the FITS files")
    work.mkdir(parents=True, exist_ok=True)
    with ledger.lock(survey, f"ingest {release}", ledger.INGEST_LOCK):
        if target.exists():  # whoever held the lock may have made it
            raise IngestError(f"{target} exists already, and a release never changes; choose another name")
        files = FileList.write(work / "files.jsonl", walk(folder), files_per_task, f"{folder} {CONTENT_VERSION}")
        earlier = plan.releases(survey)
        tell, how = progress or silent, reading or Reading()
        job = _Job(client, folder, survey, release, work, schema, tell, earlier, how, ignore_plan)
        report = job.run(files)
        shutil.rmtree(work)
    return report


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
    earlier: tuple[Release, ...]
    reading: Reading
    ignore_plan: bool

    @property
    def target(self) -> Path:
        return self.survey / "releases" / self.release

    @property
    def partial(self) -> Path:
        return self.target.with_name(f".{self.release}.partial")

    def run(self, files: FileList) -> IngestReport:
        index = self._scan(files)
        kept, duplicates, conflicts = resolve(index)
        known = Known.of(_key_columns(release) for release in self.earlier)
        new, changed = known.compare(index.obsid[kept], index.lmjm[kept], index.content_hash[kept])
        report = IngestReport(
            release=self.release,
            follows=self.earlier[-1].name if self.earlier else None,
            folder=str(self.folder),
            files_seen=len(files),
            rows=int(np.sum(new | changed)),
            new=int(np.sum(new)),
            changed=int(np.sum(changed)),
            unchanged=int(np.sum(~new & ~changed)),
            duplicates=duplicates,
            conflicts=tuple(
                Conflict(int(index.obsid[a]), int(index.lmjm[a]), files.path(index.file[a]), files.path(index.file[b]))
                for a, b in conflicts.tolist()
            ),
            quarantined=tuple(Quarantined(files.path(n), reason, message) for n, reason, message in index.quarantined),
            warnings=tuple(FileWarning(files.path(n), message) for n, message in index.warnings),
        )
        if not len(kept):
            atomic.write_json(self.work / "report.json", report.to_json())
            raise IngestError(
                f"none of the {len(files)} files in {self.folder} has a usable exposure; "
                f"{self.work / 'report.json'} says why of each"
            )
        stored = kept[new | changed]
        shards = self._write(index, stored, files)
        self._publish(report, _content_digest(index, stored), shards)
        return report

    def _scan(self, files: FileList) -> Index:
        """Scan what is not scanned, and return the index of all files."""
        markers = [_scan_marker(self.work, batch) for batch in files.batches]
        missing = [batch for batch in files.batches if _stored_index(markers[batch.number]) is None]
        done = len(files) - sum(batch.count for batch in missing)
        self.progress("scan", done, len(files))
        used = sum(path.stat().st_size for path in self.work.glob("*.rows"))
        room = KEPT_SHARE * (shutil.disk_usage(self.work).free + used)

        def tasks() -> Iterator[tuple[Any, ...]]:
            for batch in missing:
                marker = markers[batch.number]
                keep = _kept_rows(marker) if used < room else None
                yield self.folder, files.paths(batch), marker, self.reading, keep

        for task in self._run(scan, tasks()):
            if task[4] is not None and task[4].exists():
                used += task[4].stat().st_size
            done += len(task[1])
            self.progress("scan", done, len(files))
        return Index.concatenate(
            [(batch.first, Index.from_bytes(markers[batch.number].read_bytes())) for batch in files.batches]
        )

    def _write(self, index: Index, stored: NDArray[np.int64], files: FileList) -> list[dict[str, Any]]:
        """Write the shards that are not written; returns all shards' checksums."""
        store = self._store(len(stored))
        size = self.schema.shard_rows
        starts = range(0, len(stored), size)
        markers = [self.work / f"shard-{number:06d}.json" for number in range(len(starts))]
        salt = f"{self.folder} {len(stored)}"
        keys = [_content_digest(index, stored[start : start + size], files, salt) for start in starts]
        missing = [n for n, key in enumerate(keys) if _stored_shard(markers[n]).get("key") != key]
        still = sum(min(size, len(stored) - starts[n]) for n in missing)
        need = sizing.of_ingest(still, self.schema)
        if shutil.disk_usage(self.survey).free < need.disk:
            for path in self.work.glob("*.rows"):
                path.unlink()
        sizing.require(self.client, self.survey, need, ignore=self.ignore_plan)
        done = len(stored) - still
        self.progress("write", done, len(stored))
        tasks = (
            (
                self.folder,
                store,
                self.schema,
                starts[n],
                tuple(_pieces(index, stored[starts[n] : starts[n] + size], files, self.work)),
                markers[n],
                keys[n],
            )
            for n in missing
        )
        for task in self._run(write_rows, tasks):
            done += min(size, len(stored) - task[3])
            self.progress("write", done, len(stored))
        return [{name: shard[name] for name in ("size", "sha256")} for shard in map(_stored_shard, markers)]

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

    def _publish(self, report: IngestReport, digest: str, shards: list[dict[str, Any]]) -> None:
        about = {
            "name": self.release,
            "number": self.earlier[-1].number + 1 if self.earlier else 1,
            "follows": report.follows,
            "rows": report.rows,
            "new": report.new,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "quarantined": len(report.quarantined),
            "created": ledger.now(),
            "digest": digest,
            "twinlines": metadata.version("twinlines"),
            "folder": str(self.folder),
        }
        atomic.write_json(self.partial / "report.json", report.to_json())
        atomic.write_json(self.partial / plan.CHECKSUMS, {"shard_rows": self.schema.shard_rows, "shards": shards})
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
                if is_full(error):
                    raise IngestError(
                        f"{error}; free some space and give the same command again: what is done stays done"
                    ) from error
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


def _stored_shard(marker: Path) -> dict[str, Any]:
    """What a shard's marker says; nothing, if there is none."""
    try:
        said = json.loads(marker.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return said if isinstance(said, dict) and {"key", "size", "sha256"} <= set(said) else {}


def _key_columns(release: Release) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    columns = plan.key_columns(release, 0, release.rows)
    return columns["obsid"], columns["lmjm"], columns["content_hash"]


def _content_digest(index: Index, rows: NDArray[np.int64], files: FileList | None = None, salt: str = "") -> str:
    """Digest of rows by key and content, in their order; with ``files``, also of the files they are from."""
    digest = hashlib.blake2b(salt.encode(errors="surrogateescape"), digest_size=16)
    for column, dtype in ((index.obsid, "<i8"), (index.lmjm, "<i4"), (index.content_hash, "<u8")):
        digest.update(column[rows].astype(dtype).tobytes())
    if files is not None:
        digest.update(json.dumps([files.path(n) for n in index.file[rows].tolist()]).encode())
    return digest.hexdigest()


def _scan_marker(work: Path, batch: Batch) -> Path:
    return work / f"scan-{batch.key}.npz"


def _kept_rows(marker: Path) -> Path:
    """Where the scan with this marker keeps rows."""
    return marker.with_suffix(".rows")


def _pieces(index: Index, rows: NDArray[np.int64], files: FileList, work: Path) -> Iterator[Piece]:
    """Group a shard's rows by file."""
    numbers = index.file[rows]
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(rows)]
    for low, high in pairwise(cuts):
        some, number = rows[low:high], int(numbers[low])
        yield Piece(
            files.path(number),
            tuple(index.lmjm[some].tolist()),
            tuple(index.content_hash[some].tolist()),
            _kept_rows(_scan_marker(work, files.batch(number))),
            tuple(index.kept[some].tolist()),
        )
