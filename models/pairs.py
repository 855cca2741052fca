"""Stored pairs as the trainer sees them: flux, labels, split and S/N of one arm. Knows arrays, no survey."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from twinlines.models.vocabulary import SPLITS

_BLOCK = 2048
# Far beyond any flux, and within float16.
_LIMIT = 1.0e4


class PairsError(ValueError):
    """Pairs are missing, incomplete or not usable."""


class ArrayLike(Protocol):
    """A NumPy or Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its dimensions."""

    def __getitem__(self, key: slice, /) -> Any:
        """Its rows."""


class Split(NamedTuple):
    """One split of pairs, in memory."""

    flux: NDArray[np.float16]
    """(pair, 2, pixel), noisy flux over continuum."""
    label: NDArray[np.float32]
    """(pair, 2), 1 where the spectrum shows two stars, else 0."""
    snr: NDArray[np.float32]
    """(pair,) signal-to-noise ratio per pixel of both spectra."""


@dataclass(frozen=True)
class PairArrays:
    """Pairs of spectra, one arm: a single star, and (mostly) a binary that contains it."""

    flux: ArrayLike
    """(pair, 2, pixel) float32, noisy flux over continuum."""
    label: NDArray[np.int8]
    """(pair, 2) 1 where the spectrum shows two stars, else 0."""
    split: NDArray[np.int8]
    """(pair,) 0 train, 1 validation, 2 test."""
    snr: NDArray[np.float32]
    """(pair,) signal-to-noise ratio per pixel of both spectra."""
    digest: str
    """Hash of the content."""
    recipe: str | None = None
    """Digest of the recipe that they were made by, if known."""

    def __post_init__(self) -> None:
        rows = self.flux.shape[0]
        if len(self.flux.shape) != 3 or self.flux.shape[1] != 2:
            raise PairsError(f"flux has shape {self.flux.shape}; it must be (pair, 2, pixel)")
        if self.split.shape != (rows,) or self.snr.shape != (rows,) or self.label.shape != (rows, 2):
            raise PairsError(
                f"flux has {rows} pairs, label {self.label.shape}, split {self.split.shape} and snr {self.snr.shape}; "
                "they must agree"
            )

    @property
    def n_pixels(self) -> int:
        """Pixels of one spectrum."""
        return self.flux.shape[2]

    def rows(self, split: int) -> NDArray[np.int64]:
        """Places of the pairs of a split.

        Raises
        ------
        PairsError
            If there are none.
        """
        rows = np.flatnonzero(self.split == split)
        if rows.size == 0:
            raise PairsError(f"no pair is of the split {SPLITS[split]!r}; split pairs into {SPLITS}")
        return rows

    def read(self, split: int) -> Split:
        """Read one split into memory.

        float16 halves the memory; near 1 it rounds by at most 5e-4, a twentieth of the noise at S/N 100.

        Raises
        ------
        PairsError
            If there are no such pairs, or one holds a value that is not finite.
        """
        self.rows(split)
        return self._read([split])[split]

    def _read(self, wanted: Sequence[int]) -> dict[int, Split]:
        """Read splits, all in one pass over the store."""
        flux = {split: np.empty((int(np.sum(self.split == split)), 2, self.n_pixels), np.float16) for split in wanted}
        done = dict.fromkeys(wanted, 0)
        for start, block in _blocks(self.flux):
            finite = np.asarray(np.isfinite(block).all(axis=(1, 2)))
            for split, destination in flux.items():
                mine = self.split[start : start + len(block)] == split
                if not finite[mine].all():
                    bad = start + int(np.flatnonzero(mine & ~finite)[0])
                    raise PairsError(f"pair {bad} holds flux that is not finite; synthesize the pairs again")
                stop = done[split] + int(mine.sum())
                np.clip(block[mine], -_LIMIT, _LIMIT, out=destination[done[split] : stop], casting="same_kind")
                done[split] = stop
        parts = {}
        for split, destination in flux.items():
            mine = self.split == split
            parts[split] = Split(destination, self.label[mine].astype(np.float32), self.snr[mine])
        return parts

    def remembering(self) -> PairArrays:
        """The same pairs, for several members that read the same: all are read at once, and stay in memory."""
        return _Remembered(**{item.name: getattr(self, item.name) for item in fields(self)})


@dataclass(frozen=True)
class _Remembered(PairArrays):
    _splits: dict[int, Split] = field(default_factory=dict, repr=False, compare=False)

    def read(self, split: int) -> Split:
        self.rows(split)
        if not self._splits:
            self._splits.update(self._read(range(len(SPLITS))))
        return self._splits[split]


def _blocks(flux: ArrayLike) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, flux.shape[0], _BLOCK):
        yield start, np.asarray(flux[start : start + _BLOCK], np.float32)


def content_digest(flux: ArrayLike, label: NDArray[np.int8], split: NDArray[np.int8], snr: NDArray[np.float32]) -> str:
    """Hash (sha256, hexadecimal) of the values of pairs, whatever their chunks and compression."""
    total = hashlib.sha256(np.ascontiguousarray(split, np.int8).tobytes())
    total.update(np.ascontiguousarray(label, np.int8).tobytes())
    total.update(np.ascontiguousarray(snr, "<f4").tobytes())
    for _, block in _blocks(flux):
        total.update(np.ascontiguousarray(block, "<f4").data)
    return total.hexdigest()


def load_pairs(path: Path, arm: str) -> PairArrays:
    """Open the pairs of one arm in a Zarr store; the flux stays on disk.

    Parameters
    ----------
    path
        Folder of the store, with arrays ``flux_<arm>`` (pair, kind, pixel), ``label`` (pair, kind), ``split`` (pair,)
        and ``snr_<arm>`` (pair,).
    arm
        "B" or "R".

    Raises
    ------
    PairsError
        If the store or one of its arrays is missing.
    """
    path = Path(path)
    if not path.exists():
        raise PairsError(f"{path} does not exist; synthesize pairs into it first")
    try:
        group = zarr.open_group(store=path, mode="r")
        names = f"flux_{arm}", "label", "split", f"snr_{arm}"
        flux, label, split, snr = (cast("zarr.Array[Any]", group[name]) for name in names)
    except (KeyError, FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise PairsError(
            f"{path} is no store of pairs with arrays 'flux_{arm}', 'label', 'split' and 'snr_{arm}' ({error}); "
            "synthesize them"
        ) from error
    labels, splits, ratios = (
        np.asarray(label[:], np.int8),
        np.asarray(split[:], np.int8),
        np.asarray(snr[:], np.float32),
    )
    recipe = group.attrs.get("digest")
    return PairArrays(
        flux,
        labels,
        splits,
        ratios,
        content_digest(flux, labels, splits, ratios),
        recipe if isinstance(recipe, str) else None,
    )
