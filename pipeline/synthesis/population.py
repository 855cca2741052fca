"""Populations: priors become pairs of stellar states, or a reason why not.

The population of Table 1 (Zhang et al. 2022) is two stars of one age and composition. Two more, which the paper lacks,
have their priors here and their companions in :data:`Companion`. A draw is identified by its population and serial
number alone: draw ``i`` of a seed is the same whatever block it is made in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.library import Library, Outside
from twinlines.pipeline.stars.tracks import State, TrackReason, Tracks
from twinlines.pipeline.synthesis.priors import Constant, FlattenedSalpeter, Normal, Prior, Uniform, describe

Array = NDArray[np.float64]
Rows = NDArray[np.bool_] | NDArray[np.int64] | slice
"""A selection of rows: a mask, indices or a slice."""

REDRAWS = 8
"""How often conditioned parameters of a draw are drawn again before it is dropped."""

_STREAM = 2**64 - 1  # second word of the key, less the stream's number; noise is keyed by serial numbers
_WORDS_PER_DRAW = 12  # 64-bit random words of one draw: three Philox counters of four words each


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
    """Signal-to-noise ratio per pixel of the blue arm."""
    red_snr: Prior = Constant(1.0)
    """S/N of the red arm over the blue's."""

    def describe(self) -> dict[str, Any]:
        """Form in a configuration file, as JSON."""
        return {item.name: describe(getattr(self, item.name)) for item in fields(self)}


TABLE1 = Priors()
"""Table 1 of Zhang et al. (2022)."""

PARAMETERS = tuple(item.name for item in fields(Priors))
"""Names of the free parameters."""

_LOT = 10  # word of a draw that makes its lot; parameters have the others, in their order


class Companion(Enum):
    """Where the second star of a draw comes from."""

    COEVAL = "coeval"
    """It has the mass ratio drawn, and the age and composition of the first: a binary."""
    NONE = "none"
    """There is none."""
    UNRELATED = "unrelated"
    """It is a star of its own, somewhere on the line of sight: its mass, composition and EEP are drawn anew."""


@dataclass(frozen=True)
class Source:
    """An endless sequence of draws of one population."""

    seed: int
    """Seed of the draws."""
    code: int = 0
    """Number of the population; see :data:`twinlines.pipeline.schema.POPULATIONS`."""
    priors: Priors = TABLE1
    """Distributions of the free parameters."""
    companion: Companion = Companion.COEVAL
    """Where the second star comes from."""
    magnitude_difference: Prior = Uniform(0.0, 3.0)
    """By how much an unrelated companion appears fainter than the first star, bolometric magnitudes."""
    condition: tuple[str, ...] = ()
    """Parameters that are drawn again, up to :data:`REDRAWS` times, for a draw that has no spectra: their priors are
    thereby conditioned on the domain of tracks and library, given the draw's other parameters."""

    def draw(self, numbers: NDArray[np.int64], attempt: int = 0) -> Draws:
        """The draws with serial numbers ``numbers``, ascending."""
        return self._draw(numbers, 2 * self.code, attempt)

    def _draw(self, numbers: NDArray[np.int64], stream: int, attempt: int) -> Draws:
        first, count = int(numbers[0]), int(numbers[-1] - numbers[0]) + 1
        drawn = draw(first, count, self.seed, self.priors, stream=stream, attempt=attempt)
        return drawn if count == len(numbers) else drawn.take(numbers - first)

    def light(self, library: Library) -> Library:
        """What the light of the stars comes from: the library."""
        return library

    def realise(self, numbers: NDArray[np.int64], tracks: Tracks, library: Library) -> Population:
        """Draw, and find the states of the stars of each draw.

        Parameters
        ----------
        numbers
            Serial numbers of the draws, ascending, shape (draw,).
        tracks, library
            What gives states, and where spectra exist.
        """
        draws = self.draw(numbers)
        population = self._resolve(draws, tracks, library)
        if not self.condition:
            return population
        for attempt in range(1, REDRAWS + 1):
            lost = np.flatnonzero(population.fate != KEPT)
            if not lost.size:
                break
            fresh = self.draw(numbers[lost], attempt)
            changed = {name: getattr(fresh, name) for name in self.condition}
            again = self._resolve(replace(population.draws.take(lost), **changed), tracks, library)
            again = replace(again, redraws=np.full_like(again.redraws, attempt))
            population = population.put(lost, again)
        return population

    def _resolve(self, draws: Draws, tracks: Tracks, library: Library) -> Population:
        match self.companion:
            case Companion.COEVAL:
                return resolve(draws, tracks, library)
            case Companion.NONE:
                return _resolve_alone(draws, tracks, library)
            case Companion.UNRELATED:
                others = self._draw(draws.number, 2 * self.code + 1, 0)
                difference = self.magnitude_difference.quantile(others.lot)
                return _resolve_unrelated(draws, others, difference, tracks, library)


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
    red_snr: Array
    lot: Array
    """One more uniform number in [0, 1)."""

    @property
    def mass2(self) -> Array:
        """Initial mass of a secondary with the mass ratio drawn, solar masses."""
        return self.mass1 * self.mass_ratio

    def snr_of(self, arm: str) -> Array:
        """Signal-to-noise ratio per pixel of arm "B" or "R"."""
        return self.snr * self.red_snr if arm == "R" else self.snr

    def take(self, rows: Rows) -> Draws:
        """The draws at ``rows``."""
        return Draws(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def uniform_words(start: int, count: int, seed: int, *, stream: int, attempt: int = 0) -> Array:
    """Uniform numbers in [0, 1) of the draws number ``start`` to ``start + count``, (count, 12); see :func:`draw`."""
    counters = _WORDS_PER_DRAW // 4
    key = np.array([seed, _STREAM - stream], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=np.array([counters * start, attempt, 0, 0], dtype=np.uint64))
    words = bits.random_raw(_WORDS_PER_DRAW * count).reshape(count, _WORDS_PER_DRAW)
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def draw(start: int, count: int, seed: int, priors: Priors = TABLE1, *, stream: int = 0, attempt: int = 0) -> Draws:
    """Make the draws number ``start`` to ``start + count`` of a seed.

    Every draw owns twelve 64-bit words of a Philox 4x64 stream (Salmon et al. 2011) keyed by the seed and addressed by
    its number, so blocks of any size give the same draws.

    Parameters
    ----------
    start, count
        Serial number of the first draw, and how many.
    seed
        Seed, from 0 to 2^64 - 1.
    priors
        Distributions of the parameters.
    stream, attempt
        Which of the seed's streams, and which of its repetitions.
    """
    uniform = uniform_words(start, count, seed, stream=stream, attempt=attempt)
    columns = [column for column in range(_WORDS_PER_DRAW) if column != _LOT]
    values = {
        name: getattr(priors, name).quantile(uniform[:, column])
        for name, column in zip(PARAMETERS, columns, strict=True)
    }
    return Draws(number=start + np.arange(count, dtype=np.int64), lot=uniform[:, _LOT], **values)


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


def count_fates(fate: NDArray[np.int16]) -> dict[str, int]:
    """How many draws met which fate."""
    codes, numbers = np.unique(fate, return_counts=True)
    return {fate_label(int(code)): int(number) for code, number in zip(codes, numbers, strict=True)}


@dataclass(frozen=True)
class Population:
    """Draws, the states of both stars, and the fate of each draw; arrays of shape (draw,)."""

    draws: Draws
    primary: State
    """State of the primary; NaN where the fate is a reason."""
    secondary: State
    """State of the secondary; NaN where the fate is a reason, or where there is none."""
    mass2: Array
    """Initial mass of the secondary, solar masses."""
    feh2: Array
    """[Fe/H] of the secondary, dex."""
    alpha2: Array
    """[alpha/Fe] of the secondary, dex."""
    eep2: Array
    """Equivalent evolutionary point of the secondary."""
    dilution: Array
    """(d1 / d2)^2 of the two stars' distances: 1 in a binary."""
    fate: NDArray[np.int16]
    """:data:`KEPT`, or why the draw was dropped; see :func:`fate_label`."""
    redraws: NDArray[np.int8]
    """How often conditioned parameters were drawn again."""

    @property
    def double(self) -> NDArray[np.bool_]:
        """Whether there is a second star, (draw,)."""
        return np.isfinite(self.secondary.teff)

    def radii(self, arm: str) -> tuple[Array, Array]:
        """Radii of both stars, solar radii, whose squares weigh their light in an arm, (draw,) each.

        A star that is further away than the primary counts as smaller. Here, every arm has the same.
        """
        return self.primary.radius, self.secondary.radius * np.sqrt(self.dilution)

    def labels(self, star: int) -> Array:
        """Library labels (Teff, logg, [Fe/H], [alpha/Fe]) of star 1 or 2, shape (draw, 4)."""
        if star == 1:
            columns = self.primary.teff, self.primary.logg, self.draws.feh, self.draws.alpha
        else:
            columns = self.secondary.teff, self.secondary.logg, self.feh2, self.alpha2
        return np.stack(columns, axis=1)

    def kept_pairs(self) -> Self:
        """The draws that became pairs."""
        return self.take(self.fate == KEPT)

    def take(self, rows: Rows) -> Self:
        """The draws at ``rows``."""
        return replace(self, **{name: _take(value, rows) for name, value in self._columns().items()})

    def put(self, rows: NDArray[np.int64], other: Population) -> Self:
        """These draws, with those at ``rows`` replaced by those of ``other``."""
        mine, theirs = self._columns(), other._columns()
        return replace(self, **{name: _put(mine[name], rows, theirs[name]) for name in mine})

    def _columns(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def counts(self) -> Mapping[str, int]:
        """How many draws met which fate."""
        return count_fates(self.fate)


def _take(value: Any, rows: Rows) -> Any:
    if isinstance(value, np.ndarray):
        return value[rows]
    return type(value)(**{item.name: getattr(value, item.name)[rows] for item in fields(value)})


def _put(value: Any, rows: NDArray[np.int64], other: Any) -> Any:
    if isinstance(value, np.ndarray):
        changed = value.copy()
        changed[rows] = other
        return changed
    parts = {item.name: _put(getattr(value, item.name), rows, getattr(other, item.name)) for item in fields(value)}
    return type(value)(**parts)


def _fate(*reasons: tuple[int, NDArray[np.int8]]) -> NDArray[np.int16]:
    """Fates of draws by the reasons against them, each with its base, in the order in which they count."""
    fate = np.full(reasons[0][1].shape, KEPT, dtype=np.int16)
    for base, reason in reasons:
        fate = np.where((fate == KEPT) & (reason != 0), base + reason.astype(np.int16), fate)
    return fate


def resolve(draws: Draws, tracks: Tracks, library: Library) -> Population:
    """Find the states of both stars of each draw: the secondary has the primary's age (Zhang et al. 2022, section 2).

    A draw is dropped at the first of these that fails: primary on the tracks, secondary on the tracks at that age,
    primary inside the library, secondary inside the library.
    """
    primary = tracks.state(draws.mass1, draws.feh, draws.eep1, draws.alpha)
    eep2, at_age = tracks.eep_at_age(draws.mass2, draws.feh, primary.age, draws.alpha)
    secondary = tracks.state(draws.mass2, draws.feh, eep2, draws.alpha)
    fate = _fate((_PRIMARY_TRACK, primary.reason), (_SECONDARY_TRACK, at_age), (_SECONDARY_TRACK, secondary.reason))
    mine = draws.mass2, draws.feh, draws.alpha, eep2, np.ones(len(draws.number))
    return _within(library, draws, primary, secondary, mine, fate)


def _resolve_alone(draws: Draws, tracks: Tracks, library: Library) -> Population:
    """States of single stars; there is no secondary."""
    primary = tracks.state(draws.mass1, draws.feh, draws.eep1, draws.alpha)
    nothing = np.full(len(draws.number), np.nan)
    columns = {item.name: nothing for item in fields(State) if item.name != "reason"}
    absent = State(**columns, reason=np.zeros(len(nothing), dtype=np.int8))
    fate = _fate((_PRIMARY_TRACK, primary.reason))
    return _within(library, draws, primary, absent, (nothing,) * 5, fate, stars=1)


def _resolve_unrelated(draws: Draws, others: Draws, difference: Array, tracks: Tracks, library: Library) -> Population:
    """States of two stars that have nothing in common but the line of sight.

    Their distances are such that the second appears ``difference`` bolometric magnitudes fainter than the first.
    """
    primary = tracks.state(draws.mass1, draws.feh, draws.eep1, draws.alpha)
    secondary = tracks.state(others.mass1, others.feh, others.eep1, others.alpha)
    fate = _fate((_PRIMARY_TRACK, primary.reason), (_SECONDARY_TRACK, secondary.reason))
    dilution = 10.0 ** (-0.4 * difference) * primary.luminosity / secondary.luminosity
    theirs = others.mass1, others.feh, others.alpha, others.eep1, dilution
    return _within(library, draws, primary, secondary, theirs, fate)


def _within(
    library: Library,
    draws: Draws,
    primary: State,
    secondary: State,
    second: tuple[Array, ...],
    fate: NDArray[np.int16],
    stars: int = 2,
) -> Population:
    """Put states together, and drop what lies outside the library; ``second`` in the order of Population's fields."""
    mass2, feh2, alpha2, eep2, dilution = second
    redraws = np.zeros(len(draws.number), dtype=np.int8)
    population = Population(draws, primary, secondary, mass2, feh2, alpha2, eep2, dilution, fate, redraws)
    bases = ((1, _PRIMARY_LIBRARY), (2, _SECONDARY_LIBRARY))[:stars]
    outside = _fate(*((base, library.outside(population.labels(star))) for star, base in bases))
    return replace(population, fate=np.where(fate == KEPT, outside, fate))
