from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twinlines.pipeline.synthesis import priors
from twinlines.pipeline.synthesis.priors import (
    KINDS,
    NAMED,
    Constant,
    FlattenedSalpeter,
    PriorError,
    Tabulated,
    describe,
    parse,
)

UNIFORM = np.random.default_rng(5).random(20_000)


@pytest.mark.parametrize(
    ("prior", "distribution"),
    [
        (priors.Uniform(-2.0, 0.5), stats.uniform(-2.0, 2.5)),
        (priors.LogUniform(1.0, 300.0), stats.loguniform(1.0, 300.0)),
        (priors.Normal(3.0, 5.0), stats.norm(3.0, 5.0)),
        (priors.Gamma(2.0, 3.0), stats.gamma(2.0, scale=3.0)),
        (
            Tabulated((0.0, 10.0, 100.0), (0.0, 0.6, 1.0)),
            stats.rv_histogram(([0.6, 0.4], [0.0, 10.0, 100.0]), density=False),
        ),
    ],
    ids=lambda parameter: type(parameter).__name__,
)
def test_quantiles_are_the_distribution_s(prior: priors.Prior, distribution: stats.rv_continuous) -> None:
    np.testing.assert_allclose(prior.quantile(UNIFORM), distribution.ppf(UNIFORM), rtol=1e-13, atol=1e-13)


def test_a_constant_is_one_value() -> None:
    assert set(Constant(0.3).quantile(UNIFORM).tolist()) == {0.3}


def test_the_mass_function_is_continuous_and_has_its_limits() -> None:
    ends = FlattenedSalpeter().quantile(np.array([0.0, 1.0 - 1e-12]))
    np.testing.assert_allclose(ends, [0.1, 2.0], atol=1e-9)


@given(st.sampled_from(sorted(NAMED)), st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=2))
def test_quantiles_rise_and_are_finite(name: str, uniform: list[float]) -> None:
    values = NAMED[name].quantile(np.sort(np.array(uniform)))
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()


@pytest.mark.parametrize(
    "prior",
    [
        *NAMED.values(),
        Constant(1.0),
        FlattenedSalpeter(),
        priors.LogUniform(1.0, 2.0),
        priors.Normal(0.0, 5.0),
        Tabulated((1.0, 2.0), (0.0, 1.0)),
    ],
    ids=lambda prior: repr(prior)[:40],
)
def test_what_is_described_can_be_read(prior: priors.Prior) -> None:
    assert parse(describe(prior), "x") == prior


def test_short_forms() -> None:
    assert parse(0, "alpha") == Constant(0.0)
    assert parse("survey_vsini", "vsini1") is NAMED["survey_vsini"]
    assert set(KINDS) >= {"uniform", "normal", "flattened_salpeter"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("survey_vsin", r"priors.vsini1: no prior is called 'survey_vsin' \(did you mean 'survey_vsini'\?\)"),
        ({"kind": "unifrom", "low": 0, "high": 1}, r"no prior is of kind 'unifrom' \(did you mean 'uniform'\?\)"),
        ({"kind": "uniform", "low": 0, "hgih": 1}, "has no 'hgih'; it has low, high"),
        ({"kind": "uniform", "low": 0}, "is no prior of kind 'uniform'.*high"),
        ({"kind": "uniform", "low": 2, "high": 1}, "low is 2, high is 1; give finite limits"),
        ({"kind": "uniform", "low": 0, "high": float("inf")}, "give finite limits"),
        ({"kind": "uniform", "low": "a", "high": 1}, "is no prior of kind 'uniform'"),
        ({"kind": "log_uniform", "low": 0, "high": 1}, "low above 0"),
        ({"kind": "normal", "mean": 0, "sigma": 0}, "give a sigma above 0"),
        ({"kind": "gamma", "shape": -1, "scale": 1}, "give both above 0"),
        ({"kind": "tabulated", "values": [1, 2], "cumulative": [0, 0.5]}, "cumulative from 0 to 1"),
        ({"kind": "tabulated", "values": [2, 1], "cumulative": [0, 1]}, "two ascending"),
        ({"kind": "constant", "value": float("nan")}, "give a finite number"),
        ({"kind": "flattened_salpeter", "low": 3}, "give them ascending"),
        ({"low": 0, "high": 1}, "give a name, a number or a table with 'kind'"),
        (True, "is no prior"),
    ],
)
def test_what_is_no_prior_is_refused_with_a_cure(written: object, said: str) -> None:
    with pytest.raises(PriorError, match=said):
        parse(written, "priors.vsini1")
