"""Positions of a user's table in degrees: of numbers, of sexagesimal text, or of CDS's columns RAh to DEs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle
from numpy.typing import NDArray

from twinlines.pipeline.usertables.columns import Columns

Array = NDArray[np.float64]
Unit = Literal["deg", "rad", "hour"]
"""Units that positions may be said to have; "hour" is of the right ascension, and the declination is in degrees."""

ASSUMED = "deg, as none is given"
"""What is said of the unit of a column that has none."""

_BOTH = ("ra", "dec")
_PARTS = {"ra": ("RAh", "RAm", "RAs"), "dec": ("DEd", "DEm", "DEs")}  # of CDS's machine-readable tables
_SIGN = "DE-"
_SEXAGESIMAL = re.compile(r"^[+-]?\d+\s*[:\shd]")
_SAID: Mapping[str, u.UnitBase] = {"deg": u.deg, "rad": u.rad, "hour": u.hourangle}


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
    """Names of their columns, by "ra" and "dec"."""
    units: Mapping[str, str]
    """Their units, as they were read."""
    notes: tuple[str, ...]
    """What was assumed, or left out."""

    @property
    def placed(self) -> NDArray[np.bool_]:
        """(row,) whether there is a position."""
        return np.asarray(np.isfinite(self.ra) & np.isfinite(self.dec), np.bool_)


def has_positions(columns: Columns) -> bool:
    """Whether a table has columns of positions, of whichever kind."""
    return all(columns.find(what) for what in _BOTH) or _parts(columns) is not None


def positions(columns: Columns, unit: Unit | None = None) -> Positions:
    """Positions of a table that has some.

    Parameters
    ----------
    columns
        The table; what was taken from it is kept there, too.
    unit
        The unit of numbers, whatever the columns say.

    Raises
    ------
    UserTableError
        Or what ``columns`` raises: if they are in another unit, or a row is at no position.
    """
    parts = None if all(columns.find(what) for what in _BOTH) else _parts(columns)
    read = {what: _angle(columns, what, unit) if parts is None else _from_parts(columns, what, parts) for what in _BOTH}
    (ra, ra_unit), (dec, dec_unit) = read["ra"], read["dec"]
    if len(ra) != len(dec):
        columns.refuse(f"{len(ra)} right ascensions go with {len(dec)} declinations", "give as many of both")
    _require(columns, ra, dec)
    missing = int(np.sum(~(np.isfinite(ra) & np.isfinite(dec))))
    if len(ra) and missing == len(ra):
        columns.refuse(
            f"none of its {len(ra)} rows has a position in {columns.taken['ra']} and {columns.taken['dec']}",
            "name other columns",
        )
    if missing:
        columns.told.append(f"{missing} of its {len(ra)} rows have no position")
    names = {what: columns.taken[what] for what in _BOTH}
    return Positions(columns.source, ra, dec, names, {"ra": ra_unit, "dec": dec_unit}, columns.notes)


def _angle(columns: Columns, what: str, said: Unit | None) -> tuple[Array, str]:
    """Angles of a column, deg, and their unit in words."""
    name = columns.take(what)
    if columns.values(name).dtype.kind in "OSU":
        texts = columns.texts(name)
        known = np.flatnonzero(texts != "")
        if len(known) and _SEXAGESIMAL.match(texts[known[0]]):
            return _from_text(columns, what, name, texts, known)
    numbers = columns.plain(name, what)
    if said is not None:
        unit: Any = u.deg if said == "hour" and what == "dec" else _SAID[said]
    else:
        unit = columns.unit(name)
    if unit is None:
        columns.assume(name, "deg")
        return numbers, ASSUMED
    return np.asarray(numbers * columns.factor(what, name, unit, u.deg)), str(unit)


def _from_text(
    columns: Columns, what: str, name: str, texts: NDArray[np.str_], known: NDArray[np.int64]
) -> tuple[Array, str]:
    """Angles of text such as ``18 36 56.3``, deg: hours of right ascension, degrees of declination."""
    unit, words = (u.hourangle, "hours, minutes and seconds") if what == "ra" else (u.deg, "degrees, minutes, seconds")
    columns.told.append(f"{name!r} is text: taken for {words}")
    for row in known:
        if not _SEXAGESIMAL.match(texts[row]):
            columns.refuse(f"row {row} has {str(texts[row])!r} in {name!r}", f"it is taken for {what}, in {words}")
    angles = np.full(len(texts), np.nan)
    try:
        angles[known] = Angle(texts[known].tolist(), unit).to_value(u.deg)
    except ValueError:
        for row in known:
            try:
                Angle(str(texts[row]), unit)
            except ValueError as error:
                columns.refuse(
                    f"row {row} has {str(texts[row])!r} in {name!r}, {error}", f"it is taken for {what}, in {words}"
                )
        raise
    return angles, words


def _parts(columns: Columns) -> Mapping[str, str] | None:
    """Names of the columns RAh to DEs by these, whatever their case; None if one is missing."""
    by_case = {name.lower(): name for name in reversed(columns.names)}
    wanted = [part for parts in _PARTS.values() for part in parts]
    if not all(part.lower() in by_case for part in wanted):
        return None
    return {part: by_case[part.lower()] for part in (*wanted, _SIGN) if part.lower() in by_case}


def _from_parts(columns: Columns, what: str, names: Mapping[str, str]) -> tuple[Array, str]:
    """Angles of the columns of a machine-readable table, deg."""
    parts = _PARTS[what]
    signed = (_SIGN,) if what == "dec" and _SIGN in names else ()
    columns.taken[what] = ", ".join(names[part] for part in (*signed, *parts))
    whole, minute, second = (columns.plain(names[part], what) for part in parts)
    for part, values in ((parts[1], minute), (parts[2], second)):
        wrong = np.flatnonzero((values < 0.0) | (values > 60.0))
        if len(wrong):
            columns.refuse(f"row {wrong[0]} has {names[part]} = {values[wrong[0]]:g}", "give 0 to 60")
    size = np.abs(whole) + minute / 60.0 + second / 3600.0
    if what == "ra":
        return np.asarray(15.0 * size, np.float64), "hours, minutes and seconds"
    south = np.signbit(whole)
    if signed:
        south = south | (columns.texts(names[_SIGN]) == "-")
    return np.asarray(np.where(south, -size, size), np.float64), "degrees, minutes, seconds"


def _require(columns: Columns, ra: Array, dec: Array) -> None:
    """Refuse positions that are none."""
    wrong = np.flatnonzero((np.abs(dec) > 90.0) | (ra < -180.0) | (ra > 360.0))  # NaN compares false
    if not len(wrong):
        return
    row, known = wrong[0], np.isfinite(ra)
    swapped = bool((np.abs(ra[known]) <= 90.0).all())
    hint = f"; {columns.taken['ra']!r} and {columns.taken['dec']!r} look swapped" if swapped else ""
    columns.refuse(
        f"row {row} is at ra {ra[row]:g}, dec {dec[row]:g} deg, which is no position, nor are {len(wrong)} in "
        f"all{hint}",
        "positions are in degrees, or in the unit that their column has; name other columns, or say their unit",
    )
