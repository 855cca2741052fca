"""The noise of one spectrum, from differences of high order; what it is good for is in ``spectra/noise.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel
from twinlines.pipeline.spectra.compiled.selection import lower_median

Array = NDArray[Any]


@kernel
def ratios(out: Array, weights: Array, fewest: int, flux: Array, sigma: Array, usable: Array) -> None:
    """Median ratio of the noise in differences to the stated one.

    Parameters
    ----------
    flux, sigma, usable
        (spectrum, pixel); ``usable`` is bool.
    weights
        (pixel of a difference,).
    fewest
        Differences that a measurement needs.
    out
        (spectrum,), set; NaN where there are fewer.
    """
    rows, pixels = flux.shape
    span = weights.size
    size = max(pixels - span + 1, 0)
    difference, variance = np.empty(size), np.empty(size)
    some, spare = np.empty(size), np.empty(size)
    for row in range(rows):
        for i in range(size):
            difference[i] = 0.0
            variance[i] = 0.0
        for k in range(span):
            weight = weights[k]
            value, error = flux[row, k:], sigma[row, k:]
            for i in range(size):
                difference[i] += np.float64(value[i]) * weight
                scaled = np.float64(error[i]) * weight
                variance[i] += scaled * scaled
        for i in range(size):
            difference[i] = abs(difference[i]) / np.sqrt(variance[i])
        count, finite, run = 0, 0, 0
        for i in range(pixels):
            run = run + 1 if usable[row, i] else 0
            if run >= span:
                j = i - span + 1
                there = (variance[j] > 0.0) & (difference[j] >= 0.0)
                some[count] = difference[j]
                count += there
                finite += there & (difference[j] < np.inf)
        out[row] = lower_median(some, count, spare) if finite >= fewest else np.nan
