"""Stellar tracks: the state of a star at (mass, [Fe/H], EEP), and its EEP at (mass, [Fe/H], age).

A table of evolutionary tracks is interpolated at fixed equivalent evolutionary point (EEP, in MIST's numbering: 202
zero-age main sequence, 454 its end, 605 tip of the red giant branch; Dotter 2016, ApJS 222, 8), linearly in mass,
[Fe/H] and EEP, in log age, log L, log Teff and current mass. Both directions use the same interpolant, so they are
exact inverses.

The packaged table is computed from the formulae of Hurley, Pols and Tout (2000, MNRAS 315, 543) by
:mod:`twinlines.pipeline.tracks_hurley`. This module must never know a spectrum or a survey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlines.pipeline import packed

KIND = "track table"
VERSION = 1

ZAMS, TAMS, RGB_TIP = 202, 454, 605
"""EEPs of the zero-age main sequence, its end, and the tip of the red giant branch (Dotter 2016)."""

MAXIMUM_AGE = 13.8e9
"""Age of the universe, years: older states are refused."""

SOLAR_TEFF = 5772.0
"""Nominal effective temperature of the Sun, K (IAU 2015 resolution B3)."""

SOLAR_LOGG = 4.438
"""log10 of the Sun's surface gravity in cm s-2 (IAU 2015 resolution B3)."""

_LOG_MAXIMUM_AGE = float(np.log10(MAXIMUM_AGE))

_CHUNK = 1 << 17
"""Stars interpolated together; bounds the memory beyond the result to some tens of MB."""

_QUANTITIES = ("log_age", "log_l", "log_teff", "star_mass")

Array = NDArray[np.float64]


class TrackReason(IntEnum):
    """Why there is no state; the first that applies, in this order after NOT_FINITE."""

    OK = 0
    """There is one."""
    MASS_LOW = 1
    MASS_HIGH = 2
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
    """Older than :data:`MAXIMUM_AGE`."""
    NOT_FINITE = 11
    """A parameter is NaN or infinite."""


@dataclass(frozen=True)
class State:
    """States of stars, each field of shape (n,); NaN where ``reason`` is not 0."""

    age: Array
    """Age, years."""
    teff: Array
    """Effective temperature, K."""
    logg: Array
    """log10 of surface gravity in cm s-2."""
    radius: Array
    """Radius, solar radii."""
    luminosity: Array
    """Luminosity, solar luminosities."""
    mass: Array
    """Current mass, solar masses; on the giant branch less than the initial one."""
    reason: NDArray[np.int8]
    """Values of :class:`TrackReason`."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """A table of evolutionary tracks; the arrays are (feh, mass, eep), NaN from where a track ends."""

    mass: Array
    """Initial masses, solar masses, ascending."""
    feh: Array
    """[Fe/H], dex, ascending."""
    eep: Array
    """EEPs that are stored, ascending; not necessarily every one."""
    log_age: Array
    """log10 of age in years, strictly increasing along EEP."""
    log_l: Array
    """log10 of luminosity in solar luminosities."""
    log_teff: Array
    """log10 of effective temperature in K."""
    star_mass: Array
    """Current mass, solar masses."""
    digest: str
    """Content hash; goes into the provenance of what is computed with the table."""

    def __post_init__(self) -> None:
        shape = (self.feh.size, self.mass.size, self.eep.size)
        for name in ("feh", "mass", "eep"):
            axis = getattr(self, name)
            if axis.ndim != 1 or axis.size < 2 or not (np.diff(axis) > 0).all():
                raise ValueError(f"track table: {name} must have at least two values, ascending; got {axis}")
        for name in _QUANTITIES:
            if getattr(self, name).shape != shape:
                raise ValueError(f"track table: {name} has shape {getattr(self, name).shape}, expected {shape}")
        finite = self._finite
        if (finite[:, :, 1:] & ~finite[:, :, :-1]).any():
            raise ValueError("track table: a track has values after its end; cut it there")
        rises = np.diff(self.log_age, axis=2) > 0
        if not rises[finite[:, :, 1:]].all():
            i, j, k = np.argwhere(~rises & finite[:, :, 1:])[0]
            raise ValueError(
                f"track table: age does not rise along the track of {self.mass[j]:g} Msun, [Fe/H] {self.feh[i]:g}, "
                f"at EEP {self.eep[k]:g}; remove that track"
            )

    @classmethod
    def load(cls, path: str | Path | None = None) -> Tracks:
        """Load a packed table; without ``path``, the packaged one (read once, then shared: treat it as read-only).

        Raises
        ------
        twinlines.pipeline.packed.PackedError
            If the file is missing, damaged, or of another format or version.
        """
        return _packaged() if path is None else _read(Path(path))

    @property
    def log_r(self) -> Array:
        """log10 of radius in solar radii, from luminosity and effective temperature; (feh, mass, eep)."""
        return _log_radius(self.log_l, self.log_teff)

    @property
    def log_g(self) -> Array:
        """log10 of surface gravity in cm s-2, from current mass and radius; (feh, mass, eep)."""
        return SOLAR_LOGG + np.log10(self.star_mass) - 2.0 * self.log_r

    @cached_property
    def _table(self) -> Array:
        """The four quantities side by side, so that one gather brings all: (feh, mass, eep, quantity)."""
        return np.stack([getattr(self, name) for name in _QUANTITIES], axis=3).astype(np.float64)

    @property
    def _finite(self) -> NDArray[np.bool_]:
        """Where there is a model, (feh, mass, eep)."""
        return np.asarray(np.isfinite(self._table).all(axis=3))

    @cached_property
    def _length(self) -> NDArray[np.int64]:
        """Number of EEPs that each track has, (feh, mass)."""
        return np.asarray(self._finite.sum(axis=2))

    def state(self, mass: ArrayLike, feh: ArrayLike, eep: ArrayLike) -> State:
        """Interpolate the states of stars.

        Parameters
        ----------
        mass, feh, eep
            Initial mass in solar masses, [Fe/H] in dex, EEP; broadcast to one dimension, (n,).

        Returns
        -------
        State
            With NaN and a reason where there is no state.
        """
        mass, feh, eep = _together(mass, feh, eep)
        parts = [
            self._state(mass[start : start + _CHUNK], feh[start : start + _CHUNK], eep[start : start + _CHUNK])
            for start in range(0, max(mass.size, 1), _CHUNK)
        ]
        return State(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(State)))

    def _state(self, mass: Array, feh: Array, eep: Array) -> State:
        reason = self._outside(mass, feh, eep)
        values = np.full((mass.size, len(_QUANTITIES)), np.nan)
        good = np.flatnonzero(reason == 0)
        cell = self._cell(mass[good], feh[good])
        place, fraction = _bracket(self.eep, eep[good])
        ends = place + (fraction > 0) >= cell.length
        # A track that ends beyond the age of the universe is too old at every later EEP, whatever ended it.
        last = cell.gather(self.log_age, np.maximum(cell.length - 1, 0))
        reason[good[ends]] = np.where(last > _LOG_MAXIMUM_AGE, TrackReason.TOO_OLD, TrackReason.TRACK_ENDS)[ends]
        good, cell, place, fraction = good[~ends], cell.take(~ends), place[~ends], fraction[~ends, None]
        lower = cell.gather(self._table, place)
        # A star on the last EEP of a track has no upper neighbour, and needs none.
        upper = cell.gather(self._table, np.minimum(place + 1, cell.length - 1))
        values[good] = lower + fraction * (upper - lower)
        too_old = values[:, 0] > _LOG_MAXIMUM_AGE
        reason[too_old] = TrackReason.TOO_OLD
        values[too_old] = np.nan
        log_age, log_l, log_teff, star_mass = values.T
        log_r = _log_radius(log_l, log_teff)
        return State(
            age=10.0**log_age,
            teff=10.0**log_teff,
            logg=SOLAR_LOGG + np.log10(star_mass) - 2.0 * log_r,
            radius=10.0**log_r,
            luminosity=10.0**log_l,
            mass=star_mass,
            reason=reason,
        )

    def eep_at_age(self, mass: ArrayLike, feh: ArrayLike, age: ArrayLike) -> tuple[Array, NDArray[np.int8]]:
        """Find the EEP that stars have at an age: the inverse of :meth:`state`'s age.

        Parameters
        ----------
        mass, feh, age
            Initial mass in solar masses, [Fe/H] in dex, age in years; broadcast to one dimension, (n,).

        Returns
        -------
        eep : (n,) float64
            NaN where there is none.
        reason : (n,) int8
            Values of :class:`TrackReason`.
        """
        mass, feh, age = _together(mass, feh, age)
        eep, reason = np.full(mass.size, np.nan), np.zeros(mass.size, dtype=np.int8)
        for start in range(0, mass.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            eep[part], reason[part] = self._eep_at_age(mass[part], feh[part], age[part])
        return eep, reason

    def _eep_at_age(self, mass: Array, feh: Array, age: Array) -> tuple[Array, NDArray[np.int8]]:
        reason = self._outside(mass, feh)
        reason[~np.isfinite(age)] = TrackReason.NOT_FINITE
        reason[(reason == 0) & (age > MAXIMUM_AGE)] = TrackReason.TOO_OLD
        reason[(reason == 0) & (age <= 0)] = TrackReason.AGE_YOUNG
        eep = np.full(mass.size, np.nan)
        good = np.flatnonzero(reason == 0)
        cell, wanted = self._cell(mass[good], feh[good]), np.log10(age[good])
        first = cell.gather(self.log_age, np.zeros_like(cell.length))
        last = cell.gather(self.log_age, np.maximum(cell.length - 1, 0))
        # One part in 1e12 of the age is forgiven at both ends, so that state() and this function agree there.
        young, old = wanted < first - 5e-13, wanted > last + 5e-13
        complete = cell.length == self.eep.size
        reason[good[young]] = TrackReason.AGE_YOUNG
        reason[good[old]] = np.where(complete[old], TrackReason.AGE_OLD, TrackReason.TRACK_ENDS)
        reason[good[cell.length < 2]] = TrackReason.TRACK_ENDS
        found = reason[good] == 0
        good, cell, wanted = good[found], cell.take(found), wanted[found]
        low, high = np.zeros_like(cell.length), cell.length - 1
        # Bisection on the interpolated track, until low and high are neighbours in every row.
        for _ in range(int(np.ceil(np.log2(self.eep.size)))):
            middle = (low + high) // 2
            before = cell.gather(self.log_age, middle) <= wanted
            wide = high - low > 1
            low, high = np.where(wide & before, middle, low), np.where(wide & ~before, middle, high)
        start, stop = cell.gather(self.log_age, low), cell.gather(self.log_age, high)
        fraction = np.clip((wanted - start) / (stop - start), 0.0, 1.0)
        eep[good] = self.eep[low] + fraction * (self.eep[high] - self.eep[low])
        return eep, reason

    def _outside(self, mass: Array, feh: Array, eep: Array | None = None) -> NDArray[np.int8]:
        """Say by which limit stars lie outside the table's axes."""
        reason = np.zeros(mass.size, dtype=np.int8)
        columns = [(mass, self.mass), (feh, self.feh)] + ([] if eep is None else [(eep, self.eep)])
        for column, (values, axis) in enumerate(columns):
            reason[(reason == 0) & (values < axis[0])] = 2 * column + 1
            reason[(reason == 0) & (values > axis[-1])] = 2 * column + 2
        for values, _ in columns:
            reason[~np.isfinite(values)] = TrackReason.NOT_FINITE
        return reason

    def _cell(self, mass: Array, feh: Array) -> _Cell:
        """Find the four tracks around each star."""
        i, across = _bracket(self.feh, feh)
        j, along = _bracket(self.mass, mass)
        # A neighbour of weight zero is replaced by the one that counts: it cannot matter where its track ends.
        i_next, j_next = np.where(across > 0, i + 1, i), np.where(along > 0, j + 1, j)
        rows, columns = np.stack([i, i, i_next, i_next]), np.stack([j, j_next, j, j_next])
        weights = np.stack(
            [(1 - across) * (1 - along), (1 - across) * along, across * (1 - along), across * along],
        )
        return _Cell(rows, columns, weights, self._length[rows, columns].min(axis=0))


@dataclass(frozen=True)
class _Cell:
    """The four tracks around each of n stars."""

    rows: NDArray[np.int64]
    """Indices in [Fe/H], (4, n)."""
    columns: NDArray[np.int64]
    """Indices in mass, (4, n)."""
    weights: Array
    """Weights of the interpolation, (4, n)."""
    length: NDArray[np.int64]
    """EEPs that all four tracks have, (n,)."""

    def take(self, kept: NDArray[np.bool_]) -> _Cell:
        """The cells of the stars in ``kept``."""
        return _Cell(self.rows[:, kept], self.columns[:, kept], self.weights[:, kept], self.length[kept])

    def gather(self, table: Array, place: NDArray[np.int64]) -> Array:
        """Interpolate ``table`` (feh, mass, eep, ...) between the four tracks at EEP index ``place`` (n,)."""
        values = table[self.rows, self.columns, place]
        return np.asarray(np.einsum("cn,cn...->n...", self.weights, values))


def _bracket(axis: Array, values: Array) -> tuple[NDArray[np.int64], Array]:
    """Index of the axis value below each value within the axis, and the fraction of the step above it, in [0, 1)."""
    place = np.searchsorted(axis, values, side="right") - 1
    step = np.diff(axis, append=np.inf)
    return place, (values - axis[place]) / step[place]


def _log_radius(log_l: Array, log_teff: Array) -> Array:
    """log10 of the radius in solar radii, from L = 4 pi R^2 sigma Teff^4."""
    return np.asarray(0.5 * log_l - 2.0 * (log_teff - np.log10(SOLAR_TEFF)))


def _together(*values: ArrayLike) -> tuple[Array, ...]:
    """Broadcast parameters to float64 arrays of one shape (n,)."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values))
    if arrays[0].ndim != 1:
        raise ValueError(f"parameters must be numbers or of shape (n,); got {arrays[0].shape}")
    return tuple(arrays)


@lru_cache(maxsize=1)
def _packaged() -> Tracks:
    with resources.as_file(resources.files("twinlines.pipeline") / "data" / "tracks.npz") as path:
        return _read(path)


def _read(path: Path) -> Tracks:
    content = packed.read(path, KIND, VERSION)
    arrays = {name: values.astype(np.float64) for name, values in content.arrays.items()}
    try:
        return Tracks(**arrays, digest=content.digest)
    except (TypeError, ValueError) as error:
        raise packed.PackedError(f"{path}: {error}") from error


def save(path: str | Path, tracks: Tracks, attrs: Mapping[str, object]) -> str:
    """Write a track table in the form that :meth:`Tracks.load` reads, and return its digest.

    Values are float32; log L, log Teff and mass are rounded to 1.2e-4, 1.5e-5 and 6e-5 (powers of two), far below any
    track's accuracy, which halves the file. Ages are not: their differences matter.

    Parameters
    ----------
    path
        File to write; one that exists is replaced.
    tracks
        The table; its own digest is not used.
    attrs
        Notes for the header: origin, parameters.
    """
    arrays: dict[str, NDArray[Any]] = {name: getattr(tracks, name) for name in ("mass", "feh", "eep")}
    for name, steps in (("log_age", None), ("log_l", 2.0**13), ("log_teff", 2.0**16), ("star_mass", 2.0**14)):
        values = getattr(tracks, name)
        arrays[name] = (values if steps is None else np.round(values * steps) / steps).astype(np.float32)
    return packed.write(path, KIND, VERSION, arrays, attrs)
