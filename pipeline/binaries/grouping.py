"""Which exposures are of one star: by position, transitively, and by identifier. Knows arrays, and no catalog.

Positions that are equal become one, and pairs of these that are within the radius of each other are edges of a graph:
stars are its connected components. Millions of rows take seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twinlines.pipeline.sky import LARGEST_RADIUS, distinct_places, has_position, is_radius, pairs_among

RADIUS = 3.0
"""Exposures within this angle of each other are of one star, arcsec: about the fibre's diameter."""

NO_STAR = -1
"""Number of a row that has neither a position nor an identifier."""


def group(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    *,
    radius: float = RADIUS,
    ids: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Number the stars of rows: rows are of one star if a chain of steps, each within ``radius``, leads between them.

    Parameters
    ----------
    ra, dec
        (row,) right ascension and declination (J2000), deg; NaN where unknown.
    radius
        Longest step, arcsec, above 0 and at most :data:`.sky.LARGEST_RADIUS`.
    ids
        (row,) identifiers of stars, negative where unknown: rows of equal identifiers are of one star, too, wherever
        they are.

    Returns
    -------
    array, shape (row,)
        Numbers from 0 in the order of the stars' first rows; :data:`NO_STAR` without position and identifier.

    Raises
    ------
    ValueError
        If shapes differ, or the radius is none.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    if ra.shape != dec.shape or ra.ndim != 1 or (ids is not None and ids.shape != ra.shape):
        raise ValueError(f"ra has shape {ra.shape}, dec {dec.shape}, or ids another; give equal ones, (row,)")
    if not is_radius(radius):
        raise ValueError(f"the radius of a star is {radius} arcsec; give one above 0, at most {LARGEST_RADIUS:g}")
    placed = has_position(ra, dec)
    known = placed if ids is None else placed | (ids >= 0)
    if not known.any():
        return np.full(len(ra), NO_STAR, np.int64)

    # Nodes are the places, each once, and after them the identifiers; a row that has both is an edge between them.
    rows = np.flatnonzero(placed)
    first, place = distinct_places(ra[rows], dec[rows])
    begin, end = pairs_among(ra[rows[first]], dec[rows[first]], radius)
    begins, ends = [begin], [end]
    node = np.full(len(ra), NO_STAR, np.int64)
    node[placed] = place
    nodes = len(first)
    if ids is not None:
        named = ids >= 0
        distinct, number = np.unique(ids[named], return_inverse=True)
        of_id = np.full(len(ra), NO_STAR, np.int64)
        of_id[named] = nodes + number
        both = named & placed
        begins.append(node[both])
        ends.append(of_id[both])
        node[named & ~placed] = of_id[named & ~placed]
        nodes += len(distinct)
    edges = np.concatenate(begins), np.concatenate(ends)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(nodes, nodes))
    _, component = connected_components(graph.tocsr(), directed=False)
    star = np.full(len(ra), NO_STAR, np.int64)
    star[known] = in_order(component[node[known]])
    return star


def in_order(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers from 0, in the order in which labels first appear, shape (row,)."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
