"""An audit of a survey: every exposure of every file followed to a row of the catalog, an older row, or a reason.

What files hold is read from their headers by a reader of its own; ingestion's report is believed in its reasons alone:
which files it put aside, and which arms. Identifiers are compared in portions, a few of the rows of a survey at a
time; in memory stay some 16 bytes a file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from twinlines.cluster.window import run_window
from twinlines.pipeline.lamost.headers import ARMS
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import REPORT, Release
from twinlines.pipeline.validation.audit.files import CLAIM, Listed, as_written, ask, digest, files
from twinlines.pipeline.validation.audit.ledger import Fate, Rows, fates, keys, published, unclaimed
from twinlines.pipeline.validation.audit.report import AuditReport, Lost, ReleaseAudit

PORTION_ROWS = 2_000_000
"""Rows whose identifiers are compared at a time, about."""

NAMED = 1000
"""Most of what is lost that is named."""

_BATCH = 256
_READ_ROWS = 65536
_ABSENT = "the arm counts as absent"


class AuditError(RuntimeError):
    """A survey cannot be audited as asked."""


def audit(
    client: Client,
    survey: str | Path,
    *,
    release: str | None = None,
    folder: Path | None = None,
    compare: bool = False,
    progress: Progress = silent,
) -> AuditReport:
    """Follow every exposure of a survey's files to where it ended.

    Parameters
    ----------
    client
        Client of the cluster that reads the files.
    survey
        Folder of the survey.
    release
        Follow the files of this release alone, and look at its catalog; by default all, and the current catalog.
    folder
        Where the release's files are now; by default where they were ingested.
    compare
        Read the files wholly, and compare what they hold with the rows' hashes; else identifiers are compared.
    progress
        Called with "files" and "rows".

    Raises
    ------
    AuditError
        If a report is damaged, or a folder is given and no release.
    SurveyError
        If there is no survey, or no such release.
    """
    if folder is not None and release is None:
        raise AuditError(f"{folder} is of one release; say which with --release")
    place = Survey.at(survey)
    every = place.releases_up_to(release)
    asked = every if release is None else every[-1:]
    current = place.current.name if place.current else None
    name = current if release is None else place.catalog_of_release(release)
    book = _Book(place, every)
    audited = tuple(book.follow(client, each, folder, compare, progress) for each in asked)
    covered = [each for each in every if name and each.name in place.about_catalog(name).get("releases", [])]
    rows_in, rows_out, superseded = book.compare_catalog(name, covered, progress) if name else (0, 0, 0)
    return AuditReport(
        survey=str(place),
        catalog=name,
        releases=audited,
        rows_in=rows_in,
        rows_out=rows_out,
        superseded=superseded,
        waiting=tuple(each.name for each in every if each not in covered),
        problems=book.problems,
        lost=tuple(book.lost),
    )


@dataclass
class _Book:
    """What is found on the way."""

    survey: Survey
    releases: tuple[Release, ...]
    problems: int = 0
    lost: list[Lost] = field(default_factory=list)

    def note(self, *losses: Lost) -> None:
        """Note what is not where it should be."""
        self.problems += len(losses)
        self.lost += losses[: NAMED - len(self.lost)]

    # From files to a release.

    def follow(
        self, client: Client, release: Release, folder: Path | None, compare: bool, progress: Progress
    ) -> ReleaseAudit:
        """Follow the exposures of a release's files to its rows."""
        told = _Told.read(release)
        where = folder or Path(told.folder)
        if not where.is_dir():
            return ReleaseAudit(release.name, release.rows, str(where), False, False, *[0] * 10)
        with tempfile.TemporaryDirectory(prefix="twinlines-audit-") as scratch:
            gathered = _gather(client, where, Path(scratch), compare, progress)
            return self._settle(release, told, gathered, compare, progress)

    def _settle(
        self, release: Release, told: _Told, gathered: _Gathered, compare: bool, progress: Progress
    ) -> ReleaseAudit:
        aside = np.isin(gathered.digests, np.array([digest(path) for path in told.quarantined], np.uint64))
        more = len(gathered.digests) > told.files_seen
        made = release.created.timestamp()
        later = (gathered.changed > made) & more
        self._silent_files(release, gathered, aside | later)
        counts = dict.fromkeys(Fate, 0)
        of_rows: set[int] = set()
        before = [each for each in self.releases if each.number < release.number]
        portions = _portions(max(release.rows, gathered.count))
        for portion in range(portions):
            claims = gathered.claims(portion, portions)
            rows = Rows.join(list(_rows_of(release, portion, portions, sources=True)))
            older = Rows.join([part for each in before for part in _rows_of(each, portion, portions)]).newest()
            source, number = gathered.digests[claims["file"]], claims["file"]
            excused = np.full(len(claims), Fate.LOST, np.int8)
            excused[later[number]] = Fate.LATER
            excused[told.is_unusable(claims, source)] = Fate.UNUSABLE
            excused[told.is_dropped(claims, source)] = Fate.DUPLICATE
            excused[aside[number]] = Fate.QUARANTINED
            fate = fates(claims, source, rows.newest(), older, excused)
            for kind in Fate:
                counts[kind] += int(np.sum(fate == kind))
            for row in np.flatnonzero(fate == Fate.LOST):
                since = gathered.changed[number[row]] > made
                self.note(_lost_claim(release, claims[row], gathered.path(int(number[row])), compare, since))
            for row in np.flatnonzero(unclaimed(rows, claims, source, gathered.digests)):
                obsid, lmjm = rows.key[row].tolist()
                self.note(Lost(release.name, obsid, lmjm, "", "the release has it, and its file has no such exposure"))
            of_rows |= set(np.unique(rows.source).tolist())
            progress("rows", portion + 1, portions)
        there = set(gathered.digests.tolist())
        gone = len((of_rows | {digest(path) for path in told.quarantined}) - there)
        return ReleaseAudit(
            name=release.name,
            rows=release.rows,
            folder=str(gathered.folder),
            there=True,
            compared=compare,
            files=len(gathered.digests),
            files_gone=gone,
            exposures=gathered.count,
            in_rows=counts[Fate.ROW],
            duplicates=counts[Fate.DUPLICATE],
            unchanged=counts[Fate.UNCHANGED],
            unusable=counts[Fate.UNUSABLE],
            quarantined=counts[Fate.QUARANTINED],
            later=counts[Fate.LATER],
            lost=counts[Fate.LOST],
        )

    def _silent_files(self, release: Release, gathered: _Gathered, excused: NDArray[np.bool_]) -> None:
        """Note files that say nothing, or cannot be read, and are not put aside."""
        for number, problem in gathered.silent.items():
            if not excused[number]:
                why = f"it has no exposure that can be followed ({problem}), and is not put aside"
                self.note(Lost(release.name, -1, -1, gathered.path(number), why))

    # From releases to a catalog.

    def compare_catalog(self, name: str, covered: list[Release], progress: Progress) -> tuple[int, int, int]:
        """Follow rows of releases into a catalog; returns rows in, rows out, and how many newer ones superseded."""
        path = self.survey.catalog(name)
        with stores.open_store(path, CATALOG) as opened:
            rows_out = int(opened.sizes["exposure"])
        rows_in = sum(release.rows for release in covered)
        portions, newest_rows = _portions(max(rows_in, rows_out)), 0
        for portion in range(portions):
            parts = [
                Rows(part.key, part.content, np.full(len(part.key), number, np.uint64))
                for number, release in enumerate(covered)
                for part in _rows_of(release, portion, portions)
            ]
            newest = Rows.join(parts).newest()
            newest_rows += len(newest.key)
            there = Rows.join(list(_catalog_rows(path, rows_out, covered, portion, portions)))
            found = published(newest, there)
            for places, rows, why in (
                (found.missing, newest, "the release has it, and the catalog does not"),
                (found.altered, newest, "the catalog has another content, or release, of it than the newest release"),
                (found.foreign, there, "the catalog has it twice, or no release that it covers does"),
            ):
                for row in places.tolist():
                    number = int(rows.source[row])
                    of = covered[number].name if rows is newest else ""
                    obsid, lmjm = rows.key[row].tolist()
                    self.note(Lost(of, obsid, lmjm, "", why))
            progress("rows", portion + 1, portions)
        return rows_in, rows_out, rows_in - newest_rows


def _lost_claim(release: Release, claim: np.void, path: str, compare: bool, since: bool) -> Lost:
    holds = " with what the file holds" if compare else ""
    why = f"the file has it; there is no row of it{holds}, and no reason"
    if since:
        why += " (the file was changed after the release was made)"
    return Lost(release.name, int(claim["obsid"]), int(claim["lmjm"]), path, why)


def _portions(rows: int) -> int:
    return max(1, -(-rows // PORTION_ROWS))


def _rows_of(release: Release, portion: int, portions: int, *, sources: bool = False) -> Iterator[Rows]:
    """Rows of a release, those of one portion of the identifiers."""
    names = ("obsid", "lmjm", "content_hash", *(("source_file",) if sources else ()))
    for start in range(0, release.rows, _READ_ROWS):
        columns = release.key_columns(start, min(start + _READ_ROWS, release.rows), names)
        mine = columns["obsid"] % portions == portion
        source = np.zeros(int(mine.sum()), np.uint64)
        if sources:
            distinct, place = np.unique(columns["source_file"][mine].astype(object), return_inverse=True)
            source = np.array([digest(path) for path in distinct.tolist()], np.uint64)[place]
        yield Rows(keys(columns["obsid"][mine], columns["lmjm"][mine]), columns["content_hash"][mine], source)


def _catalog_rows(path: Path, rows: int, covered: list[Release], portion: int, portions: int) -> Iterator[Rows]:
    """Rows of a catalog, those of one portion; of a release that it should not have, an impossible number."""
    numbers = {release.name: number for number, release in enumerate(covered)}
    for start in range(0, rows, _READ_ROWS):
        names = ("obsid", "lmjm", "content_hash", "release")
        columns = stores.read_columns(path, names, start, min(start + _READ_ROWS, rows))
        mine = columns["obsid"] % portions == portion
        distinct, place = np.unique(columns["release"][mine].astype(object), return_inverse=True)
        source = np.array([numbers.get(name, len(covered)) for name in distinct.tolist()], np.uint64)[place]
        yield Rows(keys(columns["obsid"][mine], columns["lmjm"][mine]), columns["content_hash"][mine], source)


@dataclass(frozen=True)
class _Told:
    """What ingestion told of a release: reasons, which an audit cannot find by itself."""

    folder: str
    files_seen: int
    quarantined: tuple[str, ...]
    absent: dict[tuple[int, int], int]
    """Bits of the arms that were not usable, by file (64 bits) and minute."""
    dropped: frozenset[tuple[int, int]]
    """Exposures, by file (64 bits) and minute, of which another file has another content, and gives the row."""

    @classmethod
    def read(cls, release: Release) -> _Told:
        path = release.folder / REPORT
        try:
            told: dict[str, Any] = json.loads(path.read_bytes())
            absent: dict[tuple[int, int], int] = {}
            for warning in told["warnings"]:
                extension = warning["message"].partition(":")[0]
                if warning["message"].endswith(_ABSENT) and extension[:1] in ARMS:
                    key = digest(as_written(warning["path"])), int(extension[2:])
                    absent[key] = absent.get(key, 0) | ARMS[extension[0]]
            aside = tuple(as_written(entry["path"]) for entry in told["quarantined"])
            dropped = frozenset((digest(as_written(each["dropped"])), int(each["lmjm"])) for each in told["conflicts"])
            return cls(str(told["folder"]), int(told["files_seen"]), aside, absent, dropped)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditError(
                f"{path} is damaged, and with it the reasons of release {release.name} ({error!r}); restore it from a "
                "copy"
            ) from error

    def is_unusable(self, claims: NDArray[np.void], source: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether all arms that a claim names were not usable."""
        made = np.zeros(len(claims), bool)
        for row in _of_files(source, {of for of, _ in self.absent}):
            absent, arms = self.absent.get((int(source[row]), int(claims["lmjm"][row])), 0), int(claims["arms"][row])
            made[row] = absent & arms == arms
        return made

    def is_dropped(self, claims: NDArray[np.void], source: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether another file, with another content, gives the row of a claim."""
        made = np.zeros(len(claims), bool)
        for row in _of_files(source, {of for of, _ in self.dropped}):
            made[row] = (int(source[row]), int(claims["lmjm"][row])) in self.dropped
        return made


def _of_files(source: NDArray[np.uint64], wanted: set[int]) -> NDArray[np.int64]:
    """Places of what is from some files."""
    return np.flatnonzero(np.isin(source, np.array(sorted(wanted), np.uint64)))


@dataclass(frozen=True)
class _Gathered:
    """What the files of a folder said, on disk."""

    folder: Path
    claimed: Path
    names: Path
    digests: NDArray[np.uint64]
    """(file,) paths as 64 bits."""
    changed: NDArray[np.float64]
    """(file,) when they were changed, s."""
    starts: NDArray[np.int64]
    """(file,) where their paths begin in ``names``, bytes."""
    count: int
    """Claims."""
    silent: dict[int, str]
    """Files that said nothing, or could not be read to the end, and why."""

    def claims(self, portion: int, portions: int) -> NDArray[np.void]:
        """Claims of one portion of the identifiers."""
        if not self.count:
            return np.empty(0, CLAIM)
        every = np.memmap(self.claimed, CLAIM, "r")
        return np.asarray(every[every["obsid"] % portions == portion])

    def path(self, number: int) -> str:
        """Path of a file."""
        with self.names.open("rb") as lines:
            lines.seek(int(self.starts[number]))
            return str(json.loads(lines.readline()))


def _gather(client: Client, folder: Path, scratch: Path, compare: bool, progress: Progress) -> _Gathered:
    """Ask all files of a folder what they hold."""
    names, claimed = scratch / "names.jsonl", scratch / "claims"
    digests: list[int] = []
    changed: list[float] = []
    starts: list[int] = []
    silent: dict[int, str] = {}
    count = done = 0
    with names.open("wb") as lines, claimed.open("wb") as out:

        def batches() -> Iterator[tuple[int, tuple[str, ...], bool]]:
            source: Iterator[Listed] = files(folder)
            while batch := list(islice(source, _BATCH)):
                first = len(digests)
                for listed in batch:
                    digests.append(digest(listed.path))
                    changed.append(listed.changed)
                    starts.append(lines.tell())
                    lines.write(json.dumps(listed.path).encode() + b"\n")
                yield first, tuple(listed.real for listed in batch), compare

        for (_, paths, _), future in run_window(client, ask, batches()):
            if future.status != "finished":
                raise AuditError(f"{paths[0]} and those after it could not be asked: {future.exception()}")
            for answer in future.result():
                out.write(answer.claims.tobytes())
                count += len(answer.claims)
                if answer.problem or not len(answer.claims) or (answer.claims["obsid"] < 0).any():
                    silent[answer.number] = answer.problem or "no extension, or no OBSID, says one"
            done += len(paths)
            progress("files", done, len(digests))
    arrays = np.array(digests, np.uint64), np.array(changed, np.float64), np.array(starts, np.int64)
    return _Gathered(folder, claimed, names, *arrays, count, silent)
