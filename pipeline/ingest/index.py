"""The rows that files would give, without their spectra: which of them a release keeps.

From this index alone, the client settles which of several files gives a row, which files are of another star under a
star's identifier, and what earlier releases have already. Arrays of numbers, some 48 bytes a row; the files' names stay
on disk.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.lamost.exposures import Reason
from twinlines.pipeline.storage.hashed_npz import DAMAGE

SAME_PLACE = 10.0
"""Positions that are closer than this are of one star, arcsec: catalogs move a star by its proper motion, and a fibre,
of 3.3 arcsec, cannot tell two such stars apart."""

_COLUMNS = {
    "file": np.int64,
    "obsid": np.int64,
    "lmjm": np.int32,
    "content_hash": np.uint64,
    "fibre": np.int32,
    "ra": np.float32,
    "dec": np.float32,
    "kept": np.int64,
}


KNOWN_COLUMNS = ("obsid", "lmjm", "content_hash", "spid", "fiberid", "ra", "dec")
"""What :class:`Known` takes of a release."""


def fibre_number(spid: NDArray[np.integer], fiberid: NDArray[np.integer]) -> NDArray[np.int32]:
    """Spectrographs and fibres, (row,) each, as one number; each is below 2**15."""
    return (spid.astype(np.int32) << 15) | fiberid.astype(np.int32)


def fibre_name(fibre: int) -> str:
    """A fibre in words."""
    return f"spectrograph {fibre >> 15}, fibre {fibre & 0x7FFF}"


@dataclass(frozen=True)
class Index:
    """The rows that files would give, without their spectra; and what is wrong with the files."""

    file: NDArray[np.int64]
    """(row,) number of the file, from 0 in the order of sorted paths; ascending."""
    obsid: NDArray[np.int64]
    """(row,) observation identifier."""
    lmjm: NDArray[np.int32]
    """(row,) local modified Julian minute, ascending within a file."""
    content_hash: NDArray[np.uint64]
    """(row,) hash of the content; see :func:`content_hash`."""
    fibre: NDArray[np.int32]
    """(row,) spectrograph and fibre; see :func:`fibre_number`."""
    ra: NDArray[np.float32]
    """(row,) right ascension of the star, deg."""
    dec: NDArray[np.float32]
    """(row,) declination of the star, deg."""
    kept: NDArray[np.int64]
    """(row,) byte at which the row begins among those that its batch has kept; -1 if it was not kept."""
    quarantined: tuple[tuple[int, str, str], ...]
    """File number, reason and message of each file that gives no row."""
    warnings: tuple[tuple[int, str], ...]
    """File number and message of what is wrong in files that are used nevertheless."""

    def __len__(self) -> int:
        return int(self.file.size)

    @property
    def out_of_reach(self) -> int:
        """Files that the system did not let us read."""
        return sum(reason == Reason.OUT_OF_REACH for _, reason, _ in self.quarantined)

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[int | float, ...]],
        quarantined: tuple[tuple[int, str, str], ...],
        warnings: tuple[tuple[int, str], ...],
    ) -> Index:
        """Make an index of rows, each with its columns in the order of the fields."""
        columns = list(zip(*rows, strict=True)) or [()] * len(_COLUMNS)
        arrays = {name: np.array(column, kind) for column, (name, kind) in zip(columns, _COLUMNS.items(), strict=True)}
        return cls(**arrays, quarantined=quarantined, warnings=warnings)

    def to_bytes(self) -> bytes:
        """Return the index as the content of an ``.npz`` file."""
        notes = json.dumps({"quarantined": self.quarantined, "warnings": self.warnings})
        content = io.BytesIO()
        np.savez(
            content,
            **{f"column_{name}": getattr(self, name) for name in _COLUMNS},
            notes=np.frombuffer(notes.encode(), np.uint8),
        )
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Index:
        """Return what :meth:`to_bytes` stored.

        Raises
        ------
        ValueError
            If ``content`` is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                notes = json.loads(stored["notes"].tobytes())
                return cls(
                    **{name: stored[f"column_{name}"] for name in _COLUMNS},
                    quarantined=tuple((n, reason, message) for n, reason, message in notes["quarantined"]),
                    warnings=tuple((n, message) for n, message in notes["warnings"]),
                )
        except DAMAGE as error:
            raise ValueError(f"not an index of a release: {error}") from error

    @classmethod
    def concatenate(cls, parts: list[tuple[int, Index]]) -> Index:
        """Join indexes; each comes with the number of the file that is 0 in it."""
        return cls(
            **{
                name: np.concatenate([getattr(part, name) + (first if name == "file" else 0) for first, part in parts])
                for name in _COLUMNS
            },
            quarantined=tuple((n + first, *rest) for first, part in parts for n, *rest in part.quarantined),  # type: ignore[misc]
            warnings=tuple((n + first, message) for first, part in parts for n, message in part.warnings),
        )

    def without(self, files: Iterable[tuple[int, str, str]]) -> Index:
        """Quarantine files: (number, reason, message) of each."""
        more = tuple(files)
        stay = ~np.isin(self.file, [number for number, _, _ in more])
        return replace(
            self,
            **{name: getattr(self, name)[stay] for name in _COLUMNS},
            quarantined=tuple(sorted([*self.quarantined, *more])),
            warnings=tuple(each for each in self.warnings if each[0] not in {number for number, _, _ in more}),
        )


def resolve(index: Index) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Settle which row of several with one key is kept: that of the first file.

    Returns
    -------
    kept : (row of the folder,) int64
        Rows of the index, ascending.
    duplicates : int
        Rows left out with the content of the one kept.
    conflicts : (conflict, 2) int64
        Row kept and row left out, where their contents differ.
    """
    if not len(index):
        return np.empty(0, np.int64), 0, np.empty((0, 2), np.int64)
    order = np.lexsort((index.file, index.lmjm, index.obsid))
    obsid, lmjm, content = index.obsid[order], index.lmjm[order], index.content_hash[order]
    first = np.ones(order.size, bool)
    first[1:] = (obsid[1:] != obsid[:-1]) | (lmjm[1:] != lmjm[:-1])
    winner = np.maximum.accumulate(np.where(first, np.arange(order.size), 0))
    differs = content != content[winner]
    conflicts = np.stack([order[winner[differs]], order[differs]], axis=1)
    return np.sort(order[first]), int(np.sum(~first & ~differs)), conflicts[np.argsort(conflicts[:, 1])]


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


def strangers(index: Index, known: Known) -> list[Stranger]:
    """Files that are of another star than the first one with their (obsid, lmjm), in the order of files.

    Another spectrograph or fibre is another star, and so is a position farther away than :data:`SAME_PLACE`. Earlier
    releases come first, then files in the order of paths. A file that is a stranger counts for no other file.

    Parameters
    ----------
    index
        Rows of a folder.
    known
        Rows of earlier releases.
    """
    before = len(known.obsid)
    obsid, lmjm, fibre, ra, dec = (
        np.concatenate([getattr(known, name), getattr(index, name)]) for name in ("obsid", "lmjm", "fibre", "ra", "dec")
    )
    file = np.concatenate([np.full(before, -1), index.file])
    order = np.lexsort((lmjm, obsid))  # stable: known rows first, then rows in the order of files
    strange: dict[int, Stranger] = {}
    while order.size:
        first = np.ones(order.size, bool)
        first[1:] = (obsid[order][1:] != obsid[order][:-1]) | (lmjm[order][1:] != lmjm[order][:-1])
        winner = order[np.maximum.accumulate(np.where(first, np.arange(order.size), 0))]
        near = _separation(ra[order], dec[order], ra[winner], dec[winner]) <= SAME_PLACE
        differs = (fibre[order] != fibre[winner]) | ~near
        suspects = set(file[order[differs]].tolist())
        if not suspects:
            break
        # Of a chain of strangers, the first is one for certain; whether the others are, is seen without it.
        for row, other in sorted(zip(order[differs].tolist(), winner[differs].tolist(), strict=True)):
            if int(file[other]) not in suspects and int(file[row]) not in strange:
                where = int(fibre[other]), float(ra[other]), float(dec[other])
                strange[int(file[row])] = Stranger(row - before, max(other - before, -1), *where)
        order = order[~np.isin(file[order], list(strange))]
    return [strange[number] for number in sorted(strange)]


def _separation(
    ra1: NDArray[np.float32], dec1: NDArray[np.float32], ra2: NDArray[np.float32], dec2: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Angle between directions in degrees, arcsec; 0 where one is not known."""
    a1, d1, a2, d2 = (np.radians(angle.astype(np.float64)) for angle in (ra1, dec1, ra2, dec2))
    half = np.sin((d2 - d1) / 2) ** 2 + np.cos(d1) * np.cos(d2) * np.sin((a2 - a1) / 2) ** 2
    angle = np.degrees(2 * np.arcsin(np.sqrt(half.clip(max=1.0)))) * 3600.0
    return np.asarray(np.nan_to_num(angle))


@dataclass(frozen=True)
class Known:
    """The newest row of every exposure that a survey has, sorted by (obsid, lmjm); without spectra."""

    obsid: NDArray[np.int64]
    """(row,) observation identifier."""
    lmjm: NDArray[np.int32]
    """(row,) local modified Julian minute."""
    content_hash: NDArray[np.uint64]
    """(row,) hash of the content."""
    fibre: NDArray[np.int32]
    """(row,) spectrograph and fibre; see :func:`fibre_number`."""
    ra: NDArray[np.float32]
    """(row,) right ascension of the star, deg."""
    dec: NDArray[np.float32]
    """(row,) declination of the star, deg."""

    @classmethod
    def of(cls, parts: Iterable[Mapping[str, NDArray[Any]]]) -> Known:
        """Join columns of releases, the oldest first; of equal keys, the last counts.

        Parameters
        ----------
        parts
            :data:`KNOWN_COLUMNS` of each release, (row,) each.
        """
        made = [{**part, "fibre": fibre_number(part["spid"], part["fiberid"])} for part in parts]
        names = ("obsid", "lmjm", "content_hash", "fibre", "ra", "dec")
        obsid, lmjm, content, fibre, ra, dec = (
            np.concatenate([np.empty(0, _COLUMNS[name]), *(part[name].astype(_COLUMNS[name]) for part in made)])
            for name in names
        )
        order = np.lexsort((lmjm, obsid))  # stable: the newest of equal keys stays last
        last = np.ones(len(order), bool)
        last[:-1] = (obsid[order][1:] != obsid[order][:-1]) | (lmjm[order][1:] != lmjm[order][:-1])
        order = order[last]
        return cls(obsid[order], lmjm[order], content[order], fibre[order], ra[order], dec[order])

    def compare(
        self, obsid: NDArray[np.int64], lmjm: NDArray[np.int32], content: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of some rows, of distinct keys, are new, and which are known with other content.

        Parameters
        ----------
        obsid, lmjm, content
            (row,) their keys and content hashes.

        Returns
        -------
        new, changed : (row,) bool
            What is neither is known as it is.
        """
        both = np.concatenate([self.obsid, obsid]), np.concatenate([self.lmjm, lmjm])
        order = np.lexsort((both[1], both[0]))  # stable: a known row stands before the one that is asked for
        same = np.zeros(len(order), bool)
        same[1:] = (both[0][order][1:] == both[0][order][:-1]) & (both[1][order][1:] == both[1][order][:-1])
        asked, known_row = order[same] - len(self.obsid), order[np.flatnonzero(same) - 1]
        new = np.ones(len(obsid), bool)
        changed = np.zeros(len(obsid), bool)
        new[asked] = False
        changed[asked] = content[asked] != self.content_hash[known_row]
        return new, changed
