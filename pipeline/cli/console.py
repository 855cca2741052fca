"""What commands print with: progress, JSON, lines and tables. Knows no result and computes nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from twinlines.pipeline.cli import streams
from twinlines.pipeline.cli.tables import FittedTable
from twinlines.pipeline.progress import Progress as ProgressFunction

UNLIMITED = 100_000
"""Width of what goes to a file or a pipe, columns: lines are as long as they are."""


class _Screen(Console):
    """A console that leaves it to :func:`show` what happens when nobody reads any more; rich's own ends the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def complain(message: str) -> None:
    """Print an error for people."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"twinlines: {message}", markup=False)


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning for people, in place of ``warnings.showwarning``: what is said, and no line of code.

    A warning that is not ours, and of a kind of its own, keeps the name of its kind, by which one may look it up.
    """
    ours = category is UserWarning or category.__module__.partition(".")[0] == "twinlines"
    text = f"warning: {message}" if ours else f"warning ({category.__name__}): {message}"
    if file is None:
        complain(text)
    else:
        file.write(f"twinlines: {text}\n")


def out() -> Console:
    """Console for results: as wide as the terminal; a file or a pipe takes lines of any width."""
    return _Screen(width=None if sys.stdout.isatty() else UNLIMITED, highlight=False)


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
    """Print a result: as JSON, or as ``lines`` prints it for people. A reader that has left misses it, no more.

    Raises
    ------
    OutputError
        If it cannot be printed, as to a full disk.
    """
    try:
        if as_json:
            print(json.dumps(plain(summary), indent=2, allow_nan=False))
        else:
            lines(out())
        sys.stdout.flush()
    except BrokenPipeError:
        streams.forget(sys.stdout)
    except OSError as error:
        streams.forget(sys.stdout)
        raise streams.OutputError(
            f"the answer cannot be printed: {error.strerror}; the work itself is done: make room where the output goes "
            "to, and give the command again"
        ) from error


def say(where: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: names of files may hold what rich takes for markup, or no UTF-8."""
    for line in lines:
        # A file name that is no UTF-8 reads as lone surrogates, which no terminal takes.
        text = line.encode("utf-8", "backslashreplace").decode()
        where.print(text, markup=False, highlight=False)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    first: Sequence[str] = (),
    title: str | None = None,
    caption: str | None = None,
    styles: Sequence[str | None] = (),
) -> FittedTable:
    """A table for people: numbers are right-aligned, and a terminal that is too narrow shows fewer columns.

    Parameters
    ----------
    columns
        Titles.
    rows
        Cells of each row, printed as they are.
    first
        Titles of those that are shown first where there is no room for all; the others follow from left to right.
    title, caption
        What stands over and under it.
    styles
        A style for each row, as rich names it.
    """
    preferred = [columns.index(name) for name in first]
    order = [*preferred, *(at for at in range(len(columns)) if at not in preferred)]
    cells = [[str(value).encode("utf-8", "backslashreplace").decode() for value in row] for row in rows]
    return FittedTable(columns, cells, order, title, caption, styles)


def plain(value: Any) -> Any:
    """The value as JSON takes it: a number that is missing or infinite is null, a path its name."""
    if isinstance(value, Mapping):
        return {str(name): plain(element) for name, element in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(element) for element in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is of a type that JSON does not know: {type(value).__name__}")
