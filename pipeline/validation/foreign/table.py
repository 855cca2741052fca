"""Somebody's table of stars: read whatever its format, columns told by their usual names, positions in degrees.

What was taken for what is kept to be shown. Every row stays: one without a position is a row whose star is nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.catalog.ephemerides import (
    ECLIPSE_ERROR_NAMES,
    ECLIPSE_NAMES,
    PERIOD_ERROR_NAMES,
    PERIOD_NAMES,
)
from twinlines.pipeline.catalog.usertable import POSITION_NAMES, read_table

Array = NDArray[np.float64]

USUAL: Mapping[str, tuple[str, ...]] = {
    **POSITION_NAMES,
    "name": ("name", "kic", "apogee_id", "objname", "object", "star", "id", "designation", "source_id", "gaia", "seq"),
    "period": tuple(name for name in PERIOD_NAMES if name != "p"),  # which is a probability in others' lists
    "period_error": PERIOD_ERROR_NAMES,
    "epoch": ECLIPSE_NAMES,
    "epoch_error": ECLIPSE_ERROR_NAMES,
    "separation": ("sep",),
    "morphology": ("morph",),
    "parallax": ("parallax", "plx", "parallax_mas"),
    "parallax_error": ("parallax_error", "e_plx", "parallax_err"),
    "g": ("phot_g_mean_mag", "gmag", "g_mag"),
    "bp": ("phot_bp_mean_mag", "bpmag", "bp_mag", "bp"),
    "rp": ("phot_rp_mean_mag", "rpmag", "rp_mag", "rp"),
    "bp_rp": ("bp_rp", "bp-rp", "bprp"),
    "ruwe": ("ruwe",),
    "ebv": ("ebv", "e_bv", "e(b-v)", "ebminv", "e_b_v"),
    "a_g": ("ag_gspphot", "a_g", "ag", "a_g_val"),
    "e_bp_rp": ("ebpminrp_gspphot", "e_bp_rp", "ebprp", "e_bp_min_rp_val", "e(bp-rp)"),
}
"""Usual names of columns, whatever their case, the likeliest first."""

UNITS: Mapping[str, u.UnitBase] = {
    "ra": u.deg,
    "dec": u.deg,
    "period": u.d,
    "period_error": u.d,
    "epoch": u.d,
    "epoch_error": u.d,
    "parallax": u.mas,
    "parallax_error": u.mas,
    **dict.fromkeys(("g", "bp", "rp", "bp_rp", "ebv", "a_g", "e_bp_rp"), u.mag),
}
"""Units that columns are converted to; the others are bare numbers."""

_SOURCE_IDS = ("source_id", "gaia_source_id", "gaiadr3", "gaiaedr3", "dr3name", "source")
_PARTS = {"ra": ("RAh", "RAm", "RAs"), "dec": ("DEd", "DEm", "DEs")}  # of CDS's machine-readable tables
_SIGN = "DE-"
_HOURS = (u.hourangle, u.hour)
_SEXAGESIMAL = re.compile(r"^[+-]?\d+[:\shd]")


class ForeignTableError(ValueError):
    """A table of other people cannot be used."""


@dataclass(frozen=True)
class ForeignTable:
    """What was taken from a table; arrays of shape (row,), in its order."""

    path: Path
    """File it comes from."""
    rows: int
    """Its rows."""
    columns: Mapping[str, str]
    """Names of the columns that were taken, by what for."""
    notes: tuple[str, ...]
    """What a user should know of how it was read."""
    values: Mapping[str, NDArray[Any]]
    """Numbers by what they are, in :data:`UNITS`, NaN where missing; "obsid" int64, -1 where missing; "name" text."""

    @property
    def label(self) -> str:
        """What it is called in tables and figures: the file's name without its ending."""
        return self.path.name.split(".")[0]

    @property
    def placed(self) -> bool:
        """Whether it has positions."""
        return "ra" in self.values

    def get(self, what: str) -> Array:
        """A column of numbers; NaN throughout if the table has none."""
        return np.asarray(self.values.get(what, np.full(self.rows, np.nan)), np.float64)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: where it comes from, and how it was read."""
        return {"file": str(self.path), "rows": self.rows, "columns": dict(self.columns), "notes": list(self.notes)}


def read(
    path: str | Path,
    *,
    needed: tuple[str, ...] = (),
    wanted: tuple[str, ...] = (),
    asked: Mapping[str, str] | None = None,
) -> ForeignTable:
    """Read a table: FITS, ECSV, CSV, VOTable, CDS's and the AAS' machine-readable text, or what else astropy knows.

    Positions may be numbers (degrees, or a unit of the column's own), text (``18 36 56.3``, ``18:36:56.3``), or the
    columns of machine-readable tables (``RAh`` to ``DEs``); stars may be named by LAMOST's obsid instead.

    Parameters
    ----------
    path
        The file.
    needed, wanted
        What must be there besides positions or obsids, and what is taken if it is; keys of :data:`USUAL`.
    asked
        Names of columns, by what they are for, where they are not the usual ones.

    Raises
    ------
    ForeignTableError
        If there is no such table, it is empty, lacks positions and obsids, lacks a needed column, or a column is of
        another unit, holds text for numbers, or impossible positions.
    """
    path = Path(path)
    table = read_table(path, "stars", ForeignTableError)
    if not len(table):
        raise ForeignTableError(f"{path} has no row; give a table of one star or more")
    return _Reading(path, table, dict(asked or {})).read(needed, wanted)


@dataclass
class _Reading:
    path: Path
    table: Table
    asked: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    without_unit: dict[str, list[str]] = field(default_factory=dict)

    def read(self, needed: tuple[str, ...], wanted: tuple[str, ...]) -> ForeignTable:
        unknown = [name for name in self.asked.values() if name not in self.table.colnames]
        if unknown:
            self._refuse(f"it has no column {unknown[0]!r}, as was asked for", self._have())
        values: dict[str, NDArray[Any]] = {}
        if self._find("ra") and self._find("dec"):
            values |= {what: self._angle(what) for what in ("ra", "dec")}
        elif all(part in self.table.colnames for parts in _PARTS.values() for part in parts):
            values |= {what: self._from_parts(what) for what in ("ra", "dec")}
        if values:
            self._check_positions(values["ra"], values["dec"])
        if self._find("obsid"):
            values["obsid"] = self._integers("obsid")
        if not values:
            hint = "; a Gaia source_id alone does not do, as the catalog has none" if self._source_id() else ""
            self._refuse(
                f"it has no positions (ra and dec, by any of the names {', '.join(USUAL['ra'])}; "
                f"{', '.join(USUAL['dec'])}) and no obsid{hint}",
                f"{self._have()}; name its columns",
            )
        lacking = [what for what in needed if not self._find(what)]
        if lacking:
            wishes = "; ".join(f"{what}, by any of the names {', '.join(USUAL[what])}" for what in lacking)
            self._refuse(f"it has no column of {wishes}", self._have())
        for what in (*needed, *(each for each in wanted if self._find(each))):
            values[what] = self._numbers(what)
        if name := self._find("name"):
            self.names["name"] = name
            values["name"] = np.ma.filled(np.ma.asarray(self.table[name]).astype(str), "")
        if self.without_unit:
            units = "; ".join(f"{', '.join(map(repr, names))} in {unit}" for unit, names in self.without_unit.items())
            self.notes.append(f"columns without a unit are taken as they usually are: {units}")
        return ForeignTable(self.path, len(self.table), self.names, tuple(self.notes), values)

    def _find(self, what: str) -> str | None:
        if what in self.asked:
            return self.asked[what]
        by_case = {name.lower(): name for name in reversed(self.table.colnames)}
        return next((by_case[name] for name in USUAL[what] if name in by_case), None)

    def _take(self, what: str) -> str:
        name = self._find(what)
        assert name is not None
        self.names[what] = name
        return name

    def _numbers(self, what: str) -> Array:
        """A column of numbers in our unit; NaN where it is masked."""
        name = self._take(what)
        column = self.table[name]
        try:
            numbers = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
        except (TypeError, ValueError):
            self._refuse(f"{name!r} holds no numbers, but {column.dtype}, such as {str(column[0])!r}", f"it is {what}")
        if numbers.ndim != 1:
            self._refuse(f"{name!r} has {numbers.ndim - 1} dimensions besides its rows", f"it is taken for {what}")
        return np.asarray(numbers * self._factor(what, name), np.float64)

    def _factor(self, what: str, name: str) -> float:
        ours, unit = UNITS.get(what), self.table[name].unit
        if ours is None:
            return 1.0
        if unit is None or (isinstance(unit, u.UnrecognizedUnit) and not str(unit).strip()):
            self.without_unit.setdefault(str(ours), []).append(name)
            return 1.0
        if what == "ra" and unit in _HOURS:
            return 15.0
        if ours == u.mag and not isinstance(unit, u.UnrecognizedUnit) and u.Unit(unit).is_equivalent(u.mag):
            return float(u.Unit(unit).to(u.mag))
        try:
            return float(u.Unit(unit).to(ours))
        except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError):
            self._refuse(f"{name!r} is in {str(unit)!r}, which is no unit of {what}", f"give it in {ours}")

    def _angle(self, what: str) -> Array:
        """A column of positions: numbers, or text."""
        column = self.table[str(self._find(what))]
        if column.dtype.kind not in "USO":
            return self._numbers(what)
        name = self._take(what)
        texts = np.char.strip(np.ma.filled(np.ma.asarray(column).astype(str), ""))
        known = np.isin(texts, ("", "--", "nan", "None"), invert=True)
        sexagesimal = bool(known.any()) and bool(_SEXAGESIMAL.match(str(texts[known][0])))
        unit = u.hourangle if what == "ra" and sexagesimal else u.deg
        self.notes.append(
            f"{name!r} is text: taken for {'hours' if unit == u.hourangle else 'degrees'}"
            f"{', minutes and seconds' if sexagesimal else ''}"
        )
        angles = np.full(len(texts), np.nan)
        try:
            angles[known] = Angle(texts[known].tolist(), unit).to_value(u.deg)
        except ValueError:
            for row in np.flatnonzero(known):
                try:
                    Angle(str(texts[row]), unit)
                except ValueError:
                    self._refuse(f"row {row} has {str(texts[row])!r} in {name!r}", f"it is taken for {what}, as text")
            raise
        return angles

    def _from_parts(self, what: str) -> Array:
        """A position from the columns of a machine-readable table."""
        parts = _PARTS[what]
        self.names[what] = ", ".join(((_SIGN,) if what == "dec" and _SIGN in self.table.colnames else ()) + parts)
        whole, minute, second = (
            np.ma.filled(np.ma.asarray(self.table[part]).astype(np.float64), np.nan) for part in parts
        )
        size = np.abs(whole) + minute / 60.0 + second / 3600.0
        if what == "ra":
            return np.asarray(15.0 * size, np.float64)
        sign = np.signbit(whole)
        if _SIGN in self.table.colnames:
            sign = sign | (np.ma.filled(np.ma.asarray(self.table[_SIGN]).astype(str), "") == "-")
        return np.asarray(np.where(sign, -size, size), np.float64)

    def _integers(self, what: str) -> NDArray[np.int64]:
        name = self._take(what)
        column = np.ma.asarray(self.table[name])
        try:
            if column.dtype.kind in "iu":
                return np.asarray(np.ma.filled(column, -1), np.int64)
            texts = np.char.strip(np.ma.filled(column, "-1").astype(np.str_))
            return np.asarray(np.where(texts == "", "-1", texts), np.str_).astype(np.int64)
        except (TypeError, ValueError):
            self._refuse(f"{name!r} holds {column.dtype}, such as {str(column[0])!r}", "identifiers are whole numbers")

    def _source_id(self) -> bool:
        return any(name.lower() in _SOURCE_IDS for name in self.table.colnames)

    def _check_positions(self, ra: Array, dec: Array) -> None:
        wrong = np.flatnonzero((np.abs(dec) > 90.0) | (ra < -360.0) | (ra > 720.0))
        if len(wrong):
            row = wrong[0]
            swapped = " and they seem to be swapped" if (np.abs(ra[np.isfinite(ra)]) <= 90.0).all() else ""
            self._refuse(
                f"row {row} is at {self.names['ra']} {ra[row]:g}, {self.names['dec']} {dec[row]:g}, and {len(wrong)} "
                f"rows in all are nowhere on the sky{swapped}",
                "positions are in degrees, or in the unit that their column has",
            )
        lost = int(np.sum(~(np.isfinite(ra) & np.isfinite(dec))))
        if lost == len(ra):
            self._refuse(f"no row has a position in {self.names['ra']!r} and {self.names['dec']!r}", self._have())
        if lost:
            self.notes.append(f"{lost} of its {len(ra)} rows have no position")

    def _have(self) -> str:
        return f"it has {', '.join(self.table.colnames) or 'none'}"

    def _refuse(self, what: str, cure: str) -> NoReturn:
        raise ForeignTableError(f"{self.path}: {what}; {cure}")
