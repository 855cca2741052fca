"""Ephemerides: times of eclipses whatever a catalog leaves out of them, and rows that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.usertables.ephemerides import OFFSET, EphemerisError, julian_dates, read_ephemerides


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


def test_a_period_that_is_none_is_unknown_and_said_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "eb.csv"
    path.write_text("ra,dec,P,t0\n1,2,3.5,55000.5\n3,4,-1,55000.5\n,,2.5,55000.5\n5,6,0,\n7,8,1.5,\n")
    known = read_ephemerides(path)
    np.testing.assert_array_equal(known.period, [3.5, np.nan, 2.5, np.nan, 1.5])
    assert known.usable.tolist() == [True, False, False, False, True]  # the third has no position
    assert known.to_json()["ephemerides"] == 2
    assert "2 periods are not above 0, the first in row 1 (P = -1 d): taken as unknown" in known.notes
    timed = read_ephemerides(path, timed=True)
    assert timed.usable.tolist() == [True, False, False, False, False]
    phase, error = timed.phase(np.array([0, 0]), np.array([2_455_000.5, 2_455_002.25]))
    assert (phase.tolist(), error.tolist()) == ([0.0, 0.5], [0.0, 0.0])


def test_a_negative_period_that_stands_for_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eb.csv"
    path.write_text("ra,dec,P\n1,2,3.5\n3,4,-4.3059\n")
    with pytest.raises(EphemerisError, match=r"eb\.csv: row 1 has P = -4\.3059 d; periods are above 0"):
        read_ephemerides(path)
