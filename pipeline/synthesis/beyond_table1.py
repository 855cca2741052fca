"""What real surveys hold and Table 1 of Zhang et al. (2022) lacks; each is off by default and recorded in the store.

Three are populations of their own (cool giants, blends on one line of sight, field stars as a survey observes them),
and stand here; a fourth is real stars (:mod:`twinlines.pipeline.synthesis.observed`). The others change the spectra
of any pair: lines in emission (:mod:`.emission`), light of others (:mod:`.foreign_light`), and what an instrument
does (:mod:`.instrument`). This module knows no spectrum, and must never know how pairs are stored.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.models.vocabulary import SynthesisStream
from twinlines.pipeline.synthesis.emission import Accretion, Activity, Nebula, Sky
from twinlines.pipeline.synthesis.extra import ExtrasError, chosen, require_fraction
from twinlines.pipeline.synthesis.foreign_light import Dilution, Unresolved
from twinlines.pipeline.synthesis.instrument import Defects, Resolution, Stretch
from twinlines.pipeline.synthesis.observed import Observed, ObservedSource
from twinlines.pipeline.synthesis.population import Companion, Priors, Source
from twinlines.pipeline.synthesis.priors import NAMED, LogUniform, Normal, Prior, Uniform, describe

TABLE1, COOL_GIANT, BLEND, FIELD, OBSERVED = range(5)
"""Numbers of the populations: places in :data:`twinlines.pipeline.schema.POPULATIONS`."""

DISTURBANCES = {
    "activity": SynthesisStream.ACTIVITY,
    "accretion": SynthesisStream.ACCRETION,
    "nebula": SynthesisStream.NEBULA,
    "unresolved": SynthesisStream.UNRESOLVED,
    "dilution": SynthesisStream.DILUTION,
    "resolution": SynthesisStream.RESOLUTION,
    "stretch": SynthesisStream.STRETCH,
    "sky": SynthesisStream.SKY,
    "defects": SynthesisStream.DEFECTIVE,
}
"""Extras that change the spectra of any pair, in the order of :data:`twinlines.pipeline.schema.DISTURBANCES`, each with
the stream whose first number says which pairs have it."""


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
        require_fraction("cool_giants", self.fraction)


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
        require_fraction("blends", self.fraction)


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
    """Signal-to-noise ratio per pixel of the blue arm."""
    red_snr: Prior = LogUniform(0.8, 2.0)
    """S/N of the red arm over the blue's; surveys have about 1.6."""

    def __post_init__(self) -> None:
        require_fraction("field", self.fraction)


@dataclass(frozen=True)
class Extras:
    """All extras together."""

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
    accretion: Accretion = dataclasses.field(default_factory=Accretion)
    """Broad H-alpha in emission, and veiling."""
    nebula: Nebula = dataclasses.field(default_factory=Nebula)
    """Narrow lines of a nebula."""
    unresolved: Unresolved = dataclasses.field(default_factory=Unresolved)
    """A further star at the primary's velocity."""
    dilution: Dilution = dataclasses.field(default_factory=Dilution)
    """Featureless light."""
    resolution: Resolution = dataclasses.field(default_factory=Resolution)
    """Another resolving power."""
    stretch: Stretch = dataclasses.field(default_factory=Stretch)
    """A wavelength scale that errs."""
    sky: Sky = dataclasses.field(default_factory=Sky)
    """Lines of the sky."""
    observed: Observed = dataclasses.field(default_factory=Observed)
    """Real stars."""

    def __post_init__(self) -> None:
        total = sum(fraction for _, fraction in self._shares)
        if total >= 1.0:
            raise ExtrasError(
                f"cool_giants, blends, field and observed together are {total:g} of the pairs; leave some to Table 1, "
                "below 1"
            )

    @property
    def _shares(self) -> tuple[tuple[int, float], ...]:
        """Number and fraction of each population but Table 1's; a new one comes last, so that others keep theirs."""
        return (
            (COOL_GIANT, self.cool_giants.fraction),
            (BLEND, self.blends.fraction),
            (FIELD, self.field.fraction),
            (OBSERVED, self.observed.fraction),
        )

    def describe(self) -> dict[str, Any]:
        """Form in a configuration file, as JSON, but for paths: what lies there has a digest.

        What observed stars are like is left out where there are none, so that recipes without them stay what they were.
        """
        made: dict[str, Any] = {}
        for extra in fields(self):
            settings = getattr(self, extra.name)
            if extra.name != "observed" or settings.fraction:
                values = {item.name: getattr(settings, item.name) for item in fields(settings)}
                made[extra.name] = {
                    name: _described(value) for name, value in values.items() if name not in ("folder", "stars")
                }
        return made

    def sources(self, seed: int, priors: Priors, condition: tuple[str, ...]) -> dict[int, Source | ObservedSource]:
        """The populations that take part, by number; their free parameters are ``priors`` but for their own."""
        sources: dict[int, Source | ObservedSource] = {TABLE1: Source(seed, TABLE1, priors, condition=condition)}
        if self.cool_giants.fraction:
            own = {name: getattr(self.cool_giants, name) for name in ("mass1", "eep1", "vsini1")}
            alone = Companion.NONE
            sources[COOL_GIANT] = Source(seed, COOL_GIANT, replace(priors, **own), alone, condition=condition)
        if self.blends.fraction:
            apart = replace(priors, separation=self.blends.separation)
            difference = self.blends.magnitude_difference
            sources[BLEND] = Source(seed, BLEND, apart, Companion.UNRELATED, difference, condition)
        if self.field.fraction:
            names = "vsini1", "vsini2", "separation", "mass_ratio", "snr", "red_snr"
            own = {name: getattr(self.field, name) for name in names}
            sources[FIELD] = Source(seed, FIELD, replace(priors, **own), condition=condition)
        if self.observed.fraction:
            own = {name: getattr(self.observed, name) for name in ("separation", "snr", "red_snr")}
            own |= dict.fromkeys(("vsini1", "vsini2"), self.observed.vsini)
            sources[OBSERVED] = ObservedSource(seed, OBSERVED, replace(priors, **own), self.observed)
        return sources

    def assign(self, pairs: int) -> NDArray[np.int8]:
        """Population of each pair: the first ``pairs`` of a sequence in which each has its fraction, evenly spread.

        The sequence is the golden ratio's multiples, modulo 1: any stretch of it is as even as can be.
        """
        place = (np.arange(1, pairs + 1) * ((np.sqrt(5.0) - 1.0) / 2.0)) % 1.0
        population = np.full(pairs, TABLE1, dtype=np.int8)
        begin = 0.0
        for code, fraction in self._shares:
            end = begin + fraction
            population[(begin <= place) & (place < end)] = code
            begin = end
        return population

    def labels(self, population: NDArray[np.int8]) -> NDArray[np.int8]:
        """Labels of the two spectra of each pair, shape (pair, 2): 1 where two stars are to be seen."""
        double = np.where(population == BLEND, self.blends.double_lined, population != COOL_GIANT)
        return np.stack([np.zeros_like(population), double.astype(np.int8)], axis=1)

    def disturbed(self, serial: NDArray[np.int64], seed: int) -> NDArray[np.uint16]:
        """Which disturbances each pair has, as bits in the order of :data:`DISTURBANCES`, (pair,)."""
        bits = np.zeros(len(serial), dtype=np.uint16)
        for bit, (name, stream) in enumerate(DISTURBANCES.items()):
            there = chosen(serial, stream, seed, getattr(self, name).fraction)
            bits |= there.astype(np.uint16) << np.uint16(bit)
        return bits

    def emission(self, serial: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
        """Height of each primary's emission in H-alpha, in units of the continuum; 0 where there is none, (pair,)."""
        height = np.zeros(len(serial))
        for star in (self.activity, self.accretion):
            if star.fraction:
                height += star.lines(serial, seed).height[:, 0]
        return height.astype(np.float32)


def _described(value: Any) -> Any:
    """A setting in JSON: a number, a list of words, or a prior."""
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, int | float) else describe(value)
