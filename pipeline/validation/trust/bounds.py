"""How many of the stars beyond any threshold are single after all: a bound that holds for all thresholds at once.

Whatever the distribution of a single star's score, the ranks of singles among singles are those of random numbers: so
the joint distribution of their conformal p-values is known, and is simulated (Gazin, Blanchard & Roquain 2024). Of
levels t_1 < t_2 < ..., b_l is made so that the number of singles with p <= t_l is at most b_l for all l together
with the stated confidence. Then of any set of stars at most min_l (b_l + n_l) are single, n_l being those of the set
whose p-value is above t_l, however the set was chosen (Blanchard, Neuvial & Roquain 2020, eq. 4; Goeman & Solari 2011).
Knows ranks, and no star.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVELS = 24
"""Thresholds at which singles are counted."""

HIGHEST = 0.2
"""Highest threshold: beyond it nobody looks for binaries."""

SIMULATIONS = 4000
"""Made-up surveys."""


@dataclass(frozen=True)
class Bound:
    """Most singles with a p-value at or below each level, all levels together."""

    level: Array
    """(level,) thresholds of the p-value, ascending; see :func:`levels`."""
    false: Counts
    """(level,) most singles at or below."""
    confidence: float
    """Chance that no level has more."""

    def among(self, p_value: Array) -> int:
        """Most singles among stars of these p-values, shape (star,), however they were chosen."""
        p_value = np.asarray(p_value, np.float64)
        beyond = len(p_value) - np.searchsorted(np.sort(p_value), self.level, side="right")
        return int(np.min(self.false + beyond, initial=len(p_value)))

    def proportions(self, p_value: Array) -> Array:
        """For each star, the least bound of the false proportion of any threshold that includes it, shape (star,).

        Parameters
        ----------
        p_value
            (star,) those of all stars that were tested; NaN where one was not.

        Returns
        -------
        array, shape (star,)
            Of the stars whose value is at most q, at most q are single, with the bound's confidence; 1 where there is
            no p-value.
        """
        result = np.ones(len(p_value))
        known = np.flatnonzero(np.isfinite(p_value))
        if not len(known):
            return result
        order = known[np.argsort(p_value[known], kind="stable")]
        ascending = p_value[order]
        size = np.searchsorted(ascending, ascending, side="right")  # stars at or below each one's p-value
        inside = np.searchsorted(ascending, self.level, side="right")
        # Levels at or below a threshold count what lies between; those above it count all of theirs.
        most = np.min(self.false[None, :] + np.maximum(size[:, None] - inside[None, :], 0), axis=1)
        proportion = np.minimum(most / size, 1.0)
        result[order] = np.minimum.accumulate(proportion[::-1])[::-1]
        return result


def levels(most_nulls: int) -> Array:
    """Thresholds, from the least p-value that so many nulls allow, in equal ratios, shape (level,)."""
    least = 1.0 / (most_nulls + 1.0)
    # A hair above: a p-value at a level counts as at it, however its division was rounded.
    return (1.0 + 1e-9) * np.geomspace(least, max(HIGHEST, least), LEVELS if least < HIGHEST else 1)


def ranks(level: Array, nulls: int) -> Counts:
    """How many nulls, the star itself counted, score as high at a p-value of each level, shape (level,)."""
    return np.floor(level * (nulls + 1.0)).astype(np.int64)


def simulate(nulls: int, stars: int, level: Array, rng: np.random.Generator, simulations: int = SIMULATIONS) -> Counts:
    """Numbers of singles with p-values at or below each level, if all stars are single, in made-up surveys.

    Parameters
    ----------
    nulls, stars
        Numbers of null stars, and of stars that are tested.
    level
        (level,) ascending.
    rng
        Source of randomness.
    simulations
        Number of surveys.

    Returns
    -------
    array, shape (simulation, level)
    """
    rank = ranks(level, nulls)
    # Gaps between ordered random numbers are gammas over their sum.
    gaps = np.diff(np.concatenate([[0], rank, [nulls + 1]])).astype(np.float64)
    drawn = rng.standard_gamma(np.broadcast_to(gaps, (simulations, len(gaps))))
    part = (np.cumsum(drawn, axis=1) / drawn.sum(axis=1, keepdims=True))[:, :-1]
    below, remaining = np.zeros((simulations, len(level)), np.int64), np.full(simulations, stars, np.int64)
    before = np.zeros(simulations)
    for place in range(len(level)):
        chance = np.clip((part[:, place] - before) / np.maximum(1.0 - before, 1e-300), 0.0, 1.0)
        remaining -= rng.binomial(remaining, chance)
        before = part[:, place]
        below[:, place] = stars - remaining
    return below


def bound_of(simulated: Counts, level: Array, confidence: float) -> Bound:
    """The bound that holds, at all levels together, in the stated part of made-up surveys.

    All levels are given the same chance to fail (Gazin et al. 2024 call it a template).

    Raises
    ------
    ValueError
        If the simulations are too few for the confidence.
    """
    simulations = len(simulated)
    allowed = int((1.0 - confidence) * simulations) - 1
    if allowed < 1:
        raise ValueError(f"{simulations} simulations do not tell a confidence of {confidence}; simulate more")
    # The part of surveys with as many singles, or more, at the level where a survey is the oddest.
    oddest = np.ones(simulations)
    for place in range(len(level)):
        column = np.sort(simulated[:, place])
        more = simulations - np.searchsorted(column, simulated[:, place], side="left")
        oddest = np.minimum(oddest, more / simulations)
    order = np.sort(oddest)
    kept = oddest > order[allowed - 1]
    while np.sum(~kept) > allowed:  # ties
        allowed -= 1
        kept = oddest > (order[allowed - 1] if allowed else 0.0)
    return Bound(level, np.maximum.accumulate(simulated[kept].max(axis=0)), confidence)


def expected_false(p_value: Array, singles: float) -> Array:
    """Benjamini & Hochberg's (1995) q-values with an estimated part of singles (Storey 2002), shape (star,).

    Conformal p-values against common nulls are positively dependent, and so the false discovery rate of those with a
    q-value of at most q is at most q in the mean over surveys (Bates et al. 2023, Theorem 2). In a single survey the
    false proportion is above q about as often as below: that is what :class:`Bound` is for.

    Parameters
    ----------
    p_value
        (star,) NaN where a star was not tested.
    singles
        Estimated part of singles among those tested.
    """
    result = np.ones(len(p_value))
    known = np.flatnonzero(np.isfinite(p_value))
    if len(known):
        order = known[np.argsort(p_value[known], kind="stable")]
        ascending = p_value[order]
        size = np.searchsorted(ascending, ascending, side="right")
        value: NDArray[Any] = np.minimum(singles * ascending * len(known) / size, 1.0)
        result[order] = np.minimum.accumulate(value[::-1])[::-1]
    return result
