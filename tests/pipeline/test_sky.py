"""Angles between positions: those of a look at every pair, with one rule for the radius and for ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinlines.pipeline.sky import NOWHERE, nearest, pairs, pairs_among, separation

ARCSEC = 1.0 / 3600.0


def somewhere(seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions about a pole and the meridian, some of them twice."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(-0.01, 0.01, count) % 360.0, rng.choice([0.0, 89.99], count) + rng.uniform(0, 0.009, count)
    again = rng.integers(0, count, count // 3)
    ra[: len(again)], dec[: len(again)] = ra[again], dec[again]
    return ra, dec


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(0.5, 60.0))
def test_pairs_and_the_nearest_are_those_of_every_pair(seed: int, mine: int, others: int, radius: float) -> None:
    (ra, dec), (to_ra, to_dec) = somewhere(seed, mine), somewhere(seed + 1, others)
    to_ra[0], to_dec[0] = ra[0], dec[0]
    every = separation(ra[:, None], dec[:, None], to_ra, to_dec)
    row, other, apart = pairs(ra, dec, to_ra, to_dec, radius)
    assert sorted(zip(row.tolist(), other.tolist(), strict=True)) == list(
        zip(*np.nonzero(every <= radius), strict=True)
    )
    np.testing.assert_array_equal(apart, every[row, other])
    index, distance = nearest(ra, dec, to_ra, to_dec, radius)
    least = every.min(axis=1)
    there = least <= radius
    np.testing.assert_array_equal(index != NOWHERE, there)
    first = [int(np.flatnonzero(some <= some.min() + 1e-6)[0]) for some in every]
    assert index[there].tolist() == np.array(first)[there].tolist()
    np.testing.assert_array_equal(distance[there], least[there])
    one, two = pairs_among(ra, dec, radius)
    found = sorted(tuple(sorted(pair)) for pair in zip(one.tolist(), two.tolist(), strict=True))
    own = separation(ra[:, None], dec[:, None], ra, dec)
    assert found == [(a, b) for a, b in zip(*np.nonzero(own <= radius), strict=True) if a < b]


def test_of_equally_near_ones_the_first_counts() -> None:
    ra, dec = np.array([10.0]), np.array([0.0])
    around = np.array([10.0 + 2.0 * ARCSEC, 10.0 - 2.0 * ARCSEC, 10.0 + 2.0 * ARCSEC, 10.0])
    assert nearest(ra, dec, around[:3], np.zeros(3), 3.0)[0].tolist() == [0]
    assert nearest(ra, dec, around[[1, 0, 2]], np.zeros(3), 3.0)[0].tolist() == [0]
    assert nearest(ra, dec, around, np.zeros(4), 3.0)[0].tolist() == [3]


def test_the_radius_is_included_and_a_place_that_is_none_is_nowhere() -> None:
    ra, dec = np.array([10.0, np.nan, 10.0]), np.array([0.0, 0.0, 95.0])
    to_ra, to_dec = np.array([np.nan, 10.0]), np.array([0.0, 3.0 * ARCSEC])
    at = float(separation(ra[:1], dec[:1], to_ra[1:], to_dec[1:])[0])
    assert at == pytest.approx(3.0)
    index, distance = nearest(ra, dec, to_ra, to_dec, at)
    assert index.tolist() == [1, NOWHERE, NOWHERE]
    np.testing.assert_array_equal(distance, [at, np.nan, np.nan])
    assert nearest(ra, dec, to_ra, to_dec, np.nextafter(at, 0.0))[0].tolist() == [NOWHERE] * 3
    assert len(pairs(ra[:1], dec[:1], to_ra[1:], to_dec[1:], at)[0]) == 1
