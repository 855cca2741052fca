"""Rows of somebody's table and stars of a catalog; what a match means is for the crossmatch to say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import NO_STAR
from twinlines.pipeline.usertables import matching
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.usertables.matching import By, Stars
from twinlines.pipeline.usertables.stars import StarTable
from twinlines.pipeline.validation.observed import Observed


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
    distance: NDArray[np.float64]
    """Distance from it, arcsec; NaN by obsid."""


def match(table: StarTable, observed: Observed, radius: float, by: By | None = None) -> Match:
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
    UserTableError
        If the table has not what it is to be matched by, or none of its stars is in the catalog: with a guess of why.
    """
    stars, catalog = table.stars, Stars(observed.ra, observed.dec, observed.obsid)
    by = stars.usual(by)
    if by == "obsid" and stars.obsid is None:
        raise UserTableError(f"{table.path} has no obsid; match it by position")
    if by == "position" and stars.ra is None:
        raise UserTableError(f"{table.path} has no positions; match it by obsid")
    found = matching.match(stars, catalog, radius, by)
    star = np.where(found.there, observed.star[found.index], NO_STAR)
    if not (star != NO_STAR).any():
        raise UserTableError(f"{table.path}: {matching.why_none(stars, table.columns, catalog, radius, by)}")
    return Match(by, table.placed(by), found.index, star, found.distance)
