"""What is believed of orbits before any velocity: periods, eccentricities, semi-amplitudes; and known ephemerides.

An orbit is a point (frequency, x, y, longitude): x and y are sqrt(e / e_max) times the cosine and the sine of omega,
and longitude is omega + M at the reference time. In these coordinates nothing is singular at e = 0, and all orbits of a
period fill the same disc.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln

from twinlines.pipeline.binaries.orbits.kepler import mean_from_true

Array = NDArray[np.float64]

TWO_PI = 2.0 * np.pi
ROUND = 200.0
"""Orbits that tides have made circular have e / e_max from Beta(1, this): no more than 0.5 % in the mean."""

_LEAST_ENVELOPE = 1e-3  # of eccentricity: as good as none
_YEAR = 365.25  # days


@dataclass(frozen=True)
class OrbitPrior:
    """Priors of an orbit; those of angles are uniform, that of the systemic velocity is flat."""

    shortest: float = 0.5
    """Least period, days. Periods are log-uniform."""
    longest: float = 500.0
    """Largest period, days."""
    alpha: float = 0.867
    """First parameter of the Beta distribution of e (Kipping 2013, MNRAS 434, L51), which ends at e_max."""
    beta: float = 3.03
    """Second parameter of it."""
    contact: float = 2.0
    """Period up to which all orbits are circular, days; beyond, e_max = 1 - (P / contact)^(-2/3) (Moe & Di Stefano
    2017, ApJS 230, 15, equation 3)."""
    circularised: float = 8.0
    """Period at which tides have made half of the orbits circular, days (7 to 11 days in clusters and in the field:
    Meibom & Mathieu 2005, ApJ 620, 970); the fraction is 1 / (1 + (P / circularised)^4)."""
    amplitude: float = 16.0
    """Standard deviation of each star's semi-amplitude at a period of a year and e = 0, km/s; it goes with P^(-1/3)
    (1 - e^2)^(-1/2), as equal masses do (Price-Whelan et al. 2020, ApJ 895, 2). With ``alike`` = 0.9, K1 + K2 is as
    wide as that of two solar masses in all, seen from random sides."""
    alike: float = 0.9
    """Correlation of the two semi-amplitudes, which both stars' masses share."""

    def __post_init__(self) -> None:
        if not 0.0 < self.shortest < self.longest < np.inf:
            raise ValueError(
                f"shortest = {self.shortest}, longest = {self.longest} days: periods need 0 < shortest < longest"
            )
        for name in ("alpha", "beta", "contact", "circularised", "amplitude"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not -1.0 < self.alike < 1.0:
            raise ValueError(f"alike is {self.alike}; a correlation lies between -1 and 1")

    def to_json(self) -> dict[str, Any]:
        """The settings, for JSON."""
        return asdict(self)

    def envelope(self, period: Array) -> Array:
        """Largest eccentricity at a period in days."""
        most = 1.0 - np.maximum(period / self.contact, 1.0) ** (-2.0 / 3.0)
        return np.asarray(np.maximum(most, _LEAST_ENVELOPE), dtype=np.float64)

    def circular(self, period: Array) -> Array:
        """Fraction of orbits at a period in days that tides have made circular."""
        return np.asarray(1.0 / (1.0 + (period / self.circularised) ** 4), dtype=np.float64)

    def shape(self, points: Array) -> tuple[Array, Array]:
        """Eccentricity and omega of points, (orbit, 4) -> (orbit,) each."""
        share = np.minimum(points[:, 1] ** 2 + points[:, 2] ** 2, 1.0 - 1e-9)
        return share * self.envelope(1.0 / points[:, 0]), np.arctan2(points[:, 2], points[:, 1])

    def spread(self, period: Array, eccentricity: Array) -> Array:
        """Standard deviation of a semi-amplitude, km/s."""
        at_rest = self.amplitude * (period / _YEAR) ** (-1.0 / 3.0)
        return np.asarray(at_rest / np.sqrt(1.0 - eccentricity**2), dtype=np.float64)

    def log_density(self, points: Array) -> Array:
        """Log of the prior density per unit of (frequency, x, y, longitude); -inf outside its limits.

        Parameters
        ----------
        points
            (orbit, 4), the frequency in 1 / days.
        """
        frequency, share = points[:, 0], points[:, 1] ** 2 + points[:, 2] ** 2
        inside = (frequency >= 1.0 / self.longest) & (frequency <= 1.0 / self.shortest) & (share < 1.0)
        frequency, share = np.where(inside, frequency, 1.0), np.where(inside, np.maximum(share, 1e-12), 0.5)
        of_period = -np.log(frequency * np.log(self.longest / self.shortest))
        most = self.envelope(1.0 / frequency)
        eccentricity = share * most
        places, parts = _up_to(self.alpha, self.beta)
        of_shape = (self.alpha - 1.0) * np.log(eccentricity) + (self.beta - 1.0) * np.log1p(-eccentricity)
        up_to_most = np.interp(most, places, parts)
        of_shape = of_shape + np.log(most / up_to_most) - float(betaln(self.alpha, self.beta))
        round_ones = self.circular(1.0 / frequency)
        of_round = np.log(ROUND) + (ROUND - 1.0) * np.log1p(-share)
        of_shape = np.logaddexp(np.log1p(-round_ones) + of_shape, np.log(round_ones) + of_round)
        # dx dy = d(share) d(omega) / 2
        return np.where(inside, of_period + of_shape - np.log(np.pi) - np.log(TWO_PI), -np.inf)

    def draw(self, count: int, seed: int) -> Array:
        """Orbits of the prior, (orbit, 4); the same for a seed, kept for the next source, not to be written to."""
        return _draw(self, count, seed)


@lru_cache(maxsize=4)
def _up_to(alpha: float, beta: float) -> tuple[Array, Array]:
    """Eccentricities, and the Beta distribution's share below each."""
    places = np.concatenate([[0.0], np.geomspace(0.5 * _LEAST_ENVELOPE, 1.0, 2000)])
    return places, np.asarray(betainc(alpha, beta, places), dtype=np.float64)


@lru_cache(maxsize=4)
def _draw(prior: OrbitPrior, count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    period = prior.shortest * (prior.longest / prior.shortest) ** rng.random(count)
    most = prior.envelope(period)
    part = rng.random(count) * betainc(prior.alpha, prior.beta, most)
    share = betaincinv(prior.alpha, prior.beta, part) / most
    share = np.where(rng.random(count) < prior.circular(period), rng.beta(1.0, ROUND, count), share)
    radius = np.sqrt(np.minimum(share, 1.0 - 1e-9))
    omega, longitude = rng.uniform(-np.pi, np.pi, (2, count))
    points = np.stack([1.0 / period, radius * np.cos(omega), radius * np.sin(omega), longitude], axis=1)
    points.setflags(write=False)
    return points


@dataclass(frozen=True)
class Ephemeris:
    """What eclipses say of a binary."""

    period: float
    """Orbital period, days."""
    period_error: float
    """Its standard deviation, days."""
    eclipse: float | None = None
    """Middle of an eclipse, on the time scale of the epochs, days; None if unknown."""
    eclipse_error: float = 0.01
    """Its standard deviation, days."""
    eclipsed: int | None = None
    """The star that is behind then, 1 or 2; None if either may be."""

    def __post_init__(self) -> None:
        if not 0.0 < self.period < np.inf:
            raise ValueError(f"an ephemeris has the period {self.period} days; give one above 0, or no ephemeris")
        for name in ("period_error", "eclipse_error"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"an ephemeris has {name} = {getattr(self, name)} days; it must be above 0")
        if self.eclipse is not None and not np.isfinite(self.eclipse):
            raise ValueError(f"an ephemeris has its eclipse at {self.eclipse}; leave it out if it is unknown")
        if self.eclipsed not in (None, 1, 2):
            raise ValueError(f"eclipsed is {self.eclipsed}; say which star is behind, 1 or 2, or None")

    def pulls(self, prior: OrbitPrior, points: Array, reference: float) -> Array:
        """Standard deviations that orbits are off: in the period, and in the eclipse if it is known; (orbit, 1 or 2).

        A star is behind where omega + nu is 90 degrees for it (the line of sight being in the orbit's plane, nearly).
        """
        period = 1.0 / points[:, 0]
        columns = [(period - self.period) / self.period_error]
        if self.eclipse is not None:
            eccentricity, omega = prior.shape(points)
            misses = []
            for star, quarter in ((1, 0.5 * np.pi), (2, -0.5 * np.pi)):
                if self.eclipsed in (None, star):
                    behind = mean_from_true(quarter - omega, eccentricity)
                    then = TWO_PI * points[:, 0] * (self.eclipse - reference) + points[:, 3] - omega
                    cycles = (then - behind) / TWO_PI
                    misses.append((cycles - np.round(cycles)) * period / self.eclipse_error)
            nearest = np.argmin(np.abs(np.stack(misses)), axis=0)
            columns.append(np.choose(nearest, misses))
        return np.stack(columns, axis=1)
