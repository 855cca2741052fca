"""Positions of somebody else's table: which columns they are in, in what unit, and whether they can be positions.

Names are guessed among the usual ones, and said. Units are those of the columns; where there are none, degrees, unless
the numbers look like radians or hours: a wrong guess would find nothing, or another star, and nobody would know why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import astropy.table
import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.catalog.usertable import POSITION_NAMES, read_table

Unit = Literal["deg", "rad", "hour"]
"""Units that positions may be said to have; "hour" is of the right ascension, and the declination is in degrees."""

Table: TypeAlias = str | Path | Mapping[str, Any] | astropy.table.Table
"""A file, or a table; also a DataFrame of pandas, whose columns are found by name."""

_NAMES = {"ra": "right ascension", "dec": "declination"}
_FEW = 3  # positions that say nothing of their unit
_LEAST_EXTENT = {"rad": 3.0, "hour": 12.0}  # of right ascensions that cannot well be degrees by chance

Array = NDArray[np.float64]


class PositionsError(CatalogError):
    """A table has no positions, or none that could be."""


@dataclass(frozen=True)
class Positions:
    """Where the rows of a table are."""

    source: str
    """The table, for people."""
    ra: Array
    """(row,) right ascension (J2000), deg; NaN where it is missing."""
    dec: Array
    """(row,) declination, deg."""
    columns: Mapping[str, str]
    """Names of the two columns, by "ra" and "dec"."""
    units: Mapping[str, str]
    """Their units, as they were read."""
    notes: tuple[str, ...]
    """What was assumed, or left out."""

    @property
    def placed(self) -> NDArray[np.bool_]:
        """(row,) whether there is a position."""
        return np.asarray(np.isfinite(self.ra) & np.isfinite(self.dec), np.bool_)


def positions(table: Table, *, ra: str | None = None, dec: str | None = None, unit: Unit | None = None) -> Positions:
    """Find the positions of a table.

    Parameters
    ----------
    table
        A file that astropy reads by its name (FITS, ECSV, CSV, VOTable), a table, or arrays by name.
    ra, dec
        Names of the columns, where they are not among :data:`.usertable.POSITION_NAMES`.
    unit
        Their unit, whatever the columns say.

    Raises
    ------
    PositionsError
        If the table cannot be read, has no such columns, these hold no numbers or no positions, or they look like
        something else than degrees, and nothing says what.
    """
    if unit not in (None, "deg", "rad", "hour"):
        raise PositionsError(f"the unit of positions is {unit!r}; give 'deg', 'rad' or 'hour'")
    source = str(table) if isinstance(table, str | Path) else "the table"
    columns = read_table(Path(table), "positions", PositionsError) if isinstance(table, str | Path) else table
    return _Reading(source, columns, {"ra": ra, "dec": dec}, unit).positions()


class _Reading:
    def __init__(self, source: str, table: Any, asked: Mapping[str, str | None], unit: Unit | None) -> None:
        self._source, self._table, self._asked, self._unit = source, table, asked, unit
        names = table.colnames if hasattr(table, "colnames") else table.keys()
        self._names = [str(name) for name in names]
        self._notes: list[str] = []

    def positions(self) -> Positions:
        found = {what: self._find(what) for what in ("ra", "dec")}
        numbers = {what: self._numbers(what, name) for what, name in found.items()}
        if len(numbers["ra"]) != len(numbers["dec"]):
            self._refuse(f"{len(numbers['ra'])} right ascensions go with {len(numbers['dec'])} declinations")
        units = {what: self._unit_of(what, name) for what, name in found.items()}
        if self._unit is None and all(unit is None for unit in units.values()):
            self._suspect(numbers["ra"], numbers["dec"])
        angles = {what: self._degrees(what, found[what], numbers[what], units[what]) for what in found}
        ra, dec = angles["ra"], angles["dec"]
        self._require_positions(found, ra, dec)
        missing = int(np.sum(~(np.isfinite(ra) & np.isfinite(dec))))
        if missing:
            self._notes.append(f"{missing} of its {len(ra)} rows have no position: left out")
        if len(ra) and missing == len(ra):
            self._refuse(f"none of its {len(ra)} rows has a position in {found['ra']} and {found['dec']}")
        said = {what: str(unit) if unit is not None else "deg, as none is given" for what, unit in units.items()}
        return Positions(self._source, ra, dec, found, said, tuple(self._notes))

    def _find(self, what: str) -> str:
        asked = self._asked[what]
        if asked is not None:
            if asked not in self._names:
                self._refuse(f"it has no column {asked!r}; it has {', '.join(self._names) or 'none'}")
            return asked
        by_case = {name.lower(): name for name in reversed(self._names)}
        name = next((by_case[usual] for usual in POSITION_NAMES[what] if usual in by_case), None)
        if name is None:
            self._refuse(
                f"it has no column of {_NAMES[what]} by any of the names {', '.join(POSITION_NAMES[what])}; say which "
                f"of {', '.join(self._names) or 'none'} it is ({what}=..., or --{what}-column)"
            )
        return name

    def _numbers(self, what: str, name: str) -> Array:
        column = self._table[name]
        values = np.ma.asarray(getattr(column, "value", column) if isinstance(column, u.Quantity) else column)
        if values.dtype.kind not in "fiu":
            if values.dtype.kind in "OUS":
                first = str(values[0]) if len(values) else ""
                self._refuse(
                    f"{name!r} holds text, such as {first!r}, where it is taken for {_NAMES[what]}; give a column of "
                    f"decimal degrees ({what}=..., or --{what}-column)"
                )
            self._refuse(f"{name!r} holds {values.dtype}, and no numbers")
        if values.ndim != 1:
            self._refuse(f"{name!r} has {values.ndim - 1} dimensions besides its rows")
        return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))

    def _unit_of(self, what: str, name: str) -> u.UnitBase | None:
        if self._unit is not None:
            return u.deg if self._unit == "deg" or (self._unit == "hour" and what == "dec") else _OF[self._unit]
        unit = getattr(self._table[name], "unit", None)
        if unit is None or not str(unit):
            return None
        try:
            unit = u.Unit(unit)
            if unit == u.hour and what == "ra":  # as FITS files have it
                return u.hourangle
            unit.to(u.deg)
        except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError):
            self._refuse(f"{name!r} is in {str(unit)!r}, which is no unit of an angle; say which it is (unit, --unit)")
        return unit

    def _degrees(self, what: str, name: str, numbers: Array, unit: u.UnitBase | None) -> Array:
        if unit is None:
            self._notes.append(f"{name!r} has no unit: taken for degrees")
            return numbers
        return np.asarray(numbers * unit.to(u.deg))

    def _suspect(self, ra: Array, dec: Array) -> None:
        """Refuse numbers without a unit that are no degrees, and say which might not be."""
        good = np.isfinite(ra) & np.isfinite(dec)
        if good.sum() < _FEW:
            return
        highest, lowest = float(ra[good].max()), float(ra[good].min())
        extent, tallest = highest - lowest, float(np.abs(dec[good]).max())
        looks: Unit | None = None
        if lowest >= -np.pi and highest <= 2 * np.pi and tallest <= np.pi / 2:
            looks = "rad"
        elif lowest >= 0.0 and highest <= 24.0 and tallest <= 90.0:
            looks = "hour"
        if looks is None:
            return
        seen = f"right ascensions lie between {lowest:g} and {highest:g}, declinations within {tallest:g}"
        which = {"rad": "radians", "hour": "hours"}[looks]
        if extent >= _LEAST_EXTENT[looks]:
            self._refuse(f"its columns have no unit, and look like {which}: {seen}; say --unit {looks}, or deg")
        self._notes.append(f"{seen}: if these are {which}, say so (--unit {looks})")

    def _require_positions(self, found: Mapping[str, str], ra: Array, dec: Array) -> None:
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero((np.abs(dec) > 90.0) | (ra < -180.0) | (ra > 360.0))
            swapped = bool(len(wrong)) and bool(np.all((np.abs(ra) <= 90.0) | np.isnan(ra)))
        if not len(wrong):
            return
        row = wrong[0]
        hint = f"; {found['ra']!r} and {found['dec']!r} look swapped" if swapped else ""
        self._refuse(
            f"row {row} is at ra {ra[row]:g}, dec {dec[row]:g} deg, which is no position, nor are {len(wrong)} in "
            f"all{hint}; name other columns, or say their unit (--unit)"
        )

    def _refuse(self, what: str) -> NoReturn:
        raise PositionsError(f"{self._source}: {what}")


_OF: Mapping[str, u.UnitBase] = {"rad": u.rad, "hour": u.hourangle}
