from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.batched import despike as batched
from twinlines.pipeline.spectra.compiled.extrema import running_maxima
from twinlines.pipeline.spectra.despike import despike

compiling = settings(deadline=None)  # the first example waits for the compiler


@compiling
@given(st.integers(0, 2**31), st.integers(1, 49), st.integers(0, 150))
def test_running_maxima_are_those_of_windows(seed: int, size: int, more: int) -> None:
    values = np.random.default_rng(seed).normal(size=(3, size + more)).astype(np.float32)
    ours = np.empty((3, more + 1), np.float32)
    running_maxima(values, size, ours)
    np.testing.assert_array_equal(ours, np.lib.stride_tricks.sliding_window_view(values, size, axis=1).max(axis=2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(90, 700), st.floats(0.01, 1.0), st.integers(0, 12))
def test_despiking_is_bit_for_bit_the_batched_version(seed: int, pixels: int, noise: float, hits: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.1, 0.15, (3, pixels)), axis=1)
    flux = 2.0 + np.sin(x * rng.uniform(0.1, 8.0, (3, 1))) + noise * rng.normal(size=x.shape)
    for row in range(3):
        for hit in rng.integers(-20, pixels, hits):
            flux[row, max(hit, 0) : hit + rng.integers(1, 40)] += 5.0 * rng.standard_cauchy()
    flux[0, rng.integers(0, pixels, hits)] = rng.choice([np.nan, np.inf, -np.inf])
    sigma = np.full(x.shape, noise)
    sigma[1, rng.integers(0, pixels, hits)] = rng.choice([np.nan, np.inf, -1.0, 0.0])
    given_values = torch.from_numpy(x), torch.from_numpy(flux).float(), torch.from_numpy(sigma).float()
    ours, theirs = despike(*given_values), batched.despike(*given_values)
    assert torch.equal(ours.flux, theirs.flux)
    assert torch.equal(ours.repaired, theirs.repaired)
    assert torch.equal(ours.failed, theirs.failed)
