"""Intervals of rates: of independent trials, and of exposures that come in stars. Knows counts, and no catalog."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

CONFIDENCE = 0.95
"""Chance with which an interval holds the true value, if nothing else is said."""


@dataclass(frozen=True)
class ExactRate:
    """A rate, and between what it lies."""

    count: int
    """Trials in which it happened."""
    trials: int
    """Trials."""
    low: float
    """Lower end of the interval; 0 where there was no trial."""
    high: float
    """Upper end; 1 where there was no trial."""

    @property
    def value(self) -> float:
        """The rate; NaN where there was no trial."""
        return self.count / self.trials if self.trials else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {"rate": self.value, **asdict(self)}


def rate_of(count: int, trials: int, confidence: float = CONFIDENCE) -> ExactRate:
    """A rate of independent trials, with the interval of Clopper & Pearson (1934), which holds whatever the rate."""
    low, high = clopper_pearson(float(count), float(trials), confidence)
    return ExactRate(int(count), int(trials), low, high)


def clopper_pearson(count: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Ends of the interval of a binomial rate; numbers need not be whole, as effective ones are not."""
    tail = (1.0 - confidence) / 2.0
    low = float(betaincinv(count, trials - count + 1.0, tail)) if count > 0.0 else 0.0
    high = float(betaincinv(count + 1.0, trials - count, 1.0 - tail)) if count < trials else 1.0
    return low, high


def clustered_rate(
    happened: NDArray[np.bool_], star: NDArray[np.integer[Any]], confidence: float = CONFIDENCE
) -> ExactRate:
    """A rate of exposures, of which those of one star are alike.

    The interval is that of as many independent trials as give the same standard error (Kish 1965, Survey Sampling,
    section 5.4; Korn & Graubard 1998): no fewer than there are stars where exposures vary, just as many where none, or
    all, of them happened, since nothing is known then of how alike they are.

    Parameters
    ----------
    happened
        (exposure,) whether it happened.
    star
        (exposure,) star of each exposure.
    """
    trials, count = len(happened), int(np.sum(happened))
    if not trials:
        return ExactRate(0, 0, 0.0, 1.0)
    _, place = np.unique(star, return_inverse=True)
    stars = int(place.max()) + 1
    rate = count / trials
    if stars == 1 or count in (0, trials):
        effective = float(stars)
    else:
        residual = np.bincount(place, happened - rate)
        variance = stars / (stars - 1.0) * float(np.sum(residual**2)) / trials**2
        # Stars whose rates are all the same vary less than independent trials would: that is worth no more than these.
        worth = rate * (1.0 - rate) / variance if variance > 0.0 else float(trials)
        effective = float(np.clip(worth, min(stars, trials), trials))
    low, high = clopper_pearson(rate * effective, effective, confidence)
    return ExactRate(count, trials, low, high)
