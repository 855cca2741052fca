"""Columns of a user's table: found by name, taken as numbers in our units, identifiers or text, refused with their row.

What was taken for what, and what was assumed, is kept to be shown. Knows neither what a table is for, nor any survey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import astropy.table
import astropy.units as u
import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.usertables.quantities import NEEDED, SOURCE_IDS, UNITS, USUAL

Array = NDArray[np.float64]
Content: TypeAlias = astropy.table.Table | Mapping[str, Any]
"""A table, or arrays by name; a DataFrame of pandas is one, too."""

_MISSING = ("", "--", "nan", "none", "null", "n/a", "<na>")  # text that stands for nothing, whatever its case
_HOURS = (u.hourangle, u.hour)  # the second: as FITS files have it


@dataclass
class Columns:
    """A table that is being read."""

    source: str
    """The table, for people."""
    table: Content
    """What is in it."""
    asked: Mapping[str, str]
    """Names of columns by the keys of :data:`.quantities.USUAL`, where they are not the usual ones."""
    refused: type[Exception] = UserTableError
    """What is raised."""
    taken: dict[str, str] = field(default_factory=dict)
    """Name of the column that was taken for what."""
    told: list[str] = field(default_factory=list)
    """What a user should know of how it was read."""
    _bare: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name in self.asked.items():
            if name not in self.names:
                self.refuse(f"it has no column of {what}: {name!r}, as was asked for", self.have)

    @property
    def names(self) -> list[str]:
        """Names of its columns."""
        names = self.table.colnames if isinstance(self.table, astropy.table.Table) else self.table.keys()
        return [str(name) for name in names]

    @property
    def have(self) -> str:
        """Which columns there are, in words."""
        return f"it has {', '.join(self.names) or 'none'}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it was read, columns without a unit included."""
        if not self._bare:
            return tuple(self.told)
        units = "; ".join(f"{', '.join(map(repr, names))} in {unit}" for unit, names in self._bare.items())
        return (*self.told, f"columns without a unit are taken as they usually are: {units}")

    def find(self, what: str, *, needed: bool = False) -> str | None:
        """Name of the column of ``what``; None if there is none.

        Parameters
        ----------
        what
            A key of :data:`.quantities.USUAL`.
        needed
            Whether it must be there: then names count that may be others' elsewhere.
        """
        if what in self.asked:
            return self.asked[what]
        names = USUAL[what] + (NEEDED.get(what, ()) if needed else ())
        by_case = {name.lower(): name for name in reversed(self.names)}
        return next((by_case[name] for name in names if name in by_case), None)

    def wish(self, *what: str) -> str:
        """What columns would do, in words."""
        return "; ".join(f"{each}, by any of the names {', '.join(USUAL[each])}" for each in what)

    def require(self, *what: str) -> None:
        """Refuse the table if it lacks a column of any of these."""
        if missing := [each for each in what if self.find(each, needed=True) is None]:
            self.refuse(f"it has no column of {self.wish(*missing)}", f"{self.have}; name its columns")

    def take(self, what: str) -> str:
        """Name of the column of ``what``, which from now on is taken for that."""
        name = self.find(what, needed=True)
        if name is None:
            self.require(what)
        assert name is not None
        self.taken[what] = name
        return name

    def numbers(self, what: str) -> Array:
        """A column of numbers in our unit; NaN where they are missing. Text that says numbers is taken for them."""
        name = self.take(what)
        return np.asarray(self.plain(name, what) * self._factor(what, name), np.float64)

    def plain(self, name: str, what: str) -> Array:
        """Numbers of a column as they are; NaN where they are missing."""
        values = self.values(name)
        if values.dtype.kind not in "fiuOSU":
            self.refuse(f"{name!r} holds {values.dtype}, and no numbers", f"it is taken for {what}")
        if values.ndim != 1:
            self.refuse(f"{name!r} has {values.ndim - 1} dimensions besides its rows", f"it is taken for {what}")
        if values.dtype.kind in "fiu":
            return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
        texts = self.texts(name)
        texts = np.where(texts == "", "nan", texts)
        try:
            return texts.astype(np.float64)
        except ValueError:
            row, text = _first_bad(texts, float)
            self.refuse(f"row {row} has {text!r} in {name!r}, which is no number", f"it is taken for {what}")

    def integers(self, name: str) -> NDArray[np.int64]:
        """A column of identifiers; -1 where they are missing."""
        values = self.values(name)
        if values.dtype.kind in "iu":
            return np.asarray(np.ma.filled(values, -1), np.int64)
        if values.dtype.kind == "f":  # as of a table that passed through one with missing values
            known = np.ma.filled(values.astype(np.float64), np.nan)
            wrong = np.flatnonzero(np.isfinite(known) & (known != np.floor(known)))
            if len(wrong):
                self.refuse(f"row {wrong[0]} has {name} = {known[wrong[0]]:g}", "identifiers are whole numbers")
            return np.where(np.isfinite(known), known, -1.0).astype(np.int64)
        if values.dtype.kind not in "OSU":
            self.refuse(f"{name!r} holds {values.dtype}", "identifiers are whole numbers")
        texts = self.texts(name)
        texts = np.where(texts == "", "-1", texts)
        try:
            return texts.astype(np.int64)
        except ValueError:
            row, text = _first_bad(texts, int)
            self.refuse(f"row {row} has {text!r} in {name!r}", "identifiers are whole numbers")

    def texts(self, name: str) -> NDArray[np.str_]:
        """A column as text, without white space around it; empty where it is missing."""
        values = self.values(name)
        if values.dtype.kind == "S":
            values = np.ma.masked_array(np.char.decode(values.data, "utf-8", "replace"), values.mask)
        texts: NDArray[np.str_] = np.char.strip(np.where(np.ma.getmaskarray(values), "", values.data.astype(np.str_)))
        return np.where(np.isin(np.char.lower(texts), _MISSING), "", texts)

    def values(self, name: str) -> np.ma.MaskedArray[Any, np.dtype[Any]]:
        """A column as it is."""
        column = self.table[name]
        return np.ma.asarray(column.value if isinstance(column, u.Quantity) else column)

    def unit(self, name: str) -> Any:
        """Unit of a column, known to astropy or not; None if it says none."""
        unit = getattr(self.table[name], "unit", None)
        return None if unit is None or not str(unit).strip() else unit

    def _factor(self, what: str, name: str) -> float:
        """What numbers are multiplied with, to be in our unit."""
        ours, unit = UNITS.get(what), self.unit(name)
        if ours is None:
            return 1.0
        if unit is None:
            self.assume(name, str(ours))
            return 1.0
        return self.factor(what, name, unit, ours)

    def factor(self, what: str, name: str, unit: Any, ours: u.UnitBase) -> float:
        """One ``unit``, of a column, in ours; refuses what is no such unit."""
        try:
            if what == "ra" and unit in _HOURS:
                return 15.0
            if ours == u.mag and u.Unit(unit).is_equivalent(u.mag):
                return float(u.Unit(unit).to(u.mag))  # magnitudes of a zero point are no units to convert
            return float(u.Unit(unit).to(ours))
        except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError):
            self.refuse(f"{name!r} is in {str(unit)!r}, which is no unit of {what}", f"give it in {ours}")

    def assume(self, name: str, unit: str) -> None:
        """Keep that a column without a unit was taken for one of these."""
        names = self._bare.setdefault(unit, [])
        if name not in names:
            names.append(name)

    def source_id(self) -> str | None:
        """Name of a column of Gaia's identifiers, if there is one."""
        by_case = {name.lower(): name for name in self.names}
        return next((by_case[name] for name in SOURCE_IDS if name in by_case), None)

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

    def refuse(self, what: str, cure: str) -> NoReturn:
        """Raise an error that names the table, says what is wrong with it, and what to do."""
        raise self.refused(f"{self.source}: {what}; {cure}")


def _first_bad(texts: Sequence[str] | NDArray[np.str_], kind: type[float] | type[int]) -> tuple[int, str]:
    """Row and text of the first that is no such number."""
    for row, text in enumerate(texts):
        try:
            kind(text)
        except ValueError:
            return row, str(text)
    raise AssertionError("all of them are numbers")
