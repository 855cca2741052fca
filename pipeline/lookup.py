"""Where values stand among others: rows of one table found in another by a key, whatever the order of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
"""Place of a value that is not among the others."""


def places_of(wanted: NDArray[Any], among: NDArray[Any]) -> NDArray[np.int64]:
    """Place of each value among others; :data:`NOWHERE` where it is not; of several equal ones the first.

    Parameters
    ----------
    wanted, among
        (value,) and (other,) numbers or structured keys, of one dtype.
    """
    if not len(among):
        return np.full(len(wanted), NOWHERE, np.int64)
    order = np.argsort(among, kind="stable")
    place = np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)
    found = order[place]
    return np.where(among[found] == wanted, found, NOWHERE)
