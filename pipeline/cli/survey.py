"""What the commands that work on a survey print."""

from __future__ import annotations

from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.survey.status import SurveyStatus


def show_status(status: SurveyStatus, where: Console) -> None:
    """Print where a survey stands."""
    names = ("name", "rows", "shards", "done", "pending", "failed", "quarantined")
    rows: list[tuple[object, ...]] = [tuple(getattr(release, name) for name in names) for release in status.releases]
    where.print(console.table(("release", *names[1:-1], "quarantined files"), rows))
    lines = [f"catalog: {status.catalog or 'none yet'}"]
    lines += [
        f"{release.name} is being ingested: {release.batches_scanned} batches scanned, {release.shards_written} shards "
        f"written; {release.in_use_by or 'nobody is at work on it, and the same command goes on'}"
        for release in status.ingesting
    ]
    if status.in_use_by:
        lines.append(f"in use by: {status.in_use_by}")
    if status.rows_left:
        left = duration(status.seconds_left) if status.seconds_left is not None else "unknown before the first shard"
        lines.append(f"to do: {status.rows_left} exposures; time left with as many workers: {left}")
    lines += [
        f"failed: {failure.piece}: {failure.error} (traceback in {failure.file})" for failure in status.failures[:20]
    ]
    if status.failures:
        lines.append(f"{len(status.failures)} shards failed to the last retry; mend the cause and run again")
    if status.damaged is not None:
        lines += status.damaged or ["all releases are as they were made"]
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
