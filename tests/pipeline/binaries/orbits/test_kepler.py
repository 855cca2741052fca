"""Kepler's equation and velocity curves against root searches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from twinlines.pipeline.binaries.orbits.kepler import eccentric_anomaly, mean_from_true, velocity_curve


def _root(mean: float, eccentricity: float) -> float:
    return float(brentq(lambda e: e - eccentricity * np.sin(e) - mean, -4.5, 4.5, xtol=1e-15, rtol=1e-15))


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.floats(-np.pi, np.pi), st.floats(0.0, 0.99))
def test_roots_agree_with_scipy(mean: float, eccentricity: float) -> None:
    ours = float(eccentric_anomaly(np.array([mean]), eccentricity)[0])
    # Near M = 0 and e = 1 the root itself is ill conditioned: by 1 / (1 - e).
    wanted = _root(mean, eccentricity)
    assert abs(ours - wanted) < 1e-12 or abs(abs(ours - wanted) - 2.0 * np.pi) < 1e-12


def test_the_equation_holds_to_the_last_bits_for_all_eccentricities() -> None:
    mean = np.linspace(-np.pi, np.pi, 20001)
    for eccentricity in (0.0, 0.01, 0.3, 0.9, 0.999, 0.99999):
        anomaly = eccentric_anomaly(mean, eccentricity)
        assert np.abs(anomaly - eccentricity * np.sin(anomaly) - mean).max() < 2e-15


def test_turns_do_not_count() -> None:
    mean = np.linspace(-3.0, 3.0, 7)
    eccentricity = np.full(7, 0.4)
    np.testing.assert_allclose(
        eccentric_anomaly(mean + 40.0 * np.pi, eccentricity), eccentric_anomaly(mean, eccentricity), atol=1e-13
    )


@pytest.mark.parametrize("eccentricity", [-0.1, 1.0, float("nan")])
def test_an_orbit_that_is_not_closed_is_refused(eccentricity: float) -> None:
    with pytest.raises(ValueError, match=r"an eccentricity is .*; closed orbits have 0 <= e < 1"):
        eccentric_anomaly(np.zeros(3), np.array([0.1, eccentricity, 0.2]))


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.floats(-3.1, 3.1), st.floats(0.0, 0.95), st.floats(-3.1, 3.1))
def test_a_curve_is_that_of_the_true_anomaly(mean: float, eccentricity: float, omega: float) -> None:
    half = np.tan(_root(mean, eccentricity) / 2.0)
    true = 2.0 * np.arctan(np.sqrt((1.0 + eccentricity) / (1.0 - eccentricity)) * half)
    wanted = np.cos(omega + true) + eccentricity * np.cos(omega)
    ours = velocity_curve(np.array([mean]), np.array([eccentricity]), np.array([omega]))
    assert abs(float(ours[0]) - wanted) < 1e-11
    assert abs(float(mean_from_true(np.array([true]), np.array([eccentricity]))[0]) - mean) < 1e-11


def test_a_curve_has_no_mean_over_time() -> None:
    mean = (np.arange(4096) + 0.5) / 4096 * 2.0 * np.pi
    assert abs(velocity_curve(mean, np.array([0.6]), np.array([1.1])).mean()) < 1e-9
