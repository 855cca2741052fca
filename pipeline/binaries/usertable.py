"""Tables that users bring, as of reference velocities or ephemerides: read, columns guessed, units converted.

Columns are told by the names that they usually have; whoever asks may name others. What cannot be right is refused with
its row. Knows neither what a table is for, nor any survey.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import astropy.units as u
import numpy as np
from astropy.io import ascii as text_tables
from astropy.table import Table
from numpy.typing import NDArray

Array = NDArray[np.float64]

POSITION_NAMES: Mapping[str, tuple[str, ...]] = {
    "ra": ("ra", "ra_icrs", "raj2000", "_raj2000", "ra_deg", "ra_gaia"),
    "dec": ("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "_dej2000", "dec_deg", "dec_gaia"),
    "obsid": ("obsid",),
}
"""Usual names of the columns that say which star a row is, whatever their case, the likeliest first."""

_SOURCE_IDS = ("source_id", "gaia_source_id", "source")
_COMMENT = "#"  # begins lines of a CSV file that are not rows


class UserTableError(ValueError):
    """A table cannot be used."""


def read_table(path: Path, what: str, refused: type[Exception] = UserTableError) -> Table:
    """Read a table: FITS, or whatever else astropy knows by its name (ECSV, CSV, VOTable).

    A CSV file may begin with lines of comments.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, for errors.
    refused
        What is raised.

    Raises
    ------
    UserTableError
        Or whatever ``refused`` is: if there is no such file, or it is no table.
    """
    if not path.is_file():
        raise refused(f"there is no table of {what} {path}; give a FITS, ECSV, CSV or VOTable file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units that astropy does not know are refused later, if they matter
            if path.name.lower().endswith(".csv"):
                return text_tables.read(path, format="csv", comment=_COMMENT)
            return Table.read(path)
    except Exception as error:  # astropy's readers raise whatever their formats' parsers do
        raise refused(
            f"{path} cannot be read as a table ({str(error).splitlines()[0] if str(error) else repr(error)}); give "
            "a FITS, ECSV, CSV or VOTable file with the ending of its format"
        ) from error


@dataclass
class UserTable:
    """A table that is being read; what it is for says the class that is derived."""

    path: Path
    """Its file."""
    table: Table
    """What is in it."""
    asked: Mapping[str, str | None]
    """Names of columns, where they are not the usual ones."""
    names: dict[str, str] = field(default_factory=dict)
    """Name of the column that was taken for what."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of how it was read."""

    usual: ClassVar[Mapping[str, tuple[str, ...]]] = POSITION_NAMES
    """Usual names of columns, whatever their case, the likeliest first."""
    units: ClassVar[Mapping[str, u.UnitBase]] = {"ra": u.deg, "dec": u.deg}
    """Units in which numbers are wanted."""
    refused: ClassVar[type[Exception]] = UserTableError
    """What is raised."""

    def find(self, what: str) -> str | None:
        """Name of the column of ``what``; None if there is none."""
        asked = self.asked.get(what)
        if asked is not None:
            return asked if asked in self.table.colnames else None
        by_case = {name.lower(): name for name in reversed(self.table.colnames)}
        return next((by_case[name] for name in self.usual[what] if name in by_case), None)

    def has(self, *what: str) -> bool:
        """Whether there are columns of all of these."""
        return all(self.find(each) is not None for each in what)

    def require(self, *what: str) -> None:
        """Take columns for what they are; refuse the table if one is missing."""
        missing = [each for each in what if not self.has(each)]
        if missing:
            wanted = "; ".join(
                f"{each}: {self.asked[each]!r}, as was asked for"
                if self.asked.get(each) is not None
                else f"{each}, by any of the names {', '.join(self.usual[each])}"
                for each in missing
            )
            placed = not set(missing) & {"ra", "dec"}
            hint = "" if placed or not self.source_id() else "; a source_id alone does not do, as the catalog has none"
            self.refuse(f"it has no column of {wanted}{hint}", f"it has {', '.join(self.table.colnames) or 'none'}")
        self.names |= {each: name for each in what if (name := self.find(each)) is not None}

    def values(self, what: str) -> Array:
        """A column as numbers in our unit; NaN where it is masked."""
        name, ours = self.names[what], self.units[what]
        column = self.table[name]
        try:
            numbers = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
        except (TypeError, ValueError):
            self.refuse(f"{name!r} holds no numbers, but {column.dtype}", f"it is taken for {what}")
        if numbers.ndim != 1:
            self.refuse(f"{name!r} has {numbers.ndim - 1} dimensions besides its rows", f"it is taken for {what}")
        if column.unit is None:
            self.notes.append(f"{name!r} has no unit: taken for {ours}")
            self.without_unit(what, numbers)
            return np.asarray(numbers)
        try:
            factor = u.Unit(column.unit).to(ours)
        except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError):
            self.refuse(f"{name!r} is in {str(column.unit)!r}, which is no unit of {what}", f"give it in {ours}")
        return np.asarray(numbers * factor)

    def without_unit(self, what: str, numbers: Array) -> None:
        """Refuse numbers that cannot be in our unit; called for columns that say none."""

    def integers(self, name: str) -> NDArray[np.int64]:
        """A column of identifiers; -1 where it is masked."""
        column = self.table[name]
        numbers = np.ma.filled(np.ma.asarray(column), -1) if column.dtype.kind in "iu" else None
        if numbers is None:
            try:
                numbers = np.ma.filled(np.ma.asarray(column), "-1").astype(np.str_).astype(np.int64)
            except (TypeError, ValueError):
                self.refuse(f"{name!r} holds {column.dtype}", "identifiers are whole numbers")
        return np.asarray(numbers, np.int64)

    def source_id(self) -> str | None:
        """Name of a column of Gaia's identifiers, if there is one."""
        by_case = {name.lower(): name for name in self.table.colnames}
        return next((by_case[name] for name in _SOURCE_IDS if name in by_case), None)

    def require_distinct(self, name: str, identifiers: NDArray[Any], rows: NDArray[np.int64]) -> None:
        """Refuse two rows of one star: which of them holds is not ours to choose."""
        mine = identifiers[rows]
        order = np.argsort(mine, kind="stable")
        again = np.flatnonzero(mine[order][1:] == mine[order][:-1])
        if len(again):
            first, second = rows[order[again[0]]], rows[order[again[0] + 1]]
            value = mine[order[again[0]]]
            text = f"{value.real:.6f}, {value.imag:+.6f}" if np.iscomplexobj(mine) else str(value)
            self.refuse(
                f"the {name} {text} stands in rows {first} and {second}, and {len(again)} rows in all repeat one",
                "keep one row of each star",
            )

    def require_degrees(self, ra: Array, dec: Array) -> None:
        """Refuse positions that are none."""
        wrong = np.flatnonzero((np.abs(dec) > 90.0) | (ra < -360.0) | (ra > 720.0))
        if len(wrong):
            row = wrong[0]
            self.refuse(f"row {row} is at ra {ra[row]:g}, dec {dec[row]:g}", "positions are in degrees")

    def refuse(self, what: str, cure: str) -> NoReturn:
        """Raise an error that names the file, says what is wrong with it, and what to do."""
        raise self.refused(f"{self.path}: {what}; {cure}")
