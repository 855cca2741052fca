"""Zero points from arrays: against references, by repeated stars, and whether their errors hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouped import weighted_median
from twinlines.pipeline.binaries.zeropoints.consistency import NO_GROUP, conjugate_gradients, solve
from twinlines.pipeline.binaries.zeropoints.ties import Observations, repeated
from twinlines.pipeline.binaries.zeropoints.units import (
    Velocities,
    ZeroPointConfig,
    ZeroPointError,
    ZeroPoints,
    against_references,
    zero_points,
)
from twinlines.pipeline.schema import ZeroPointReason
from twinlines.pipeline.testing.velocities import MadeVelocities, VelocityConfig, make_velocities

Array = NDArray[np.float64]


def velocities(made: MadeVelocities, references: bool | NDArray[np.bool_] = True) -> Velocities:
    """The arrays of a made-up catalog; its star's number is that of the table of references."""
    catalog = made.catalog
    star = catalog["obsid"].values - 700_000_000
    known = np.where(references, made.references["radial_velocity"].data[star], np.nan)
    return Velocities(
        spid=catalog["spid"].values,
        lmjm=catalog["lmjm"].values,
        star=star,
        velocity=np.stack([catalog[f"rv_obs_{arm}"].values for arm in ARM_NAMES], axis=1),
        error=np.stack([catalog[f"rv_obs_err_{arm}"].values for arm in ARM_NAMES], axis=1),
        reference=None if references is False else known,
        reference_error=None if references is False else made.references["radial_velocity_error"].data[star],
    )


def cover(deviation: Array, error: Array) -> tuple[float, float]:
    """Fractions of deviations within one and two errors."""
    pull = np.abs(deviation / error)
    return float(np.mean(pull < 1.0)), float(np.mean(pull < 2.0))


def in_gauge(zero: Array, group: NDArray[np.int32]) -> Array:
    """Zero points, shape (unit, arm), whose mean is 0 in each group."""
    flat, of = zero.ravel(), group.ravel()
    return (flat - (np.bincount(of, flat) / np.bincount(of))[of]).reshape(zero.shape)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 8), st.booleans())
def test_weighted_medians_minimise_what_they_say(seed: int, rows: int, groups: int, equal: bool) -> None:
    rng = np.random.default_rng(seed)
    values, group = np.round(rng.normal(0, 3, rows), 1), rng.integers(0, groups, rows)
    weights = np.ones(rows) if equal else rng.uniform(0.1, 5.0, rows)
    medians = weighted_median(values, weights, group, groups)
    for number in range(groups):
        mine, weight = values[group == number], weights[group == number]
        if not len(mine):
            assert np.isnan(medians[number])
            continue
        loss = (weight * np.abs(mine - mine[:, None])).sum(axis=1)
        assert (weight * np.abs(mine - medians[number])).sum() <= loss.min() + 1e-9
        if equal:
            assert medians[number] == pytest.approx(np.median(mine), abs=1e-12)


def test_a_median_is_what_the_paper_s_simplex_looks_for() -> None:
    rng = np.random.default_rng(3)
    residual, stated = rng.normal(2.0, 3.0, 41), rng.uniform(0.3, 4.0, 41)
    zero, _ = against_references(residual, stated, np.zeros(41, np.int64), 1)
    loss = lambda z: np.sum(np.abs(residual - z) / np.hypot(1.0, stated))  # noqa: E731
    simplex = minimize(loss, np.median(residual), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    assert zero[0] == pytest.approx(simplex.x[0], abs=1e-4)
    assert loss(zero[0]) <= simplex.fun + 1e-9


@pytest.mark.parametrize("binaries", [0.0, 0.1])
@pytest.mark.parametrize("stars", [5, 8, 30, 120])
def test_zero_points_by_references_are_recovered_within_their_errors(stars: int, binaries: float) -> None:
    made = make_velocities(stars, VelocityConfig(plates=60, stars=stars, exposures=5, binaries=binaries))
    result = zero_points(velocities(made))
    assert result.scale == "reference"
    assert np.all(result.reason == ZeroPointReason.REFERENCE)
    assert np.all(result.n_stars == stars)
    one, two = cover(result.zero_point - made.zero_points, result.error)
    assert 0.62 < one < 0.84
    assert two > (0.87 if stars < 10 else 0.91)
    # No more than sqrt(pi/2) of the mean's error, about 1.55 km/s a star, with what a tenth of binaries costs.
    assert np.median(result.error) < (3.2 if stars < 10 else 2.3) / np.sqrt(stars)


@pytest.mark.parametrize("binaries", [0.0, 0.1])
@pytest.mark.parametrize(("stars", "exposures"), [(6, 3), (30, 2), (30, 8)])
def test_zero_points_by_repeated_stars_are_recovered_within_their_errors(
    stars: int, exposures: int, binaries: float
) -> None:
    made = make_velocities(7, VelocityConfig(plates=60, stars=stars, exposures=exposures, binaries=binaries))
    result = zero_points(velocities(made, references=False))
    assert result.scale == "survey"
    assert np.all(result.reason == ZeroPointReason.OWN_SCALE)
    # Each field is a group of its own, with both arms: their difference is not lost.
    assert np.unique(result.group).tolist() == list(range(60))
    middle = [np.median(result.zero_point[result.group == number]) for number in range(60)]
    np.testing.assert_allclose(middle, 0.0, atol=1e-9)
    deviation = in_gauge(result.zero_point - made.zero_points, result.group)
    one, two = cover(deviation, result.error)
    assert 0.64 < one < 0.86
    assert two > 0.93
    assert np.std(deviation) < (1.9 if binaries and stars < 10 else 1.4) * 1.2 / np.sqrt(stars)


def test_the_joint_solution_is_the_minimum_of_its_loss() -> None:
    made = make_velocities(2, VelocityConfig(plates=1, stars=6, exposures=3, binaries=0.3))
    arrays = velocities(made, references=False)
    result = zero_points(arrays)
    error = np.hypot(arrays.error, 1.0)
    unit, star = result.unit, arrays.star

    def loss(values: Array) -> float:
        zero, velocity = values[:6].reshape(3, 2), values[6:]
        t = (arrays.velocity + zero[unit] - velocity[star][:, None]) / error
        return float(np.sum(np.sqrt(1.0 + t**2)))

    start = np.r_[np.zeros(6), np.median(arrays.velocity) * np.ones(6)]
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    zero = best.x[:6].reshape(3, 2)
    np.testing.assert_allclose(result.zero_point, zero - np.median(zero), atol=2e-3)


def test_units_without_references_are_tied_to_those_with() -> None:
    made = make_velocities(5, VelocityConfig(plates=40, stars=20, exposures=4))
    field = np.arange(len(made.velocity)) // 80
    # Fields 0 to 29: references in the first exposure alone; then none; in the last field two stars' at all times.
    exposure, star = np.arange(len(made.velocity)) // 20 % 4, np.arange(len(made.velocity)) % 20
    result = zero_points(velocities(made, (field < 30) & (exposure == 0) | (field == 39) & (star < 2)))
    reason = result.reason.reshape(40, 4, 2)
    assert np.all(reason[:30, 0] == ZeroPointReason.REFERENCE)
    assert np.all(reason[:30, 1:] == ZeroPointReason.TIED)
    assert np.all(reason[30:] == ZeroPointReason.UNTIED)
    assert np.array_equal(np.isnan(result.zero_point), result.reason == ZeroPointReason.UNTIED)
    assert np.array_equal(np.isnan(result.error), np.isnan(result.zero_point))
    deviation = (result.zero_point - made.zero_points).reshape(40, 4, 2)[:30]
    errors = result.error.reshape(40, 4, 2)[:30]
    one, two = cover(deviation[:, 1:], errors[:, 1:])
    assert 0.6 < one < 0.86
    assert two > 0.92
    # What ties can be no better than what it is tied to.
    assert np.median(errors[:, 1:]) > 0.7 * np.median(errors[:, :1])


def test_too_few_stars_have_no_zero_point_and_a_reason() -> None:
    arrays = velocities(make_velocities(1, VelocityConfig(plates=2, stars=8, exposures=3)))
    arrays.velocity[: 8 * 3, 0][np.arange(24) % 8 > 3] = np.nan  # four stars in blue
    arrays.velocity[24:32, 1] = np.nan
    result = zero_points(arrays)
    assert np.all(result.reason[:3, 0] == ZeroPointReason.FEW_STARS)
    assert result.n_stars[:3, 0].tolist() == [4, 4, 4]
    assert result.reason[3, 1] == ZeroPointReason.NO_VELOCITIES
    assert result.reason[3, 0] == ZeroPointReason.REFERENCE
    assert np.isnan(result.zero_point[result.reason >= ZeroPointReason.NO_VELOCITIES]).all()
    fewer = zero_points(arrays, ZeroPointConfig(least_stars=4))
    assert np.all(fewer.reason[:3, 0] == ZeroPointReason.REFERENCE)
    said = result.to_json()["arms"]
    assert said["B"]["reasons"] == {"REFERENCE": 3, "FEW_STARS": 3}
    assert said["R"]["reasons"] == {"REFERENCE": 5, "NO_VELOCITIES": 1}


def test_stars_that_are_seen_once_say_nothing() -> None:
    star = np.array([0, 1, 2, 0, 1, 2, 3, 4])
    exposure = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    observations = Observations(star, exposure, exposure, np.zeros(8), np.ones(8))
    assert repeated(observations, 3, 3).tolist() == [True] * 6 + [False] * 2
    assert not repeated(observations, 3, 4).any()
    assert repeated(observations, 3, 9, np.array([True, True, False])).sum() == 6
    nothing = solve(observations, 3, least=4)
    assert np.isnan(nothing.zero_point).all()
    assert np.all(nothing.group == NO_GROUP)
    assert solve(observations, 3, least=3).zero_point[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("common", [4, 5])
def test_fields_are_joined_by_as_many_stars_as_a_zero_point_takes(common: int) -> None:
    made = make_velocities(4, VelocityConfig(plates=2, stars=30, exposures=4))
    arrays = velocities(made, references=False)
    # Stars of the second field are some of the first one's, and move with them.
    joined = np.where((arrays.star >= 30) & (arrays.star < 30 + common), arrays.star - 30, arrays.star)
    mean = np.array([made.velocity[arrays.star == star][0] for star in range(60)])
    arrays.velocity[:] += (mean[joined] - mean[arrays.star])[:, None]
    apart = zero_points(arrays)
    together = zero_points(Velocities(arrays.spid, arrays.lmjm, joined, arrays.velocity, arrays.error))
    if common < 5:
        assert np.array_equal(together.group, apart.group)
        np.testing.assert_allclose(together.zero_point, apart.zero_point, atol=1e-3)
        return
    assert np.all(together.group == 0)
    deviation = in_gauge(together.zero_point - made.zero_points, together.group)
    assert cover(deviation, together.error)[1] > 0.9
    assert np.median(together.error) > np.median(apart.error)


def test_any_constant_may_be_added_to_all_velocities(made: MadeVelocities) -> None:
    arrays = velocities(made, references=False)
    moved = Velocities(arrays.spid, arrays.lmjm, arrays.star, arrays.velocity + 100.0, arrays.error)
    first, second = zero_points(arrays), zero_points(moved)
    np.testing.assert_allclose(first.zero_point, second.zero_point, atol=1e-3)
    np.testing.assert_allclose(first.error, second.error, rtol=1e-2)


def test_the_order_of_rows_does_not_matter(made: MadeVelocities) -> None:
    order = np.random.default_rng(0).permutation(len(made.velocity))
    for references in (True, False):
        arrays = velocities(made, references=references)
        shuffled = Velocities(
            **{name: None if values is None else values[order] for name, values in vars(arrays).items()}
        )
        first, second = zero_points(arrays), zero_points(shuffled)
        assert np.array_equal(first.lmjm, second.lmjm)
        assert np.array_equal(first.unit[order], second.unit)
        np.testing.assert_allclose(first.zero_point, second.zero_point, atol=1e-4)


@pytest.fixture(scope="module")
def made() -> MadeVelocities:
    return make_velocities(11, VelocityConfig(plates=4, stars=12, exposures=3, binaries=0.1))


def test_what_cannot_be_is_refused(made: MadeVelocities) -> None:
    with pytest.raises(ZeroPointError, match="there is no exposure"):
        zero_points(Velocities(*[np.empty(0, np.int64)] * 3, *[np.empty((0, 2))] * 2))
    with pytest.raises(ZeroPointError, match=r"has 13 or more stars with a reference velocity.*the best one has 12"):
        zero_points(velocities(made), ZeroPointConfig(least_stars=13))
    with pytest.raises(ZeroPointError, match=r"has 13 or more stars that other exposures have, too.*best one has 12"):
        zero_points(velocities(made, references=False), ZeroPointConfig(least_stars=13))
    for wrong in ({"least_stars": 2}, {"floor": 0.0}, {"radius": -1.0}, {"seed": -1}, {"floor": float("nan")}):
        with pytest.raises(ZeroPointError, match=next(iter(wrong))):
            ZeroPointConfig(**wrong)  # type: ignore[arg-type]


def test_several_right_hand_sides_are_solved_at_once() -> None:
    rng = np.random.default_rng(6)
    root = rng.normal(size=(30, 30))
    matrix, right = root @ root.T + np.eye(30), rng.normal(size=(30, 4))
    right[:, 2] = 0.0
    solution = conjugate_gradients(lambda x: matrix @ x, np.diag(matrix).copy(), right)
    np.testing.assert_allclose(matrix @ solution, right, atol=1e-5)


def test_a_result_says_itself_as_json(made: MadeVelocities) -> None:
    result = zero_points(velocities(made))
    assert isinstance(result, ZeroPoints)
    said = result.to_json()
    assert (said["scale"], said["units"], said["arms"]["R"]["zero_points"]) == ("reference", 12, 12)
