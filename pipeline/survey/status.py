"""Where a survey stands: its releases, what is done of the run that was started last, and how long the rest may take.

Reads markers and small columns only; disturbs nobody who is at work on the survey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinlines.pipeline.jobs.engine import Failure
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity, plan
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan
from twinlines.pipeline.survey.releases import Release, SurveyError
from twinlines.pipeline.survey.runs import SurveyRun


@dataclass(frozen=True)
class ReleaseStatus:
    """One release, and what is done of it."""

    name: str
    """Name."""
    number: int
    """Its place among the survey's releases, from 1."""
    created: str
    """When it was made, ISO."""
    rows: int
    """Exposures."""
    quarantined: int
    """Files that could not be read."""
    shards: int
    """Tasks of a run."""
    done: int
    """Shards that are computed."""
    pending: int
    """Shards that are to do."""
    failed: int
    """Shards that failed to the last retry."""


@dataclass(frozen=True)
class IngestStatus:
    """A release in the making."""

    name: str
    """Name that it will have."""
    batches_scanned: int
    """Batches of files that are scanned."""
    shards_written: int
    """Shards that are written."""
    in_use_by: str | None
    """Who is at work on it; None: nobody is, and the same command goes on."""


@dataclass(frozen=True)
class SurveyStatus:
    """What there is of a survey, and what is done of the run that was started last."""

    survey: str
    """Its folder."""
    in_use_by: str | None
    """Who computes; None if nobody does."""
    ingesting: tuple[IngestStatus, ...]
    """Releases in the making."""
    catalog: str | None
    """The current catalog; None if there is none yet."""
    catalogs: tuple[str, ...]
    """All catalogs."""
    run: Mapping[str, Any] | None
    """The run: its recipe, versions and workers; None before the first."""
    rows_left: int | None
    """Exposures that are to be computed; None before the first run."""
    seconds_left: float | None
    """Estimated from the times that the run's finished shards took, s; None before the first. Clocks that jump do not
    matter: workers measure durations."""
    releases: tuple[ReleaseStatus, ...]
    """Its releases, the oldest first."""
    damaged: tuple[str, ...] | None
    """What is wrong with releases and catalogs, a message each; None if nobody asked."""
    failures: tuple[Failure, ...]
    """Shards that are put aside."""
    copies: tuple[str, ...]
    """Folders that hold a copy of a release, and do not count."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**asdict(self), "failures": [failure.to_json() for failure in self.failures]}


@dataclass(frozen=True)
class _Rate:
    """How fast a run went, by the markers of its tasks."""

    seconds_per_row: float
    """Seconds of one worker an exposure, reading and writing included; without its waiting."""
    workers: int
    """Workers with which the run was started last."""

    def seconds(self, rows: int) -> float:
        """Seconds for so many rows, if the workers stay as many."""
        return rows * self.seconds_per_row / self.workers


def status(survey: Path, *, verify: bool = False) -> SurveyStatus:
    """Look at a survey.

    Parameters
    ----------
    survey
        Folder of the survey.
    verify
        Read all releases, results and catalogs, and compare them with their checksums. A damaged result is not done;
        what is wrong with releases and catalogs stands in ``damaged``.

    Raises
    ------
    SurveyError
        If there is no survey.
    StoreError
        If which rows a release has cannot be read; with ``verify``, that stands in ``damaged``.
    """
    place = Survey.at(survey)
    releases = place.releases
    latest = next(reversed(place.runs), None)
    about = latest.description() if latest else {}
    shard_rows = about.get("shard_rows", EXPOSURES.shard_rows)
    damaged = _damaged(place, releases) if verify else None
    todo = None
    try:
        if latest and releases:
            todo = plan.make(place, latest, shard_rows=shard_rows, verify=verify)
    except (stores.StoreError, SurveyError):
        if not damaged:
            raise
        damaged += ("what is done of the run is not known until its releases are mended, and counts as pending",)
    current = place.current
    rate = _rate(todo, about) if todo else None
    rows_left = sum(task.rows for task in todo.missing) if todo else None
    ingested_by = place.ingested_by
    return SurveyStatus(
        survey=str(place),
        in_use_by=place.run_by,
        ingesting=tuple(
            IngestStatus(release.name, release.scanned.done, release.written.done, ingested_by)
            for release in place.releases_in_the_making
        ),
        catalog=current.name if current else None,
        catalogs=place.catalogs,
        run=about or None,
        rows_left=rows_left,
        seconds_left=rate.seconds(rows_left) if rate and rows_left is not None else None,
        releases=tuple(_release(release, todo, latest, shard_rows) for release in releases),
        damaged=damaged,
        failures=_failures(todo, latest) if todo and latest else (),
        copies=tuple(map(str, place.copies)),
    )


def _damaged(survey: Survey, releases: tuple[Release, ...]) -> tuple[str, ...]:
    wrong = [text for release in releases for text in integrity.damaged(release.store, release.rows)]
    for name in survey.catalogs:
        path = survey.catalog(name)
        if problems := stores.damaged(path):
            again = (
                f"'twinlines run --survey {survey}' publishes it again, if its release is the newest (else name that "
                "with --release)"
            )
            if "made_of" in survey.about_catalog(name):  # when that does not need it, it makes what it is of current
                again += "; what it was made with, such as 'twinlines zeropoints', makes it again after that"
            wrong.append(f"the catalog {path} is damaged: {'; '.join(problems)}; {again}")
    return tuple(wrong)


def _release(release: Release, todo: Plan | None, run: SurveyRun | None, shard_rows: int) -> ReleaseStatus:
    tasks = [task for task in todo.tasks if task.release == release.name] if todo else []
    shards = -(-release.rows // shard_rows)
    done = sum(task.key in todo.done for task in tasks) if todo else 0
    return ReleaseStatus(
        name=release.name,
        number=release.number,
        created=release.created.isoformat(),
        rows=release.rows,
        quarantined=release.quarantined,
        shards=shards,
        done=done,
        pending=shards - done,
        failed=sum(run.failure_path(task.key).exists() for task in tasks) if run else 0,
    )


def _failures(todo: Plan, run: SurveyRun) -> tuple[Failure, ...]:
    failed = [(task, run.failure(task.key)) for task in todo.missing]
    return tuple(
        Failure(str(task), str(failure.get("error")), str(run.failure_path(task.key)))
        for task, failure in failed
        if failure
    )


def _rate(todo: Plan, about: Mapping[str, Any]) -> _Rate | None:
    markers = [todo.run.marker(key) for key in todo.done]
    timed = [marker for marker in markers if isinstance(marker.get("seconds"), int | float)]
    rows = sum(int(marker.get("rows", 0)) for marker in timed)
    if not rows:
        return None
    workers = int(about.get("workers") or len({marker.get("worker") for marker in timed}) or 1)
    return _Rate(sum(marker["seconds"] for marker in timed) / rows, workers)
