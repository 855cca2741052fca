"""What commands print: progress, tables and JSON. Knows the names of columns and computes nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from twinlines.pipeline.progress import Progress as ProgressFunction

if TYPE_CHECKING:
    import xarray as xr

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


def table(title: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    """A table for people; numbers are right-aligned."""
    made = Table(header_style="bold")
    for column, name in enumerate(title):
        numeric = bool(rows) and all(isinstance(row[column], int | float) for row in rows)
        made.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        made.add_row(*(str(value) for value in row))
    return made


def catalog_rows(rows: xr.Dataset, limit: int, console: Console, penalty: int) -> None:
    """Print those columns of the first ``limit`` rows that tell a reader most."""
    names = ("obsid", "lmjm", "ra", "dec", "snr_B", "snr_R", "rv_obs_B", "rv_obs_R")
    formats = ("d", "d", ".5f", ".5f", ".1f", ".1f", ".1f", ".1f")
    shown = Table(header_style="bold")
    for name in (*names, "p0 B", "p50 B", "p0 R", "p50 R"):
        shown.add_column(name, justify="right")
    for row in range(min(rows.sizes["exposure"], limit)):
        values = [format(rows[name].values[row].item(), style) for name, style in zip(names, formats, strict=True)]
        for arm in "BR":
            percentiles = rows[f"pb_pct_{arm}_{penalty}"].isel(exposure=row)
            values += [f"{float(percentiles.sel(percentile=which)):.3f}" for which in (0, 50)]
        shown.add_row(*values)
    console.print(shown)
    hidden = rows.sizes["exposure"] - limit
    if hidden > 0:
        console.print(f"... and {hidden} more; --limit shows more, 'twinlines catalog export' writes all")
    console.print(f"{rows.sizes['exposure']} exposures; probabilities at penalty {penalty}")


def catalog_json(rows: xr.Dataset) -> list[dict[str, Any]]:
    """Rows with the columns of Table 4 as JSON objects; a missing number is null."""
    from twinlines.pipeline.schema import TABLE4

    columns = {name: rows[name].values.tolist() for name in TABLE4}
    return [{name: _plain(values[row]) for name, values in columns.items()} for row in range(rows.sizes["exposure"])]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
