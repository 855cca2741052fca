from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import medfilt

from twinlines.pipeline.spectra.compiled.selection import medians, running_medians

compiling = settings(deadline=None)  # the first example waits for the compiler


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@compiling
@given(seed=st.integers(0, 2**31), size=st.integers(21, 300), levels=st.integers(1, 1000))
def test_the_running_median_equals_scipy(kind: type, seed: int, size: int, levels: int) -> None:
    values = np.random.default_rng(seed).integers(-levels, levels, (2, size)).astype(kind)
    ours = np.empty((2, size - 20), kind)
    running_medians(values, ours)
    for row in range(2):
        np.testing.assert_array_equal(ours[row], medfilt(values[row], 21)[10:-10])


@compiling
@given(seed=st.integers(0, 2**31), size=st.integers(1, 60), levels=st.integers(1, 50))
def test_a_median_is_the_lower_one_of_sorted_values(seed: int, size: int, levels: int) -> None:
    values = np.random.default_rng(seed).integers(-levels, levels, (4, size)).astype(np.float64)
    values[0, : size // 3], values[1] = np.inf, np.sort(values[1])
    ours = np.empty(4)
    medians(values.copy(), ours)
    np.testing.assert_array_equal(ours, np.sort(values, axis=1)[:, (size - 1) // 2])


def test_no_values_have_no_median() -> None:
    ours = np.zeros(2)
    medians(np.empty((2, 0)), ours)
    assert np.isnan(ours).all()
