"""The Moon's light in a fibre at LAMOST: whether there may be any, and at which velocity it shows.

It is the Sun's spectrum. In a star's spectrum it looks like a second star, at a velocity that the calendar knows:
LAMOST's medium-resolution nights are bright ones, and many of its published SB2s are this (arXiv:2307.04505).
"""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, get_body_barycentric, get_body_barycentric_posvel, solar_system_ephemeris
from astropy.time import Time
from numpy.typing import NDArray

from twinlines.pipeline.lamost.times import offline, site

LEAST_LIT = 0.1
"""Part of the Moon's disc that is lit, from which on it counts; a fifth of a full one gives a fiftieth of its light."""

_STEP = 0.01  # d, either way, for velocities: the built-in ephemeris has the Moon's places only
_TO_KMS = 1.0 / 86400.0

_Vector = NDArray[np.float64]


def moonlight_velocity(mjd_utc: _Vector, ra: _Vector, dec: _Vector) -> _Vector:
    """Velocity, in the frame of the Sun, that the Moon's light has in the spectrum of a star.

    The Sun's light has on its way the velocity at which the Moon recedes from the Sun and from the telescope (2 km/s at
    most, together); the survey then adds the telescope's velocity towards the star, as to the star's own lines.

    Parameters
    ----------
    mjd_utc : (moment,) float64
        Modified Julian days, UTC; NaN gives NaN.
    ra, dec : (moment,) float64
        Direction of each moment's star, ICRS, degrees.

    Returns
    -------
    (moment,) float64, km/s
        NaN where the Moon is below the horizon, or less than :data:`LEAST_LIT` of it is lit.
    """
    result = np.full(np.shape(mjd_utc), np.nan)
    known = np.isfinite(mjd_utc) & np.isfinite(ra) & (np.abs(dec) <= 90.0)  # NaN compares false
    if not known.any():
        return result
    # All fibres of a plate are exposed together: where the Moon was is asked once.
    different, number = np.unique(mjd_utc[known], return_inverse=True)
    with offline(), solar_system_ephemeris.set("builtin"):
        earlier, now, later = (_Places(different + step) for step in (-_STEP, 0.0, _STEP))
        towards = now.velocity_of_telescope()
    way = (later.way_of_light - earlier.way_of_light) / (2.0 * _STEP) * _TO_KMS
    star = SkyCoord(ra[known] * u.deg, dec[known] * u.deg).cartesian.xyz.value.T
    velocity = way[number] + (towards[number] * star).sum(axis=1)
    result[known] = np.where(now.shines[number], velocity, np.nan)
    return result


class _Places:
    """Where Sun, Moon and telescope are at some moments, barycentric, km, (moment, 3)."""

    def __init__(self, mjd_utc: _Vector) -> None:
        self.moments = Time(mjd_utc, format="mjd", scale="utc")
        self._turning, self._turning_velocity = (vector.xyz.T for vector in site().get_gcrs_posvel(self.moments))
        centre, self._earth_velocity = get_body_barycentric_posvel("earth", self.moments)
        sun, self._sun_velocity = get_body_barycentric_posvel("sun", self.moments)
        moon = get_body_barycentric("moon", self.moments).xyz.to_value(u.km).T
        self.telescope = centre.xyz.to_value(u.km).T + self._turning.to_value(u.km)
        self.from_sun, self.to_moon = moon - sun.xyz.to_value(u.km).T, moon - self.telescope

    @property
    def way_of_light(self) -> _Vector:
        """From the Sun over the Moon to the telescope, km, (moment,)."""
        way: _Vector = np.linalg.norm(self.from_sun, axis=1) + np.linalg.norm(self.to_moon, axis=1)
        return way

    @property
    def shines(self) -> NDArray[np.bool_]:
        """Whether the Moon is up, and enough of it is lit, (moment,)."""
        up = _cosine(self.to_moon, self._turning.to_value(u.km)) > 0.0
        lit = 0.5 * (1.0 + _cosine(self.from_sun, self.to_moon))
        return np.asarray(up & (lit >= LEAST_LIT), np.bool_)

    def velocity_of_telescope(self) -> _Vector:
        """Against the Sun, km/s, (moment, 3)."""
        against = (self._earth_velocity - self._sun_velocity).xyz.T + self._turning_velocity
        velocity: _Vector = against.to_value(u.km / u.s)
        return velocity


def _cosine(one: _Vector, other: _Vector) -> _Vector:
    """Cosine of the angle between vectors, (moment, 3) and (moment, 3) -> (moment,)."""
    product = (one * other).sum(axis=1)
    cosine: _Vector = product / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return cosine
