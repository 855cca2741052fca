"""Exposures of one night become one."""

from __future__ import annotations

import numpy as np

from twinlines.pipeline.binaries.evidence.exposures import NO_HEAD, Exposures
from twinlines.pipeline.binaries.evidence.nights import nights_of


def exposures(night: list[int], head: list[int], velocity: list[float]) -> Exposures:
    count = len(night)
    return Exposures(
        night=np.array(night, np.int32),
        ratio=np.where(np.array(head) == NO_HEAD, 0.0, np.arange(1.0, count + 1)).astype(np.float32),
        head=np.array(head, np.int8),
        log_snr=np.log(np.arange(1.0, count + 1)).astype(np.float32),
        teff=np.array([5000.0, np.nan, 6000.0, np.nan, np.nan][:count], np.float32),
        velocity=np.array(velocity, np.float32),
        error=np.array([1.0, 2.0, 1.0, 1.0, 1.0][:count], np.float32),
    )


def test_nights_of_two_stars() -> None:
    seen = exposures([7, 7, 8, 8, 9], [2, 0, NO_HEAD, 2, NO_HEAD], [10.0, 20.0, np.nan, 5.0, np.nan])
    nights = nights_of(seen, np.array([0, 0, 0, 1, 1]), 3)
    assert len(nights) == 4  # the eighth night is of both stars
    assert nights.begin.tolist() == [0, 2]
    assert nights.star.tolist() == [0, 0, 1, 1]
    assert nights.head.tolist() == [2, NO_HEAD, 2, NO_HEAD]
    assert nights.judged.tolist() == [2, 0, 1, 0]
    assert nights.of_head.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert nights.ratio_of_head.tolist() == [[2, 0, 1], [0, 0, 0], [0, 0, 4], [0, 0, 0]]
    np.testing.assert_allclose(nights.velocity, [12.0, np.nan, 5.0, np.nan])
    np.testing.assert_allclose(nights.error, [1.25**-0.5, np.nan, 1.0, np.nan])
    np.testing.assert_allclose(nights.teff, [5000.0, 6000.0, np.nan, np.nan])
    np.testing.assert_allclose(nights.log_snr[0], np.log(2.0) / 2.0, rtol=1e-6)
    assert nights.per_star(nights.judged).tolist() == [2, 1]


def test_no_exposure_is_no_night() -> None:
    nights = nights_of(exposures([], [], []), np.empty(0, np.int64), 3)
    assert len(nights) == len(nights.begin) == 0
    assert nights.per_star(nights.judged).tolist() == []
