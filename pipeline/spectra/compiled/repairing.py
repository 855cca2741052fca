"""Interpolation over flagged pixels."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from twinlines.pipeline.spectra.compiled.compiling import kernel, routine

Array = NDArray[Any]


@routine
def fill(wavelength: Array, flux: Array, flagged: Array) -> None:
    """Interpolate in place over one spectrum's flagged pixels; constant beyond the last good ones."""
    pixels = flux.size
    first = 0
    while first < pixels:
        if not flagged[first]:
            first += 1
            continue
        after = first
        while after < pixels and flagged[after]:
            after += 1
        left, right = first - 1, after
        if left < 0:
            left = min(after, pixels - 1)
        if right >= pixels:
            right = left
        low, high = wavelength[left], wavelength[right]
        start = flux[left]
        change = flux[right] - start
        for pixel in range(first, after):
            fraction = (wavelength[pixel] - low) / (high - low) if high > low else 0.0
            flux[pixel] = start + change * flux.dtype.type(fraction)
        first = after


@kernel
def fill_rows(wavelength: Array, flux: Array, flagged: Array) -> None:
    """The same for rows, (spectrum, pixel) each."""
    for row in range(flux.shape[0]):
        fill(wavelength[row], flux[row], flagged[row])
