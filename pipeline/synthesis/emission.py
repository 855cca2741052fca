"""Lines in emission that no library has: active and accreting stars, nebulae, and what the sky leaves.

All of them are Gaussians in the red arm, about H-alpha, on the noise-free light; accretion also veils the star in both
arms. Knows spectra on an arm's grid, no library and no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.models.vocabulary import SynthesisStream
from twinlines.pipeline.arms import RED, STEP_DEX, STEP_KMS, doppler_factor
from twinlines.pipeline.spectra.lines import H_ALPHA
from twinlines.pipeline.synthesis.extra import require_fraction, uniform
from twinlines.pipeline.synthesis.instrument import PROFILE
from twinlines.pipeline.synthesis.priors import Constant, LogUniform, Normal, Prior, Uniform

NEBULAR = (H_ALPHA, 6549.86, 6585.27, 6718.29, 6732.67)
"""Vacuum wavelengths of a nebula's lines, Angstrom: H-alpha, [N II] twice, [S II] twice."""

SKY_LINES = (6365.536, 6500.54, 6534.85, 6555.44, 6578.9, 6606.0)
"""Vacuum wavelengths of lines of the night sky, Angstrom: [O I], then OH."""

_RATIOS = np.array([1.0, 0.1, 0.3, 0.15, 0.12])  # of a nebula's lines to its H-alpha
_BESIDE = 348  # grid pixels on either side of H-alpha, 40 Angstrom, whose 90th percentile stands for the continuum
_REACH = 6.0  # standard deviations beyond which a line is left out: 1.5e-8 of its height

Array = NDArray[np.float64]


class Lines(NamedTuple):
    """Lines of some spectra, all of a spectrum at one velocity."""

    velocity: Array
    """(spectrum,) velocity, km/s, over that of the star or, of the sky, over the grid's."""
    height: Array
    """(spectrum, line) height in units of the continuum beside H-alpha; 0 where there is none."""
    width: Array
    """(spectrum,) standard deviation, km/s."""


@dataclass(frozen=True)
class Activity:
    """Primaries whose H-alpha is filled by emission, in both spectra of a pair."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    height: Prior = Uniform(0.1, 1.0)
    """Height of the emission, in units of the continuum beside the line."""
    width: Prior = Uniform(20.0, 80.0)
    """Standard deviation of the emission, km/s."""

    def __post_init__(self) -> None:
        require_fraction("activity", self.fraction)

    def lines(self, serial: NDArray[np.int64], seed: int) -> Lines:
        """Each pair's emission."""
        random = uniform(serial, SynthesisStream.ACTIVITY, seed, 3)
        height = np.where(random[:, 0] < self.fraction, self.height.quantile(random[:, 1]), 0.0)
        return Lines(np.zeros(len(serial)), height[:, None], self.width.quantile(random[:, 2]))


@dataclass(frozen=True)
class Accretion:
    """Primaries with broad H-alpha in emission and a veiled spectrum, as T Tauri stars, in both spectra of a pair."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    height: Prior = LogUniform(0.5, 10.0)
    """Height of the emission, in units of the continuum beside the line."""
    width: Prior = Uniform(50.0, 200.0)
    """Standard deviation of the emission, km/s."""
    offset: Prior = Normal(0.0, 40.0)
    """Velocity of the emission over the star's, km/s."""
    veiling: Prior = Uniform(0.0, 1.0)
    """Featureless light in the red arm, in units of the star's continuum."""
    blueness: Prior = Uniform(1.0, 1.5)
    """Veiling of the blue arm over the red's."""

    def __post_init__(self) -> None:
        require_fraction("accretion", self.fraction)

    def lines(self, serial: NDArray[np.int64], seed: int) -> Lines:
        """Each pair's emission."""
        random = uniform(serial, SynthesisStream.ACCRETION, seed, 4)
        height = np.where(random[:, 0] < self.fraction, self.height.quantile(random[:, 1]), 0.0)
        return Lines(self.offset.quantile(random[:, 3]), height[:, None], self.width.quantile(random[:, 2]))

    def veil(self, arm: str, serial: NDArray[np.int64], seed: int) -> Array:
        """Featureless light of each pair's primary in arm "B" or "R", in units of the star's continuum, (pair,)."""
        random = uniform(serial, SynthesisStream.ACCRETION, seed, 6)
        veil = np.where(random[:, 0] < self.fraction, self.veiling.quantile(random[:, 4]), 0.0)
        return veil * self.blueness.quantile(random[:, 5]) if arm == "B" else veil


@dataclass(frozen=True)
class Nebula:
    """Narrow lines of a nebula on the line of sight, in the red arm of both spectra of a pair."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    height: Prior = LogUniform(0.1, 3.0)
    """Height of H-alpha, in units of the continuum beside it."""
    velocity: Prior = Normal(0.0, 30.0)
    """Velocity of the nebula over the primary's, km/s."""
    width: Prior = Constant(25.0)
    """Standard deviation beyond the instrument's, km/s."""
    strength: Prior = LogUniform(0.5, 2.0)
    """Factor by which [N II], and another by which [S II], differs from 0.1 and 0.3, and 0.15 and 0.12 of H-alpha."""

    def __post_init__(self) -> None:
        require_fraction("nebula", self.fraction)

    def lines(self, serial: NDArray[np.int64], seed: int) -> Lines:
        """Lines of each pair's nebula, in the order of :data:`NEBULAR`."""
        random = uniform(serial, SynthesisStream.NEBULA, seed, 6)
        height = np.where(random[:, 0] < self.fraction, self.height.quantile(random[:, 2]), 0.0)
        factor = np.ones((len(serial), len(NEBULAR)))
        factor[:, 1:3] = self.strength.quantile(random[:, 4:5])
        factor[:, 3:5] = self.strength.quantile(random[:, 5:6])
        width = np.hypot(PROFILE, self.width.quantile(random[:, 3]))
        return Lines(self.velocity.quantile(random[:, 1]), height[:, None] * _RATIOS * factor, width)


@dataclass(frozen=True)
class Sky:
    """What subtraction leaves of the night sky's lines in the red arm, of either sign, in each spectrum its own."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    amplitude: Prior = LogUniform(0.05, 0.5)
    """Height or depth of each line, in units of the continuum beside H-alpha."""
    velocity: Prior = Uniform(-30.0, 30.0)
    """Barycentric correction: velocity of the sky in the frame of the drawn velocities, km/s."""

    def __post_init__(self) -> None:
        require_fraction("sky", self.fraction)

    def lines(self, serial: NDArray[np.int64], seed: int) -> Lines:
        """Lines of both spectra of each pair in turn, (2 pair,), in the order of :data:`SKY_LINES`."""
        each = 1 + 2 * len(SKY_LINES)
        random = uniform(serial, SynthesisStream.SKY, seed, 1 + 2 * each)
        mine = random[:, 1:].reshape(-1, each)
        amplitude = self.amplitude.quantile(mine[:, 1 : 1 + len(SKY_LINES)])
        sign = np.where(mine[:, 1 + len(SKY_LINES) :] < 0.5, -1.0, 1.0)
        there = np.repeat(random[:, 0] < self.fraction, 2)[:, None]
        height = np.where(there, sign * amplitude, 0.0)
        return Lines(self.velocity.quantile(mine[:, 0]), height, np.full(len(mine), PROFILE))


def add_lines(flux: NDArray[np.float32], rest: tuple[float, ...], lines: Lines) -> None:
    """Add lines to spectra on the red arm's grid, in place.

    Parameters
    ----------
    flux
        (spectrum, pixel) flux, any unit.
    rest
        Vacuum wavelengths of the lines at rest, Angstrom.
    lines
        What to add; its velocities are those seen on the grid.
    """
    at_rest = np.log10(np.array(rest) / RED.start) / STEP_DEX
    moved = np.log10(doppler_factor(lines.velocity)) / STEP_DEX
    h_alpha = np.log10(H_ALPHA / RED.start) / STEP_DEX
    for row in np.flatnonzero(lines.height.any(axis=1)):
        spectrum, width = flux[row], float(lines.width[row]) / STEP_KMS
        middle = int(h_alpha + moved[row])
        beside = spectrum[max(middle - _BESIDE, 0) : middle + _BESIDE]
        place = int(0.9 * len(beside))
        level = float(np.partition(beside, place)[place])
        for centre, height in zip(at_rest + moved[row], lines.height[row], strict=True):
            start, stop = max(int(centre - _REACH * width), 0), int(centre + _REACH * width) + 1
            pixel = np.arange(start, min(stop, spectrum.size))
            profile = np.exp(-0.5 * ((pixel - centre) / width) ** 2)
            spectrum[pixel] += (height * level * profile).astype(np.float32)
