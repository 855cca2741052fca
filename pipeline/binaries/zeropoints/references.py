"""A table of reference velocities, such as Gaia's: read, checked, and matched with exposures.

Columns are told by the names that they usually have; whoever asks may name others. What cannot be right is refused with
its row: two velocities for one star, units of something else, a table of another part of the sky.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import RADIUS, has_position
from twinlines.pipeline.binaries.zeropoints.units import ZeroPointError
from twinlines.pipeline.catalog.usertable import POSITION_NAMES, UserTable, read_table

Array = NDArray[np.float64]
By = Literal["position", "obsid"]
"""How stars of the table and exposures are matched."""

USUAL: Mapping[str, tuple[str, ...]] = {
    **POSITION_NAMES,
    "velocity": ("radial_velocity", "dr2_radial_velocity", "rv_ref", "rv", "vrad", "rvel"),
    "error": ("radial_velocity_error", "dr2_radial_velocity_error", "rv_ref_err", "rv_err", "rv_error", "e_rv"),
}
"""Usual names of columns, whatever their case, the likeliest first."""

_FASTEST = 1500.0  # km/s: no star of the Galaxy is as fast; numbers without a unit that are above it are no km/s
NO_MATCH = -1
"""Where an exposure's star is not in the table."""


class ReferenceTableError(ZeroPointError):
    """A table of references cannot be used."""


@dataclass(frozen=True)
class ReferenceColumns:
    """Names of the table's columns, where they are not the usual ones; None: look for a usual name."""

    ra: str | None = None
    """Right ascension."""
    dec: str | None = None
    """Declination."""
    obsid: str | None = None
    """LAMOST's observation identifier."""
    velocity: str | None = None
    """Radial velocity."""
    error: str | None = None
    """Error of the velocity."""


@dataclass(frozen=True)
class References:
    """Stars of known velocity; arrays of shape (star,)."""

    path: Path
    """File they come from."""
    digest: str
    """SHA-256 of the file."""
    columns: Mapping[str, str]
    """Name of the column that was taken for what."""
    notes: tuple[str, ...]
    """What a user should know of how the table was read."""
    rows: int
    """Rows of the table, those without a velocity included."""
    velocity: Array
    """Radial velocity, km/s, finite."""
    error: Array
    """Its error, km/s."""
    ra: Array | None = None
    """Right ascension, deg; None: stars are matched by obsid."""
    dec: Array | None = None
    """Declination, deg."""
    obsid: NDArray[np.int64] | None = None
    """LAMOST's observation identifier; None: stars are matched by position."""

    @property
    def by(self) -> By:
        """How its stars are matched."""
        return "obsid" if self.ra is None else "position"

    def match(self, obsid: NDArray[np.int64], ra: Array, dec: Array, radius: float = RADIUS) -> NDArray[np.int64]:
        """Row of each exposure's star among these, shape (exposure,); :data:`NO_MATCH` without one.

        Parameters
        ----------
        obsid, ra, dec
            (exposure,) identifiers, and positions (J2000), deg.
        radius
            Largest distance, arcsec; of several stars the nearest counts.

        Raises
        ------
        ReferenceTableError
            If no exposure has one.
        """
        if self.obsid is not None:
            place = np.minimum(np.searchsorted(self.obsid, obsid), len(self.obsid) - 1)  # they are sorted
            row = np.where(self.obsid[place] == obsid, place, NO_MATCH)
            if not (row >= 0).any():
                raise ReferenceTableError(
                    f"{self.path}: none of its {len(self.obsid)} obsids ({self.obsid[0]} to {self.obsid[-1]}) is among "
                    f"the catalog's ({obsid.min()} to {obsid.max()}); give a table of the same stars, or positions"
                )
            return row
        assert self.ra is not None
        assert self.dec is not None
        row = np.full(len(ra), NO_MATCH, np.int64)
        placed = has_position(ra, dec)
        # An exposure's position is its target's: most are there many times.
        distinct, inverse = np.unique(np.stack([ra[placed], dec[placed]], axis=-1), axis=0, return_inverse=True)
        if not len(distinct):
            raise ReferenceTableError(
                f"no exposure of the catalog has a position, by which {self.path} is to be matched"
            )
        stars = SkyCoord(self.ra, self.dec, unit="deg")
        nearest, distance, _ = SkyCoord(distinct[:, 0], distinct[:, 1], unit="deg").match_to_catalog_sky(stars)
        near = distance.to_value(u.arcsec) <= radius
        if not near.any():
            raise ReferenceTableError(
                f"{self.path}: none of its {len(self.ra)} stars lies within {radius:g} arcsec of an exposure; the "
                f"nearest is {distance.min().to_string(u.deg, decimal=True, precision=4)} degrees away. Its "
                f"{self.columns['ra']!r} runs from {self.ra.min():.4f} to {self.ra.max():.4f}, "
                f"{self.columns['dec']!r} from {self.dec.min():.4f} to {self.dec.max():.4f}, the catalog's from "
                f"{distinct[:, 0].min():.4f} to {distinct[:, 0].max():.4f} and from {distinct[:, 1].min():.4f} to "
                f"{distinct[:, 1].max():.4f}; give a table of the same stars, or name other columns"
            )
        row[placed] = np.where(near, nearest, NO_MATCH)[inverse.ravel()]
        return row

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: where they come from, and how they were read."""
        return {
            "file": self.path.name,
            "sha256": self.digest,
            "columns": dict(self.columns),
            "by": self.by,
            "rows": self.rows,
            "stars": len(self.velocity),
            "notes": list(self.notes),
        }


def is_usual(what: str, name: str) -> bool:
    """Whether ``name`` is a usual one of a column of ``what``."""
    return name.lower() in USUAL[what]


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    ReferenceTableError
        If there is no such file.
    """
    if not path.is_file():
        raise ReferenceTableError(f"there is no table of references {path}; give a FITS, ECSV, CSV or VOTable file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path, columns: ReferenceColumns | None = None, by: By | None = None) -> References:
    """Read a table of references: FITS, or whatever else astropy knows by its name (ECSV, CSV, VOTable).

    Rows without a velocity, an error or a position are left out, and counted in ``notes``.

    Parameters
    ----------
    path
        The file.
    columns
        Names of its columns, where they are not among :data:`USUAL`.
    by
        Whether stars are matched by "position" or "obsid"; by default by position, if the table has such columns.

    Raises
    ------
    ReferenceTableError
        If there is no such table, it lacks a column, its units are of something else, a star is there twice, an error
        is negative, or no row has a velocity.
    """
    path, columns = Path(path), columns or ReferenceColumns()
    digest = digest_of(path)
    table = read_table(path, "references", ReferenceTableError)
    return _Reading(path, table, asdict(columns)).references(digest, by)


class _Reading(UserTable):
    usual = USUAL
    units = {**UserTable.units, "velocity": u.km / u.s, "error": u.km / u.s}  # noqa: RUF012 (as the base class has it)
    refused = ReferenceTableError

    def references(self, digest: str, by: By | None) -> References:
        if by is None:
            by = "position" if self.has("ra", "dec") or not self.has("obsid") else "obsid"
        keys = ("ra", "dec") if by == "position" else ("obsid",)
        self.require(*keys, "velocity")
        if self.asked["error"] is not None or self.has("error"):
            self.require("error")
        values = {what: self.values(what) for what in ("velocity", *keys) if what != "obsid"}
        values["error"] = self.values("error") if "error" in self.names else np.zeros(len(self.table))
        if "error" not in self.names:
            self.notes.append("it has no column of errors: its velocities count as exact")
        negative = np.flatnonzero(values["error"] < 0.0)
        if len(negative):
            self.refuse(f"row {negative[0]} has the error {values['error'][negative[0]]:g}", "an error is 0 or more")
        good = np.isfinite(values["velocity"]) & np.isfinite(values["error"])
        identifiers: NDArray[np.int64] | None = None
        if by == "obsid":
            identifiers = self.integers(self.names["obsid"])
            self.require_distinct("obsid", identifiers, np.flatnonzero(good))
        else:
            self._require_positions(values["ra"], values["dec"], np.flatnonzero(good))
            good &= has_position(values["ra"], values["dec"])
        if not good.all():
            without = int(np.sum(~good))
            self.notes.append(f"{without} of its {len(good)} rows lack a velocity, its error or a position: left out")
        if not good.any():
            self.refuse(f"no row has a finite {self.names['velocity']!r}", "references need velocities")
        rows = np.flatnonzero(good)
        if identifiers is not None:
            rows = rows[np.argsort(identifiers[rows])]
        return References(
            path=self.path,
            digest=digest,
            columns=self.names,
            notes=tuple(self.notes),
            rows=len(self.table),
            velocity=values["velocity"][rows],
            error=values["error"][rows],
            ra=values["ra"][rows] if by == "position" else None,
            dec=values["dec"][rows] if by == "position" else None,
            obsid=identifiers[rows] if identifiers is not None else None,
        )

    def without_unit(self, what: str, numbers: Array) -> None:
        fast = np.flatnonzero(np.abs(numbers) > _FASTEST)
        if what == "velocity" and 2 * len(fast) > np.isfinite(numbers).sum():
            self.refuse(
                f"{self.names[what]!r} has no unit, and row {fast[0]} is {numbers[fast[0]]:g}, too fast for a star in "
                "km/s",
                "give the column its unit, such as 'm/s'",
            )

    def _require_positions(self, ra: Array, dec: Array, rows: NDArray[np.int64]) -> None:
        self.require_degrees(ra, dec)
        source = self.source_id()
        if source is not None and self.table[source].dtype.kind in "iu":
            self.require_distinct(source, self.integers(source), rows)
        self.require_distinct("position", ra + 1j * dec, rows[has_position(ra[rows], dec[rows])])
