"""What real surveys hold and Table 1 of Zhang et al. (2022) lacks; each is off by default and recorded in the store.

Three are populations of their own (cool giants, blends on one line of sight, field stars as a survey observes them),
two change the spectra of any pair (H-alpha filled with emission; what cosmic rays and bad columns leave behind). This
module knows spectra on an arm's grid; it must never know how they are stored.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.models import noise
from twinlines.models.vocabulary import SynthesisStream
from twinlines.pipeline.arms import BLUE, RED, SPEED_OF_LIGHT, Arm, doppler_factor
from twinlines.pipeline.synthesis.population import Companion, Priors, Source
from twinlines.pipeline.synthesis.priors import NAMED, LogUniform, Normal, Prior, Uniform, describe

H_ALPHA = 6564.61
"""Vacuum wavelength of H-alpha, Angstrom (NIST)."""

TABLE1, COOL_GIANT, BLEND, FIELD = range(4)
"""Numbers of the populations: places in :data:`twinlines.pipeline.schema.POPULATIONS`."""

_DEFECTS = {BLUE.name: SynthesisStream.DEFECTS_BLUE, RED.name: SynthesisStream.DEFECTS_RED}
_PSEUDO_CONTINUUM = 40.0  # Angstrom about H-alpha whose 90th percentile stands for the continuum


class ExtrasError(ValueError):
    """Extra populations cannot be mixed as asked."""


def _fraction(where: str, fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise ExtrasError(f"{where}: fraction is {fraction!r}; give a number from 0 to 1")


@dataclass(frozen=True)
class CoolGiants:
    """Giants alone, down to the library's edge, in both places of a pair: neither spectrum is a binary's.

    Table 1's primaries include giants, but the pair is dropped when its secondary is too cool for the library.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    mass1: Prior = Uniform(0.8, 2.0)
    """Initial mass, solar masses."""
    eep1: Prior = NAMED["red_giant_branch"]
    """Equivalent evolutionary point."""
    vsini1: Prior = NAMED["giant_vsini"]
    """Projected rotational velocity, km/s."""

    def __post_init__(self) -> None:
        _fraction("cool_giants", self.fraction)


@dataclass(frozen=True)
class Blends:
    """Two stars of different age, composition and distance on one line of sight."""

    fraction: float = 0.0
    """Fraction of the pairs."""
    double_lined: bool = True
    """Whether a blend has the label of a binary: its spectrum shows two stars, and nothing in it says that they are
    not bound."""
    separation: Prior = Normal(0.0, 70.0)
    """Difference of the two velocities, km/s."""
    magnitude_difference: Prior = Uniform(0.0, 3.0)
    """By how much the second star appears fainter, bolometric magnitudes."""

    def __post_init__(self) -> None:
        _fraction("blends", self.fraction)


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
        _fraction("activity", self.fraction)


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
        _fraction("defects", self.fraction)
        _fraction("defects.bad_columns", self.bad_columns)
        for name in ("repaired_blue", "repaired_red", "spikes"):
            if not 0.0 <= getattr(self, name) <= 100.0:
                raise ExtrasError(f"defects: {name} is {getattr(self, name)!r}; give a number from 0 to 100")


@dataclass(frozen=True)
class Field:
    """Field stars as a survey observes them, where Table 1 has mostly fast rotators at the primary's true velocity.

    Each spectrum of such a pair is brought to rest by the velocity that cross-correlation measures on it: that of one
    star or of both together, as it may be. Its noise is the detector's pixels', interpolated to the grid as observed
    spectra are, so that neighbours are correlated. The priors are ours, fitted to no survey.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    vsini1: Prior = NAMED["survey_vsini"]
    """Projected rotational velocity of the primary, km/s."""
    vsini2: Prior = NAMED["survey_vsini"]
    """Projected rotational velocity of the secondary, km/s."""
    separation: Prior = Normal(0.0, 120.0)
    """Velocity separation, km/s."""
    mass_ratio: Prior = Uniform(0.4, 1.0)
    """Mass of the secondary over the primary's: below, no secondary shows."""
    snr: Prior = LogUniform(5.0, 150.0)
    """Signal-to-noise ratio per pixel."""

    def __post_init__(self) -> None:
        _fraction("field", self.fraction)


@dataclass(frozen=True)
class Extras:
    """The five extras together."""

    cool_giants: CoolGiants = dataclasses.field(default_factory=CoolGiants)
    """Giants alone."""
    blends: Blends = dataclasses.field(default_factory=Blends)
    """Unrelated stars on one line of sight."""
    activity: Activity = dataclasses.field(default_factory=Activity)
    """H-alpha in emission."""
    defects: Defects = dataclasses.field(default_factory=Defects)
    """Repaired and bad pixels."""
    field: Field = dataclasses.field(default_factory=Field)
    """Stars as a survey observes them."""

    def __post_init__(self) -> None:
        total = self.cool_giants.fraction + self.blends.fraction + self.field.fraction
        if total >= 1.0:
            raise ExtrasError(
                f"cool_giants, blends and field together are {total:g} of the pairs; leave some to Table 1, below 1"
            )

    def describe(self) -> dict[str, Any]:
        """Form in a configuration file, as JSON."""
        return {
            extra.name: {
                item.name: value if isinstance(value, int | float) else describe(value)
                for item in fields(getattr(self, extra.name))
                for value in [getattr(getattr(self, extra.name), item.name)]
            }
            for extra in fields(self)
        }

    def sources(self, seed: int, priors: Priors, condition: tuple[str, ...]) -> dict[int, Source]:
        """The populations that take part, by number; their free parameters are ``priors`` but for their own."""
        sources = {TABLE1: Source(seed, TABLE1, priors, condition=condition)}
        if self.cool_giants.fraction:
            own = {name: getattr(self.cool_giants, name) for name in ("mass1", "eep1", "vsini1")}
            alone = Companion.NONE
            sources[COOL_GIANT] = Source(seed, COOL_GIANT, replace(priors, **own), alone, condition=condition)
        if self.blends.fraction:
            apart = replace(priors, separation=self.blends.separation)
            difference = self.blends.magnitude_difference
            sources[BLEND] = Source(seed, BLEND, apart, Companion.UNRELATED, difference, condition)
        if self.field.fraction:
            own = {name: getattr(self.field, name) for name in ("vsini1", "vsini2", "separation", "mass_ratio", "snr")}
            sources[FIELD] = Source(seed, FIELD, replace(priors, **own), condition=condition)
        return sources

    def assign(self, pairs: int) -> NDArray[np.int8]:
        """Population of each pair: the first ``pairs`` of a sequence in which each has its fraction, evenly spread.

        The sequence is the golden ratio's multiples, modulo 1: any stretch of it is as even as can be.
        """
        place = (np.arange(1, pairs + 1) * ((np.sqrt(5.0) - 1.0) / 2.0)) % 1.0
        population = np.full(pairs, TABLE1, dtype=np.int8)
        begin = 0.0
        for code, extra in ((COOL_GIANT, self.cool_giants), (BLEND, self.blends), (FIELD, self.field)):
            end = begin + extra.fraction
            population[(begin <= place) & (place < end)] = code
            begin = end
        return population

    def labels(self, population: NDArray[np.int8]) -> NDArray[np.int8]:
        """Labels of the two spectra of each pair, shape (pair, 2): 1 where two stars are to be seen."""
        double = np.where(population == BLEND, self.blends.double_lined, population != COOL_GIANT)
        return np.stack([np.zeros_like(population), double.astype(np.int8)], axis=1)

    def emission(self, serial: NDArray[np.int64], seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Height (in units of the continuum; 0 where there is none) and width (km/s) of each pair's emission."""
        height, width = np.zeros((2, len(serial)), dtype=np.float32)
        if self.activity.fraction:
            uniform = np.stack(
                [_generator(number, 0, SynthesisStream.ACTIVITY, seed).random(3) for number in serial.tolist()]
            )
            active = uniform[:, 0] < self.activity.fraction
            height[active] = self.activity.height.quantile(uniform[active, 1])
            width[active] = self.activity.width.quantile(uniform[active, 2])
        return height, width


def fill_h_alpha(
    flux: NDArray[np.float32],
    velocity: NDArray[np.float64],
    height: NDArray[np.float32],
    width: NDArray[np.float32],
) -> None:
    """Add emission in H-alpha to spectra on the red arm's grid, in place.

    Parameters
    ----------
    flux
        (star, pixel) flux of single stars, any unit.
    velocity
        (star,) radial velocity, km/s.
    height, width
        (star,) as from :meth:`Extras.emission`.
    """
    wavelength = RED.wavelength
    beside = np.abs(wavelength - H_ALPHA) < _PSEUDO_CONTINUUM
    for row in np.flatnonzero(height):
        offset = wavelength / (H_ALPHA * doppler_factor(float(velocity[row]))) - 1.0
        level = np.percentile(flux[row, beside], 90.0)
        profile = np.exp(-0.5 * (offset * SPEED_OF_LIGHT / width[row]) ** 2)
        flux[row] += (height[row] * level * profile).astype(np.float32)


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
    for row, (serial, kind) in enumerate(keys.tolist()):
        if _generator(serial, 0, SynthesisStream.DEFECTIVE, seed).random() < defects.fraction:
            generator = _generator(serial, 1 + kind, _DEFECTS[arm.name], seed)
            touched = _spoil_one(flux[row], sigma[row], generator, defects, runs)
            changed[row] = np.count_nonzero(touched)
    return changed


def _spoil_one(
    flux: NDArray[np.float32],
    sigma: NDArray[np.float32],
    generator: np.random.Generator,
    defects: Defects,
    runs: float,
) -> NDArray[np.bool_]:
    pixels = flux.size
    touched = np.zeros(pixels, dtype=bool)
    if generator.random() < defects.bad_columns:
        length = int(generator.integers(1, 9))
        start = int(generator.integers(0, pixels - length))
        flux[start : start + length] *= np.float32(1.0 + 0.1 * generator.standard_normal())
        touched[start : start + length] = True
    for place in generator.integers(0, pixels, generator.poisson(defects.spikes)):
        flux[place] += np.float32(generator.uniform(4.0, 7.0)) * sigma[place]
        touched[place] = True
    for _ in range(generator.poisson(runs)):
        length = int(generator.integers(4, 12))
        start = int(generator.integers(1, pixels - length - 1))
        inside = np.arange(start, start + length)
        ends = [start - 1, start + length]
        flux[inside] = np.interp(inside, ends, flux[ends])
        touched[inside] = True
    return touched


def _generator(serial: int, draw: int, purpose: int, seed: int) -> np.random.Generator:
    return np.random.Generator(noise.stream(serial, 0, purpose, draw, seed))
