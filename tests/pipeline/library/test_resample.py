"""Resampling against closed forms and against a direct convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, BLUE, RED, STEP_DEX
from twinlines.pipeline.library.resample import RESOLUTION, ResampleError, Resampler, kernel_sigma
from twinlines.pipeline.testing.libraries import flux, wavelengths

GRID = np.concatenate([ARMS[name].library_wavelength for name in ARM_NAMES])
SUN = {"TEFF": 5750.0, "LOGG": 4.5}


@pytest.mark.parametrize(
    ("resolution", "logw", "step", "tolerance"),
    [
        (10_000, 1, 3.3e-5, 1e-4),  # three pixels per FWHM, as the paper's library has
        (10_000, 0, 1.0e-5, 2e-6),
        (20_000, 2, 1.6e-5, 1e-5),
        (300_000, 1, 1.0e-6, 1e-7),
        (7_600, 1, 2.0e-5, 2e-5),  # a kernel much narrower than a pixel
        (7_515, 1, 2.0e-5, 2e-5),
    ],
)
def test_lines_come_out_as_an_instrument_of_r_7500_sees_them(
    resolution: float, logw: int, step: float, tolerance: float
) -> None:
    wave = wavelengths(logw=logw, step=step)
    got = Resampler([wave], resolution)(flux(wave, SUN, resolution))
    expected = flux(GRID, SUN, RESOLUTION)
    assert got.shape == (BLUE.library_pixels + RED.library_pixels,)
    np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_equals_a_direct_convolution_with_a_gaussian() -> None:
    parts, resolution = 4, 12_000.0
    step = STEP_DEX * np.log(10.0) / parts
    number = int(0.1 / step)
    first = np.log(BLUE.library_wavelength[0]) - 400 * step
    wave = np.exp(first + step * np.arange(number))
    wave = np.concatenate([wave, np.exp(np.log(wave[-1]) + 3e-5 * np.arange(1, 9000))])  # and the red arm, coarsely
    noise = 1.0 + 0.1 * np.convolve(np.random.default_rng(2).normal(size=number), np.ones(9) / 9, mode="same")
    spectrum = np.concatenate([noise, np.ones(wave.size - number)])
    got = Resampler([wave], resolution)(spectrum)[: BLUE.library_pixels]
    offsets = np.arange(-400, 401)
    kernel = np.exp(-0.5 * (offsets * step / kernel_sigma(resolution)) ** 2)
    direct = np.convolve(noise, kernel / kernel.sum(), mode="valid")[::parts][: BLUE.library_pixels]
    np.testing.assert_allclose(got[50:-50], direct[50:-50], rtol=1e-6)


def test_within_a_permille_of_7500_nothing_is_smoothed() -> None:
    assert kernel_sigma(7500.0) == kernel_sigma(7507.0) == kernel_sigma(7493.0) == 0.0
    assert kernel_sigma(7508.0) > 0.0
    smooth = Resampler([GRID[: BLUE.library_pixels], GRID[BLUE.library_pixels :]], 7500.0)
    spectrum = flux(GRID, SUN, 7500.0)
    np.testing.assert_allclose(smooth(spectrum), spectrum, rtol=1e-11)


@settings(deadline=None, max_examples=30)
@given(st.floats(7510.0, 5e5))
def test_kernel_and_source_add_up_in_quadrature(resolution: float) -> None:
    fwhm = 2.0 * np.sqrt(2.0 * np.log(2.0)) * kernel_sigma(resolution)
    assert np.hypot(fwhm, 1.0 / resolution) == pytest.approx(1.0 / 7500.0, rel=1e-12)


@settings(deadline=None, max_examples=8)
@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 100))
def test_it_is_linear_and_keeps_a_constant(scale: float, constant: float, seed: int) -> None:
    spectrum = np.random.default_rng(seed).normal(size=WAVE.size)
    got = SMOOTH(scale * spectrum + constant)
    np.testing.assert_allclose(got, scale * SMOOTH(spectrum) + constant, atol=1e-9 * (1 + abs(scale) + abs(constant)))


WAVE = wavelengths(step=3e-5)
SMOOTH = Resampler([WAVE], 15_000.0)


def test_pixels_that_are_not_used_play_no_part() -> None:
    spectrum = flux(WAVE, SUN, 15_000.0)
    damaged = np.full(WAVE.size, np.nan)
    damaged[SMOOTH.used] = spectrum[SMOOTH.used]
    assert np.isnan(damaged).sum() > 5000, "between the arms and beyond them"
    np.testing.assert_array_equal(SMOOTH(damaged), SMOOTH(spectrum))


def in_segments(*limits: tuple[float, float]) -> NDArray[np.float64]:
    segments = [wavelengths(one) for one in limits]
    spectrum = np.concatenate([flux(one, SUN, 20_000.0) for one in segments])
    return Resampler(segments, 20_000.0)(spectrum)


@pytest.mark.parametrize(
    "limits",
    [
        [(4880.0, 5420.0), (6200.0, 6900.0)],
        [(6200.0, 6900.0), (4880.0, 5420.0)],
        [(3000.0, 4000.0), (4880.0, 5420.0), (5600.0, 5700.0), (6200.0, 6900.0), (8000.0, 8100.0)],
        [(4880.0, 5150.0), (5150.05, 5600.0), (6200.0, 6500.0), (6450.0, 6900.0)],  # joined; the last overlap
        [(4880.0, 6900.0), (4880.0, 5150.0)],
    ],
)
def test_an_arm_comes_from_a_segment_that_covers_it_or_from_several_joined(limits: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(in_segments(*limits), flux(GRID, SUN, 7500.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ([(4930.0, 6900.0)], r"arm B needs vacuum wavelengths 4925.06 to 5374.99 A .* found 4930.00 to 6900.00 A"),
        ([(4880.0, 6800.0)], r"arm R needs vacuum wavelengths 6255.08 to 6844.96 A .* found 4880.00 to 6800.00 A"),
        ([(4880.0, 5100.0), (5101.0, 6900.0)], r"arm B .* found 4880.00 to 5100.00; 5101.00 to 6900.00 A"),
        ([(6200.0, 6900.0)], "arm B needs"),
        ([(488.0, 690.0)], "arm B needs"),
    ],
)
def test_a_source_that_does_not_cover_an_arm_is_refused(limits: list[tuple[float, float]], said: str) -> None:
    with pytest.raises(ResampleError, match=said):
        in_segments(*limits)


@pytest.mark.parametrize(
    ("resolution", "said"),
    [(5000.0, "R = 5000 cannot be sharpened"), (7490.0, "cannot be sharpened"), (0.0, "no positive number")],
)
def test_a_resolution_below_ours_is_refused(resolution: float, said: str) -> None:
    with pytest.raises(ResampleError, match=said):
        Resampler([WAVE], resolution)


@pytest.mark.parametrize(
    "wave", [WAVE[::-1], np.where(WAVE > 6000, np.nan, WAVE), np.full(WAVE.size, 5000.0), WAVE - 6000.0]
)
def test_wavelengths_that_are_none_are_refused(wave: NDArray[np.float64]) -> None:
    with pytest.raises(ResampleError, match="strictly ascending"):
        Resampler([wave], 10_000.0)
    with pytest.raises(ResampleError, match="at least 8 pixels"):
        Resampler([wave[:3]], 10_000.0)


def test_where_the_source_ends_only_the_margin_s_last_pixels_feel_it() -> None:
    limits = [(ARMS[name].library_wavelength[0], ARMS[name].library_wavelength[-1]) for name in ARM_NAMES]
    got, expected = in_segments(*limits), flux(GRID, SUN, 7500.0)
    inner = np.concatenate([all_but_the_ends(ARMS[name].library_pixels) for name in ARM_NAMES])
    np.testing.assert_allclose(got[inner], expected[inner], rtol=1e-5)
    np.testing.assert_allclose(got, expected, rtol=0.1)


def all_but_the_ends(pixels: int) -> NDArray[np.bool_]:
    """All but 20 pixels at each end."""
    inner = np.ones(pixels, dtype=bool)
    inner[:20] = inner[-20:] = False
    return inner
