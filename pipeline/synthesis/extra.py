"""What all extras share: their error, the fraction of the pairs that has them, and their random numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinlines.models import noise
from twinlines.models.vocabulary import SynthesisStream


class ExtrasError(ValueError):
    """Extra populations cannot be mixed as asked."""


def require_fraction(where: str, fraction: float) -> None:
    """Refuse what is no fraction.

    Raises
    ------
    ExtrasError
        If it is not between 0 and 1; names ``where``.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ExtrasError(f"{where}: fraction is {fraction!r}; give a number from 0 to 1")


def uniform(serial: NDArray[np.int64], purpose: SynthesisStream, seed: int, count: int) -> NDArray[np.float64]:
    """Uniform random numbers in [0, 1) of pairs, for one purpose.

    Parameters
    ----------
    serial
        (pair,) a number for each pair that no other has.
    purpose
        Which of the pair's streams.
    seed
        Seed of the training set.
    count
        How many numbers; fewer are the first of more.

    Returns
    -------
    NDArray, shape (pair, count)
        They depend on (serial, purpose, seed) alone.
    """
    words = np.empty((len(serial), count), dtype=np.uint64)
    for row, number in zip(words, serial.tolist(), strict=True):
        row[:] = noise.stream(number, 0, purpose, 0, seed).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def chosen(serial: NDArray[np.int64], purpose: SynthesisStream, seed: int, fraction: float) -> NDArray[np.bool_]:
    """Which pairs have an extra, (pair,): the first number of its stream decides."""
    if not fraction:
        return np.zeros(len(serial), dtype=bool)
    return uniform(serial, purpose, seed, 1)[:, 0] < fraction


def generator(serial: int, draw: int, purpose: SynthesisStream, seed: int) -> np.random.Generator:
    """Random numbers of one pair for one purpose, from the stream's draw number ``draw``."""
    return np.random.Generator(noise.stream(serial, 0, purpose, draw, seed))
