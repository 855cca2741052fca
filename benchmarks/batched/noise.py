"""How noisy a spectrum is, measured on itself: an inverse variance is a claim.

Sixth differences of neighbouring pixels hold nearly nothing of what came through the spectrograph's optics. Of a line
of the narrowest profile (a standard deviation of 2.2 pixels) they keep 0.4 % of the depth, in units of the noise that
they keep, so that the deepest lines at S/N 100 weigh less than half of what noise does. Their median is deaf to cosmic
rays, bad columns and wild ends. All arithmetic is elementwise, and a median selects: a spectrum's result does not
depend on its neighbours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twinlines.pipeline.spectra.noise import _MEDIAN_OF_ABSOLUTE, FEWEST

_DIFFERENCE = tuple((-1) ** k * math.comb(6, k) for k in range(7))


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
    span = len(_DIFFERENCE)
    size = max(flux.shape[1] - span + 1, 0)
    difference = torch.zeros((flux.shape[0], size), dtype=torch.float64, device=flux.device)
    variance = torch.zeros_like(difference)
    whole = torch.ones_like(difference, dtype=torch.bool)
    for k, weight in enumerate(_DIFFERENCE):
        pixels = slice(k, k + size)
        difference += flux[:, pixels].double() * weight
        variance += (sigma[:, pixels].double() * weight).square()
        whole &= usable[:, pixels]
    ratio = torch.where(whole & (variance > 0.0), difference.abs() / variance.sqrt(), torch.nan)
    enough = ratio.isfinite().sum(dim=1) >= FEWEST
    if size == 0:
        return torch.full_like(enough, torch.nan, dtype=torch.float32)
    median = ratio.nanmedian(dim=1).values / _MEDIAN_OF_ABSOLUTE
    return torch.where(enough, median, torch.nan).to(torch.float32)
