"""What a survey does to a spectrum that Table 1 leaves out: the detector's pixels, and a velocity that is measured.

Used by :mod:`twinlines.pipeline.synthesis.spectra` for all pairs in a measured frame. Knows spectra
on an arm's grid, no star and no store.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from twinlines.models import noise
from twinlines.models.vocabulary import SYNTHESIS_STREAMS
from twinlines.pipeline.arms import NATIVE_PIXELS, STEP_DEX, Arm, doppler_factor, native_wavelength
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra import velocity
from twinlines.pipeline.spectra.velocity import Templates

FIRST_WAVELENGTH = {"B": 4901.0, "R": 6273.5}
"""Wavelength of the first pixel of the detector, Angstrom: the middle of what real exposures have."""

_MIRROR = 160  # library pixels of each end that are not used: 800 km/s of shift and rotation reach into them


@lru_cache(maxsize=1)
def templates() -> Templates:
    """The survey's templates, from the library that ships, whichever makes the training set."""
    return Templates.build(Library.load())


@lru_cache(maxsize=2)
def _native(arm: Arm) -> NDArray[np.float64]:
    return native_wavelength(arm.name, FIRST_WAVELENGTH[arm.name])


def detector_noise(arm: Arm, keys: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Standard normal numbers of the detector's pixels, (spectrum, 4136); they depend on (seed, keys, arm) alone."""
    return noise.normal(keys, SYNTHESIS_STREAMS[arm.name], seed, n_draws=1, n_pixels=NATIVE_PIXELS)[:, 0]


def on_grid(arm: Arm, native: NDArray[np.float32], frame: NDArray[np.float64]) -> Tensor:
    """Values of the detector's pixels, interpolated linearly to the grid of spectra at rest.

    Parameters
    ----------
    arm
        The arm.
    native
        (spectrum, 4136) values on the detector.
    frame
        (spectrum,) velocity at which each spectrum is at rest, km/s.

    Returns
    -------
    Tensor, shape (spectrum, arm.n_pixels)
    """
    seen = arm.wavelength[None, :] * doppler_factor(frame)[:, None]
    place = np.interp(seen, _native(arm), np.arange(NATIVE_PIXELS, dtype=np.float64))
    below = np.minimum(place.astype(np.int64), NATIVE_PIXELS - 2)
    fraction = torch.from_numpy((place - below).astype(np.float32))
    left, index = torch.from_numpy(native), torch.from_numpy(below)
    return torch.lerp(left.gather(1, index), left.gather(1, index + 1), fraction)


def coarseness(arm: Arm) -> NDArray[np.float64]:
    """Steps of the detector's pixels over those of the grid, (arm.n_pixels,).

    Noise of the detector, interpolated to the grid, has that much more power at the scale of lines than noise of the
    same standard deviation that is independent on every pixel of the grid.
    """
    native = _native(arm)
    return np.asarray(np.interp(arm.wavelength, native[:-1], np.diff(native)) / np.gradient(arm.wavelength))


def expose(flux: Tensor, snr: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Flux with photon-like noise, and its standard deviation: sqrt(flux median(flux)) / snr.

    Parameters
    ----------
    flux
        (spectrum, pixel) positive flux without noise.
    snr
        (spectrum,) median over pixels of flux over sigma.
    normal
        (spectrum, pixel) standard normal numbers.
    """
    level = flux.median(dim=1, keepdim=True).values
    sigma = torch.sqrt(flux * level) / snr[:, None]
    return torch.addcmul(flux, sigma, normal), sigma


def native_light(arm: Arm, light: NDArray[np.float32]) -> NDArray[np.float64]:
    """Light on an arm's library grid, interpolated to the detector's pixels by cubic splines.

    The detector reaches beyond the library's ends, where shifts and rotation leave nothing that means anything: there
    the light is mirrored.

    Parameters
    ----------
    arm
        The arm.
    light
        (spectrum, arm.library_pixels) as observed.

    Returns
    -------
    NDArray, shape (spectrum, 4136)
    """
    place = (np.log10(_native(arm)) - arm.library_loglam[0]) / STEP_DEX
    first, last = float(_MIRROR), float(arm.library_pixels - 1 - _MIRROR)
    place = np.where(place < first, 2.0 * first - place, np.where(place > last, 2.0 * last - place, place))
    return np.asarray(CubicSpline(np.arange(arm.library_pixels), light, axis=1)(place))


def native_loglam(arm: Arm) -> NDArray[np.float64]:
    """log10 of the wavelengths of the detector's pixels, Angstrom, (4136,)."""
    return np.log10(_native(arm))


def measure(arm: Arm, normalised: Tensor, sigma: Tensor) -> NDArray[np.float64]:
    """Velocities of spectra on an arm's grid as the survey measures them, km/s; NaN where it finds none.

    Parameters
    ----------
    arm
        The arm.
    normalised, sigma
        (spectrum, arm.n_pixels) flux over continuum and its standard deviation.
    """
    grid = torch.from_numpy(arm.wavelength).expand(len(normalised), -1)
    return velocity.measure(arm.name, grid, normalised, sigma, templates()).velocity
