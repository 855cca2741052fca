"""Times of LAMOST exposures: local clock to UTC, UTC at the site to barycentric Julian dates.

Local time is Beijing's, UTC + 8 h, without summer time. Nothing here asks the network for Earth orientation: what
astropy brings along is enough (a second of UT1 moves the light travel time by 1.5 microseconds).
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
from astropy import constants as const
from astropy import units as u
from astropy.coordinates import GCRS, ICRS, EarthLocation, SkyCoord, solar_system_ephemeris
from astropy.time import Time, TimeDelta
from astropy.utils import iers
from astropy.utils.exceptions import AstropyWarning
from erfa import ErfaWarning  # type: ignore[import-untyped]
from numpy.typing import NDArray

SITE_LONGITUDE = 117.58
"""Longitude of the Guo Shou Jing Telescope (LAMOST), degrees east."""
SITE_LATITUDE = 40.39
"""Its latitude, degrees north."""
SITE_HEIGHT = 900.0
"""Its height above sea level, m."""

LOCAL_MINUS_UTC = 8.0 / 24.0
"""Beijing time minus UTC, d."""

MINUTES_PER_DAY = 1440.0
_LINES_BEFORE_2008 = 6 + 54_466 - 37_665
"""Lines of the table of the Earth's orientation before MJD 54466: six of heading, and a day each from MJD 37665."""
_MJD_ZERO = datetime(1858, 11, 17)  # noqa: DTZ001 - a clock reading; the zone is the caller's


def mjd_of_date(date: str) -> float:
    """Modified Julian day of an ISO date and time, on that text's own clock; NaN if it cannot be read."""
    try:
        moment = datetime.fromisoformat(date.strip())
    except ValueError:
        return float("nan")
    return (moment.replace(tzinfo=None) - _MJD_ZERO) / timedelta(days=1)


def date_of_mjd(mjd: float, timespec: str = "milliseconds") -> str:
    """ISO date and time, to a millisecond, of a modified Julian day: the inverse of :func:`mjd_of_date`."""
    moment = _MJD_ZERO + timedelta(milliseconds=round(mjd * 86_400_000))
    return moment.isoformat(timespec=timespec)


def bjd_tdb(
    mjd_utc: NDArray[np.float64], ra: NDArray[np.float64] | float, dec: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Barycentric Julian dates in TDB of moments at the telescope.

    Light travel time along the star's direction to the solar system's barycentre (astropy's built-in ephemeris, good to
    some 10 microseconds), plus TDB - UTC. A call costs 9 ms and 0.1 ms for each different moment: give it many.

    Parameters
    ----------
    mjd_utc : (moment,) float64
        Modified Julian days, UTC; NaN gives NaN.
    ra, dec : float, or (moment,) float64
        Direction of the star, or of each moment's star, ICRS, degrees.

    Returns
    -------
    (moment,) float64, d
    """
    known = np.isfinite(mjd_utc)
    result = np.full(mjd_utc.shape, np.nan)
    if not known.any():
        return result
    # All fibres of a plate are exposed together: where the Earth was is asked once. It is all that takes long.
    different, number = np.unique(mjd_utc[known], return_inverse=True)
    with offline(), _earth(different), solar_system_ephemeris.set("builtin"):
        moments = Time(different, format="mjd", scale="utc", location=site())
        observatory = moments.location.get_itrs(obstime=moments)
        centred = observatory.transform_to(GCRS(obstime=moments)).transform_to(ICRS()).cartesian
        directions = (np.broadcast_to(angle, mjd_utc.shape)[known] * u.deg for angle in (ra, dec))
        star = SkyCoord(*directions, frame="icrs").cartesian
        travel = TimeDelta(centred[number].dot(star) / const.c, scale="tdb")
        result[known] = (moments.tdb[number] + travel).jd
    return result


def heliocentric_correction(mjd_utc: NDArray[np.float64], ra: float, dec: float) -> NDArray[np.float64]:
    """Velocity of the telescope towards a star, against the Sun: what is added to an observed radial velocity.

    The header's HELIO_RV is its negative, at one moment; the two agree to 0.02 km/s.

    Parameters
    ----------
    mjd_utc : (moment,) float64
        Modified Julian days, UTC; NaN gives NaN.
    ra, dec
        Direction of the star, ICRS, degrees.

    Returns
    -------
    (moment,) float64, km/s
    """
    known = np.isfinite(mjd_utc)
    result = np.full(mjd_utc.shape, np.nan)
    if not known.any():
        return result
    with offline():
        moments = Time(mjd_utc[known], format="mjd", scale="utc")
        star = SkyCoord(ra * u.deg, dec * u.deg, frame="icrs")
        velocity = star.radial_velocity_correction("heliocentric", obstime=moments, location=site())
        result[known] = velocity.to_value(u.km / u.s)
    return result


def site() -> EarthLocation:
    """The telescope's place."""
    return EarthLocation.from_geodetic(SITE_LONGITUDE * u.deg, SITE_LATITUDE * u.deg, SITE_HEIGHT * u.m)


@contextlib.contextmanager
def _earth(mjd_utc: NDArray[np.float64]) -> Iterator[None]:
    """Let astropy take the Earth's orientation from the final table alone where it reaches.

    By default, astropy reads a second, longer table as well, to go on with predictions. Where both reach they may
    differ in their last digits, which a Julian date of 64 bits does not hold.
    """
    final = _final_orientation()
    first, last = (float(final["MJD"][row].value) for row in (0, -1))
    reaches = first < mjd_utc.min() and mjd_utc.max() < last - 1.0
    with iers.earth_orientation_table.set(final) if reaches else contextlib.nullcontext():
        yield


@lru_cache(maxsize=1)
def _final_orientation() -> iers.IERS:
    """The Earth's final orientation, a row a day, of the years in which the telescope has observed.

    The table begins in 1962: most of the time to read it goes into years in which nothing was observed.
    """
    return iers.IERS_B.read(iers.IERS_B_FILE, iers.IERS_B_README, data_start=_LINES_BEFORE_2008)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep astropy from downloading, and from complaining of years that its tables do not reach."""
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", ErfaWarning)
        warnings.simplefilter("ignore", AstropyWarning)
        yield
