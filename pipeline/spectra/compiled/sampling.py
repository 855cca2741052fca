"""What stored pixels become before they are despiked, and what interpolation to a grid makes of them.

What the steps are for is in ``spectra/preprocess.py``, from which all numbers come.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine

Array = NDArray[Any]

TABLE = np.asarray(10.0 ** (np.arange(8 * 64 + 1) / 64.0))
"""Powers of ten with exponents in steps of 1 / 64, up to 8."""

_LN10 = float(np.log(10.0))


@routine
def _powers_of_ten(exponents: Array, table: Array, out: Array, place: Array) -> None:
    """10 to the power of each, exact to two units in the last place; NaN unless 0 <= exponent <= 8."""
    for i in range(out.size):
        exponent = np.float64(exponents[i])
        there = (exponent >= 0.0) & (exponent <= 8.0)
        nearest = np.floor((exponent if there else 0.0) * 64.0 + 0.5)
        rest = (exponent - nearest * (1.0 / 64.0)) * _LN10
        series = rest * (1.0 / 7.0) + 1.0
        series = series * (rest * (1.0 / 6.0)) + 1.0
        series = series * (rest * (1.0 / 5.0)) + 1.0
        series = series * (rest * (1.0 / 4.0)) + 1.0
        series = series * (rest * (1.0 / 3.0)) + 1.0
        series = series * (rest * (1.0 / 2.0)) + 1.0
        out[i] = series * rest + 1.0 if there else np.nan
        place[i] = int(nearest)
    # A loop of its own: looking up goes one by one, and would hold up the rest.
    for i in range(out.size):
        out[i] *= table[place[i]]


@kernel
def powers_of_ten(exponents: Array, table: Array, out: Array) -> None:
    """10 to the power of each of some exponents, (exponent,)."""
    _powers_of_ten(exponents, table, out, np.empty(out.size, np.int64))


@routine
def _order(wavelength: Array, order: Array) -> None:
    """Sort wavelengths, and note where each was; those that are equal stay in their order."""
    for i in range(1, wavelength.size):
        value, place = wavelength[i], order[i]
        j = i
        while j > 0 and wavelength[j - 1] > value:
            wavelength[j], order[j] = wavelength[j - 1], order[j - 1]
            j -= 1
        wavelength[j], order[j] = value, place


@kernel
def read(
    out: tuple[Array, Array, Array, Array, Array, Array],
    table: Array,
    flux: Array,
    ivar: Array,
    loglam: Array,
    mask: Array,
) -> None:
    """Stored columns, (spectrum, pixel) each, sorted by wavelength.

    A row that ascends is copied, and one that descends turned round; only another is sorted, where all its wavelengths
    are known. ``out`` is set: wavelength, flux, standard deviation, whether a pixel is bad by its mask, and whether it
    is measured, (spectrum, pixel) each; and whether all of a row's wavelengths are known, (spectrum,). Flux and
    deviation are NaN where they are unknown, and the flux where the deviation is.
    """
    wavelengths, fluxes, sigmas, bads, measured, known = out
    rows, pixels = flux.shape
    order, spare = np.empty(pixels, np.int64), np.empty(pixels, np.int64)
    for row in range(rows):
        wavelength, sigma = wavelengths[row], sigmas[row]
        _powers_of_ten(loglam[row], table, wavelength, spare)
        start, step = 0, 1
        if wavelength[pixels - 1] < wavelength[0]:
            start, step = pixels - 1, -1
            for i in range(pixels // 2):
                wavelength[i], wavelength[pixels - 1 - i] = wavelength[pixels - 1 - i], wavelength[i]
        everywhere, rises = np.isfinite(wavelength[0]), True
        for i in range(1, pixels):
            everywhere &= np.isfinite(wavelength[i])
            rises &= not wavelength[i] < wavelength[i - 1]
        known[row] = everywhere
        for i in range(pixels):
            order[i] = start + step * i
        if everywhere and not rises:
            _order(wavelength, order)
        for i in range(pixels):
            place = order[i]
            fluxes[row, i] = flux[row, place]
            sigma[i] = ivar[row, place]
            bads[row, i] = mask[row, place] > 0
        unknown = np.float32(np.nan)
        for i in range(pixels):
            sigma[i] = np.float32(1.0) / np.sqrt(sigma[i]) if sigma[i] > 0.0 else unknown
            value = fluxes[row, i]
            there = everywhere & np.isfinite(value) & np.isfinite(sigma[i])
            fluxes[row, i] = value if there else unknown
            measured[row, i] = there


@kernel
def to_grid(
    out: tuple[Array, Array, Array, Array], wavelength: Array, factor: Array, grid: Array,
    flux: Array, sigma: Array, scale: Array, bad: Array,
) -> None:  # fmt: skip
    """Spectra at rest, interpolated linearly to a grid.

    Parameters
    ----------
    wavelength, flux, sigma, bad
        (spectrum, pixel), wavelengths ascending; a row becomes NaN where one of them is unknown.
    factor
        (spectrum,), by which wavelengths are divided.
    grid
        (grid pixel,), ascending.
    scale
        (spectrum,), by which ``sigma`` is divided.
    out
        Set: flux, not below 0, and sigma, (spectrum, grid pixel) float64, NaN off the pixels; number of grid pixels to
        which a bad one contributes; and whether all of a row is finite, (spectrum,) each.
    """
    fluxes, sigmas, n_bad, covered = out
    rows, pixels = flux.shape
    rest = np.empty(pixels)
    for row in range(rows):
        count, all_there = 0, True
        for p in range(pixels):
            rest[p] = wavelength[row, p] / factor[row]
            all_there &= np.isfinite(rest[p])
        if not all_there:
            for g in range(grid.size):
                fluxes[row, g] = np.nan
                sigmas[row, g] = np.nan
        else:
            right = 0
            for g in range(grid.size):
                x = grid[g]
                while right < pixels and rest[right] < x:
                    right += 1
                j = min(max(right, 1), pixels - 1)
                i = j - 1
                if not (x >= rest[0] and x <= rest[pixels - 1]):
                    fluxes[row, g] = np.nan
                    sigmas[row, g] = np.nan
                    all_there = False
                    continue
                width = rest[j] - rest[i]
                fraction = (x - rest[i]) / width if width > 0.0 else 0.0
                count += (bad[row, i] and fraction < 1.0) or (bad[row, j] and fraction > 0.0)
                low, high = sigma[row, i] / scale[row], sigma[row, j] / scale[row]
                # A grid pixel that meets a native one takes its value, even next to a NaN.
                if fraction == 0.0:
                    value, error = np.float64(flux[row, i]), np.float64(low)
                elif fraction == 1.0:
                    value, error = np.float64(flux[row, j]), np.float64(high)
                else:
                    value = flux[row, i] + np.float64(flux[row, j] - flux[row, i]) * fraction
                    error = low + np.float64(high - low) * fraction
                all_there &= np.isfinite(value) & np.isfinite(error)
                fluxes[row, g] = 0.0 if value < 0.0 else value
                sigmas[row, g] = error
        n_bad[row] = count
        covered[row] = all_there


@kernel
def divide(out: tuple[Array, Array, Array], flux: Array, sigma: Array, level: Array, blank: Array) -> None:
    """Flux and sigma over continuum, float32; NaN where that is not positive, or the row is blank.

    ``out`` is set: both, and whether a row has a finite flux, (spectrum,).
    """
    fluxes, sigmas, some = out
    for row in range(flux.shape[0]):
        some[row] = False
        empty = bool(blank[row])
        for i in range(flux.shape[1]):
            fitted = level[row, i]
            there = (fitted > 0.0) & (not empty)
            fluxes[row, i] = flux[row, i] / fitted if there else np.nan
            sigmas[row, i] = sigma[row, i] / fitted if there else np.nan
            some[row] |= np.isfinite(fluxes[row, i])
