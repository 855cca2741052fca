"""Medians of many groups of numbers at once, exact, by sorting: no loop over groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.integer[Any]]

_TIE = 1e-9  # of a group's weight: sums of equal weights differ by their rounding


def weighted_median(values: Array, weights: Array, group: Numbers, groups: int) -> Array:
    """Weighted median of each group: what minimises ``sum(weights * abs(values - x))``.

    Where all of an interval does, as for two equal weights, its middle.

    Parameters
    ----------
    values
        (row,) finite numbers.
    weights
        (row,) positive weights.
    group
        (row,) group of each row, 0 to ``groups`` - 1.
    groups
        Number of groups.

    Returns
    -------
    array, shape (groups,)
        NaN where a group has no row.
    """
    result = np.full(groups, np.nan)
    if not len(values):
        return result
    order = np.lexsort((values, group))
    sorted_values, sorted_group = values[order], group[order]
    begin = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    end = np.r_[begin[1:], len(order)]
    weight = weights[order]
    total = np.add.reduceat(weight, begin)
    # The share of the group's weight up to and including each row; what came before the group is taken off as it was
    # summed, so that rounding does not grow with the number of groups.
    summed = np.cumsum(weight / np.repeat(total, end - begin))
    running = summed - np.repeat(np.r_[0.0, summed[end[:-1] - 1]], end - begin)
    low = begin + np.add.reduceat((running < 0.5 - _TIE).astype(np.int64), begin)
    low = np.minimum(low, end - 1)
    high = np.where(np.abs(running[low] - 0.5) <= _TIE, np.minimum(low + 1, end - 1), low)
    result[sorted_group[begin]] = 0.5 * (sorted_values[low] + sorted_values[high])
    return result


def median(values: Array, group: Numbers, groups: int) -> Array:
    """Median of each group, shape (groups,); see :func:`weighted_median`."""
    return weighted_median(values, np.ones(len(values)), group, groups)
