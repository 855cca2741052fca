from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solveh_banded

from benchmarks.batched import continuum as batched
from twinlines.pipeline.spectra.compiled.spline import solutions
from twinlines.pipeline.spectra.continuum import continuum

compiling = settings(deadline=None)  # the first example waits for the compiler


@compiling
@given(st.integers(0, 2**31), st.integers(1, 70))
def test_banded_systems_are_solved_as_by_scipy(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    below = rng.normal(size=(4, size))
    below[0] = 0.5 + np.abs(below).sum(axis=0) + np.abs(np.roll(below, 3, axis=1)).sum(axis=0) * 3.0 + 20.0
    right = rng.normal(size=size)
    theirs = solveh_banded(below[: min(size, 4)], right, lower=True)
    band = np.zeros((size, 4))
    for distance in range(min(size, 4)):
        band[distance:, distance] = below[distance, : size - distance]
    solutions(band[None], right[None])
    np.testing.assert_allclose(right, theirs, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(200, 900), st.booleans(), st.booleans())
def test_continua_are_the_batched_version_s(seed: int, pixels: int, common: bool, holes: bool) -> None:
    rng = np.random.default_rng(seed)
    x = 5000.0 + 0.12 * np.arange(pixels) - 2e-6 * np.arange(pixels) ** 2 + np.zeros((1 if common else 3, 1))
    flux = 100.0 * (1.0 + 0.2 * np.sin(x / 30.0)) + 5.0 * rng.normal(size=(3, pixels))
    good = torch.ones((3, pixels), dtype=torch.bool)
    if holes:
        good[0, pixels // 3 : pixels // 2] = False
        flux[1, rng.random(pixels) < 0.5] = rng.choice([np.nan, np.inf, -1.0, 0.0])
    arrays = torch.from_numpy(x[0] if common else x), torch.from_numpy(flux), good
    torch.testing.assert_close(continuum(*arrays), batched.continuum(*arrays), rtol=1e-5, atol=0.0, equal_nan=True)
