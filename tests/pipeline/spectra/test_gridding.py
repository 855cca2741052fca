"""Spectra on the grid: against NumPy's interpolation, and the transpose against the interpolation itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.pipeline.spectra.test_velocity import native_pixels
from twinlines.pipeline.arms import ARM_NAMES, ArmName, arm
from twinlines.pipeline.spectra.gridding import to_grid


def made(name: ArmName, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Wavelengths, flux and good pixels of a few spectra; the last one ends within the grid."""
    rng = np.random.default_rng(seed)
    wavelength = native_pixels(name) + rng.uniform(-0.3, 0.3, (5, 1))
    wavelength[-1] += 120.0
    good = rng.random(wavelength.shape) > 0.03
    good[1, 500:560] = False
    return torch.from_numpy(wavelength), torch.from_numpy(rng.random(wavelength.shape)).float(), torch.from_numpy(good)


@pytest.mark.parametrize("name", ARM_NAMES)
def test_values_are_numpys_interpolation_between_good_pixels(name: ArmName) -> None:
    wavelength, flux, good = made(name, seed=1)
    flux[~good] = torch.nan
    wavelength[0, ~good[0]] = torch.nan
    found = to_grid(arm(name), wavelength.nan_to_num(), flux, good, 0.5)
    for row in range(len(flux)):
        use = good[row].numpy()
        expected = np.interp(arm(name).wavelength, wavelength[row].numpy()[use], flux[row].numpy()[use])
        np.testing.assert_allclose(found.flux[row].numpy(), expected - expected.mean(), atol=2e-4)
    np.testing.assert_array_equal(found.usable.numpy(), True)
    assert not to_grid(arm(name), wavelength.nan_to_num(), flux, good, 0.99).usable.any()


def test_pixels_of_the_grid_itself_are_taken_as_they_are() -> None:
    which = arm("R")
    wavelength = torch.from_numpy(which.wavelength).repeat(3, 1)
    flux = torch.from_numpy(np.random.default_rng(2).random(wavelength.shape)).float()
    found = to_grid(which, wavelength, flux, torch.ones_like(flux, dtype=torch.bool), 0.5)
    expected = flux - flux.mean(1, keepdim=True)
    torch.testing.assert_close(found.flux, expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("name", ARM_NAMES)
def test_the_transpose_is_that_of_the_interpolation(name: ArmName) -> None:
    wavelength, flux, good = made(name, seed=3)
    found = to_grid(arm(name), wavelength, flux, good, 0.5)
    weights = torch.from_numpy(np.random.default_rng(4).standard_normal(found.flux.shape)).float()
    weights -= weights.mean(1, keepdim=True)  # what was taken off the flux counts for nothing
    on_grid = (weights * found.flux).double().sum(1)
    on_native = (found.transposed(weights, flux.shape[1]) * flux).double().sum(1)
    torch.testing.assert_close(on_grid, on_native, atol=2e-3, rtol=0.0)
    # The noise of the flux, by the transpose of each grid pixel: its sum of squares.
    uniform = found.variance(torch.ones_like(flux))
    squares = (1.0 - found.fraction).square() + found.fraction.square()
    torch.testing.assert_close(uniform, squares.sum(1))


@pytest.mark.parametrize("count", [0, 1])
def test_a_spectrum_without_good_pixels_is_not_usable(count: int) -> None:
    wavelength, flux, _ = made("B", seed=5)
    good = torch.zeros_like(flux, dtype=torch.bool)
    good[:, :count] = True
    found = to_grid(arm("B"), wavelength, flux, good, 0.5)
    assert not found.usable.any()
    assert found.flux.isfinite().all()
