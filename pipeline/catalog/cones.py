"""Which rows of a catalog lie in a cone: by the index beside it or, where there is none, by its columns.

Without an index the HEALPix column is read whole; where that is missing, or the cone is wide or about a pole, all
declinations.
"""

from __future__ import annotations

import astropy.units as u
import cdshealpix
import numpy as np
import xarray as xr
from astropy.coordinates import angular_separation
from numpy.typing import NDArray

from twinlines.pipeline.schema import HEALPIX_ORDER

# Beyond these, all declinations are looked at: cdshealpix misses cells of very wide cones (seen at 139 degrees) and
# about the poles (seen where a cone reaches beyond 88 degrees); below the last, it panics.
_WIDE = float(np.radians(5.0))
_POLAR = float(np.radians(75.0))
_NARROW = float(np.radians(0.1 / 3600.0))


def rows_in_cone(catalog: xr.Dataset, ra: float, dec: float, radius: float) -> NDArray[np.int64]:
    """Rows within a cone, whatever their order, nearest first, then by number; shape (row,).

    Parameters
    ----------
    catalog
        Rows with ``ra`` and ``dec``, deg, and perhaps ``healpix29``.
    ra, dec
        Its centre, deg.
    radius
        Its radius, radians.
    """
    rows = _near(catalog, ra, dec, radius)
    lon, lat = (np.radians(catalog[name].values[rows]) for name in ("ra", "dec"))
    distance = angular_separation(np.radians(ra), np.radians(dec), lon, lat)
    inside = distance <= radius
    rows, distance = rows[inside], distance[inside]
    return np.asarray(rows[np.lexsort((rows, distance))], np.int64)


def _near(catalog: xr.Dataset, ra: float, dec: float, radius: float) -> NDArray[np.int64]:
    """Rows that may lie in a cone: all within it, and some beside."""
    if "healpix29" not in catalog or radius > _WIDE or abs(np.radians(dec)) + radius > _POLAR:
        declination = catalog["dec"].values
        # Missing and impossible declinations are near nothing.
        return np.flatnonzero(
            (np.abs(declination - dec) <= np.degrees(radius) + 1e-9)
            & (np.abs(declination) <= 90)
            & np.isfinite(catalog["ra"].values)
        )
    index = catalog["healpix29"].values
    begins, ends = _covering_ranges(ra, dec, max(radius, _NARROW))
    if np.all(index[1:] >= index[:-1]):  # as published
        first, last = np.searchsorted(index, begins), np.searchsorted(index, ends)
        none = np.empty(0, dtype=np.int64)
        return np.concatenate([none, *(np.arange(a, b) for a, b in zip(first, last, strict=True))])
    place = np.searchsorted(begins, index, side="right") - 1
    return np.flatnonzero((place >= 0) & (index < ends[place]))


def _covering_ranges(ra: float, dec: float, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranges of the HEALPix index (order 29, nested), ascending, that cover a cone; ``radius`` in radians."""
    cells, orders, _ = cdshealpix.nested.cone_search(
        lon=ra * u.deg, lat=dec * u.deg, radius=radius * u.rad, depth=_covering_order(radius), flat=False
    )
    scale = 2 * (HEALPIX_ORDER - orders.astype(np.int64))
    begins, ends = cells.astype(np.int64) << scale, (cells.astype(np.int64) + 1) << scale
    order = np.argsort(begins)
    return begins[order], ends[order]


def _covering_order(radius: float) -> int:
    """HEALPix order whose cells are somewhat smaller than ``radius`` (radians), so that few of them cover the cone."""
    side = np.sqrt(np.pi / 3.0)  # of a base cell, radians
    return int(np.clip(np.ceil(np.log2(side / radius)) + 2, 0, HEALPIX_ORDER))
