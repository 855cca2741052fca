"""One real star's spectrum becomes its light on the arms' library grids: at R = 7500, without gaps, its S/N known.

Knows arrays and wavelengths; no file, no survey and no pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from twinlines.pipeline.arms import STEP_DEX, Arm
from twinlines.pipeline.library.resample import ResampleError, kernel_sigma

Array = NDArray[np.float64]

MOST_MISSING = 0.1
"""Part of an arm's grid that may lack data and is filled by reflection; where more is missing the star is refused."""

_STEP = STEP_DEX * np.log(10.0)  # of the library grids, in ln(wavelength)
_FINEST = 64  # parts of a library pixel
_GAP = 2.5  # of the spectrum's own steps: pixels further apart have a gap between them; one lost pixel is bridged
_LEAST_PIXELS = 100  # fewer are no spectrum of an arm
_AROUND = 0.01  # of the wavelength: what is further from the library grid plays no part
_DARKEST = 0.005  # of the median: less light than that is noise


class RealStarError(ValueError):
    """Spectra of real stars cannot be used as asked."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A star's spectrum at rest, as it was observed; arrays of shape (pixel,)."""

    wavelength: Array
    """Vacuum wavelengths at rest, Angstrom, in any order."""
    flux: Array
    """Flux in any unit, continuum in or out; NaN or 0 where there is none."""
    sigma: Array | None = None
    """Standard deviation of the noise; a pixel where it is not finite and above 0 is missing. None: no noise."""


@dataclass(frozen=True, eq=False)
class Record:
    """What a source of real stars says of one of them."""

    place: str
    """Where it stands, for messages: a file, or an exposure of a release."""
    name: str
    """The star's name."""
    kind: str
    """Its class, in the source's own words; "" where it is not known."""
    resolution: float
    """Resolving power lambda / FWHM."""
    labels: tuple[float, float, float]
    """Teff (K), log g and [Fe/H], each NaN where it is not known."""
    spectra: Mapping[str, Spectrum]
    """What each arm's light is taken from, by the arm's name."""
    content: str
    """Digest of all that the source says of the star."""


class Light(NamedTuple):
    """A star's light in one arm."""

    flux: NDArray[np.float32]
    """(arm.library_pixels,) in units of its median on the arm's grid, at rest."""
    snr: float
    """S/N of a pixel of the library grid before it is brought to R = 7500; infinite where there is no noise.

    Of white noise, so that it compares with the noise that is added: smoothing hides noise from one pixel, but not from
    a line.
    """


def light_of(arm: Arm, record: Record) -> Light:
    """Light of a star in one arm.

    Gaps are filled by what is reflected at their two sides, one fading into the other, and the spectrum goes on beyond
    its ends by reflection, so that no edge is a feature. Then a Gaussian brings it to R = 7500.

    Raises
    ------
    RealStarError
        If the star does not cover the arm, its resolving power is too low, or it is no spectrum; names it.
    """
    spectrum = record.spectra[arm.name]
    order = np.argsort(spectrum.wavelength, kind="stable")
    wavelength, flux = spectrum.wavelength[order], spectrum.flux[order]
    usable = np.isfinite(flux) & (flux != 0.0)
    if not np.isfinite(wavelength).all() or wavelength.size < 2 or not (np.diff(wavelength) > 0.0).all():
        raise RealStarError(f"{record.place}: wavelengths are not finite and all different; mend or remove it")
    sigma = None if spectrum.sigma is None else spectrum.sigma[order]
    if sigma is not None:
        usable &= np.isfinite(sigma) & (sigma > 0.0)
    good = np.flatnonzero(usable & _near(arm, wavelength))
    _require_cover(arm, record, wavelength[usable], wavelength[good])

    place, values = np.log(wavelength[good]), flux[good]
    step = float(np.median(np.diff(place)))
    parts = int(np.clip(np.ceil(_STEP / step), 1, _FINEST))
    fine = np.log(arm.library_wavelength[0]) + _STEP / parts * np.arange((arm.library_pixels - 1) * parts + 1)
    # What lies beyond the data is reflected; the spline is asked only between them.
    filled = CubicSpline(place, values)(np.clip(fine, place[0], place[-1]))
    missing = _missing(fine, place, step)
    on_grid = slice(arm.on_library.start * parts, (arm.on_library.stop - 1) * parts + 1)
    lost = float(missing[on_grid].mean())
    if lost > MOST_MISSING:
        raise RealStarError(
            f"{record.place}: lacks {100 * lost:.0f} % of arm {arm.name} ({_range(arm.wavelength)} at rest), of which "
            f"at most {100 * MOST_MISSING:.0f} % are filled; remove it, or name {record.name!r} in `without`"
        )
    reflect_into(filled, missing)
    filled = _smoothed(filled, record, parts)[::parts]
    level = float(np.median(filled[arm.on_library]))
    if not level > 0.0:
        raise RealStarError(f"{record.place}: the median flux of arm {arm.name} is {level:g}; a star's is above 0")
    snr = np.inf
    if sigma is not None:
        seen = (wavelength[good] >= arm.wavelength[0]) & (wavelength[good] <= arm.wavelength[-1])
        snr = float(np.median((values / sigma[good])[seen])) * np.sqrt(_STEP / step)
    return Light(np.maximum(filled / level, _DARKEST).astype(np.float32), snr)


def _near(arm: Arm, wavelength: Array) -> NDArray[np.bool_]:
    """Whether pixels lie in an arm's library grid or a little beyond."""
    grid = arm.library_wavelength
    return np.asarray((wavelength > grid[0] * (1.0 - _AROUND)) & (wavelength < grid[-1] * (1.0 + _AROUND)))


def _range(wavelength: Array) -> str:
    return f"{wavelength[0]:.1f} to {wavelength[-1]:.1f} A" if wavelength.size else "nowhere"


def _require_cover(arm: Arm, record: Record, usable: Array, near: Array) -> None:
    grid = arm.wavelength
    if near.size >= _LEAST_PIXELS and near[0] <= grid[0] and near[-1] >= grid[-1]:
        return
    elsewhere = f" ({_range(near)} near the arm)" if near.size and near.size < usable.size else ""
    raise RealStarError(
        f"{record.place}: does not cover arm {arm.name}, which needs {_range(grid)} in vacuum at rest; its flux is "
        f"usable from {_range(usable)}{elsewhere}; remove it, or name {record.name!r} in `without`"
    )


def _missing(fine: Array, place: Array, step: float) -> NDArray[np.bool_]:
    """Where, on the fine grid, there are no data nearby: beyond both ends, and between pixels that lie far apart."""
    right = np.searchsorted(place, fine * (1.0 - 1e-15))
    inside = (fine >= place[0] - 1e-9) & (fine <= place[-1] + 1e-9)
    wide = np.concatenate([[False], np.diff(place) > _GAP * step, [False]])
    return np.asarray(~inside | wide[right])


def reflect_into(values: Array, missing: NDArray[np.bool_]) -> None:
    """Fill what is missing, in place, by reflection at both sides of each gap, or at its one side at an end.

    Parameters
    ----------
    values
        (pixel,) values in equal steps; where ``missing``, finite ones that serve where nothing can be reflected.
    missing
        (pixel,) where values are to be replaced.
    """
    lost = np.flatnonzero(missing)
    if not lost.size or lost.size == missing.size:
        return
    source = values.copy()
    for run in np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1):
        first, last = int(run[0]), int(run[-1])
        fading = (run - first + 1.0) / (run.size + 1.0)
        if first == 0:
            fading = np.ones(run.size)
        elif last == values.size - 1:
            fading = np.zeros(run.size)
        mirrored = []
        for edge in (first - 1, last + 1):
            there = np.clip(2 * edge - run, 0, values.size - 1)
            # A reflection that meets another gap, or an end, stops at the value beside this gap.
            there = np.where(missing[there], np.clip(edge, 0, values.size - 1), there)
            mirrored.append(source[there])
        values[run] = (1.0 - fading) * mirrored[0] + fading * mirrored[1]


def _smoothed(flux: Array, record: Record, parts: int) -> Array:
    """Flux on a grid of ``parts`` of a library pixel, brought to R = 7500."""
    try:
        sigma = kernel_sigma(record.resolution)
    except ResampleError as error:
        raise RealStarError(f"{record.place}: {error}; remove it, or name {record.name!r} in `without`") from error
    if not sigma:
        return flux
    return np.asarray(gaussian_filter1d(flux, sigma / (_STEP / parts), mode="nearest", truncate=6.0))
