"""Where a survey stands: its releases, what is done of the run that was started last, and how long the rest may take.

Reads the ledger and small columns only; disturbs nobody who is at work on the survey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from twinlines.pipeline import console, integrity, ledger, plan, publication
from twinlines.pipeline.ledger import Run
from twinlines.pipeline.plan import Plan
from twinlines.pipeline.schema import EXPOSURES


@dataclass(frozen=True)
class Rate:
    """How fast a run went, by the markers of its tasks."""

    seconds_per_row: float
    """Seconds of one worker an exposure, reading and writing included; without its waiting."""
    workers: int
    """Workers with which the run was started last."""

    def seconds(self, rows: int) -> float:
        """Seconds for so many rows, if the workers stay as many."""
        return rows * self.seconds_per_row / self.workers


def status(survey: Path, *, verify: bool = False) -> dict[str, Any]:
    """What there is of a survey, and what is done of the run that was started last; as JSON.

    ``seconds_left`` is estimated from the times that the run's finished shards took, None before the first. Clocks that
    jump do not matter: workers measure durations.

    Parameters
    ----------
    survey
        Folder of the survey.
    verify
        Read all releases and results, and compare them with their checksums. A damaged result is not done; what is
        wrong with releases stands in ``damaged``.

    Raises
    ------
    SurveyError
        If there is no survey.
    """
    survey = Path(survey).resolve()
    found = plan.releases(survey)
    latest = next(reversed(ledger.runs(survey)), None)
    about = latest.description() if latest else {}
    shard_rows = about.get("shard_rows", EXPOSURES.shard_rows)
    todo = plan.make(survey, latest, shard_rows=shard_rows, verify=verify) if latest and found else None
    current = publication.current(survey)
    rate = _rate(todo, about) if todo else None
    rows_left = sum(task.rows for task in todo.missing) if todo else None
    return {
        "survey": str(survey),
        "in_use_by": ledger.holder(survey),
        "ingesting": _ingesting(survey),
        "catalog": current.name if current else None,
        "catalogs": publication.catalogs(survey),
        "run": about or None,
        "rows_left": rows_left,
        "seconds_left": rate.seconds(rows_left) if rate and rows_left is not None else None,
        "releases": [
            {
                "name": one.name,
                "number": one.number,
                "created": one.created.isoformat(),
                "rows": one.rows,
                "quarantined": one.quarantined,
                **_shards(one, todo, latest, shard_rows),
            }
            for one in found
        ],
        "damaged": [text for one in found for text in integrity.damaged(one.store, one.rows)] if verify else None,
        "failures": _failures(todo, latest) if todo and latest else [],
    }


def _shards(release: plan.Release, todo: Plan | None, run: Run | None, shard_rows: int) -> dict[str, int]:
    tasks = [task for task in todo.tasks if task.release == release.name] if todo else []
    shards = -(-release.rows // shard_rows)
    done = sum(task.key in todo.done for task in tasks) if todo else 0
    failed = sum(run.failure_path(task.key).exists() for task in tasks) if run else 0
    return {"shards": shards, "done": done, "pending": shards - done, "failed": failed}


def _failures(todo: Plan, run: Run) -> list[dict[str, str]]:
    """The shards that are put aside: which, why, and where the traceback is."""
    failed = [(task, run.failure(task.key)) for task in todo.missing]
    return [
        {"shard": str(task), "error": str(said.get("error")), "file": str(run.failure_path(task.key))}
        for task, said in failed
        if said
    ]


def _rate(todo: Plan, about: dict[str, Any]) -> Rate | None:
    markers = [todo.run.marker(key) for key in todo.done]
    timed = [marker for marker in markers if isinstance(marker.get("seconds"), int | float)]
    rows = sum(int(marker.get("rows", 0)) for marker in timed)
    if not rows:
        return None
    workers = int(about.get("workers") or len({marker.get("worker") for marker in timed}) or 1)
    return Rate(sum(marker["seconds"] for marker in timed) / rows, workers)


def _ingesting(survey: Path) -> list[dict[str, Any]]:
    """Releases in the making: whose ingestion is at work, or was broken off."""
    at_work = ledger.holder(survey, ledger.INGEST_LOCK)
    return [
        {
            "name": work.name.removeprefix(".").removesuffix(".work"),
            "batches_scanned": len(list(work.glob("scan-*.npz"))),
            "shards_written": len(list(work.glob("shard-*.json"))),
            "in_use_by": at_work,
        }
        for work in sorted((survey / "releases").glob(".*.work"))
    ]


def show(found: dict[str, Any], where: Console) -> None:
    """Print what :func:`status` found, for people."""
    names = ("name", "rows", "shards", "done", "pending", "failed", "quarantined")
    rows: list[tuple[object, ...]] = [tuple(one[name] for name in names) for one in found["releases"]]
    where.print(console.table(("release", *names[1:-1], "quarantined files"), rows))
    lines = [f"catalog: {found['catalog'] or 'none yet'}"]
    lines += [
        f"{one['name']} is being ingested: {one['batches_scanned']} batches scanned, {one['shards_written']} shards "
        f"written; {one['in_use_by'] or 'nobody is at work on it, and the same command goes on'}"
        for one in found["ingesting"]
    ]
    if found["in_use_by"]:
        lines.append(f"in use by: {found['in_use_by']}")
    if found["rows_left"]:
        left = (
            duration(found["seconds_left"]) if found["seconds_left"] is not None else "unknown before the first shard"
        )
        lines.append(f"to do: {found['rows_left']} exposures; time left with as many workers: {left}")
    lines += [f"failed: {one['shard']}: {one['error']} (traceback in {one['file']})" for one in found["failures"][:20]]
    if found["failures"]:
        lines.append(f"{len(found['failures'])} shards failed to the last retry; mend the cause and run again")
    if found["damaged"] is not None:
        lines += found["damaged"] or ["all releases are as they were made"]
    for line in lines:
        where.print(line, markup=False, highlight=False)


def duration(seconds: float) -> str:
    """A duration in words, of two units at most."""
    minutes = seconds / 60.0
    if minutes < 1.0:
        return f"{seconds:.0f} s"
    if minutes < 60.0:
        return f"{minutes:.0f} min"
    if minutes < 48 * 60.0:
        return f"{int(minutes // 60)} h {int(minutes % 60)} min"
    return f"{int(minutes // 1440)} d {int(minutes % 1440 // 60)} h"
