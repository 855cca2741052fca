"""Where each exposure ended: claims of files against rows of releases, and these against rows of a catalog.

Pure functions of arrays; they know no disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

KEY = np.dtype([("obsid", "<i8"), ("lmjm", "<i4")])
"""What says which exposure a row is."""

Truths = NDArray[np.bool_]


class Fate(IntEnum):
    """Where an exposure of a file ended."""

    ROW = 0
    """In a row of the release."""
    DUPLICATE = 1
    """Another file of the release gives the row."""
    UNCHANGED = 2
    """An earlier release has it."""
    UNUSABLE = 3
    """Neither arm is usable, which the release's report says."""
    QUARANTINED = 4
    """Its file is put aside, with a reason."""
    LATER = 5
    """Its file is newer than the release, and there are more files than there were."""
    LOST = 6
    """Nowhere."""


@dataclass(frozen=True)
class Rows:
    """Rows of a store."""

    key: NDArray[np.void]
    """(row,) of :data:`KEY`."""
    content: NDArray[np.uint64]
    """(row,) hash of what they hold."""
    source: NDArray[np.uint64]
    """(row,) of a release, the file that they are from, as 64 bits; of a catalog, the number of the release."""

    @classmethod
    def none(cls) -> Rows:
        """No rows."""
        return cls(np.empty(0, KEY), np.empty(0, np.uint64), np.empty(0, np.uint64))

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """All rows of all parts."""
        every = [cls.none(), *parts]
        return cls(*(np.concatenate([getattr(part, name) for part in every]) for name in ("key", "content", "source")))

    def newest(self) -> Rows:
        """The last row of each key, keys ascending."""
        _, last = np.unique(self.key[::-1], return_index=True)
        place = len(self.key) - 1 - last
        return Rows(self.key[place], self.content[place], self.source[place])


def keys(obsid: NDArray[np.integer], lmjm: NDArray[np.integer]) -> NDArray[np.void]:
    """Identifiers, (row,) each, as :data:`KEY`."""
    made = np.empty(len(obsid), KEY)
    made["obsid"], made["lmjm"] = obsid, lmjm
    return made


def find(wanted: NDArray[np.void], among: NDArray[np.void]) -> NDArray[np.int64]:
    """Place of each key among others, which ascend and are there once; -1 where it is not."""
    if not len(among):
        return np.full(len(wanted), -1)
    place = np.searchsorted(among, wanted).clip(max=len(among) - 1)
    return np.where(among[place] == wanted, place, -1)


def fates(
    claims: NDArray[np.void],
    source: NDArray[np.uint64],
    rows: Rows,
    earlier: Rows,
    excused: NDArray[np.integer],
) -> NDArray[np.int8]:
    """Where claims ended.

    Parameters
    ----------
    claims
        (claim,) of :data:`.files.CLAIM`; a content of 0 equals every other.
    source
        (claim,) their files, as 64 bits.
    rows
        Rows of the release, each key once.
    earlier
        The newest row of each key of the releases before.
    excused
        (claim,) :class:`Fate` of those that need not be anywhere; ``LOST`` for the others.

    Returns
    -------
    NDArray
        (claim,) :class:`Fate`.
    """
    key = keys(claims["obsid"], claims["lmjm"])
    fate = np.asarray(excused, np.int8).copy()
    there, before = find(key, rows.key), find(key, earlier.key)
    own = (there >= 0) & (_at(rows.source, there) == source)
    same = _equal(claims["content"], _at(rows.content, there))
    same_before = _equal(claims["content"], _at(earlier.content, before))
    open_ = np.isin(fate, (Fate.LOST, Fate.LATER))  # a file that came later may say what others say, too
    # What an earlier release has as it is, no other file of this one need have.
    fate[open_ & (before >= 0) & same_before] = Fate.UNCHANGED
    fate[open_ & (there >= 0) & ~own] = Fate.DUPLICATE
    fate[own & same & open_] = Fate.ROW
    return fate


def _at(values: NDArray[np.uint64], place: NDArray[np.int64]) -> NDArray[np.uint64]:
    return values[place] if len(values) else np.zeros(len(place), np.uint64)


def _equal(content: NDArray[np.uint64], other: NDArray[np.uint64]) -> Truths:
    return np.asarray((content == 0) | (content == other))


@dataclass(frozen=True)
class PublishedRows:
    """Rows of releases against those of a catalog that covers them."""

    missing: NDArray[np.int64]
    """Places, among the newest rows of the releases, of those that the catalog lacks."""
    altered: NDArray[np.int64]
    """Places of those of which the catalog has another content, or says another release."""
    foreign: NDArray[np.int64]
    """Places of rows of the catalog that no release has, or that it has twice."""


def published(newest: Rows, catalog: Rows) -> PublishedRows:
    """Compare the newest rows of releases, whose sources are numbers of these, with a catalog's."""
    order = np.argsort(catalog.key, kind="stable")
    ordered = catalog.key[order]
    once = np.ones(len(ordered), bool)
    once[1:] = ordered[1:] != ordered[:-1]
    unique = order[once]
    place = find(newest.key, ordered[once])
    there = place >= 0
    row = unique[place.clip(min=0)] if len(unique) else np.zeros(len(place), np.int64)
    differs = np.zeros(len(place), bool)
    if len(unique):
        differs = (catalog.content[row] != newest.content) | (catalog.source[row] != newest.source)
    unknown = find(catalog.key, newest.key) < 0
    unknown[order[~once]] = True
    return PublishedRows(np.flatnonzero(~there), np.flatnonzero(there & differs), np.flatnonzero(unknown))


def unclaimed(rows: Rows, claims: NDArray[np.void], source: NDArray[np.uint64], seen: NDArray[np.uint64]) -> Truths:
    """Whether each row of a release is from a file that is there and says nothing of it.

    Parameters
    ----------
    rows
        Rows of the release.
    claims, source
        Claims, and their files as 64 bits.
    seen
        Files that are there, as 64 bits.
    """
    both = np.dtype([*((name, KEY[name]) for name in KEY.names or ()), ("source", "<u8")])

    def joined(identifiers: NDArray[np.void], of: NDArray[np.uint64]) -> NDArray[np.void]:
        made = np.empty(len(identifiers), both)
        made["obsid"], made["lmjm"], made["source"] = identifiers["obsid"], identifiers["lmjm"], of
        return made

    said = np.unique(joined(claims, source))
    return np.asarray(np.isin(rows.source, seen) & (find(joined(rows.key, rows.source), said) < 0))
