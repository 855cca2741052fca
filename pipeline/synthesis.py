"""States become spectra: rotation, Doppler shift, broadening, the sum of two stars, noise, continuum.

Everything happens on the library's log-wavelength grid, where a Doppler shift is a translation and rotational and
Gaussian broadening are convolutions with one kernel for all pixels: factors in Fourier space, one FFT there and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.special import j1
from torch import Tensor

from twinlines.models import noise
from twinlines.pipeline.arms import ARM_NAMES, ARMS, STEP_KMS, Arm, pixel_shift
from twinlines.pipeline.continuum import normalise
from twinlines.pipeline.library import Library
from twinlines.pipeline.population import Population
from twinlines.pipeline.schema import PAIRS

NUMERICS = 1
"""Numerical version: raised with every change that changes a synthesised value."""

LIMB_DARKENING = 0.6
"""Linear limb-darkening coefficient of the rotation kernel (Gray 2005, chapter 18)."""

_KERNEL_STEP = 0.005  # of the tabulated kernel's argument; linear interpolation errs by less than 2e-6
_BATCH = 64  # pairs synthesised together: bounds the memory, about 10 MB an array


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
    arm: Arm, flux: Tensor, vsini: Tensor, velocity: Tensor, *, broadening: float = 0.0, pixels: slice | None = None
) -> Tensor:
    """Rotate, broaden and Doppler-shift spectra on the library grid of an arm.

    Parameters
    ----------
    arm
        The arm whose library grid ``flux`` is on.
    flux : Tensor, shape (star, library_pixels)
        Flux per unit wavelength, continuum included, at rest.
    vsini : Tensor, shape (star,)
        Projected rotational velocities, km/s.
    velocity : Tensor, shape (star,)
        Radial velocities, km/s; positive recedes.
    broadening
        Standard deviation of an additional Gaussian, km/s.
    pixels
        Library pixels to return; all of them by default.

    Returns
    -------
    Tensor, shape (star, pixel)
        As observed. Within vsini and velocity of the two ends (100 pixels for 500 km/s) the values mean nothing: there
        enters the other end of the spectrum, on the straight line from end to end. The library's margins of 866 pixels
        and more keep that away from the arm's own grid.
    """
    n_pixels = arm.library_pixels
    n_fft = next_fast_len(n_pixels + 1, real=True)
    # A straight line from end to end goes around the transform: it is broadened to itself and shifted exactly, and what
    # remains meets the periodic boundary at zero, so that no step rings into the spectrum.
    ramp = torch.linspace(0.0, 1.0, n_pixels, dtype=flux.dtype, device=flux.device)
    first, last = flux[:, :1], flux[:, -1:]
    shift = torch.as_tensor(pixel_shift(velocity.double().cpu().numpy()), device=flux.device)
    frequency = torch.fft.rfftfreq(n_fft, dtype=torch.float64, device=flux.device)
    transfer = _rotation(vsini.to(torch.float32), frequency.to(torch.float32))
    if broadening:
        gauss = torch.exp(-2.0 * (np.pi * frequency * (broadening / STEP_KMS)) ** 2)
        transfer = transfer * gauss.to(transfer.dtype)
    phase = (-2.0 * np.pi * shift[:, None] * frequency[None, :]).to(torch.float32)
    transform = torch.fft.rfft(flux - (first + (last - first) * ramp), n=n_fft) * torch.polar(transfer, phase)
    wanted = pixels if pixels is not None else slice(0, n_pixels)
    observed: Tensor = torch.fft.irfft(transform, n=n_fft)[:, wanted]
    moved = ramp[wanted][None, :] - (shift / (n_pixels - 1)).to(ramp.dtype)[:, None]
    return observed + (first + (last - first) * moved)


@dataclass(frozen=True)
class Stars:
    """The parameters that make one component's spectrum; arrays of shape (star,)."""

    labels: NDArray[np.float64]
    """Teff (K), log g, [Fe/H], [alpha/Fe]; shape (star, 4)."""
    radius: NDArray[np.float64]
    """Radii, solar radii."""
    vsini: NDArray[np.float64]
    """Projected rotational velocities, km/s."""
    velocity: NDArray[np.float64]
    """Radial velocities, km/s."""


def component(arm: Arm, library: Library, stars: Stars, *, pixels: slice | None = None) -> Tensor:
    """Light of single stars as it would be observed without noise: surface flux times R^2, rotated and shifted.

    Returns
    -------
    Tensor, shape (star, pixel)
        On the arm's library grid (or its ``pixels``), erg s-1 cm-2 A-1 at the star's surface times solar radii squared.

    Raises
    ------
    OutsideLibraryError
        If a star is outside the library's domain.
    """
    flux = torch.from_numpy(library.flux(arm.name, stars.labels))
    observed = broaden_and_shift(
        arm, flux, torch.from_numpy(stars.vsini), torch.from_numpy(stars.velocity), pixels=pixels
    )
    return observed * torch.from_numpy(stars.radius.astype(np.float32) ** 2)[:, None]


def add_noise(flux: Tensor, snr: Tensor, keys: NDArray[np.int64], arm: Arm, seed: int) -> Tensor:
    """Add photon-like Gaussian noise so that the median over pixels of flux / sigma is ``snr``.

    sigma_i = sqrt(flux_i median(flux)) / snr: the noise of photons at the level that gives the asked S/N. A survey
    spectrum's header S/N is 0.92 to 0.97 of that median. The draws depend on (seed, keys, arm) alone.

    Parameters
    ----------
    flux : Tensor, shape (spectrum, pixel)
        Positive flux without noise.
    snr : Tensor, shape (spectrum,)
        Signal-to-noise ratio per pixel.
    keys : array, shape (spectrum, 2)
        Serial number of the draw, and kind of spectrum.
    """
    level = flux.median(dim=1, keepdim=True).values
    sigma = torch.sqrt(flux * level) / snr[:, None]
    normal = noise.normal(keys, ARM_NAMES.index(arm.name), seed, n_draws=1, n_pixels=flux.shape[1])[:, 0]
    return flux + sigma * torch.as_tensor(normal)


def pair_fluxes(arm: Arm, library: Library, population: Population, seed: int) -> NDArray[np.float32]:
    """Noisy, continuum-normalised spectra of the primaries alone and of both stars together.

    Equation 4 of Zhang et al. (2022): F_binary = F_1 R_1^2 + F_2 R_2^2, each degraded to the drawn S/N, then the same
    continuum function as for observed spectra.

    Returns
    -------
    array, shape (pair, 2, n_pixels)
        Kind 0 is the single star, kind 1 the binary.
    """
    primary, secondary = stars_of(population)
    first = component(arm, library, primary, pixels=arm.on_library)
    both = first + component(arm, library, secondary, pixels=arm.on_library)
    spectra = torch.stack([first, both], dim=1).flatten(0, 1)
    number = np.repeat(population.draws.number, 2)
    keys = np.stack([number, np.tile(np.arange(2), len(population.draws.number))], axis=1)
    snr = torch.from_numpy(np.repeat(population.draws.snr, 2).astype(np.float32))
    noisy = add_noise(spectra, snr, keys, arm, seed)
    normalised, _ = normalise(torch.from_numpy(arm.wavelength), noisy.double().clamp_min(0.0))
    return normalised.to(torch.float32).reshape(-1, 2, arm.n_pixels).numpy()


def stars_of(population: Population) -> tuple[Stars, Stars]:
    """Components of each pair: the primary moves at v1, the secondary at v1 + separation."""
    draws = population.draws
    primary = Stars(population.labels(1), population.primary.radius, draws.vsini1, draws.velocity1)
    velocity2 = draws.velocity1 + draws.separation
    return primary, Stars(population.labels(2), population.secondary.radius, draws.vsini2, velocity2)


def split_of(population: Population) -> NDArray[np.int8]:
    """Split of each pair in the paper's proportions: 40 of 380 for the test, the rest 9:1 (codes of schema.SPLITS)."""
    test = 40.0 / 380.0
    lot = population.draws.lot
    return np.where(lot < test, 2, np.where(lot < test + 0.1 * (1.0 - test), 1, 0)).astype(np.int8)


def pairs(library: Library, population: Population, seed: int) -> xr.Dataset:
    """Synthesise kept draws: one block of the training store, both arms of a pair from one theta.

    Returns
    -------
    xr.Dataset
        Of :data:`twinlines.pipeline.schema.PAIRS`.
    """
    draws, rows = population.draws, len(population.draws.number)
    fluxes = {f"flux_{name}": np.empty((rows, 2, ARMS[name].n_pixels), dtype=np.float32) for name in ARM_NAMES}
    for start in range(0, rows, _BATCH):
        batch = population.take(slice(start, start + _BATCH))
        for name in ARM_NAMES:
            fluxes[f"flux_{name}"][start : start + _BATCH] = pair_fluxes(ARMS[name], library, batch, seed)
    columns: dict[str, NDArray[np.generic]] = {
        "draw": draws.number,
        "split": split_of(population),
        "mass_ratio": draws.mass_ratio,
        "feh": draws.feh,
        "alpha": draws.alpha,
        "log_age": np.log10(population.primary.age),
        "separation": draws.separation,
        "snr": draws.snr,
    }
    stars = stars_of(population)
    for suffix, state, star, mass, eep in (
        ("1", population.primary, stars[0], draws.mass1, draws.eep1),
        ("2", population.secondary, stars[1], draws.mass2, population.eep2),
    ):
        columns |= {
            f"teff{suffix}": state.teff,
            f"logg{suffix}": state.logg,
            f"radius{suffix}": state.radius,
            f"luminosity{suffix}": state.luminosity,
            f"mass{suffix}": mass,
            f"eep{suffix}": eep,
            f"vsini{suffix}": star.vsini,
            f"velocity{suffix}": star.velocity,
        }
    return PAIRS.dataset(columns | fluxes, rows)
