"""The noise of :mod:`twinlines.models.noise` on any device that torch computes on: the same words, by torch alone.

Words are equal bit for bit to NumPy's, which tests on a CPU hold them to. The Gaussians made from them may differ in
the last place, as logarithms and sines do between libraries. On a CPU this is several times slower than NumPy's
generator; it is for devices to which copying the noise would cost more than making it there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LOW = (1 << 32) - 1
_ROUNDS = 10


def signed(word: int) -> int:
    """A 64-bit word as torch stores it: two's complement."""
    return word - (1 << 64) if word >> 63 else word


# Salmon et al. 2011; the constants of NumPy's Philox.
_MULTIPLIERS = (signed(0xD2E7470EE14C6C93), signed(0xCA5A826395121157))
_WEYL = (signed(0x9E3779B97F4A7C15), signed(0xBB67AE8584CAA73B))


def _high(a: Tensor, b: int) -> Tensor:
    """Upper 64 bits of the 128-bit product of unsigned words; shifts of int64 keep the sign, hence the masks."""
    a0, a1 = a & _LOW, (a >> 32) & _LOW
    b0, b1 = b & _LOW, (b >> 32) & _LOW
    middle = a1 * b0 + ((a0 * b0 >> 32) & _LOW)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + ((middle >> 32) & _LOW) + ((other >> 32) & _LOW)


def words(keys: Tensor, arm: int, seed: Tensor, n_draws: int, n_words: int) -> Tensor:
    """Raw words of the streams of spectra, from draw 0.

    Parameters
    ----------
    keys
        (spectrum, 2) int64, obsid and lmjm.
    arm
        Number of the arm.
    seed
        int64 scalar: the seed of the run as two's complement. A tensor, so that a captured graph can be given another.
    n_draws, n_words
        Draws of each spectrum and words of each draw.

    Returns
    -------
    Tensor
        (spectrum, draw, word) int64: the bits of NumPy's unsigned words.
    """
    n_blocks = -(-n_words // 4)
    shape = (len(keys), n_draws, n_blocks)
    # NumPy raises word 0 before each block.
    c0 = torch.arange(1, n_blocks + 1, dtype=torch.int64, device=keys.device).expand(shape)
    c1 = torch.arange(n_draws, dtype=torch.int64, device=keys.device)[:, None].expand(shape)
    c2 = torch.full(shape, arm, dtype=torch.int64, device=keys.device)
    c3 = keys[:, 1, None, None].expand(shape)
    k0, k1 = seed, keys[:, 0, None, None]
    for _ in range(_ROUNDS):
        high0, low0 = _high(c0, _MULTIPLIERS[0]), c0 * _MULTIPLIERS[0]
        high1, low1 = _high(c2, _MULTIPLIERS[1]), c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return torch.stack([c0, c1, c2, c3], dim=-1).flatten(2)[:, :, :n_words]


def normal(keys: Tensor, arm: int, seed: Tensor, n_draws: int, n_pixels: int) -> Tensor:
    """Standard normal numbers, (spectrum, draw, pixel) float32; see :func:`twinlines.models.noise.normal`."""
    raw = words(keys, arm, seed, n_draws, (n_pixels + 1) // 2)
    low, high = (raw & _LOW).float(), ((raw >> 32) & _LOW).float()
    radius = torch.sqrt(-2.0 * torch.log((low + 1.0) * 2.0**-32))
    angle = high * (2.0 * math.pi * 2.0**-32)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).flatten(2)[:, :, :n_pixels]
