from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import preprocess as reference
from twinlines.pipeline.arms import BLUE, RED
from twinlines.pipeline.spectra.compiled import spikes
from twinlines.pipeline.spectra.despike import PASSES, SHARP_PASSES, _edges, _height, _sharpness, despike, fill

SEED = 5


def stars(arm, rows: int, snr: float, seed: int = SEED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelengths, spectra of absorption lines with a level of about 1, and their noise's standard deviation."""
    rng = np.random.default_rng(seed)
    x = reference.native_wavelength(arm)
    clean = np.empty((rows, x.size))
    for row in range(rows):
        centres, depths = rng.uniform(x[0], x[-1], 150), 0.8 * rng.beta(1.0, 3.0, 150)
        clean[row] = np.exp(-np.exp(-0.5 * ((x[:, None] - centres) / (centres / 7500.0 / 2.3548)) ** 2) @ depths)
    return x, clean, np.full(clean.shape, 1.0 / snr)


def repaired(x: np.ndarray, flux: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wavelength = torch.from_numpy(x).expand(flux.shape)
    result = despike(wavelength, torch.from_numpy(flux).float(), torch.from_numpy(sigma).float())
    assert not result.failed.any()
    return result.flux.numpy(), result.repaired.numpy()


def one_test(x: np.ndarray, flux: np.ndarray, sigma: np.ndarray, **passes: int) -> tuple[np.ndarray, np.ndarray]:
    """Spectra after one of the two tests, and which pixels it repaired."""
    flux, flagged, failed = flux.copy(), np.empty(flux.shape, bool), np.empty(len(flux), bool)
    wavelength = np.broadcast_to(x, flux.shape).copy()
    how = _sharpness(flux.dtype, passes.get("sharp", 0)), _height(flux.dtype, passes.get("high", 0))
    spikes.despike(wavelength, flux, sigma, flagged, failed, *how)
    return flux, flagged


def test_the_height_test_is_the_authors_recipe_but_for_its_veto(monkeypatch) -> None:
    monkeypatch.setattr("twinlines.pipeline.spectra.despike._FLANKS", ((0, 2.0),))  # which nothing meets
    rng = np.random.default_rng(SEED)
    x, clean, sigma = stars(BLUE, 6, 30.0)
    flux = clean + rng.normal(size=clean.shape) * sigma
    for row in range(6):
        for at in rng.integers(0, x.size - 6, 15):
            flux[row, at : at + rng.integers(1, 6)] += rng.exponential(1.0)
    flux[0, :20] = 4e4
    ours, flagged = one_test(x, flux, sigma, high=PASSES)
    for row in range(6):
        theirs, theirs_flagged = reference.reference_despike(x, flux[row])
        np.testing.assert_allclose(ours[row], theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(flagged[row], theirs_flagged)


@pytest.mark.parametrize(("arm", "snr"), [(BLUE, 20.0), (RED, 200.0)])
def test_spikes_go(arm, snr: float) -> None:
    rng = np.random.default_rng(SEED)
    x, clean, sigma = stars(arm, 9, snr)
    flux = clean + rng.normal(size=clean.shape) * sigma
    places = np.arange(150, x.size - 150, 97)
    height = max(10.0 / snr, 0.2)
    spikes = np.zeros(clean.shape, dtype=bool)
    for row in range(9):
        spikes[row, (places[:, None] + np.arange(1 + row % 3)).ravel()] = True
        flux[row, spikes[row]] += height * rng.uniform(1.0, 30.0)
    after, _ = repaired(x, flux, sigma)
    left = (after - clean)[spikes]
    # What is left must not exceed what noise and interpolation across a line do.
    assert (left > 6.0 / snr + 0.3).mean() < 2e-3
    assert (left > height * 0.75).mean() < 2e-2


@pytest.mark.parametrize("height", [1.0, 3.0])
def test_tracks_go_which_the_authors_recipe_leaves(height: float) -> None:
    rng = np.random.default_rng(SEED)
    x, clean, sigma = stars(RED, 6, 30.0)
    flux = clean + rng.normal(size=clean.shape) * sigma
    places = np.arange(150, x.size - 150, 211)
    lengths = (7, 10, 14)
    for row in range(6):
        for place in places:
            track = slice(place, place + lengths[row % 3])
            flux[row, track] += height * rng.uniform(0.7, 1.3, lengths[row % 3])
    window = places[:, None] + np.arange(7)
    after, _ = repaired(x, flux, sigma)
    assert ((after - clean)[:, window].max(axis=2) > 0.5).mean() < 0.02
    authors = reference.reference_despike(x, flux[0])[0]
    assert ((authors - clean[0])[window].max(axis=1) > 0.5).mean() > 0.3


@pytest.mark.parametrize("snr", [20.0, 60.0, 200.0])
def test_emission_lines_stay(snr: float) -> None:
    rng = np.random.default_rng(SEED)
    height, broadening = np.array([(h, b) for h in (0.5, 2.0, 6.0, 20.0) for b in (1.0, 1.5, 4.0)] * 2).T
    x, clean, _ = stars(RED, height.size, snr)
    centre = 6564.6 + rng.uniform(-3.0, 3.0, (height.size, 1))
    width = broadening[:, None] * centre / 7500.0 / 2.3548
    line = height[:, None] * np.exp(-0.5 * ((x - centre) / width) ** 2)
    clean = clean + line
    sigma = np.sqrt(clean.clip(0.1)) / snr
    flux = clean + rng.normal(size=clean.shape) * sigma
    after, _ = repaired(x, flux, sigma)
    near = np.abs(x - centre) < 4.0 * width
    kept = np.where(near, after - clean + line, 0.0).sum(axis=1) / np.where(near, line, 0.0).sum(axis=1)
    assert (np.abs(kept - 1.0) < 0.06 + 2.0 / (snr * height)).all()
    top = line > 0.5 * height[:, None]
    assert (np.where(top, after, 0.0).max(axis=1) > 0.9 * height).all()


@pytest.mark.parametrize("arm", [BLUE, RED])
def test_nothing_a_noiseless_star_has_is_sharp(arm) -> None:
    x, clean, _ = stars(arm, 40, 1.0)
    _, flagged = one_test(x, clean, np.full_like(clean, 1e-4), sharp=SHARP_PASSES)
    assert not flagged.any()


def test_noise_alone_is_seldom_repaired() -> None:
    rng = np.random.default_rng(SEED)
    x, clean, sigma = stars(RED, 32, 50.0)
    _, flagged = repaired(x, clean + rng.normal(size=clean.shape) * sigma, sigma)
    assert flagged.mean() < 0.015


def test_the_profile_leaks_less_than_a_spike_shows() -> None:
    design = _edges()
    assert design.leak < 0.25
    spike = 2.0 * design.taps[0] * design.scales[0]
    assert spike > 3.0 * design.leak


def test_unknown_values_are_filled() -> None:
    x, clean, sigma = stars(BLUE, 3, 100.0)
    flux = clean.copy()
    flux[0, 500:510] = np.nan
    flux[1, :5] = np.inf
    flux[2] = np.nan
    result = despike(torch.from_numpy(x).expand(3, -1), torch.from_numpy(flux), torch.from_numpy(sigma))
    assert result.flux.isfinite().all()
    assert result.repaired[0, 500:510].all()
    assert result.repaired[1, :5].all()
    np.testing.assert_allclose(result.flux[1, :5], clean[1, 5])
    assert result.failed.tolist() == [False, False, True]


def test_filling_is_linear_in_wavelength_and_constant_outside() -> None:
    x = torch.tensor([[0.0, 1.0, 3.0, 4.0, 5.0, 6.0]])
    flux = torch.tensor([[9.0, 1.0, 9.0, 9.0, 5.0, 9.0]])
    fill(x, flux, torch.tensor([[True, False, True, True, False, True]]))
    assert flux.tolist() == [[1.0, 1.0, 3.0, 4.0, 5.0, 5.0]]
    every = torch.ones(1, 6)
    fill(x, every, torch.ones(1, 6, dtype=torch.bool))
    assert every.tolist() == [[1.0] * 6]


def test_no_bit_depends_on_the_batch() -> None:
    rng = np.random.default_rng(SEED)
    x, clean, sigma = stars(BLUE, 40, 30.0)
    flux = clean + rng.normal(size=clean.shape) * sigma
    hits = rng.integers(0, x.size - 12, (40, 6))
    for row in range(40):
        for hit in hits[row]:
            flux[row, hit : hit + rng.integers(1, 12)] += rng.exponential(2.0)
    whole, whole_flagged = repaired(x, flux, sigma)
    for rows in (np.array([7]), rng.permutation(40), np.arange(3, 30)):
        part, flagged = repaired(x, flux[rows], sigma[rows])
        np.testing.assert_array_equal(part, whole[rows])
        np.testing.assert_array_equal(flagged, whole_flagged[rows])
