"""Rows of somebody's table and stars of a catalog: the nearest within a radius, or the same obsid.

Knows positions and identifiers; what a match means is for
:mod:`twinlines.pipeline.validation.foreign.crossmatch` to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from twinlines.pipeline.binaries.grouping import NO_STAR, has_position, unit_vectors
from twinlines.pipeline.validation.foreign.table import ForeignTable, ForeignTableError
from twinlines.pipeline.validation.observed import Observed

Array = NDArray[np.float64]
By = Literal["position", "obsid"]
"""How rows and stars are matched."""

NO_ROW = -1
"""Where nothing is within the radius."""

_ARCSEC = float(np.radians(1.0 / 3600.0))


@dataclass(frozen=True)
class Match:
    """Which star of a catalog each row of a table is; arrays of shape (row,)."""

    by: By
    """By what they were matched."""
    placed: NDArray[np.bool_]
    """Whether a row has what it is matched by."""
    exposure: NDArray[np.int64]
    """A row of the catalog that is of the star, the nearest; -1: the star is not in it."""
    star: NDArray[np.int64]
    """Number of the star; -1: it is not in the catalog."""
    distance: Array
    """Distance from it, arcsec; NaN by obsid."""


def nearest(ra: Array, dec: Array, to_ra: Array, to_dec: Array, radius: float) -> tuple[NDArray[np.int64], Array]:
    """For each position the nearest of others, and its distance.

    Parameters
    ----------
    ra, dec
        (row,) positions, deg; NaN where unknown.
    to_ra, to_dec
        (other,) positions among which the nearest is sought, deg.
    radius
        Largest distance, arcsec.

    Returns
    -------
    index, distance
        (row,) its place among the others, :data:`NO_ROW` without, and the distance, arcsec, NaN without.
    """
    index, distance = np.full(len(ra), NO_ROW, np.int64), np.full(len(ra), np.nan)
    mine, others = has_position(ra, dec), np.flatnonzero(has_position(to_ra, to_dec))
    if not mine.any() or not len(others):
        return index, distance
    # An exposure's position is its target's: most are there many times, and a tree of equal points is slow.
    points, first = np.unique(np.stack([to_ra[others], to_dec[others]], axis=-1), axis=0, return_index=True)
    tree = cKDTree(unit_vectors(points[:, 0], points[:, 1]))
    longest = 2.0 * np.sin(radius * _ARCSEC / 2.0)
    asked = unit_vectors(ra[mine], dec[mine])
    queried = tree.query(asked, distance_upper_bound=np.nextafter(longest, 2.0))
    chord, place = np.asarray(queried[0], np.float64), np.asarray(queried[1], np.int64)
    near = np.isfinite(chord)
    found, away = np.full(len(place), NO_ROW, np.int64), np.full(len(place), np.nan)
    found[near] = others[first[place[near]]]
    away[near] = 2.0 * np.arcsin(chord[near] / 2.0) / _ARCSEC
    index[mine], distance[mine] = found, away
    return index, distance


def match(table: ForeignTable, observed: Observed, radius: float, by: By | None = None) -> Match:
    """Find the stars of a table in a catalog.

    Parameters
    ----------
    table
        The table.
    observed
        The catalog's stars.
    radius
        Largest distance, arcsec; of several stars the nearest counts.
    by
        How; by default by position, if the table has any.

    Raises
    ------
    ForeignTableError
        If the table has not what it is to be matched by, or none of its stars is in the catalog: with a guess of why.
    """
    by = by or ("position" if table.placed else "obsid")
    if by == "obsid":
        if "obsid" not in table.values:
            raise ForeignTableError(f"{table.path} has no obsid; match it by position")
        result = _by_obsid(table, observed)
    else:
        if not table.placed:
            raise ForeignTableError(f"{table.path} has no positions; match it by obsid")
        ra, dec = table.values["ra"], table.values["dec"]
        exposure, distance = nearest(ra, dec, observed.ra, observed.dec, radius)
        star = np.where(exposure >= 0, observed.star[exposure], NO_STAR)
        result = Match("position", has_position(ra, dec), exposure, star, distance)
    if not (result.star != NO_STAR).any():
        raise ForeignTableError(_why_none(table, observed, radius, by))
    return result


def _by_obsid(table: ForeignTable, observed: Observed) -> Match:
    wanted: NDArray[np.int64] = table.values["obsid"]
    order = np.argsort(observed.obsid, kind="stable")
    place = np.minimum(np.searchsorted(observed.obsid, wanted, sorter=order), len(order) - 1)
    there = (observed.obsid[order[place]] == wanted) & (wanted >= 0)
    exposure = np.where(there, order[place], NO_ROW)
    star = np.where(there, observed.star[exposure], NO_STAR)
    return Match("obsid", wanted >= 0, exposure, star, np.full(len(wanted), np.nan))


def _why_none(table: ForeignTable, observed: Observed, radius: float, by: By) -> str:
    """What to say of a table that has no star of the catalog: where both are, and what would match."""
    if by == "obsid":
        mine = table.values["obsid"]
        return (
            f"{table.path}: none of its {table.rows} obsids ({_range(mine)}) is among the catalog's "
            f"({_range(observed.obsid)}); give a list of the same stars, or one with positions"
        )
    ra, dec = table.values["ra"], table.values["dec"]
    ways = {
        f"{table.columns['ra']!r} and {table.columns['dec']!r} are swapped": (dec, ra),
        f"{table.columns['ra']!r} is in hours": (15.0 * ra, dec),
        "both are in radians": (np.degrees(ra), np.degrees(dec)),
    }
    hint = ""
    for what, (longitude, latitude) in ways.items():
        index, _ = nearest(longitude, latitude, observed.ra, observed.dec, radius)
        if (index >= 0).any():
            hint = f"; {int((index >= 0).sum())} would if {what}"
            break
    return (
        f"{table.path}: none of its {table.rows} rows lies within {radius:g} arcsec of an exposure of the "
        f"catalog{hint}. Its {table.columns['ra']!r} runs from {_range(ra)}, {table.columns['dec']!r} from "
        f"{_range(dec)} deg, the catalog's from {_range(observed.ra)} and from {_range(observed.dec)}; give a list of "
        "the same stars, name other columns, or give columns their units"
    )


def _range(values: NDArray[Any]) -> str:
    known = values[np.isfinite(values)]
    style = "d" if known.dtype.kind in "iu" else ".4f"
    return f"{known.min():{style}} to {known.max():{style}}" if len(known) else "nowhere"
