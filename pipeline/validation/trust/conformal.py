"""Conformal p-values: how many presumed single stars score as high, of those alike.

A p-value says how rare such a score is among single stars like the nulls: of these, at most a part t has a p-value of t
or less. It is no probability of being single. Knows arrays, and no catalog.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.validation.trust.classes import NO_CLASS

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


def weighted(nulls: Array, weight: Array, scores: Array, own: float) -> Array:
    """(w + weight of nulls that score as high or higher) / (w + weight of all nulls), w the star's own weight.

    Source: Tibshirani et al. (2019), Conformal prediction under covariate shift, eq. 7; ties count as higher. Weights
    of 1 make Vovk's p-values, (1 + number as high) / (1 + number).

    Parameters
    ----------
    nulls, weight
        (null,) scores and weights.
    scores
        (star,) scores of stars that are tested.
    own
        Weight of each of these: that of the heaviest null, so that none is taken too lightly.

    Returns
    -------
    array, shape (star,)
    """
    order = np.argsort(nulls, kind="stable")
    above = np.r_[np.cumsum(weight[order][::-1])[::-1], 0.0]
    at = np.searchsorted(nulls[order], scores, side="left")
    return np.asarray((own + above[at]) / (own + above[0]))


def of_exposures(score: Array, group: Numbers, star: Numbers, null: NDArray[np.bool_], least: int) -> Array:
    """P-values of single exposures, each of which has another star than its nulls.

    Exposures of one star are alike: a null of a hundred exposures is one null. Every null star has the same weight,
    spread over its exposures of the class, which is valid for an exposure of a further star (Lee, Barber & Willett
    2023, Theorem 1). Exposures of null stars themselves have none.

    Parameters
    ----------
    score, group, star
        (exposure,) score, class and star.
    null
        (exposure,) whether the star is a null.
    least
        Fewest null stars of a class that has p-values.

    Returns
    -------
    array, shape (exposure,)
        NaN where there is none.
    """
    result = np.full(len(score), np.nan)
    for one in np.unique(group[group != NO_CLASS]):
        mine = group == one
        calibrating, tested = np.flatnonzero(mine & null), np.flatnonzero(mine & ~null)
        _, place, count = np.unique(star[calibrating], return_inverse=True, return_counts=True)
        if len(count) < least or not len(tested):
            continue
        result[tested] = weighted(score[calibrating], 1.0 / count[place], score[tested], 1.0)
    return result
