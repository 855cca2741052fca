"""A split of pairs in batches on the device that trains: in memory on a CPU, one batch ahead of the work on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.pairs import Split


class Batch(NamedTuple):
    """Some pairs of a split."""

    flux: Tensor
    """(pair, 2, pixel) flux over continuum."""
    label: Tensor
    """(pair, 2), 1 where the spectrum shows two stars, else 0."""
    snr: Tensor
    """(pair,) signal-to-noise ratio per pixel of both spectra."""


def batches(split: Split, order: NDArray[np.int64], size: int, device: torch.device) -> Iterator[Batch]:
    """Yield the pairs ``order`` of a split, ``size`` at a time, float32 on the device; the last batch may be smaller.

    To a GPU they travel as float16 through pinned memory, on a stream of their own, while the batch before is used.
    """
    gathered = (_gathered(split, order[start : start + size]) for start in range(0, len(order), size))
    for batch in _ahead(gathered, device) if device.type == "cuda" else gathered:
        yield batch._replace(flux=batch.flux.float())


def _gathered(split: Split, rows: NDArray[np.int64]) -> Batch:
    return Batch(*(torch.from_numpy(column[rows]) for column in split))


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def started(batch: Batch) -> Batch:
        with torch.cuda.stream(stream):
            return Batch(*(column.pin_memory().to(device, non_blocking=True) for column in batch))

    def arrived(batch: Batch) -> Batch:
        user = torch.cuda.current_stream(device)
        user.wait_stream(stream)
        for column in batch:
            # Its memory was taken on the other stream, which must not have it back before this one is done with it.
            column.record_stream(user)
        return batch

    waiting: Batch | None = None
    for batch in batches:
        # Arrived before the next one starts, or this stream would wait for that one, too.
        ready = None if waiting is None else arrived(waiting)
        waiting = started(batch)
        if ready is not None:
            yield ready
    if waiting is not None:
        yield arrived(waiting)
