"""The main sequence of single stars in the colour-magnitude diagram, from the stars themselves. Knows arrays alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EQUAL = 2.5 * float(np.log10(2.0))
"""How much brighter two equal stars are than one, mag: 0.75."""

_RIDGE_STARS, _RIDGE_BINS = 10, 60  # fewest of a bin of colour, most bins
_RIDGE_WIDTH = 0.4  # mag: stars that are farther from the ridge do not pull it; equal pairs are


def is_dwarf(colour: Array, magnitude: Array) -> NDArray[np.bool_]:
    """Whether stars are on or near the main sequence: fainter than 0.5 + 2.95 (BP - RP)_0, and no white dwarfs."""
    line = 0.5 + 2.95 * colour
    return np.asarray((magnitude > line) & (magnitude < line + 5.5), np.bool_)


def main_sequence(colour: Array, magnitude: Array) -> tuple[Array, Array]:
    """Colours, and magnitudes there of single stars: medians of those that are near, in bins of equally many dwarfs.

    Parameters
    ----------
    colour, magnitude
        (star,) intrinsic colours and absolute magnitudes, mag.

    Returns
    -------
    colours, magnitudes
        (bin,) rising colours, and the sequence there; empty, if there are too few dwarfs.
    """
    dwarf = is_dwarf(colour, magnitude)
    order = np.argsort(colour[dwarf], kind="stable")
    colour, magnitude = colour[dwarf][order], magnitude[dwarf][order]
    bins = min(len(colour) // _RIDGE_STARS, _RIDGE_BINS)
    if bins < 2:
        return np.empty(0), np.empty(0)
    parts = np.array_split(np.arange(len(colour)), bins)
    middles = np.array([np.median(colour[part]) for part in parts])
    ridge = np.array([np.median(magnitude[part]) for part in parts])
    if (np.diff(middles) <= 0.0).any():  # many stars of one colour
        return np.empty(0), np.empty(0)
    for _ in range(20):
        residual = magnitude - np.interp(colour, middles, ridge)
        near = np.abs(residual) < _RIDGE_WIDTH
        ridge = ridge + [float(np.median(residual[part][near[part]])) if near[part].any() else 0.0 for part in parts]
    return middles, ridge
