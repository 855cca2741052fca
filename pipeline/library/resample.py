"""Takes spectra from their own wavelengths and resolution to the arms' library grids at R = 7500.

Three linear steps: air to vacuum (on the wavelengths), a cubic spline through the source's pixels, and a Gaussian of
constant width in ln(wavelength), FWHM = wavelength / R, that adds what lacks to R = 7500. All of it is the same matrix
for all spectra on one set of wavelengths, and nearly all its elements are zero. It is made once; then a spectrum costs
a banded solve and a sparse product, a few milliseconds. It must never know labels, files or what a library is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.sparse.linalg import SuperLU, splu

from twinlines.pipeline.arms import ARM_NAMES, ARMS, STEP_DEX, Arm

RESOLUTION = 7500.0
"""Resolving power lambda / FWHM of the library."""

TOLERANCE = 1e-3
"""Relative difference up to which two resolving powers count as equal; no kernel is then applied."""

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # in units of sigma
_STEP = STEP_DEX * np.log(10.0)  # of the library grids, in ln(wavelength)
_REACH = 6.0  # sigma; beyond, a Gaussian holds 2e-9
_FINEST = 64  # parts of a library pixel: 0.08 km/s, a tenth of the narrowest line's width
_SPLINE_MARGIN = 30  # pixels; a cubic spline forgets what is so far away by a factor 0.27^30


class ResampleError(ValueError):
    """A spectrum cannot be taken to the library's wavelengths and resolution."""


def kernel_sigma(resolution: float) -> float:
    """Standard deviation in ln(wavelength) of the Gaussian that degrades from ``resolution`` to R = 7500.

    sigma^2 = sigma_7500^2 - sigma_R^2, where sigma_R = 1 / (2 sqrt(2 ln 2) R). Zero within 0.1 % of 7500.

    Raises
    ------
    ResampleError
        If the resolution is lower than R = 7500, or no positive number.
    """
    if not resolution > 0.0:
        raise ResampleError(f"a resolving power of {resolution:g} is no positive number; give lambda / FWHM")
    if abs(resolution / RESOLUTION - 1.0) <= TOLERANCE:
        return 0.0
    if resolution < RESOLUTION:
        raise ResampleError(
            f"spectra of R = {resolution:g} cannot be sharpened to R = {RESOLUTION:g}; use a grid of higher resolution"
        )
    return float(np.sqrt(RESOLUTION**-2.0 - resolution**-2.0) / _FWHM)


class Resampler:
    """The way from one set of wavelengths to both arms' library grids.

    Parameters
    ----------
    segments
        Vacuum wavelengths in Angstrom, strictly ascending within each segment. An arm is taken from one segment that
        covers it, or from several that follow each other without a gap; where they overlap, the earlier one counts.
    resolution
        Resolving power lambda / FWHM of the spectra.

    Raises
    ------
    ResampleError
        If an arm's library grid is not covered (the message names needed and found ranges), the wavelengths are not
        finite and ascending, or the resolution is too low.
    """

    def __init__(self, segments: Sequence[NDArray[np.float64]], resolution: float) -> None:
        _check(segments)
        self.pixels = sum(segment.size for segment in segments)
        """Pixels of a spectrum on these wavelengths, all segments together."""
        wavelength = np.concatenate(segments)
        sigma = kernel_sigma(resolution)
        self._arms = []
        for name in ARM_NAMES:
            used = _covering(segments, ARMS[name])
            self._arms.append((used, *_operators(np.log(wavelength[used]), ARMS[name], sigma)))
        self.used = np.unique(np.concatenate([used for used, _, _ in self._arms]))
        """Indices of the pixels on which the result depends, ascending."""

    def __call__(self, flux: NDArray[np.float64]) -> NDArray[np.float64]:
        """Resample a spectrum.

        Parameters
        ----------
        flux
            Flux per unit wavelength, shape (pixels,), any unit. Pixels outside ``used`` play no part, even if NaN.

        Returns
        -------
        flux : (library pixels of B, then of R) float64
            On the arms' ``library_wavelength``, same unit. Within 3 sigma (some 50 km/s) of where the source ends, the
            Gaussian is cut off and normalised to what is left of it.
        """
        return np.concatenate([smooth @ solve.solve(flux[used]) for used, solve, smooth in self._arms])


def _check(segments: Sequence[NDArray[np.float64]]) -> None:
    for segment in segments:
        if segment.ndim != 1 or segment.size < 8:
            raise ResampleError(f"wavelengths of shape {segment.shape} are no spectrum; at least 8 pixels are needed")
        if not np.isfinite(segment).all() or segment[0] <= 0.0 or (np.diff(segment) <= 0.0).any():
            raise ResampleError(
                f"wavelengths ({segment[0]:g} to {segment[-1]:g}, {segment.size} pixels) are not positive, finite and "
                f"strictly ascending; sort the pixels, or say how the scale is stored (linear, log10, ln)"
            )


def _covering(segments: Sequence[NDArray[np.float64]], arm: Arm) -> NDArray[np.int64]:
    """Indices, into all segments joined, of the pixels that make up the arm; ascending in wavelength."""
    grid = arm.library_wavelength
    starts = np.cumsum([0, *(segment.size for segment in segments)])[:-1]
    order = sorted(range(len(segments)), key=lambda number: float(segments[number][0]))
    whole = [number for number in order if segments[number][0] <= grid[0] and segments[number][-1] >= grid[-1]]
    if whole:  # the segment that reaches farthest beyond both ends
        order = [max(whole, key=lambda place: min(grid[0] - segments[place][0], segments[place][-1] - grid[-1]))]
    pieces: list[NDArray[np.int64]] = []
    end, step = 0.0, 0.0
    for number in order:
        segment = segments[number]
        beyond = np.flatnonzero(segment > end)
        if not beyond.size:
            continue
        if pieces and segment[beyond[0]] - end > 1.5 * max(step, float(segment[1] - segment[0])):
            if segment[beyond[0]] > grid[0]:
                break  # a gap within the arm, or above it
            pieces = []  # what came before ends below the arm
        pieces.append(starts[number] + beyond)
        end, step = float(segment[-1]), float(segment[-1] - segment[-2])
    joined, wavelength = np.concatenate(pieces), np.concatenate(segments)
    if wavelength[joined[0]] > grid[0] * (1.0 + 1e-9) or wavelength[joined[-1]] < grid[-1] * (1.0 - 1e-9):
        ranges = "; ".join(f"{segment[0]:.2f} to {segment[-1]:.2f}" for segment in segments)
        raise ResampleError(
            f"arm {arm.name} needs vacuum wavelengths {grid[0]:.2f} to {grid[-1]:.2f} A (the networks' grid with its "
            f"margins) without a gap; found {ranges} A; compute the grid over a wider range, or correct how its scale "
            f"is said to be stored"
        )
    return _window(joined, wavelength[joined], grid)


def _window(
    indices: NDArray[np.int64], wavelength: NDArray[np.float64], grid: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Cut to what the kernel and the spline can feel."""
    reach = 1.0 + _REACH / (_FWHM * RESOLUTION)
    first = max(int(np.searchsorted(wavelength, grid[0] / reach)) - _SPLINE_MARGIN, 0)
    last = int(np.searchsorted(wavelength, grid[-1] * reach)) + _SPLINE_MARGIN
    return indices[first:last]


def _operators(source: NDArray[np.float64], arm: Arm, sigma: float) -> tuple[SuperLU, sparse.csr_array]:
    """The factorised matrix from spline coefficients to the source's pixels, and the one from them to the arm's.

    ``source`` is in ln(wavelength). The spline is evaluated on a grid that divides the arm's pixels, finely enough
    for the source's sampling and for the kernel: sums over a Gaussian sampled every sigma or closer equal its
    integral to 3e-9.
    """
    finest = min(float(np.diff(source).min()), sigma or np.inf)
    parts = int(np.clip(np.ceil(_STEP / finest * (1.0 - 1e-6)), 1, _FINEST))
    step = _STEP / parts
    reach = int(np.ceil(_REACH * sigma / step))
    first = np.log(10.0) * arm.library_loglam[0] - reach * step
    fine = first + step * np.arange((arm.library_pixels - 1) * parts + 1 + 2 * reach)
    # Rounding may put an end of the grid beyond an end of the source by the last bits.
    within = np.clip(fine, source[0], source[-1])
    fine = np.where(np.abs(fine - within) < 1e-9, within, fine)
    inside = np.flatnonzero((fine >= source[0]) & (fine <= source[-1]))
    # Not-a-knot end conditions, as scipy's CubicSpline has.
    knots = np.concatenate([np.repeat(source[0], 4), source[2:-2], np.repeat(source[-1], 4)])
    at_source = sparse.csc_array(BSpline.design_matrix(source, knots, 3))
    at_fine = sparse.csr_array(BSpline.design_matrix(fine[inside], knots, 3))
    offsets = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (offsets * step / sigma) ** 2) if sigma else np.ones(1)
    columns = (parts * np.arange(arm.library_pixels)[:, None] + offsets + reach).ravel()
    rows = np.repeat(np.arange(arm.library_pixels), offsets.size)
    kernel = sparse.csr_array(
        (np.tile(weight, arm.library_pixels), (rows, columns)), shape=(arm.library_pixels, fine.size)
    )[:, inside]
    kernel = sparse.diags_array(1.0 / kernel.sum(axis=1)) @ kernel
    return splu(at_source), sparse.csr_array(kernel @ at_fine)
