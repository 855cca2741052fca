"""Exposures of the catalog at the positions of another table: all pairs within a radius, of a million in seconds.

Positions become points of the unit sphere. The catalog's, in its own order, go into a k-d tree for each block of rows:
that order is by place on the sky, so that few of the table's lie around a block; these go into another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from astropy.coordinates import angular_separation
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from twinlines.pipeline.catalog.blockwise import BLOCK_ROWS
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.catalog.foreign import Positions

LARGEST = float(np.radians(1.0))
"""The largest radius, radians: beyond it, nothing is a counterpart."""

MOST_PAIRS = 50_000_000
"""Pairs that are kept at most: 1.2 GB."""

NO_ROW = -1
"""Where a position has no exposure."""


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
        The radius, radians.

    Raises
    ------
    CatalogError
        If the radius is not between 0 and a degree, or there are more pairs than could be kept.
    """
    if not 0.0 < radius <= LARGEST:
        arcsec = np.degrees(radius) * 3600.0
        raise CatalogError(f"the radius of a crossmatch lies between 0 and 3600 arcsec (asked: {arcsec:g})")
    mine = np.flatnonzero(table.placed)
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    if len(mine) and len(ra):
        theirs = _unit_vectors(table.ra[mine], table.dec[mine])
        chord = 2.0 * np.sin(radius / 2.0) * (1.0 + 1e-9) + 1e-15  # what rounding adds is taken away below
        count = 0
        for start in range(0, len(ra), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            good = start + np.flatnonzero(np.isfinite(ra[block]) & (np.abs(dec[block]) <= 90.0))
            if not len(good):
                continue
            points = _unit_vectors(ra[good], dec[good])
            around = np.ones(len(mine), np.bool_)
            for axis, (low, high) in enumerate(zip(points.min(axis=0), points.max(axis=0), strict=True)):
                around &= (theirs[:, axis] >= low - chord) & (theirs[:, axis] <= high + chord)
            close = np.flatnonzero(around)
            if not len(close):
                continue
            near = cKDTree(points).sparse_distance_matrix(cKDTree(theirs[close]), chord, output_type="ndarray")
            there, here = mine[close[near["j"]]], good[near["i"]]
            apart = angular_separation(
                *(np.radians(angle) for angle in (table.ra[there], table.dec[there], ra[here], dec[here]))
            )
            inside = apart <= radius
            pairs.append((there[inside], here[inside], apart[inside]))
            count += int(inside.sum())
            if count > MOST_PAIRS:
                raise CatalogError(
                    f"more than {MOST_PAIRS} exposures lie within {np.degrees(radius) * 3600.0:g} arcsec of the "
                    f"positions of {table.source}; give a smaller radius, or fewer positions"
                )
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    there, here, apart = (np.concatenate(parts) for parts in zip(empty, *pairs, strict=True))
    order = np.lexsort((here, apart, there))
    arcsec = np.degrees(apart[order]) * 3600.0
    return SkyMatch(table, float(np.degrees(radius) * 3600.0), len(ra), there[order], here[order], arcsec)


def _unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
