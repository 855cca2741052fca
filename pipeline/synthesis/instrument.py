"""What an instrument does to spectra beyond its stated profile: resolving power, wavelength scale, defects.

Knows spectra on an arm's grid, no star, no library and no store.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.vocabulary import SynthesisStream
from twinlines.pipeline.arms import BLUE, RED, SPEED_OF_LIGHT, STEP_KMS, Arm, pixel_shift
from twinlines.pipeline.synthesis.extra import ExtrasError, chosen, generator, require_fraction, uniform
from twinlines.pipeline.synthesis.priors import Prior, Uniform

RESOLVING_POWER = 7500.0
"""Resolving power of the library's spectra, and of the survey's as stated."""

PROFILE = SPEED_OF_LIGHT / RESOLVING_POWER / float(np.sqrt(8.0 * np.log(2.0)))
"""Standard deviation of the instrument's profile, km/s."""

_PLACES: dict[str, int] = {BLUE.name: 0, RED.name: 1}
_DEFECTS = {BLUE.name: SynthesisStream.DEFECTS_BLUE, RED.name: SynthesisStream.DEFECTS_RED}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resolution:
    """A resolving power other than 7500, in each arm its own, of both spectra of a pair."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    factor: Prior = Uniform(0.85, 1.15)
    """Resolving power over the library's. Above 1 spectra are sharpened, as far as
    :data:`twinlines.pipeline.spectra.broadening.LARGEST_GAIN` lets them."""

    def __post_init__(self) -> None:
        require_fraction("resolution", self.fraction)

    def broadening(self, arm: str, serial: NDArray[np.int64], seed: int) -> Array:
        """Standard deviation of the Gaussian to convolve with, km/s, (pair,); below 0: to divide by."""
        random = uniform(serial, SynthesisStream.RESOLUTION, seed, 3)
        factor = self.factor.quantile(random[:, 1 + _PLACES[arm]])
        if (factor <= 0.0).any():
            raise ExtrasError(f"resolution: factor {factor.min():g} was drawn; give a prior above 0")
        variance = PROFILE**2 * (factor**-2 - 1.0)
        return np.where(random[:, 0] < self.fraction, np.sign(variance) * np.sqrt(np.abs(variance)), 0.0)


@dataclass(frozen=True)
class Stretch:
    """A wavelength scale that errs linearly over the arm, in each spectrum by its own amount."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    amplitude: Prior = Uniform(-6.0, 6.0)
    """Error at the red end, and its negative at the blue end, km/s."""

    def __post_init__(self) -> None:
        require_fraction("stretch", self.fraction)

    def amplitudes(self, arm: str, serial: NDArray[np.int64], seed: int) -> Array:
        """Error at the red end of both spectra of each pair in turn, km/s, (2 pair,)."""
        random = uniform(serial, SynthesisStream.STRETCH, seed, 5)
        amplitude = self.amplitude.quantile(random[:, 1:].reshape(-1, 2, 2)[:, :, _PLACES[arm]])
        return np.where(random[:, :1] < self.fraction, amplitude, 0.0).ravel()


def stretch(light: Tensor, amplitude: Array, frame: Array) -> None:
    """Misplace the light on its wavelength scale, in place.

    Parameters
    ----------
    light
        (spectrum, pixel) light without noise, on an arm's grid.
    amplitude
        (spectrum,) from :meth:`Stretch.amplitudes`.
    frame
        (spectrum,) velocity at which each spectrum is at rest, km/s: the scale errs by the detector's wavelengths, not
        by the star's.
    """
    rows = np.flatnonzero(amplitude)
    if not rows.size:
        return
    pixels = light.shape[1]
    pixel = np.arange(pixels)
    middle = 0.5 * (pixels - 1)
    error = (pixel + pixel_shift(frame[rows])[:, None] - middle) / middle * (amplitude[rows] / STEP_KMS)[:, None]
    place = np.clip(pixel - error, 0.0, pixels - 1.0)
    below = np.clip(place.astype(np.int64), 1, pixels - 3)
    f, index = torch.from_numpy((place - below).astype(np.float32)), torch.from_numpy(below)
    chosen_rows = torch.from_numpy(rows)
    old = light[chosen_rows]
    # Lagrange's cubic through the four pixels around: lines are seven pixels wide, and there is no noise.
    near = (f + 1.0) * (f - 1.0) * (f - 2.0) / 2.0, (f + 1.0) * f * (f - 2.0) / -2.0
    far = f * (f - 1.0) * (f - 2.0) / -6.0, (f + 1.0) * f * (f - 1.0) / 6.0
    new = old.gather(1, index) * near[0] + old.gather(1, index + 1) * near[1]
    new += old.gather(1, index - 1) * far[0] + old.gather(1, index + 2) * far[1]
    light[chosen_rows] = new


@dataclass(frozen=True)
class Defects:
    """What the detector leaves in real spectra after despiking.

    The defaults are rates in 32 real arms with S/N > 5 (``benchmarks/defects.py``): 1.4 (blue) and 3.5 (red) repaired
    runs of 4 to 11 pixels on the grid, a block of up to 8 pixels of bad columns in half of them, which
    preprocessing counts but leaves as they are; and seldom a spike of one pixel that despiking cannot tell from a line.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    repaired_blue: float = 1.4
    """Mean number of repaired runs in a blue spectrum."""
    repaired_red: float = 3.5
    """Mean number of repaired runs in a red spectrum."""
    bad_columns: float = 0.5
    """Probability of a block of bad columns."""
    spikes: float = 0.3
    """Mean number of surviving spikes, of 4 to 7 standard deviations."""

    def __post_init__(self) -> None:
        require_fraction("defects", self.fraction)
        require_fraction("defects.bad_columns", self.bad_columns)
        for name in ("repaired_blue", "repaired_red", "spikes"):
            if not 0.0 <= getattr(self, name) <= 100.0:
                raise ExtrasError(f"defects: {name} is {getattr(self, name)!r}; give a number from 0 to 100")


def spoil(
    arm: Arm,
    defects: Defects,
    flux: NDArray[np.float32],
    sigma: NDArray[np.float32],
    keys: NDArray[np.int64],
    seed: int,
) -> NDArray[np.int16]:
    """Put defects into noisy spectra, in place, and return how many pixels of each were changed, shape (spectrum,).

    Parameters
    ----------
    arm
        Whose grid the spectra are on.
    defects
        What to put in. All spectra of a draw have defects, or none has; which they are differs.
    flux, sigma
        (spectrum, pixel) noisy flux, and standard deviation of its noise in the same unit.
    keys
        (spectrum, 2) serial number of the draw, and kind of spectrum.
    seed
        Seed of the training set.
    """
    changed = np.zeros(len(flux), dtype=np.int16)
    if not defects.fraction:
        return changed
    runs = {BLUE.name: defects.repaired_blue, RED.name: defects.repaired_red}[arm.name]
    for row in np.flatnonzero(chosen(keys[:, 0], SynthesisStream.DEFECTIVE, seed, defects.fraction)):
        serial, kind = keys[row].tolist()
        random = generator(serial, 1 + kind, _DEFECTS[arm.name], seed)
        changed[row] = np.count_nonzero(_spoil_one(flux[row], sigma[row], random, defects, runs))
    return changed


def _spoil_one(
    flux: NDArray[np.float32],
    sigma: NDArray[np.float32],
    random: np.random.Generator,
    defects: Defects,
    runs: float,
) -> NDArray[np.bool_]:
    pixels = flux.size
    touched = np.zeros(pixels, dtype=bool)
    if random.random() < defects.bad_columns:
        length = int(random.integers(1, 9))
        start = int(random.integers(0, pixels - length))
        flux[start : start + length] *= np.float32(1.0 + 0.1 * random.standard_normal())
        touched[start : start + length] = True
    for place in random.integers(0, pixels, random.poisson(defects.spikes)):
        flux[place] += np.float32(random.uniform(4.0, 7.0)) * sigma[place]
        touched[place] = True
    for _ in range(random.poisson(runs)):
        length = int(random.integers(4, 12))
        start = int(random.integers(1, pixels - length - 1))
        inside = np.arange(start, start + length)
        ends = [start - 1, start + length]
        flux[inside] = np.interp(inside, ends, flux[ends])
        touched[inside] = True
    return touched
