"""What the library explains, alone or by two stars, is familiar at any S/N; what it cannot explain is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from twinlines.pipeline.arms import ARM_NAMES, ARMS, STEP_KMS, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import FATAL, Quality
from twinlines.pipeline.spectra import familiarity
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.familiarity import UNFAMILIAR_ABOVE, Components, measure
from twinlines.pipeline.spectra.quality import explain
from twinlines.pipeline.spectra.tiles import TILE
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.spectra import Stars, component

ROWS = 70
"""More than a tile."""


@pytest.fixture(scope="module")
def components() -> Components:
    return Components.default()


def stars(vsini: float, velocity: float = 0.0, seed: int = 0) -> Stars:
    """Dwarfs and giants of types F to K, anywhere between the nodes."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform((4400.0, 2.0, -1.5, -0.2), (7000.0, 4.9, 0.4, 0.5), size=(ROWS, 4))
    return Stars(labels, np.ones(ROWS), np.full(ROWS, vsini), np.full(ROWS, velocity))


def light(name: ArmName, chosen: Stars) -> Tensor:
    """Mean flux 1."""
    flux = component(ARMS[name], Library.load(), chosen).double()
    return flux / flux.mean(dim=1, keepdim=True)


def exposed(name: ArmName, flux: Tensor, snr: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Spectra with the noise of the detector's pixels, over their continuum, and the noise's standard deviation."""
    arm, rows = ARMS[name], len(flux)
    keys = np.stack([np.arange(rows), np.zeros(rows, np.int64)], axis=1)
    normal = observing.on_grid(arm, observing.detector_noise(arm, keys, seed), np.zeros(rows))
    sigma = flux.sqrt() / snr
    normalised, continuum = normalise(torch.from_numpy(arm.wavelength), (flux + sigma * normal).clamp_min(0.0))
    return normalised, sigma / continuum


def misfits(name: ArmName, flux: Tensor, snr: float, components: Components, noise: float = 1.0) -> np.ndarray:
    """With noise that is stated wrongly: ``noise`` times what is stated."""
    normalised, sigma = exposed(name, flux, snr)
    return measure(name, normalised, sigma / noise, torch.full((len(flux),), noise), components)


def wrong_lines(name: ArmName, flux: Tensor) -> Tensor:
    """Lines deeper and shallower than they are, at random, by some 60 %, from resolution element to element."""
    rng = np.random.default_rng(5)
    knots = rng.uniform(-1.0, 1.0, size=ARMS[name].n_pixels // 10 + 2)
    gain = torch.from_numpy(np.interp(np.arange(ARMS[name].n_pixels) / 10.0, np.arange(len(knots)), knots))
    continuum = flux.quantile(0.9, dim=1, keepdim=True)
    return (continuum - (continuum - flux) * (1.0 + gain)).clamp_min(0.02)


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("snr", [8.0, 30.0, 120.0])
@pytest.mark.parametrize("vsini", [0.0, 40.0, 150.0])
def test_a_star_of_the_library_is_familiar(name: ArmName, snr: float, vsini: float, components: Components) -> None:
    assert misfits(name, light(name, stars(vsini)), snr, components).max() < UNFAMILIAR_ABOVE[name]


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("separation", [-300.0, -60.0, 30.0, 100.0, 205.0])
@pytest.mark.parametrize(("snr", "ratio"), [(15.0, 0.8), (100.0, 1.0), (100.0, 0.2)])
def test_two_stars_are_familiar(
    name: ArmName, separation: float, snr: float, ratio: float, components: Components
) -> None:
    both = light(name, stars(5.0)) + ratio * light(name, stars(10.0, separation, seed=1))
    assert (misfits(name, both, snr, components) > UNFAMILIAR_ABOVE[name]).mean() <= 0.02


@pytest.mark.parametrize("name", ARM_NAMES)
def test_it_is_the_second_star_that_explains_a_pair(name: ArmName, components: Components) -> None:
    both = light(name, stars(5.0)) + 0.7 * light(name, stars(5.0, 130.0, seed=1))
    parts = components.arms[name]
    alone = replace(parts, second=parts.second * 0.0, flat=parts.flat * 0.0)
    with_one = misfits(name, both, 100.0, Components({name: alone}))
    assert (misfits(name, both, 100.0, components) < 0.7 * with_one).mean() > 0.9


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("snr", [20.0, 40.0, 150.0])
def test_lines_that_no_star_has_are_unfamiliar(name: ArmName, snr: float, components: Components) -> None:
    odd = wrong_lines(name, light(name, stars(0.0)))
    misfit = misfits(name, odd, snr, components)
    assert (misfit > UNFAMILIAR_ABOVE[name]).mean() > (0.5 if snr < 30 else 0.75)
    # And so to the same degree whatever the S/N, as long as it shows them.
    if snr == 40.0:
        assert np.abs(np.median(misfit / misfits(name, odd, 150.0, components)) - 1.0) < 0.15


@pytest.mark.parametrize("name", ARM_NAMES)
def test_molecules_that_no_star_has_are_unfamiliar(name: ArmName, components: Components) -> None:
    place = np.arange(ARMS[name].n_pixels)
    bands = 1.0 - 0.4 * np.exp(-(place % 450) / 60.0) * (
        0.6 + 0.4 * np.sin(place / 3.0)
    )  # heads and their rotational lines
    odd = light(name, stars(0.0)) * torch.from_numpy(bands)
    assert misfits(name, odd, 50.0, components).min() > UNFAMILIAR_ABOVE[name]
    assert (misfits(name, odd, 12.0, components) > UNFAMILIAR_ABOVE[name]).mean() > 0.5


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("noise", [0.7, 1.3, 1.6])
def test_noise_that_is_stated_wrongly_condemns_nobody(name: ArmName, noise: float, components: Components) -> None:
    flux = light(name, stars(10.0))
    for snr in (10.0, 40.0):
        assert misfits(name, flux, snr, components, noise).max() < UNFAMILIAR_ABOVE[name]
    # More noise than is stated counts as it is measured.
    if noise > 1.0:
        odd = wrong_lines(name, flux)
        np.testing.assert_allclose(
            misfits(name, odd, 40.0, components, noise), misfits(name, odd, 40.0, components), rtol=1e-3
        )


@pytest.mark.parametrize("name", ARM_NAMES)
def test_a_few_bad_pixels_are_no_oddness(name: ArmName, components: Components) -> None:
    flux, sigma = exposed(name, light(name, stars(10.0)), 30.0)
    for first, value in ((300, 3.0), (1500, 0.1), (2200, 50.0)):
        flux[:, first : first + 3] = value
    assert measure(name, flux, sigma, torch.ones(ROWS), components).max() < UNFAMILIAR_ABOVE[name]


@pytest.mark.parametrize("name", ARM_NAMES)
def test_a_spectrum_s_bits_do_not_depend_on_the_others(name: ArmName, components: Components) -> None:
    flux = wrong_lines(name, light(name, stars(10.0)))
    normalised, sigma = exposed(name, flux, 40.0)
    noise = torch.linspace(0.8, 1.4, ROWS)
    whole = measure(name, normalised, sigma, noise, components)
    assert ROWS > TILE
    assert whole.dtype == np.float32
    assert (whole > 0).sum() > ROWS / 2
    order = np.random.default_rng(3).permutation(ROWS)
    for rows in (order, order[:7], [5], range(60, ROWS)):
        chosen = list(rows)
        part = measure(name, normalised[chosen], sigma[chosen], noise[chosen], components)
        np.testing.assert_array_equal(part, whole[chosen])
    narrow = measure(name, normalised.float(), sigma.float(), noise, components)
    np.testing.assert_array_equal(narrow, whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_misfit_and_spoils_no_other(bad: float, components: Components) -> None:
    normalised, sigma = exposed("B", light("B", stars(10.0)), 30.0)
    whole = measure("B", normalised, sigma, torch.ones(ROWS), components)
    normalised[3, 100], sigma[5, 7] = bad, bad
    noise = torch.ones(ROWS)
    noise[8] = torch.nan
    misfit = measure("B", normalised, sigma, noise, components)
    assert np.flatnonzero(np.isnan(misfit)).tolist() == [3, 5]
    others = ~np.isnan(misfit)
    np.testing.assert_array_equal(misfit[others], whole[others])
    assert np.isnan(measure("B", normalised * torch.nan, sigma, noise, components)).all()
    # What preprocessing never gives, and yet no error: nothing at all, and less than nothing.
    for value in (0.0, -3.0, 1e30):
        measure("B", torch.full_like(normalised, value), sigma.nan_to_num(1.0, 1.0, 1.0), noise, components)


def test_no_spectra_and_wrong_shapes(components: Components) -> None:
    none = torch.empty(0, ARMS["R"].n_pixels)
    assert measure("R", none, none, torch.empty(0), components).shape == (0,)
    two = torch.ones(2, ARMS["R"].n_pixels)
    with pytest.raises(ValueError, match=r"arm R: flux, sigma and noise have shapes \(2, 3509\), \(2, 3509\), \(3,\)"):
        measure("R", two, two, torch.ones(3), components)
    with pytest.raises(ValueError, match=r"expected two \(spectrum, 3347\)"):
        measure("B", two, two, torch.ones(2), components)
    with pytest.raises(ValueError, match="no arm is called 'G'"):
        measure("G", two, two, torch.ones(2), components)


def test_the_components_are_orthonormal_and_made_once(components: Components) -> None:
    assert Components.default() is components
    for name in ARM_NAMES:
        parts = components.arms[name]
        shifts = len(parts.second)
        assert parts.second.shape == (shifts, ARMS[name].n_pixels // familiarity.BIN, familiarity.SECOND)
        assert abs(STEP_KMS * familiarity.REACH - 500.0) < 10.0
        both = torch.cat([parts.first.expand(shifts, -1, -1), parts.second], dim=2)
        product = both.transpose(1, 2) @ both
        assert (product - torch.eye(product.shape[1])).abs().max() < 1e-3
        assert torch.equal(parts.flat[:, familiarity.SECOND : 2 * familiarity.SECOND], parts.second[1])


def test_the_bit_is_explained_and_leaves_probabilities() -> None:
    assert not FATAL & Quality.UNFAMILIAR
    assert explain(int(Quality.UNFAMILIAR)) == "no star or pair of stars of the library explains the spectrum"
