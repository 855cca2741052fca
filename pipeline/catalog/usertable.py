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
from astropy.table import Table
from numpy.typing import NDArray

Array = NDArray[np.float64]

POSITION_NAMES: Mapping[str, tuple[str, ...]] = {
    "ra": (
        *("ra", "ra_icrs", "raj2000", "_raj2000", "_ra", "ra_deg", "radeg", "ra_obs", "ra_gaia", "ra_x", "alpha"),
        *("raicrs", "ra_j2000", "_ra_icrs", "ra2000"),
    ),
    "dec": (
        *("dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "_dej2000", "_de", "_dec", "dec_deg", "dedeg", "decdeg"),
        *("dec_obs", "dec_gaia", "dec_x", "delta", "de", "deicrs", "dec_j2000", "_de_icrs", "dec2000", "de2000"),
    ),
    "obsid": ("obsid", "lamost_obsid"),
}
"""Usual names of the columns that say which star a row is, whatever their case, the likeliest first."""

_SOURCE_IDS = ("source_id", "gaia_source_id", "source")
_TEXT = (".txt", ".dat", ".mrt", ".tsv", ".cds", ".tbl")
_FORMATS = "FITS, ECSV, CSV, VOTable or machine-readable file"


class UserTableError(ValueError):
    """A table cannot be used."""


def read_table(path: Path, what: str, refused: type[Exception] = UserTableError) -> Table:
    """Read a table: FITS, CDS's and the AAS' machine-readable text, or what else astropy knows by its name.

    A CSV file may begin with lines of comments, by #.

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
        raise refused(f"there is no table of {what} {path}; give a {_FORMATS}")
    name = path.name.lower().removesuffix(".gz")
    ways: tuple[dict[str, Any], ...] = ({},)
    if name.endswith(".csv"):
        # Comments of catalogs' own begin with #; a header that is one, as topcat writes, is not read so.
        ways = ({"format": "ascii.csv", "comment": "#"}, {"format": "ascii.csv"})
    elif name.endswith(_TEXT):
        ways = ({"format": "ascii.mrt"}, {"format": "ascii.cds"}, {"format": "ascii"})
    complaint = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that astropy does not know are refused later, if they matter
        for way in ways:
            try:
                return Table.read(path, **way)
            except Exception as error:  # astropy's readers raise whatever their formats' parsers do
                complaint = complaint or (str(error).splitlines() or [repr(error)])[0]
    raise refused(f"{path} cannot be read as a table ({complaint}); give a {_FORMATS}, with the ending of its format")


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
        if column.dtype.kind == "f":  # as of a table that passed through one with missing values
            known = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
            wrong = np.flatnonzero(np.isfinite(known) & (known != np.floor(known)))
            if len(wrong):
                self.refuse(f"row {wrong[0]} has {name} = {known[wrong[0]]:g}", "identifiers are whole numbers")
            return np.where(np.isfinite(known), known, -1.0).astype(np.int64)
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
