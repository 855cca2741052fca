"""Parts of a training set in batches on the device that trains; on a GPU one batch ahead of the work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.pairs import Part


class Batch(NamedTuple):
    """Some pairs."""

    flux: Mapping[str, Tensor]
    """By arm, (pair, 2, pixel) flux over continuum."""
    label: Tensor
    """(pair, 2), 1 where the spectrum shows two stars, else 0."""
    snr: Mapping[str, Tensor]
    """By arm, (pair,) signal-to-noise ratio per pixel of both spectra."""

    weight: Mapping[str, Tensor]
    """By head, (pair, 2) weight of each spectrum in the loss."""

    def tensors(self) -> Iterator[Tensor]:
        """All of them."""
        yield from (*self.flux.values(), self.label, *self.snr.values(), *self.weight.values())

    def to(self, device: torch.device) -> Batch:
        """The same on a device; it travels through pinned memory, while the caller goes on."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        flux, snr, weight = (
            {name: moved(tensor) for name, tensor in each.items()} for each in (self.flux, self.snr, self.weight)
        )
        return Batch(flux, moved(self.label), snr, weight)


def batches(parts: Iterable[Part], size: int, device: torch.device) -> Iterator[Batch]:
    """Yield the pairs of parts, ``size`` at a time, float32 on the device; the last batch may be smaller.

    To a GPU they travel as float16, on a stream of their own, while the batch before is used.
    """
    gathered = (_tensors(part) for part in _cut(parts, size))
    for batch in _ahead(gathered, device) if device.type == "cuda" else gathered:
        yield batch._replace(flux={arm: flux.float() for arm, flux in batch.flux.items()})


def _cut(parts: Iterable[Part], size: int) -> Iterator[Part]:
    """Parts of equal size: what is left of one begins the next."""
    rest: Part | None = None
    for arrived in parts:
        first = 0
        if rest is not None:
            first = min(size - len(rest.label), len(arrived.label))
            rest = Part.join([rest, arrived.take(slice(0, first))])
            if len(rest.label) < size:
                continue
            yield rest
            rest = None
        stop = first + (len(arrived.label) - first) // size * size
        for start in range(first, stop, size):
            yield arrived.take(slice(start, start + size))
        if stop < len(arrived.label):
            rest = arrived.take(slice(stop, None))
    if rest is not None:
        yield rest


def _tensors(part: Part) -> Batch:
    def tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}

    label = torch.from_numpy(np.ascontiguousarray(part.label))
    return Batch(tensors(part.flux), label, tensors(part.snr), tensors(part.weight))


def _ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def started(batch: Batch) -> Batch:
        with torch.cuda.stream(stream):
            return batch.to(device)

    def arrived(batch: Batch) -> Batch:
        user = torch.cuda.current_stream(device)
        user.wait_stream(stream)
        for tensor in batch.tensors():
            # Its memory was taken on the other stream, which must not have it back before this one is done with it.
            tensor.record_stream(user)
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
