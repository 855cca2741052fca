"""Positions on the sky: points of the unit sphere, which of others are within an angle of each, and which is nearest.

Angles are those of great circles, in arcseconds; a radius is included. Knows arrays alone.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from astropy.coordinates import angular_separation
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from twinlines.pipeline.lookup import NOWHERE as NOWHERE

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

LARGEST_RADIUS = 3600.0
"""The largest radius, arcsec: beyond it, nothing is a counterpart."""

_SLACK = 1e-9, 1e-15  # of chords, relative and absolute: what rounding takes away from those of the radius itself
_ALIKE = 1e-6  # arcsec: distances that differ by less, a few roundings of a coordinate, are equal


def is_radius(radius: float) -> bool:
    """Whether a number is a radius of a match, arcsec: above 0, and at most :data:`LARGEST_RADIUS`."""
    return 0.0 < radius <= LARGEST_RADIUS


def unit_vectors(ra: Array, dec: Array) -> Array:
    """Points of the unit sphere, shape (row, 3), of positions in degrees, shape (row,)."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def has_position(ra: Array, dec: Array) -> NDArray[np.bool_]:
    """Whether each pair of coordinates, deg, is a position: finite, and the declination at most 90 in size."""
    return np.isfinite(ra) & (np.abs(dec) <= 90.0)  # NaN compares false


def chord(radius: float) -> float:
    """Chord of an angle, arcsec, on the unit sphere; somewhat longer, so that none within the angle is missed."""
    return float(2.0 * np.sin(np.radians(radius / 3600.0) / 2.0) * (1.0 + _SLACK[0]) + _SLACK[1])


def separation(ra: Array, dec: Array, to_ra: Array, to_dec: Array) -> Array:
    """Angles between positions, deg, element by element, arcsec."""
    return np.asarray(np.degrees(angular_separation(*map(np.radians, (ra, dec, to_ra, to_dec)))) * 3600.0, np.float64)


def pairs(ra: Array, dec: Array, to_ra: Array, to_dec: Array, radius: float) -> tuple[Numbers, Numbers, Array]:
    """All pairs of positions that are within a radius of each other.

    Parameters
    ----------
    ra, dec
        (row,) positions, deg; all are some.
    to_ra, to_dec
        (other,) the others, deg.
    radius
        The radius, arcsec.

    Returns
    -------
    row, other, distance
        (pair,) numbers, and the angle, arcsec; in no order.
    """
    if not len(ra) or not len(to_ra):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    mine, others = cKDTree(unit_vectors(ra, dec)), cKDTree(unit_vectors(to_ra, to_dec))
    near = mine.sparse_distance_matrix(others, chord(radius), output_type="ndarray")
    row, other = near["i"].astype(np.int64), near["j"].astype(np.int64)
    apart = separation(ra[row], dec[row], to_ra[other], to_dec[other])
    inside = apart <= radius
    return row[inside], other[inside], apart[inside]


def pairs_among(ra: Array, dec: Array, radius: float) -> tuple[Numbers, Numbers]:
    """Numbers of positions, deg, that are within a radius, arcsec, of each other; (pair,), each pair once."""
    near = cKDTree(unit_vectors(ra, dec)).query_pairs(chord(radius), output_type="ndarray").astype(np.int64)
    one, other = near[:, 0], near[:, 1]
    inside = separation(ra[one], dec[one], ra[other], dec[other]) <= radius
    return one[inside], other[inside]


def distinct_places(ra: Array, dec: Array) -> tuple[Numbers, Numbers]:
    """The first row of each distinct position, shape (place,), and the number of each row's, shape (row,)."""
    order = np.lexsort((dec, ra))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(ra[order]) != 0.0) | (np.diff(dec[order]) != 0.0)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def nearest(ra: Array, dec: Array, to_ra: Array, to_dec: Array, radius: float) -> tuple[Numbers, Array]:
    """For each position the nearest of others, and its distance; of equally near ones the first.

    Parameters
    ----------
    ra, dec
        (row,) positions, deg; NaN where unknown.
    to_ra, to_dec
        (other,) positions among which the nearest is sought, deg; NaN where unknown.
    radius
        Largest distance, arcsec.

    Returns
    -------
    index, distance
        (row,) its place among the others, :data:`twinlines.pipeline.lookup.NOWHERE` without, and the distance, arcsec,
        NaN without.
    """
    index, distance = np.full(len(ra), NOWHERE, np.int64), np.full(len(ra), np.nan)
    mine, others = np.flatnonzero(has_position(ra, dec)), np.flatnonzero(has_position(to_ra, to_dec))
    if not len(mine) or not len(others):
        return index, distance
    # An exposure's position is its target's: most are there many times, and a tree of equal points is slow.
    others = others[distinct_places(to_ra[others], to_dec[others])[0]]
    asked, of_place = distinct_places(ra[mine], dec[mine])
    asked = mine[asked]
    tree = cKDTree(unit_vectors(to_ra[others], to_dec[others]))
    wanted = unit_vectors(ra[asked], dec[asked])
    reach = np.asarray(tree.query(wanted, distance_upper_bound=chord(radius))[0], np.float64)
    near = np.flatnonzero(np.isfinite(reach))
    # All that are as near as the nearest but for rounding: which of them is first decides.
    around = tree.query_ball_point(wanted[near], reach[near] * (1.0 + _SLACK[0]) + np.radians(_ALIKE / 3600.0))
    counts = np.array([len(each) for each in around], np.int64)
    place = np.repeat(near, counts)
    other = others[np.fromiter(chain.from_iterable(around), np.int64, int(counts.sum()))]
    apart = separation(ra[asked[place]], dec[asked[place]], to_ra[other], to_dec[other])
    least = np.full(len(asked), np.inf)
    np.minimum.at(least, place, apart)
    alike = (apart <= least[place] + _ALIKE) & (least[place] <= radius)
    found = np.full(len(asked), len(to_ra), np.int64)
    np.minimum.at(found, place[alike], other[alike])
    there = found < len(to_ra)
    index[mine] = np.where(there, found, NOWHERE)[of_place]
    distance[mine] = np.where(there, least, np.nan)[of_place]
    return index, distance
