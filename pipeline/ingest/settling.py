"""Which rows of a folder a release keeps: of the first file that has them, of no other star, new or changed.

Rows are sorted once by their keys; all else is done in blocks of them, and earlier releases pass by in pieces. So the
client holds some 80 bytes for a row of the folder, its index included, and none for one of earlier releases. Knows
arrays; no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.ingest.index import Index, fibre_number

SAME_PLACE = 10.0
"""Positions that are closer than this are of one star, arcsec: catalogs move a star by its proper motion, and a fibre,
of 3.3 arcsec, cannot tell two such stars apart."""

KNOWN_COLUMNS = ("obsid", "lmjm", "content_hash", "spid", "fiberid", "ra", "dec")
"""What :func:`settle` asks of earlier releases."""

BLOCK_ROWS = 1 << 17
"""Rows that are looked at at a time; those of one obsid are in one block, however many."""

_Rows = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Stranger:
    """A file with the identifiers of another star's exposure."""

    row: int
    """First row of the file of which that is so."""
    other: int
    """Row of the index whose identifiers they are; -1 if an earlier release has them."""
    fibre: int
    """The other star's spectrograph and fibre."""
    ra: float
    """Its right ascension, deg."""
    dec: float
    """Its declination, deg."""


@dataclass(frozen=True)
class Settlement:
    """What becomes of a folder's rows."""

    strangers: tuple[Stranger, ...]
    """Files that are of another star than the first one with their (obsid, lmjm), in the order of files: none of their
    rows counts."""
    strange: _Flags
    """(row,) whether a row is of such a file."""
    kept: _Flags
    """(row,) whether a row is the one of its key that counts: that of the first file."""
    new: _Flags
    """(row,) whether a row is kept, and no release has its key."""
    changed: _Flags
    """(row,) whether a row is kept, and the newest of its key has another content."""
    duplicates: int
    """Rows left out with the content of the one kept."""
    conflicts: NDArray[np.int64]
    """(conflict, 2) row kept and row left out, where their contents differ."""


def settle(index: Index, earlier: Iterable[Mapping[str, NDArray[Any]]]) -> Settlement:
    """Settle which rows of a folder a release keeps, and what of them earlier releases have.

    Another spectrograph or fibre is another star, and so is a position farther away than :data:`SAME_PLACE`. Earlier
    releases come first, then files in the order of paths. A file that is a stranger counts for no other file.

    Parameters
    ----------
    index
        Rows of the folder.
    earlier
        :data:`KNOWN_COLUMNS` of earlier releases, (row,) each, piece by piece, the oldest first; a piece has a key
        once. Of equal keys, the last counts.
    """
    keys = _Keys.of(index)
    known = _Known.of(keys, earlier)
    keys = keys.without_lookup()
    strangers = _strangers(index, keys, known)
    strange = _of_files(index, {int(index.file[each.row]) for each in strangers})
    kept, new, changed = (np.zeros(len(index), np.bool_) for _ in range(3))
    duplicates, conflicts = 0, [np.empty((0, 2), np.int64)]
    for start, rows in keys.blocks():
        group = _Groups.of(index, rows, start, strange)
        first, content = group.first, index.content_hash[group.rows]
        kept[group.rows[first]] = True
        differs = content != content[group.leader]
        duplicates += int(np.sum(~first & ~differs))
        conflicts.append(np.stack([group.rows[group.leader[differs]], group.rows[differs]], axis=1))
        is_known = known.there[group.place[first]]
        new[group.rows[first]] = ~is_known
        changed[group.rows[first]] = is_known & (known.content_hash[group.place[first]] != content[first])
    pairs = np.concatenate(conflicts)
    pairs = pairs[np.argsort(pairs[:, 1])]
    return Settlement(tuple(strangers), strange, kept, new, changed, duplicates, pairs)


@dataclass(frozen=True)
class _Keys:
    """Rows of an index in the order of (obsid, lmjm), those of one key in the order of files."""

    index: Index
    order: _Rows
    """(row,) rows in this order."""
    obsid: NDArray[np.int64]
    """(row,) their obsids, ascending, as long as keys are looked up; else none."""

    @classmethod
    def of(cls, index: Index) -> _Keys:
        order = np.lexsort((index.lmjm, index.obsid))  # stable: rows of a key stay in the order of files
        return cls(index, order, index.obsid[order])

    def without_lookup(self) -> _Keys:
        return _Keys(self.index, self.order, np.empty(0, np.int64))

    def place(self, obsid: NDArray[np.int64], lmjm: NDArray[np.int32]) -> _Rows:
        """Where in the order the first row of each key is, (key,); -1 where there is none."""
        low = np.searchsorted(self.obsid, obsid, side="left")
        high = end = np.searchsorted(self.obsid, obsid, side="right")
        while np.any(searching := low < high):
            middle = (low + high) // 2
            earlier = self.index.lmjm[self.order[np.where(searching, middle, 0)]] < lmjm
            low, high = np.where(searching & earlier, middle + 1, low), np.where(searching & ~earlier, middle, high)
        there = low < end
        there[there] = self.index.lmjm[self.order[low[there]]] == lmjm[there]
        return np.where(there, low, -1)

    def blocks(self) -> Iterator[tuple[int, _Rows]]:
        """Consecutive rows of the order, with where they begin; an obsid's rows are in one block."""
        start, obsid = 0, self.index.obsid
        while start < len(self.order):
            stop = min(start + BLOCK_ROWS, len(self.order))
            while stop < len(self.order) and obsid[self.order[stop]] == obsid[self.order[stop - 1]]:
                stop += 1
            yield start, self.order[start:stop]
            start = stop


@dataclass(frozen=True)
class _Known:
    """What earlier releases have of an index's keys; at the first place of each key in their order."""

    there: _Flags
    """(place,) whether a release has the key."""
    content_hash: NDArray[np.uint64]
    """(place,) hash of the newest content."""
    fibre: NDArray[np.int32]
    """(place,) spectrograph and fibre."""
    ra: NDArray[np.float32]
    """(place,) right ascension of the star, deg."""
    dec: NDArray[np.float32]
    """(place,) declination of the star, deg."""

    @classmethod
    def of(cls, keys: _Keys, earlier: Iterable[Mapping[str, NDArray[Any]]]) -> _Known:
        rows = len(keys.order)
        known = cls(
            np.zeros(rows, np.bool_),
            np.zeros(rows, np.uint64),
            np.zeros(rows, np.int32),
            np.zeros(rows, np.float32),
            np.zeros(rows, np.float32),
        )
        for piece in earlier:
            place = keys.place(piece["obsid"], piece["lmjm"])
            asked = place >= 0
            place = place[asked]
            known.there[place] = True
            known.fibre[place] = fibre_number(piece["spid"][asked], piece["fiberid"][asked])
            for name in ("content_hash", "ra", "dec"):
                getattr(known, name)[place] = piece[name][asked]
        return known


@dataclass(frozen=True)
class _Groups:
    """Rows of a block that count, each with the one of its key that does so first."""

    rows: _Rows
    """(row,) the rows."""
    first: _Flags
    """(row,) whether a row is the first of its key."""
    leader: _Rows
    """(row,) which of these rows is the first of its key."""
    place: _Rows
    """(row,) first place of its key among all rows, those included that do not count."""

    @classmethod
    def of(cls, index: Index, rows: _Rows, start: int, strange: _Flags) -> _Groups:
        place = start + _leaders(index, rows)[1]
        counts = ~strange[rows]
        rows = rows[counts]
        return cls(rows, *_leaders(index, rows), place[counts])


def _leaders(index: Index, rows: _Rows) -> tuple[_Flags, _Rows]:
    """Which of some rows in the order of keys are the first of theirs, and which is so for each."""
    obsid, lmjm = index.obsid[rows], index.lmjm[rows]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (obsid[1:] != obsid[:-1]) | (lmjm[1:] != lmjm[:-1])
    return first, np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))


def _of_files(index: Index, files: set[int]) -> _Flags:
    """Which rows are of some files, (row,)."""
    mine = np.zeros(len(index), np.bool_)
    for file in files:  # which are ascending
        mine[np.searchsorted(index.file, file, "left") : np.searchsorted(index.file, file, "right")] = True
    return mine


def _strangers(index: Index, keys: _Keys, known: _Known) -> list[Stranger]:
    strange: dict[int, Stranger] = {}
    while True:
        suspicions = _suspicions(index, keys, known, _of_files(index, set(strange)))
        suspects = {int(index.file[each.row]) for each in suspicions}
        if not suspects:
            return [strange[number] for number in sorted(strange)]
        # Of a chain of strangers, the first is one for certain; whether the others are, is seen without it.
        for each in suspicions:
            file = int(index.file[each.row])
            if file not in strange and (each.other < 0 or int(index.file[each.other]) not in suspects):
                strange[file] = each


def _suspicions(index: Index, keys: _Keys, known: _Known, strange: _Flags) -> list[Stranger]:
    """Rows of another star than the first with their key, as long as all files but some count; in their order."""
    suspicions = []
    for start, rows in keys.blocks():
        group = _Groups.of(index, rows, start, strange)
        leader, is_known = group.rows[group.leader], known.there[group.place]
        fibre, ra, dec = (
            np.where(is_known, getattr(known, name)[group.place], getattr(index, name)[leader])
            for name in ("fibre", "ra", "dec")
        )
        near = _separation(index.ra[group.rows], index.dec[group.rows], ra, dec) <= SAME_PLACE
        differs = np.flatnonzero((index.fibre[group.rows] != fibre) | ~near)
        others = np.where(is_known, -1, leader)[differs]
        columns = (group.rows[differs], others, fibre[differs], ra[differs], dec[differs])
        suspicions += [Stranger(*each) for each in zip(*(column.tolist() for column in columns), strict=True)]
    return sorted(suspicions, key=lambda each: each.row)


def _separation(
    ra1: NDArray[np.float32], dec1: NDArray[np.float32], ra2: NDArray[np.float32], dec2: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Angle between directions in degrees, arcsec; 0 where one is not known."""
    a1, d1, a2, d2 = (np.radians(angle.astype(np.float64)) for angle in (ra1, dec1, ra2, dec2))
    half = np.sin((d2 - d1) / 2) ** 2 + np.cos(d1) * np.cos(d2) * np.sin((a2 - a1) / 2) ** 2
    angle = np.degrees(2 * np.arcsin(np.sqrt(half.clip(max=1.0)))) * 3600.0
    return np.asarray(np.nan_to_num(angle))
