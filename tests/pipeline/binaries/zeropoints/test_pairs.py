"""Velocities of two stars on the scale of zero points: the formula by draws, and what it makes of rows."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.pipeline.binaries.sources.test_source import TIMES, rows_of, together
from twinlines.pipeline.binaries.schema import ON_SCALE, FitQuality
from twinlines.pipeline.binaries.zeropoints.consistency import NO_GROUP
from twinlines.pipeline.binaries.zeropoints.pairs import GUESS, comparable, on_one_scale, shift_of
from twinlines.pipeline.schema import ZERO_POINTS

DRAWS = 200_000


@pytest.mark.parametrize(
    ("blue", "red", "of_blue", "of_red"),
    [(0.5, 1.0, 0.4, 0.4), (0.5, 1.0, 2.0, 0.1), (2.0, 0.7, 0.1, 2.0), (1.0, 1.0, 0.05, 0.05)],
)
def test_the_error_is_that_of_draws_and_no_other_weight_has_a_smaller_one(
    blue: float, red: float, of_blue: float, of_red: float
) -> None:
    """Arms with velocity errors ``blue`` and ``red``, and zero points with errors ``of_blue`` and ``of_red``."""
    rng = np.random.default_rng(1)
    true, zero = 20.0, np.array([3.0, -4.0])
    arm = true - zero + rng.normal(0.0, (blue, red), (DRAWS, 2))
    known = zero + rng.normal(0.0, (of_blue, of_red), (DRAWS, 2))
    # A fit to both arms whose offset is free: the blue arm's velocity, and how far the red one's is from it.
    velocity, offset = arm[:, 0], arm[:, 1] - arm[:, 0]
    variance, share = blue**2 + red**2, blue**2 / (blue**2 + red**2)
    same = np.zeros((DRAWS, 2), np.int32)
    shift = shift_of(
        *(offset, np.full(DRAWS, variance), np.full(DRAWS, share), known),
        *(np.tile([of_blue, of_red], (DRAWS, 1)), same),
    )
    absolute = velocity + shift.velocity
    assert np.mean(absolute) == pytest.approx(true, abs=0.02)
    # The velocity itself is known as well as by the blue arm alone, for nothing is known of the offset.
    error = np.sqrt(blue**2 + shift.variance[0])
    pooled = (blue**2 + of_blue**2) ** -1 + (red**2 + of_red**2) ** -1
    assert np.std(absolute) == pytest.approx(np.sqrt(1.0 / pooled), rel=0.02)  # the best that there is
    assert error >= 0.99 * np.std(absolute)
    assert error <= np.hypot(blue, of_blue) * 1.001


def zero_points(lmjm: np.ndarray, zero: np.ndarray, error: np.ndarray, scale: str = "reference") -> xr.Dataset:
    columns = {
        "spid": np.zeros(len(lmjm)),
        "lmjm": lmjm,
        "zero_point": zero,
        "error": error,
        "group": np.where(np.isfinite(zero), 3, NO_GROUP),
    }
    return ZERO_POINTS.dataset(columns, len(lmjm), results={"scale": scale})


def rows() -> xr.Dataset:
    found = together([rows_of(TIMES[:8])])
    count = found.sizes["exposure"]
    columns = {"arm_offset": np.full(count, 5.0), "arm_offset_err": np.full(count, 0.5)}
    columns |= {"flux_ratio_R": np.full(count, 0.5)}
    return found.assign({name: ("exposure", values.astype(np.float32)) for name, values in columns.items()})


def test_without_zero_points_rows_are_as_they_are() -> None:
    plain = rows()
    assert on_one_scale(plain, None) is plain
    assert comparable(plain, np.zeros(8, np.int64)) is plain


def test_one_arm_s_zero_point_is_enough_and_none_gives_no_velocity() -> None:
    plain = rows()
    lmjm = np.sort(plain["lmjm"].values)
    zero, error = np.tile([2.0, -3.0], (8, 1)), np.full((8, 2), 0.2)
    zero[0], zero[1, 0], zero[2, 1] = np.nan, np.nan, np.nan
    scaled = on_one_scale(plain, zero_points(lmjm[:7], zero[:7], error[:7]))  # one exposure's unit is not there
    for name, variable in ON_SCALE.items():
        assert scaled[name].dtype == variable.dtype
    place = np.argsort(plain["lmjm"].values)
    shift = (scaled["rv1_abs"].values - plain["rv1"].values)[place]
    assert np.isnan(shift[[0, 7]]).all()
    np.testing.assert_allclose(shift[1:7], 2.0, atol=1e-4)  # 2 by the blue arm, 5 - 3 by the red
    assert scaled["rv_abs_group"].values[place].tolist() == [-1, 0, 0, 0, 0, 0, 0, -1]
    assert scaled.attrs[GUESS] == 2.0
    # The stars' difference is as it was, and so is what is known of it.
    apart = scaled["rv2_abs"].values - scaled["rv1_abs"].values
    np.testing.assert_allclose(apart[place][1:7], (plain["rv2"] - plain["rv1"]).values[place][1:7], atol=1e-4)
    total = scaled["rv1_abs_err"].values[place]
    blue_alone, red_alone, both = total[2], total[1], total[3]
    assert blue_alone == pytest.approx(np.hypot(0.8, 0.2), rel=1e-5)
    assert red_alone == pytest.approx(np.sqrt(0.8**2 + 0.2**2 + 0.5 * 0.5**2), rel=1e-5)
    assert both < blue_alone
    np.testing.assert_allclose(total[1:7] ** 2 - scaled["rv_abs_covariance"].values[place][1:7], 0.8**2, atol=1e-5)


def test_a_fit_of_the_red_arm_alone_does_not_suffer_from_the_offset_that_it_took_for_likely() -> None:
    plain = rows()
    plain["fit_quality"][:] = int(FitQuality.ONE_ARM)
    plain["arm_offset"][:], plain["arm_offset_err"][:] = 0.0, 5.0
    for name in ("rv1_err", "rv2_err", "rv_single_err"):
        plain[name][:] = np.hypot(0.8, 5.0)
    plain["rv_covariance"][:] = 25.0
    lmjm = np.sort(plain["lmjm"].values)
    table = zero_points(lmjm, np.tile([2.0, -3.0], (8, 1)), np.full((8, 2), 0.2))
    scaled = on_one_scale(plain, table)
    np.testing.assert_allclose(scaled["rv1_abs"] - plain["rv1"], -3.0, atol=0.02)
    np.testing.assert_allclose(scaled["rv1_abs_err"], np.hypot(0.8, 0.2), rtol=1e-3)
    plain["flux_ratio_R"][:] = np.nan  # the blue arm alone
    np.testing.assert_allclose(on_one_scale(plain, table)["rv1_abs"] - plain["rv1"], 2.0, atol=0.02)


def test_zero_points_of_different_groups_are_not_compared() -> None:
    plain = rows()
    lmjm = np.sort(plain["lmjm"].values)
    table = zero_points(lmjm, np.tile([2.0, -3.0], (8, 1)), np.full((8, 2), 0.2), "survey")
    table["group"][:3] = 1
    scaled = on_one_scale(plain, table)
    place = np.argsort(plain["lmjm"].values)
    alike = comparable(scaled, np.zeros(8, np.int64))
    assert alike["rv_abs_group"].values[place].tolist() == [-1] * 3 + [3] * 5
    for name in ("rv1_abs", "rv2_abs_err", "rv_abs_covariance"):
        assert np.isnan(alike[name].values[place][:3]).all()
        assert np.isfinite(alike[name].values[place][3:]).all()
    star = np.where(plain["lmjm"].values < lmjm[3], 0, 1)  # of two stars, each has its own
    assert comparable(scaled, star) is scaled
    table["group"][:, 1] = 7  # the arms of a unit cannot be compared: the blue one's zero point is taken
    total = on_one_scale(plain, table)["rv1_abs_err"]
    np.testing.assert_allclose(total, np.hypot(0.8, 0.2), rtol=1e-5)
