"""A user's list of presumed single stars: read, checked, and found among a catalog's stars."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS
from twinlines.pipeline.usertables.matching import By, Stars, match, why_none
from twinlines.pipeline.usertables.stars import StarTable, read_stars
from twinlines.pipeline.validation.trust.classes import TrustError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

_EACH = {"position": "a position", "obsid": "an obsid"}


@dataclass(frozen=True)
class StarList:
    """Stars of a list."""

    table: StarTable
    """The table."""
    digest: str
    """SHA-256 of the file."""

    @property
    def by(self) -> By:
        """How its stars are found."""
        return self.table.stars.usual(None)

    def stars(self, obsid: Numbers, ra: Array, dec: Array, star: Numbers) -> Numbers:
        """Numbers of the catalog's stars that are in the list, ascending.

        Parameters
        ----------
        obsid, ra, dec, star
            (exposure,) obsids, positions and numbers of stars.

        Raises
        ------
        TrustError
            If none is.
        """
        exposures = Stars(ra, dec, obsid)
        there = match(exposures, self.table.stars, RADIUS, self.by).there
        found = np.unique(star[there & (star != NO_STAR)])
        if not len(found):
            why = why_none(self.table.stars, self.table.columns, exposures, RADIUS, self.by)
            raise TrustError(f"{self.table.path}: {why}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {"file": self.table.path.name, "sha256": self.digest, "rows": self.table.rows, "by": self.by}


def read_list(path: str | Path) -> StarList:
    """Read a list: stars by position, or else by obsid, in any format that tables of users may have.

    Raises
    ------
    TrustError
        If there is no such table, it lacks such columns, or a value is none.
    """
    table, columns = read_stars(path, what="single stars", refused=TrustError)
    by = table.stars.usual(None)
    lacking = np.flatnonzero(~table.placed(by))
    if len(lacking):
        columns.refuse(f"row {lacking[0]} has no {by}, nor have {len(lacking)} in all", f"give each star {_EACH[by]}")
    return StarList(table, hashlib.sha256(table.path.read_bytes()).hexdigest())
