"""Binaries on known orbits, for tests of what fits them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.orbits import curve
from twinlines.pipeline.binaries.components.epochs import Epochs, double

Maker = Callable[..., Epochs]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def observe() -> Maker:
    """Makes epochs of a binary with K2 = 80 km/s and gamma = -15 km/s."""

    def make(
        period: float,
        eccentricity: float = 0.0,
        epochs: int = 12,
        seed: int = 1,
        mass_ratio: float = 0.8,
        error: float = 2.0,
        span: float = 900.0,
    ) -> Epochs:
        rng = np.random.default_rng(seed)
        nights = np.sort(rng.uniform(0.0, span, (epochs + 1) // 2))
        time = 2458000.0 + (nights[:, None] + [0.0, 0.02]).ravel()[:epochs]
        shape = curve(time, period, eccentricity, 2.0, 2458000.7)
        true = np.stack([-15.0 + 80.0 * mass_ratio * shape, -15.0 - 80.0 * shape], axis=1)
        velocity = true + error * rng.standard_normal(true.shape)
        return double("a binary", time, velocity, np.full(true.shape, error))

    return make
