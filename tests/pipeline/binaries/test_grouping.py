"""Exposures to stars: by position, through chains of steps, and by identifier."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.binaries.grouping import NO_STAR, group

ARCSEC = 1.0 / 3600.0


def test_steps_lead_from_row_to_row_and_numbers_follow_the_rows() -> None:
    dec = np.array([10.0, 0.0, 2.9 * ARCSEC, 10.0, 5.8 * ARCSEC, 9.0 * ARCSEC])
    assert group(np.full(6, 5.0), dec).tolist() == [0, 1, 1, 0, 1, 2]
    assert group(np.full(6, 5.0), dec, radius=4.0).tolist() == [0, 1, 1, 0, 1, 1]


def test_the_sky_has_no_seams() -> None:
    ra = np.array([359.9999, 0.0001, 0.0, 90.0, 180.0, 370.0, 10.0])
    dec = np.array([0.0, 0.0, 90.0, 90.0 - ARCSEC, 90.0 - ARCSEC, 30.0, 30.0])
    assert group(ra, dec).tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_rows_without_a_position_are_no_star_unless_they_have_an_identifier() -> None:
    ra, dec = np.array([1.0, np.nan, 1.0, 7.0, np.nan, 1.0]), np.array([2.0, 2.0, 95.0, 2.0, np.nan, 2.0])
    assert group(ra, dec).tolist() == [0, NO_STAR, NO_STAR, 1, NO_STAR, 0]
    # The second row is the first one's star, the third and fourth are one by identifier wherever they are.
    ids = np.array([17, 17, 5, 5, -1, -1])
    assert group(ra, dec, ids=ids).tolist() == [0, 0, 1, 1, NO_STAR, 0]
    assert group(np.empty(0), np.empty(0)).tolist() == []
    assert group(np.array([np.nan]), np.array([0.0])).tolist() == [NO_STAR]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 40), st.floats(0.5, 60.0))
def test_stars_are_those_of_the_plain_definition(seed: int, rows: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    ra, dec = 100.0 + rng.uniform(0, 0.02, rows), 60.0 + rng.uniform(0, 0.02, rows)
    ra[rng.integers(0, rows, rows // 2)] = ra[0]
    position = SkyCoord(ra * u.deg, dec * u.deg)
    near = position[:, None].separation(position[None, :]) <= radius * u.arcsec
    for _ in range(rows):  # the transitive closure
        near = (near.astype(int) @ near) > 0
    star = group(ra, dec, radius=radius)
    assert np.array_equal(star[:, None] == star[None, :], near)
    first = [star.tolist().index(number) for number in range(star.max() + 1)]
    assert first == sorted(first)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ra has shape \(2,\), dec \(3,\)"):
        group(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="the radius of a star is 0 arcsec"):
        group(np.zeros(2), np.zeros(2), radius=0)
