"""Presumed single stars: those of a survey whose velocity is constant and whose lines are narrow, or a user's list.

The verdict itself is never asked, else it would be judged by itself. Velocities and their errors are: many nights, no
change beyond errors in either arm, and an error, for the S/N, that is not much larger than is usual in the
class, as lines that are broad, or two sets of them side by side, give. Binaries that slip through (seen from above, or
of long period) make p-values larger than they should be, which is the safe side. Fast rotators are left out, and what
the networks make of them is not in the p-values: see docs/trust.md. Knows arrays, and no catalog.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

from twinlines.pipeline.binaries.grouped import median
from twinlines.pipeline.validation.trust.classes import NO_CLASS, TrustError

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class NullRule:
    """What a star must show to be presumed single."""

    nights: int = 4
    """Fewest nights with an exposure that counts."""
    span: float = 10.0
    """Least time between the first and the last, d."""
    floor: float = 4.0
    """What velocities scatter besides their errors, km/s: zero points that are not measured; 1 where they are."""
    measured_floor: float = 1.0
    """The same of velocities whose zero points are measured (``rv_abs_B``)."""
    p_value: float = 0.05
    """Least chance that constant velocities scatter as much, in each arm."""
    broadest: float = 1.4
    """Largest error of the velocity times S/N, over the median of the class."""

    def __post_init__(self) -> None:
        if self.nights < 2:
            raise TrustError(f"{self.nights} nights do not show a constant velocity; give 2 or more")
        for name in ("floor", "measured_floor", "broadest"):
            if not getattr(self, name) > 0.0:
                raise TrustError(f"{name} is {getattr(self, name)}; give a number above 0")

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Velocities:
    """Velocities of exposures; arrays of shape (exposure,), or (exposure, arm)."""

    star: Numbers
    """Numbers of the stars."""
    night: Numbers
    """Local modified Julian day."""
    velocity: Array
    """(exposure, arm) velocity, km/s; NaN where there is none, or it is ambiguous."""
    error: Array
    """(exposure, arm) its error, km/s."""
    measured: NDArray[np.bool_]
    """(exposure, arm) whether it is on a scale whose zero points are measured."""
    snr: Array
    """(exposure, arm) S/N."""
    group: Numbers
    """Class of the exposure."""


@dataclass(frozen=True)
class NullCounts:
    """How many stars passed each test, one after the other."""

    stars: int
    """Stars with an exposure that counts."""
    nights: int
    """Of them, those with nights enough."""
    constant: int
    """Of those, with a constant velocity in both arms."""
    narrow: int
    """Of those, with narrow lines: the nulls."""


def presumed_single(velocities: Velocities, rule: NullRule | None = None) -> tuple[Numbers, NullCounts]:
    """Numbers of the stars that pass, ascending, and how many passed each test.

    Parameters
    ----------
    velocities
        Of all exposures that count; stars by any numbers that are not negative.
    rule
        What they must show.
    """
    rule = rule or NullRule()
    if not len(velocities.star):
        return np.empty(0, np.int64), NullCounts(0, 0, 0, 0)
    named, star = np.unique(velocities.star, return_inverse=True)
    stars = len(named)
    good = np.isfinite(velocities.velocity) & (velocities.error > 0.0)
    both: NDArray[np.bool_] = np.all(good, axis=1)
    often = _nights(star[both], velocities.night[both], stars, rule)
    steady = often.copy()
    for arm in range(velocities.velocity.shape[1]):
        mine = np.flatnonzero(both)
        floor = np.where(velocities.measured[mine, arm], rule.measured_floor, rule.floor)
        sigma = np.hypot(velocities.error[mine, arm], floor)
        steady &= _constancy(velocities.velocity[mine, arm], sigma, star[mine], stars) >= rule.p_value
    narrow = steady & (_breadth(velocities, star, stars, both) <= np.log(rule.broadest))
    counts = NullCounts(stars, int(often.sum()), int(steady.sum()), int(narrow.sum()))
    return named[narrow], counts


def _nights(star: Numbers, night: Numbers, stars: int, rule: NullRule) -> NDArray[np.bool_]:
    """Whether each star has nights enough, and far enough apart."""
    if not len(star):
        return np.zeros(stars, np.bool_)
    distinct = np.unique(np.stack([star, night], axis=1), axis=0)
    first, last = np.full(stars, np.iinfo(np.int64).max), np.zeros(stars, np.int64)
    np.minimum.at(first, star, night)
    np.maximum.at(last, star, night)
    enough = np.bincount(distinct[:, 0], minlength=stars) >= rule.nights
    return np.asarray(enough & (last - np.minimum(first, last) >= rule.span), np.bool_)


def _constancy(velocity: Array, sigma: Array, star: Numbers, stars: int) -> Array:
    """Chance that velocities of one constant value scatter as much, by chi2, (star,); 0 where there is one alone."""
    weight = sigma**-2.0
    total = np.bincount(star, weight, stars)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(star, weight * velocity, stars) / total
    chi2 = np.bincount(star, weight * (velocity - mean[star]) ** 2, stars)
    freedom = np.bincount(star, minlength=stars) - 1
    chance = gammaincc(np.maximum(freedom, 1) / 2.0, chi2 / 2.0)
    return np.where(freedom > 0, chance, 0.0)


def _breadth(velocities: Velocities, star: Numbers, stars: int, both: NDArray[np.bool_]) -> Array:
    """Log of error times S/N, over the median of the class, the larger of both arms' medians, (star,).

    A velocity's error goes as the width of the lines over their depth, over the S/N; in a class of like temperature
    the depth is much the same.
    """
    widest = np.full(stars, -np.inf)
    rows = np.flatnonzero(both & (velocities.group != NO_CLASS))
    if not len(rows):
        return np.full(stars, np.inf)
    for arm in range(velocities.velocity.shape[1]):
        width = np.log(velocities.error[rows, arm] * np.maximum(velocities.snr[rows, arm], 1.0))
        group = velocities.group[rows]
        usual = median(width, group, int(group.max()) + 1)
        widest = np.fmax(widest, median(width - usual[group], star[rows], stars))
    return np.where(np.isfinite(widest), widest, np.inf)
