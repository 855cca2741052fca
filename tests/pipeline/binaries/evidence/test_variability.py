"""Velocities that change, against the same sums done one star at a time, and against what was injected."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import chi2, kstest, norm

from twinlines.pipeline.binaries.evidence.exposures import Exposures
from twinlines.pipeline.binaries.evidence.nights import Nights, nights_of
from twinlines.pipeline.binaries.evidence.variability import SCATTERS, variability


def nights(velocity: np.ndarray, error: np.ndarray, star: np.ndarray) -> Nights:
    rows = len(star)
    seen = Exposures(
        night=np.arange(rows).astype(np.int32),
        ratio=np.full(rows, -3.0, np.float32),
        head=np.full(rows, 2, np.int8),
        log_snr=np.full(rows, 3.0, np.float32),
        teff=np.full(rows, 5800.0, np.float32),
        velocity=velocity.astype(np.float32),
        error=error.astype(np.float32),
    )
    return nights_of(seen, star, 3)


def test_numbers_are_those_of_sums_one_star_at_a_time() -> None:
    rng = np.random.default_rng(1)
    star = np.sort(rng.integers(0, 40, 200))
    _, star = np.unique(star, return_inverse=True)
    velocity, error = rng.normal(-300.0, 9.0, 200), rng.uniform(1.0, 5.0, 200)
    velocity[rng.uniform(size=200) < 0.2] = np.nan
    counts = rng.uniform(size=200) < 0.9
    found = variability(nights(velocity, error, star), counts)
    velocity, error = velocity.astype(np.float32).astype(float), error.astype(np.float32).astype(float)
    for number in range(star.max() + 1):
        mine = (star == number) & counts & np.isfinite(velocity)
        v, w = velocity[mine], error[mine] ** -2.0
        assert found.nights[number] == len(v)
        if len(v) < 2:
            assert np.isnan([found.p_value[number], found.excess[number], found.spread[number]]).all()
            assert found.log_ratio[number] == 0.0
            continue
        mean = np.sum(w * v) / np.sum(w)
        q = np.sum(w * (v - mean) ** 2)
        assert found.mean[number] == pytest.approx(mean, rel=1e-6)
        assert found.spread[number] == pytest.approx(np.ptp(v), rel=1e-5)
        assert found.chi2[number] == pytest.approx(q, rel=1e-6)
        assert found.p_value[number] == pytest.approx(chi2.sf(q, len(v) - 1), rel=1e-6)
        excess = max(q - len(v) + 1, 0.0) / (np.sum(w) - np.sum(w**2) / np.sum(w))
        assert found.excess[number] == pytest.approx(np.sqrt(excess), abs=1e-5)


def test_the_ratio_is_that_of_integrals_over_the_mean() -> None:
    velocity, error = np.array([1.0, 12.0, -7.0]), np.array([3.0, 2.0, 4.0])

    def likelihood(scatter: float) -> float:
        def density(mean: float) -> float:
            return float(np.prod(norm.pdf(velocity, mean, np.hypot(error, scatter))))

        return quad(density, -800.0, 800.0, points=[0.0], limit=400)[0]

    expected = np.log(np.mean([likelihood(scatter) for scatter in SCATTERS]) / likelihood(0.0))
    found = variability(nights(velocity, error, np.zeros(3, np.int64)), np.ones(3, bool))
    assert found.log_ratio[0] == pytest.approx(expected, rel=1e-4)


def test_a_constant_velocity_has_any_chance_and_a_changing_one_its_scatter() -> None:
    rng = np.random.default_rng(2)
    star = np.repeat(np.arange(4000), 4)
    error = rng.uniform(1.0, 4.0, len(star))
    still = error * rng.standard_normal(len(star)) + rng.normal(0.0, 50.0, 4000)[star]
    found = variability(nights(still, error, star), np.ones(len(star), bool))
    assert kstest(found.p_value, "uniform").pvalue > 0.01
    assert np.median(found.excess) < 1.0
    assert np.mean(found.log_ratio > 0.0) < 0.1
    moving = still + 15.0 * rng.standard_normal(len(star))
    found = variability(nights(moving, error, star), np.ones(len(star), bool))
    assert np.sqrt(np.mean(found.excess**2)) == pytest.approx(15.0, rel=0.05)
    assert np.mean(found.log_ratio > 3.0) > 0.9


def test_no_star_at_all() -> None:
    empty = np.empty(0)
    found = variability(nights(empty, empty, np.empty(0, np.int64)), np.empty(0, bool))
    assert len(found.p_value) == len(found.log_ratio) == 0
