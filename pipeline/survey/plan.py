"""What a run has to do: a survey's releases, cut into shards, each with the key of its task.

Reads the releases' small key columns only, one shard at a time: a plan costs no more memory for a larger survey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import KEY_COLUMNS, Release, SurveyError
from twinlines.pipeline.survey.runs import SurveyRun, task_key


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
    """Key of the task; see :func:`twinlines.pipeline.survey.runs.task_key`."""

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

    run: SurveyRun
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


def make(
    survey: Survey,
    run: SurveyRun,
    *,
    release: str | None = None,
    shard_rows: int = EXPOSURES.shard_rows,
    verify: bool = False,
) -> Plan:
    """Cut the rows of ``release`` and of those before it into tasks, and look up which are done.

    Parameters
    ----------
    survey
        The survey.
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
    chosen = survey.releases_up_to(release)
    tasks: list[ShardTask] = []
    content = hashlib.sha256()
    for covered in chosen:
        with stores.open_store(covered.store, EXPOSURES, look=False) as dataset:
            rows = dataset.sizes[EXPOSURES.row]
        if rows != covered.rows:
            raise SurveyError(
                f"{covered.store} has {rows} rows, but its release.json says {covered.rows}; ingest it again"
            )
        content.update(f"{covered.name}:{rows}:".encode())
        for start in range(0, rows, shard_rows):
            stop = min(start + shard_rows, rows)
            columns = covered.key_columns(start, stop)
            tasks.append(ShardTask(covered.name, start, stop, task_key(run.config_key, **columns)))
            content.update(_row_bytes(columns))
    done = frozenset(task.key for task in tasks if run.is_done(task.key, verify=verify))
    return Plan(run, chosen, tuple(tasks), done, content.hexdigest())


def _row_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Key columns row by row, so that a digest over them does not depend on where shards begin."""
    records = np.empty(len(columns["obsid"]), dtype=[("obsid", "<i8"), ("lmjm", "<i4"), ("content_hash", "<u8")])
    for name in KEY_COLUMNS:
        records[name] = columns[name]
    return records.tobytes()
