"""Light of mock stars becomes counts on the detector's own pixels: sampling, throughput, noise, and what goes wrong.

The numbers in this module (pixel scales, shape of the throughput, gain, read noise, wild pixels) were read off real
LAMOST MRS exposures of DR7. Knows no orbit, no file and no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import (
    ARM_NAMES,
    ARMS,
    NATIVE_PIXELS,
    STEP_DEX,
    Arm,
    ArmName,
    doppler_factor,
    native_wavelength,
)

Array = NDArray[np.float64]

SNR_PER_MEDIAN = 0.94
"""Header S/N over the median of flux / sigma of the pixels."""

BAD_COLUMN, NO_SKY = 1, 4
"""Bits of the pixel mask: a bad detector column; a wavelength where the sky could not be subtracted."""

_MIRROR = 120  # library pixels of each end that are not used: the Doppler shift has moved the end into them

_SHAPES: dict[ArmName, tuple[tuple[float, float], tuple[float, float]]] = {
    # first wavelength: from, to; loss of the blaze at the ends: from, to
    "B": ((4894.0, 4908.0), (0.50, 0.60)),
    "R": ((6269.0, 6278.0), (0.30, 0.45)),
}


@dataclass(frozen=True)
class Detector:
    """One arm of one spectrograph."""

    wavelength: Array
    """Vacuum wavelength of each pixel at the detector, ascending, Angstrom, shape (4136,)."""
    throughput: Array
    """Relative throughput of each pixel (the blaze), shape (4136,)."""
    bad: NDArray[np.int64]
    """Pixels of bad columns."""
    gain: float
    """Variance of a count over the count, adu."""
    read_noise: float
    """Noise of a pixel without light (sky and read-out), adu."""


def detector(name: ArmName, spid: int, seed: int) -> Detector:
    """Make the arm ``name`` of spectrograph ``spid``; the same for the same seed."""
    rng = np.random.default_rng([seed, 1, spid, ARM_NAMES.index(name)])
    starts, depths = _SHAPES[name]
    x = np.linspace(0.0, 1.0, NATIVE_PIXELS)
    scale = rng.uniform(0.993, 1.005)
    wavelength = native_wavelength(name, rng.uniform(*starts), scale)
    throughput = 1.0 - rng.uniform(*depths) * (2.0 * x - 1.0 - rng.uniform(-0.15, 0.05)) ** 2
    columns = rng.integers(100, NATIVE_PIXELS - 100, rng.integers(0, 3))
    bad = np.unique([column + i for column in columns for i in range(rng.integers(1, 8))]).astype(np.int64)
    gain, read_noise = rng.uniform(1.1, 1.4), rng.uniform(24.0, 36.0)
    return Detector(wavelength, throughput, bad, float(gain), float(read_noise))


def sample(arm: Arm, flux: NDArray[np.float32], wavelength: Array) -> Array:
    """Sample spectra on the library grid of an arm at other wavelengths, by cubic convolution (Keys 1981).

    The detector reaches 10 to 30 Angstrom beyond the library. There the spectrum is mirrored about the library's end:
    lines are as crowded and as deep as a star's, but they are no star's. The arm's own grid is never touched by it.

    Parameters
    ----------
    arm
        The arm.
    flux
        (spectrum, library_pixels).
    wavelength
        (spectrum, pixel), Angstrom.

    Returns
    -------
    array, shape (spectrum, pixel)
    """
    place = (np.log10(wavelength) - np.log10(arm.start)) / STEP_DEX + arm.library_margin
    low, high = float(_MIRROR), float(arm.library_pixels - 1 - _MIRROR)
    place = low + np.abs(place - low)
    place = high - np.abs(high - place)
    below = np.floor(place).astype(np.int64)
    t = place - below
    weights = (
        ((2.0 - t) * t - 1.0) * t / 2.0,
        ((3.0 * t - 5.0) * t * t + 2.0) / 2.0,
        ((4.0 - 3.0 * t) * t + 1.0) * t / 2.0,
        (t - 1.0) * t * t / 2.0,
    )
    result = np.zeros(place.shape, dtype=np.float64)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        result += weight * np.take_along_axis(flux, below + offset, axis=1)
    return result


@dataclass(frozen=True)
class Frames:
    """Exposures of one arm, pixels in ascending wavelength."""

    flux: NDArray[np.float32]
    """Counts, adu, shape (exposure, 4136)."""
    ivar: NDArray[np.float32]
    """Inverse variance of the counts, adu-2."""
    loglam: NDArray[np.float32]
    """log10 of the vacuum wavelength in Angstrom, corrected to the solar system's barycentre."""
    mask: NDArray[np.uint8]
    """Bits of the pixel mask."""
    snr: Array
    """Header S/N, shape (exposure,)."""
    cosmic_rays: NDArray[np.int64]
    """Number of cosmic rays that hit, shape (exposure,)."""


def expose(
    name: ArmName,
    detectors: dict[int, Detector],
    spid: NDArray[np.int64],
    light: NDArray[np.float32],
    correction: Array,
    snr: Array,
    cosmic_rays: float,
    rng: np.random.Generator,
) -> Frames:
    """Expose the detector to the light of stars.

    Parameters
    ----------
    name
        The arm.
    detectors
        The arm's detectors by spectrograph.
    spid
        Spectrograph of each exposure.
    light
        Light as observed at the solar system's barycentre, on the arm's library grid, in any unit, shape (exposure,
        library_pixels).
    correction
        Velocity, km/s, that is added to measured velocities to make them barycentric (astropy's sign).
    snr
        Wanted header S/N; at zero or below, the exposure is ruined and holds only noise.
    cosmic_rays
        Mean number of cosmic rays in an exposure.
    rng
        Source of randomness.
    """
    hardware = [detectors[number] for number in spid.tolist()]
    wavelength = np.stack([item.wavelength for item in hardware]) * doppler_factor(correction)[:, None]
    gain = np.array([item.gain for item in hardware])[:, None]
    dark = np.array([item.read_noise for item in hardware])[:, None] ** 2
    relative = sample(ARMS[name], light, wavelength) * np.stack([item.throughput for item in hardware])
    relative /= np.median(relative, axis=1, keepdims=True)

    # S = m / sqrt(gain m + dark) at the median pixel, solved for its counts m.
    wanted = np.maximum(snr, 0.0)[:, None] / SNR_PER_MEDIAN
    level = (gain * wanted**2 + np.sqrt((gain * wanted**2) ** 2 + 4.0 * dark * wanted**2)) / 2.0
    counts = level * relative
    hits = _hit(counts, np.where(snr > 0.0, cosmic_rays, 0.0), rng)
    variance = gain * counts + dark
    ruined = (snr <= 0.0)[:, None]
    variance = np.where(ruined, 3.0 * dark, variance)
    flux = counts + np.sqrt(variance) * rng.standard_normal(counts.shape)
    flux += ruined * np.sqrt(variance) * rng.uniform(-0.3, 0.5, (len(snr), 1))  # a wrong sky level

    mask = np.zeros(flux.shape, dtype=np.uint8)
    for row, item in enumerate(hardware):
        mask[row, item.bad] |= BAD_COLUMN
        flux[row, item.bad] *= 1.0 + 0.1 * np.sin(item.bad)
    if name == "B":
        _spoil_beginning(flux, mask, np.maximum(level[:, 0], 100.0), rng)
    header = np.maximum(SNR_PER_MEDIAN * np.median(flux / np.sqrt(variance), axis=1), 0.0)
    return Frames(
        flux=flux.astype(np.float32),
        ivar=(1.0 / variance).astype(np.float32),
        loglam=np.log10(wavelength).astype(np.float32),
        mask=mask,
        snr=np.asarray(np.round(header, 2), dtype=np.float64),
        cosmic_rays=hits,
    )


def _hit(counts: Array, mean: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Add cosmic rays to ``counts`` in place: 1 to 3 pixels, 5 to 100 times the counts there; return their numbers."""
    hits = rng.poisson(mean)
    rows = np.repeat(np.arange(len(counts)), hits)
    columns = rng.integers(0, NATIVE_PIXELS - 2, rows.size)
    height = counts[rows, columns] * np.exp(rng.uniform(np.log(5.0), np.log(100.0), rows.size))
    width = rng.integers(1, 4, rows.size)
    for offset in range(3):
        share = np.ones(rows.size) if offset == 0 else rng.uniform(0.2, 0.9, rows.size)
        np.add.at(counts, (rows, columns + offset), np.where(offset < width, share * height, 0.0))
    return hits


def _spoil_beginning(flux: Array, mask: NDArray[np.uint8], level: Array, rng: np.random.Generator) -> None:
    """Let the first pixels of half of the blue exposures run wild, as where sky subtraction fails; half are flagged."""
    for row in np.flatnonzero(rng.uniform(size=len(flux)) < 0.5):
        pixels = int(rng.integers(7, 40))
        height = rng.choice([-1.0, 1.0]) * np.exp(rng.uniform(np.log(20.0), np.log(3000.0))) * level[row]
        flux[row, :pixels] += height * (1.0 - np.arange(pixels) / pixels) ** 3
        if rng.uniform() < 0.5:
            mask[row, :25] |= NO_SKY
