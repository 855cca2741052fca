"""Populations: the priors of Table 1 (Zhang et al. 2022) become pairs of stellar states, or a reason why not.

A draw is identified by its serial number alone: draw ``i`` of a seed is the same whatever block it is made in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from twinlines.pipeline.library import Library, Outside
from twinlines.pipeline.tracks import State, TrackReason, Tracks

Array = NDArray[np.float64]
Rows = NDArray[np.bool_] | NDArray[np.int64] | slice
"""A selection of rows: a mask, indices or a slice."""

_STREAM = 2**64 - 1  # second word of the key; noise is keyed by serial numbers, which never come near
_WORDS_PER_DRAW = 12  # 64-bit random words of one draw: three Philox counters of four words each


class Prior(Protocol):
    """A one-dimensional distribution given by its quantile function."""

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform`` in [0, 1)."""


@dataclass(frozen=True)
class Uniform:
    """Uniform between two limits."""

    low: float
    """Lower limit, in the parameter's unit."""
    high: float
    """Upper limit, in the parameter's unit."""

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``."""
        return self.low + (self.high - self.low) * uniform


@dataclass(frozen=True)
class Normal:
    """Gaussian."""

    mean: float
    """Mean, in the parameter's unit."""
    sigma: float
    """Standard deviation, in the parameter's unit."""

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``; 0 is moved to the smallest double that has a quantile."""
        return self.mean + self.sigma * np.asarray(ndtri(np.maximum(uniform, np.finfo(np.float64).tiny)))


@dataclass(frozen=True)
class FlattenedSalpeter:
    """Mass function flat from ``low`` to ``knee`` and proportional to m**-slope from there to ``high``, continuous."""

    low: float = 0.1
    """Lower limit, solar masses."""
    knee: float = 1.0
    """Where the flat part ends, solar masses."""
    high: float = 2.0
    """Upper limit, solar masses."""
    slope: float = 2.35
    """Exponent of the falling part (Salpeter 1955)."""

    def quantile(self, uniform: Array) -> Array:
        """Values at cumulative probabilities ``uniform``, by the closed inverse of both pieces."""
        power = 1.0 - self.slope
        flat = self.knee - self.low
        falling = self.knee * ((self.high / self.knee) ** power - 1.0) / power
        area = uniform * (flat + falling)
        beyond = np.maximum(area - flat, 0.0)
        falls = self.knee * (1.0 + beyond * power / self.knee) ** (1.0 / power)
        return np.asarray(np.where(area < flat, self.low + area, falls))


@dataclass(frozen=True)
class Priors:
    """Distributions of the free parameters; the defaults are Table 1 of Zhang et al. (2022)."""

    mass1: Prior = field(default_factory=FlattenedSalpeter)
    """Initial mass of the primary, solar masses."""
    mass_ratio: Prior = Uniform(0.01, 1.0)
    """q = m2 / m1."""
    feh: Prior = Uniform(-2.0, 0.5)
    """[Fe/H] of both stars, dex."""
    alpha: Prior = Uniform(-0.5, 0.7)
    """[alpha/Fe] of both stars, dex."""
    eep1: Prior = Uniform(202.0, 605.0)
    """Equivalent evolutionary point of the primary, from the zero-age main sequence to the tip of the giant branch."""
    vsini1: Prior = Uniform(0.0, 500.0)
    """Projected rotational velocity of the primary, km/s."""
    vsini2: Prior = Uniform(0.0, 500.0)
    """Projected rotational velocity of the secondary, km/s."""
    velocity1: Prior = Normal(0.0, 5.0)
    """Residual velocity of the primary after the shift to its rest frame, km/s."""
    separation: Prior = Uniform(-500.0, 500.0)
    """Velocity separation v2 - v1, km/s."""
    snr: Prior = Uniform(5.0, 100.0)
    """Signal-to-noise ratio per pixel."""


TABLE1 = Priors()
"""Table 1 of Zhang et al. (2022)."""


@dataclass(frozen=True)
class Draws:
    """Draws from the priors, each field an array of shape (draw,)."""

    number: NDArray[np.int64]
    """Serial number of the draw."""
    mass1: Array
    mass_ratio: Array
    feh: Array
    alpha: Array
    eep1: Array
    vsini1: Array
    vsini2: Array
    velocity1: Array
    separation: Array
    snr: Array
    lot: Array
    """A uniform number in [0, 1) that decides the split."""

    @property
    def mass2(self) -> Array:
        """Initial mass of the secondary, solar masses."""
        return self.mass1 * self.mass_ratio

    def take(self, rows: Rows) -> Draws:
        """The draws at ``rows``."""
        return Draws(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def draw(start: int, count: int, seed: int, priors: Priors = TABLE1) -> Draws:
    """Make the draws number ``start`` to ``start + count`` of a seed.

    Every draw owns twelve 64-bit words of a Philox 4x64 stream (Salmon et al. 2011) keyed by the seed and addressed by
    its number, so blocks of any size give the same draws.
    """
    counters = _WORDS_PER_DRAW // 4
    key = np.array([seed, _STREAM], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=counters * start)
    words = bits.random_raw(_WORDS_PER_DRAW * count).reshape(count, _WORDS_PER_DRAW)
    uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    names = [item.name for item in fields(Priors)]
    values = {name: getattr(priors, name).quantile(uniform[:, column]) for column, name in enumerate(names)}
    return Draws(number=start + np.arange(count, dtype=np.int64), lot=uniform[:, len(names)], **values)


_PRIMARY_TRACK, _SECONDARY_TRACK, _PRIMARY_LIBRARY, _SECONDARY_LIBRARY = 100, 200, 300, 400
KEPT = 0
"""Fate of a draw that became a pair."""


def fate_label(code: int) -> str:
    """What the fate ``code`` means, for people: "kept", or the star, where it fell out, and why."""
    if code == KEPT:
        return "kept"
    base, reason = divmod(int(code), 100)
    star = "primary" if base % 2 == 1 else "secondary"
    if base <= 2:
        return f"{star} off the tracks: {TrackReason(reason).name.lower()}"
    return f"{star} outside the library: {Outside(reason).name.lower()}"


@dataclass(frozen=True)
class Population:
    """Draws, the states of both stars, and the fate of each draw; arrays of shape (draw,)."""

    draws: Draws
    primary: State
    """State of the primary; NaN where the fate is a reason."""
    secondary: State
    """State of the secondary at the primary's age; NaN where the fate is a reason."""
    eep2: Array
    """Equivalent evolutionary point of the secondary."""
    fate: NDArray[np.int16]
    """:data:`KEPT`, or why the draw was dropped; see :func:`fate_label`."""

    def labels(self, star: int) -> Array:
        """Library labels (Teff, logg, [Fe/H], [alpha/Fe]) of star 1 or 2, shape (draw, 4)."""
        state = self.primary if star == 1 else self.secondary
        return np.stack([state.teff, state.logg, self.draws.feh, self.draws.alpha], axis=1)

    def kept(self) -> Population:
        """The draws that became pairs."""
        return self.take(self.fate == KEPT)

    def take(self, rows: Rows) -> Population:
        """The draws at ``rows``."""
        return Population(
            self.draws.take(rows),
            _take_state(self.primary, rows),
            _take_state(self.secondary, rows),
            self.eep2[rows],
            self.fate[rows],
        )

    def counts(self) -> dict[str, int]:
        """How many draws met which fate."""
        codes, numbers = np.unique(self.fate, return_counts=True)
        return {fate_label(int(code)): int(number) for code, number in zip(codes, numbers, strict=True)}


def _take_state(state: State, rows: Rows) -> State:
    return State(**{item.name: getattr(state, item.name)[rows] for item in fields(State)})


def resolve(draws: Draws, tracks: Tracks, library: Library) -> Population:
    """Find the states of both stars of each draw: the secondary has the primary's age (Zhang et al. 2022, section 2).

    A draw is dropped at the first of these that fails: primary on the tracks, secondary on the tracks at that age,
    primary inside the library, secondary inside the library.
    """
    fate = np.zeros(len(draws.number), dtype=np.int16)

    def drop(reason: NDArray[np.int8], base: int) -> None:
        lost = (fate == KEPT) & (reason != 0)
        fate[lost] = base + reason[lost].astype(np.int16)

    primary = tracks.state(draws.mass1, draws.feh, draws.eep1, draws.alpha)
    drop(primary.reason, _PRIMARY_TRACK)
    eep2, reason = tracks.eep_at_age(draws.mass2, draws.feh, primary.age, draws.alpha)
    drop(reason, _SECONDARY_TRACK)
    secondary = tracks.state(draws.mass2, draws.feh, eep2, draws.alpha)
    drop(secondary.reason, _SECONDARY_TRACK)
    population = Population(draws, primary, secondary, eep2, fate)
    for star, base in ((1, _PRIMARY_LIBRARY), (2, _SECONDARY_LIBRARY)):
        drop(library.outside(population.labels(star)), base)
    return population
