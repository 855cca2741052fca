"""What became of a list's stars, and which share of them a catalog recovers: by period, S/N and epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.models.evaluation import Rate, rate

PERIODS = (1.0, 10.0, 100.0, 1000.0)
"""Ends of bins of the period, d; the paper's Figure 11 parts stars at 10 d."""

SNRS = (10.0, 20.0, 40.0, 80.0)
"""Ends of bins of the best blue S/N of a star's judged exposures."""

EPOCHS = (2.0, 4.0, 8.0)
"""Ends of bins of the number of a star's judged exposures."""


class Fate(IntEnum):
    """What became of a star of a list."""

    RECOVERED = 0
    """One of its exposures, or more, is a candidate."""
    MISSED = 1
    """Its exposures were judged, and none is a candidate."""
    NOT_JUDGED = 2
    """The catalog has exposures of it, and none has a verdict."""
    NOT_OBSERVED = 3
    """The catalog has no exposure of it."""
    NO_POSITION = 4
    """The row has not what it is to be found by."""

    @property
    def words(self) -> str:
        """In words."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Group:
    """Recovery of some stars of a list."""

    by: str
    """What they are grouped by: "all", "period", "snr" or "epochs"."""
    low: float
    """Least value; NaN: of all, or where it is not known."""
    high: float
    """They are below this; NaN as ``low``."""
    recovered: Rate
    """Recovered among recovered and missed, with Wilson's interval at 95 %."""

    @property
    def words(self) -> str:
        """The group in words."""
        if self.by == "all":
            return "all"
        if not np.isfinite(self.low) and not np.isfinite(self.high):
            return f"{self.by} unknown"
        low = "" if self.low in (-np.inf, 0.0) else f"{self.low:g} "
        return f"{self.by} {low}{'to ' if low and np.isfinite(self.high) else 'below ' if not low else ''}" + (
            f"{self.high:g}" if np.isfinite(self.high) else "and more"
        )


def groups_of(by: str, values: NDArray[np.float64], found: NDArray[np.bool_], ends: Sequence[float]) -> list[Group]:
    """Recovery of stars in bins between ``ends``, and of those whose value is not known.

    Parameters
    ----------
    by
        What the values are.
    values
        (star,) values, 0 or more; NaN where unknown.
    found
        (star,) whether a star is recovered.
    ends
        Ends of the bins, rising; the first begins at 0, the last has no end.
    """
    every = (0.0, *ends, np.inf)
    result = []
    for low, high in pairwise(every):
        mine = (values >= low) & (values < high)
        result.append(Group(by, low, high, rate(int(found[mine].sum()), int(mine.sum()))))
    unknown = ~np.isfinite(values)
    if unknown.any():
        result.append(Group(by, np.nan, np.nan, rate(int(found[unknown].sum()), int(unknown.sum()))))
    return result


def of_heads(
    p0: Mapping[str, NDArray[np.float64]], chosen: NDArray[np.bool_], period: NDArray[np.float64]
) -> list[Mapping[str, Any]]:
    """Exposures by head and period; those of one star are not independent, so that no interval is stated."""
    parts = {
        "all": chosen,
        "period below 10 d": chosen & (period < 10.0),
        "period from 10 d": chosen & (period >= 10.0),
        "period unknown": chosen & ~np.isfinite(period),
    }
    return [
        {"head": head, "of": words, "judged": int(known.sum()), "p0_above_half": int((known & (values > 0.5)).sum())}
        for head, values in p0.items()
        for words, part in parts.items()
        if (known := part & np.isfinite(values)).any()
    ]
