"""Which tracks surround a star: the mesh of compositions and masses that a set of tracks spans.

Compositions form a rectangle in ([Fe/H], [alpha/Fe]), which may have holes; each has masses of its own, since real sets
lack some masses at some metallicities. This module knows where tracks are, not what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


class TrackReason(IntEnum):
    """Why there is no state; the first that applies: not finite, mass, composition, EEP, then the tracks themselves."""

    OK = 0
    """There is one."""
    MASS_LOW = 1
    """Below the lightest track, of all or of a composition that the interpolation needs."""
    MASS_HIGH = 2
    """Above the heaviest track, of all or of a composition that the interpolation needs."""
    FEH_LOW = 3
    FEH_HIGH = 4
    EEP_LOW = 5
    EEP_HIGH = 6
    TRACK_ENDS = 7
    """A track that the interpolation needs ends before this EEP or age."""
    AGE_YOUNG = 8
    """The age lies before the first EEP."""
    AGE_OLD = 9
    """At this age the star is past the last EEP: evolved beyond the tip of the giant branch."""
    TOO_OLD = 10
    """Older than :data:`twinlines.pipeline.stars.tracks.MAXIMUM_AGE`."""
    NOT_FINITE = 11
    """A parameter is NaN or infinite."""
    ALPHA_LOW = 12
    ALPHA_HIGH = 13
    HOLE = 14
    """There are no tracks of a composition ([Fe/H], [alpha/Fe]) that the interpolation needs."""


@dataclass(frozen=True)
class Cells:
    """The tracks around each of n stars: two masses for each of 1, 2 or 4 compositions."""

    tracks: Indices
    """Indices of the tracks, (corner, n). A corner of weight zero repeats one that counts."""
    weights: Array
    """Weights of the interpolation, (corner, n); they add up to 1."""

    def take(self, columns: NDArray[np.bool_]) -> Cells:
        """The cells of the stars in ``kept``."""
        return Cells(self.tracks[:, columns], self.weights[:, columns])


class Mesh:
    """The mesh of tracks that are sorted by ([Fe/H], [alpha/Fe], mass).

    Parameters
    ----------
    feh, alpha, mass
        [Fe/H] and [alpha/Fe] in dex and initial mass in solar masses of each track, (track,).

    Raises
    ------
    ValueError
        If there is no track, or they are not sorted, or two are the same.
    """

    def __init__(self, feh: Array, alpha: Array, mass: Array) -> None:
        keys = np.stack([feh, alpha, mass])
        if not feh.size or not np.isfinite(keys).all():
            raise ValueError("each track needs a finite [Fe/H], [alpha/Fe] and mass, and there must be one at least")
        steps = np.diff(keys, axis=1)
        steps = np.where(steps[0] != 0, steps[0], np.where(steps[1] != 0, steps[1], steps[2]))
        if (steps <= 0).any():
            i = int(np.argmax(steps <= 0))
            raise ValueError(
                f"tracks must be sorted by [Fe/H], [alpha/Fe] and mass, each there once; {mass[i + 1]:g} Msun at "
                f"({feh[i + 1]:g}, {alpha[i + 1]:g}) follows {mass[i]:g} Msun at ({feh[i]:g}, {alpha[i]:g})"
            )
        self.feh: Array = np.unique(feh)
        """[Fe/H] of the compositions, dex, ascending."""
        self.alpha: Array = np.unique(alpha)
        """[alpha/Fe] of the compositions, dex, ascending."""
        self.mass: Array = np.unique(mass)
        """Masses of all tracks, solar masses, ascending."""
        self._track_mass = mass
        # Index of the track of each composition that is nearest to each mass, from below and from above; where there is
        # none, minus the reason.
        shape = self.feh.size * self.alpha.size, self.mass.size
        self._below = np.full(shape, -TrackReason.HOLE, dtype=np.int64)
        self._above = self._below.copy()
        composition = np.searchsorted(self.feh, feh) * self.alpha.size + np.searchsorted(self.alpha, alpha)
        for row in np.unique(composition):
            first, stop = np.searchsorted(composition, [row, row + 1])
            masses = mass[first:stop]
            below = np.searchsorted(masses, self.mass, side="right") - 1
            above = np.searchsorted(masses, self.mass, side="left")
            self._below[row] = np.where(below < 0, -TrackReason.MASS_LOW, first + below)
            self._above[row] = np.where(above == masses.size, -TrackReason.MASS_HIGH, first + above)

    def outside(self, mass: Array, feh: Array, alpha: Array) -> NDArray[np.int8]:
        """Say by which limit of the mesh as a whole stars lie outside, (n,); 0 inside.

        [alpha/Fe] counts where the mesh has two values of it or more.
        """
        reason = np.zeros(mass.size, dtype=np.int8)
        columns = [(mass, self.mass, TrackReason.MASS_LOW), (feh, self.feh, TrackReason.FEH_LOW)]
        if self.alpha.size > 1:
            columns.append((alpha, self.alpha, TrackReason.ALPHA_LOW))
        for values, axis, low in columns:
            beyond(reason, values, axis, low)
        for values, _, _ in columns:
            reason[~np.isfinite(values)] = TrackReason.NOT_FINITE
        return reason

    def cells(self, mass: Array, feh: Array, alpha: Array) -> tuple[Cells, NDArray[np.int8]]:
        """Find the tracks around stars that are inside by :meth:`outside`.

        Returns
        -------
        cells : Cells
            Of all n stars; without meaning where ``reason`` is not 0.
        reason : (n,) int8
            Why a track that is needed does not exist; 0 where all do.
        """
        place = np.searchsorted(self.mass, mass, side="right") - 1
        next_place = place + (mass > self.mass[place])
        tracks, weights = [], []
        for feh_row, feh_weight in _neighbours(self.feh, feh):
            for alpha_row, alpha_weight in _neighbours(self.alpha, alpha):
                composition = feh_row * self.alpha.size + alpha_row
                lower, upper = self._below[composition, place], self._above[composition, next_place]
                start = self._track_mass.take(lower, mode="clip")  # where there is no track, any number will do
                step = self._track_mass.take(upper, mode="clip") - start
                fraction = np.divide(mass - start, step, out=np.zeros_like(mass), where=step != 0)
                weight = feh_weight * alpha_weight
                tracks += [lower, upper]
                weights += [weight * (1.0 - fraction), weight * fraction]
        cells = Cells(np.stack(tracks), np.stack(weights))
        return cells, (-np.minimum(cells.tracks.min(axis=0), 0)).astype(np.int8)


def beyond(reason: NDArray[np.int8], values: Array, axis: Array, low: TrackReason) -> None:
    """Set ``reason``, where it is still 0, to ``low`` below the axis and to the reason after it above."""
    reason[(reason == 0) & (values < axis[0])] = low
    reason[(reason == 0) & (values > axis[-1])] = low + 1


def bracket(axis: Array, values: Array) -> tuple[Indices, Array]:
    """Index of the axis value below each value within the axis, and the fraction of the step above it, in [0, 1)."""
    place = np.searchsorted(axis, values, side="right") - 1
    step = np.diff(axis, append=np.inf)
    return place, (values - axis[place]) / step[place]


def _neighbours(axis: Array, values: Array) -> list[tuple[Indices, Array]]:
    """Indices (n,) and weights (n,) of the axis values around each value; an axis of one value is no coordinate."""
    if axis.size == 1:
        return [(np.zeros(values.size, dtype=np.int64), np.ones(values.size))]
    place, fraction = bracket(axis, values)
    # A neighbour of weight zero is replaced by the one that counts: it cannot matter what it lacks.
    return [(place, 1.0 - fraction), (np.where(fraction > 0, place + 1, place), fraction)]
