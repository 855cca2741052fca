"""Stars of a mock survey: single dwarfs and giants, and binaries on circular orbits, with everything about them known.

The states come from the packaged tracks and stay where the spectral library is complete (4200-8000 K). The mixture is a
survey's in what it looks like, not in its proportions: double-lined binaries are as many as one asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.library import Library
from twinlines.pipeline.stars.tracks import Tracks

Array = NDArray[np.float64]

SINGLE, GIANT, SB2, SB1 = "single", "giant", "SB2", "SB1"
MOCK_KINDS = (SINGLE, GIANT, SB2, SB1)
"""Kinds of mock stars: single dwarf, single giant, two visible stars, one visible star with a dark companion."""

SYNCHRONOUS = 50.59
"""2 pi R_sun / day, km/s: equatorial velocity of a star of one solar radius that turns once a day (IAU 2015 radius)."""
SEMI_AMPLITUDES = 212.91
"""(2 pi G M_sun / day)^(1/3), km/s: K1 + K2 of one solar mass at a period of one day, seen edge-on (IAU 2015)."""

_COOLEST, _HOTTEST = 4200.0, 8000.0
_OLDEST = 13.0e9  # yr
_OF_BINARIES = (
    *("mass_ratio", "teff2", "logg2", "radius2", "vsini2"),
    *("period", "amplitude1", "amplitude2", "phase0"),
)
_DETACHED = 0.4  # largest (R1 + R2) / a: rounder than Roche lobes make them


@dataclass(frozen=True)
class Mixture:
    """Which fraction of the mock stars is of which kind; the rest are single dwarfs."""

    sb2: float = 0.25
    """Double-lined binaries."""
    sb1: float = 0.08
    """Single-lined binaries: mass ratios 0.15 to 0.5, periods 3 to 100 days, the companion too faint to be included."""
    giant: float = 0.17
    """Single giants."""
    sb2_mass_ratios: tuple[float, float] = (0.7, 1.0)
    """Least and largest mass ratio of double-lined binaries."""
    sb2_periods: tuple[float, float] = (1.0, 20.0)
    """Shortest and longest period of double-lined binaries, days."""
    sb2_apart: float = 0.0
    """Least K1 + K2 of double-lined binaries, km/s: how far apart their lines come."""

    def kinds(self, stars: int) -> list[str]:
        """Kind of each of ``stars`` stars, fractions rounded to whole stars.

        Raises
        ------
        ValueError
            If a fraction is negative, or they add up to more than 1.
        """
        fractions = (self.sb2, self.sb1, self.giant)
        if min(fractions) < 0.0 or sum(fractions) > 1.0:
            raise ValueError(f"fractions of SB2s, SB1s and giants {fractions} must be positive and add up to 1 at most")
        kinds = [
            kind
            for kind, fraction in zip((SB2, SB1, GIANT), fractions, strict=True)
            for _ in range(round(fraction * stars))
        ][:stars]
        return kinds + [SINGLE] * (stars - len(kinds))


@dataclass(frozen=True)
class MockStars:
    """Mock stars; arrays of shape (star,). What a star does not have is NaN."""

    kind: NDArray[np.str_]
    """One of :data:`MOCK_KINDS`."""
    feh: Array
    """[Fe/H], dex."""
    alpha: Array
    """[alpha/Fe], dex."""
    mass1: Array
    """Initial mass of the primary, solar masses."""
    teff1: Array
    """Effective temperature of the primary, K."""
    logg1: Array
    """log10 of the primary's surface gravity in cm s-2."""
    radius1: Array
    """Radius of the primary, solar radii."""
    vsini1: Array
    """Projected rotational velocity of the primary, km/s."""
    mass_ratio: Array
    """q = m2 / m1."""
    teff2: Array
    """Effective temperature of a visible secondary, K."""
    logg2: Array
    """log10 of a visible secondary's surface gravity in cm s-2."""
    radius2: Array
    """Radius of a visible secondary, solar radii."""
    vsini2: Array
    """Projected rotational velocity of a visible secondary, km/s."""
    systemic: Array
    """Velocity of the star or of the binary's centre of mass, km/s."""
    period: Array
    """Orbital period, days."""
    amplitude1: Array
    """Semi-amplitude K1 of the primary's velocity, km/s."""
    amplitude2: Array
    """Semi-amplitude K2 of the secondary's velocity, km/s."""
    phase0: Array
    """Orbital phase at BJD 2458000, in cycles; at phase 0.25 the primary approaches fastest."""

    @property
    def labels1(self) -> Array:
        """Library labels of the primaries, shape (star, 4)."""
        return np.stack([self.teff1, self.logg1, self.feh, self.alpha], axis=1)

    @property
    def labels2(self) -> Array:
        """Library labels of the secondaries, shape (star, 4)."""
        return np.stack([self.teff2, self.logg2, self.feh, self.alpha], axis=1)

    def take(self, rows: NDArray[np.int64]) -> MockStars:
        """The stars at ``rows``."""
        return MockStars(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    def velocities(self, bjd: Array) -> tuple[Array, Array]:
        """Radial velocities of both stars at the barycentric dates ``bjd``, km/s.

        Circular orbits: v1 = gamma - K1 sin(2 pi phase), v2 = gamma + K2 sin(2 pi phase).

        Parameters
        ----------
        bjd
            Shape (star,), days.

        Returns
        -------
        velocity1, velocity2
            Shape (star,); the second is NaN where no secondary is visible.
        """
        orbiting = np.isfinite(self.period)
        cycles = np.where(orbiting, self.phase0 + (bjd - 2458000.0) / self.period, 0.0)
        sine = np.sin(2.0 * np.pi * cycles)
        first = self.systemic - np.where(orbiting, self.amplitude1, 0.0) * sine
        second = np.where(np.isfinite(self.teff2), self.systemic + self.amplitude2 * sine, np.nan)
        return first, second


def draw_stars(stars: int, rng: np.random.Generator, mixture: Mixture, tracks: Tracks, library: Library) -> MockStars:
    """Draw mock stars in random order of their kinds.

    Parameters
    ----------
    stars
        How many.
    rng
        Source of randomness.
    mixture
        Fractions of the kinds.
    tracks, library
        What gives the states, and where spectra exist.
    """
    kinds = mixture.kinds(stars)
    parts = [_draw_kind(kind, kinds.count(kind), rng, mixture, tracks, library) for kind in MOCK_KINDS if kind in kinds]
    joined = MockStars(
        **{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(MockStars)}
    )
    return joined.take(rng.permutation(stars))


def _draw_kind(
    kind: str, count: int, rng: np.random.Generator, mixture: Mixture, tracks: Tracks, library: Library
) -> MockStars:
    """Draw ``count`` stars of one kind: a pool of trials, of which the first possible ones are kept."""
    parts: list[MockStars] = []
    missing = count
    while missing > 0:
        trials = _trials(kind, 64 + 8 * missing, rng, mixture, tracks, library)
        parts.append(trials.take(np.arange(min(missing, trials.kind.size))))
        missing -= parts[-1].kind.size
    return MockStars(
        **{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(MockStars)}
    )


def _trials(
    kind: str, count: int, rng: np.random.Generator, mixture: Mixture, tracks: Tracks, library: Library
) -> MockStars:
    """Draw ``count`` trials of one kind and keep the possible ones."""
    giant = kind == GIANT
    feh = rng.normal(-0.15, 0.22, count)
    alpha = np.clip(-0.3 * feh, 0.0, 0.3) + rng.normal(0.0, 0.04, count)
    # Dwarfs of 0.65 to 1.5 solar masses, more of the lighter ones: F, G and K stars.
    mass1 = rng.uniform(0.9, 1.9, count) if giant else 0.65 + 0.85 * rng.uniform(0.0, 1.0, count) ** 2
    eep1 = rng.uniform(490.0, 580.0, count) if giant else rng.uniform(202.0, 454.0, count)
    primary = tracks.state(mass1, feh, eep1)
    nothing = np.full(count, np.nan)
    columns = {
        "kind": np.full(count, kind),
        "feh": feh,
        "alpha": alpha,
        "mass1": mass1,
        "teff1": primary.teff,
        "logg1": primary.logg,
        "radius1": primary.radius,
        "vsini1": _vsini(giant, primary.teff, rng),
        "systemic": rng.normal(0.0, 40.0 if giant else 30.0, count),
    }
    columns |= dict.fromkeys(_OF_BINARIES, nothing)
    possible = (primary.reason == 0) & (primary.age < _OLDEST) & _visible(library, columns, 1)
    if kind in (SB2, SB1):
        double = mixture.sb2_mass_ratios, mixture.sb2_periods
        ratios, periods = double if kind == SB2 else ((0.15, 0.5), (3.0, 100.0))
        mass_ratio = rng.uniform(*ratios, count)
        period = periods[0] * (periods[1] / periods[0]) ** rng.uniform(0.0, 1.0, count)
        sine = np.sqrt(1.0 - rng.uniform(0.0, 0.9, count) ** 2)  # isotropic, without the nearly face-on orbits
        total = SEMI_AMPLITUDES * (mass1 * (1.0 + mass_ratio) / period) ** (1.0 / 3.0)
        columns |= {
            "mass_ratio": mass_ratio,
            "period": period,
            "amplitude1": total * sine * mass_ratio / (1.0 + mass_ratio),
            "phase0": rng.uniform(0.0, 1.0, count),
        }
    if kind == SB2:
        eep2, reason = tracks.eep_at_age(mass1 * mass_ratio, feh, primary.age)
        secondary = tracks.state(mass1 * mass_ratio, feh, eep2)
        columns |= {
            "teff2": secondary.teff,
            "logg2": secondary.logg,
            "radius2": secondary.radius,
            "amplitude2": total * sine / (1.0 + mass_ratio),
            # Orbits this close have synchronised and aligned the rotation.
            "vsini1": SYNCHRONOUS * primary.radius / period * sine,
            "vsini2": SYNCHRONOUS * secondary.radius / period * sine,
        }
        separation = total * period / SYNCHRONOUS  # of the stars, solar radii: the relative velocity is 2 pi a / P
        possible &= (reason == 0) & (secondary.reason == 0) & _visible(library, columns, 2)
        possible &= primary.radius + secondary.radius < _DETACHED * separation
        possible &= total * sine >= mixture.sb2_apart
    return MockStars(**{name: np.asarray(values)[possible] for name, values in columns.items()})


def _vsini(giant: bool, teff: Array, rng: np.random.Generator) -> Array:
    """Projected rotational velocities of single stars, km/s: slow below the Kraft break, often fast above 6400 K."""
    slow = np.exp(rng.normal(np.log(3.0 if giant else 6.0), 0.5, teff.size))
    fast = np.exp(rng.uniform(np.log(20.0), np.log(120.0), teff.size))
    return np.where((teff > 6400.0) & (rng.uniform(size=teff.size) < 0.4), fast, slow)


def _visible(library: Library, columns: dict[str, NDArray[np.generic]], star: int) -> NDArray[np.bool_]:
    """Where star 1 or 2 has a spectrum in the library, and one to be trusted."""
    labels = np.stack([np.asarray(columns[name], float) for name in (f"teff{star}", f"logg{star}", "feh", "alpha")], 1)
    inside = library.outside(labels) == 0
    return np.asarray(inside & (labels[:, 0] > _COOLEST) & (labels[:, 0] < _HOTTEST))
