"""The bound of false ones: it holds at all thresholds at once, for whatever single stars score."""

from __future__ import annotations

import numpy as np
import pytest

from twinlines.pipeline.validation.trust import bounds, conformal, prevalence
from twinlines.pipeline.validation.trust.bounds import Bound, bound_of, levels, simulate


def test_simulated_singles_are_those_of_ranks() -> None:
    """Against drawing the scores themselves."""
    nulls, stars, level = 40, 200, levels(40)
    made = simulate(nulls, stars, level, np.random.default_rng(1), 3000)
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(3000):
        p = conformal.weighted(rng.random(nulls), np.ones(nulls), rng.random(stars), 1.0)
        drawn.append((p[:, None] <= level).sum(axis=0))
    for part in (0.1, 0.5, 0.9, 0.98):
        one, other = np.quantile(made, part, axis=0), np.quantile(drawn, part, axis=0)
        np.testing.assert_allclose(one, other, atol=6.0)


def test_the_bound_holds_at_all_levels_together() -> None:
    level = levels(100)
    bound = bound_of(simulate(100, 1000, level, np.random.default_rng(1)), level, 0.9)
    others = simulate(100, 1000, level, np.random.default_rng(2))
    holds = (others <= bound.false).all(axis=1).mean()
    assert 0.88 < holds < 0.96
    assert (np.diff(bound.false) >= 0).all()


def test_a_set_chosen_in_any_way_is_bounded() -> None:
    bound = Bound(np.array([0.01, 0.1]), np.array([2, 9]), 0.95)
    assert bound.among(np.full(50, 0.005)) == 2
    assert bound.among(np.r_[np.full(50, 0.005), np.full(3, 0.05)]) == 5
    assert bound.among(np.full(4, 0.5)) == 4
    assert bound.among(np.zeros(0)) == 0


def test_proportions_are_the_least_of_all_thresholds_that_include_the_star() -> None:
    bound = Bound(np.array([0.01, 0.1]), np.array([2, 9]), 0.95)
    p = np.r_[np.full(40, 0.004), np.full(60, 0.05), np.nan, 0.7]
    value = bound.proportions(p)
    # 9 of the first 100 are fewer in proportion than 2 + 60 of them, and 2 of 40 fewer yet.
    np.testing.assert_allclose(value[:40], 2 / 40)
    np.testing.assert_allclose(value[40:100], 9 / 100)
    assert value[100] == 1.0
    assert value[101] == pytest.approx(10 / 101)
    for q in (0.05, 0.09, 0.2):
        assert bound.among(p[value <= q]) <= q * np.sum(value <= q) + 1e-9


def test_too_few_simulations_are_refused() -> None:
    level = levels(10)
    with pytest.raises(ValueError, match="simulate more"):
        bound_of(simulate(10, 10, level, np.random.default_rng(0), 50), level, 0.99)


def test_q_values_are_benjamini_and_hochberg_s() -> None:
    p = np.array([0.001, 0.009, 0.5, np.nan, 0.04])
    np.testing.assert_allclose(bounds.expected_false(p, 1.0), [0.004, 0.018, 0.5, 1.0, 0.16 / 3])
    np.testing.assert_allclose(bounds.expected_false(p, 0.5)[:3], [0.002, 0.009, 0.25])


def test_conformal_p_values_are_valid_and_count_ties_as_higher() -> None:
    p = conformal.weighted(np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([0.0, 2.0, 4.0]), 1.0)
    np.testing.assert_allclose(p, [1.0, 0.75, 0.25])
    rng = np.random.default_rng(3)
    values = [conformal.weighted(rng.random(30), np.ones(30), rng.random(1), 1.0)[0] for _ in range(4000)]
    for t in (0.05, 0.1, 0.3):
        assert np.mean(np.array(values) <= t) < t + 3.0 * np.sqrt(t / 4000)


def test_a_null_of_many_exposures_is_one_null() -> None:
    # Stars that look odd at every exposure: counted by exposures, their p-values would be far too small.
    rng = np.random.default_rng(4)
    small = []
    for _ in range(400):
        count = np.where(rng.random(40) < 0.1, 1, 30)
        star = np.repeat(np.arange(41), np.r_[count, 1])
        score = rng.normal(0.0, 1.0, 41)[star] + 0.1 * rng.normal(size=len(star))
        p = conformal.of_exposures(score, np.zeros(len(star), np.int64), star, star < 40, 5)
        assert np.isnan(p[:-1]).all()
        small.append(p[-1] <= 0.1)
    assert np.mean(small) < 0.1 + 3.0 * np.sqrt(0.09 / 400)
    few = conformal.of_exposures(score, np.zeros(len(star), np.int64), star, star < 40, 41)
    assert np.isnan(few).all()


def test_the_prevalence_s_interval_holds() -> None:
    rng = np.random.default_rng(6)
    holds, middle = 0, []
    for _ in range(100):
        scores = np.r_[rng.normal(size=900), rng.normal(8.0, 1.0, 100)]
        p = conformal.weighted(rng.normal(size=300), np.ones(300), scores, 1.0)
        share = prevalence.estimate(p, 300.0, rng, at_least=0.0, confidence=0.95)
        holds += share.low <= 0.1 <= share.high
        middle.append(share.value)
    assert holds >= 88
    assert np.mean(middle) == pytest.approx(0.1, abs=0.01)
