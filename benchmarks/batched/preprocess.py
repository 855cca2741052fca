"""From an arm of LAMOST exposures, as stored, to what the networks see: batched, on any device.

In this order: sort by wavelength; sigma = ivar^-1/2, or what the spectrum itself shows where that is clearly more;
despike on native pixels; trim the wild ends; normalise in the observed frame (:func:`observe`). Then, with a velocity:
rest frame; linear interpolation of flux and sigma to the networks' grid; continuum on that grid; division
(:func:`to_rest_frame`). The steps and their parameters are those of the authors' toolkit, except for the noise's
measure, and the despiking, which adds a test of its own.

A spectrum's result is the same, bit for bit, whatever batch it comes in, on one thread of one kind of device. This
module must never know a store, a velocity's making or a network.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import SPEED_OF_LIGHT, Arm
from twinlines.pipeline.schema import MAXIMUM_BAD_PIXELS, Quality
from twinlines.pipeline.spectra.interpolate import Places
from twinlines.pipeline.spectra.noise import factor as stated_by
from twinlines.pipeline.spectra.preprocess import CUSHION, Observed, RestFrame
from twinlines.pipeline.spectra.tiles import tiles

from . import noise
from .continuum import continuum, normalise
from .despike import despike, fill

Batch = TypeVar("Batch", Observed, RestFrame)


def observe(
    arm: Arm,
    flux: NDArray[np.float32] | Tensor,
    ivar: NDArray[np.float32] | Tensor,
    loglam: NDArray[np.float32] | NDArray[np.float64] | Tensor,
    mask: NDArray[np.uint8] | Tensor,
    *,
    device: str | torch.device = "cpu",
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
    device
        Where to compute and to leave the result.

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
        _observe(*(array[tile].to(device) for array in arrays))
        for tile in tiles(max(shape[0], 1))  # none at all makes an empty one
    ]
    return _join(Observed, parts)


def _observe(flux: Tensor, ivar: Tensor, loglam: Tensor, mask: Tensor) -> Observed:
    wavelength, flux, ivar, mask = _sort(_power_of_ten(loglam), flux.to(torch.float32), ivar, mask)
    known = wavelength.isfinite().all(dim=1)
    sigma = torch.where(ivar > 0.0, 1.0 / ivar.to(torch.float32).sqrt(), torch.nan)
    measured = flux.isfinite() & sigma.isfinite() & known[:, None]
    keep = slice(CUSHION, wavelength.shape[1] - CUSHION)
    # Before anything is called a spike: where errors are too small, noise itself looks like spikes.
    ratio = noise.measure(flux[:, keep], sigma[:, keep], measured[:, keep])
    sigma = sigma * stated_by(ratio)[:, None]
    repaired = despike(wavelength, torch.where(measured, flux, torch.nan), sigma)
    fill(wavelength, sigma, ~measured)

    wavelength, flux, sigma = wavelength[:, keep], repaired.flux[:, keep], sigma[:, keep]
    normalised, fitted = normalise(wavelength, flux, measured[:, keep])
    quality = torch.where(repaired.failed & known, int(Quality.DESPIKE_FAILED), 0)
    quality |= torch.where(normalised.isfinite().any(dim=1), 0, int(Quality.NO_CONTINUUM))
    return Observed(
        wavelength=wavelength.contiguous(),
        flux=flux.contiguous(),
        sigma=sigma.contiguous(),
        bad=((mask > 0) | repaired.repaired)[:, keep].contiguous(),
        normalised=normalised.to(torch.float32),
        normalised_sigma=torch.where(fitted > 0.0, sigma / fitted, torch.nan).to(torch.float32),
        noise=ratio,
        quality=quality.to(torch.int32),
    )


def _power_of_ten(exponent: Tensor) -> Tensor:
    """10^exponent in float64, exact to two units in the last place; NaN unless 0 <= exponent <= 8.

    By a table and a series, since the library's power differs in its last bit between vectorised and left-over
    elements, and so between batches.
    """
    exponent = torch.where((exponent >= 0.0) & (exponent <= 8.0), exponent.to(torch.float64), torch.nan)
    nearest = (exponent * 64.0).round()
    table = torch.from_numpy(10.0 ** (np.arange(8 * 64 + 1) / 64.0)).to(exponent.device)
    rest = (exponent - nearest / 64.0) * float(np.log(10.0))
    series = torch.ones_like(rest)
    for order in range(8, 0, -1):
        series = series * (rest / float(order)) + 1.0
    return table[nearest.nan_to_num(0.0).to(torch.int64)] * series


def _sort(wavelength: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
    """Sort rows by wavelength; whole rows that descend are turned round, which keeps equal wavelengths in order."""
    descends = (wavelength[:, -1] < wavelength[:, 0])[:, None]
    turned = [torch.where(descends, column.flip(1), column) for column in (wavelength, *columns)]
    rises = (turned[0][:, 1:] >= turned[0][:, :-1]).all(dim=1) | turned[0].isnan().any(dim=1)
    if not bool(rises.all()):
        order = turned[0].argsort(dim=1, stable=True)
        turned = [column.gather(1, order) for column in turned]
    return tuple(turned)


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
    device = observed.wavelength.device
    velocity = torch.as_tensor(velocity).to(device=device, dtype=torch.float64)
    if velocity.shape != (rows,):
        raise ValueError(f"arm {arm.name}: {rows} spectra, but velocities of shape {tuple(velocity.shape)}")
    grid = torch.from_numpy(arm.wavelength).to(device)
    parts = [_to_rest_frame(grid, _rows(observed, tile), velocity[tile]) for tile in tiles(max(rows, 1))]
    return _join(RestFrame, parts)


def _to_rest_frame(grid: Tensor, observed: Observed, velocity: Tensor) -> RestFrame:
    moving = velocity.isfinite()
    factor = 1.0 + torch.where(moving, velocity, 0.0) / SPEED_OF_LIGHT
    known = observed.wavelength.isfinite().all(dim=1)
    # An absent arm has no wavelengths; any ascending ones do, since its row is blanked below.
    wavelength = torch.where(known[:, None], observed.wavelength, torch.arange(observed.wavelength.shape[1]).to(grid))
    at = Places(wavelength / factor[:, None], grid)
    # The networks' draws take the noise as stated: the flux has its true noise already, once.
    flux, sigma = at(observed.flux), at(observed.sigma / stated_by(observed.noise)[:, None])
    n_bad = (at(observed.bad.to(flux.dtype)) > 0.0).sum(dim=1)
    covered = known & flux.isfinite().all(dim=1) & sigma.isfinite().all(dim=1)
    flux = flux.clamp(min=0.0)
    fitted = continuum(grid, flux)
    usable = (fitted > 0.0).all(dim=1)

    before = observed.quality
    quality = before | torch.where(covered | (before & int(Quality.NO_CONTINUUM) > 0), 0, int(Quality.OFF_GRID))
    quality = quality | torch.where(usable | ~covered, 0, int(Quality.NO_CONTINUUM))
    quality = quality | torch.where(moving, 0, int(Quality.NO_VELOCITY))
    quality = quality | torch.where(n_bad >= MAXIMUM_BAD_PIXELS, int(Quality.BAD_PIXELS), 0)
    blank = ~(covered & usable & moving & (before & int(Quality.NO_CONTINUUM) == 0))[:, None]
    return RestFrame(
        flux=torch.where(blank, torch.nan, flux / fitted).to(torch.float32),
        sigma=torch.where(blank, torch.nan, sigma / fitted).to(torch.float32),
        n_bad=n_bad.to(torch.int32),
        quality=quality.to(torch.int32),
    )


def _rows(observed: Observed, rows: slice) -> Observed:
    return Observed(*(getattr(observed, column.name)[rows] for column in fields(observed)))


def _join(kind: type[Batch], parts: list[Batch]) -> Batch:
    return kind(*(torch.cat([getattr(part, column.name) for part in parts]) for column in fields(kind)))
