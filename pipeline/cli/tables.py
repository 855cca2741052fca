"""Tables that fit a terminal: a column that has no room is left out and named, and no number is ever cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_FRAME = 3  # cells for each column: a space on both sides and a line
_LONGEST_WORD = 24  # of text; one that is longer, such as a path, may be folded
_NUMBER = re.compile(r"|-|[-+]?(\d[\d.]*(e[-+]?\d+)?|inf)|nan")


@dataclass(frozen=True)
class FittedTable:
    """A table for people, made as wide as there is room for when it is printed."""

    columns: Sequence[str]
    """Titles."""
    rows: Sequence[Sequence[str]]
    """Cells of each row."""
    order: Sequence[int]
    """Columns by how much they say: those at the end are left out first."""
    title: str | None = None
    """What stands over it."""
    caption: str | None = None
    """What stands under it."""
    styles: Sequence[str | None] = ()
    """A style of each row, as rich names it; none: all rows look the same."""

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Make the columns that fit (called by rich)."""
        numeric = [all(_NUMBER.fullmatch(row[at]) for row in self.rows) for at in range(len(self.columns))]
        least = [self._least(at, numeric[at]) for at in range(len(self.columns))]
        shown: list[int] = []
        room = options.max_width - 1
        for at in self.order:
            if shown and least[at] + _FRAME > room:
                break
            shown.append(at)
            room -= least[at] + _FRAME
        shown.sort()
        headed = any(self.columns)
        made = Table(header_style="bold", title=self.title, caption=self.caption, show_header=headed)
        for at in shown:
            wanted = max(cell_len(cell) for cell in (self.columns[at], *(row[at] for row in self.rows)))
            more = min(max(room, 0), max(wanted - least[at], 0))
            room -= more
            made.add_column(
                Text(self.columns[at]),
                justify="right" if numeric[at] else "left",
                width=least[at] + more,
                overflow="fold",
            )
        for number, row in enumerate(self.rows):
            made.add_row(*(Text(row[at]) for at in shown), style=self.styles[number] if self.styles else None)
        yield made
        left_out = [name for at, name in enumerate(self.columns) if at not in shown]
        if left_out:
            yield Text(f"no room here for: {', '.join(left_out)}; a wider terminal and --json have them")

    def _least(self, at: int, numeric: bool) -> int:
        """Cells that a column needs: its longest word, or less if that is no number and very long."""
        words = [word for cell in (self.columns[at], *(row[at] for row in self.rows)) for word in cell.split()]
        longest = max(map(cell_len, words), default=1)
        return longest if numeric else min(longest, _LONGEST_WORD)
