"""Tables in terminals of any width: columns go, digits do not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from twinlines.pipeline.cli import console

COLUMNS = ("obsid", "lmjm", "ra", "p0 B", "quality B")
ROWS = [
    ("747412076", "84450349", "292.05872", "0.973", "good"),
    ("738216075", "84402313", "292.05873", "nan", "S/N of 5 or less; no velocity"),
]


def printed(width: int, **options: object) -> str:
    made = console.table(COLUMNS, ROWS, first=("obsid", "p0 B"))
    file = io.StringIO()
    Console(file=file, width=width, **options).print(made)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("width", range(14, 120))
def test_a_number_is_whole_or_its_column_is_named_as_left_out(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in ROWS:
        assert row[0] in text
    flat = " ".join(text.split())
    for at, name in enumerate(COLUMNS[:4]):
        whole = all(row[at] in text for row in ROWS)
        assert whole or f"no room here for: {name}" in flat or f", {name}" in flat, name


def test_what_says_most_stays_longest() -> None:
    text = printed(24)
    assert "0.973" in text
    assert "84450349" not in text
    assert "no room here for: lmjm," in " ".join(text.split())


def test_wide_enough_for_all_means_all_in_one_line_each() -> None:
    text = printed(console.UNLIMITED)
    assert "no room" not in text
    for row in ROWS:
        (line,) = (line for line in text.splitlines() if row[0] in line)
        assert all(cell in line for cell in row)
    assert max(map(len, text.splitlines())) < 100


def test_words_are_folded_and_stay_whole() -> None:
    text = printed(70)
    assert "velocity" in text
    assert "no room" not in text


def test_no_colour_and_no_unicode_leave_the_words() -> None:
    text = printed(100, no_color=True, force_terminal=True, legacy_windows=False)
    assert "747412076" in text
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=100).print(console.table(COLUMNS, ROWS))
    file.seek(0)
    assert "| 747412076 |" in file.read()


def test_brackets_are_no_markup() -> None:
    file = io.StringIO()
    Console(file=file, width=100).print(console.table(("[Fe/H]", "file"), [("-0.5", "grid[M_H]/[red].fits")]))
    assert "[Fe/H]" in file.getvalue()
    assert "grid[M_H]/[red].fits" in file.getvalue()
