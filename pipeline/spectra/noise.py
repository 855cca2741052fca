"""How noisy a spectrum is, measured on itself: an inverse variance is a claim.

Sixth differences of neighbouring pixels hold nearly nothing of what came through the spectrograph's optics. Of a line
of the narrowest profile (a standard deviation of 2.2 pixels) they keep 0.4 % of the depth, in units of the noise that
they keep, so that the deepest lines at S/N 100 weigh less than half of what noise does. Their median is deaf to cosmic
rays, bad columns and wild ends.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from twinlines.pipeline.spectra.compiled.differences import ratios

TRUSTED = 1.2
"""Ratio of measured to stated noise up to which the stated one is believed. Where errors are right, ratios of single
arms scatter by 0.03, and real exposures of the survey have 0.51 to 1.09: of these nothing may change."""

FEWEST = 256
"""Differences that a measurement needs; with fewer there is none."""

_DIFFERENCE = np.array([(-1.0) ** k * math.comb(6, k) for k in range(7)])
_MEDIAN_OF_ABSOLUTE = 0.6744897501960817  # of a normal deviate of standard deviation 1


def measure(flux: Tensor, sigma: Tensor, usable: Tensor) -> Tensor:
    """Measure the noise of spectra against the noise that is stated.

    Parameters
    ----------
    flux
        (spectrum, pixel) on native pixels, any unit, not repaired.
    sigma
        (spectrum, pixel) stated standard deviation, in the same unit.
    usable
        (spectrum, pixel) bool, pixels that take part.

    Returns
    -------
    Tensor
        (spectrum,) float32, median ratio of measured to stated noise, 1 where they agree; NaN where fewer than
        :data:`FEWEST` differences are usable.
    """
    ratio = torch.empty(flux.shape[0], dtype=torch.float64)
    arrays = (values.cpu().contiguous().numpy() for values in (flux, sigma, usable))
    ratios(ratio.numpy(), _DIFFERENCE, FEWEST, *arrays)
    return (ratio / _MEDIAN_OF_ABSOLUTE).to(device=flux.device, dtype=torch.float32)


def factor(ratio: Tensor) -> Tensor:
    """By what the stated noise is to be multiplied: the ratio where it is above :data:`TRUSTED`, else 1."""
    return torch.where(ratio > TRUSTED, ratio, 1.0)
