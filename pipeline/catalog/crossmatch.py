"""Exposures of the catalog at the positions of another table: all pairs within a radius, of a million in seconds.

The catalog's rows are taken in blocks, in their own order: that is by place on the sky, so that few of the table's
positions lie around a block, and only these are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.catalog.blockwise import BLOCK_ROWS
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.sky import LARGEST_RADIUS, NOWHERE, chord, has_position, is_radius, pairs, unit_vectors
from twinlines.pipeline.usertables import positions as places
from twinlines.pipeline.usertables.columns import Columns, Content
from twinlines.pipeline.usertables.files import read_table
from twinlines.pipeline.usertables.positions import Positions, Unit
from twinlines.pipeline.usertables.stars import require_positions

Table: TypeAlias = str | Path | Content
"""A file, or a table; also a DataFrame of pandas, whose columns are found by name."""

_FEW = 3  # positions that say nothing of their unit
_LEAST_EXTENT: Mapping[Unit, float] = {"rad": 3.0, "hour": 12.0}  # of right ascensions hardly degrees by chance

MOST_PAIRS = 50_000_000
"""Pairs that are kept at most: 1.2 GB."""

NO_ROW = NOWHERE
"""Where a position has no exposure."""


class PositionsError(CatalogError):
    """A table has no positions, or none that could be."""


@dataclass(frozen=True)
class SkyMatch:
    """Which exposures are at which positions: pairs, sorted by the table's row, then by separation."""

    table: Positions
    """The table's positions, and how they were read."""
    radius: float
    """Largest separation, arcsec."""
    catalog_rows: int
    """Exposures of the catalog."""
    table_row: NDArray[np.int64]
    """(pair,) row of the table."""
    row: NDArray[np.int64]
    """(pair,) row of the catalog."""
    separation: NDArray[np.float64]
    """(pair,) arcsec."""

    @cached_property
    def exposures(self) -> NDArray[np.int64]:
        """Number of exposures at each position of the table, shape (table row,)."""
        return np.bincount(self.table_row, minlength=len(self.table.ra)).astype(np.int64)

    @cached_property
    def nearest(self) -> NDArray[np.int64]:
        """Row of the nearest exposure, shape (table row,); :data:`NO_ROW` where there is none."""
        nearest = np.full(len(self.table.ra), NO_ROW, np.int64)
        rows, first = np.unique(self.table_row, return_index=True)
        nearest[rows] = self.row[first]
        return nearest

    def rows(self, catalog: xr.Dataset) -> xr.Dataset:
        """Exposures of the pairs, one for each, with ``table_row`` and ``separation`` (arcsec) beside their columns.

        Parameters
        ----------
        catalog
            The catalog that was matched.
        """
        found: xr.Dataset = catalog.sb2.take(self.row)
        return found.assign(
            table_row=("exposure", self.table_row, {"units": "", "long_name": "Row of the other table, from 0"}),
            separation=("exposure", self.separation, {"units": "arcsec", "long_name": "Distance from its position"}),
        )

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: how the table was read, and what was found."""
        return {
            "table": self.table.source,
            "columns": dict(self.table.columns),
            "units": dict(self.table.units),
            "notes": list(self.table.notes),
            "radius": self.radius,
            "rows": len(self.table.ra),
            "rows_without_position": int(np.sum(~self.table.placed)),
            "rows_matched": int(np.sum(self.exposures > 0)),
            "exposures": self.catalog_rows,
            "exposures_matched": len(np.unique(self.row)),
            "pairs": len(self.row),
        }


def crossmatch(table: Positions, ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float) -> SkyMatch:
    """Find the rows of a catalog within a radius of each position of a table.

    Parameters
    ----------
    table
        Positions.
    ra, dec
        (row,) those of the catalog, deg; rows that have none match nothing.
    radius
        The radius, arcsec; one at that distance is within it.

    Raises
    ------
    CatalogError
        If the radius is not above 0 and at most a degree, or there are more pairs than could be kept.
    """
    if not is_radius(radius):
        raise CatalogError(
            f"the radius of a crossmatch lies between 0 and {LARGEST_RADIUS:g} arcsec (asked: {radius:g})"
        )
    mine = np.flatnonzero(table.placed)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    if len(mine) and len(ra):
        theirs, reach, count = unit_vectors(table.ra[mine], table.dec[mine]), chord(radius), 0
        for start in range(0, len(ra), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            good = start + np.flatnonzero(has_position(ra[block], dec[block]))
            if not len(good):
                continue
            points = unit_vectors(ra[good], dec[good])
            around = np.all((theirs >= points.min(axis=0) - reach) & (theirs <= points.max(axis=0) + reach), axis=1)
            close = mine[np.flatnonzero(around)]
            there, here, apart = pairs(table.ra[close], table.dec[close], ra[good], dec[good], radius)
            found.append((close[there], good[here], apart))
            count += len(apart)
            if count > MOST_PAIRS:
                raise CatalogError(
                    f"more than {MOST_PAIRS} exposures lie within {radius:g} arcsec of the positions of "
                    f"{table.source}; give a smaller radius, or fewer positions"
                )
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    there, here, apart = (np.concatenate(parts) for parts in zip(empty, *found, strict=True))
    order = np.lexsort((here, apart, there))
    return SkyMatch(table, radius, len(ra), there[order], here[order], apart[order])


def positions(table: Table, *, ra: str | None = None, dec: str | None = None, unit: Unit | None = None) -> Positions:
    """Find the positions of a table.

    Where there is no unit and the numbers look like radians or hours, they are refused: that nothing of a table is in
    the catalog is an answer, too, so that a wrong guess would not show.

    Parameters
    ----------
    table
        A file (FITS, ECSV, CSV, VOTable, Parquet, machine-readable text), a table, or arrays by name.
    ra, dec
        Names of the columns, where they are not the usual ones.
    unit
        Their unit, whatever the columns say.

    Raises
    ------
    PositionsError
        If the table cannot be read, has no such columns, these hold no positions, or they look like something else than
        degrees, and nothing says what.
    """
    if unit not in (None, "deg", "rad", "hour"):
        raise PositionsError(f"the unit of positions is {unit!r}; give 'deg', 'rad' or 'hour'")
    is_file = isinstance(table, str | Path)
    content = read_table(Path(table), "positions", PositionsError) if isinstance(table, str | Path) else table
    asked = {what: name for what, name in (("ra", ra), ("dec", dec)) if name is not None}
    columns = Columns(str(table) if is_file else "the table", content, asked, PositionsError)
    require_positions(columns, cure="name its columns (ra=..., dec=..., or --ra-column, --dec-column)")
    found = places.positions(columns, unit)
    if unit is None and all(said == places.ASSUMED for said in found.units.values()):
        return replace(found, notes=(*found.notes, *_suspicion(columns, found)))
    return found


def _suspicion(columns: Columns, found: Positions) -> tuple[str, ...]:
    """Refuse numbers without a unit that are no degrees; what to know of those that might not be."""
    ra, dec = found.ra[found.placed], found.dec[found.placed]
    if len(ra) < _FEW:
        return ()
    highest, lowest, tallest = float(ra.max()), float(ra.min()), float(np.abs(dec).max())
    looks: Unit | None = None
    if lowest >= -np.pi and highest <= 2 * np.pi and tallest <= np.pi / 2:
        looks = "rad"
    elif lowest >= 0.0 and highest <= 24.0 and tallest <= 90.0:
        looks = "hour"
    if looks is None:
        return ()
    seen = f"right ascensions lie between {lowest:g} and {highest:g}, declinations within {tallest:g}"
    words = {"rad": "radians", "hour": "hours"}[looks]
    if highest - lowest >= _LEAST_EXTENT[looks]:
        columns.refuse(f"its columns have no unit, and look like {words}: {seen}", f"say --unit {looks}, or deg")
    return (f"{seen}: if these are {words}, say so (--unit {looks})",)
