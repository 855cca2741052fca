"""How many stars of other people's lists a catalog finds: by period, S/N and epochs; and how lists agree.

A star counts once, however many rows it has in a list. It is *recovered* if one of its exposures is a candidate,
*missed* if its exposures were judged and none is, *not judged* if none has a verdict, and *not observed* if the catalog
has no exposure of it. Only the first two are in fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table, vstack
from numpy.typing import NDArray

from twinlines.models.evaluation import Rate, rate
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS, group, in_order
from twinlines.pipeline.sky import LARGEST_RADIUS, is_radius
from twinlines.pipeline.usertables.files import UserTableError, read_table
from twinlines.pipeline.usertables.matching import By
from twinlines.pipeline.usertables.stars import StarTable, read_stars
from twinlines.pipeline.validation.foreign.match import Match, match
from twinlines.pipeline.validation.foreign.recovery import EPOCHS, PERIODS, SNRS, Fate, Group, groups_of, of_heads
from twinlines.pipeline.validation.observed import Asked, Observed, observe, probabilities

OURS = "Twinlines"
"""What the catalog's own candidates are called among lists."""

_SAME_PERIOD = 0.01  # relative: rows of one star whose periods differ by more contradict each other


@dataclass(frozen=True)
class ListResult:
    """One list against the catalog; arrays of shape (row,), the list's own rows in their order."""

    table: StarTable
    """The list."""
    match: Match
    """Its stars in the catalog."""
    object: NDArray[np.int64]
    """Number of the star among those of all lists and the catalog; rows of one star have one number; -1 without."""
    first: NDArray[np.bool_]
    """Whether it is the first row of its star: that counts."""
    fate: NDArray[np.int8]
    """A :class:`Fate`."""
    period: NDArray[np.float64]
    """Period of the star, d; NaN where it is not known, or rows of the star contradict each other."""
    groups: tuple[Group, ...]
    """Recovery of all of its stars, by period, by S/N, by epochs."""
    exposures: tuple[Mapping[str, Any], ...]
    """Exposures of its stars, by head and period (below and from 10 d): judged, and with p0 above 0.5."""
    notes: tuple[str, ...]
    """What a user should know."""

    @property
    def fates(self) -> dict[str, int]:
        """Stars by fate; rows without a position count as stars of their own."""
        return {fate.name.lower(): int(np.sum(self.first & (self.fate == fate))) for fate in Fate}

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            **self.table.to_json(),
            "matched_by": self.match.by,
            "stars": int(self.first.sum()),
            "fates": self.fates,
            "recovery": [
                {"by": each.by, "from": each.low, "below": each.high, **vars(each.recovered)} for each in self.groups
            ],
            "exposures": [dict(each) for each in self.exposures],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Agreement:
    """How many stars of one list are in another."""

    of: str
    """The list whose stars are counted."""
    within: str
    """The list in which they are sought."""
    rate: Rate
    """Its stars that are in the other. Among our candidates only stars count that the catalog judges."""


@dataclass(frozen=True)
class Crossmatch:
    """Lists against a catalog, and against each other."""

    asked: Asked
    """The rule of candidates."""
    radius: float
    """Largest distance of a match, arcsec."""
    stars: int
    """Stars of the catalog that are judged."""
    candidates: int
    """Those of which an exposure is a candidate."""
    lists: tuple[ListResult, ...]
    """The lists, as they were given."""
    agreement: tuple[Agreement, ...]
    """Every list, and our candidates, in every other."""
    probability: Mapping[str, NDArray[np.float64]]
    """(exposure,) p0 of the exposures of all lists' stars, by head: what Figure 11 shows."""
    exposure_period: NDArray[np.float64]
    """(exposure,) period of their stars, d."""
    observed: Observed
    """The catalog's stars."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "rule": self.asked.to_json(),
            "radius_arcsec": self.radius,
            "stars_judged": self.stars,
            "stars_candidates": self.candidates,
            "lists": [each.to_json() for each in self.lists],
            "agreement": [{"of": each.of, "within": each.within, **vars(each.rate)} for each in self.agreement],
        }

    def table(self) -> Table:
        """Every row of every list with what became of its star."""
        return vstack([_rows(each, self.observed) for each in self.lists], metadata_conflicts="silent")


def read_lists(
    paths: Sequence[str | Path],
    asked: Mapping[str, str] | None = None,
    *,
    needed: tuple[str, ...] = (),
    wanted: tuple[str, ...] = ("period",),
) -> list[StarTable]:
    """Read lists; names of columns count for those of them that have such columns.

    Raises
    ------
    UserTableError
        If a list cannot be used, two files have one name, or no list has a column that was asked for.
    """
    every = [Path(path) for path in paths]
    contents = [read_table(path, "stars") for path in every]
    have = [set(content.colnames) for content in contents]
    for name in (asked or {}).values():
        if not any(name in columns for columns in have):
            raise UserTableError(f"no list has a column {name!r}, as was asked for; {every[0]} has {sorted(have[0])}")
    tables = []
    for path, content, columns in zip(every, contents, have, strict=True):
        mine = {what: name for what, name in (asked or {}).items() if name in columns}
        tables.append(read_stars(path, needed=needed, wanted=("name", *wanted), asked=mine, table=content)[0])
    labels = [table.label for table in tables]
    for label in labels:
        if labels.count(label) > 1 or label == OURS:
            raise UserTableError(f"two lists are called {label!r}; give each once, and rename one of the files")
    return tables


def crossmatch(
    catalog: xr.Dataset,
    tables: Sequence[StarTable],
    asked: Asked | None = None,
    *,
    radius: float = RADIUS,
    by: By | None = None,
    periods: Sequence[float] = PERIODS,
) -> Crossmatch:
    """Hold a catalog against other people's lists.

    Parameters
    ----------
    catalog
        The catalog, as :func:`twinlines.pipeline.catalog.catalog.open` returns it.
    tables
        The lists.
    asked
        The rule of candidates.
    radius
        Largest distance between a row and an exposure of one star, arcsec.
    by
        Whether rows are matched by position or by obsid; by default by position, if a list has any.
    periods
        Ends of the period's bins, d, rising.

    Raises
    ------
    UserTableError
        If a list has no star of the catalog, or not what it is to be matched by.
    ValidationError
        If the catalog has no verdict.
    """
    asked = asked or Asked()
    if not is_radius(radius):
        raise UserTableError(f"the radius of a match is {radius} arcsec; give one above 0, at most {LARGEST_RADIUS:g}")
    if list(periods) != sorted(set(periods)) or not all(0.0 < end < np.inf for end in periods):
        raise UserTableError(f"ends of the period's bins are {list(periods)}; give days above 0, rising")
    observed = observe(catalog, asked, radius)
    matches = [match(table, observed, radius, by) for table in tables]
    objects = _objects(tables, matches, observed.stars, radius)
    p0 = probabilities(catalog, asked.penalty, 0)
    lists = tuple(
        _against(table, mine, object_, observed, p0, periods)
        for table, mine, object_ in zip(tables, matches, objects, strict=True)
    )
    judged, candidates = observed.count(observed.judged) > 0, observed.count(observed.candidate) > 0
    rows, period = _exposures(lists, observed)
    return Crossmatch(
        asked=asked,
        radius=radius,
        stars=int(judged.sum()),
        candidates=int(candidates.sum()),
        lists=lists,
        agreement=_agreement(lists, judged, candidates),
        probability={head: values[rows] for head, values in p0.items()},
        exposure_period=period,
        observed=observed,
    )


def _objects(
    tables: Sequence[StarTable], matches: Sequence[Match], stars: int, radius: float
) -> list[NDArray[np.int64]]:
    """Numbers of stars over all lists: the catalog's where it has them, others by position or obsid after those."""
    sizes = np.cumsum([0, *(table.rows for table in tables)])
    star = np.concatenate([mine.star for mine in matches])
    ra, dec = (
        np.concatenate(
            [
                table.values[what] if mine.by == "position" else np.full(table.rows, np.nan)
                for table, mine in zip(tables, matches, strict=True)
            ]
        )
        for what in ("ra", "dec")
    )
    ids = np.concatenate(
        [
            table.values["obsid"] if mine.by == "obsid" else np.full(table.rows, -1, np.int64)
            for table, mine in zip(tables, matches, strict=True)
        ]
    )
    elsewhere = star == NO_STAR
    others = group(ra[elsewhere], dec[elsewhere], radius=radius, ids=ids[elsewhere])
    star[elsewhere] = np.where(others >= 0, stars + others, NO_STAR)
    return [star[begin:end] for begin, end in pairwise(sizes)]


def _against(
    table: StarTable,
    mine: Match,
    object_: NDArray[np.int64],
    observed: Observed,
    p0: Mapping[str, NDArray[np.float64]],
    periods: Sequence[float],
) -> ListResult:
    notes = list(table.notes)
    # Rows without a position are stars of their own, each.
    own = np.where(object_ >= 0, object_, object_.max(initial=0) + 1 + np.arange(table.rows))
    number = in_order(own)
    _, first_rows = np.unique(number, return_index=True)
    first = np.zeros(table.rows, np.bool_)
    first[first_rows] = True
    if not first.all():
        notes.append(f"{int((~first).sum())} of its {table.rows} rows repeat a star, which counts once")
    period, contradicting = _periods(table.get("period"), number)
    if contradicting:
        notes.append(f"{contradicting} stars have rows whose periods differ by more than 1 %: taken as unknown")
    judged, candidates = (observed.count(chosen) for chosen in (observed.judged, observed.candidate))
    there = mine.star != NO_STAR
    at = np.where(there, mine.star, 0)
    fate = np.full(table.rows, Fate.NOT_OBSERVED, np.int8)
    fate[~mine.placed] = Fate.NO_POSITION
    fate[there] = Fate.NOT_JUDGED
    fate[there & (judged[at] > 0)] = Fate.MISSED
    fate[there & (candidates[at] > 0)] = Fate.RECOVERED
    counted = np.flatnonzero(first & np.isin(fate, (Fate.RECOVERED, Fate.MISSED)))
    found = fate[counted] == Fate.RECOVERED
    snr = observed.best(observed.snr, observed.judged)
    groups = [Group("all", np.nan, np.nan, rate(int(found.sum()), len(found)))]
    groups += groups_of("period", period[counted], found, periods) if "period" in table.values else []
    groups += groups_of("snr", snr[at[counted]], found, SNRS)
    groups += groups_of("epochs", judged[at[counted]].astype(np.float64), found, EPOCHS)
    of_stars = np.full(observed.stars, np.nan)
    of_stars[at[there]] = period[there]
    chosen = np.isin(observed.star, mine.star[there])
    exposures = tuple(of_heads(p0, chosen, of_stars[np.where(chosen, observed.star, 0)]))
    return ListResult(table, mine, object_, first, fate, period, tuple(groups), exposures, tuple(notes))


def _periods(period: NDArray[np.float64], number: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """(row,) period of each row's star, and how many stars have rows that contradict each other."""
    known = np.isfinite(period) & (period > 0.0)
    least, most = np.full(number.max(initial=-1) + 1, np.inf), np.full(number.max(initial=-1) + 1, -np.inf)
    np.minimum.at(least, number[known], period[known])
    np.maximum.at(most, number[known], period[known])
    agree = most <= least * (1.0 + _SAME_PERIOD)
    of_star = np.where(np.isfinite(least) & agree, least, np.nan)
    return of_star[number], int(np.sum(np.isfinite(least) & ~agree))


def _exposures(lists: Sequence[ListResult], observed: Observed) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Exposures of all lists' stars, and their periods: of lists that have one, the first's."""
    period = np.full(observed.stars, np.nan)
    there = np.zeros(observed.stars, np.bool_)
    for each in reversed(lists):
        mine = each.match.star != NO_STAR
        there[each.match.star[mine]] = True
        known = mine & np.isfinite(each.period)
        period[each.match.star[known]] = each.period[known]
    known_star = observed.star != NO_STAR
    rows = np.flatnonzero(known_star & there[np.where(known_star, observed.star, 0)])
    return rows, period[observed.star[rows]]


def _agreement(
    lists: Sequence[ListResult], judged: NDArray[np.bool_], candidates: NDArray[np.bool_]
) -> tuple[Agreement, ...]:
    sets = {each.table.label: np.unique(each.object[each.object >= 0]) for each in lists}
    sets[OURS] = np.flatnonzero(candidates)
    result = []
    for of, mine in sets.items():
        for within, others in sets.items():
            if of == within:
                continue
            # What our catalog did not judge cannot be among its candidates.
            counted = mine[(mine < len(judged)) & judged[np.minimum(mine, len(judged) - 1)]] if within == OURS else mine
            result.append(Agreement(of, within, rate(int(np.isin(counted, others).sum()), len(counted))))
    return tuple(result)


def _rows(each: ListResult, observed: Observed) -> Table:
    """A list's rows with what became of their stars."""
    rows, at = each.table.rows, np.where(each.match.star != NO_STAR, each.match.star, 0)
    there = each.match.star != NO_STAR
    first = observed.first_rows()

    def of_star(values: NDArray[Any], missing: Any) -> NDArray[Any]:
        return np.where(there, values[at], missing)

    units = {"ra": "deg", "dec": "deg", "period": "d", "distance": "arcsec"}
    columns: dict[str, NDArray[Any]] = {
        "list": np.full(rows, each.table.label),
        "row": np.arange(rows),
        "name": np.asarray(each.table.values.get("name", np.full(rows, ""))).astype(str),
        "ra": each.table.get("ra"),
        "dec": each.table.get("dec"),
        "period": each.period,
        "fate": np.array([Fate(value).words for value in each.fate.tolist()]),
        "counts": each.first,
        "object": each.object,
        "distance": each.match.distance,
        "obsid": of_star(observed.obsid[first], -1),
        "exposures": of_star(observed.count(np.ones(len(observed.star), np.bool_)), 0),
        "judged": of_star(observed.count(observed.judged), 0),
        "candidates": of_star(observed.count(observed.candidate), 0),
        "snr_B": of_star(observed.best(observed.snr, observed.judged), np.nan),
    }
    result = Table(columns)
    for name, unit in units.items():
        result[name].unit = unit
    return result
