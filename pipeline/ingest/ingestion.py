"""Ingest a release: a folder of LAMOST MRS FITS files becomes an immutable store of exposures in a survey.

Two passes, both as tasks on the workers of a Dask client. *Scan* reads every file wholly and notes which
rows it would give, by key and content hash, or why it gives none. From these notes alone, the client settles which file
gives a row that several have, which rows earlier releases have already, and in which order rows stand. *Write* fills
the store, one task per shard, from rows that the scan has kept in scratch files, as far as there was room for them, or
from the files once more. What is done is marked, so that a killed ingestion goes on where it was; the release
appears under its name by one atomic rename.

Files: beside the release's place are a work folder, with the list of files and, of both passes, the markers and what
they are of, and the release in the making; both are gone when ``releases/<name>`` is there, with
``exposures.zarr``, ``release.json``, ``checksums.json`` and ``report.json``. The workers must see the folder and the
survey under the client's paths.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from twinlines.pipeline.ingest.filewalk import Batch, FileList, PassedOver, walk
from twinlines.pipeline.ingest.index import Index, fibre_name
from twinlines.pipeline.ingest.reader import Reading
from twinlines.pipeline.ingest.report import Conflict, FileWarning, IngestReport, Quarantined
from twinlines.pipeline.ingest.settling import KNOWN_COLUMNS, Stranger, settle
from twinlines.pipeline.ingest.tasks import (
    INDEX,
    PARTS,
    ROWS,
    IngestError,
    Shard,
    index_path,
    parts_path,
    read_index,
    rows_path,
    scan,
    scanned,
    write_parts,
    write_rows,
)
from twinlines.pipeline.jobs import engine, sizing
from twinlines.pipeline.jobs.markers import Markers, now
from twinlines.pipeline.lamost import names as file_names
from twinlines.pipeline.lamost.content_hash import CONTENT_VERSION
from twinlines.pipeline.lamost.exposures import Reason
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import EXPOSURES, Schema
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey import integrity
from twinlines.pipeline.survey.folder import ReleaseInTheMaking, Survey
from twinlines.pipeline.survey.releases import REPORT, STORE, Release, write_about

__all__ = ["Conflict", "FileWarning", "IngestError", "IngestReport", "Quarantined", "ingest"]

KEPT_SHARE = 0.25
"""Largest part of the free space that scans may use to keep rows. A row takes some 63 kB there, a little more than in a
release; where the space is needed for the release, what was kept goes, and files are read again."""


SCAN_VERSION = 4
"""Raised when a scan notes something else of the same file: what an ingestion of before has scanned is scanned anew."""

KNOWN_ROWS = 16 * EXPOSURES.shard_rows
"""Rows of earlier releases whose keys are in memory at a time."""

ROUNDS = 2
"""How often batches are scanned of which the system does not let us read all files: again when all others are."""


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
    without_unreadable: bool = False,
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
        Searched for files that are named like spectra (:mod:`twinlines.pipeline.lamost.names`), subfolders and links
        included, hidden folders and files not.
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
    without_unreadable
        Make the release without files that the system does not let us read, instead of raising an error. They are in
        the report, and the next release takes them.

    Raises
    ------
    IngestError
        If the name is taken or unusable, the folder has no FITS file or none with an exposure (then its message says
        where the report is), the system does not let us read a file, a file changes meanwhile, or a task fails to the
        last retry. What is done stays done: ingesting again goes on from there.
    twinlines.pipeline.jobs.locks.LockedError
        If another ingestion is at work on the survey.
    twinlines.pipeline.jobs.engine.JobError
        If the cluster was lost, or a disk is full. What is done stays done.
    twinlines.pipeline.jobs.sizing.SizingError
        If the workers' memory, or the space on the disk, is too small for the release. What is scanned stays done.
    OSError
        If a folder cannot be listed.
    """
    folder, place = Path(folder).resolve(), Survey.at(survey)
    making = place.new_release(release)
    target, work = making.target, making.work
    if files_per_task < 1:
        raise IngestError(f"files_per_task is {files_per_task}; give 1 or more")
    if not folder.is_dir():
        raise IngestError(f"{folder} is not a folder; give the folder that holds the FITS files")
    if target.exists():
        shutil.rmtree(work, ignore_errors=True)
        raise IngestError(f"{target} exists already, and a release never changes; choose another name for the new one")
    nowhere = PassedOver()
    if next(walk(folder, nowhere), None) is None:
        raise IngestError(
            f"no file in {folder} is named like a spectrum ({file_names.PATTERNS}); give the folder that holds the "
            f"FITS files. Passed over: {nowhere}"
        )
    work.mkdir(parents=True, exist_ok=True)
    with place.ingest_lock(f"ingest {release}"):
        if target.exists():  # whoever held the lock may have made it
            raise IngestError(f"{target} exists already, and a release never changes; choose another name")
        passed_over = PassedOver()
        salt = f"{folder} {CONTENT_VERSION} {SCAN_VERSION}"
        files = FileList.write(work / "files.jsonl", walk(folder, passed_over), files_per_task, salt)
        earlier = place.releases
        tell, how = progress or silent, reading or Reading()
        job = _Job(client, folder, making, schema, tell, earlier, how, ignore_plan, without_unreadable, passed_over)
        report = job.run(files)
        shutil.rmtree(work)
    return report


@dataclass(frozen=True)
class _Job:
    """One ingestion."""

    client: Client
    folder: Path
    making: ReleaseInTheMaking
    schema: Schema
    progress: Progress
    earlier: tuple[Release, ...]
    reading: Reading
    ignore_plan: bool
    without_unreadable: bool
    passed_over: PassedOver

    def run(self, files: FileList) -> IngestReport:
        index = self._scan(files)
        known = (piece for release in self.earlier for piece in release.key_pieces(KNOWN_ROWS, KNOWN_COLUMNS))
        settled = settle(index, known)
        index = index.with_quarantined(self._quarantined(index, files, each) for each in settled.strangers)
        new, changed = int(np.sum(settled.new)), int(np.sum(settled.changed))
        used = np.unique(index.file[settled.kept])
        unused = np.setdiff1d(index.file[~(settled.kept | settled.strange)], used)
        report = IngestReport(
            release=self.making.name,
            follows=self.earlier[-1].name if self.earlier else None,
            folder=str(self.folder),
            files_seen=len(files),
            files_used=len(used),
            unused=tuple(files.path(n) for n in unused.tolist()),
            rows=new + changed,
            new=new,
            changed=changed,
            unchanged=int(np.sum(settled.kept)) - new - changed,
            duplicates=settled.duplicates,
            conflicts=tuple(
                Conflict(int(index.obsid[a]), int(index.lmjm[a]), files.path(index.file[a]), files.path(index.file[b]))
                for a, b in settled.conflicts.tolist()
            ),
            quarantined=tuple(Quarantined(files.path(n), reason, message) for n, reason, message in index.quarantined),
            warnings=tuple(FileWarning(files.path(n), message) for n, message in index.warnings),
            hidden=self.passed_over.hidden,
            named_otherwise=self.passed_over.named_otherwise,
            passed_over=tuple(self.passed_over.examples),
        )
        path = self.making.work / REPORT
        if not len(used) or (index.out_of_reach and not self.without_unreadable):
            atomic.write_json(path, report.to_json())
        if index.out_of_reach and not self.without_unreadable:
            first = next(each for each in report.quarantined if each.reason == Reason.OUT_OF_REACH)
            raise IngestError(
                f"{index.out_of_reach} of the {len(files)} files in {self.folder} are out of reach, which is no fault "
                f"of theirs; the first: {first.message}; {path} names all. Mend the cause and give the same command "
                "again: what is read is kept. Or, with --without-unreadable, make the release without them"
            )
        if not len(used):
            raise IngestError(
                f"none of the {len(files)} files in {self.folder} has a usable exposure; {path} says why of each"
            )
        stored = np.flatnonzero(settled.new | settled.changed)
        del settled, used, unused
        shards = self._write(index, stored, files)
        self._publish(report, _content_digest(index, stored), shards)
        return report

    def _quarantined(self, index: Index, files: FileList, stranger: Stranger) -> tuple[int, str, str]:
        """Number of a file that is another star's, reason and message."""
        row, other = stranger.row, stranger.other
        number = int(index.file[row])
        message = (
            f"{self.folder / files.path(number)}: obsid {index.obsid[row]}, LMJM {index.lmjm[row]} is of "
            f"{fibre_name(int(index.fibre[row]))}, at {index.ra[row]:.4f} {index.dec[row]:+.4f} deg; in "
            f"{files.path(int(index.file[other])) if other >= 0 else 'an earlier release'}, it is of "
            f"{fibre_name(stranger.fibre)}, at {stranger.ra:.4f} {stranger.dec:+.4f} deg. An identifier has one star: "
            "give one of the files another OBSID, and ingest it as another release, or leave it out"
        )
        return number, str(Reason.OTHER_STAR), message

    def _scan(self, files: FileList) -> Index:
        """Scan what is not scanned, and return the index of all files."""
        markers = self.making.scanned
        markers.open((INDEX, ROWS))
        noted = {batch: scanned(markers, batch) for batch in files.batches}
        for _ in range(ROUNDS):
            # Those whose files were not all read, for the system did not let us, are scanned again.
            missing = [batch for batch, note in noted.items() if not note or note["out_of_reach"]]
            self._scan_batches(missing, files)
            noted |= {batch: scanned(markers, batch) for batch in missing}
        damaged = [batch for batch, note in noted.items() if not note]
        if damaged:
            path = index_path(markers, damaged[0])
            raise IngestError(f"{path}: what was scanned cannot be read back; see to its disk, and ingest again")
        rows = sum(int(note["rows"]) for note in noted.values())
        return Index.concatenate(((batch.first, read_index(markers, batch)) for batch in files.batches), rows)

    def _scan_batches(self, missing: list[Batch], files: FileList) -> None:
        markers = self.making.scanned
        done = len(files) - sum(batch.count for batch in missing)
        self.progress("scan", done, len(files))
        used = sum(path.stat().st_size for path in (markers.folder / ROWS).iterdir())
        room = KEPT_SHARE * (shutil.disk_usage(self.making.work).free + used)

        def tasks() -> Iterator[tuple[Any, ...]]:
            for batch in missing:
                yield batch, self.folder, files.file, markers, self.reading, used < room

        def finished(batch: Batch, count: int) -> None:
            nonlocal used, done
            rows = rows_path(markers, batch)
            used += rows.stat().st_size if rows.exists() else 0
            done += count
            self.progress("scan", done, len(files))

        self._compute(markers, scan, tasks(), finished)

    def _write(self, index: Index, stored: NDArray[np.int64], files: FileList) -> list[dict[str, Any]]:
        """Write the shards that are not written; returns all shards' checksums."""
        store, markers = self._store(len(stored)), self.making.written
        markers.open((PARTS,))
        salt = f"{self.folder} {len(stored)}"
        shards: dict[Shard, NDArray[np.int64]] = {}
        for start in range(0, len(stored), self.schema.shard_rows):
            rows = stored[start : start + self.schema.shard_rows]
            shards[Shard(start, len(rows), _content_digest(index, rows, files, salt))] = rows
        missing = [
            shard
            for shard in shards
            if not markers.finished(shard.key, stores.shard_files(store, self.schema, shard.start))
        ]
        still = sum(shard.rows for shard in missing)
        need = sizing.of_ingest(still, self.schema)
        if shutil.disk_usage(self.making.work).free < need.disk:
            for path in (self.making.scanned.folder / ROWS).iterdir():
                path.unlink()
        sizing.require(self.client, self.making.target.parent, need, ignore=self.ignore_plan)
        done = len(stored) - still
        self.progress("write", done, len(stored))

        def tasks() -> Iterator[tuple[Any, ...]]:
            for shard in missing:
                write_parts(markers, shard, index, shards[shard], files, self.making.scanned)
                yield shard, self.folder, store, self.schema, markers

        def finished(shard: Shard, rows: int) -> None:
            nonlocal done
            parts_path(markers, shard).unlink(missing_ok=True)
            done += rows
            self.progress("write", done, len(stored))

        self._compute(markers, write_rows, tasks(), finished)
        return [{name: markers.marker(shard.key)[name] for name in ("size", "sha256")} for shard in shards]

    def _store(self, rows: int) -> Path:
        """Return the store, made anew if there is none of this many rows."""
        partial = self.making.partial
        store = partial / STORE
        if store.exists():
            if len(stores.read_columns(store, ["obsid"])["obsid"]) == rows:
                return store
            shutil.rmtree(partial)
        shutil.rmtree(self.making.written.folder, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        fresh = partial / ".fresh.zarr"
        shutil.rmtree(fresh, ignore_errors=True)
        stores.create(fresh, self.schema, rows, {"release": self.making.name})
        fresh.rename(store)
        return store

    def _publish(self, report: IngestReport, digest: str, shards: list[dict[str, Any]]) -> None:
        about = {
            "name": self.making.name,
            "number": self.earlier[-1].number + 1 if self.earlier else 1,
            "follows": report.follows,
            "rows": report.rows,
            "new": report.new,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "quarantined": len(report.quarantined),
            "created": now(),
            "digest": digest,
            "twinlines": metadata.version("twinlines"),
            "folder": str(self.folder),
        }
        atomic.write_json(self.making.partial / REPORT, report.to_json())
        stores.seal(self.making.partial / STORE, self.schema, contents=False)
        checksums = integrity.seal(self.making.partial, self.schema.shard_rows, shards)
        write_about(self.making.partial, {**about, "checksums": checksums})
        self.making.partial.rename(self.making.target)
        atomic.sync_folder(self.making.target.parent)

    def _compute(
        self,
        markers: Markers,
        function: Callable[..., int],
        tasks: Iterator[tuple[Any, ...]],
        finished: Callable[[Any, int], None],
    ) -> None:
        failed = engine.compute(self.client, markers, function, tasks, finished)
        if failed:
            first, *others = failed.values()
            more = f" (and {len(others)} more like it)" if others else ""
            raise IngestError(
                f"ingesting {self.folder}: {first.piece}: {first.error}{more}; the traceback is in {first.file}. Mend "
                "the cause and ingest again: what is done stays done"
            )


def _content_digest(index: Index, rows: NDArray[np.int64], files: FileList | None = None, salt: str = "") -> str:
    """Digest of rows by key and content, in their order; with ``files``, also of the files they are from."""
    digest = hashlib.blake2b(salt.encode(errors="surrogateescape"), digest_size=16)
    for column, dtype in ((index.obsid, "<i8"), (index.lmjm, "<i4"), (index.content_hash, "<u8")):
        digest.update(column[rows].astype(dtype).tobytes())
    if files is not None:
        digest.update(json.dumps([files.path(n) for n in index.file[rows].tolist()]).encode())
    return digest.hexdigest()
