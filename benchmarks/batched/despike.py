"""Removes cosmic rays from single exposures: batched, on any device.

LAMOST's pipeline removes no cosmic rays, and in a single exposure there is no second opinion. Two tests find them:

* *Sharpness*, ours. The spectrograph's optics blur light, not charge that a particle leaves in the detector. An edge
  sharper than the instrument's profile allows is therefore no star's, be it a spike of one pixel or a track of twenty
  along the dispersion. Emission lines, however bright or narrow at their source, arrive blurred.
* *Height*, the authors' (the toolkit of Zhang et al. 2022): a pixel far above, or very far below, a running median
  against the mean absolute deviation around it. It finds the low and isolated spikes; long tracks raise its scale and
  escape it.

All arithmetic is elementwise on shifted arrays, so that a spectrum's result does not depend on its neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from twinlines.pipeline.spectra.despike import (
    _FINE,
    _FLANKS,
    _FOOT,
    _HALF,
    _LEVEL,
    _SCALE,
    _WIDTHS,
    _WINGS,
    HIGH,
    LOW,
    PASSES,
    REACH,
    SHARP,
    SHARP_BESIDE,
    SHARP_PASSES,
    WIDEN,
    Repaired,
    _edges,
)

_MEDIAN = 21
_HALO = _MEDIAN // 2 + _FINE[0] + _SCALE[0]
_BLOCK = 88  # pixels; at least 2 * (halo + widening), so that a repair touches no more than three
_PART = 16  # spectra at a time: their arrays stay in a core's cache


def despike(wavelength: Tensor, flux: Tensor, sigma: Tensor) -> Repaired:
    """Replace spikes by linear interpolation between the pixels beside them.

    Parameters
    ----------
    wavelength
        (spectrum, pixel) on native pixels, Angstrom, ascending.
    flux
        (spectrum, pixel), any unit; the whole arm, wild ends included. Values that are not finite are replaced too.
    sigma
        (spectrum, pixel) its standard deviation; where it is not finite and positive nothing is called sharp.

    Returns
    -------
    Repaired
        With ``flux`` in its own dtype.
    """
    finite = flux.isfinite()
    start = torch.where(finite, flux, 0.0)
    fill(wavelength, start, ~finite)
    sigma = torch.where(sigma.isfinite() & (sigma > 0.0), sigma, torch.inf).to(flux.dtype)
    current = start.clone()
    flagged = ~finite
    for part in range(0, flux.shape[0], _PART):
        rows = slice(part, part + _PART)
        _remove_sharp(wavelength[rows], current[rows], sigma[rows], flagged[rows])
        _remove_high(wavelength[rows], current[rows], flagged[rows])
    failed = 2 * flagged.sum(dim=1) > flux.shape[1]
    current = torch.where(failed[:, None], start, current)
    return Repaired(current, (flagged & ~failed[:, None]) | ~finite, failed)


def fill(wavelength: Tensor, flux: Tensor, flagged: Tensor) -> None:
    """Interpolate in place over flagged pixels, linearly in wavelength; constant beyond the last good ones.

    Parameters
    ----------
    wavelength
        (spectrum, pixel), Angstrom, ascending; equal neighbours are allowed.
    flux
        (spectrum, pixel), any unit; changed where ``flagged``. A row without a good pixel becomes its last value.
    flagged
        (spectrum, pixel) bool.
    """
    row, column = flagged.nonzero(as_tuple=True)
    if row.numel() == 0:
        return
    pixels = flux.shape[1]
    follows = (row[1:] == row[:-1]) & (column[1:] == column[:-1] + 1)
    begins = torch.cat([follows.new_zeros(1), follows]).logical_not()
    ends = torch.cat([follows, follows.new_zeros(1)]).logical_not()
    run = begins.cumsum(dim=0) - 1
    before, after = column[begins][run] - 1, column[ends][run] + 1
    left = torch.where(before < 0, after, before).clamp(max=pixels - 1)
    right = torch.where(after >= pixels, left, after)
    low, high = wavelength[row, left], wavelength[row, right]
    fraction = torch.where(high > low, (wavelength[row, column] - low) / (high - low), 0.0).to(flux.dtype)
    value = flux[row, left]
    flux[row, column] = value + (flux[row, right] - value) * fraction


def _remove_sharp(wavelength: Tensor, flux: Tensor, sigma: Tensor, flagged: Tensor) -> None:
    """Repair, in place, what is bounded by edges sharper than the instrument's profile."""
    rows = torch.arange(flux.shape[0], device=flux.device)
    threshold = torch.full_like(flux, SHARP)
    for _ in range(SHARP_PASSES):
        row, first, last = _sharp(flux[rows], sigma[rows], threshold)
        if row.numel() == 0:
            return
        steps = torch.zeros((rows.numel(), flux.shape[1] + 1), dtype=torch.int32, device=flux.device)
        ones = torch.ones_like(row, dtype=torch.int32)
        steps.index_put_((row, first), ones, accumulate=True)
        steps.index_put_((row, last), -ones, accumulate=True)
        spikes = steps.cumsum(dim=1)[:, :-1] > 0
        active = spikes.any(dim=1)
        rows, spikes = rows[active], spikes[active]
        flagged[rows] |= spikes
        current = flux[rows]
        fill(wavelength[rows], current, spikes)
        flux[rows] = current
        beside = running_maximum(spikes.to(flux.dtype), REACH) > 0.0
        threshold = torch.where(beside, SHARP_BESIDE, torch.full_like(current, SHARP))


def _sharp(flux: Tensor, sigma: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of pixels between a rising and a falling edge sharper than the profile: row, first pixel, one past last."""
    pixels = flux.shape[1]
    design = _edges()
    widest = max(_WIDTHS)
    padded = pad(flux[:, None], (_HALF, _HALF + widest), mode="replicate")[:, 0]
    size = pixels + widest  # edge j lies between pixels j - 1 and j
    edge = torch.zeros((flux.shape[0], size), dtype=flux.dtype, device=flux.device)
    for k, weight in enumerate(design.taps):
        ahead, behind = padded[:, _HALF + k : _HALF + k + size], padded[:, _HALF - 1 - k : _HALF - 1 - k + size]
        edge += (ahead - behind) * weight
    rising = edge[:, :pixels]
    # Pairs this far apart do not overlap, and share one scale: their best partner is the least edge in that reach.
    apart = _WIDTHS.index(2 * _HALF)
    falling = -_running_maximum(-edge[:, _WIDTHS[apart] :], widest - _WIDTHS[apart] + 1)[:, :pixels]
    best = (rising - falling) * design.scales[apart]
    for w, scale in zip(_WIDTHS[:apart], design.scales, strict=False):
        best = torch.maximum(best, (rising - edge[:, w : w + pixels]) * scale)
    # Of all that either edge can see.
    seen = 2 * _HALF + widest + 1
    contrast = _running_maximum(padded, seen) + _running_maximum(-padded, seen)
    sharp = (best > threshold * sigma) & (best > design.leak * contrast)
    if not bool(sharp.any()):
        return _nothing(flux)
    candidates = torch.where(sharp, best, 0.0)
    sharp &= candidates >= 0.8 * running_maximum(candidates, REACH)
    row, first = sharp.nonzero(as_tuple=True)
    widths = torch.tensor(_WIDTHS, device=flux.device)
    scales = torch.tensor(design.scales, dtype=flux.dtype, device=flux.device)
    scores = (edge[row, first][:, None] - edge[row[:, None], first[:, None] + widths]) * scales
    return _outline(flux, sigma, row, first, first + widths[scores.argmax(dim=1)])


def _nothing(flux: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    empty = torch.empty(0, dtype=torch.int64, device=flux.device)
    return empty, empty, empty


def _outline(flux: Tensor, sigma: Tensor, row: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From a pair of edges to what stands between and beside them: pixels around the peak that are above the level.

    A pair's far edge may be another spike's, or noise. And a repair that started from a spike's foot would leave a
    ramp, which looks like something the instrument could have seen.
    """
    pixels = flux.shape[1]
    margin = _FOOT + _LEVEL

    def at(values: Tensor, place: Tensor) -> Tensor:
        return values[row[:, None], place.clamp(0, pixels - 1)]

    flank = torch.arange(_FOOT, margin, device=flux.device)
    left = at(flux, first[:, None] - 1 - flank).median(dim=1).values[:, None]
    right = at(flux, last[:, None] + flank).median(dim=1).values[:, None]
    place = first[:, None] + torch.arange(-_FOOT, max(_WIDTHS) + _FOOT, device=flux.device)
    # The level runs straight from the middle of one flank to that of the other.
    middle = 0.5 * (2 * _FOOT + _LEVEL - 1)
    way = (place - first[:, None] + 1 + middle) / ((last - first)[:, None] + 1 + 2.0 * middle)
    level = left + (right - left) * way.to(flux.dtype)
    values = at(flux, place)
    inside = (place >= first[:, None]) & (place < last[:, None])
    peak = torch.where(inside, values, -torch.inf).argmax(dim=1, keepdim=True)
    height = (values - level).gather(1, peak)
    # A few per cent of a high peak are its wings in the extraction, whatever the noise.
    above = (values - level > torch.maximum(3.0 * at(sigma, place), _WINGS * height)) & (place < last[:, None] + _FOOT)
    serial = torch.arange(place.shape[1], device=flux.device)
    start = torch.where(~above & (serial <= peak), serial, -1).amax(dim=1)
    stop = torch.where(~above & (serial >= peak), serial, place.shape[1]).amin(dim=1)
    stands = above.gather(1, peak)[:, 0]
    origin = first - _FOOT
    # One pixel more on each side: an edge need not fall between two pixels.
    return row[stands], (origin + start).clamp(min=0)[stands], (origin + stop + 1).clamp(max=pixels)[stands]


def running_maximum(values: Tensor, half: int) -> Tensor:
    """Running maximum over 2 * half + 1 pixels along rows, windows cut at the ends."""
    return _running_maximum(pad(values, (half, half), value=-torch.inf), 2 * half + 1)


def _running_maximum(values: Tensor, size: int) -> Tensor:
    """Maximum of each ``size`` successive pixels, by doubling; ``size`` - 1 pixels shorter than ``values``."""
    covered = 1
    while 2 * covered <= size:
        values = torch.maximum(values[:, :-covered], values[:, covered:])
        covered *= 2
    rest = size - covered
    return torch.maximum(values[:, :-rest], values[:, rest:]) if rest else values


def _remove_high(wavelength: Tensor, flux: Tensor, flagged: Tensor) -> None:
    """Repair, in place, what stands out of a running median: the authors' recipe.

    A pass after the first looks only at blocks within reach of the last repair; elsewhere nothing can have changed.
    """
    rows, pixels = flux.shape
    blocks = -(-pixels // _BLOCK)
    # Zeros beyond the ends, as far as the last block may look.
    inside = torch.zeros(blocks * _BLOCK + 2 * _HALO, dtype=flux.dtype, device=flux.device)
    inside[_HALO : _HALO + pixels] = 1.0
    padded = torch.zeros((rows, inside.numel()), dtype=flux.dtype, device=flux.device)
    padded[:, _HALO : _HALO + pixels] = flux
    row, column = _high(padded, inside[None])
    window = torch.arange(_BLOCK + 2 * _HALO, device=flux.device)
    for repair in range(PASSES - 1):
        if row.numel() == 0:
            break
        spikes = torch.zeros((rows, pixels), dtype=torch.bool, device=flux.device)
        for offset in range(-WIDEN, WIDEN + 1):
            spikes[row, (column + offset).clamp(0, pixels - 1)] = True
        flagged |= spikes
        fill(wavelength, flux, spikes)
        if repair == PASSES - 2:
            break
        padded[:, _HALO : _HALO + pixels] = flux
        dirty = torch.zeros((rows, blocks), dtype=torch.bool, device=flux.device)
        for offset in (-_HALO - WIDEN, 0, _HALO + WIDEN):
            dirty[row, ((column + offset) // _BLOCK).clamp(0, blocks - 1)] = True
        of_row, of_block = dirty.nonzero(as_tuple=True)
        place = of_block[:, None] * _BLOCK + window
        strip, pixel = _high(padded[of_row[:, None], place], inside[place])
        row, column = of_row[strip], of_block[strip] * _BLOCK + pixel
        on = column < pixels
        row, column = row[on], column[on]


def _high(strip: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of strips, less a halo on each side, that are out of bounds around the running median: strip, pixel."""
    half, fine = _MEDIAN // 2, _FINE[0]
    median = running_median(strip)
    median *= inside[:, half : inside.shape[1] - half]
    residual = strip[:, half + fine : strip.shape[1] - half - fine] - _convolve(median, *_FINE)
    residual *= inside[:, half + fine : inside.shape[1] - half - fine]
    scale = _convolve(residual.abs(), *_SCALE)
    middle = residual[:, _SCALE[0] : residual.shape[1] - _SCALE[0]]
    row, column = ((middle > HIGH * scale) | (middle < LOW * scale)).nonzero(as_tuple=True)
    keep = ~_blurred(residual, row, column + _SCALE[0])
    return row[keep], column[keep]


def _blurred(residual: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Whether pixels above the median have the flanks that the profile gives a real line.

    Light seen through a Gaussian of standard deviation s obeys f(p - k) + f(p + k) >= 2 f(p) exp(-k^2 / 2 s^2) around
    every pixel p. The authors' recipe has no such veto, and takes the tops off one in six bright narrow emission lines.
    """
    height = residual[row, column]
    blurred = height > 0.0
    for k, fraction in _FLANKS:
        mean = 0.5 * (residual[row, column - k] + residual[row, column + k])
        blurred &= mean > fraction * height
    return blurred


def _convolve(values: Tensor, half: int, deviation: float) -> Tensor:
    """Convolve rows with a Gaussian of 2 * half + 1 taps, where all of them lie on the row."""
    weights = np.exp(-0.5 * (np.arange(half + 1) / deviation) ** 2)
    weights /= weights[0] + 2.0 * weights[1:].sum()
    size = values.shape[1] - 2 * half
    result = values[:, half : half + size] * float(weights[0])
    pair = torch.empty_like(result)
    for k in range(1, half + 1):
        torch.add(values[:, half - k : half - k + size], values[:, half + k : half + k + size], out=pair)
        result += pair.mul_(float(weights[k]))
    return result


def running_median(values: Tensor) -> Tensor:
    """Median of each 21 successive pixels along rows; 20 pixels shorter than ``values`` (spectrum, pixel).

    Windows that overlap share their sorted parts: triples merge into sixes, these into nines and twelves (Batcher's
    odd-even merge, a few vectorised minima and maxima each), and the median of 21 is read off a nine beside a twelve.
    """
    total = values.shape[1]
    size = total - _MEDIAN + 1

    def at(sorted_lists: list[Tensor], offset: int, length: int) -> list[Tensor]:
        return [part[:, offset : offset + length] for part in sorted_lists]

    pairs = _merge([values[:, :-1]], [values[:, 1:]])
    triples = _merge(at(pairs, 0, total - 2), [values[:, 2:]])
    sixes = _merge(at(triples, 0, total - 5), at(triples, 3, total - 5))
    nines = at(_merge(at(sixes, 0, total - 8), at(triples, 6, total - 8)), 12, size)
    twelves = at(_merge(at(sixes, 0, total - 11), at(sixes, 6, total - 11)), 0, size)
    # The 11th smallest of both is the least, over i + j = 11, of the greater of the i-th of one and j-th of the other.
    median = twelves[10].clone()
    for i in range(2, 11):
        torch.minimum(median, torch.maximum(twelves[i - 1], nines[10 - i]), out=median)
    return median


def _merge(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """Merge two elementwise sorted lists into one (Batcher 1968; Knuth, TAOCP 3, 5.3.4)."""
    if not first or not second:
        return first or second
    if len(first) == len(second) == 1:
        return [torch.minimum(first[0], second[0]), torch.maximum(first[0], second[0])]
    odd = _merge(first[0::2], second[0::2])
    even = _merge(first[1::2], second[1::2])
    merged = [odd[0]]
    for i in range(max(len(even), len(odd) - 1)):
        if i < len(even) and i + 1 < len(odd):
            merged += [torch.minimum(even[i], odd[i + 1]), torch.maximum(even[i], odd[i + 1])]
        else:
            merged.append(even[i] if i < len(even) else odd[i + 1])
    return merged
