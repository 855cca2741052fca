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
from typing import Any, TypeVar

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

_OF_A_SPECTRUM = {"noise", "n_bad", "quality"}
_DTYPES = {"wavelength": torch.float64, "bad": torch.bool, "n_bad": torch.int32, "quality": torch.int32}
"""Those that are not float32."""


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
    result = _empty(Observed, shape[0], shape[1] - 2 * CUSHION)
    for tile in tiles(shape[0]):
        _observe(_rows(result, tile), *(array[tile] for array in arrays))
    return result


def _observe(out: Observed, flux: Tensor, ivar: Tensor, loglam: Tensor, mask: Tensor) -> None:
    rows, pixels = flux.shape
    wavelength = torch.empty((rows, pixels), dtype=torch.float64)
    ordered, sigma = torch.empty((2, rows, pixels), dtype=torch.float32)
    masked, measured = torch.empty((2, rows, pixels), dtype=torch.bool)
    known = torch.empty(rows, dtype=torch.bool)
    columns = (wavelength, ordered, sigma, masked, measured, known)
    sampling.read(_arrays(*columns), sampling.TABLE, *_arrays(flux, ivar, loglam, mask))
    keep = slice(CUSHION, pixels - CUSHION)
    # Before anything is called a spike: where errors are too small, noise itself looks like spikes.
    out.noise[:] = noise.measure(ordered[:, keep], sigma[:, keep], measured[:, keep])
    sigma *= noise.factor(out.noise)[:, None]
    repaired = despike(wavelength, ordered, sigma)
    fill(wavelength, sigma, ~measured)

    out.wavelength[:], out.flux[:], out.sigma[:] = wavelength[:, keep], repaired.flux[:, keep], sigma[:, keep]
    torch.logical_or(masked[:, keep], repaired.repaired[:, keep], out=out.bad)
    fitted = continuum(out.wavelength, out.flux, measured[:, keep])
    some = _divide(
        out.flux, out.sigma, fitted, torch.zeros(rows, dtype=torch.bool), out.normalised, out.normalised_sigma
    )
    out.quality[:] = torch.where(repaired.failed & known, int(Quality.DESPIKE_FAILED), 0)
    out.quality[:] |= torch.where(some, 0, int(Quality.NO_CONTINUUM))


def _arrays(*tensors: Tensor) -> Any:
    """What kernels take: contiguous arrays, in the tensors' own memory where they are contiguous."""
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _divide(flux: Tensor, sigma: Tensor, fitted: Tensor, blank: Tensor, *out: Tensor) -> Tensor:
    """Set flux and sigma over continuum, NaN where that is not positive, and in blank rows; which rows have some."""
    some = torch.empty(len(blank), dtype=torch.bool)
    sampling.divide(_arrays(*out, some), *_arrays(flux, sigma, fitted, blank))
    return some


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
    result = _empty(RestFrame, rows, arm.n_pixels)
    for tile in tiles(rows):
        _to_rest_frame(torch.from_numpy(arm.wavelength), _rows(observed, tile), velocity[tile], _rows(result, tile))
    return result


def _to_rest_frame(grid: Tensor, observed: Observed, velocity: Tensor, out: RestFrame) -> None:
    rows, moving = len(velocity), velocity.isfinite()
    factor = 1.0 + torch.where(moving, velocity, 0.0) / SPEED_OF_LIGHT
    flux, sigma = torch.empty((2, rows, len(grid)), dtype=torch.float64)
    covered = torch.empty(rows, dtype=torch.bool)
    # The networks' draws take the noise as stated: the flux has its true noise already, once.
    scale = noise.factor(observed.noise)
    given = (observed.wavelength, factor, grid, observed.flux, observed.sigma, scale, observed.bad)
    sampling.to_grid(_arrays(flux, sigma, out.n_bad, covered), *_arrays(*given))
    fitted = continuum(grid, flux)
    usable = (fitted > 0.0).all(dim=1)

    before = observed.quality
    quality = before | torch.where(covered | (before & int(Quality.NO_CONTINUUM) > 0), 0, int(Quality.OFF_GRID))
    quality = quality | torch.where(usable | ~covered, 0, int(Quality.NO_CONTINUUM))
    quality = quality | torch.where(moving, 0, int(Quality.NO_VELOCITY))
    out.quality[:] = quality | torch.where(out.n_bad >= MAXIMUM_BAD_PIXELS, int(Quality.BAD_PIXELS), 0)
    blank = ~(covered & usable & moving & (before & int(Quality.NO_CONTINUUM) == 0))
    _divide(flux, sigma, fitted, blank, out.flux, out.sigma)


def _empty(kind: type[Batch], rows: int, pixels: int) -> Batch:
    """A batch to be filled."""
    return kind(
        *(
            torch.empty((rows,) if name in _OF_A_SPECTRUM else (rows, pixels), dtype=_DTYPES.get(name, torch.float32))
            for name in (column.name for column in fields(kind))
        )
    )


def _rows(batch: Batch, rows: slice) -> Batch:
    return type(batch)(*(getattr(batch, column.name)[rows] for column in fields(batch)))
