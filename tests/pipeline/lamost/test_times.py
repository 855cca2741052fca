"""Times: the shorter way to the Earth's orientation changes no bit."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from astropy.utils import iers

from twinlines.pipeline.lamost import times


def test_the_final_table_gives_what_astropy_takes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    last = float(iers.IERS_B.open()["MJD"][-1].value)
    moments = np.concatenate([rng.uniform(55_800.0, last, 300), [last - 1.5, last - 0.5, last + 300.0]])
    ra, dec = rng.uniform(0.0, 360.0, moments.size), rng.uniform(-90.0, 90.0, moments.size)

    def dates() -> tuple[np.ndarray, ...]:
        inside, beyond = slice(300), slice(300, None)
        return tuple(times.bjd_tdb(moments[part], ra[part], dec[part]) for part in (inside, beyond))

    shorter = dates()
    monkeypatch.setattr(times, "_earth", lambda _: contextlib.nullcontext())
    for one, other in zip(shorter, dates(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(shorter[1]).all()  # predictions, and what lies beyond them
