"""Whether a star's velocity changes from night to night by more than its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from twinlines.pipeline.binaries.evidence.nights import Nights

Array = NDArray[np.float64]

SCATTERS = (3.0, 6.0, 12.0, 24.0, 48.0, 96.0)
"""Standard deviations of the velocities of a star that moves, equally likely, km/s."""


@dataclass(frozen=True)
class Variability:
    """Velocities of stars over their nights; arrays of shape (star,)."""

    nights: NDArray[np.int64]
    """Nights that count."""
    mean: Array
    """Weighted mean velocity, km/s; NaN without a night."""
    spread: Array
    """Largest less smallest velocity, km/s; NaN without two nights."""
    chi2: Array
    """Of a constant velocity."""
    p_value: Array
    """Chance that a constant velocity scatters as much; NaN without two nights."""
    excess: Array
    """Standard deviation beyond the errors, km/s, of DerSimonian and Laird (1986); NaN without two nights."""
    log_ratio: Array
    """ln(likelihood of a velocity that changes / of a constant one), over :data:`SCATTERS`; 0 without two nights."""


def variability(nights: Nights, counts: NDArray[np.bool_]) -> Variability:
    """Compare each star's velocities with a constant.

    Parameters
    ----------
    nights
        Nights of stars.
    counts
        (night,) which of them count; those without a velocity never do.
    """
    use = counts & np.isfinite(nights.velocity)
    number = nights.per_star(use.astype(np.int64))
    variance = np.where(use, nights.error, 1.0) ** 2

    def sums(scatter: float, reference: Array) -> tuple[Array, Array, Array, Array]:
        """Sum of weights, mean of velocity less reference, chi2, sum of ln variance."""
        weight = np.where(use, 1.0 / (variance + scatter**2), 0.0)
        weights = nights.per_star(weight)
        mean = nights.per_star(weight * reference) / np.where(weights > 0.0, weights, 1.0)
        chi2 = nights.per_star(weight * (reference - mean[nights.star]) ** 2)
        return weights, mean, chi2, nights.per_star(np.where(use, np.log(variance + scatter**2), 0.0))

    velocity = np.where(use, nights.velocity, 0.0)
    weights, mean, chi2, logs = sums(0.0, velocity)
    about = np.where(use, velocity - mean[nights.star], 0.0)  # so that squares are small numbers' squares
    two = number >= 2
    squares = nights.per_star(np.where(use, 1.0 / variance, 0.0) ** 2)
    divisor = np.where(two, weights - squares / np.where(weights > 0.0, weights, 1.0), 1.0)
    constant = -0.5 * (chi2 + logs + np.log(np.where(two, weights, 1.0)))
    total = np.full(len(number), -np.inf)
    for scatter in SCATTERS:
        more, _, misfit, log_variance = sums(scatter, about)
        changing = -0.5 * (misfit + log_variance + np.log(np.where(two, more, 1.0)))
        total = np.logaddexp(total, changing - constant - np.log(len(SCATTERS)))
    return Variability(
        nights=number,
        mean=np.where(number > 0, mean, np.nan),
        spread=np.where(two, _spread(nights, velocity, use), np.nan),
        chi2=chi2,
        p_value=np.where(two, chi2_distribution.sf(chi2, np.maximum(number - 1, 1)), np.nan),
        excess=np.where(two, np.sqrt(np.maximum(chi2 - (number - 1), 0.0) / divisor), np.nan),
        log_ratio=np.where(two, total, 0.0),
    )


def _spread(nights: Nights, velocity: Array, use: NDArray[np.bool_]) -> NDArray[Any]:
    if not len(nights.begin):
        return np.empty(0)
    largest = np.maximum.reduceat(np.where(use, velocity, -np.inf), nights.begin)
    smallest = np.minimum.reduceat(np.where(use, velocity, np.inf), nights.begin)
    return np.asarray(np.where(np.isfinite(largest), largest, 0.0) - np.where(np.isfinite(smallest), smallest, 0.0))
