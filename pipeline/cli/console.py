"""What commands print with: progress, JSON, lines and tables. Knows no result and computes nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from twinlines.pipeline.progress import Progress as ProgressFunction

_LOG_WIDTH = 160  # columns of a table that goes to a file or a pipe


def complain(message: str) -> None:
    """Print an error for people."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"twinlines: {message}", markup=False)


def out() -> Console:
    """Console for results: as wide as the terminal, or wide enough for a log."""
    return Console(width=None if sys.stdout.isatty() else _LOG_WIDTH, highlight=False)


@contextmanager
def progress() -> Iterator[ProgressFunction]:
    """A bar per stage on a terminal; in a log, a plain line for each tenth of a stage."""
    if not sys.stderr.isatty():
        told: dict[str, int] = {}

        def line(stage: str, done: int, total: int) -> None:
            tenth = 10 * done // max(total, 1)
            if told.get(stage) != tenth:
                told[stage] = tenth
                print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, Any] = {}

        def bar(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield bar


def show(summary: Mapping[str, Any] | list[dict[str, Any]], as_json: bool, lines: Callable[[Console], None]) -> None:
    """Print a result: as JSON, or as ``lines`` prints it for people."""
    if as_json:
        print(json.dumps(summary, indent=2, default=str))
    else:
        lines(out())


def say(where: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: names of files may hold what rich takes for markup, or no UTF-8."""
    for line in lines:
        # A file name that is no UTF-8 reads as lone surrogates, which no terminal takes.
        text = line.encode("utf-8", "backslashreplace").decode()
        where.print(text, markup=False, highlight=False)


def table(title: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    """A table for people; numbers are right-aligned."""
    made = Table(header_style="bold")
    for column, name in enumerate(title):
        numeric = bool(rows) and all(isinstance(row[column], int | float) for row in rows)
        made.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        made.add_row(*(str(value) for value in row))
    return made


def plain(value: Any) -> Any:
    """The value as JSON takes it: a missing number is null."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    return None if isinstance(value, float) and math.isnan(value) else value
