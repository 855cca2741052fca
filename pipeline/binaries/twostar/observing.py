"""Exposures as fits of the library's light want them: counts on every second pixel of the arms' grids, and weights.

Nothing is divided by a continuum here, for the fit has one of its own: what a smoothing spline takes from broad lines
the library's light would lack. It must never know a star or a file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import firwin
from torch import Tensor
from torch.nn import functional

from twinlines.pipeline.arms import ARMS, ArmName, doppler_factor
from twinlines.pipeline.spectra.interpolate import Places
from twinlines.pipeline.spectra.preprocess import Observed
from twinlines.pipeline.synthesis.fitting import Observation

STRIDE = 2
"""Every how many pixels of an arm's grid are fitted."""

_TAPS = 31
"""Length of the filter before every second pixel is taken: it passes what R = 7500 resolves unchanged, and noise of
periods below four pixels not at all."""

_LEAST, _MOST = 1e-3, 20.0  # of the median: counts beyond are no star's light


def observe(observed: Mapping[ArmName, Observed], frame: NDArray[np.float64]) -> dict[ArmName, Observation]:
    """Spectra of some exposures, at rest by one velocity each, on every second pixel of their arms' grids.

    Parameters
    ----------
    observed
        By arm, what :func:`twinlines.pipeline.spectra.preprocess.observe` makes of the same exposures.
    frame
        (exposure,) velocity, km/s, at which both arms are brought to rest: any near the stars'.

    Returns
    -------
    dict
        By arm; in units of the spectrum's median. A pixel that a masked, repaired or missing one contributes to has the
        weight 0, and so have all of an arm that is absent or does not cover its grid there. The weights are of noise
        that is independent between the pixels that are kept: that of native pixels, which are coarser than the
        grid's, on the scale of lines.

    Raises
    ------
    ValueError
        If there is not one velocity for each exposure.
    """
    return {name: _observe(name, spectra, frame) for name, spectra in observed.items()}


def _observe(name: ArmName, observed: Observed, frame: NDArray[np.float64]) -> Observation:
    rows = len(observed.wavelength)
    if frame.shape != (rows,):
        raise ValueError(f"arm {name}: {rows} spectra, but velocities of shape {frame.shape}")
    usable = observed.wavelength.isfinite().all(dim=1) & torch.from_numpy(np.isfinite(frame))
    factor = torch.from_numpy(doppler_factor(np.nan_to_num(frame)))
    wavelength = torch.where(usable[:, None], observed.wavelength, torch.arange(observed.wavelength.shape[1]).double())
    rest = wavelength / factor[:, None]
    at = Places(rest, torch.from_numpy(ARMS[name].wavelength))
    flux, sigma, bad = at(observed.flux), at(observed.sigma), at(observed.bad.to(observed.flux.dtype))
    usable &= flux.isfinite().all(dim=1) & sigma.isfinite().all(dim=1)
    level = torch.where(usable[:, None], flux, 1.0).median(dim=1, keepdim=True).values
    usable &= level[:, 0] > 0.0
    flux, sigma = (torch.where(usable[:, None], values / level, 1.0) for values in (flux, sigma))
    # Steps of the native pixels over those of the grid, at the velocity's own wavelengths.
    step = torch.diff(rest, dim=1)
    native = step.gather(1, at.left.clamp_max(step.shape[1] - 1))
    grid = torch.from_numpy(np.gradient(ARMS[name].wavelength))
    coarse = torch.where(usable[:, None], native / grid, 1.0).to(sigma.dtype)
    known = sigma > 0.0  # a standard deviation of zero says nothing
    flux = flux.clamp(-_MOST, _MOST)  # what takes no part must not reach its neighbours
    variance = torch.where(known, sigma, 1.0).square() * coarse
    good = (bad <= 0.0) & (flux > _LEAST) & (flux < _MOST) & known & usable[:, None]
    # What a filtered pixel was made of must all be good, but for the filter's far ends, which weigh next to nothing.
    near = functional.max_pool1d((~good).to(flux.dtype)[:, None], 5, stride=1, padding=2)[:, 0] > 0.0
    weight = torch.where(near, 0.0, torch.rsqrt(_smooth(variance) / STRIDE))
    fitted = slice(None, None, STRIDE)
    return Observation(*(values[:, fitted].to(torch.float32) for values in (_smooth(flux), weight)))


def _smooth(values: Tensor) -> Tensor:
    taps = torch.from_numpy(firwin(_TAPS, 0.5, window=("kaiser", 6.0))).to(values.dtype)
    padded = functional.pad(values[:, None], (_TAPS // 2, _TAPS // 2), mode="replicate")
    return functional.conv1d(padded, taps[None, None])[:, 0]
