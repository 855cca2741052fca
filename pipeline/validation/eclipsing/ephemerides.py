"""Ephemerides of eclipsing binaries: period and time of an eclipse, and the phases of exposures.

Phase 0 is the primary eclipse, the deeper one. Times are barycentric Julian dates: LAMOST's ``bjdmid`` is BJD (TDB),
and so are Kepler's; the Kepler Eclipsing Binary Catalog leaves out 2400000 (not the 2400000.5 of an MJD).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog.ephemerides import OFFSET, julian_dates
from twinlines.pipeline.validation.foreign.table import ForeignTable, ForeignTableError, read

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ephemerides:
    """Ephemerides of a table's stars; arrays of shape (row,), NaN where a row has none."""

    table: ForeignTable
    """The table that they come from."""
    notes: tuple[str, ...]
    """How it was read."""
    name: NDArray[np.str_]
    """Names of the stars."""
    period: Array
    """Period, d."""
    epoch: Array
    """Time of a primary eclipse, BJD."""
    period_error: Array
    """Error of the period, d; 0 where it is not known."""
    epoch_error: Array
    """Error of the epoch, d; 0 where it is not known."""
    secondary: Array
    """Phase of the secondary eclipse; NaN where it is not known."""

    def phase(self, row: NDArray[np.int64], bjd: Array) -> tuple[Array, Array]:
        """Phases, 0 to 1, of rows' stars at dates BJD, and their errors; shape of both as of ``row``.

        The error is that of the epoch and that of the period times the cycles since.
        """
        cycles = (bjd - self.epoch[row]) / self.period[row]
        error = np.hypot(self.epoch_error[row], cycles * self.period_error[row]) / self.period[row]
        return cycles % 1.0, error


def read_ephemerides(path: str | Path, asked: dict[str, str] | None = None, offset: float | None = None) -> Ephemerides:
    """Read ephemerides, such as the Kepler Eclipsing Binary Catalog's (its download as CSV, as it is).

    Parameters
    ----------
    path
        The table, with columns of the period and of the epoch (``bjd0``, ``t0``).
    asked
        Names of columns, by what they are for, where they are not the usual ones.
    offset
        Days to add to epochs to have BJD; by default 2400000 where they lack it.

    Raises
    ------
    ForeignTableError
        If the table cannot be used, or its epochs are no Julian dates.
    """
    table = read(
        path,
        needed=("period", "epoch"),
        wanted=("period_error", "epoch_error", "separation"),
        asked=asked,
    )
    period, epoch = table.values["period"].copy(), table.values["epoch"].copy()
    notes = list(table.notes)
    name = table.columns["epoch"]
    known = np.isfinite(epoch) & np.isfinite(period) & (period > 0.0)
    if not known.any():
        raise ForeignTableError(f"{table.path}: no row has a period above 0 and an epoch; there is no phase without")
    if not known.all():
        notes.append(f"{int((~known).sum())} of its {len(known)} rows have no period or no epoch: left out")
    dates = julian_dates(np.where(known, epoch, np.nan), offset)
    if offset is not None:
        notes.append(f"{name!r}: {offset:.9g} d added, as was asked for")
    elif dates.completed:
        notes.append(f"{name!r} is taken for BJD - {OFFSET:.0f}")
    if not dates.are_dates:
        raise ForeignTableError(
            f"{table.path}: row {dates.odd[0]} has the epoch {epoch[dates.odd[0]]:.9g} in {name!r}, which is "
            "neither BJD nor BJD - 2400000; give --epoch-offset, such as 2457000 for TESS or 2400000.5 for MJD"
        )
    if len(dates.odd):
        notes.append(
            f"{len(dates.odd)} rows have an epoch that is no such date, first row {dates.odd[0]} "
            f"({epoch[dates.odd[0]]:.9g}): left out"
        )
    epoch = dates.date
    known &= np.isfinite(epoch)
    period[~known], epoch[~known] = np.nan, np.nan
    secondary = table.get("separation")
    secondary[~((secondary > 0.0) & (secondary < 1.0))] = np.nan
    return Ephemerides(
        table=table,
        notes=tuple(notes),
        name=np.asarray(table.values.get("name", [f"row {row}" for row in range(table.rows)])).astype(str),
        period=period,
        epoch=epoch,
        period_error=_errors(table.get("period_error")),
        epoch_error=_errors(table.get("epoch_error")),
        secondary=secondary,
    )


def _errors(values: Array) -> Array:
    return np.where(np.isfinite(values) & (values > 0.0), values, 0.0)
