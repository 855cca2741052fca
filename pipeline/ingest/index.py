"""The rows that files would give, without their spectra: which of them a release keeps.

From this index alone, the client settles which of several files gives a row, and what earlier releases have already.
Arrays of numbers, some 36 bytes a row; the files' names stay on disk.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    kept: NDArray[np.int64]
    """(row,) byte at which the row begins among those that its batch has kept; -1 if it was not kept."""
    quarantined: tuple[tuple[int, str, str], ...]
    """File number, reason and message of each file that gives no row."""
    warnings: tuple[tuple[int, str], ...]
    """File number and message of what is wrong in files that are used nevertheless."""

    def __len__(self) -> int:
        return int(self.file.size)

    def to_bytes(self) -> bytes:
        """Return the index as the content of an ``.npz`` file."""
        notes = json.dumps({"quarantined": self.quarantined, "warnings": self.warnings})
        content = io.BytesIO()
        np.savez(
            content,
            file_number=self.file,
            obsid=self.obsid,
            lmjm=self.lmjm,
            content_hash=self.content_hash,
            kept=self.kept,
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
                    file=stored["file_number"],
                    obsid=stored["obsid"],
                    lmjm=stored["lmjm"],
                    content_hash=stored["content_hash"],
                    kept=stored["kept"],
                    quarantined=tuple((n, reason, message) for n, reason, message in notes["quarantined"]),
                    warnings=tuple((n, message) for n, message in notes["warnings"]),
                )
        except (KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"not an index of a release: {error}") from error

    @classmethod
    def concatenate(cls, parts: list[tuple[int, Index]]) -> Index:
        """Join indexes; each comes with the number of the file that is 0 in it."""
        return cls(
            file=np.concatenate([part.file + first for first, part in parts]),
            obsid=np.concatenate([part.obsid for _, part in parts]),
            lmjm=np.concatenate([part.lmjm for _, part in parts]),
            content_hash=np.concatenate([part.content_hash for _, part in parts]),
            kept=np.concatenate([part.kept for _, part in parts]),
            quarantined=tuple((n + first, *rest) for first, part in parts for n, *rest in part.quarantined),  # type: ignore[misc]
            warnings=tuple((n + first, message) for first, part in parts for n, message in part.warnings),
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
class Known:
    """The newest row of every exposure that a survey has, sorted by (obsid, lmjm); without spectra."""

    obsid: NDArray[np.int64]
    """(row,) observation identifier."""
    lmjm: NDArray[np.int32]
    """(row,) local modified Julian minute."""
    content_hash: NDArray[np.uint64]
    """(row,) hash of the content."""

    @classmethod
    def of(cls, parts: Iterable[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint64]]]) -> Known:
        """Join the (obsid, lmjm, content hash) of releases, the oldest first; of equal keys, the last counts."""
        columns = list(zip(*parts, strict=True))
        if not columns:
            return cls(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint64))
        obsid, lmjm, content = (np.concatenate(column) for column in columns)
        order = np.lexsort((lmjm, obsid))  # stable: the newest of equal keys stays last
        obsid, lmjm, content = obsid[order], lmjm[order], content[order]
        last = np.ones(len(obsid), bool)
        last[:-1] = (obsid[1:] != obsid[:-1]) | (lmjm[1:] != lmjm[:-1])
        return cls(obsid[last], lmjm[last], content[last])

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
        asked, found = order[same] - len(self.obsid), order[np.flatnonzero(same) - 1]
        new = np.ones(len(obsid), bool)
        changed = np.zeros(len(obsid), bool)
        new[asked] = False
        changed[asked] = content[asked] != self.content_hash[found]
        return new, changed
