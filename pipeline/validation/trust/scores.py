"""What exposures, and stars of several exposures, score: the evidence for two stars that the verdict holds.

A star is scored by so many exposures, one after the other: nulls have many exposures and most stars have few, and more
exposures give more chances to look odd. So a star of three is compared with three exposures in a row of each null.
Knows arrays, and no catalog.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

VISITS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of exposures by which stars are scored: of one that has seven, six count."""

PENALTY = 16
"""Penalty of the verdict that is scored: the candidates' rule's."""

_DARKEST = 104.0  # of a logit below 0: the least number above 0 of single precision
_LARGEST = 17.0  # of a logit: 1 less the least that single precision tells from it


@dataclass(frozen=True)
class Exposures:
    """Exposures that can be judged, those of a star together and in the order of time; arrays of shape (exposure,)."""

    row: Numbers
    """Their rows in the catalog."""
    star: Numbers
    """Numbers of their stars, ascending."""
    name: Numbers
    """Names of their stars, which do not depend on what else is in the catalog: the smallest obsid."""
    logit: Array
    """Log odds of the verdict."""
    snr: Array
    """S/N of the blue arm."""
    teff: Array
    """Temperature of the best template, K; NaN where there is none."""

    @classmethod
    def of(
        cls,
        probability: Array,
        star: Numbers,
        time: Array,
        obsid: Numbers,
        snr: Array,
        teff: Array,
        usable: NDArray[np.bool_],
    ) -> Exposures:
        """Exposures of a catalog, by its columns, (row,); those that are not usable, or of no star, are left out."""
        rows = np.flatnonzero(usable & (star >= 0) & np.isfinite(probability))
        rows = rows[np.lexsort((rows, time[rows], star[rows]))]
        placed = star >= 0
        smallest = np.full(star.max(initial=-1) + 1, np.iinfo(np.int64).max)
        np.minimum.at(smallest, star[placed], obsid[placed])
        return cls(rows, star[rows], smallest[star[rows]], logit(probability[rows]), snr[rows], teff[rows])

    @property
    def first(self) -> Numbers:
        """Where each star's exposures begin, (star,)."""
        return np.flatnonzero(np.r_[True, self.star[1:] != self.star[:-1]]) if len(self.star) else np.empty(0, np.int64)


@dataclass(frozen=True)
class Visits:
    """Stars scored by the same number of exposures; arrays of shape (star,)."""

    place: Numbers
    """Which of the stars, in the order of :attr:`Exposures.first`."""
    score: Array
    """Log of the mean odds of the exposures, by the verdict."""
    snr: Array
    """Median S/N of these exposures."""
    teff: Array
    """Median temperature of their best templates, K."""


def logit(probability: NDArray[np.floating[Any]]) -> Array:
    """Log odds, within what single precision can tell."""
    p = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.log(p) - np.log1p(-p), -_DARKEST, _LARGEST))


def visits(exposures: Exposures, number: int, seed: int) -> Visits:
    """Score all stars that have so many exposures, by some in a row.

    Which are taken depends on the star's name and the seed alone. The score is the log of the mean odds: how much
    likelier the exposures are of a binary that one of them shows, whichever it is.
    """
    first = exposures.first
    count = np.diff(np.r_[first, len(exposures.star)])
    place = np.flatnonzero(count >= number)
    spare = count[place] - number
    start = first[place] + np.floor(_random(exposures.name[first[place]], number, seed) * (spare + 1)).astype(np.int64)
    taken = start[:, None] + np.arange(number)
    score = logsumexp(exposures.logit[taken], axis=1) - np.log(number)
    return Visits(place, score, np.median(exposures.snr[taken], axis=1), _median(exposures.teff[taken]))


def _median(values: Array) -> Array:
    """Median of each row's known values; NaN where there is none."""
    ordered = np.sort(values, axis=1)
    known = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum(known - 1, 0) // 2, known // 2
    high = np.minimum(high, np.maximum(known - 1, 0))
    return np.where(known > 0, 0.5 * (ordered[rows, low] + ordered[rows, high]), np.nan)


def _random(name: Numbers, number: int, seed: int) -> Array:
    """A number in [0, 1) for each star: SplitMix64 (Steele, Lea & Flood 2014) of its name."""
    with np.errstate(over="ignore"):
        z = name.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 1000 + number)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) / 2.0**53)
