"""Fits of a star's light: derivatives against finite differences, noisy stars recovered, limits and odd spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.synthesis.fitting import Observation, continuum_basis, fit_star, project
from twinlines.pipeline.synthesis.leastsquares import Limits, Terms, minimise
from twinlines.pipeline.synthesis.spectra import Stars, add_noise, component
from twinlines.pipeline.synthesis.starlight import PARAMETERS, Light, Starlight, starlight

SOME = torch.tensor(
    [
        [5772.0, 4.44, 0.05, 0.02, 12.0, 31.0],
        [4130.0, 1.8, -0.7, 0.3, 3.0, -80.0],
        [7700.0, 4.1, 0.1, -0.2, 180.0, 7.0],
        [9300.0, 3.6, -0.3, 0.1, 410.0, -420.0],
    ],
    dtype=torch.float64,
)
"""Stars between the library's nodes: Teff, log g, [Fe/H], [alpha/Fe], vsini, velocity."""
STEPS = (0.1, 1e-4, 1e-4, 1e-4, 0.3, 1e-3)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load()


def _observe(library: Library, name: ArmName, parameters: Tensor, snr: float, seed: int) -> Observation:
    """Noisy spectra under a slanted continuum."""
    stars = Stars(
        parameters[:, :4].numpy(), np.ones(len(parameters)), parameters[:, 4].numpy(), parameters[:, 5].numpy()
    )
    keys = np.stack([np.arange(len(parameters)), np.zeros(len(parameters), np.int64)], axis=1)
    light = component(ARMS[name], library, stars)
    noisy, sigma = add_noise(light, torch.full((len(parameters),), snr), keys, ARMS[name], seed)
    slant = torch.linspace(0.7, 1.2, light.shape[1])
    return Observation(noisy * slant, 1.0 / (sigma * slant))


@pytest.mark.parametrize("name", ARM_NAMES)
@pytest.mark.parametrize("stride", [1, 2])
def test_light_is_that_of_the_training_set(library: Library, name: ArmName, stride: int) -> None:
    stars = Stars(SOME[:, :4].numpy(), np.ones(len(SOME)), SOME[:, 4].numpy(), SOME[:, 5].numpy())
    expected = component(ARMS[name], library, stars)
    model = starlight(library, name, stride)
    made = model.light(SOME)
    assert made.flux.shape == expected[:, model.pixels].shape
    torch.testing.assert_close(made.flux, expected[:, model.pixels], rtol=2e-4, atol=0.0)
    torch.testing.assert_close(model.flux(SOME), made.flux, rtol=1e-5, atol=0.0)


def test_derivatives_are_those_of_finite_differences(library: Library) -> None:
    model = starlight(library, "B", 2, double=True)
    slopes = model.light(SOME).slopes
    for place, step in enumerate(STEPS):
        aside = torch.zeros(len(PARAMETERS), dtype=torch.float64)
        aside[place] = step
        finite = (model.flux(SOME + aside) - model.flux(SOME - aside)) / (2.0 * step)
        error = (finite - slopes[:, place]).abs().amax(dim=1) / slopes[:, place].abs().amax(dim=1)
        # The rotation kernel is tabulated, and so is its derivative.
        assert float(error.max()) < (3e-3 if PARAMETERS[place] == "vsini" else 1e-6), PARAMETERS[place]


def test_the_gradient_of_chi2_is_that_of_finite_differences(library: Library) -> None:
    model = starlight(library, "R", 2, double=True)
    truth = _observe(library, "R", SOME, 40.0, 1)
    observed = Observation(truth.flux[:, model.pixels].double(), truth.weight[:, model.pixels].double())
    away = SOME + torch.tensor([60.0, 0.1, -0.03, 0.05, 4.0, -3.0])

    def chi2(parameters: Tensor) -> Tensor:
        flux = model.flux(parameters)
        return project(observed, Light(flux, torch.zeros(len(flux), 0, flux.shape[1], dtype=flux.dtype))).terms.chi2

    terms = project(observed, model.light(away)).terms
    for place, step in enumerate(STEPS):
        aside = torch.zeros(len(PARAMETERS), dtype=torch.float64)
        aside[place] = step
        finite = (chi2(away + aside) - chi2(away - aside)) / (2.0 * step)
        torch.testing.assert_close(-2.0 * terms.gradient[:, place], finite, rtol=3e-3, atol=1e-3)


def test_the_continuum_is_solved_for(library: Library) -> None:
    model = starlight(library, "B", 1)
    flux = model.flux(SOME)
    wiggle = 3.0 + torch.tensor([0.3, -0.2, 0.1, 0.2, -0.1]) @ continuum_basis(flux.shape[1])[1:]
    observed = Observation(flux * wiggle, 100.0 / flux)
    fitted = project(observed, model.light(SOME))
    torch.testing.assert_close(fitted.continuum, wiggle.expand_as(flux), rtol=1e-4, atol=0.0)
    assert float(fitted.terms.chi2.max()) < 0.1
    # Where the continuum takes up all that a parameter does, there is no curvature left; here it takes up some.
    assert bool((fitted.terms.curvature.diagonal(dim1=1, dim2=2) > 0.0).all())


def test_noisy_stars_are_recovered_and_chi2_is_that_of_noise(library: Library) -> None:
    copies = SOME[:3].repeat(8, 1)
    lights = {name: starlight(library, name) for name in ARM_NAMES}
    observed = {name: _observe(library, name, copies, 60.0, 5) for name in ARM_NAMES}
    start = copies + torch.tensor([250.0, -0.3, 0.2, -0.1, 8.0, 9.0])
    fit = fit_star(lights, observed, start[:, None], finalists=1)
    assert bool(fit.converged.all())
    freedom = sum(ARMS[name].n_pixels for name in ARM_NAMES) - 6 - 2 * 6
    assert float((fit.chi2 / freedom).mean()) == pytest.approx(1.0, abs=4.0 * (2.0 / freedom / len(copies)) ** 0.5)
    errors = fit.covariance.diagonal(dim1=1, dim2=2).sqrt()
    pulls = ((fit.parameters - copies) / errors).numpy()
    rotates = copies[:, 4].numpy() > 5.0  # below, vsini is at its limit more often than not
    assert np.abs(pulls[:, [0, 1, 2, 3, 5]]).mean() == pytest.approx(0.8, abs=0.25)
    assert np.abs(pulls[rotates, 4]).mean() == pytest.approx(0.8, abs=0.35)
    assert float(errors[:, 5].max()) < 3.0  # km/s


def test_masked_pixels_take_no_part(library: Library) -> None:
    lights: dict[ArmName, Starlight] = {"B": starlight(library, "B")}
    observed = _observe(library, "B", SOME[:2], 50.0, 6)
    weight = observed.weight.clone()
    weight[:, 1000:1100] = 0.0
    flux = observed.flux.clone()
    flux[0, 1000:1100] = 1e30
    flux[1, 1000:1100] = torch.nan
    start = SOME[:2, None]
    bad = fit_star(lights, {"B": Observation(flux, weight)}, start)
    clean = fit_star(lights, {"B": Observation(torch.where(weight > 0, flux, 1.0), weight)}, start)
    torch.testing.assert_close(bad.parameters, clean.parameters)
    # Nothing at all to fit: chi2 is nothing, and no error is finite.
    nothing = fit_star(lights, {"B": Observation(flux, torch.zeros_like(weight))}, start)
    assert nothing.chi2.tolist() == [0.0, 0.0]
    assert bool(nothing.covariance.diagonal(dim1=1, dim2=2).isinf().all())


def test_fits_stay_within_the_library_and_slide_along_its_holes(library: Library) -> None:
    # A supergiant at 9000 K is not in the library: its light is that of the nearest star there is.
    model = starlight(library, "R")
    there, edge = SOME[3].clone(), SOME[3].clone()
    there[:5] = torch.tensor([9000.0, 0.5, 0.0, 0.0, 20.0])
    edge[:5] = torch.tensor([9000.0, 3.0, 0.0, 0.0, 20.0])
    assert library.outside(there[None, :4].numpy())[0]
    torch.testing.assert_close(model.flux(there[None]), model.flux(edge[None]))
    observed: dict[ArmName, Observation] = {"R": _observe(library, "R", edge[None], 80.0, 7)}
    beyond = torch.tensor([[[20_000.0, 9.0, 3.0, 3.0, 900.0, -4000.0], there.tolist()]], dtype=torch.float64)
    fit = fit_star({"R": model}, observed, beyond)
    assert bool(((fit.parameters >= model.lower) & (fit.parameters <= model.upper)).all())
    assert float(fit.chi2) < 1.1 * ARMS["R"].n_pixels


def test_a_library_of_one_composition_has_no_freedom_there(library: Library) -> None:
    narrow = replace(
        library,
        feh=library.feh[4:5],
        alpha=library.alpha[1:2],
        index=np.ascontiguousarray(library.index[:, :, 4:5, 1:2]),
    )
    model = starlight(narrow, "B", 2)
    sun = torch.tensor([[5772.0, 4.44, 0.0, 0.0, 12.0, 31.0]], dtype=torch.float64)
    made = model.light(sun)
    torch.testing.assert_close(made.flux, starlight(library, "B", 2).flux(sun), rtol=1e-5, atol=0.0)
    assert float(made.slopes[:, 2:4].abs().max()) == 0.0
    observed = Observation(made.flux, 50.0 / made.flux)
    fit = fit_star({"B": model}, {"B": observed}, (sun + torch.tensor([90.0, 0.2, 0.0, 0.0, 3.0, 4.0]))[:, None])
    assert float(fit.chi2) < 0.05
    assert fit.parameters[0, 2:4].tolist() == [0.0, 0.0]


def test_an_odd_stride_is_refused(library: Library) -> None:
    with pytest.raises(ValueError, match="stride is 3; give 1, or 2"):
        starlight(library, "B", 3)
    with pytest.raises(ValueError, match="no arm to fit"):
        fit_star({"B": starlight(library, "B")}, {}, SOME[:, None])


def test_minimise_finds_corners_and_narrow_valleys() -> None:
    """Rosenbrock's valley, whose residuals are 10 (y - x^2) and 1 - x; one problem is kept from its minimum."""

    def evaluate(parameters: Tensor, rows: Tensor) -> Terms:
        x, y = parameters.unbind(1)
        residual = torch.stack([10.0 * (y - x**2), 1.0 - x], dim=1)
        jacobian = torch.zeros(len(x), 2, 2, dtype=torch.float64)
        jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 1, 0] = -20.0 * x, 10.0, -1.0
        gradient = -(jacobian.mT @ residual[:, :, None])[:, :, 0]
        return Terms(residual.square().sum(dim=1), gradient, jacobian.mT @ jacobian)

    start = torch.tensor([[-1.2, 1.0], [0.3, -2.0]], dtype=torch.float64)
    wide = Limits(torch.full((2,), -9.0).double(), torch.full((2,), 9.0).double(), torch.full((2,), 5.0).double())
    found = minimise(evaluate, start, wide, most_steps=100, tolerance=1e-12, relative=0.0)
    assert bool(found.converged.all())
    torch.testing.assert_close(found.parameters, torch.ones(2, 2, dtype=torch.float64), rtol=1e-4, atol=0.0)
    low = replace(wide, upper=torch.tensor([9.0, 0.25], dtype=torch.float64))
    found = minimise(evaluate, start, low, most_steps=100, tolerance=1e-12, relative=0.0)
    # Along y = 1/4 the minimum is where 200 x (x^2 - 1/4) = 1 - x, near x = 1/2.
    assert found.parameters[:, 1].tolist() == [0.25, 0.25]
    x = found.parameters[:, 0]
    torch.testing.assert_close(200.0 * x * (x**2 - 0.25), 1.0 - x, atol=1e-3, rtol=1e-3)
    assert not bool(minimise(evaluate, start, wide, most_steps=1).converged.any())
