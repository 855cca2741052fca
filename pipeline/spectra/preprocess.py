"""From an arm of LAMOST exposures, as stored, to what the networks see.

In this order: sort by wavelength; sigma = ivar^-1/2, or what the spectrum itself shows where that is clearly more;
despike on native pixels; trim the wild ends; normalise in the observed frame (:func:`observe`). Then, with a velocity:
rest frame; linear interpolation of flux and sigma to the networks' grid; continuum on that grid; division
(:func:`to_rest_frame`). The steps and their parameters are those of the authors' toolkit, except for the noise's
measure, and the despiking, which adds a test of its own.

A spectrum's result is the same, bit for bit, whatever batch it comes in: it goes alone through the kernels of
``compiled/``. This module must never know a store, a velocity's making or a network.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import SPEED_OF_LIGHT, Arm
from twinlines.pipeline.schema import MAXIMUM_BAD_PIXELS, Quality
from twinlines.pipeline.spectra import noise
from twinlines.pipeline.spectra.compiled import sampling
from twinlines.pipeline.spectra.continuum import continuum
from twinlines.pipeline.spectra.despike import despike, fill
from twinlines.pipeline.spectra.tiles import tiles

CUSHION = 70
"""Native pixels that are cut at each end, where extraction and sky subtraction fail (the authors' cushion)."""


@dataclass(frozen=True)
class Observed:
    """One arm of some exposures in the observed frame: despiked, sorted, trimmed; ``pixel`` counts native pixels."""

    wavelength: Tensor
    """(spectrum, pixel) float64, vacuum, heliocentric, Angstrom, ascending; NaN where the arm is absent."""
    flux: Tensor
    """(spectrum, pixel) float32, counts, repaired."""
    sigma: Tensor
    """(spectrum, pixel) float32, its standard deviation, as stated or, where that is clearly too little, as measured;
    interpolated where it was not known."""
    bad: Tensor
    """(spectrum, pixel) bool, True where masked, repaired, or not finite."""
    normalised: Tensor
    """(spectrum, pixel) float32, flux over continuum; NaN where the continuum is not positive, or there is none."""
    normalised_sigma: Tensor
    """(spectrum, pixel) float32, standard deviation of the flux over continuum; NaN where ``normalised`` is."""
    noise: Tensor
    """(spectrum,) float32, median ratio of the measured noise to the stated one; NaN where it cannot be measured."""
    quality: Tensor
    """(spectrum,) int32, bits of :class:`~twinlines.pipeline.schema.Quality`."""


@dataclass(frozen=True)
class RestFrame:
    """One arm of some exposures on the networks' grid, at rest."""

    flux: Tensor
    """(spectrum, pixel) float32, flux over continuum; NaN throughout where a fatal bit of ``quality`` is set here."""
    sigma: Tensor
    """(spectrum, pixel) float32, stated standard deviation of the flux over continuum; NaN as ``flux``."""
    n_bad: Tensor
    """(spectrum,) int32, pixels of the grid that a masked or repaired native pixel contributes to (npixbad)."""
    quality: Tensor
    """(spectrum,) int32, bits of :class:`~twinlines.pipeline.schema.Quality`, those of :class:`Observed` included."""


Batch = TypeVar("Batch", Observed, RestFrame)


def observe(
    arm: Arm,
    flux: NDArray[np.float32] | Tensor,
    ivar: NDArray[np.float32] | Tensor,
    loglam: NDArray[np.float32] | NDArray[np.float64] | Tensor,
    mask: NDArray[np.uint8] | Tensor,
) -> Observed:
    """Clean one arm of some exposures and normalise it in the observed frame.

    Parameters
    ----------
    arm
        Which arm; named in errors.
    flux
        (spectrum, pixel) counts, as stored: the red arm may descend in wavelength.
    ivar
        (spectrum, pixel) inverse variance of the flux.
    loglam
        (spectrum, pixel) log10 of vacuum wavelength in Angstrom; NaN where the arm is absent.
    mask
        (spectrum, pixel) bits of the pixel mask; above 0 is bad.

    Returns
    -------
    Observed
        With 2 * ``CUSHION`` pixels fewer. ``quality`` has ``DESPIKE_FAILED`` and ``NO_CONTINUUM`` where they hold.

    Raises
    ------
    ValueError
        If the arrays are not of one two-dimensional shape of more than 2 * ``CUSHION`` pixels.
    """
    arrays = [torch.as_tensor(array) for array in (flux, ivar, loglam, mask)]
    shape = arrays[0].shape
    if any(array.shape != shape for array in arrays) or len(shape) != 2 or shape[1] <= 2 * CUSHION:
        shapes = ", ".join(str(tuple(array.shape)) for array in arrays)
        raise ValueError(
            f"arm {arm.name}: flux, ivar, loglam and mask have shapes {shapes}; "
            f"expected one shape (spectrum, pixel) with more than {2 * CUSHION} pixels"
        )
    parts = [
        _observe(*(array[tile].contiguous() for array in arrays))
        for tile in tiles(max(shape[0], 1))  # none at all makes an empty one
    ]
    return _join(Observed, parts)


def _observe(flux: Tensor, ivar: Tensor, loglam: Tensor, mask: Tensor) -> Observed:
    rows, pixels = flux.shape
    wavelength = torch.empty((rows, pixels), dtype=torch.float64)
    sorted_flux, sigma = torch.empty((2, rows, pixels), dtype=torch.float32)
    masked, known = torch.empty((rows, pixels), dtype=torch.bool), torch.empty(rows, dtype=torch.bool)
    sampling.read(
        flux.numpy(),
        ivar.numpy(),
        loglam.numpy(),
        mask.numpy(),
        sampling.TABLE,
        tuple(column.numpy() for column in (wavelength, sorted_flux, sigma, masked, known)),
    )
    measured = sorted_flux.isfinite() & sigma.isfinite() & known[:, None]
    keep = slice(CUSHION, pixels - CUSHION)
    # Before anything is called a spike: where errors are too small, noise itself looks like spikes.
    ratio = noise.measure(sorted_flux[:, keep], sigma[:, keep], measured[:, keep])
    sigma *= noise.factor(ratio)[:, None]
    repaired = despike(wavelength, torch.where(measured, sorted_flux, torch.nan), sigma)
    fill(wavelength, sigma, ~measured)

    wavelength, flux, sigma = (column[:, keep].contiguous() for column in (wavelength, repaired.flux, sigma))
    fitted = continuum(wavelength, flux, measured[:, keep])
    normalised, normalised_sigma = _over_continuum(flux, sigma, fitted, torch.zeros(rows, dtype=torch.bool))
    quality = torch.where(repaired.failed & known, int(Quality.DESPIKE_FAILED), 0)
    quality |= torch.where(normalised.isfinite().any(dim=1), 0, int(Quality.NO_CONTINUUM))
    return Observed(
        wavelength=wavelength,
        flux=flux,
        sigma=sigma,
        bad=(masked | repaired.repaired)[:, keep].contiguous(),
        normalised=normalised,
        normalised_sigma=normalised_sigma,
        noise=ratio,
        quality=quality.to(torch.int32),
    )


def _over_continuum(flux: Tensor, sigma: Tensor, fitted: Tensor, blank: Tensor) -> tuple[Tensor, Tensor]:
    """Flux and sigma over continuum, float32; NaN where that is not positive, and in blank rows."""
    divided = torch.empty(flux.shape, dtype=torch.float32), torch.empty(flux.shape, dtype=torch.float32)
    arrays = (column.numpy() for column in (flux, sigma, fitted, blank))
    sampling.divide(*arrays, tuple(column.numpy() for column in divided))
    return divided


def to_rest_frame(arm: Arm, observed: Observed, velocity: NDArray[np.floating] | Tensor) -> RestFrame:
    """Bring observed spectra to rest and to the networks' grid, and normalise them there.

    Parameters
    ----------
    arm
        Which arm's grid.
    observed
        What :func:`observe` returned.
    velocity
        (spectrum,) radial velocity, km/s, positive receding; the rest wavelength is wavelength / (1 + v/c). NaN where
        unknown.

    Returns
    -------
    RestFrame
        ``quality`` has ``OFF_GRID`` where the pixels do not cover the grid, ``NO_CONTINUUM`` where there is none there,
        ``NO_VELOCITY`` where the velocity is not finite, and ``BAD_PIXELS`` from ``MAXIMUM_BAD_PIXELS`` bad pixels on.

    Raises
    ------
    ValueError
        If there is not one velocity for each spectrum.
    """
    rows = observed.wavelength.shape[0]
    velocity = torch.as_tensor(velocity).to(torch.float64)
    if velocity.shape != (rows,):
        raise ValueError(f"arm {arm.name}: {rows} spectra, but velocities of shape {tuple(velocity.shape)}")
    grid = torch.from_numpy(arm.wavelength)
    parts = [_to_rest_frame(grid, _rows(observed, tile), velocity[tile]) for tile in tiles(max(rows, 1))]
    return _join(RestFrame, parts)


def _to_rest_frame(grid: Tensor, observed: Observed, velocity: Tensor) -> RestFrame:
    rows, moving = len(velocity), velocity.isfinite()
    factor = 1.0 + torch.where(moving, velocity, 0.0) / SPEED_OF_LIGHT
    known = observed.wavelength.isfinite().all(dim=1)
    flux, sigma = torch.empty((2, rows, len(grid)), dtype=torch.float64)
    n_bad, covered = torch.empty(rows, dtype=torch.int32), torch.empty(rows, dtype=torch.bool)
    # The networks' draws take the noise as stated: the flux has its true noise already, once.
    scale = noise.factor(observed.noise)
    given = (observed.wavelength, factor, grid, observed.flux, observed.sigma, scale, observed.bad, known)
    sampling.to_grid(
        *(column.contiguous().numpy() for column in given),
        tuple(column.numpy() for column in (flux, sigma, n_bad, covered)),
    )
    fitted = continuum(grid, flux)
    usable = (fitted > 0.0).all(dim=1)

    before = observed.quality
    quality = before | torch.where(covered | (before & int(Quality.NO_CONTINUUM) > 0), 0, int(Quality.OFF_GRID))
    quality = quality | torch.where(usable | ~covered, 0, int(Quality.NO_CONTINUUM))
    quality = quality | torch.where(moving, 0, int(Quality.NO_VELOCITY))
    quality = quality | torch.where(n_bad >= MAXIMUM_BAD_PIXELS, int(Quality.BAD_PIXELS), 0)
    blank = ~(covered & usable & moving & (before & int(Quality.NO_CONTINUUM) == 0))
    divided, error = _over_continuum(flux, sigma, fitted, blank)
    return RestFrame(flux=divided, sigma=error, n_bad=n_bad, quality=quality.to(torch.int32))


def _rows(observed: Observed, rows: slice) -> Observed:
    return Observed(*(getattr(observed, column.name)[rows] for column in fields(observed)))


def _join(kind: type[Batch], parts: list[Batch]) -> Batch:
    return kind(*(torch.cat([getattr(part, column.name) for part in parts]) for column in fields(kind)))
