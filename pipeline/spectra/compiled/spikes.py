"""Spikes of one spectrum found and repaired: by sharpness, and by height above a running median.

What the two tests mean, and why, is in ``spectra/despike.py``, from which all numbers come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine
from twinlines.pipeline.spectra.compiled.extrema import copy, put, running_maximum
from twinlines.pipeline.spectra.compiled.repairing import fill
from twinlines.pipeline.spectra.compiled.selection import WINDOW, running_median

Array = NDArray[Any]


class Sharpness(NamedTuple):
    """Numbers of the test of sharpness; those that meet fluxes are of their dtype."""

    passes: int
    """Most passes."""
    taps: Array
    """(tap,) weights of flux[j + k] - flux[j - 1 - k]."""
    widths: Array
    """(width,) int64, pixels between a pair's edges, ascending; from the last but ten on, one by one."""
    scales: Array
    """(width,) what makes a pair's difference one standard deviation."""
    far: int
    """Number of the width from which on pairs share one scale."""
    leak: Any
    """Response to the narrowest line of unit height."""
    threshold: Any
    """Significance of a sharp pair."""
    beside: Any
    """The same beside a repair of the pass before."""
    reach: int
    """Pixels on each side that are beside, and among which pairs compete."""
    foot: int
    """Pixels beside a spike where it may have feet."""
    level: int
    """Pixels beyond those, of which the level is the median."""
    wings: Any
    """Part of a peak's height up to which its wings go."""


class Height(NamedTuple):
    """Numbers of the test of height; those that meet fluxes are of their dtype."""

    passes: int
    """Passes; the last one only looks."""
    high: Any
    """Upper bound, in mean absolute deviations."""
    low: Any
    """Lower bound."""
    widen: int
    """Pixels on each side of a spike that are repaired too."""
    fine: Array
    """Half of the weights by which the running median is smoothed, the middle first."""
    scale: Array
    """Those by which absolute residuals are."""
    flank: Array
    """(flank,) int64, distances at which a line has flanks, pixels."""
    fraction: Array
    """(flank,) part of its height that it has there."""


@routine
def _at(values: Array, pixel: int) -> Any:
    return values[min(max(pixel, 0), values.size - 1)]


@routine
def _flank(flux: Array, start: int, count: int) -> Any:
    """Lower median of ``count`` pixels from ``start`` on."""
    some = np.empty(count, flux.dtype)
    for k in range(count):
        value = _at(flux, start + k)
        place = k
        while place > 0 and some[place - 1] > value:
            some[place] = some[place - 1]
            place -= 1
        some[place] = value
    return some[(count - 1) // 2]


@routine
def _outline(flux: Array, sigma: Array, first: int, last: int, how: Sharpness) -> tuple[int, int]:
    """From a pair of edges to what stands between and beside them: first pixel, one past the last.

    (0, 0) if nothing does.

    A pair's far edge may be another spike's, or noise. And a repair that started from a spike's foot would leave a
    ramp, which looks like something the instrument could have seen.
    """
    kind = flux.dtype.type
    size = how.widths[-1] + 2 * how.foot
    origin = first - how.foot
    left = _flank(flux, first - how.foot - how.level, how.level)
    right = _flank(flux, last + how.foot, how.level)
    # The level runs straight from the middle of one flank to that of the other.
    middle = 0.5 * (2 * how.foot + how.level - 1)
    span = np.float32(last - first + 1 + 2.0 * middle)
    above = np.empty(size, np.bool_)
    excess = np.empty(size, flux.dtype)
    peak, highest = how.foot, kind(-np.inf)
    for k in range(size):
        way = kind(np.float32(k - how.foot + 1 + middle) / span)
        value = _at(flux, origin + k)
        excess[k] = value - (left + (right - left) * way)
        if how.foot <= k < how.foot + last - first and value > highest:
            peak, highest = k, value
    height = how.wings * excess[peak]
    for k in range(size):
        noise = kind(3.0) * _at(sigma, origin + k)
        above[k] = excess[k] > (noise if noise > height else height) and k < how.foot + last - first + how.foot
    if not above[peak]:
        return 0, 0
    start, stop = peak, peak
    while start >= 0 and above[start]:
        start -= 1
    while stop < size and above[stop]:
        stop += 1
    # One pixel more on each side: an edge need not fall between two pixels.
    return max(origin + start, 0), min(origin + stop + 1, flux.size)


@routine
def _best_pairs(flux: Array, edge: Array, best: Array, contrast: Array, spare: Array, how: Sharpness) -> None:
    """Set edges, the sharpness of the best pair of them at each pixel, and the contrast of what they see there."""
    pixels, widest, half = flux.size, how.widths[-1], how.taps.size
    size = pixels + 2 * half + widest
    padded, one, other = spare[0, :size], spare[1, :size], spare[2, :size]
    put(padded, 0, half, flux[0])
    copy(flux, pixels, padded, half)
    put(padded, half + pixels, size, flux[pixels - 1])
    put(edge, 0, edge.size, flux.dtype.type(0.0))
    for k in range(half):
        weight = how.taps[k]
        ahead, behind = padded[half + k :], padded[half - 1 - k :]
        for j in range(edge.size):
            edge[j] += (ahead[j] - behind[j]) * weight
    # Of all that either edge can see.
    seen = 2 * half + widest + 1
    copy(padded, size, one, 0)
    high = running_maximum(one, seen, other)
    for j in range(pixels):
        contrast[j] = high[j]
    for j in range(size):
        one[j] = -padded[j]
    low = running_maximum(one, seen, other)
    for j in range(pixels):
        contrast[j] += low[j]
    # Pairs this far apart do not overlap, and share one scale: their best partner is the least edge in that reach.
    apart = how.widths[how.far]
    for j in range(edge.size - apart):
        one[j] = -edge[apart + j]
    far = running_maximum(one, widest - apart + 1, other)
    scale = how.scales[how.far]
    for j in range(pixels):
        best[j] = (edge[j] + far[j]) * scale
    for w in range(how.far):
        scale = how.scales[w]
        partner = edge[how.widths[w] :]
        for j in range(pixels):
            value = (edge[j] - partner[j]) * scale
            best[j] = best[j] if best[j] > value else value


@routine
def _remove_sharp(
    wavelength: Array, flux: Array, sigma: Array, flagged: Array, how: Sharpness, spare: Array, marks: Array
) -> None:
    """Repair, in place, what is bounded by edges sharper than the instrument's profile."""
    pixels = flux.size
    edge, best, contrast = spare[0, : pixels + how.widths[-1]], spare[1], spare[2]
    threshold, spikes, sharp = spare[3], marks[0], marks[1]
    put(threshold, 0, pixels, how.threshold)
    most = flux.dtype.type(0.8)
    for _ in range(how.passes):
        _best_pairs(flux, edge, best, contrast, spare[4:], how)
        for j in range(pixels):
            sharp[j] = (best[j] > threshold[j] * sigma[j]) & (best[j] > how.leak * contrast[j])
            best[j] = best[j] if sharp[j] else flux.dtype.type(0.0)
        put(spikes, 0, pixels, False)
        active = False
        for j in range(pixels):
            if not sharp[j]:
                continue
            rival = best[j]
            for i in range(max(j - how.reach, 0), min(j + how.reach + 1, pixels)):
                rival = rival if rival > best[i] else best[i]
            if best[j] < most * rival:
                continue
            width, score = 0, (edge[j] - edge[j + how.widths[0]]) * how.scales[0]
            for w in range(1, how.widths.size):
                value = (edge[j] - edge[j + how.widths[w]]) * how.scales[w]
                if value > score:
                    width, score = w, value
            first, last = _outline(flux, sigma, j, j + how.widths[width], how)
            if last > first:
                put(spikes, first, last, True)
                active = True
        if not active:
            return
        fill(wavelength, flux, spikes)
        put(threshold, 0, pixels, how.threshold)
        for j in range(pixels):
            if spikes[j]:
                flagged[j] = True
                put(threshold, j - how.reach, j + how.reach + 1, how.beside)


@routine
def _smooth(values: Array, weights: Array, start: int, stop: int, out: Array) -> None:
    """Set ``out`` from ``start`` to ``stop`` to ``values`` convolved with a symmetric kernel."""
    size, half = stop - start, weights.size - 1
    middle, result = values[start:], out[start:]
    weight = weights[0]
    for i in range(size):
        result[i] = middle[i] * weight
    for k in range(1, half + 1):
        weight = weights[k]
        left, right = values[start - k :], values[start + k :]
        for i in range(size):
            result[i] += (left[i] + right[i]) * weight


@routine
def _high(
    strip: Array, start: int, stop: int, pixels: int, how: Height, spare: Array, sixes: Array, out: Array
) -> None:
    """Set ``out[start:stop]`` where pixels are out of bounds around the running median.

    ``strip`` and the rows of ``spare`` have a margin of zeros as wide as all filters together on each side.
    """
    half, fine, wide = WINDOW // 2, how.fine.size - 1, how.scale.size - 1
    margin = half + fine + wide
    median, residual, size, scale = spare[0], spare[1], spare[2], spare[3]
    low, high = max(start - wide - fine, 0), min(stop + wide + fine, pixels)
    running_median(strip[margin + low - half :], median[margin + low : margin + high], sixes)
    low, high = max(start - wide, 0), min(stop + wide, pixels)
    _smooth(median, how.fine, margin + low, margin + high, residual)
    for i in range(margin + low, margin + high):
        residual[i] = strip[i] - residual[i]
    for i in range(margin + low, margin + high):
        size[i] = abs(residual[i])
    _smooth(size, how.scale, margin + start, margin + stop, scale)
    part, level, bad = residual[margin + start :], scale[margin + start :], out[start:]
    for i in range(stop - start):
        bad[i] = (part[i] > how.high * level[i]) | (part[i] < how.low * level[i])
    for i in range(stop - start):
        if bad[i] and part[i] > 0.0:
            # Light seen through the profile has flanks; the authors' recipe takes the tops off narrow emission lines.
            blurred = True
            for k in range(how.flank.size):
                distance = how.flank[k]
                at = margin + start + i
                mean = residual.dtype.type(0.5) * (residual[at - distance] + residual[at + distance])
                blurred = blurred and mean > how.fraction[k] * part[i]
            if blurred:
                bad[i] = False


@routine
def _remove_high(
    wavelength: Array, flux: Array, flagged: Array, how: Height, strip: Array, spare: Array, sixes: Array, marks: Array
) -> None:
    """Repair, in place, what stands out of a running median: the authors' recipe.

    A pass after the first looks only within reach of the last repair; elsewhere nothing can have changed.
    """
    pixels = flux.size
    margin = WINDOW // 2 + how.fine.size + how.scale.size - 2
    spikes, out = marks[0], marks[1]
    put(strip, 0, strip.size, flux.dtype.type(0.0))
    for k in range(3):
        put(spare[k], 0, strip.size, flux.dtype.type(0.0))
    put(spikes, 0, pixels, True)  # at first, all pixels are to be looked at
    for look in range(how.passes):
        copy(flux, pixels, strip, margin)
        put(out, 0, pixels, False)
        j = 0
        while j < pixels:
            if not spikes[j]:
                j += 1
                continue
            start, stop = max(j - margin, 0), j + 1
            # Up to the last spike whose reach meets the reach of one before.
            while j < min(stop + 2 * margin, pixels):
                if spikes[j]:
                    stop = j + 1
                j += 1
            _high(strip, start, min(stop + margin, pixels), pixels, how, spare, sixes, out)
        some = False
        put(spikes, 0, pixels, False)
        for j in range(pixels):
            if out[j]:
                some = True
                put(spikes, j - how.widen, j + how.widen + 1, True)
        if not some or look == how.passes - 1:
            return
        fill(wavelength, flux, spikes)
        for j in range(pixels):
            flagged[j] |= spikes[j]


@kernel
def despike(
    wavelength: Array, flux: Array, sigma: Array, repaired: Array, failed: Array, sharpness: Sharpness, height: Height
) -> None:
    """Repair spectra in place, and say which pixels were, and which spectra are too full of spikes.

    Parameters
    ----------
    wavelength, flux, sigma
        (spectrum, pixel); ``flux`` is changed.
    repaired
        (spectrum, pixel) bool, set.
    failed
        (spectrum,) bool, set where more than half of the pixels were flagged.
    """
    rows, pixels = flux.shape
    margin = WINDOW // 2 + height.fine.size + height.scale.size - 2
    length = pixels + 2 * max(margin, sharpness.taps.size) + sharpness.widths[-1] + WINDOW
    marks = np.empty((3, pixels), np.bool_)
    spare, sixes = np.empty((7, length), flux.dtype), np.empty((6, length), flux.dtype)
    start, noise, strip = np.empty(pixels, flux.dtype), np.empty(pixels, flux.dtype), np.empty(length, flux.dtype)
    flagged = marks[2]
    for row in range(rows):
        x, current = wavelength[row], flux[row]
        for j in range(pixels):
            flagged[j] = not np.isfinite(current[j])
            current[j] = 0.0 if flagged[j] else current[j]
            value = sigma[row, j]
            noise[j] = value if np.isfinite(value) and value > 0.0 else np.inf
        copy(flagged, pixels, repaired[row], 0)
        fill(x, current, flagged)
        copy(current, pixels, start, 0)
        _remove_sharp(x, current, noise, flagged, sharpness, spare, marks)
        _remove_high(x, current, flagged, height, strip, spare, sixes, marks)
        count = 0
        for j in range(pixels):
            count += flagged[j]
        failed[row] = 2 * count > pixels
        if failed[row]:
            copy(start, pixels, current, 0)
        else:
            copy(flagged, pixels, repaired[row], 0)
