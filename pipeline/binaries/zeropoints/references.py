"""A table of reference velocities, such as Gaia's: read, checked, and matched with exposures.

Columns are told by the names that they usually have; whoever asks may name others. What cannot be right is refused with
its row: two velocities for one star, units of something else, a table of another part of the sky.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import RADIUS
from twinlines.pipeline.binaries.zeropoints.units import ZeroPointError
from twinlines.pipeline.sky import NOWHERE, has_position
from twinlines.pipeline.usertables import matching
from twinlines.pipeline.usertables.columns import Columns
from twinlines.pipeline.usertables.files import FORMATS
from twinlines.pipeline.usertables.matching import By, Stars
from twinlines.pipeline.usertables.stars import StarTable, read_stars

Array = NDArray[np.float64]

_FASTEST = 1500.0  # km/s: no star of the Galaxy is as fast; numbers without a unit that are above it are no km/s
NO_MATCH = NOWHERE
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
        exposures, stars = Stars(ra, dec, obsid), Stars(self.ra, self.dec, self.obsid)
        if self.by == "position" and not has_position(ra, dec).any():
            raise ReferenceTableError(
                f"no exposure of the catalog has a position, by which {self.path} is to be matched"
            )
        matched = matching.match(exposures, stars, radius, self.by)
        if not matched.there.any():
            why = matching.why_none(stars, self.columns, exposures, radius, self.by)
            raise ReferenceTableError(f"{self.path}: {why}")
        return matched.index

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


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises
    ------
    ReferenceTableError
        If there is no such file.
    """
    if not path.is_file():
        raise ReferenceTableError(f"there is no table of references {path}; give a {FORMATS}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path, columns: ReferenceColumns | None = None, by: By | None = None) -> References:
    """Read a table of references; rows without a velocity, an error or a position are left out, and counted in a note.

    Parameters
    ----------
    path
        The file.
    columns
        Names of its columns, where they are not the usual ones.
    by
        Whether stars are matched by "position" or "obsid"; by default by position, if the table has such columns.

    Raises
    ------
    ReferenceTableError
        If there is no such table, it lacks a column, its units are of something else, a star is there twice, an error
        is negative, or no row has a velocity.
    """
    path = Path(path)
    digest = digest_of(path)
    table, read = read_stars(
        path,
        what="references",
        needed=("velocity",),
        wanted=("error",),
        asked=asdict(columns or ReferenceColumns()),
        refused=ReferenceTableError,
    )
    by = table.stars.usual(by)
    if getattr(table.stars, "ra" if by == "position" else "obsid") is None:
        read.refuse(f"it has no {'positions' if by == 'position' else 'obsid'}", "match it by the other")
    velocity, error, notes = table.values["velocity"], table.values.get("error", np.zeros(table.rows)), [*table.notes]
    if "error" not in table.values:
        notes.append("it has no column of errors: its velocities count as exact")
    _require_velocities(read, velocity, error)
    good = np.isfinite(velocity) & np.isfinite(error)
    _require_once(read, table, by, np.flatnonzero(good))
    good &= table.placed(by)
    if not good.all():
        notes.append(f"{int(np.sum(~good))} of its {len(good)} rows lack a velocity, its error or a position: left out")
    if not good.any():
        read.refuse(f"no row has a finite {table.columns['velocity']!r}", "references need velocities")
    rows = np.flatnonzero(good)
    mine = {what: values[rows] for what, values in table.values.items()}
    return References(
        path=path,
        digest=digest,
        columns=table.columns_by(by),
        notes=tuple(notes),
        rows=table.rows,
        velocity=velocity[rows],
        error=error[rows],
        ra=mine["ra"] if by == "position" else None,
        dec=mine["dec"] if by == "position" else None,
        obsid=mine["obsid"] if by == "obsid" else None,
    )


def _require_velocities(read: Columns, velocity: Array, error: Array) -> None:
    """Refuse errors below 0, and velocities that are in another unit than they say."""
    negative = np.flatnonzero(error < 0.0)  # NaN compares false
    if len(negative):
        read.refuse(f"row {negative[0]} has the error {error[negative[0]]:g}", "an error is 0 or more")
    fast, name = np.flatnonzero(np.abs(velocity) > _FASTEST), read.taken["velocity"]
    if read.unit(name) is None and 2 * len(fast) > np.isfinite(velocity).sum():
        read.refuse(
            f"{name!r} has no unit, and row {fast[0]} is {velocity[fast[0]]:g}, too fast for a star in km/s",
            "give the column its unit, such as 'm/s'",
        )


def _require_once(read: Columns, table: StarTable, by: By, rows: NDArray[np.int64]) -> None:
    """Refuse two rows of one star among some rows."""
    ra, dec, obsid = table.stars
    if by == "obsid":
        assert obsid is not None
        read.require_distinct("obsid", obsid, rows[obsid[rows] >= 0])
        return
    assert ra is not None
    assert dec is not None
    source = read.source_id()
    if source is not None and read.values(source).dtype.kind in "iu":
        identifiers = read.integers(source)
        read.require_distinct(source, identifiers, rows[identifiers[rows] >= 0])
    read.require_distinct("position", ra + 1j * dec, rows[has_position(ra[rows], dec[rows])])
