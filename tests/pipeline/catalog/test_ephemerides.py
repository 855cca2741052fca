"""Times of eclipses as Julian dates, whatever a catalog leaves out of them."""

from __future__ import annotations

import numpy as np

from twinlines.pipeline.catalog.ephemerides import OFFSET, julian_dates


def test_times_are_julian_dates_or_nothing() -> None:
    times = np.array([54999.5, 2_455_000.25, np.nan, 1000.0, np.inf])
    dates = julian_dates(times)
    np.testing.assert_array_equal(dates.date, [54999.5 + OFFSET, 2_455_000.25, np.nan, np.nan, np.nan])
    assert dates.completed
    assert dates.odd.tolist() == [3]
    assert dates.known == 3
    assert dates.are_dates
    assert not julian_dates(np.array([1000.0, 2.0, 2_455_000.0])).are_dates
    assert not julian_dates(times[1:2]).completed


def test_what_is_asked_for_is_added_to_all() -> None:
    dates = julian_dates(np.array([1000.0, 54999.5]), 2_457_000.0)
    assert dates.date[0] == 2_458_000.0
    assert np.isnan(dates.date[1])  # which is no such date then
    assert not dates.completed
    assert dates.are_dates  # one of two is
