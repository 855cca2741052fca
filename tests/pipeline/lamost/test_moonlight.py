"""The Moon's light: up and lit as astropy has it, at the velocity that the survey's frame gives it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, get_body
from astropy.time import Time

from twinlines.pipeline.lamost import times
from twinlines.pipeline.lamost.moonlight import LEAST_LIT, moonlight_velocity

MOMENTS = np.random.default_rng(5).uniform(58_000.0, 59_500.0, 300)
RA, DEC = np.random.default_rng(6).uniform([[0.0], [-10.0]], [[360.0], [80.0]], (2, 300))


def test_it_shows_when_the_moon_is_up_and_lit() -> None:
    moments = Time(MOMENTS, format="mjd", scale="utc")
    with times.offline():
        moon, sun = (get_body(body, moments, times.site()) for body in ("moon", "sun"))
        height = moon.transform_to(AltAz(obstime=moments, location=times.site())).alt.deg
        elongation = moon.separation(sun).deg
    sure = np.abs(height) > 0.5
    lit = 0.5 * (1.0 - np.cos(np.deg2rad(elongation)))
    sure &= np.abs(lit - LEAST_LIT) > 0.02
    shows = np.isfinite(moonlight_velocity(MOMENTS, RA, DEC))
    assert sure.sum() > 250
    np.testing.assert_array_equal(shows[sure], ((height > 0.0) & (lit > LEAST_LIT))[sure])
    assert 0.2 < shows.mean() < 0.8


def test_its_velocity_is_the_telescope_s_but_for_the_moon_s_own() -> None:
    velocity = moonlight_velocity(MOMENTS, RA, DEC)
    shows = np.flatnonzero(np.isfinite(velocity))
    telescope = np.array(
        [times.heliocentric_correction(MOMENTS[one : one + 1], RA[one], DEC[one])[0] for one in shows[:40]]
    )
    own = velocity[shows[:40]] - telescope
    assert np.abs(own).max() < 2.0  # the Moon's orbit, the Earth's ellipse, the Earth's rotation
    assert np.abs(own).max() > 0.3
    # At one moment it is the same whatever the star.
    moment = np.full(3, MOMENTS[shows[0]])
    ra, dec = np.array([10.0, 130.0, 290.0]), np.array([0.0, 30.0, 60.0])
    there = [times.heliocentric_correction(moment[:1], ra[place], dec[place])[0] for place in range(3)]
    assert np.ptp(moonlight_velocity(moment, ra, dec) - there) == pytest.approx(0.0, abs=0.02)


def test_the_rate_of_its_way_is_what_astropy_s_distances_say() -> None:
    moment, step = MOMENTS[np.isfinite(moonlight_velocity(MOMENTS, RA, DEC))][0], 0.02
    ways = []
    for when in (moment - step, moment + step):
        at = Time(when, format="mjd", scale="utc")
        with times.offline():
            moon, sun = (get_body(body, at, times.site()) for body in ("moon", "sun"))
        ways.append((moon.distance + moon.separation_3d(sun)).to_value(u.km))
    rate = (ways[1] - ways[0]) / (2.0 * step * 86400.0)
    (velocity,) = moonlight_velocity(np.array([moment]), np.array([40.0]), np.array([20.0]))
    (telescope,) = times.heliocentric_correction(np.array([moment]), 40.0, 20.0)
    assert velocity - telescope == pytest.approx(rate, abs=0.05)


def test_what_is_not_known_has_no_moonlight() -> None:
    assert np.isnan(moonlight_velocity(np.array([np.nan]), np.array([1.0]), np.array([1.0]))).all()
    nowhere = np.array([np.nan, -9999.0, 91.0])  # as catalogs write a declination that is not known
    assert np.isnan(moonlight_velocity(np.full(3, 58_650.7), np.full(3, 1.0), nowhere)).all()
    assert moonlight_velocity(np.empty(0), np.empty(0), np.empty(0)).shape == (0,)
