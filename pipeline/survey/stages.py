"""From blocks of exposures to results on one worker: one after the other, or prepared by cores for a GPU that waits.

A GPU judges a block in less time than a core takes to read and prepare it. There, several threads prepare blocks ahead,
and the networks judge them in order; tasks of one worker share the threads and take turns at the networks, so that
these judge one task's blocks while another task begins or writes. Results are the same, bit for bit. Knows no
wavelength.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol, cast, runtime_checkable

import xarray as xr

Infer = Callable[[xr.Dataset], xr.Dataset]
"""Makes results of exposures."""

Read = Callable[[int], xr.Dataset]
"""Reads the block that begins at a row."""


@runtime_checkable
class Staged(Protocol):
    """An inference whose two parts can be done apart."""

    def prepare(self, block: xr.Dataset) -> Any:
        """A core's part; several threads may at once."""
        ...

    def verdict(self, prepared: Any) -> xr.Dataset:
        """The networks' part, of what :meth:`prepare` returned."""
        ...


def threads_for(device: str) -> int:
    """Threads that prepare blocks for the networks of this worker: its share of the cores for a GPU, else none."""
    if device == "cpu":
        return 0
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, torch.cuda.device_count()))


@dataclass(frozen=True)
class Stages:
    """What a worker keeps between tasks: an inference, and the threads that prepare for it."""

    infer: Infer
    """The inference."""
    threads: int = 0
    """Threads that read and prepare; 0: each block is computed where it is asked for, while the next one is read."""
    tasks: int = 1
    """Tasks that the worker computes at a time, which share the threads."""
    _turn: Lock = field(default_factory=Lock, repr=False, compare=False)
    _pool: ThreadPoolExecutor | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        staged = self.threads and isinstance(self.infer, Staged)
        pool = ThreadPoolExecutor(self.threads, "twinlines-prepares") if staged else None
        object.__setattr__(self, "_pool", pool)

    def __call__(self, starts: range, read: Read) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
        """Yield each block's keys, or the block itself, and its results, in order.

        Parameters
        ----------
        starts
            First rows of the blocks.
        read
            Reads a block; called in other threads.
        """
        if self._pool is not None:
            yield from self._ahead(self._pool, starts, read)
            return
        with ThreadPoolExecutor(1) as reader:
            for block in _in_order(reader, read, starts, 1):
                yield block, self.infer(block)

    def _ahead(self, pool: ThreadPoolExecutor, starts: range, read: Read) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
        infer = cast(Staged, self.infer)

        def prepare(start: int) -> tuple[xr.Dataset, Any]:
            block = read(start)
            keys = block.drop_vars([name for name, values in block.variables.items() if values.ndim > 1])
            return keys, infer.prepare(block)

        # Each task keeps its share of the threads at work, and one prepared block besides.
        for keys, prepared in _in_order(pool, prepare, starts, -(-self.threads // self.tasks) + 1):
            with self._turn:
                result = infer.verdict(prepared)
            yield keys, result


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], Any], starts: range, ahead: int) -> Iterator[Any]:
    """What ``work`` makes of each start, in order, while the pool works so many ahead."""
    coming: deque[Future[Any]] = deque()
    try:
        for start in starts:
            coming.append(pool.submit(work, start))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        for future in coming:  # whoever asks no more, or met an error
            future.cancel()
