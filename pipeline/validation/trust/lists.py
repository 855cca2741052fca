"""A user's list of presumed single stars: read, checked, and found among a catalog's stars."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, has_position, unit_vectors
from twinlines.pipeline.validation.trust.classes import TrustError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

_RA = ("ra", "ra_icrs", "raj2000", "_raj2000", "ra_deg")
_DEC = ("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "_dej2000", "dec_deg")


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
            rows = np.zeros(len(ra), np.bool_)
            placed = np.flatnonzero(has_position(ra, dec))
            reach = 2.0 * np.sin(np.radians(RADIUS / 3600.0) / 2.0)
            if len(placed):
                distance, _ = cKDTree(unit_vectors(self.ra, self.dec)).query(unit_vectors(ra[placed], dec[placed]))
                rows[placed] = distance <= reach
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
    if not path.is_file():
        raise TrustError(f"there is no list of single stars {path}; give a FITS, ECSV, CSV or VOTable file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(path)
    except Exception as error:  # astropy's readers raise whatever their formats' parsers do
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise TrustError(f"{path} cannot be read as a table ({said}); give FITS, ECSV, CSV or VOTable") from error
    names = {name.lower(): name for name in reversed(table.colnames)}
    nothing = np.empty(0)
    if not len(table):
        raise TrustError(f"{path} has no row; list at least one star")
    if "obsid" in names:
        values = _numbers(path, table, names["obsid"])
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (values < 0))
        if len(wrong):
            raise TrustError(f"{path}: row {wrong[0]} has the obsid {values[wrong[0]]:g}; give whole numbers")
        return StarList(path, digest, np.unique(values.astype(np.int64)), nothing, nothing)
    ra, dec = (next((names[name] for name in usual if name in names), None) for usual in (_RA, _DEC))
    if ra is None or dec is None:
        raise TrustError(
            f"{path} has no column obsid, and no ra and dec; it has {', '.join(table.colnames)}: rename those meant"
        )
    places = _numbers(path, table, ra), _numbers(path, table, dec)
    wrong = np.flatnonzero(~has_position(*places))
    if len(wrong):
        row = wrong[0]
        raise TrustError(f"{path}: row {row} is at ra {places[0][row]:g}, dec {places[1][row]:g}; give degrees")
    return StarList(path, digest, None, *places)


def _numbers(path: Path, table: Table, name: str) -> Array:
    try:
        return np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(np.float64), np.nan))
    except (TypeError, ValueError):
        raise TrustError(f"{path}: {name!r} holds {table[name].dtype}, no numbers; give numbers") from None
