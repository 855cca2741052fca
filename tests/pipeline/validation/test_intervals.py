"""Intervals of rates: they hold, also where exposures come in stars."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from twinlines.pipeline.validation.intervals import ExactRate, clopper_pearson, clustered_rate, rate_of


def test_the_interval_is_clopper_and_pearson_s() -> None:
    rate = rate_of(3, 40)
    assert rate.low == pytest.approx(beta.ppf(0.025, 3, 38))
    assert rate.high == pytest.approx(beta.ppf(0.975, 4, 37))
    assert clopper_pearson(0, 20)[0] == 0.0
    assert clopper_pearson(20, 20)[1] == 1.0
    assert rate.to_json()["rate"] == 3 / 40


def test_without_trials_nothing_is_known() -> None:
    rate = clustered_rate(np.zeros(0, bool), np.zeros(0, np.int64))
    assert (rate.low, rate.high) == (0.0, 1.0)
    assert np.isnan(rate.value)


def test_exposures_that_are_alike_count_as_their_stars() -> None:
    star = np.repeat(np.arange(50), 10)
    alike = clustered_rate(star < 5, star)
    assert (alike.low, alike.high) == pytest.approx(clopper_pearson(5.0, 50.0), abs=0.01)
    apart = clustered_rate(np.tile(np.arange(10) == 0, 50), star)
    assert (apart.low, apart.high) == pytest.approx(clopper_pearson(50.0, 500.0), abs=1e-6)
    # None happened: as far as anybody knows they are as alike as can be.
    assert clustered_rate(np.zeros(500, bool), star).high == clopper_pearson(0.0, 50.0)[1]


def test_stars_of_one_rate_are_worth_their_exposures() -> None:
    star = np.repeat(np.arange(4), 10)
    same = clustered_rate(np.tile(np.arange(10) < 3, 4), star)
    assert (same.low, same.high) == pytest.approx(clopper_pearson(12.0, 40.0))


def test_the_interval_of_clustered_exposures_holds() -> None:
    rng = np.random.default_rng(5)
    star = np.repeat(np.arange(60), rng.integers(1, 20, 60))
    holds = 0
    for _ in range(200):
        of_star = rng.beta(0.3, 2.7, 60)
        rate = clustered_rate(rng.random(len(star)) < of_star[star], star)
        holds += rate.low <= 0.1 <= rate.high
    assert holds >= 180
    assert isinstance(rate, ExactRate)
