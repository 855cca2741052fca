"""What counts in an exposure: ratios from probabilities, which verdict, which velocity, which night."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.binaries.evidence.exposures import (
    COLUMNS,
    LEAST_ERROR,
    NO_HEAD,
    arm_offset_of,
    exposures_of,
    log_ratio,
    usual_zero_point,
)
from twinlines.pipeline.schema import CATALOG, CATALOG_PENALTIES, HEADS, Quality


def rows(count: int, **changes: np.ndarray) -> xr.Dataset:
    """Rows of a catalog with a verdict of both arms; ``pb_*`` are ln(likelihood ratio) here."""
    columns = {name: CATALOG.variables[name].empty(CATALOG.shape(name, count)) for name in COLUMNS}
    columns["lmjm"] = (84_000_000 + 1440 * np.arange(count)).astype(np.int32)
    columns |= {name: np.full(count, 20.0, np.float32) for name in ("snr_B", "snr_R")}
    for head in HEADS:
        told = np.asarray(changes.pop(f"pb_{head}", np.zeros(count)), np.float64)
        for penalty in CATALOG_PENALTIES:
            p = 1.0 / (1.0 + penalty * np.exp(-told))
            columns[f"pb_pct_{head}_{penalty}"] = np.repeat(p[:, None], 5, axis=1).astype(np.float32)
    return CATALOG.dataset({**columns, **changes}, count)


def test_a_penalty_is_taken_back() -> None:
    told = np.array([-6.0, 0.0, 3.0, 9.0])
    for penalty in CATALOG_PENALTIES:
        np.testing.assert_allclose(log_ratio({penalty: 1.0 / (1.0 + penalty * np.exp(-told))}), told, atol=1e-9)
    both = log_ratio({8: np.array([0.5, np.nan, np.nan]), 16: np.array([0.5, 0.5, np.nan])})
    np.testing.assert_allclose(both, [np.log(np.sqrt(8 * 16)), np.log(16), np.nan])


def test_a_probability_of_zero_or_one_is_a_finite_ratio() -> None:
    assert np.isfinite(log_ratio({16: np.array([0.0, 1.0], np.float32)})).all()


def test_both_arms_together_count_and_else_the_one_that_is_there() -> None:
    nothing = np.full(5, np.nan)
    told = {
        "pb_J": np.array([2.0, np.nan, np.nan, np.nan, np.nan]),
        "pb_B": np.array([5.0, 5.0, np.nan, 5.0, np.nan]),
        "pb_R": np.array([7.0, np.nan, 7.0, 7.0, np.nan]),
    }
    seen = exposures_of(rows(5, snr_B=np.full(5, 30.0), snr_R=np.full(5, 50.0), **told))
    assert [HEADS[head] for head in seen.head[:4]] == ["J", "B", "R", "B"]
    assert seen.head[4] == NO_HEAD
    np.testing.assert_allclose(seen.ratio, [2.0, 5.0, 7.0, 5.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(np.exp(seen.log_snr[:4]), [30.0, 30.0, 50.0, 30.0], rtol=1e-6)
    only_red = exposures_of(rows(5, **told), without=("J", "B"))
    np.testing.assert_allclose(only_red.ratio, [7.0, 0.0, 7.0, 7.0, 0.0], atol=1e-4)
    assert np.isnan(nothing).all()


def test_a_verdict_that_is_a_guess_counts_for_nothing() -> None:
    unfamiliar = np.array([Quality.UNFAMILIAR, 0, 0], np.uint16)
    seen = exposures_of(rows(3, quality_B=unfamiliar, npixbad_R=np.array([0, 100, 99], np.int32)))
    # What is wrong with an arm leaves the other one's own verdict.
    assert [HEADS[head] for head in seen.head] == ["R", "B", "J"]


def test_a_night_is_from_noon_to_noon() -> None:
    midnight = 58_500 * 1440
    minutes = midnight + np.array([-721, -720, -60, 0, 300, 719, 720])
    assert np.diff(exposures_of(rows(7, lmjm=minutes.astype(np.int32))).night).tolist() == [1, 0, 0, 0, 0, 1]


def test_velocities_are_means_of_the_arms_and_calibrated_ones_come_first() -> None:
    measured = {
        "rv_obs_B": np.array([10.0, 10.0, np.nan, 10.0]),
        "rv_obs_R": np.array([16.0, np.nan, np.nan, 16.0]),
        "rv_abs_B": np.array([np.nan, np.nan, np.nan, 20.0]),
        "rv_abs_R": np.array([np.nan, np.nan, np.nan, 20.5]),
        **{f"rv_obs_err_{arm}": np.full(4, 1.0) for arm in "BR"},
        **{f"rv_abs_err_{arm}": np.array([np.nan, np.nan, np.nan, 1.0]) for arm in "BR"},
    }
    catalog = rows(4, **measured)
    assert arm_offset_of(catalog) == 6.0
    seen = exposures_of(catalog, arm_offset=6.0, zero_point=4.0)
    np.testing.assert_allclose(seen.velocity, [10.0, 10.0, np.nan, 20.25], rtol=1e-6)
    alone = np.sqrt(1.0 + LEAST_ERROR**2 + 16.0)
    calibrated = np.sqrt((1.0 + LEAST_ERROR**2) / 2.0)
    np.testing.assert_allclose(seen.error, [alone / np.sqrt(2.0), alone, np.nan, calibrated], rtol=1e-6)


def test_a_velocity_without_a_zero_point_is_on_the_scale_of_the_others() -> None:
    nan = np.nan
    measured = {
        "rv_obs_B": np.array([10.0, 10.0, 10.0, nan]),
        "rv_obs_R": np.array([16.0, 16.0, 16.0, 16.0]),
        "rv_abs_B": np.array([30.0, 30.0, nan, nan]),
        "rv_abs_R": np.array([30.0, nan, nan, nan]),
        **{f"rv_obs_err_{arm}": np.full(4, 1.0) for arm in "BR"},
        "rv_abs_err_B": np.array([1.0, 1.0, nan, nan]),
        "rv_abs_err_R": np.array([1.0, nan, nan, nan]),
    }
    catalog = rows(4, **measured)
    assert usual_zero_point(catalog) == 20.0
    assert usual_zero_point(rows(3)) == 0.0
    without_blue = catalog.assign(rv_abs_B=catalog["rv_abs_B"] * nan)
    assert usual_zero_point(without_blue) == 20.0  # the red arm's 14, and by 6 more the blue arm's
    seen = exposures_of(catalog, arm_offset=arm_offset_of(catalog), usual=usual_zero_point(catalog))
    np.testing.assert_allclose(seen.velocity, 30.0, rtol=1e-6)  # the star stands still
    assert seen.error[2] > 2.0 > seen.error[0]


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_are_no_trouble(count: int) -> None:
    assert len(exposures_of(rows(count)).ratio) == count
    assert arm_offset_of(rows(count)) == 0.0
