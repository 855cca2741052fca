"""What a fit is given of an exposure: the light that resolution leaves, weights of its noise, and no bad pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from twinlines.pipeline.arms import ARMS, NATIVE_PIXELS, doppler_factor, native_wavelength
from twinlines.pipeline.binaries.twostar.observing import STRIDE, observe
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra import preprocess
from twinlines.pipeline.spectra.preprocess import Observed
from twinlines.pipeline.synthesis.observing import FIRST_WAVELENGTH
from twinlines.pipeline.synthesis.starlight import starlight

SUN = torch.tensor([[5772.0, 4.44, 0.0, 0.0, 2.0, 0.0]], dtype=torch.float64)
VELOCITY = 63.0


def observed_sun(snr: float = 300.0, *, bad: slice | None = None) -> Observed:
    """The Sun's blue arm on native pixels, receding."""
    arm = ARMS["B"]
    wavelength = native_wavelength("B", FIRST_WAVELENGTH["B"])
    light = starlight(Library.load(), "B").flux(SUN)[0].numpy()
    flux = 900.0 * np.interp(wavelength / doppler_factor(VELOCITY), arm.wavelength, light / np.median(light))
    flux = flux + np.random.default_rng(1).normal(0.0, 900.0 / snr, NATIVE_PIXELS)
    mask = np.zeros(NATIVE_PIXELS, np.uint8)
    if bad is not None:
        mask[bad] = 1
    ivar = np.full(NATIVE_PIXELS, (snr / 900.0) ** 2, np.float32)
    columns = flux.astype(np.float32), ivar, np.log10(wavelength), mask
    return preprocess.observe(arm, *(values[None] for values in columns))


def at_rest(observed: Observed) -> tuple[Tensor, Tensor]:
    seen = observe({"B": observed}, np.array([VELOCITY]))["B"]
    return seen.flux[0], seen.weight[0]


def test_light_is_kept_and_noise_counts_as_it_should() -> None:
    flux, weight = at_rest(observed_sun())
    light = starlight(Library.load(), "B", STRIDE).flux(SUN)[0]
    inner = slice(20, -20)
    # Interpolation between native pixels broadens lines a little.
    ratio = (flux / light)[inner]
    assert float((ratio / ratio.median() - 1.0).abs().max()) < 0.03
    assert flux.shape == weight.shape == (len(range(0, ARMS["B"].n_pixels, STRIDE)),)
    # All the information of the native pixels, and no more: 1.2 of the grid's each.
    native = native_wavelength("B", FIRST_WAVELENGTH["B"]) / doppler_factor(VELOCITY)
    pixels = int(((native > ARMS["B"].wavelength[0]) & (native < ARMS["B"].wavelength[-1])).sum())
    assert float(weight.square().sum()) == pytest.approx(9e4 * pixels, rel=0.03)


def test_noise_that_is_left_is_what_the_weights_say() -> None:
    clean, _ = at_rest(observed_sun())
    noisy, weight = at_rest(observed_sun(snr=30.0))
    pulls = ((noisy - clean) * weight)[20:-20]
    assert 0.75 < float(pulls.std()) < 0.95
    # On the scale of lines, where it counts, noise is no less than that.
    slow = torch.tensor(np.convolve(pulls.numpy(), np.ones(8) / np.sqrt(8.0), mode="valid"))
    assert 0.85 < float(slow.std()) < 1.15


def test_bad_pixels_take_no_part() -> None:
    _, whole = at_rest(observed_sun())
    _, weight = at_rest(observed_sun(bad=slice(2000, 2010)))
    gone = (weight == 0.0) & (whole > 0.0)
    assert 4 <= int(gone.sum()) <= 12
    assert int(gone.nonzero().max() - gone.nonzero().min()) == int(gone.sum()) - 1


def test_spectra_that_do_not_cover_the_grid_or_are_absent_take_no_part() -> None:
    observed = observed_sun()
    assert float(observe({"B": observed}, np.array([9000.0]))["B"].weight.max()) == 0.0
    assert float(observe({"B": observed}, np.array([np.nan]))["B"].weight.max()) == 0.0
    absent = [np.full((1, NATIVE_PIXELS), np.nan, np.float32)] * 3
    nothing = preprocess.observe(ARMS["B"], *absent, np.zeros((1, NATIVE_PIXELS), np.uint8))
    seen = observe({"B": nothing}, np.array([0.0]))["B"]
    assert float(seen.weight.max()) == 0.0
    assert bool(seen.flux.isfinite().all())


def test_a_velocity_for_each_exposure_is_wanted() -> None:
    with pytest.raises(ValueError, match="1 spectra, but velocities of shape"):
        observe({"B": observed_sun()}, np.zeros(2))
