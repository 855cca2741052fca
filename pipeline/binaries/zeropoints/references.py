"""A table of reference velocities, such as Gaia's: read, checked, and matched with exposures.

Columns are told by the names that they usually have; whoever asks may name others. What cannot be right is refused with
its row: two velocities for one star, units of something else, a table of another part of the sky.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import RADIUS, has_position
from twinlines.pipeline.binaries.zeropoints.units import ZeroPointError

Array = NDArray[np.float64]
By = Literal["position", "obsid"]
"""How stars of the table and exposures are matched."""

USUAL: Mapping[str, tuple[str, ...]] = {
    "ra": ("ra", "ra_icrs", "raj2000", "_raj2000", "ra_deg", "ra_gaia"),
    "dec": ("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "_dej2000", "dec_deg", "dec_gaia"),
    "obsid": ("obsid",),
    "velocity": ("radial_velocity", "dr2_radial_velocity", "rv_ref", "rv", "vrad", "rvel"),
    "error": ("radial_velocity_error", "dr2_radial_velocity_error", "rv_ref_err", "rv_err", "rv_error", "e_rv"),
}
"""Usual names of columns, whatever their case, the likeliest first."""

_SOURCE_IDS = ("source_id", "gaia_source_id", "source")
_UNITS = {"ra": u.deg, "dec": u.deg, "velocity": u.km / u.s, "error": u.km / u.s}
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that astropy does not know are refused below, if they matter
            table = Table.read(path)
    except Exception as error:  # astropy's readers raise whatever their formats' parsers do
        raise ReferenceTableError(
            f"{path} cannot be read as a table ({str(error).splitlines()[0] if str(error) else repr(error)}); give "
            "a FITS, ECSV, CSV or VOTable file with the ending of its format"
        ) from error
    return _Reading(path, table, columns).references(digest, by)


@dataclass
class _Reading:
    path: Path
    table: Table
    asked: ReferenceColumns
    names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def references(self, digest: str, by: By | None) -> References:
        if by is None:
            by = "position" if self._has("ra", "dec") or not self._has("obsid") else "obsid"
        keys = ("ra", "dec") if by == "position" else ("obsid",)
        self._name(*keys, "velocity")
        if self.asked.error is not None or self._has("error"):
            self._name("error")
        values = {what: self._values(what) for what in ("velocity", *keys) if what != "obsid"}
        values["error"] = self._values("error") if "error" in self.names else np.zeros(len(self.table))
        if "error" not in self.names:
            self.notes.append("it has no column of errors: its velocities count as exact")
        negative = np.flatnonzero(values["error"] < 0.0)
        if len(negative):
            self._refuse(f"row {negative[0]} has the error {values['error'][negative[0]]:g}", "an error is 0 or more")
        good = np.isfinite(values["velocity"]) & np.isfinite(values["error"])
        identifiers: NDArray[np.int64] | None = None
        if by == "obsid":
            identifiers = self._integers(self.names["obsid"])
            self._require_distinct("obsid", identifiers, np.flatnonzero(good))
        else:
            self._require_positions(values["ra"], values["dec"], np.flatnonzero(good))
            good &= has_position(values["ra"], values["dec"])
        if not good.all():
            without = int(np.sum(~good))
            self.notes.append(f"{without} of its {len(good)} rows lack a velocity, its error or a position: left out")
        if not good.any():
            self._refuse(f"no row has a finite {self.names['velocity']!r}", "references need velocities")
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

    def _find(self, what: str) -> str | None:
        asked: str | None = getattr(self.asked, what)
        if asked is not None:
            return asked if asked in self.table.colnames else None
        by_case = {name.lower(): name for name in reversed(self.table.colnames)}
        return next((by_case[name] for name in USUAL[what] if name in by_case), None)

    def _has(self, *what: str) -> bool:
        return all(self._find(each) is not None for each in what)

    def _name(self, *what: str) -> None:
        missing = [each for each in what if not self._has(each)]
        if missing:
            wanted = "; ".join(
                f"{each}: {getattr(self.asked, each)!r}, as was asked for"
                if getattr(self.asked, each) is not None
                else f"{each}, by any of the names {', '.join(USUAL[each])}"
                for each in missing
            )
            placed = not set(missing) & {"ra", "dec"}
            hint = "" if placed or not self._source_id() else "; a source_id alone does not do, as the catalog has none"
            self._refuse(f"it has no column of {wanted}{hint}", f"it has {', '.join(self.table.colnames) or 'none'}")
        self.names |= {each: name for each in what if (name := self._find(each)) is not None}

    def _values(self, what: str) -> Array:
        """A column as numbers in our unit; NaN where it is masked."""
        name, ours = self.names[what], _UNITS[what]
        column = self.table[name]
        try:
            numbers = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
        except (TypeError, ValueError):
            self._refuse(f"{name!r} holds no numbers, but {column.dtype}", f"it is taken for {what}")
        if numbers.ndim != 1:
            self._refuse(f"{name!r} has {numbers.ndim - 1} dimensions besides its rows", f"it is taken for {what}")
        unit = column.unit
        if unit is None:
            self.notes.append(f"{name!r} has no unit: taken for {ours}")
            fast = np.flatnonzero(np.abs(numbers) > _FASTEST)
            if what == "velocity" and 2 * len(fast) > np.isfinite(numbers).sum():
                self._refuse(
                    f"{name!r} has no unit, and row {fast[0]} is {numbers[fast[0]]:g}, too fast for a star in km/s",
                    "give the column its unit, such as 'm/s'",
                )
            return np.asarray(numbers)
        try:
            factor = u.Unit(unit).to(ours)
        except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError):
            self._refuse(f"{name!r} is in {str(unit)!r}, which is no unit of {what}", f"give it in {ours}")
        return np.asarray(numbers * factor)

    def _integers(self, name: str) -> NDArray[np.int64]:
        column = self.table[name]
        numbers = np.ma.filled(np.ma.asarray(column), -1) if column.dtype.kind in "iu" else None
        if numbers is None:
            try:
                numbers = np.ma.filled(np.ma.asarray(column), "-1").astype(np.str_).astype(np.int64)
            except (TypeError, ValueError):
                self._refuse(f"{name!r} holds {column.dtype}", "identifiers are whole numbers")
        return np.asarray(numbers, np.int64)

    def _source_id(self) -> str | None:
        by_case = {name.lower(): name for name in self.table.colnames}
        return next((by_case[name] for name in _SOURCE_IDS if name in by_case), None)

    def _require_positions(self, ra: Array, dec: Array, rows: NDArray[np.int64]) -> None:
        wrong = np.flatnonzero((np.abs(dec) > 90.0) | (ra < -360.0) | (ra > 720.0))
        if len(wrong):
            row = wrong[0]
            self._refuse(f"row {row} is at ra {ra[row]:g}, dec {dec[row]:g}", "positions are in degrees")
        source = self._source_id()
        if source is not None and self.table[source].dtype.kind in "iu":
            self._require_distinct(source, self._integers(source), rows)
        self._require_distinct("position", ra + 1j * dec, rows[has_position(ra[rows], dec[rows])])

    def _require_distinct(self, name: str, identifiers: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """Refuse two rows of one star: which of the velocities holds is not ours to choose."""
        mine = identifiers[rows]
        order = np.argsort(mine, kind="stable")
        again = np.flatnonzero(mine[order][1:] == mine[order][:-1])
        if len(again):
            first, second = rows[order[again[0]]], rows[order[again[0] + 1]]
            value = mine[order[again[0]]]
            text = f"{value.real:.6f}, {value.imag:+.6f}" if np.iscomplexobj(mine) else str(value)
            self._refuse(
                f"the {name} {text} stands in rows {first} and {second}, and {len(again)} rows in all repeat one",
                "keep one row of each star",
            )

    def _refuse(self, what: str, cure: str) -> NoReturn:
        raise ReferenceTableError(f"{self.path}: {what}; {cure}")
