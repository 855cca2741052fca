"""Anybody's arrays as the spectra of an arm: what cannot be one is refused, what is hardly meant so is said.

Knows no network and no survey.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlines.pipeline.arms import Arm, air_to_vacuum
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.preprocess import CUSHION

AIR_SHIFT = -83.2
"""Velocity that a star at rest seems to have where wavelengths in air are taken for those in vacuum, km/s."""

_PLAIN = 1e-6, 1e12
"""Between these, the median of a flux is as good a unit as any; beyond, spectra get one of their own."""

_LARGEST = float(np.finfo(np.float32).max)

_AIR_RANGE = 6.0
"""By how much a velocity may differ from :data:`AIR_SHIFT` and be suspected, km/s."""

_NOISIER = 5.0
"""By what factor a spectrum may be noisier than stated, before its errors are taken for those of something else."""


class SpectrumError(ValueError):
    """Arrays are no spectra that can be judged."""


class AirWarning(UserWarning):
    """Wavelengths may be those in air."""


class NoiseWarning(UserWarning):
    """Errors may not be those of the flux."""


class FluxWarning(UserWarning):
    """Flux may not be what a star sends."""


def spectra_of(
    which: Arm,
    wavelength: ArrayLike,
    flux: ArrayLike,
    ivar: ArrayLike | None,
    sigma: ArrayLike | None,
    mask: ArrayLike | None,
    air: bool,
) -> ArmSpectra:
    """Arrays as an arm's spectra, checked; parameters are those of :func:`twinlines.judge_arrays`.

    Raises
    ------
    SpectrumError
        If they are no spectra that can be judged.
    """
    values = np.atleast_2d(_plain("flux", flux))
    if values.ndim != 2 or values.shape[1] <= 2 * CUSHION:
        raise SpectrumError(
            f"flux has shape {np.shape(flux)}; expected (pixel,) or (spectrum, pixel), with more than {2 * CUSHION} "
            "pixels"
        )
    if (ivar is None) == (sigma is None):
        raise SpectrumError("the noise must be known by ivar or by sigma; give one of them, a number will do")
    if ivar is None:
        deviation = _like(values, "sigma", sigma)
        if deviation.size and not (deviation > 0.0).any():
            raise SpectrumError(f"sigma is {np.ravel(deviation)[:1]} and nowhere above 0; give standard deviations")
        with np.errstate(divide="ignore"):
            ivar = np.where(deviation > 0.0, deviation**-2.0, 0.0)
    inverse = _like(values, "ivar", ivar)
    waves = _like(values, "wavelength", wavelength)
    if not (np.isfinite(waves) & (waves > 0.0)).all():
        row, pixel = np.argwhere(~(np.isfinite(waves) & (waves > 0.0)))[0]
        raise SpectrumError(
            f"the wavelength of pixel {pixel} of spectrum {row} is {waves[row, pixel]}; cut such pixels off, or "
            "interpolate, and set their flux to NaN"
        )
    if air:
        waves = np.asarray(air_to_vacuum(waves))
    _require_cover(which, waves)
    # Spectra are judged in single precision, which holds neither 1e-40 nor 1e40: in a unit of their own it does.
    unit = np.array([_unit(row) for row in values]).reshape(-1, 1)
    with np.errstate(over="ignore"):
        values, inverse = (values / unit).astype(np.float32), inverse * unit**2
    inverse = np.where(inverse < _LARGEST, inverse, 0.0)
    used = np.isfinite(values) & np.isfinite(inverse) & (inverse > 0.0)
    # A spectrum without a pixel has an S/N of zero, not none: there is such an arm.
    ratio = np.where(used, values * np.sqrt(np.where(used, inverse, 0.0)), np.nan)
    snr = [np.median(row[good]) if good.any() else 0.0 for row, good in zip(ratio, used, strict=True)]
    return ArmSpectra(
        flux=values,
        ivar=inverse.astype(np.float32),
        loglam=np.log10(waves),
        mask=(_like(values, "mask", 0 if mask is None else mask) != 0).astype(np.uint8),
        snr=np.array(snr, dtype=np.float32),
    )


def _unit(flux: NDArray[np.float64]) -> float:
    """A unit for a spectrum: 1, unless its numbers are far from it."""
    typical = np.abs(flux[np.isfinite(flux) & (flux != 0.0)])
    median = float(np.median(typical)) if typical.size else 1.0
    return 1.0 if _PLAIN[0] <= median <= _PLAIN[1] else median


def _plain(what: str, values: ArrayLike | None) -> NDArray[np.float64]:
    """Numbers without a unit or a mask; what is masked is NaN."""
    unit = getattr(values, "unit", None)
    if unit is not None:
        raise SpectrumError(
            f"{what} has the unit {unit}; give numbers: wavelengths in Angstrom, and errors in the flux's unit"
        )
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values, dtype=np.float64)


def _like(flux: NDArray[np.float64], what: str, values: ArrayLike | None) -> NDArray[np.float64]:
    """``values`` as numbers of the flux's shape."""
    numbers = _plain(what, values)
    try:
        return np.broadcast_to(numbers, flux.shape)
    except ValueError as error:
        raise SpectrumError(
            f"{what} has shape {numbers.shape}, which does not fit flux of shape {flux.shape}; a number for each "
            "spectrum has shape (spectrum, 1)"
        ) from error


def _require_cover(which: Arm, waves: NDArray[np.float64]) -> None:
    """Refuse spectra that do not reach over the arm's grid once their ends are cut off."""
    ordered = np.sort(waves, axis=1)
    first, last = ordered[:, CUSHION], ordered[:, -1 - CUSHION]
    need = which.wavelength[[0, -1]]
    for row in np.flatnonzero((first > need[0]) | (last < need[1]))[:1]:
        low, high = ordered[row, 0], ordered[row, -1]
        hint = f"arm {which.name} needs {need[0]:.1f} to {need[1]:.1f} Angstrom, and some more for the star's velocity"
        if low < need[0] / 5.0:
            hint += "; are they nanometres, micrometres or logarithms?"
        elif low <= need[0] and high >= need[1]:
            hint += f", between the {CUSHION} pixels at each end that do not count"
        raise SpectrumError(f"the wavelengths of spectrum {row} run from {low:.6g} to {high:.6g}; {hint}")


def content(which: Arm, spectra: ArmSpectra, row: int) -> int:
    """First 64 bits of BLAKE2b over all that decides the verdict on a spectrum."""
    digest = hashlib.blake2b(which.name.encode(), digest_size=8, person=b"arrays 1")
    for column in (spectra.flux, spectra.ivar, spectra.loglam, spectra.mask):
        digest.update(np.ascontiguousarray(column[row]).data)
    return int.from_bytes(digest.digest(), "little")


def suspect_air(velocity: NDArray[np.float32]) -> None:
    """Warn if most velocities are those of stars at rest whose wavelengths are in air."""
    measured = velocity[np.isfinite(velocity)]
    if measured.size and abs(float(np.median(measured)) - AIR_SHIFT) < _AIR_RANGE:
        warnings.warn(
            f"the median velocity is {np.median(measured):.1f} km/s; wavelengths in air that are taken for those in "
            f"vacuum make {AIR_SHIFT} km/s of a star at rest: if they are in air, say air=True",
            AirWarning,
            stacklevel=3,
        )


def suspect_noise(ratio: NDArray[np.float32]) -> None:
    """Warn of spectra that are far noisier than stated; ``ratio`` is measured over stated noise, (spectrum,)."""
    noisy = np.flatnonzero(ratio > _NOISIER)
    if noisy.size:
        warnings.warn(
            f"spectrum {noisy[0]}{_others(noisy)} is {ratio[noisy[0]]:,.0f} times noisier than its errors say: its S/N "
            "and what is told of it mean nothing; give sigma or ivar in the unit of the flux (flux over continuum, if "
            "that is what the flux is)",
            NoiseWarning,
            stacklevel=3,
        )


def suspect_flux(flux: NDArray[np.float32]) -> None:
    """Warn of spectra whose median flux is not above zero; ``flux`` is (spectrum, pixel)."""
    known = np.isfinite(flux).any(axis=1)
    median = np.full(len(flux), np.nan)
    median[known] = np.nanmedian(flux[known], axis=1)
    dark = np.flatnonzero(median <= 0.0)
    if dark.size:
        warnings.warn(
            f"the median flux of spectrum {dark[0]}{_others(dark)} is {median[dark[0]]:.3g}, so that it has no S/N and "
            "gets no verdict; lines must go down from a continuum above zero: divide by the continuum rather than "
            "subtract it, or change the sign",
            FluxWarning,
            stacklevel=3,
        )


def _others(rows: NDArray[np.int64]) -> str:
    return f" (and {rows.size - 1} more)" if rows.size > 1 else ""
