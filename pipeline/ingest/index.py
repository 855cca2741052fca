"""The rows that files would give, without their spectra, and what is wrong with the files: what scans note.

Arrays of numbers, 44 bytes a row; the files' names stay on disk. What a release keeps is settled from these alone
(:mod:`twinlines.pipeline.ingest.settling`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.lamost.exposures import Reason
from twinlines.pipeline.storage.hashed_npz import DAMAGE

_COLUMNS = {
    "file": np.int32,
    "obsid": np.int64,
    "lmjm": np.int32,
    "content_hash": np.uint64,
    "fibre": np.int32,
    "ra": np.float32,
    "dec": np.float32,
    "kept": np.int64,
}


def fibre_number(spid: NDArray[np.integer], fiberid: NDArray[np.integer]) -> NDArray[np.int32]:
    """Spectrographs and fibres, (row,) each, as one number; each is below 2**15."""
    return (spid.astype(np.int32) << 15) | fiberid.astype(np.int32)


def fibre_name(fibre: int) -> str:
    """A fibre in words."""
    return f"spectrograph {fibre >> 15}, fibre {fibre & 0x7FFF}"


@dataclass(frozen=True)
class Index:
    """The rows that files would give, without their spectra; and what is wrong with the files."""

    file: NDArray[np.int32]
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
    def concatenate(cls, parts: Iterable[tuple[int, Index]], rows: int) -> Index:
        """Join indexes of so many rows in all, one after the other: none but the whole need be in memory.

        Parameters
        ----------
        parts
            Each with the number of the file that is 0 in it.
        rows
            Their rows.

        Raises
        ------
        ValueError
            If they have another number of rows.
        """
        whole = cls(**{name: np.empty(rows, kind) for name, kind in _COLUMNS.items()}, quarantined=(), warnings=())
        quarantined: list[tuple[int, str, str]] = []
        warnings: list[tuple[int, str]] = []
        row = 0
        for first, part in parts:
            if (stop := row + len(part)) > rows:
                break
            for name in _COLUMNS:
                getattr(whole, name)[row:stop] = getattr(part, name) + (first if name == "file" else 0)
            quarantined += [(number + first, reason, message) for number, reason, message in part.quarantined]
            warnings += [(number + first, message) for number, message in part.warnings]
            row = stop
        else:
            stop = row
        if stop != rows:
            raise ValueError(f"indexes of {stop} rows where {rows} were scanned")
        return replace(whole, quarantined=tuple(quarantined), warnings=tuple(warnings))

    def with_quarantined(self, files: Iterable[tuple[int, str, str]]) -> Index:
        """Quarantine files, too: (number, reason, message) of each. Their rows stay where they are."""
        more = tuple(files)
        gone = {number for number, _, _ in more}
        return replace(
            self,
            quarantined=tuple(sorted([*self.quarantined, *more])),
            warnings=tuple(each for each in self.warnings if each[0] not in gone),
        )
