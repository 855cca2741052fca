"""What is told of an orbit: elements under Gaia's names, masses, and what can be said without a period."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.orbits.kepler import velocity_curve
from twinlines.pipeline.binaries.orbits.prior import OrbitPrior

Array = NDArray[np.float64]

MASS = 1.036149e-7
"""P K^3 / (2 pi G), solar masses for days and km/s (Torres, Andersen & Gimenez 2010, A&ARv 18, 67)."""
AXIS = 1.976682e-2
"""P K / (2 pi), solar radii for days and km/s (the same)."""

_CONFIDENT = 1.645  # standard deviations of a one-sided limit of 95 %


class OrbitStatus(IntFlag):
    """What is to be known of an orbit."""

    TOO_FEW_EPOCHS = 1
    """Too few epochs with two velocities, or too few nights: limits, and no period."""
    SEVERAL_PERIODS = 2
    """The best period's mode has less than 95 % of the probability."""
    FEW_SAMPLES = 4
    """So few samples are effective that errors and probabilities are rough."""
    AT_LIMIT = 8
    """The period may be longer, or shorter, than the prior allows."""
    LONGER_THAN_SPAN = 16
    """The period is longer than the epochs' span."""
    JITTER = 32
    """Velocities scatter more than their errors say; jitter was added."""
    POOR_FIT = 64
    """They do so with the largest jitter, too: not the orbit of two stars, or outliers."""
    EXCHANGED = 128
    """At some epoch it was not clear which star is which; the orbit decided, or left it open."""
    EPHEMERIS = 256
    """A known ephemeris took part."""


@dataclass(frozen=True)
class Elements:
    """Elements of orbits, or their standard deviations; arrays of any shape, one for all fields."""

    period: Array
    """Orbital period, days."""
    t_periastron: Array
    """Time of a periastron passage, on the time scale of the epochs, near the middle of their span, days; where the
    orbit is circular, with ``arg_periastron`` it still says the phase."""
    eccentricity: Array
    """e."""
    arg_periastron: Array
    """Omega of star 1, degrees, 0 to 360."""
    center_of_mass_velocity: Array
    """Gamma, km/s."""
    semi_amplitude_primary: Array
    """K1, km/s."""
    semi_amplitude_secondary: Array
    """K2, km/s."""

    @property
    def mass_ratio(self) -> Array:
        """Mass ratio, m2 / m1 = K1 / K2."""
        return self.semi_amplitude_primary / self.semi_amplitude_secondary

    @property
    def minimum_mass_primary(self) -> Array:
        """m1 sin^3 i, solar masses."""
        return self._mass(self.semi_amplitude_secondary)

    @property
    def minimum_mass_secondary(self) -> Array:
        """m2 sin^3 i, solar masses."""
        return self._mass(self.semi_amplitude_primary)

    @property
    def projected_axis_primary(self) -> Array:
        """a1 sin i, solar radii."""
        return self._axis(self.semi_amplitude_primary)

    @property
    def projected_axis_secondary(self) -> Array:
        """a2 sin i, solar radii."""
        return self._axis(self.semi_amplitude_secondary)

    def _mass(self, of_other: Array) -> Array:
        both = self.semi_amplitude_primary + self.semi_amplitude_secondary
        return MASS * (1.0 - self.eccentricity**2) ** 1.5 * both**2 * of_other * self.period

    def _axis(self, amplitude: Array) -> Array:
        return AXIS * np.sqrt(1.0 - self.eccentricity**2) * amplitude * self.period

    def take(self, rows: Any) -> Elements:
        """The orbits at ``rows``."""
        return Elements(*(getattr(self, item.name)[rows] for item in fields(self)))

    def velocities(self, time: Array) -> tuple[Array, Array]:
        """Velocities of both stars of each orbit at times, km/s; (orbit, time) each, elements being (orbit,)."""
        mean = 2.0 * np.pi * (time - self.t_periastron[:, None]) / self.period[:, None]
        curve = velocity_curve(mean, self.eccentricity[:, None], np.radians(self.arg_periastron)[:, None])
        gamma = self.center_of_mass_velocity[:, None]
        first = gamma + self.semi_amplitude_primary[:, None] * curve
        return first, gamma - self.semi_amplitude_secondary[:, None] * curve


DERIVED = (
    *("mass_ratio", "minimum_mass_primary", "minimum_mass_secondary"),
    *("projected_axis_primary", "projected_axis_secondary"),
)
"""What follows from the elements."""
ELEMENTS = (*(item.name for item in fields(Elements)), *DERIVED)
"""All that is told of an orbit, each with an error."""


def errors(samples: Elements, best: Elements) -> dict[str, float]:
    """Standard deviations of samples of one mode about its best orbit, by the names of :data:`ELEMENTS`.

    Angles and times of periastron are taken the shorter way round; the best orbit's fields are of shape ().
    """
    result = {}
    for name in ELEMENTS:
        apart = getattr(samples, name) - getattr(best, name)
        if name == "arg_periastron":
            apart = apart - 360.0 * np.round(apart / 360.0)
        elif name == "t_periastron":
            apart = apart - samples.period * np.round(apart / samples.period)
        result[name] = float(np.std(apart))
    return result


@dataclass(frozen=True)
class VelocityLimits:
    """What the largest separation of the velocities says, whatever the period."""

    separation: float
    """Largest difference of v1 and v2, km/s; NaN without an epoch at which both were measured."""
    separation_error: float
    """Its standard deviation, km/s."""
    amplitude_sum: float
    """Lower limit of (K1 + K2) (1 + e), with 95 % confidence, km/s."""
    total_mass: float
    """Lower limit of m1 + m2, solar masses, if the orbit is circular and as short as the prior allows."""
    longest_period: float
    """Upper limit of the period, days, if the orbit is circular and m1 + m2 is at most ``most_mass``; for a given e it
    is longer by ((1 + e) / (1 - e))^(3/2)."""
    most_mass: float
    """Solar masses."""


def velocity_limits(epochs: Epochs, prior: OrbitPrior, most_mass: float) -> VelocityLimits:
    """Limits from the largest separation: at most (K1 + K2) (1 + e), and K1 + K2 <= (2 pi G M / P)^(1/3) at e = 0.

    Parameters
    ----------
    epochs
        Any number of them.
    prior
        For the shortest period.
    most_mass
        Largest m1 + m2 that is thinkable, solar masses.
    """
    nan = float("nan")
    pairs = epochs.take(epochs.resolved)
    if not len(pairs):
        return VelocityLimits(nan, nan, nan, nan, nan, most_mass)
    apart = np.abs(pairs.velocity[:, 0] - pairs.velocity[:, 1])
    covariance = pairs.covariance
    error = np.sqrt(covariance[:, 0, 0] + covariance[:, 1, 1] - 2.0 * covariance[:, 0, 1])
    row = int(np.argmax(apart - _CONFIDENT * error))
    least = max(float(apart[row] - _CONFIDENT * error[row]), 0.0)
    cube = MASS * least**3
    longest = most_mass / cube if cube > 0.0 else float("inf")
    return VelocityLimits(float(apart[row]), float(error[row]), least, cube * prior.shortest, longest, most_mass)


@dataclass(frozen=True)
class Solution:
    """One period that the velocities allow, and its orbit."""

    best: Elements
    """The likeliest orbit of this period, of shape ()."""
    error: dict[str, float]
    """Standard deviations of the samples of this period, by the names of :data:`ELEMENTS`."""
    probability: float
    """Of this period."""
    chi2: float
    """Of the best orbit, jitter included."""


@dataclass(frozen=True)
class Orbit:
    """What is known of one source's orbit."""

    source: str
    """Its name."""
    status: OrbitStatus
    """What is to be known of it."""
    epochs: int
    """Epochs with two velocities."""
    nights: int
    """Nights with such epochs."""
    best: Elements | None
    """The likeliest orbit of the likeliest mode of the period, of shape (); None if there are limits only."""
    error: dict[str, float]
    """Standard deviations within that mode, by the names of :data:`ELEMENTS`; empty without a best orbit."""
    samples: Elements | None
    """Posterior samples of all modes, (sample,)."""
    solution: NDArray[np.int64] | None
    """Which of ``solutions`` each sample is of; -1: of a period too unlikely for one. (sample,)"""
    solutions: tuple[Solution, ...]
    """Periods that have 1 % of the probability or more, the likeliest first; ``best``, ``error`` and
    ``mode_probability`` are the first one's."""
    modes: int
    """Periods that the samples tell apart."""
    mode_probability: float
    """Probability of the best orbit's mode; NaN without one."""
    chi2: float
    """Of the best orbit, jitter included."""
    freedom: int
    """Velocities less parameters."""
    jitter: float
    """Added in quadrature to every velocity's error, km/s."""
    effective: float
    """Effective number of samples before they were drawn."""
    exchanged: NDArray[np.bool_]
    """Epochs at which the likeliest orbit has the stars the other way round than was said; (epoch,)."""
    limits: VelocityLimits
    """What needs no period."""

    def to_json(self) -> dict[str, Any]:
        """All but the samples, elements under their own names; what is not a number is None."""

        def plain(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        elements: dict[str, float | None] = {}
        for name in ELEMENTS:
            elements[name] = None if self.best is None else plain(getattr(self.best, name))
            elements[f"{name}_error"] = plain(self.error[name]) if self.error else None
        numbers = {name: plain(getattr(self, name)) for name in ("mode_probability", "chi2", "jitter", "effective")}
        counts = {name: int(getattr(self, name)) for name in ("status", "epochs", "nights", "modes", "freedom")}
        limits = {f"limit_{item.name}": plain(getattr(self.limits, item.name)) for item in fields(self.limits)}
        return {"source": self.source, **counts, **elements, **numbers, **limits}
