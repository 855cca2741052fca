from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from twinlines.pipeline import population, synthesis
from twinlines.pipeline.arms import ARMS, BLUE, RED, SPEED_OF_LIGHT, Arm
from twinlines.pipeline.library import Library
from twinlines.pipeline.synthesis import Stars
from twinlines.pipeline.tracks import Tracks

SUN = np.array([[5772.0, 4.44, 0.0, 0.0]])


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture(scope="module")
def kept(library: Library) -> population.Population:
    return population.resolve(population.draw(0, 400, 5), Tracks.load(), library).kept()


def test_transfer_function_is_the_kernels_fourier_integral() -> None:
    def kernel(x: float) -> float:
        e = synthesis.LIMB_DARKENING
        return (2 * (1 - e) * np.sqrt(1 - x**2) + np.pi * e / 2 * (1 - x**2)) / (np.pi * (1 - e / 3))

    for u in (0.0, 5e-3, 0.5, 3.0, 20.0, 150.0):
        integral = quad(kernel, 0.0, 1.0, weight="cos", wvar=u, limit=400)[0] * 2
        assert synthesis.rotation_transfer(np.array([u]))[0] == pytest.approx(integral, abs=2e-6)


def disc_integration(
    arm: Arm, flux: np.ndarray, vsini: float, velocity: float, rings: int = 60, steps: int = 241
) -> np.ndarray:
    """Integrate a rigidly rotating, limb-darkened disc element by element."""
    spectrum = CubicSpline(arm.library_wavelength, flux)
    radii = (np.arange(rings) + 0.5) / rings
    angles = 2 * np.pi * (np.arange(steps) + 0.5) / steps
    x = (radii[:, None] * np.cos(angles)[None, :]).ravel()
    area = np.repeat(radii, steps)
    e = synthesis.LIMB_DARKENING
    weight = area * (1 - e + e * np.sqrt(1 - np.repeat(radii, steps) ** 2))
    # Elements of one line-of-sight velocity are the same: a fine histogram saves a million evaluations.
    edges = np.linspace(-1, 1, 401)
    index = np.digitize(x, edges) - 1
    total = np.bincount(index, weight, minlength=400)
    centre = np.bincount(index, weight * x, minlength=400) / np.maximum(total, 1e-300)
    observed = np.zeros(arm.n_pixels)
    for v, w in zip(centre * vsini, total / total.sum(), strict=True):
        observed += w * spectrum(arm.wavelength / (1 + v / SPEED_OF_LIGHT) / (1 + velocity / SPEED_OF_LIGHT))
    return observed


@pytest.mark.parametrize(("arm", "vsini", "velocity"), [(BLUE, 35.0, 120.0), (RED, 250.0, -480.0), (BLUE, 500.0, 0.0)])
def test_rotation_and_shift_against_disc_integration(library: Library, arm: Arm, vsini: float, velocity: float) -> None:
    flux = library.flux(arm.name, SUN)
    fast = synthesis.broaden_and_shift(
        arm, torch.from_numpy(flux), torch.tensor([vsini]), torch.tensor([velocity]), pixels=arm.on_library
    )[0].numpy()
    slow = disc_integration(arm, flux[0].astype(np.float64), vsini, velocity)
    assert np.abs(fast / slow - 1).max() < 1e-3
    assert np.std(fast / slow) < 2e-4


@pytest.mark.parametrize("velocity", [-500.0, -3.3, 0.0, 17.0, 1000.0])
def test_doppler_shift_against_interpolation(library: Library, velocity: float) -> None:
    flux = library.flux("R", SUN)
    shifted = synthesis.broaden_and_shift(
        RED, torch.from_numpy(flux), torch.zeros(1), torch.tensor([velocity]), pixels=RED.on_library
    )[0].numpy()
    spline = CubicSpline(RED.library_wavelength, flux[0].astype(np.float64))
    expected = spline(RED.wavelength / (1 + velocity / SPEED_OF_LIGHT))
    assert np.abs(shifted / expected - 1).max() < 3e-4


def test_broadening_is_a_gaussian(library: Library) -> None:
    flux = library.flux("B", SUN)
    sigma = 30.0
    fast = synthesis.broaden_and_shift(
        BLUE, torch.from_numpy(flux), torch.zeros(1), torch.zeros(1), broadening=sigma, pixels=BLUE.on_library
    )[0].numpy()
    pixels = np.arange(-60, 61)
    kernel = np.exp(-0.5 * (pixels * 5.21865 / sigma) ** 2)
    slow = np.convolve(flux[0].astype(np.float64), kernel / kernel.sum(), mode="same")[BLUE.on_library]
    assert np.abs(fast / slow - 1).max() < 1e-4


def test_a_binary_is_the_sum_of_its_stars_by_area(library: Library) -> None:
    labels = np.array([[6000.0, 4.3, -0.3, 0.1], [5100.0, 4.6, -0.3, 0.1]])
    radius = np.array([1.2, 0.8])
    still = np.zeros(2)
    light = synthesis.component(BLUE, library, Stars(labels, radius, still, still)).numpy()
    expected = library.flux("B", labels) * radius[:, None] ** 2
    np.testing.assert_allclose(light[:, 100:-100], expected[:, 100:-100], rtol=2e-5)


def test_twins_at_rest_look_like_one_star(library: Library, kept: population.Population) -> None:
    one, _ = synthesis.stars_of(kept)
    first = synthesis.component(RED, library, one, pixels=RED.on_library)
    wavelength = torch.from_numpy(RED.wavelength)
    single, _ = synthesis.normalise(wavelength, first.double())
    both, _ = synthesis.normalise(wavelength, (first + first).double())
    np.testing.assert_allclose(single.numpy(), both.numpy(), rtol=1e-6)


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_noise_has_the_asked_snr(library: Library, kept: population.Population, arm: Arm) -> None:
    primary, _ = synthesis.stars_of(kept)
    flux = synthesis.component(arm, library, primary, pixels=arm.on_library)
    snr = torch.from_numpy(kept.draws.snr.astype(np.float32))
    keys = np.stack([kept.draws.number, np.zeros_like(kept.draws.number)], axis=1)
    noisy = synthesis.add_noise(flux, snr, keys, arm, seed=2)
    sigma = torch.sqrt(flux * flux.median(dim=1, keepdim=True).values) / snr[:, None]
    assert float(((noisy - flux) / sigma).square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose((flux / sigma).median(dim=1).values.numpy(), snr.numpy(), rtol=1e-3)


def test_pairs_are_normalised_finite_and_of_the_schema(library: Library, kept: population.Population) -> None:
    block = synthesis.pairs(library, kept, seed=5)
    for name in ARMS:
        flux = block[f"flux_{name}"].values
        assert np.isfinite(flux).all()
        assert 0.9 < np.median(flux) < 1.02
    np.testing.assert_allclose(block["velocity2"] - block["velocity1"], block["separation"], atol=1e-3)
    np.testing.assert_allclose(block["mass2"], block["mass1"] * block["mass_ratio"], rtol=1e-5)


def test_a_pair_does_not_depend_on_its_block(library: Library, kept: population.Population) -> None:
    whole = synthesis.pairs(library, kept, seed=5)
    part = synthesis.pairs(library, kept.take(slice(7, 19)), seed=5)
    for name in ARMS:
        difference = part[f"flux_{name}"].values - whole[f"flux_{name}"].values[7:19]
        assert np.abs(difference).max() < 2e-5


def test_splits_are_in_the_papers_proportions() -> None:
    draws = population.draw(0, 50_000, 1)
    state = population.State(**dict.fromkeys((item for item in population.State.__dataclass_fields__), np.empty(0)))
    split = synthesis.split_of(population.Population(draws, state, state, np.empty(0), np.empty(0, np.int16)))
    fractions = np.bincount(split, minlength=3) / len(split)
    np.testing.assert_allclose(fractions, [306 / 380, 34 / 380, 40 / 380], atol=0.005)
