"""A user's table of stars: where they are, or LAMOST's identifiers of them, and the numbers that it was read for.

Every row stays: one without a position is a row whose star is nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.sky import has_position
from twinlines.pipeline.usertables.columns import Columns
from twinlines.pipeline.usertables.files import UserTableError, read_table
from twinlines.pipeline.usertables.matching import By, Stars
from twinlines.pipeline.usertables.positions import has_positions, positions
from twinlines.pipeline.usertables.quantities import USUAL

Array = NDArray[np.float64]

_STARS = ("ra", "dec", "obsid")  # what may be named whatever a table is read for
_TEXT = "name"  # what is read as text


@dataclass(frozen=True)
class StarTable:
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
    """Numbers by what they are, in :data:`.quantities.UNITS`, NaN where missing; "obsid" int64, -1 where missing;
    "name" text."""

    @property
    def label(self) -> str:
        """What it is called in tables and figures: the file's name without its ending."""
        return self.path.name.split(".")[0]

    @property
    def stars(self) -> Stars:
        """Where its stars are, and their obsids."""
        return Stars(self.values.get("ra"), self.values.get("dec"), self.values.get("obsid"))

    def placed(self, by: By) -> NDArray[np.bool_]:
        """(row,) whether a row has what it is matched by."""
        if by == "obsid":
            return np.asarray(self.values["obsid"] >= 0, np.bool_)
        return has_position(self.values["ra"], self.values["dec"])

    def columns_by(self, by: By) -> dict[str, str]:
        """Names of the columns that were taken, but for those by which its stars are not matched."""
        idle = ("obsid",) if by == "position" else ("ra", "dec")
        return {what: name for what, name in self.columns.items() if what not in idle}

    def get(self, what: str) -> Array:
        """A column of numbers; NaN throughout if the table has none."""
        return np.asarray(self.values.get(what, np.full(self.rows, np.nan)), np.float64)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: where it comes from, and how it was read."""
        return {"file": str(self.path), "rows": self.rows, "columns": dict(self.columns), "notes": list(self.notes)}


def read_stars(
    path: str | Path,
    *,
    what: str = "stars",
    needed: Sequence[str] = (),
    wanted: Sequence[str] = (),
    asked: Mapping[str, str | None] | None = None,
    refused: type[Exception] = UserTableError,
    table: Table | None = None,
) -> tuple[StarTable, Columns]:
    """Read a table of stars, and return it with its columns for further looks at them.

    Positions may be numbers (degrees, or a unit of the column's own), text (``18 36 56.3``, ``18:36:56.3``), or the
    columns of machine-readable tables (``RAh`` to ``DEs``); stars may be named by LAMOST's obsid instead.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, for errors.
    needed, wanted
        What must be there besides positions or obsids, and what is taken if it is; keys of :data:`.quantities.USUAL`.
    asked
        Names of columns, by what they are for, where they are not the usual ones; None: a usual one.
    refused
        What is raised.
    table
        What is in the file, if it was read already.

    Raises
    ------
    UserTableError
        Or whatever ``refused`` is: if there is no such table, it is empty, lacks positions and obsids, lacks a needed
        column, or a column is of another unit, holds text for numbers, or impossible positions.
    """
    path = Path(path)
    named = {each: name for each, name in (asked or {}).items() if name is not None}
    known = (*_STARS, *needed, *wanted)
    if unknown := [each for each in named if each not in known]:
        raise refused(f"there is no quantity {unknown[0]!r} to name a column of; there are {', '.join(known)}")
    columns = Columns(str(path), read_table(path, what, refused) if table is None else table, named, refused)
    rows = len(columns.table)
    if not rows:
        columns.refuse("it has no row", "give a table of one star or more")
    require_stars(columns, *needed)
    values: dict[str, NDArray[Any]] = {}
    if has_positions(columns):
        places = positions(columns)
        values |= {"ra": places.ra, "dec": places.dec}
    if columns.find("obsid"):
        values["obsid"] = columns.integers(columns.take("obsid"))
    values |= {each: columns.numbers(each) for each in needed}
    values |= {each: columns.numbers(each) for each in wanted if each != _TEXT and columns.find(each)}
    if _TEXT in wanted and (name := columns.find(_TEXT)) and columns.values(name).ndim == 1:
        values[_TEXT] = columns.texts(columns.take(_TEXT))
    return StarTable(path, rows, columns.taken, columns.notes, values), columns


def require_stars(columns: Columns, *needed: str) -> None:
    """Refuse a table that says of no star which it is, or lacks other columns; all that is missing is named."""
    missing = [each for each in needed if columns.find(each, needed=True) is None]
    if columns.find("obsid"):
        columns.require(*missing)
    else:
        require_positions(columns, *missing, instead=f", nor an obsid ({', '.join(USUAL['obsid'])}) in their place")


def require_positions(columns: Columns, *needed: str, instead: str = "", cure: str = "name its columns") -> None:
    """Refuse a table without positions, or other columns.

    Parameters
    ----------
    columns
        The table.
    needed
        What else must be there.
    instead
        What would do in the place of positions, in words.
    cure
        What to do.
    """
    if has_positions(columns):
        columns.require(*needed)
        return
    missing = [*(each for each in ("ra", "dec") if columns.find(each) is None), *needed]
    hint = "; a Gaia source_id alone does not do, as the catalog has none" if columns.source_id() else ""
    columns.refuse(f"it has no column of {columns.wish(*missing)}{instead}{hint}", f"{columns.have}; {cure}")
