"""Which velocities tie units together: those of stars that several exposures have, enough of them at each joint.

Knows arrays alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twinlines.pipeline.binaries.grouping import in_order

Numbers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Observations:
    """Velocities of stars in units; arrays of shape (observation,), which may be of 32 bits, as there are many."""

    star: Numbers
    """Number of the star, from 0."""
    unit: Numbers
    """Number of the unit, from 0."""
    exposure: Numbers
    """Number of the unit's exposure of a spectrograph, which both arms share, from 0."""
    velocity: Floats
    """Measured velocity, km/s, finite."""
    error: Floats
    """Its error with all that scatters besides photon noise, km/s, above 0."""

    def take(self, rows: NDArray[np.bool_]) -> Observations:
        """Some of the observations."""
        return Observations(
            self.star[rows], self.unit[rows], self.exposure[rows], self.velocity[rows], self.error[rows]
        )


def tied(observations: Observations, units: int, least: int, exempt: NDArray[np.bool_] | None = None) -> Observations:
    """Observations that tie units together by ``least`` stars or more, at every joint.

    One star that two fields have in common, and is a binary, would set them apart by all of its amplitude, and leave no
    residual. So exposures are joined only if they have ``least`` stars in common; a star that is seen in exposures that
    are not joined, directly or through others, counts as a star of its own in each part.

    Parameters
    ----------
    observations
        All observations.
    units
        Number of units.
    least
        Fewest repeated stars of a unit, and common stars of two exposures.
    exempt
        (unit,) units that count however few repeated stars they have.
    """
    while True:
        chosen = observations.take(repeated(observations, units, least, exempt))
        if not len(chosen.star):
            return chosen
        shape = int(chosen.star.max()) + 1, int(chosen.exposure.max()) + 1
        seen = coo_array((np.ones(len(chosen.star), np.int32), (chosen.star, chosen.exposure)), shape=shape).tocsr()
        seen.data[:] = 1  # both arms of an exposure are one visit
        common = seen.T @ seen
        common.data[common.data < least] = 0
        common.eliminate_zeros()
        _, part = connected_components(common, directed=False)
        before = len(observations.star), len(np.unique(chosen.star))
        number = in_order(chosen.star.astype(np.int64) * (int(part.max()) + 1) + part[chosen.exposure])
        observations = replace(chosen, star=number.astype(np.int32))
        if (len(number), int(number.max()) + 1) == before:
            return observations


def repeated(
    observations: Observations, units: int, least: int, exempt: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Observations of stars that are in several exposures, in units that have ``least`` or more such stars.

    Stars and units that do not count take others with them, so this is repeated until nothing changes.

    Parameters
    ----------
    observations
        All observations.
    units
        Number of units.
    least
        Fewest repeated stars of a unit.
    exempt
        (unit,) units that count however few repeated stars they have.

    Returns
    -------
    array, shape (observation,)
    """
    chosen = np.ones(len(observations.star), np.bool_)
    exposures = int(observations.exposure.max(initial=0)) + 1
    stars = int(observations.star.max(initial=-1)) + 1
    visit = observations.star.astype(np.int64) * exposures + observations.exposure
    order = np.argsort(visit)
    new = np.ones(len(order), np.bool_)
    new[1:] = np.diff(visit[order]) > 0
    place = np.empty(len(order), np.int32)
    place[order] = np.cumsum(new) - 1
    star_of = (visit[order][new] // exposures).astype(np.int32)
    del visit, order
    fewest = np.full(units, least) if exempt is None else np.where(exempt, 1, least)
    while True:
        there = np.zeros(len(star_of), np.bool_)
        there[place[chosen]] = True
        visits = np.bincount(star_of[there], minlength=stars)
        still = chosen & (visits[observations.star] >= 2)
        number = np.bincount(observations.unit[still], minlength=units)
        still &= (number >= fewest)[observations.unit]
        if np.array_equal(still, chosen):
            return chosen
        chosen = still
