"""The Wilson line against a general minimiser, and where it says nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import kstest

from twinlines.pipeline.binaries.components.wilson import Halves, Line, fit_line, halves

Array = NDArray[np.float64]


def _observed(
    rng: np.random.Generator, shape: Array, error: float | Array, mass_ratio: float = 0.7
) -> tuple[Array, Array, Array]:
    """Velocities, errors and correlations of one source with gamma 12 km/s; (1, epoch, ...)."""
    count = len(shape)
    errors = np.broadcast_to(error, (count, 2)) * np.ones((count, 2))
    correlation = np.full(count, 0.3)
    true = np.stack([12.0 + shape, 12.0 - shape / mass_ratio], axis=1)
    first = rng.standard_normal((count, 2))
    first[:, 1] = 0.3 * first[:, 0] + np.sqrt(1.0 - 0.09) * first[:, 1]
    return (true + errors * first)[None], errors[None], correlation[None]


def _line(velocity: Array, error: Array, correlation: Array) -> Line:
    return fit_line(halves(velocity, error, correlation, np.ones(correlation.shape, dtype=np.bool_)))


def _distance(parameters: Array, velocity: Array, error: Array, correlation: Array) -> float:
    """Weighted sum of squares about v1 + q v2 = gamma (1 + q), written in the velocities themselves."""
    ratio, gamma = parameters
    miss = velocity[:, 0] + ratio * velocity[:, 1] - gamma * (1.0 + ratio)
    variance = error[:, 0] ** 2 + ratio**2 * error[:, 1] ** 2 + 2.0 * ratio * correlation * error.prod(axis=1)
    return float((miss**2 / variance).sum())


def test_a_general_minimiser_finds_the_same_line() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        observed = _observed(rng, rng.uniform(-60.0, 60.0, 8), rng.uniform(1.0, 4.0, (8, 2)))
        line = _line(*observed)
        best = minimize(
            _distance, [0.7, 12.0], args=tuple(part[0] for part in observed), method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-11},
        )  # fmt: skip
        np.testing.assert_allclose([line.mass_ratio[0], line.gamma[0]], best.x, rtol=1e-5)
        assert abs(line.chi2[0] - best.fun) < 1e-6


def test_errors_are_those_of_many_realisations() -> None:
    rng = np.random.default_rng(2)
    shape = rng.uniform(-60.0, 60.0, 9)
    parts = [_observed(rng, shape, 2.0) for _ in range(1500)]
    line = _line(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    for values, errors, truth in (
        (line.mass_ratio, line.mass_ratio_error, 0.7),
        (line.gamma, line.gamma_error, 12.0),
    ):
        pulls = (values - truth) / errors
        assert abs(pulls.mean()) < 0.1
        assert 0.93 < pulls.std() < 1.07
    within = (line.lower < 0.7) & (line.upper > 0.7)
    assert 0.65 < within.mean() < 0.72
    assert kstest(line.p_value, "uniform").pvalue > 0.01
    assert (line.freedom == 7).all()


def test_exchanging_all_stars_inverts_the_mass_ratio() -> None:
    velocity, error, correlation = _observed(np.random.default_rng(3), np.array([50.0, -20.0, 5.0, -44.0]), 2.0)
    line, other = _line(velocity, error, correlation), _line(velocity[..., ::-1], error[..., ::-1], correlation)
    np.testing.assert_allclose(other.mass_ratio * line.mass_ratio, 1.0)
    np.testing.assert_allclose([other.gamma, other.chi2], [line.gamma, line.chi2], rtol=1e-6)
    np.testing.assert_allclose(other.upper, 1.0 / line.lower, rtol=1e-4)


def test_epochs_of_one_phase_bound_nothing() -> None:
    line = _line(*_observed(np.random.default_rng(4), np.full(6, 40.0), 2.0))
    assert line.lower[0] == 0.0 or np.isinf(line.upper[0])
    assert np.isinf(line.mass_ratio_error[0])


def test_one_epoch_gives_no_line_and_does_not_disturb_others() -> None:
    velocity, error, correlation = _observed(np.random.default_rng(5), np.array([50.0, -20.0, 30.0]), 2.0)
    alone = _line(velocity, error, correlation)
    present = np.array([[True, True, True], [True, False, False]])
    twice = (np.concatenate([part, part]) for part in (velocity, error, correlation))
    both = fit_line(halves(*twice, present))
    assert both.mass_ratio[0] == alone.mass_ratio[0]
    assert np.isnan([both.mass_ratio[1], both.gamma[1], both.chi2[1], both.mass_ratio_error[1]]).all()
    assert both.freedom.tolist() == [1, -1]


def test_two_epochs_are_always_on_a_line() -> None:
    line = _line(*_observed(np.random.default_rng(6), np.array([50.0, -20.0]), 2.0))
    assert line.chi2[0] < 1e-12
    assert np.isnan(line.p_value[0])
    assert 0.5 < line.mass_ratio[0] < 0.9


def test_turning_signs_turns_kappa() -> None:
    velocity, error, correlation = _observed(np.random.default_rng(7), np.array([50.0, -20.0, 10.0]), 2.0)
    points: Halves = halves(velocity, error, correlation, np.ones((1, 3), dtype=np.bool_))
    np.testing.assert_allclose(fit_line(points.turned(np.full((1, 3), -1.0))).kappa, -fit_line(points).kappa, rtol=1e-9)
