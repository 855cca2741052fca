from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from twinlines.pipeline.arms import ARMS, BLUE, RED, SPEED_OF_LIGHT, Arm
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.spectra import broadening
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import population
from twinlines.pipeline.synthesis import spectra as synthesis
from twinlines.pipeline.synthesis.spectra import Scene, Stars

SUN = np.array([[5772.0, 4.44, 0.0, 0.0]])


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


@pytest.fixture(scope="module")
def kept(library: Library) -> population.Population:
    return population.resolve(population.draw(0, 400, 5), Tracks.load(), library).kept_pairs()


def test_transfer_function_is_the_kernels_fourier_integral() -> None:
    def kernel(x: float) -> float:
        e = broadening.LIMB_DARKENING
        return (2 * (1 - e) * np.sqrt(1 - x**2) + np.pi * e / 2 * (1 - x**2)) / (np.pi * (1 - e / 3))

    for u in (0.0, 5e-3, 0.5, 3.0, 20.0, 150.0):
        integral = quad(kernel, 0.0, 1.0, weight="cos", wvar=u, limit=400)[0] * 2
        assert broadening.rotation_transfer(np.array([u]))[0] == pytest.approx(integral, abs=2e-6)


def disc_integration(
    arm: Arm, flux: np.ndarray, vsini: float, velocity: float, rings: int = 60, steps: int = 241
) -> np.ndarray:
    """Integrate a rigidly rotating, limb-darkened disc element by element."""
    spectrum = CubicSpline(arm.library_wavelength, flux)
    radii = (np.arange(rings) + 0.5) / rings
    angles = 2 * np.pi * (np.arange(steps) + 0.5) / steps
    x = (radii[:, None] * np.cos(angles)[None, :]).ravel()
    area = np.repeat(radii, steps)
    e = broadening.LIMB_DARKENING
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
    fast = broadening.broaden_and_shift(
        torch.from_numpy(flux), torch.tensor([vsini]), torch.tensor([velocity]), pixels=arm.on_library
    )[0].numpy()
    slow = disc_integration(arm, flux[0].astype(np.float64), vsini, velocity)
    assert np.abs(fast / slow - 1).max() < 1e-3
    assert np.std(fast / slow) < 2e-4


@pytest.mark.parametrize("velocity", [-500.0, -3.3, 0.0, 17.0, 1000.0])
def test_doppler_shift_against_interpolation(library: Library, velocity: float) -> None:
    flux = library.flux("R", SUN)
    shifted = broadening.broaden_and_shift(
        torch.from_numpy(flux), torch.zeros(1), torch.tensor([velocity]), pixels=RED.on_library
    )[0].numpy()
    spline = CubicSpline(RED.library_wavelength, flux[0].astype(np.float64))
    expected = spline(RED.wavelength / (1 + velocity / SPEED_OF_LIGHT))
    assert np.abs(shifted / expected - 1).max() < 3e-4


def test_broadening_is_a_gaussian(library: Library) -> None:
    flux = library.flux("B", SUN)
    sigma = 30.0
    fast = broadening.broaden_and_shift(
        torch.from_numpy(flux), torch.zeros(1), torch.zeros(1), broadening=sigma, pixels=BLUE.on_library
    )[0].numpy()
    pixels = np.arange(-60, 61)
    kernel = np.exp(-0.5 * (pixels * 5.21865 / sigma) ** 2)
    slow = np.convolve(flux[0].astype(np.float64), kernel / kernel.sum(), mode="same")[BLUE.on_library]
    assert np.abs(fast / slow - 1).max() < 1e-4


def test_a_binary_is_the_sum_of_its_stars_by_area(library: Library) -> None:
    labels = np.array([[6000.0, 4.3, -0.3, 0.1], [5100.0, 4.6, -0.3, 0.1]])
    radius = np.array([1.2, 0.8])
    still = np.zeros(2)
    light = synthesis.component(BLUE, library, Stars(labels, radius, still, still), whole=True).numpy()
    expected = library.flux("B", labels) * radius[:, None] ** 2
    np.testing.assert_allclose(light[:, 100:-100], expected[:, 100:-100], rtol=2e-5)
    only_the_grid = synthesis.component(BLUE, library, Stars(labels, radius, still, still)).numpy()
    np.testing.assert_allclose(only_the_grid, light[:, BLUE.on_library], rtol=2e-5)


def test_twins_at_rest_look_like_one_star(library: Library, kept: population.Population) -> None:
    one, _ = synthesis.stars_of(kept)
    first = synthesis.component(RED, library, one)
    wavelength = torch.from_numpy(RED.wavelength)
    single, _ = synthesis.normalise(wavelength, first.double())
    both, _ = synthesis.normalise(wavelength, (first + first).double())
    np.testing.assert_allclose(single.numpy(), both.numpy(), rtol=1e-6)


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_noise_has_the_asked_snr(library: Library, kept: population.Population, arm: Arm) -> None:
    primary, _ = synthesis.stars_of(kept)
    flux = synthesis.component(arm, library, primary)
    snr = torch.from_numpy(kept.draws.snr.astype(np.float32))
    keys = np.stack([kept.draws.number, np.zeros_like(kept.draws.number)], axis=1)
    noisy, sigma = synthesis.add_noise(flux, snr, keys, arm, seed=2)
    assert float(((noisy - flux) / sigma).square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose((flux / sigma).median(dim=1).values.numpy(), snr.numpy(), rtol=1e-3)


def test_twins_are_identical_before_noise(library: Library, kept: population.Population) -> None:
    # A binary of q = 1 without separation and with equal rotation, against its own single star.
    rows = slice(0, 24)
    same = kept.take(rows)
    draws = replace(
        same.draws, mass_ratio=np.ones(24), separation=np.zeros(24), vsini2=same.draws.vsini1, snr=np.full(24, 1e9)
    )
    twins = replace(same, draws=draws, secondary=same.primary, mass2=draws.mass1)
    for arm in ARMS.values():
        spectra = synthesis.pair_spectra(arm, library, twins)
        np.testing.assert_allclose(spectra.flux[:, 0], spectra.flux[:, 1], atol=synthesis.FLUX_STEP)
        assert (spectra.flux[:, 0] == spectra.flux[:, 1]).mean() > 0.99
        np.testing.assert_allclose(spectra.flux_ratio, 1.0, rtol=1e-5)


@pytest.fixture(scope="module")
def block(library: Library, kept: population.Population) -> dict[str, np.ndarray]:
    return synthesis.pairs(library, kept, Scene(5))


def test_pairs_are_normalised_finite_and_of_the_schema(
    kept: population.Population, block: dict[str, np.ndarray]
) -> None:
    rows = len(kept.draws.number)
    dataset = PAIRS.dataset(block | {"split": np.zeros(rows, np.int8)}, rows)
    assert set(block) == set(PAIRS.variables) - {"split"}
    for name in ARMS:
        flux = dataset[f"flux_{name}"].values
        assert np.isfinite(flux).all()
        assert 0.9 < np.median(flux) < 1.02
        np.testing.assert_array_equal(flux / synthesis.FLUX_STEP, np.round(flux / synthesis.FLUX_STEP))
    np.testing.assert_allclose(dataset["velocity2"] - dataset["velocity1"], dataset["separation"], atol=1e-3)
    np.testing.assert_allclose(dataset["mass2"], dataset["mass1"] * dataset["mass_ratio"], rtol=1e-5)
    np.testing.assert_allclose(dataset["luminosity2"] / dataset["luminosity1"], dataset["luminosity_ratio"], rtol=1e-5)
    assert (dataset["label"].values == [0, 1]).all()


def test_both_arms_of_a_pair_are_of_one_theta(library: Library, kept: population.Population) -> None:
    # With so little noise, each arm can be predicted from the pair's stored parameters.
    clean = replace(kept, draws=replace(kept.draws, snr=np.full(len(kept.draws.number), 1e6)))
    made = synthesis.pairs(library, clean.take(slice(0, 8)), Scene(5))
    for arm in ARMS.values():
        for row in range(8):
            light = np.zeros(arm.n_pixels)
            for star in "12":
                labels = np.array([[made[f"{name}{star}"][row] for name in ("teff", "logg", "feh", "alpha")]])
                one = Stars(
                    labels, *(np.array([made[f"{name}{star}"][row]]) for name in ("radius", "vsini", "velocity"))
                )
                light += synthesis.component(arm, library, one)[0].double().numpy()
            expected, _ = synthesis.normalise(torch.from_numpy(arm.wavelength), torch.from_numpy(light)[None])
            assert np.abs(expected[0].numpy() - made[f"flux_{arm.name}"][row, 1]).max() < 2e-4


def test_a_pair_does_not_depend_on_its_block(
    library: Library, kept: population.Population, block: dict[str, np.ndarray]
) -> None:
    part = synthesis.pairs(library, kept.take(slice(7, 19)), Scene(5))
    for name in ARMS:
        np.testing.assert_array_equal(part[f"flux_{name}"], block[f"flux_{name}"][7:19])


def test_rounding_is_far_below_the_noise(library: Library, kept: population.Population) -> None:
    best = replace(kept, draws=replace(kept.draws, snr=np.full(len(kept.draws.number), 100.0)))
    flux = synthesis.pair_spectra(BLUE, library, best.take(slice(0, 64))).flux
    # Were values between the steps equally likely, the error would be the step over the root of 12.
    assert synthesis.FLUX_STEP / np.sqrt(12) < 0.01 * np.median(np.std(np.diff(flux, axis=2), axis=2)) / np.sqrt(2)


def test_fast_stars_are_shown_whole_or_refused(library: Library) -> None:
    labels = SUN.repeat(2, axis=0)
    # The second star needs more of the library than Table 1's ever do; the first must not notice.
    slow, fast = (np.array([0.0, speed]) for speed in (100.0, 1500.0))
    one, two = (
        synthesis.component(BLUE, library, Stars(labels, np.ones(2), np.full(2, 300.0), speed))
        for speed in (slow, fast)
    )
    np.testing.assert_allclose(one[0], two[0], rtol=1e-4)
    spline = CubicSpline(BLUE.library_wavelength, library.flux("B", SUN)[0].astype(np.float64))
    still = synthesis.component(BLUE, library, Stars(SUN, np.ones(1), np.zeros(1), np.full(1, 1500.0)))[0].numpy()
    np.testing.assert_allclose(still, spline(BLUE.wavelength / (1 + 1500.0 / SPEED_OF_LIGHT)), rtol=1e-3)
    with pytest.raises(ValueError, match=r"velocity 5000 km/s and vsini 300 km/s.*narrow the priors"):
        synthesis.component(BLUE, library, Stars(labels, np.ones(2), np.full(2, 300.0), np.array([0.0, 5000.0])))


def test_noise_differs_between_populations_kinds_and_seeds(library: Library, kept: population.Population) -> None:
    one = kept.take(slice(0, 2))
    scenes = [Scene(1), Scene(2), Scene(1, population=1)]
    noisy = [synthesis.pair_spectra(BLUE, library, one, scene).flux for scene in scenes]
    assert (noisy[0] == noisy[1]).mean() < 0.2
    assert (noisy[0] == noisy[2]).mean() < 0.2
