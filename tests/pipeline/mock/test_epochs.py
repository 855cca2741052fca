"""Epochs of mock stars in memory: rows as a survey stores them, what is known of them, and the Moon's light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinlines.pipeline.arms import BLUE, SPEED_OF_LIGHT, STEP_DEX
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock import plates
from twinlines.pipeline.mock.epochs import EpochsConfig, double_and_others, observe_stars
from twinlines.pipeline.mock.stars import SB2
from twinlines.pipeline.schema import EXPOSURES

CONFIG = EpochsConfig(
    mixture=double_and_others(0.5, 0.0),
    stars_per_plate=4,
    nights=(2, 2),
    exposures=(1, 2),
    cosmic_rays=0.0,
    zero_points=0.0,
)


def test_rows_are_exposures_of_which_all_is_known() -> None:
    (truth, exposures), *more = observe_stars(4, 1, CONFIG)
    assert not more
    EXPOSURES.validate(exposures)
    assert len(truth) == exposures.sizes["exposure"] >= 8
    for name in ("obsid", "lmjm", "ra"):
        np.testing.assert_array_equal(exposures[name], truth[name])
    np.testing.assert_allclose(exposures["snr"].sel(arm="B"), truth["snr_B"], rtol=1e-6)
    assert len(np.unique(exposures["content_hash"])) == len(truth)
    double = truth[truth["kind"] == SB2]
    assert len(np.unique(double["star"])) == 2
    assert (double["amplitude1"] + double["amplitude2"] >= 50.0).all()
    assert ((double["q"] >= 0.5) & (double["period"] >= 1.0) & (double["period"] <= 100.0)).all()
    assert not {"zero_point_B"} & set(truth.colnames)


def test_the_moon_s_light_is_a_star_s_in_all_exposures_of_a_night() -> None:
    bright = replace(CONFIG, moonlight=0.5)
    (truth, exposures), (dark, without) = (
        next(observe_stars(4, 6, each)) for each in (bright, replace(CONFIG, moonlight=0.0))
    )
    assert "moonlight" in truth.colnames
    assert "moonlight" not in dark.colnames
    moon = np.asarray(truth["moonlight"])
    assert 0 < (moon > 0.0).sum() < len(moon)
    assert moon[moon > 0.0].min() > 0.05
    for obsid in np.unique(truth["obsid"]):
        assert len(np.unique(moon[truth["obsid"] == obsid])) == 1
    assert exposures.sizes == without.sizes


def test_the_moon_s_light_is_the_sun_s_at_the_observer_s_velocity() -> None:
    library, flat = Library.load(), np.ones((3, BLUE.library_pixels), np.float32)
    light = flat.copy()
    plates._shine("B", light, library, np.array([0.0, 0.3, 0.3]), np.array([0.0, 0.0, 50.0]))
    np.testing.assert_array_equal(light[0], flat[0])
    np.testing.assert_allclose(np.median(light[1:], axis=1), 1.3, rtol=1e-6)
    pixels = round(np.log10(1.0 + 50.0 / SPEED_OF_LIGHT) / STEP_DEX)
    lags = np.arange(-30, 31)
    inner = slice(100, -100)
    likeness = [np.corrcoef(np.roll(light[1], lag)[inner], light[2][inner])[0, 1] for lag in lags]
    assert abs(lags[np.argmax(likeness)] - pixels) <= 1
