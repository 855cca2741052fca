"""Stellar tracks: the state of a star at (mass, [Fe/H], EEP), and its EEP at (mass, [Fe/H], age).

Evolutionary tracks are interpolated at fixed equivalent evolutionary point (EEP, in MIST's numbering: 202 zero-age main
sequence, 454 its end, 605 tip of the red giant branch; Dotter 2016, ApJS 222, 8), linearly in mass, [Fe/H], [alpha/Fe]
and EEP, in log age, log L, log Teff and current mass. Both directions use the same interpolant, so they are exact
inverses. Each composition has masses of its own, and a track ends where its model does: what the interpolation would
need and does not find is a reason, never an extrapolation.

The packaged table is computed from the formulae of Hurley, Pols and Tout (2000, MNRAS 315, 543) by
:mod:`twinlines.pipeline.stars.hurley`; :mod:`twinlines.pipeline.stars.mist_import` makes one of MIST's files. This
module must never know a spectrum or a survey.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlines.pipeline.stars import store
from twinlines.pipeline.stars.mesh import Array, Cells, Indices, Mesh, beyond, bracket
from twinlines.pipeline.stars.mesh import TrackReason as TrackReason
from twinlines.pipeline.storage.stores import StoreError

ZAMS, TAMS, RGB_TIP = 202, 454, 605
"""EEPs of the zero-age main sequence, its end, and the tip of the red giant branch (Dotter 2016)."""

MAXIMUM_AGE = 13.8e9
"""Age of the universe, years: older states are refused."""

SOLAR_TEFF = 5772.0
"""Nominal effective temperature of the Sun, K (IAU 2015 resolution B3)."""

SOLAR_LOGG = 4.438
"""log10 of the Sun's surface gravity in cm s-2 (IAU 2015 resolution B3)."""

_LOG_MAXIMUM_AGE = float(np.log10(MAXIMUM_AGE))

_CHUNK = 1 << 15
"""Stars interpolated together; bounds the memory beyond the result to some ten MB."""

_QUANTITIES = ("log_age", "log_l", "log_teff", "star_mass")


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
    """Evolutionary tracks sorted by ([Fe/H], [alpha/Fe], mass); values are (track, eep), NaN after a track's end."""

    feh: Array
    """[Fe/H] of each track, dex, (track,)."""
    alpha: Array
    """[alpha/Fe] of each track, dex, (track,)."""
    mass: Array
    """Initial mass of each track, solar masses, (track,)."""
    eep: Array
    """EEPs that are stored, ascending, (eep,); not necessarily every one."""
    log_age: Array
    """log10 of age in years, strictly increasing along EEP."""
    log_l: Array
    """log10 of luminosity in solar luminosities."""
    log_teff: Array
    """log10 of effective temperature in K."""
    star_mass: Array
    """Current mass, solar masses."""
    digest: str
    """Content hash; goes into the provenance of what is computed with the tracks."""

    def __post_init__(self) -> None:
        shape = (self.mass.size, self.eep.size)
        if self.eep.ndim != 1 or self.eep.size < 2 or not (np.diff(self.eep) > 0).all():
            raise ValueError(f"tracks: eep must have at least two values, ascending; got {self.eep}")
        for name in ("feh", "alpha", *_QUANTITIES):
            expected = shape if name in _QUANTITIES else shape[:1]
            if getattr(self, name).shape != expected:
                raise ValueError(f"tracks: {name} has shape {getattr(self, name).shape}, expected {expected}")
        finite = np.asarray(np.isfinite(self._table).all(axis=2))
        if (finite[:, 1:] & ~finite[:, :-1]).any():
            raise ValueError("tracks: a track has values after its end; cut it there")
        if not finite[:, :2].all():
            i = int(np.argmin(finite[:, 1]))
            raise ValueError(f"tracks: that of {self.label(i)} has fewer than two EEPs; remove it")
        falls = finite[:, 1:] & ~(np.diff(self.log_age, axis=1) > 0)
        if falls.any():
            i, k = np.argwhere(falls)[0]
            raise ValueError(
                f"tracks: age does not rise along the track of {self.label(i)} after EEP {self.eep[k]:g}; remove it"
            )
        _ = self.mesh  # which refuses tracks out of order
        self._table.flags.writeable = False  # many share it
        for column, name in enumerate(_QUANTITIES):  # views: all of MIST would not fit in memory twice
            object.__setattr__(self, name, self._table[:, :, column])

    @classmethod
    def load(cls, path: str | Path | None = None) -> Tracks:
        """Load a store of tracks; without ``path``, the packaged one.

        A file is read once, then shared until it changes: treat what this returns as read-only.

        Raises
        ------
        twinlines.pipeline.storage.chunks.StoreError
            If the store is missing or damaged.
        twinlines.pipeline.datasets.SchemaError
            If it is a store of another kind.
        """
        if path is None:
            with resources.as_file(resources.files("twinlines.pipeline") / "data" / "tracks.zarr.zip") as packaged:
                return cls.load(packaged)
        path = Path(path)
        if not path.exists():
            raise StoreError(f"{path} does not exist; 'twinlines tracks import' makes a store of tracks")
        status = path.stat()
        return _load(path.resolve(), status.st_mtime_ns, status.st_size)

    def __repr__(self) -> str:
        compositions = np.unique(np.stack([self.feh, self.alpha]), axis=1).shape[1]
        return (
            f"<Tracks: {self.mass.size} tracks, {self.mass.min():g} to {self.mass.max():g} Msun, "
            f"EEP {self.eep[0]:g} to {self.eep[-1]:g}\n"
            f" {compositions} compositions, [Fe/H] {self.feh.min():g} to {self.feh.max():g}, "
            f"[alpha/Fe] {self.alpha.min():g} to {self.alpha.max():g}; digest {self.digest[:12]}>"
        )

    def label(self, track: int) -> str:
        """Mass and composition of a track, for people."""
        alpha = f", [alpha/Fe] {self.alpha[track]:g}" if self.alpha[track] else ""
        return f"{self.mass[track]:g} Msun, [Fe/H] {self.feh[track]:g}{alpha}"

    @property
    def log_r(self) -> Array:
        """log10 of radius in solar radii, from luminosity and effective temperature; (track, eep)."""
        return _log_radius(self.log_l, self.log_teff)

    @property
    def log_g(self) -> Array:
        """log10 of surface gravity in cm s-2, from current mass and radius; (track, eep)."""
        return SOLAR_LOGG + np.log10(self.star_mass) - 2.0 * self.log_r

    @cached_property
    def mesh(self) -> Mesh:
        """Where the tracks are in ([Fe/H], [alpha/Fe], mass)."""
        return Mesh(self.feh, self.alpha, self.mass)

    @cached_property
    def length(self) -> Indices:
        """Number of EEPs that each track has, (track,)."""
        return np.asarray(np.isfinite(self.log_age).sum(axis=1))

    @cached_property
    def _table(self) -> Array:
        """The four quantities side by side, so that one gather brings all: (track, eep, quantity)."""
        return np.stack([getattr(self, name) for name in _QUANTITIES], axis=2)

    @cached_property
    def _complete(self) -> int:
        """Number of EEPs of a track that reaches the tip of the giant branch, or the last EEP before it."""
        return int(np.searchsorted(self.eep, RGB_TIP, side="right"))

    def state(self, mass: ArrayLike, feh: ArrayLike, eep: ArrayLike, alpha: ArrayLike = 0.0) -> State:
        """Interpolate the states of stars.

        Parameters
        ----------
        mass, feh, eep, alpha
            Initial mass in solar masses, [Fe/H] in dex, EEP, [alpha/Fe] in dex; broadcast to one dimension, (n,).
            [alpha/Fe] is a coordinate where the tracks have two values of it or more. Where they have one it is
            ignored: so Zhang et al. (2022) used MIST 1.2, which is scaled-solar, for all their [alpha/Fe].

        Returns
        -------
        State
            With NaN and a reason where there is no state.
        """
        mass, feh, eep, alpha = _together(mass, feh, eep, alpha)
        parts = [
            self._state(*(values[start : start + _CHUNK] for values in (mass, feh, eep, alpha)))
            for start in range(0, max(mass.size, 1), _CHUNK)
        ]
        return State(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(State)))

    def _state(self, mass: Array, feh: Array, eep: Array, alpha: Array) -> State:
        reason = self.mesh.outside(mass, feh, alpha)
        beyond(reason, eep, self.eep, TrackReason.EEP_LOW)
        reason[~np.isfinite(eep)] = TrackReason.NOT_FINITE
        values = np.full((mass.size, len(_QUANTITIES)), np.nan)
        good, cells, length = self._locate(reason, mass, feh, alpha)
        place, fraction = bracket(self.eep, eep[good])
        ends = place + (fraction > 0) >= length
        # A track that ends beyond the age of the universe is too old at every later EEP, whatever ended it.
        last = self._log_age(cells, length - 1)
        reason[good[ends]] = np.where(last > _LOG_MAXIMUM_AGE, TrackReason.TOO_OLD, TrackReason.TRACK_ENDS)[ends]
        good, cells, length, place, fraction = (
            good[~ends],
            cells.take(~ends),
            length[~ends],
            place[~ends],
            fraction[~ends],
        )
        lower = self._values(cells, place)
        # A star on the last EEP of a track has no upper neighbour, and needs none.
        upper = self._values(cells, np.minimum(place + 1, length - 1))
        values[good] = lower + fraction[:, None] * (upper - lower)
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

    def eep_at_age(
        self, mass: ArrayLike, feh: ArrayLike, age: ArrayLike, alpha: ArrayLike = 0.0
    ) -> tuple[Array, NDArray[np.int8]]:
        """Find the EEP that stars have at an age: the inverse of :meth:`state`'s age.

        Parameters
        ----------
        mass, feh, age, alpha
            Initial mass in solar masses, [Fe/H] in dex, age in years, [alpha/Fe] in dex (see :meth:`state`); broadcast
            to one dimension, (n,).

        Returns
        -------
        eep : (n,) float64
            NaN where there is none.
        reason : (n,) int8
            Values of :class:`TrackReason`.
        """
        mass, feh, age, alpha = _together(mass, feh, age, alpha)
        eep, reason = np.full(mass.size, np.nan), np.zeros(mass.size, dtype=np.int8)
        for start in range(0, mass.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            eep[part], reason[part] = self._eep_at_age(mass[part], feh[part], age[part], alpha[part])
        return eep, reason

    def _eep_at_age(self, mass: Array, feh: Array, age: Array, alpha: Array) -> tuple[Array, NDArray[np.int8]]:
        reason = self.mesh.outside(mass, feh, alpha)
        reason[~np.isfinite(age)] = TrackReason.NOT_FINITE
        reason[(reason == 0) & (age > MAXIMUM_AGE)] = TrackReason.TOO_OLD
        reason[(reason == 0) & (age <= 0)] = TrackReason.AGE_YOUNG
        eep = np.full(mass.size, np.nan)
        good, cells, length = self._locate(reason, mass, feh, alpha)
        wanted = np.log10(age[good])
        first = self._log_age(cells, np.zeros_like(length))
        last = self._log_age(cells, length - 1)
        # One part in 1e12 of the age is forgiven at both ends, so that state() and this function agree there.
        young, old = wanted < first - 5e-13, wanted > last + 5e-13
        complete = length >= self._complete
        reason[good[young]] = TrackReason.AGE_YOUNG
        reason[good[old]] = np.where(complete[old], TrackReason.AGE_OLD, TrackReason.TRACK_ENDS)
        bracketed = reason[good] == 0
        good, cells, wanted = good[bracketed], cells.take(bracketed), wanted[bracketed]
        low, high = np.zeros_like(length[bracketed]), length[bracketed] - 1
        # Bisection on the interpolated track, until low and high are neighbours in every row.
        for _ in range(int(np.ceil(np.log2(self.eep.size)))):
            middle = (low + high) // 2
            before = self._log_age(cells, middle) <= wanted
            wide = high - low > 1
            low, high = np.where(wide & before, middle, low), np.where(wide & ~before, middle, high)
        start, stop = self._log_age(cells, low), self._log_age(cells, high)
        fraction = np.clip((wanted - start) / (stop - start), 0.0, 1.0)
        eep[good] = self.eep[low] + fraction * (self.eep[high] - self.eep[low])
        return eep, reason

    def _values(self, cells: Cells, place: Indices) -> Array:
        """Interpolate the four quantities between the tracks of each cell at EEP index ``place`` (n,): (n, 4)."""
        rows = self._table.reshape(-1, len(_QUANTITIES))
        total = np.zeros((place.size, len(_QUANTITIES)))
        for tracks, weights in zip(cells.tracks, cells.weights, strict=True):
            # Rows of a flat table are taken three times as fast as by an index of track and one of EEP.
            total += weights[:, None] * rows.take(tracks * self.eep.size + place, axis=0)
        return total

    def _log_age(self, cells: Cells, place: Indices) -> Array:
        """Interpolate the first of the four quantities alone: (n,)."""
        numbers, total = self._table.reshape(-1), np.zeros(place.size)
        for tracks, weights in zip(cells.tracks, cells.weights, strict=True):
            total += weights * numbers.take((tracks * self.eep.size + place) * len(_QUANTITIES))
        return total

    def _locate(
        self, reason: NDArray[np.int8], mass: Array, feh: Array, alpha: Array
    ) -> tuple[Indices, Cells, Indices]:
        """Find the tracks around the stars whose ``reason`` is 0, and give it to those that lack one.

        Returns
        -------
        good : (m,) int64
            The stars that have all tracks.
        cells : Cells
            Their m cells.
        length : (m,) int64
            Number of EEPs that all tracks of a cell have.
        """
        good = np.flatnonzero(reason == 0)
        cells, missing = self.mesh.cells(mass[good], feh[good], alpha[good])
        reason[good] = missing
        if missing.any():
            good, cells = good[missing == 0], cells.take(missing == 0)
        return good, cells, self.length[cells.tracks].min(axis=0)


def _log_radius(log_l: Array, log_teff: Array) -> Array:
    """log10 of the radius in solar radii, from L = 4 pi R^2 sigma Teff^4."""
    return np.asarray(0.5 * log_l - 2.0 * (log_teff - np.log10(SOLAR_TEFF)))


def _together(*values: ArrayLike) -> tuple[Array, ...]:
    """Broadcast parameters to float64 arrays of one shape (n,)."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values))
    if arrays[0].ndim != 1:
        raise ValueError(f"parameters must be numbers or of shape (n,); got {arrays[0].shape}")
    return tuple(arrays)


@lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int, size: int) -> Tracks:
    """Read the store at ``path``; its time and size are part of the cache's key, so that a new file is read."""
    stored = store.read(path)
    columns = {name: stored.columns[name].astype(np.float64) for name in ("feh", "alpha", "mass", *_QUANTITIES)}
    try:
        return Tracks(**columns, eep=stored.eep, digest=stored.digest)
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from error
