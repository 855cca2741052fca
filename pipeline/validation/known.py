"""Verdicts on exposures whose truth a user knows: what is found of double-lined ones, what is false of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.binaries.grouping import NO_STAR, group
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import HEADS
from twinlines.pipeline.usertables.columns import Columns
from twinlines.pipeline.usertables.files import read_table
from twinlines.pipeline.validation.intervals import CONFIDENCE, ExactRate, clustered_rate
from twinlines.pipeline.validation.observed import ValidationError

VERDICTS = (*HEADS, "joint", "paper")
"""What is told of a group: the median of a head's probability above 0.5, and the candidates' rules."""

TWO = "binary"
"""Usual name of the column that says whether an exposure shows two stars."""

_MOST_GROUPS = 1000  # more are no table to read


@dataclass(frozen=True)
class KnownGroup:
    """Exposures that are alike by a user's columns."""

    values: tuple[str, ...]
    """Values of these columns."""
    two: bool
    """Whether they show two stars."""
    exposures: int
    """How many of the table's."""
    missing: int
    """How many of them the catalog has not."""
    unjudged: int
    """How many of the catalog's have no verdict of both arms."""
    unfamiliar: ExactRate
    """Of an arm that is unlike any star, or two, of the library."""
    called: Mapping[str, ExactRate]
    """Called binary, by :data:`VERDICTS`: of those that have a verdict of that arm, or of both arms."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "values": list(self.values),
            "two": self.two,
            "exposures": self.exposures,
            "missing": self.missing,
            "unjudged": self.unjudged,
            "unfamiliar": self.unfamiliar.to_json(),
            "called": {name: rate.to_json() for name, rate in self.called.items()},
        }


@dataclass(frozen=True)
class KnownReport:
    """Verdicts by group."""

    catalog: str
    """Name of the catalog."""
    by: tuple[str, ...]
    """Columns of the table that make groups."""
    two: str
    """The column that says what shows two stars."""
    confidence: float
    """Of the intervals."""
    groups: tuple[KnownGroup, ...]
    """In the order of the table; those of single stars first."""
    notes: tuple[str, ...]
    """What should be known of how the table was read."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "catalog": self.catalog,
            "by": list(self.by),
            "two": self.two,
            "confidence": self.confidence,
            "groups": [one.to_json() for one in self.groups],
            "notes": list(self.notes),
        }


def known(
    survey: str | Path,
    truth: str | Path,
    *,
    two: str = TWO,
    by: Sequence[str] = (),
    confidence: float = CONFIDENCE,
) -> KnownReport:
    """Compare a survey's current catalog with a table of exposures whose truth is known.

    Parameters
    ----------
    survey
        Folder of the survey.
    truth
        The table: ``obsid``, ``lmjm`` where an obsid has several exposures that differ, and the columns named below.
    two
        Its column that says whether an exposure shows two stars: empty, 0 or false where it shows one.
    by
        Its columns whose values make groups.
    confidence
        Of the intervals, which know that exposures of one star are alike.

    Raises
    ------
    CatalogError
        If there is no catalog.
    ValidationError
        If the table cannot be used, or none of its exposures is in the catalog.
    """
    content = read_table(Path(truth), "known exposures", ValidationError)
    table = Columns(str(truth), content, {}, ValidationError)
    if not len(content):
        table.refuse("it has no row", "list at least one exposure")
    table.require("obsid")
    doubled = _flags(table, two)
    labels = [_labels(table, name) for name in by]
    catalog = catalogs.open(survey)
    row, entry = _match(table, catalog["obsid"].values, catalog["lmjm"].values)
    if not len(row):
        table.refuse(
            f"none of its {len(content)} exposures is in the catalog {catalog.attrs['name']}",
            "give exposures of this survey, by obsid and lmjm",
        )
    rows = catalog.isel(exposure=row)
    verdicts, judged = _verdicts(rows)
    unfamiliar, star = rows.sb2.is_unfamiliar(), _stars(rows)
    columns = [label.tolist() for label in labels]
    of_row = list(zip(doubled.tolist(), *columns, strict=True))  # what makes a row's group
    keys = list(dict.fromkeys(of_row))
    number = {key: place for place, key in enumerate(keys)}
    in_group = np.array([number[key] for key in of_row])
    if len(keys) > _MOST_GROUPS:
        table.refuse(f"{', '.join(by)} make {len(keys)} groups", f"name columns that make {_MOST_GROUPS} at most")
    groups = []
    for key in sorted(keys, key=lambda key: key[0]):
        listed = in_group == number[key]
        mine = listed[entry]

        def rate(happened: NDArray[np.bool_], of: NDArray[np.bool_]) -> ExactRate:
            return clustered_rate(happened[of], star[of], confidence)

        groups.append(
            KnownGroup(
                values=key[1:],
                two=key[0],
                exposures=int(listed.sum()),
                missing=int(listed.sum() - len(np.unique(entry[mine]))),
                unjudged=int(np.sum(~judged["J"][mine])),
                unfamiliar=rate(unfamiliar, mine),
                called={name: rate(verdicts[name], mine & judged.get(name, judged["J"])) for name in VERDICTS},
            )
        )
    return KnownReport(str(catalog.attrs["name"]), tuple(by), two, confidence, tuple(groups), table.notes)


def _verdicts(rows: xr.Dataset) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]]]:
    """What the catalog calls each row, by :data:`VERDICTS`; and of which rows it has a verdict, by head."""
    medians = {head: rows.sb2.probability(head).values for head in HEADS}
    verdicts = {head: np.asarray(median > 0.5) for head, median in medians.items()}
    verdicts |= {rule: rows.sb2.is_candidate(rule=rule) for rule in ("joint", "paper")}
    return verdicts, {head: np.isfinite(median) for head, median in medians.items()}


def _stars(rows: xr.Dataset) -> NDArray[np.int64]:
    """The star of each row; without a position, exposures of one obsid are of one star."""
    star = group(rows["ra"].values, rows["dec"].values)
    return np.where(star == NO_STAR, -2 - rows["obsid"].values.astype(np.int64), star)


def _column(table: Columns, name: str) -> Any:
    """Values of a column that the user has named."""
    if name not in table.names:
        table.refuse(f"it has no column {name!r}", table.have)
    values = table.values(name)
    if values.ndim != 1:
        table.refuse(f"{name!r} has several values in a row", "name a column of one")
    return values


def _flags(table: Columns, name: str) -> NDArray[np.bool_]:
    """Whether each row's value is something: not empty, masked, 0, false or no."""
    values = _column(table, name)
    if values.dtype.kind in "iufb":
        return np.asarray(np.nan_to_num(np.ma.filled(values.astype(np.float64), 0.0), nan=0.0) != 0.0)
    return np.array([text.lower() not in ("", "0", "false", "no") for text in table.texts(name)])


def _labels(table: Columns, name: str) -> NDArray[np.str_]:
    """Each row's value as text; numbers as short as they are written."""
    values = _column(table, name)
    if values.dtype.kind == "f":
        return np.array([f"{number:.12g}" for number in np.ma.filled(values.astype(np.float64), np.nan).tolist()])
    return table.texts(name)


def _match(table: Columns, obsid: NDArray[Any], lmjm: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the catalog that are in the table, and which of its rows each of them is."""
    names = ("obsid", "lmjm") if "lmjm" in table.names else ("obsid",)
    wanted = [table.integers(table.take("obsid")), *(table.integers(name) for name in names[1:])]
    there = [values.astype(np.int64) for values in (obsid, lmjm)][: len(names)]
    rows = np.flatnonzero(np.isin(obsid, wanted[0]))
    listed, among = _keys(names, wanted), _keys(names, [values[rows] for values in there])
    first = places_of(listed, listed)
    again = np.flatnonzero(first != np.arange(len(listed)))
    if len(again):
        row = again[0]
        said = ", ".join(f"{name} {listed[name][row]}" for name in names)
        hint = "" if len(names) > 1 else ", or give a column lmjm, which tells exposures of one obsid apart"
        table.refuse(f"{said} stands in rows {first[row]} and {row}", f"keep one row of each exposure{hint}")
    entry = places_of(among, listed)
    found = entry != NOWHERE
    return rows[found], entry[found]


def _keys(names: Sequence[str], columns: Sequence[NDArray[np.int64]]) -> NDArray[np.void]:
    keys = np.empty(len(columns[0]), [(name, np.int64) for name in names])
    for name, values in zip(names, columns, strict=True):
        keys[name] = values
    return keys
