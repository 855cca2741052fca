"""Rotation, Doppler shift and Gaussian broadening of spectra on a log-wavelength grid, by one FFT.

There a Doppler shift is a translation, and rotational and Gaussian broadening are convolutions with one kernel for all
pixels: factors in Fourier space. Knows no star but its vsini and its velocity.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.special import j1, jv
from torch import Tensor

from twinlines.pipeline.arms import STEP_KMS, pixel_shift

LIMB_DARKENING = 0.6
"""Linear limb-darkening coefficient of the rotation kernel (Gray 2005, chapter 18)."""

LARGEST_GAIN = 1.5
"""By how much sharpening raises any Fourier component at most: beyond, it would raise little but rounding errors."""

_KERNEL_STEP = 0.005  # of the tabulated kernel's argument; linear interpolation errs by less than 2e-6


def rotation_transfer(
    argument: NDArray[np.floating[Any]], limb_darkening: float = LIMB_DARKENING
) -> NDArray[np.float64]:
    """Fourier transform of the rotation kernel at ``argument`` = 2 pi f vsini, with f in cycles per km/s.

    The kernel is Gray (2005, The Observation and Analysis of Stellar Photospheres, equation 18.14) with linear limb
    darkening e: 2 (1 - e) sqrt(1 - x^2) + (pi e / 2) (1 - x^2), over pi (1 - e / 3), at x = v / vsini. Its two terms
    transform to pi J1(u) / u and 4 (sin u - u cos u) / u^3.
    """
    u = np.asarray(argument, dtype=np.float64)
    small = np.abs(u) < 1e-2
    safe = np.where(small, 1.0, u)
    ellipse = np.where(small, 0.5 - u**2 / 16.0, j1(safe) / safe)
    parabola = np.where(small, 1.0 / 3.0 - u**2 / 30.0, (np.sin(safe) - safe * np.cos(safe)) / safe**3)
    e = limb_darkening
    return np.asarray((2.0 * (1.0 - e) * ellipse + 2.0 * e * parabola) / (1.0 - e / 3.0))


def rotation_slope(argument: NDArray[np.floating[Any]], limb_darkening: float = LIMB_DARKENING) -> NDArray[np.float64]:
    """Derivative of :func:`rotation_transfer` by its argument: its terms' are -J2(u) / u and sin u / u^2 - 3 p / u."""
    u = np.asarray(argument, dtype=np.float64)
    small = np.abs(u) < 1e-2
    safe = np.where(small, 1.0, u)
    ellipse = np.where(small, -u / 8.0, -jv(2, safe) / safe)
    parabola = (np.sin(safe) - safe * np.cos(safe)) / safe**3
    parabola = np.where(small, -u / 15.0, np.sin(safe) / safe**2 - 3.0 * parabola / safe)
    e = limb_darkening
    return np.asarray((2.0 * (1.0 - e) * ellipse + 2.0 * e * parabola) / (1.0 - e / 3.0))


@lru_cache(maxsize=4)
def _kernel_table(largest: float, device: torch.device) -> Tensor:
    argument = _KERNEL_STEP * np.arange(int(largest / _KERNEL_STEP) + 2)
    return torch.tensor(rotation_transfer(argument), dtype=torch.float32, device=device)


def _rotation(vsini: Tensor, frequency: Tensor) -> Tensor:
    """The rotation kernel's transform for each star and frequency (cycles per pixel), shape (star, frequency)."""
    # Rounded up to the next 100 km/s so that few tables are ever made.
    largest = 2.0 * np.pi * 0.5 * (100.0 * np.ceil(float(vsini.max()) / 100.0 + 1e-6)) / STEP_KMS
    table = _kernel_table(largest, vsini.device)
    position = (2.0 * np.pi / STEP_KMS / _KERNEL_STEP) * vsini[:, None] * frequency[None, :]
    below = position.to(torch.int32)
    fraction = position - below
    return torch.lerp(table[below], table[below + 1], fraction)


def broaden_and_shift(
    flux: Tensor, vsini: Tensor, velocity: Tensor, *, broadening: float | Tensor = 0.0, pixels: slice | None = None
) -> Tensor:
    """Rotate, broaden and Doppler-shift spectra on the log-wavelength grid of a library.

    Parameters
    ----------
    flux : Tensor, shape (star, pixel)
        Flux per unit wavelength, continuum included, at rest, on pixels of the library grid of an arm.
    vsini : Tensor, shape (star,)
        Projected rotational velocities, km/s.
    velocity : Tensor, shape (star,)
        Radial velocities, km/s; positive recedes.
    broadening
        Standard deviation of an additional Gaussian, km/s; of all stars, or of each, shape (star,). Below 0 spectra are
        sharpened: divided in Fourier space by that Gaussian, but raised by :data:`LARGEST_GAIN` at most.
    pixels
        Pixels to return; all of them by default.

    Returns
    -------
    Tensor, shape (star, pixel)
        As observed. Within vsini and velocity of the two ends (200 pixels for 500 km/s each) the values mean nothing:
        there enters the other end of the spectrum, on the straight line from end to end.
    """
    n_pixels = flux.shape[1]
    n_fft = next_fast_len(n_pixels + 1, real=True)
    # A straight line from end to end goes around the transform: it is broadened to itself and shifted exactly, and what
    # remains meets the periodic boundary at zero, so that no step rings into the spectrum.
    ramp = torch.linspace(0.0, 1.0, n_pixels, dtype=flux.dtype, device=flux.device)
    first, last = flux[:, :1], flux[:, -1:]
    shift = torch.as_tensor(pixel_shift(velocity.double().cpu().numpy()), device=flux.device)
    frequency = torch.fft.rfftfreq(n_fft, dtype=torch.float64, device=flux.device)
    transfer = _rotation(vsini.to(torch.float32), frequency.to(torch.float32))
    if isinstance(broadening, Tensor) or broadening:
        deviation = torch.as_tensor(broadening, dtype=torch.float64, device=flux.device).reshape(-1, 1) / STEP_KMS
        exponent = -2.0 * (np.pi * frequency[None, :] * deviation) ** 2 * torch.sign(deviation)
        transfer = transfer * torch.exp(exponent.to(transfer.dtype)).clamp_max_(LARGEST_GAIN)
    phase = (-2.0 * np.pi * shift[:, None] * frequency[None, :]).to(torch.float32)
    transform = torch.fft.rfft(flux - (first + (last - first) * ramp), n=n_fft) * torch.polar(transfer, phase)
    wanted = pixels if pixels is not None else slice(0, n_pixels)
    observed: Tensor = torch.fft.irfft(transform, n=n_fft)[:, wanted]
    moved = ramp[wanted][None, :] - (shift / (n_pixels - 1)).to(ramp.dtype)[:, None]
    return observed + (first + (last - first) * moved)
