"""The penalised cubic spline of one spectrum with rounds of clipping: banded normal equations, nothing kept but bands.

What is fitted, and why so, is in ``spectra/continuum.py``, from which all numbers come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine
from twinlines.pipeline.spectra.compiled.selection import lower_median

Array = NDArray[Any]

NODES = 4
"""Nodes of the quadrature in an interval."""


class Basis(NamedTuple):
    """What is the same for every spectrum of so many pixels."""

    interval: int
    """Pixels between knots, m."""
    intervals: int
    """Number of intervals, K; there are K + 3 coefficients."""
    values: Array
    """(4, m), the four B-splines on the pixels of an interval."""
    products: Array
    """(m, 14), their ten distinct products, the second spline's number rising fastest; and they themselves."""
    fit: Array
    """(pixel, 6), wavelengths of the pixels -> coefficients of the polynomial wavelength(index), of degree 5."""
    derivatives: Array
    """(coefficient, 2, K * nodes), those coefficients -> first and second derivative by index at the nodes."""
    slope: Array
    """(nodes, 4), first derivative of the B-splines by index at an interval's nodes."""
    curvature: Array
    """(nodes, 4), second derivative of the B-splines by index at an interval's nodes."""
    quadrature: Array
    """(nodes,), smoothing times the weights of the nodes, in pixels."""


class Clipping(NamedTuple):
    """How pixels are clipped."""

    rounds: int
    """Rounds of clipping."""
    low: float
    """Pixels are kept while their residual lies above this multiple of its local standard deviation."""
    high: float
    """And below this one."""
    window: float
    """Half width of the windows in which the standard deviation is measured, and the spacing of their centres."""
    span: float
    """Wavelengths that span more are none."""
    fewest: int
    """A spectrum of no more usable pixels has no continuum."""


@routine
def _penalty(basis: Basis, wavelength: Array, out: Array) -> None:
    """Set ``out``, (interval, pair), to the smoothing times the integral of B_i'' B_j'' by wavelength."""
    origin = wavelength[0]
    orders = basis.fit.shape[1]
    coefficient = np.zeros(orders)
    a, b, c, d, e, f = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0  # in registers, where six sums take the time of one
    for p in range(wavelength.size):
        value, row = wavelength[p] - origin, basis.fit[p]
        a += value * row[0]
        b += value * row[1]
        c += value * row[2]
        d += value * row[3]
        e += value * row[4]
        f += value * row[5]
    coefficient[0], coefficient[1], coefficient[2] = a, b, c
    coefficient[3], coefficient[4], coefficient[5] = d, e, f
    curve = np.empty(4)
    for k in range(basis.intervals):
        for pair in range(10):
            out[k, pair] = 0.0
        for node in range(NODES):
            first, second = 0.0, 0.0
            for order in range(orders):
                first += coefficient[order] * basis.derivatives[order, 0, k * NODES + node]
                second += coefficient[order] * basis.derivatives[order, 1, k * NODES + node]
            # d2f/dx2 = (f_uu - f_u x_uu / x_u) / x_u^2 with x the wavelength and u the index; dx = x_u du.
            bend, scale = second / first, np.sqrt(basis.quadrature[node] * first) / (first * first)
            for i in range(4):
                curve[i] = (basis.curvature[node, i] - bend * basis.slope[node, i]) * scale
            pair = 0
            for i in range(4):
                for j in range(i, 4):
                    out[k, pair] += curve[i] * curve[j]
                    pair += 1


@routine
def _fit(basis: Basis, penalty: Array, flux: Array, kept: Array, band: Array, right: Array, out: Array) -> None:
    """Penalised least squares on the kept pixels, evaluated on all of them.

    ``band``, (K + 3, 4), and ``right``, (K + 3,), are lent: rows of the matrix, the diagonal first, and the right side.
    """
    pixels, m = flux.size, basis.interval
    local = np.empty(14)
    for r in range(right.size):
        right[r] = 0.0
        for d in range(4):
            band[r, d] = 0.0
    for k in range(basis.intervals):
        for pair in range(14):
            local[pair] = 0.0
        for p in range(k * m, min((k + 1) * m, pixels)):
            weight = kept[p]
            weighted = weight * flux[p]
            row = basis.products[p - k * m]
            for pair in range(10):
                local[pair] += weight * row[pair]
            for pair in range(10, 14):
                local[pair] += weighted * row[pair]
        pair = 0
        for i in range(4):
            right[k + i] += local[10 + i]
            for j in range(i, 4):
                band[k + j, j - i] += local[pair] + penalty[k, pair]
                pair += 1
    _solve(band, right)
    for k in range(basis.intervals):
        a, b, c, d = right[k], right[k + 1], right[k + 2], right[k + 3]
        start = k * m
        for p in range(min(m, pixels - start)):
            out[start + p] = (
                a * basis.values[0, p] + b * basis.values[1, p] + c * basis.values[2, p] + d * basis.values[3, p]
            )


@routine
def _solve(band: Array, right: Array) -> None:
    """Solve a positive definite system of three lower diagonals in place, by Cholesky's decomposition.

    ``band[r, d]`` is the matrix at (r, r - d). A spectrum without pixels has a singular matrix, and NaN for an answer.
    """
    size = right.size
    for r in range(size):
        for d in range(3, -1, -1):
            column = r - d
            if column < 0:
                continue
            value = band[r, d]
            for k in range(d + 1, 4):
                if r - k >= 0 and k - d < 4:
                    value -= band[r, k] * band[column, k - d]
            band[r, d] = np.sqrt(value) if d == 0 else value / band[column, 0]
        value = right[r]
        for d in range(1, 4):
            if r >= d:
                value -= band[r, d] * right[r - d]
        right[r] = value / band[r, 0]
    for r in range(size - 1, -1, -1):
        value = right[r]
        for d in range(1, 4):
            if r + d < size:
                value -= band[r + d, d] * right[r + d]
        right[r] = value / band[r, 0]


@routine
def _first_at(values: Array, bound: float, above: bool) -> int:
    """First of ascending values that is not below a bound, or, if asked, that is above it."""
    low, high = 0, values.size
    while low < high:
        middle = (low + high) // 2
        if values[middle] < bound or (above and values[middle] == bound):
            low = middle + 1
        else:
            high = middle
    return low


@routine
def _clip(
    residual: Array,
    usable: Array,
    kept: Array,
    spare: Array,
    windows: Array,
    place: Array,
    starts: Array,
    how: Clipping,
) -> int:
    """Drop pixels whose residuals are out of bounds; returns how many stay.

    ``windows`` is (window, 2), first pixel and one past the last; ``place`` (pixel,) counts spacings from the first
    window's centre, and ``starts`` (window,) has the first pixel after each centre.
    """
    pixels, count = residual.size, windows.shape[0]
    some, other = spare[0], spare[1]
    number = 0
    for p in range(pixels):
        some[number] = residual[p]
        number += usable[p] != 0.0
    centre = lower_median(some, number, other)
    sigma = np.empty(count)
    for w in range(count):
        n, total, squares = 0.0, 0.0, 0.0
        m, more, others = 0.0, 0.0, 0.0
        low, high = windows[w, 0], windows[w, 1]
        half = low + (high - low) // 2
        # Two sums at a time, since each must wait for its last addition.
        for p in range(half - low):
            a, b = kept[low + p] * residual[low + p], kept[half + p] * residual[half + p]
            n += kept[low + p]
            m += kept[half + p]
            total += a
            more += b
            squares += a * residual[low + p]
            others += b * residual[half + p]
        if 2 * half < low + high:
            a = kept[high - 1] * residual[high - 1]
            n += kept[high - 1]
            total += a
            squares += a * residual[high - 1]
        mean = (total + more) / (n + m)
        sigma[w] = np.sqrt(max((squares + others) / (n + m) - mean * mean, 0.0))
    for w in range(count - 1):
        start, change = sigma[w], sigma[w + 1] - sigma[w]
        for p in range(starts[w], starts[w + 1]):
            scale = start + change * (place[p] - w)
            ratio = residual[p] - centre
            inside = (ratio > how.low * scale) & (ratio < how.high * scale)
            kept[p] = kept[p] if inside else 0.0
    stay = 0
    for p in range(pixels):
        stay += kept[p] != 0.0
    return stay


@routine
def _windows(wavelength: Array, how: Clipping, windows: Array, place: Array, starts: Array) -> int:
    """Set what :func:`_clip` goes by; returns the number of windows."""
    first, span = wavelength[0], wavelength[-1] - wavelength[0]
    number = max(np.ceil(span / how.window), 1.0)  # of spacings: one less than of centres
    count = int(number) + 1
    for w in range(count):
        centre = first + span * (w / number)
        windows[w, 0] = _first_at(wavelength, centre - how.window, False)
        windows[w, 1] = _first_at(wavelength, centre + how.window, True)
    for p in range(wavelength.size):
        place[p] = (wavelength[p] - first) / span * number
    starts[0] = 0
    for w in range(1, count - 1):
        starts[w] = max(_first_at(place, w, False), starts[w - 1])
    starts[count - 1] = wavelength.size
    return count


@kernel
def continua(wavelength: Array, flux: Array, good: Array, basis: Basis, how: Clipping, out: Array) -> None:
    """Fit the continuum of each spectrum.

    Parameters
    ----------
    wavelength
        (1 or spectrum, pixel) float64, ascending.
    flux
        (spectrum, pixel) of any dtype; what is not finite and positive takes no part.
    good
        (1 or spectrum, pixel) bool, pixels that may take part.
    out
        (spectrum, pixel) float64, set; NaN throughout where there is no continuum.
    """
    rows, pixels = flux.shape
    size = basis.intervals + 3
    penalty, band, right = np.empty((basis.intervals, 10)), np.empty((size, 4)), np.empty(size)
    most = int(np.ceil(how.span / how.window)) + 2
    windows, starts = np.empty((most, 2), np.int64), np.empty(most, np.int64)
    values, usable, kept = np.empty(pixels), np.empty(pixels), np.empty(pixels)
    place, spare = np.empty(pixels), np.empty((2, pixels))
    known, count = False, 0
    for row in range(rows):
        x = wavelength[row if wavelength.shape[0] > 1 else 0]
        may = good[row if good.shape[0] > 1 else 0]
        if row == 0 or wavelength.shape[0] > 1:
            span = x[-1] - x[0]
            known = (span > 0.0) & (span < how.span)
            for p in range(pixels):
                known &= np.isfinite(x[p])
            if known:
                _penalty(basis, x, penalty)
                count = _windows(x, how, windows, place, starts)
        fitted = out[row]
        number = 0
        for p in range(pixels):
            value = np.float64(flux[row, p])
            take = may[p] & (value > 0.0) & (value < np.inf)
            values[p] = value if take else 0.0
            usable[p] = 1.0 if take else 0.0
            kept[p] = usable[p]
            number += take
        stay = number
        if known and number > how.fewest:
            for clip in range(how.rounds + 1):
                _fit(basis, penalty, values, kept, band, right, fitted)
                if clip < how.rounds:
                    for p in range(pixels):
                        fitted[p] = values[p] - fitted[p]
                    stay = _clip(fitted, usable, kept, spare, windows[:count], place, starts, how)
        if not known or number <= how.fewest or stay <= how.fewest:
            for p in range(pixels):
                fitted[p] = np.nan


@kernel
def solutions(bands: Array, rights: Array) -> None:
    """Solve banded systems in place: bands, (system, row, 4), the diagonal first, and right sides, (system, row)."""
    for system in range(rights.shape[0]):
        _solve(bands[system], rights[system])
