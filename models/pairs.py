"""Stored pairs as the trainer sees them: flux, labels, split and S/N of both arms, read in parts. Knows no survey."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from twinlines.models.vocabulary import ARMS, HEADS, SPLITS

BLOCK = 2048
"""Pairs that are read at once, unless the store's shards say otherwise."""

DIGESTS = "+"
"""Between the digests of sets that were joined."""

_NO_SPLIT = -1  # of rows between joined sets
_PART_BLOCKS = 2  # blocks whose pairs are shuffled together; what they take is in memory, and once more being read
_LIMIT = 1.0e4  # far beyond any flux, and within float16


class PairsError(ValueError):
    """Pairs are missing, incomplete or not usable."""


class ArrayLike(Protocol):
    """A NumPy or Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its dimensions."""

    def __getitem__(self, key: slice, /) -> Any:
        """Its rows."""


class Part(NamedTuple):
    """Some pairs, in memory."""

    flux: Mapping[str, NDArray[np.float16]]
    """By arm, (pair, 2, pixel), noisy flux over continuum. float16 halves the memory; near 1 it rounds by at most 5e-4,
    a twentieth of the noise at S/N 100."""
    label: NDArray[np.float32]
    """(pair, 2), 1 where the spectrum shows two stars, else 0."""
    snr: Mapping[str, NDArray[np.float32]]
    """By arm, (pair,) signal-to-noise ratio per pixel of both spectra."""
    weight: Mapping[str, NDArray[np.float32]]
    """By head, (pair, 2) weight of each spectrum in the loss."""

    def take(self, rows: NDArray[np.int64] | slice) -> Part:
        """The pairs at ``rows``."""
        flux = {arm: values[rows] for arm, values in self.flux.items()}
        snr = {arm: values[rows] for arm, values in self.snr.items()}
        weight = {head: values[rows] for head, values in self.weight.items()}
        return Part(flux, self.label[rows], snr, weight)

    @classmethod
    def join(cls, parts: list[Part]) -> Part:
        """Parts one after the other."""
        if len(parts) == 1:
            return parts[0]
        flux = {arm: np.concatenate([part.flux[arm] for part in parts]) for arm in parts[0].flux}
        snr = {arm: np.concatenate([part.snr[arm] for part in parts]) for arm in parts[0].snr}
        weight = {head: np.concatenate([part.weight[head] for part in parts]) for head in parts[0].weight}
        return cls(flux, np.concatenate([part.label for part in parts]), snr, weight)


@dataclass(frozen=True)
class PairArrays:
    """Pairs of spectra: a single star, and (mostly) a binary that contains it, both arms of each."""

    flux: Mapping[str, ArrayLike]
    """By arm, (pair, 2, pixel) float32, noisy flux over continuum."""
    label: NDArray[np.int8]
    """(pair, 2) 1 where the spectrum shows two stars, else 0."""
    split: NDArray[np.int8]
    """(pair,) 0 train, 1 validation, 2 test."""
    snr: Mapping[str, NDArray[np.float32]]
    """By arm, (pair,) signal-to-noise ratio per pixel of both spectra."""
    digest: str
    """What identifies the content: the digest of the recipe that made it, or a hash of the values."""
    block: int = BLOCK
    """Pairs that are read at once: a shard of the store."""
    weight: Mapping[str, NDArray[np.float32]] | None = None
    """By head, (pair, 2) weight of each spectrum in the loss; None: all have one."""
    firsts: tuple[int, ...] = (0,)
    """First row of each set that was joined into this one."""
    names: tuple[str, ...] = ("the pairs",)
    """What each of these sets is called, in errors."""

    def __post_init__(self) -> None:
        rows = len(self.split)
        for arm in ARMS:
            if arm not in self.flux or arm not in self.snr:
                raise PairsError(f"the pairs lack arm {arm}; there are {sorted(self.flux)}")
            shape = self.flux[arm].shape
            if len(shape) != 3 or shape[1] != 2:
                raise PairsError(f"flux of arm {arm} has shape {shape}; it must be (pair, 2, pixel)")
            if shape[0] != rows or self.snr[arm].shape != (rows,) or self.label.shape != (rows, 2):
                raise PairsError(
                    f"flux of arm {arm} has {shape[0]} pairs, label {self.label.shape}, split {self.split.shape} and "
                    f"snr {self.snr[arm].shape}; they must agree"
                )

    @property
    def pixels(self) -> tuple[int, int]:
        """Pixels of one spectrum of each arm."""
        blue, red = (self.flux[arm].shape[2] for arm in ARMS)
        return blue, red

    def count(self, split: int) -> int:
        """Number of pairs of a split.

        Raises
        ------
        PairsError
            If there are none.
        """
        count = int(np.count_nonzero(self.split == split))
        if count == 0:
            raise PairsError(f"no pair is of the split {SPLITS[split]!r}; split pairs into {SPLITS}")
        return count

    def parts(self, split: int, most: int | None = None) -> Iterator[Part]:
        """Read a split block by block, a block of each joined set in turn; the first ``most`` pairs, if that is said.

        Raises
        ------
        PairsError
            If there are no such pairs, or one holds a value that is not finite.
        """
        left = self.count(split) if most is None else most
        starts = self._starts(split)
        owner = np.searchsorted(self.firsts, starts, side="right")
        turn = np.arange(len(starts)) - np.searchsorted(owner, owner)
        for start in starts[np.lexsort((owner, turn))]:
            if left <= 0:
                return
            part = self._read(start, split)
            yield part.take(slice(0, left))
            left -= len(part.label)

    def plan(self, split: int, generator: np.random.Generator, most: int = 0) -> Plan:
        """Choose which pairs of a split to show, and in which order: all, or ``most`` of them in whole blocks."""
        starts = generator.permutation(self._starts(split))
        counts = [int(np.count_nonzero(self.split[start : start + self.block] == split)) for start in starts]
        if most:
            enough = int(np.searchsorted(np.cumsum(counts), most)) + 1
            starts, counts = starts[:enough], counts[:enough]
        total = sum(counts)
        return Plan(self, split, [int(start) for start in starts], min(total, most or total), generator)

    def _starts(self, split: int) -> NDArray[np.int64]:
        """First pairs of the blocks that hold any of a split."""
        return np.unique(np.flatnonzero(self.split == split) // self.block) * self.block

    def _read(self, start: int, split: int) -> Part:
        """The pairs of a split in one block."""
        mine = self.split[start : start + self.block] == split
        flux = {}
        place = int(np.searchsorted(self.firsts, start, side="right")) - 1
        name, first = self.names[place], self.firsts[place]  # a set's own rows are told
        for arm in ARMS:
            try:
                block = np.asarray(self.flux[arm][start : start + self.block], np.float32)[mine]
            except (ValueError, RuntimeError) as error:  # a checksum that differs, or what it would have caught
                raise PairsError(
                    f"{name}: flux of arm {arm} of the pairs from {start - first} on is damaged ({error}); synthesize "
                    "the pairs again"
                ) from error
            finite = np.isfinite(block).all(axis=(1, 2))
            if not finite.all():
                bad = start - first + int(np.flatnonzero(mine)[np.flatnonzero(~finite)[0]])
                raise PairsError(
                    f"{name}: pair {bad} holds flux of arm {arm} that is not finite; synthesize the pairs again"
                )
            flux[arm] = np.clip(block, -_LIMIT, _LIMIT).astype(np.float16)
        rows = start + np.flatnonzero(mine)
        every = np.ones((len(rows), 2), np.float32)
        weight = {head: every if self.weight is None else self.weight[head][rows] for head in HEADS}
        return Part(flux, self.label[rows].astype(np.float32), {arm: self.snr[arm][rows] for arm in ARMS}, weight)


@dataclass(frozen=True)
class _Joined:
    """Flux of several sets, each from a row of its own; rows between them are of no pair."""

    sets: Sequence[ArrayLike]
    firsts: tuple[int, ...]
    shape: tuple[int, ...]

    def __getitem__(self, key: slice, /) -> NDArray[np.float32]:
        rows = np.zeros((len(range(*key.indices(self.shape[0]))), *self.shape[1:]), np.float32)
        place = int(np.searchsorted(self.firsts, key.start, side="right")) - 1
        first, length = self.firsts[place], self.sets[place].shape[0]
        start, stop = key.start - first, min(key.stop - first, length)
        if start < stop:
            rows[: stop - start] = self.sets[place][slice(start, stop)]
        return rows


def join(sets: Sequence[PairArrays]) -> PairArrays:
    """Several sets of pairs as one; each begins at a block of its own, so that a block is of one set.

    Raises
    ------
    PairsError
        If their spectra differ in length, or two sets are the same.
    """
    if len(sets) == 1:
        return sets[0]
    block = max(one.block for one in sets)
    if len({one.digest for one in sets}) < len(sets):
        raise PairsError("two sets of pairs are the same (by their digests), and would be shown twice as often")
    if len({one.pixels for one in sets}) > 1:
        raise PairsError(f"the sets' spectra have {' and '.join(str(one.pixels) for one in sets)} pixels in B and R")
    lengths = [-(-len(one.split) // block) * block for one in sets]
    firsts = tuple(int(first) for first in np.cumsum([0, *lengths[:-1]]))

    def padded(values: Sequence[NDArray[Any]], filling: float) -> NDArray[Any]:
        whole = np.full((sum(lengths), *values[0].shape[1:]), filling, values[0].dtype)
        for first, mine in zip(firsts, values, strict=True):
            whole[first : first + len(mine)] = mine
        return whole

    def weight(one: PairArrays, head: str) -> NDArray[np.float32]:
        return np.ones(one.label.shape, np.float32) if one.weight is None else one.weight[head]

    weighted = any(one.weight is not None for one in sets)
    return PairArrays(
        flux={
            arm: _Joined([one.flux[arm] for one in sets], firsts, (sum(lengths), *sets[0].flux[arm].shape[1:]))
            for arm in ARMS
        },
        label=padded([one.label for one in sets], 0),
        split=padded([one.split for one in sets], _NO_SPLIT),
        snr={arm: padded([one.snr[arm] for one in sets], 1.0) for arm in ARMS},
        digest=DIGESTS.join(one.digest for one in sets),
        block=block,
        weight={head: padded([weight(one, head) for one in sets], 0.0) for head in HEADS} if weighted else None,
        firsts=firsts,
        names=tuple(name for one in sets for name in one.names),
    )


class Plan(NamedTuple):
    """Which pairs are shown in an epoch, and in which order."""

    pairs: PairArrays
    """Where they are."""
    split: int
    """Split that they are of."""
    starts: list[int]
    """First pairs of the blocks, in their order."""
    total: int
    """Pairs that are shown."""
    generator: np.random.Generator
    """What shuffles the pairs of blocks that are in memory together."""

    def parts(self) -> Iterator[Part]:
        """Read the pairs, some blocks at a time, shuffled; the next while the last is used."""
        groups = [self.starts[i : i + _PART_BLOCKS] for i in range(0, len(self.starts), _PART_BLOCKS)]
        left = self.total
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._read, groups[0]) if groups else None
            for following in [*groups[1:], None]:
                assert coming is not None
                part = coming.result()
                coming = None if following is None else ahead.submit(self._read, following)
                order = self.generator.permutation(len(part.label))[:left]
                left -= len(order)
                yield part.take(order)

    def _read(self, starts: list[int]) -> Part:
        return Part.join([self.pairs._read(start, self.split) for start in starts])


def content_digest(
    flux: Mapping[str, ArrayLike], label: NDArray[np.int8], split: NDArray[np.int8], snr: Mapping[str, NDArray[Any]]
) -> str:
    """Hash (sha256, hexadecimal) of the values of pairs, whatever their chunks and compression."""
    total = hashlib.sha256(np.ascontiguousarray(split, np.int8).tobytes())
    total.update(np.ascontiguousarray(label, np.int8).tobytes())
    for arm in ARMS:
        total.update(np.ascontiguousarray(snr[arm], "<f4").tobytes())
        for start in range(0, flux[arm].shape[0], BLOCK):
            total.update(np.ascontiguousarray(flux[arm][start : start + BLOCK], "<f4").data)
    return total.hexdigest()


def load_pairs(path: Path) -> PairArrays:
    """Open the pairs in a Zarr store; the flux stays on disk.

    Parameters
    ----------
    path
        Folder of the store, with arrays ``label`` (pair, kind), ``split`` (pair,), and for each arm ``flux_<arm>``
        (pair, kind, pixel) and ``snr_<arm>`` (pair,).

    Raises
    ------
    PairsError
        If the store or one of its arrays is missing.
    """
    path = Path(path)
    if not path.exists():
        raise PairsError(f"{path} does not exist; synthesize pairs into it first")
    names = "label", "split", *(f"{name}_{arm}" for name in ("flux", "snr") for arm in ARMS)
    try:
        group = zarr.open_group(store=path, mode="r")
        arrays = {name: cast("zarr.Array[Any]", group[name]) for name in names}
        label, split = (np.asarray(arrays[name][:], np.int8) for name in ("label", "split"))
        flux = {arm: arrays[f"flux_{arm}"] for arm in ARMS}
        snr = {arm: np.asarray(arrays[f"snr_{arm}"][:], np.float32) for arm in ARMS}
        recipe = group.attrs.get("digest")
        digest = recipe if isinstance(recipe, str) else content_digest(flux, label, split, snr)
    except (KeyError, FileNotFoundError, zarr.errors.BaseZarrError) as error:
        raise PairsError(
            f"{path} is no store of pairs with arrays {', '.join(names)} ({error}); synthesize them"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise PairsError(f"{path} is damaged ({error}); synthesize the pairs again") from error
    shards = flux[ARMS[0]].shards
    block = BLOCK if shards is None else int(shards[0])
    return PairArrays(flux, label, split, snr, digest, block, names=(str(path),))
