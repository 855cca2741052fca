"""The noise that spectra show, on made-up lines, wild pixels and the survey's own exposures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import preprocess as reference
from tests.pipeline.spectra.test_preprocess import real, stored
from twinlines.pipeline.arms import BLUE, RED, Arm
from twinlines.pipeline.spectra import noise
from twinlines.pipeline.spectra.preprocess import observe, to_rest_frame


def lines(snr: float, factor: float, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crowded lines seen at R = 7500, with ``factor`` times the stated noise."""
    rng = np.random.default_rng(3)
    x = reference.native_wavelength(BLUE)
    centres, depths = rng.uniform(x[0], x[-1], 250), 0.9 * rng.beta(1.0, 2.0, 250)
    clean = np.exp(-np.exp(-0.5 * ((x[:, None] - centres) / (centres / 7500.0 / 2.3548)) ** 2) @ depths)
    sigma = np.broadcast_to(np.sqrt(clean) / snr, (rows, x.size))
    flux = clean + factor * sigma * rng.standard_normal(sigma.shape)
    return torch.from_numpy(flux).float(), torch.from_numpy(sigma.copy()).float(), torch.ones(flux.shape).bool()


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("snr", [10.0, 100.0])
def test_noise_is_measured_under_any_lines(snr: float, factor: float) -> None:
    ratio = noise.measure(*lines(snr, factor))
    assert ratio.dtype == torch.float32
    np.testing.assert_allclose(ratio, factor, rtol=0.15)


def test_cosmic_rays_and_bad_columns_do_not_count() -> None:
    flux, sigma, usable = lines(30.0, 1.0)
    clean = noise.measure(flux, sigma, usable)
    flux[:, 100:4000:100] += 50.0
    flux[:, :40] = 1e7
    usable[:, 2000:2010] = False
    flux[:, 2000:2010] = torch.nan
    np.testing.assert_allclose(noise.measure(flux, sigma, usable), clean, rtol=0.15)


def test_what_cannot_be_measured_is_missing() -> None:
    flux, sigma, usable = lines(30.0, 1.0, rows=3)
    usable[0, 200:] = False
    sigma[1] = torch.nan
    ratio = noise.measure(flux, sigma, usable)
    assert ratio.isnan().tolist() == [True, True, False]
    assert noise.measure(flux[:, :5], sigma[:, :5], usable[:, :5]).isnan().all()
    assert noise.factor(ratio).tolist() == [1.0, 1.0, 1.0]
    assert noise.factor(torch.tensor([0.7, 1.19, 1.5])).tolist() == [1.0, 1.0, 1.5]


@pytest.mark.parametrize("arm", [BLUE, RED], ids=["B", "R"])
def test_noise_that_errors_understate_is_not_taken_for_spikes(arm: Arm) -> None:
    columns = stored(arm, 12)
    rng = np.random.default_rng(5)
    sigma = columns["ivar"] ** -0.5
    more = np.sqrt(1.5**2 - 1.0) * sigma * rng.standard_normal(sigma.shape)
    noisy = columns | {"flux": (columns["flux"] + more).astype(np.float32)}
    calm, loud = observe(arm, **columns), observe(arm, **noisy)
    # Beside the cosmic rays of both, little more is repaired (before: 150 to 300 pixels of each arm).
    still, rest = (to_rest_frame(arm, seen, np.zeros(12)) for seen in (calm, loud))
    assert (rest.n_bad - still.n_bad).median() < 25
    # Draws are made with the noise that is stated.
    np.testing.assert_allclose((rest.sigma / still.sigma).median(dim=1).values, 1.0, rtol=0.01)
    np.testing.assert_allclose(loud.noise / calm.noise, 1.5, rtol=0.12)
    np.testing.assert_allclose(loud.sigma / calm.sigma, loud.noise[:, None].expand_as(loud.sigma), rtol=1e-3)


@pytest.mark.parametrize("arm", [BLUE, RED], ids=["B", "R"])
@pytest.mark.parametrize("date", ["58408", "58625", "58646", "58649"])
def test_the_survey_s_own_noise_is_trusted(date: str, arm: Arm) -> None:
    ratio = observe(arm, **real(date, arm)).noise.numpy()
    assert ((ratio > 0.65) & (ratio < 1.15)).all()
