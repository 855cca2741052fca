"""Ephemerides of users' tables: periods, times of eclipses that may leave out 2400000, and the phases they give.

Phase 0 is the primary eclipse, the deeper one. Times are barycentric Julian dates: LAMOST's ``bjdmid`` is BJD (TDB),
and so are Kepler's; the Kepler Eclipsing Binary Catalog leaves out 2400000 (not the 2400000.5 of an MJD).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.usertables.columns import Columns
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.usertables.matching import By, Stars
from twinlines.pipeline.usertables.stars import StarTable, read_stars

Array = NDArray[np.float64]

OFFSET = 2_400_000.0
"""What catalogs leave out of Julian dates, days; not the 2400000.5 of an MJD."""

_SHORT = (40_000.0, 100_000.0)  # such dates lack OFFSET: 1968 to 2132
_WHOLE = (2_430_000.0, 2_500_000.0)
_WANTED = ("name", "period_error", "eclipse_error")


class EphemerisError(UserTableError):
    """A table of ephemerides cannot be used."""


@dataclass(frozen=True)
class Ephemerides:
    """Ephemerides of a table's stars; arrays of shape (row,), NaN where a row has none."""

    table: StarTable
    """The table that they come from."""
    notes: tuple[str, ...]
    """What a user should know of how it was read."""
    name: NDArray[np.str_]
    """Names of the stars."""
    period: Array
    """Period, d."""
    period_error: Array
    """Error of the period, d; 0 where it is not known."""
    eclipse: Array
    """Time of a primary eclipse, BJD; NaN where it is not known."""
    eclipse_error: Array
    """Its error, d; 0 where it is not known."""
    secondary: Array
    """Phase of the secondary eclipse; NaN where it is not known."""

    @property
    def by(self) -> By:
        """How its stars are matched."""
        return self.table.stars.usual(None)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(row,) whether there is a period, and what the star is matched by."""
        return np.isfinite(self.period) & self.table.placed(self.by)

    @property
    def stars(self) -> Stars:
        """Where the stars with a period are, and their obsids; the others are nowhere."""
        ra, dec, obsid = self.table.stars
        there = self.usable
        return Stars(
            None if ra is None else np.where(there, ra, np.nan),
            dec,
            None if obsid is None else np.where(there, obsid, -1),
        )

    def phase(self, row: NDArray[np.int64], bjd: Array) -> tuple[Array, Array]:
        """Phases, 0 to 1, of rows' stars at dates BJD, and their errors; shape of both as of ``row``.

        The error is that of the eclipse and that of the period times the cycles since.
        """
        cycles = (bjd - self.eclipse[row]) / self.period[row]
        error = np.hypot(self.eclipse_error[row], cycles * self.period_error[row]) / self.period[row]
        return cycles % 1.0, error

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: where they come from, and how they were read."""
        return {
            "file": self.table.path.name,
            "columns": self.table.columns_by(self.by),
            "by": self.by,
            "rows": self.table.rows,
            "ephemerides": int(self.usable.sum()),
            "notes": list(self.notes),
        }


def read_ephemerides(
    path: str | Path,
    asked: Mapping[str, str | None] | None = None,
    offset: float | None = None,
    *,
    timed: bool = False,
) -> Ephemerides:
    """Read ephemerides, such as the Kepler Eclipsing Binary Catalog's (its download as CSV, as it is).

    Parameters
    ----------
    path
        The table. Needed are a period, days, and a position or an obsid; used, if they are there, the period's error,
        the time of an eclipse and its error, and names.
    asked
        Names of its columns by the keys of :data:`.quantities.USUAL`, where they are not among those.
    offset
        Days to add to times of eclipses to have BJD; by default 2400000 where they lack it.
    timed
        Whether the time of an eclipse is needed, too, and a row without left out; then the phase of the secondary
        eclipse (``sep``) is read, if it is there.

    Raises
    ------
    EphemerisError
        If the table cannot be used, no row has a period, or times are no Julian dates.
    """
    needed = ("period", "eclipse") if timed else ("period",)
    wanted = (*_WANTED, "separation" if timed else "eclipse")
    table, columns = read_stars(
        path, what="ephemerides", needed=needed, wanted=wanted, asked=asked, refused=EphemerisError
    )
    notes = list(table.notes)
    period = _periods(table, columns, notes)
    eclipse = table.get("eclipse")
    if "eclipse" in table.columns:
        eclipse = _dates(table, np.where(np.isfinite(period), eclipse, np.nan), offset, columns, notes)
    known = np.isfinite(period) & (np.isfinite(eclipse) | (not timed))
    if not known.any():
        lacking = "a period above 0 and the time of an eclipse" if timed else "a period above 0"
        names = ", ".join(repr(table.columns[each]) for each in needed)
        columns.refuse(f"no row has {lacking} in {names}", "name other columns")
    if not known.all():
        what = "period or no time of an eclipse" if timed else "period"
        notes.append(f"{int((~known).sum())} of its {len(known)} rows have no {what}: left out")
    secondary = table.get("separation")
    return Ephemerides(
        table=table,
        notes=tuple(notes),
        name=np.asarray(table.values.get("name", [f"row {row}" for row in range(table.rows)])).astype(str),
        period=np.where(known, period, np.nan),
        period_error=_errors(table.get("period_error")),
        eclipse=np.where(known, eclipse, np.nan),
        eclipse_error=_errors(table.get("eclipse_error")),
        secondary=np.where((secondary > 0.0) & (secondary < 1.0), secondary, np.nan),
    )


def _periods(table: StarTable, columns: Columns, notes: list[str]) -> Array:
    """Periods; 0, and whole numbers below as the -1 of some catalogs, stand for none; other negative ones are wrong."""
    period, name = table.values["period"], table.columns["period"]
    odd = np.flatnonzero(period <= 0.0)  # NaN compares false
    wrong = odd[period[odd] != np.floor(period[odd])]
    if len(wrong):
        columns.refuse(
            f"row {wrong[0]} has {name} = {period[wrong[0]]:g} d", "periods are above 0; 0 or -1 stands for none"
        )
    if len(odd):
        notes.append(
            f"{len(odd)} periods are not above 0, the first in row {odd[0]} ({name} = {period[odd[0]]:g} d): taken as "
            "unknown"
        )
    return np.where(np.isfinite(period) & (period > 0.0), period, np.nan)


def _errors(values: Array) -> Array:
    return np.where(np.isfinite(values) & (values > 0.0), values, 0.0)


def _dates(table: StarTable, times: Array, offset: float | None, columns: Columns, notes: list[str]) -> Array:
    """Times of eclipses as Julian dates; odd ones are left out."""
    name = table.columns["eclipse"]
    dates = julian_dates(times, offset)
    if offset is not None:
        notes.append(f"{name!r}: {offset:.9g} d added, as was asked for")
    elif dates.completed:
        notes.append(f"{name!r} is taken for BJD - {OFFSET:.0f}")
    if len(dates.odd):
        first = f"{name} = {times[dates.odd[0]]:.10g}"
        if not dates.are_dates:
            columns.refuse(
                f"row {dates.odd[0]} has {first}, which is neither BJD nor BJD - 2400000",
                "give --epoch-offset, such as 2457000 for TESS or 2400000.5 for MJD",
            )
        notes.append(
            f"{len(dates.odd)} times of eclipses are no Julian dates, the first in row {dates.odd[0]} ({first}): "
            "left out"
        )
    return dates.date


@dataclass(frozen=True)
class Dates:
    """Times of a column as Julian dates."""

    date: Array
    """(row,) Julian dates; NaN where there is none, or no such date."""
    completed: bool
    """Whether some lacked :data:`OFFSET`, and got it."""
    odd: NDArray[np.int64]
    """Rows whose time is a number and no such date."""
    known: int
    """Rows whose time is a number."""

    @property
    def are_dates(self) -> bool:
        """Whether half of the times that are known are dates, at least: else the column holds something else."""
        return 2 * len(self.odd) <= self.known


def julian_dates(times: Array, offset: float | None = None) -> Dates:
    """Take a column of times for Julian dates.

    Parameters
    ----------
    times
        (row,) as the table has them; NaN where it has none.
    offset
        What is added to have Julian dates, days; None: :data:`OFFSET`, to those that lack it.
    """
    finite = np.isfinite(times)
    short = finite & (times > _SHORT[0]) & (times < _SHORT[1]) if offset is None else np.zeros(len(times), np.bool_)
    date = times + (offset or 0.0) + np.where(short, OFFSET, 0.0)
    good = finite & (date > _WHOLE[0]) & (date < _WHOLE[1])
    return Dates(np.where(good, date, np.nan), bool(short.any()), np.flatnonzero(finite & ~good), int(finite.sum()))
