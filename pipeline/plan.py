"""What a run has to do: a survey's releases, cut into shards, each with the key of its task.

Reads the releases' small key columns only, one shard at a time: a plan costs no more memory for a larger survey.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline import stores
from twinlines.pipeline.ledger import Run, task_key
from twinlines.pipeline.schema import EXPOSURES

CHECKSUMS = "checksums.json"
"""File of a release that says what its shards' files must be."""

_KEY_COLUMNS = ("obsid", "lmjm", "content_hash")


class SurveyError(RuntimeError):
    """A survey, or a release of it, does not exist or cannot be used as asked."""


@dataclass(frozen=True)
class Release:
    """One data release of a survey; it never changes."""

    name: str
    """Name, such as "dr8"."""
    folder: Path
    """Its folder, ``releases/<name>``."""
    number: int
    """Its place among the survey's releases, from 1: a later release's rows supersede an earlier one's. No clock is
    asked. 0 for one of a version that did not number them."""
    created: datetime
    """When it was made, for people."""
    rows: int
    """Exposures."""
    quarantined: int
    """Files that could not be read."""

    @property
    def store(self) -> Path:
        """Its exposures."""
        return self.folder / "exposures.zarr"


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: some consecutive rows of a release."""

    release: str
    """Name of the release."""
    start: int
    """First row."""
    stop: int
    """Row after the last."""
    key: str
    """Key of the task; see :func:`twinlines.pipeline.ledger.task_key`."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def about(self) -> dict[str, Any]:
        """What a failure's file should say of it."""
        return {"release": self.release, "start": self.start, "stop": self.stop}

    def __str__(self) -> str:
        return f"rows {self.start} to {self.stop} of {self.release}"


@dataclass(frozen=True)
class Plan:
    """All tasks of a run, done or not."""

    run: Run
    """Where results and markers are."""
    releases: tuple[Release, ...]
    """Releases that take part, the oldest first."""
    tasks: tuple[ShardTask, ...]
    """Their shards, in the order of releases and rows."""
    done: frozenset[str]
    """Keys of the tasks that are done."""
    content: str
    """SHA-256 over all rows' keys and content, whatever the shards."""

    @property
    def missing(self) -> tuple[ShardTask, ...]:
        """Tasks that are to do."""
        return tuple(task for task in self.tasks if task.key not in self.done)

    @property
    def rows(self) -> int:
        """Rows of all tasks."""
        return sum(task.rows for task in self.tasks)


def releases(survey: Path) -> tuple[Release, ...]:
    """Releases of a survey, the oldest first.

    Raises
    ------
    SurveyError
        If there is no survey.
    """
    survey = Path(survey)
    if not survey.is_dir():
        raise SurveyError(f"there is no survey at {survey}; 'twinlines ingest FITS_DIR --survey {survey}' makes one")
    found = [_release(path) for path in (survey / "releases").glob("[!.]*/release.json")]
    return tuple(sorted(found, key=lambda release: (release.number, release.created, release.name)))


def _release(path: Path) -> Release:
    try:
        about = json.loads(path.read_text())
        return Release(
            name=path.parent.name,
            folder=path.parent,
            number=int(about.get("number", 0)),
            created=datetime.fromisoformat(about["created"]),
            rows=int(about["rows"]),
            quarantined=int(about["quarantined"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SurveyError(f"{path} is damaged ({error!r}); ingest this release again") from error


def select(survey: Path, name: str | None) -> tuple[Release, ...]:
    """Release ``name`` (the newest, if None) and those before it: what its catalog covers, the oldest first.

    Raises
    ------
    SurveyError
        If there is no such release, naming those that exist.
    """
    found = releases(survey)
    if not found:
        raise SurveyError(f"the survey {survey} has no release yet; 'twinlines ingest FITS_DIR --survey {survey}'")
    names = [release.name for release in found]
    if name is None:
        return found
    if name not in names:
        raise SurveyError(f"the survey {survey} has no release {name!r}; it has {', '.join(names)}")
    return found[: names.index(name) + 1]


def make(
    survey: Path,
    run: Run,
    *,
    release: str | None = None,
    shard_rows: int = EXPOSURES.shard_rows,
    verify: bool = False,
) -> Plan:
    """Cut the rows of ``release`` and of those before it into tasks, and look up which are done.

    Parameters
    ----------
    survey
        Folder of the survey.
    run
        Run whose markers count.
    release
        Name of the release; by default the newest.
    shard_rows
        Rows of a task.
    verify
        Compare the content hash of every result with its marker; a damaged one is not done.

    Raises
    ------
    SurveyError
        If the survey or the release does not exist, a row count is not what its release says, or rows were lost.
    """
    if shard_rows < 1:
        raise SurveyError(f"shard_rows is {shard_rows}; give 1 or more")
    chosen = select(survey, release)
    tasks: list[ShardTask] = []
    content = hashlib.sha256()
    for one in chosen:
        with stores.open_store(one.store, EXPOSURES) as dataset:
            rows = dataset.sizes[EXPOSURES.row]
        if rows != one.rows:
            raise SurveyError(f"{one.store} has {rows} rows, but its release.json says {one.rows}; ingest it again")
        content.update(f"{one.name}:{rows}:".encode())
        for start in range(0, rows, shard_rows):
            stop = min(start + shard_rows, rows)
            columns = key_columns(one, start, stop)
            tasks.append(ShardTask(one.name, start, stop, task_key(run.config_key, **columns)))
            content.update(_row_bytes(columns))
    done = frozenset(task.key for task in tasks if run.is_done(task.key, verify=verify))
    return Plan(run, chosen, tuple(tasks), done, content.hexdigest())


def key_columns(release: Release, start: int, stop: int) -> dict[str, NDArray[Any]]:
    """obsid, lmjm and content hash of some rows of a release.

    Raises
    ------
    SurveyError
        If rows were lost.
    """
    columns = stores.read_columns(release.store, _KEY_COLUMNS, start, stop)
    if np.any(columns["obsid"] == EXPOSURES.variables["obsid"].missing):
        # Zarr reads a file that is not there as missing values.
        raise SurveyError(
            f"{release.store} has lost rows between {start} and {stop}: obsid is missing; restore the release's "
            "files, or ingest it again"
        )
    return columns


def _row_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Key columns row by row, so that a digest over them does not depend on where shards begin."""
    records = np.empty(len(columns["obsid"]), dtype=[("obsid", "<i8"), ("lmjm", "<i4"), ("content_hash", "<u8")])
    for name in _KEY_COLUMNS:
        records[name] = columns[name]
    return records.tobytes()
