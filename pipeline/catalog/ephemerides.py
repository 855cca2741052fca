"""Ephemerides as users' tables have them: usual names of columns, and times of eclipses that leave out 2400000.

What every reader of ephemerides goes by; which rows it wants, and what it refuses, it says itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PERIOD_NAMES = ("period", "per", "p", "porb", "p_orb", "orbital_period", "period_d", "pday", "map_p")
"""Usual names of a period's column, whatever their case, the likeliest first."""

PERIOD_ERROR_NAMES = (
    "period_error",
    "period_err",
    "e_period",
    "e_per",
    "per_err",
    "perioderr",
    "perr",
    "sigma_period",
)
"""The same of its error."""

ECLIPSE_NAMES = ("bjd0", "eclipse", "t0", "hjd0", "t_eclipse", "epoch", "tmin", "bjd_0", "t_0")
"""The same of the time of an eclipse."""

ECLIPSE_ERROR_NAMES = (
    "bjd0_err",
    "eclipse_error",
    "t0_err",
    "t0_error",
    "e_t0",
    "e_bjd0",
    "epoch_err",
    "tmin_err",
    "bjd0err",
)
"""The same of its error."""

OFFSET = 2_400_000.0
"""What catalogs leave out of Julian dates, days; not the 2400000.5 of an MJD."""

_SHORT = (40_000.0, 100_000.0)  # such dates lack OFFSET: 1968 to 2132
_WHOLE = (2_430_000.0, 2_500_000.0)


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
