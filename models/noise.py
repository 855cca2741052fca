"""Gaussian noise that depends on what it is for and on nothing else.

Every draw of every spectrum has a stream of its own, addressed by a counter-based generator (Philox 4x64-10; Salmon et
al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): how spectra are grouped, ordered or spread over workers, and
how many draws are asked for, changes no value.

The stream of (seed, obsid, lmjm, arm, draw), so that another device can reproduce it:

* key words: seed, obsid; counter words: 0 (the block), draw, arm, lmjm; signed integers as their two's complement.
  NumPy raises word 0 before each block, so that the blocks are 1, 2, ...; each yields four 64-bit words, in order.
* word i makes pixels 2i and 2i + 1 by Box and Muller: with low and high its two 32-bit halves,
  r = sqrt(-2 ln((low + 1) / 2^32)), angle = 2 pi high / 2^32, and the pixels r cos(angle) and r sin(angle), in float32.
  The largest value is 6.66 standard deviations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TWO_TO_MINUS_32 = np.float32(2.0**-32)
_ANGLE = np.float32(2.0 * np.pi * 2.0**-32)
_WORD = (1 << 64) - 1


def stream(obsid: int, lmjm: int, arm: int, draw: int, seed: int) -> np.random.Philox:
    """Generator of one stream's raw words, at its beginning."""
    return np.random.Philox(
        key=np.array([seed & _WORD, obsid & _WORD], np.uint64),
        counter=np.array([0, draw, arm & _WORD, lmjm & _WORD], np.uint64),
    )


def normal(
    keys: NDArray[np.int64], arm: int, seed: int, n_draws: int, n_pixels: int, *, first_draw: int = 0
) -> NDArray[np.float32]:
    """Standard normal numbers for spectra.

    Parameters
    ----------
    keys
        (spectrum, 2) obsid and lmjm of each spectrum.
    arm
        Number of the arm; any integer that differs between arms.
    seed
        Seed of the run, from 0 to 2^64 - 1.
    n_draws, n_pixels
        Draws of each spectrum and pixels of each draw.
    first_draw
        Serial number of the first draw.

    Returns
    -------
    NDArray
        (spectrum, draw, pixel) float32.

    Raises
    ------
    ValueError
        If the seed is out of range or ``keys`` is no (spectrum, 2) array.
    """
    keys = np.asarray(keys)
    if keys.ndim != 2 or keys.shape[1] != 2 or keys.dtype.kind not in "iu":
        raise ValueError(f"keys are (spectrum, 2) integers, obsid and lmjm; these are {keys.shape} {keys.dtype}")
    if not 0 <= seed <= _WORD:
        raise ValueError(f"seed {seed} is not between 0 and 2^64 - 1")
    n_words = (n_pixels + 1) // 2
    # From the last block of one draw to the first of the next: word 0 of the counter back to 0, word 1 up by 1.
    to_next_draw = (1 << 64) - (n_words + 3) // 4
    out = np.empty((len(keys), n_draws, n_pixels), np.float32)
    raw = np.empty((n_draws, n_words), "<u8")
    radius, angle, part = (np.empty((n_draws, n_words), np.float32) for _ in range(3))
    for spectrum, (obsid, lmjm) in zip(out, keys.tolist(), strict=True):
        generator = stream(obsid, lmjm, arm, first_draw, seed)
        for draw in range(n_draws):
            raw[draw] = generator.random_raw(n_words)
            # Stepping is several times faster than making a generator.
            generator.advance(to_next_draw)
        halves = raw.view("<u4")
        # In arrays of their own, without gaps and again and again: functions of numbers with gaps take longer.
        radius[...], angle[...] = halves[:, 0::2], halves[:, 1::2]
        # Adding 1 in float32 would lose the 1 for large halves only, where it does not matter.
        radius += np.float32(1.0)
        radius *= _TWO_TO_MINUS_32
        np.log(radius, out=radius)
        radius *= np.float32(-2.0)
        np.sqrt(radius, out=radius)
        angle *= _ANGLE
        spectrum[:, 0::2] = np.multiply(radius, np.cos(angle, out=part), out=part)
        spectrum[:, 1::2] = np.multiply(radius, np.sin(angle, out=part), out=part)[:, : n_pixels // 2]
    return out
