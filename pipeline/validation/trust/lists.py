"""A user's list of presumed single stars: read, checked, and found among a catalog's stars."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, has_position
from twinlines.pipeline.catalog.usertable import UserTable, read_table
from twinlines.pipeline.validation.foreign.match import NO_ROW, nearest
from twinlines.pipeline.validation.trust.classes import TrustError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class StarList:
    """Stars of a list."""

    path: Path
    """File they come from."""
    digest: str
    """SHA-256 of the file."""
    obsid: Numbers | None
    """(row,) obsids; None: stars are found by position."""
    ra: Array
    """(row,) right ascension, deg; empty where they are found by obsid."""
    dec: Array
    """(row,) declination, deg."""

    @property
    def rows(self) -> int:
        """Stars of the list."""
        return len(self.ra) if self.obsid is None else len(self.obsid)

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
        if self.obsid is not None:
            rows = np.isin(obsid, self.obsid)
        else:
            rows = nearest(ra, dec, self.ra, self.dec, RADIUS)[0] != NO_ROW
        found = np.unique(star[rows & (star != NO_STAR)])
        if not len(found):
            how = "obsids" if self.obsid is not None else f"positions (within {RADIUS:g} arcsec)"
            raise TrustError(
                f"{self.path}: none of its {self.rows} {how} is among the catalog's stars; give a list of stars of "
                "this survey"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {"file": self.path.name, "sha256": self.digest, "rows": self.rows, "by": self.by}

    @property
    def by(self) -> str:
        """How its stars are found."""
        return "position" if self.obsid is None else "obsid"


def read_list(path: str | Path) -> StarList:
    """Read a list: FITS, ECSV, CSV or VOTable, with a column ``obsid``, or columns ``ra`` and ``dec`` in degrees.

    Raises
    ------
    TrustError
        If there is no such table, it lacks these columns, or a value is none.
    """
    path = Path(path)
    reading = _Reading(path, read_table(path, "single stars", TrustError), {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    nothing = np.empty(0)
    if not len(reading.table):
        raise TrustError(f"{path} has no row; list at least one star")
    if reading.has("obsid"):
        reading.require("obsid")
        numbers = reading.integers(reading.names["obsid"])
        wrong = np.flatnonzero(numbers < 0)
        if len(wrong):
            reading.refuse(f"row {wrong[0]} has the obsid {numbers[wrong[0]]}", "give whole numbers")
        return StarList(path, digest, np.unique(numbers), nothing, nothing)
    reading.require("ra", "dec")
    places = reading.values("ra"), reading.values("dec")
    reading.require_degrees(*places)
    wrong = np.flatnonzero(~has_position(*places))
    if len(wrong):
        row = wrong[0]
        reading.refuse(f"row {row} is at ra {places[0][row]:g}, dec {places[1][row]:g}", "give each star a position")
    return StarList(path, digest, None, *places)


class _Reading(UserTable):
    refused = TrustError
