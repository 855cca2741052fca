"""Judging arrays that come from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import twinlines as tw
from twinlines.pipeline.arms import ARMS, doppler_factor, vacuum_to_air
from twinlines.pipeline.schema import RESULTS, SchemaError
from twinlines.pipeline.spectra.arrays import AirWarning, FluxWarning, NoiseWarning, SpectrumError
from twinlines.pipeline.spectra.inference import InferenceParameters

Array = NDArray[np.float64]
VELOCITY = 31.0


@pytest.fixture(scope="module")
def spectrum() -> tuple[Array, Array]:
    """Wavelengths, linear and not the survey's, and flux of a solar star that recedes."""
    library = tw.load_library()
    arm = ARMS["B"]
    flux = library.flux("B", [[5772.0, 4.44, 0.0, 0.0]])[0].astype(np.float64)
    wavelength = np.linspace(4960.0, 5340.0, 2900)
    return wavelength, np.interp(wavelength / doppler_factor(VELOCITY), arm.library_wavelength, flux / flux.mean())


@pytest.fixture
def options(untrained_weights: Path) -> dict[str, Any]:
    return {"weights": untrained_weights, "parameters": InferenceParameters(n_draws=3)}


def test_one_spectrum_or_many_give_the_same(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    noisy = flux + 0.02 * np.random.default_rng(1).standard_normal((3, flux.size))
    noisy[1, 100] = np.nan
    many = tw.judge_arrays("B", wavelength, noisy, sigma=0.02, **options)
    RESULTS.validate(many)
    np.testing.assert_allclose(many["rv_obs_B"], VELOCITY, atol=3.0)
    assert np.isfinite(many["pb_pct_B_16"]).all()
    assert tw.explain(many["quality_R"]).values.tolist() == ["no spectrum of this arm"] * 3
    assert len(np.unique(many["obsid"])) == 3
    assert (many["obsid"] >= 0).all()
    one = tw.judge_arrays("B", wavelength, noisy[2], np.full(flux.shape, 0.02**-2.0), **options)
    for name in RESULTS.variables:
        expected = many[name].values[2:]
        assert np.array_equal(one[name].values, expected, equal_nan=expected.dtype.kind == "f"), name
    other = tw.judge_arrays("B", wavelength, noisy[2], sigma=0.03, **options)
    assert other["obsid"] != one["obsid"]


def test_the_survey_s_own_arrays_give_the_survey_s_velocity(tmp_path: Path, options: dict[str, Any]) -> None:
    tw.mock_release(tmp_path / "fits", stars=30, seed=2)
    spectra = tw.read_lamost(sorted((tmp_path / "fits").rglob("*.fits.gz"))[5])
    verdict = tw.judge(spectra, **options)
    for arm in ("B", "R"):
        columns = spectra.sel(arm=arm)
        arrays = tw.judge_arrays(
            arm,
            10.0 ** columns["loglam"].astype(float),
            columns["flux"],
            columns["ivar"],
            mask=columns["mask"],
            **options,
        )
        np.testing.assert_allclose(arrays[f"rv_obs_{arm}"], verdict[f"rv_obs_{arm}"], atol=1e-3)
        np.testing.assert_array_equal(arrays[f"npixbad_{arm}"], verdict[f"npixbad_{arm}"])


def test_wavelengths_in_air_are_suspected(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    at_rest = vacuum_to_air(wavelength / doppler_factor(VELOCITY))
    with pytest.warns(AirWarning, match="say air=True"):
        tw.judge_arrays("B", at_rest, flux, sigma=0.01, **options)
    verdict = tw.judge_arrays("B", at_rest, flux, sigma=0.01, air=True, **options)
    assert abs(float(verdict["rv_obs_B"][0])) < 1.0


def test_raw_counts_with_errors_of_a_normalised_flux_are_noticed(
    spectrum: tuple[Array, Array], options: dict[str, Any]
) -> None:
    wavelength, flux = spectrum
    counts = 1e4 * (flux + 0.02 * np.random.default_rng(3).standard_normal((2, flux.size)))
    with pytest.warns(NoiseWarning, match=r"spectrum 0 \(and 1 more\) is 10,\d{3} times noisier than its errors say"):
        tw.judge_arrays("B", wavelength, counts, sigma=0.02, **options)
    verdict = tw.judge_arrays("B", wavelength, counts, sigma=200.0, **options)  # counts as such are welcome
    np.testing.assert_allclose(verdict["noise_B"], 1.0, atol=0.1)


def test_flux_that_is_not_above_zero_is_said_to_get_no_verdict(
    spectrum: tuple[Array, Array], options: dict[str, Any]
) -> None:
    wavelength, flux = spectrum
    with pytest.warns(FluxWarning, match="the median flux of spectrum 1 is -.*divide by the continuum"):
        verdict = tw.judge_arrays("B", wavelength, np.stack([flux, -flux]), sigma=0.02, **options)
    assert np.isfinite(verdict["pb_pct_B_16"]).all("percentile").values.tolist() == [True, False]


def test_noise_without_signal_is_left_out(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    empty = np.full(flux.shape, np.nan)
    verdict = tw.judge_arrays("B", wavelength, np.stack([flux, flux, empty]), sigma=[[0.01], [1.0], [1.0]], **options)
    assert tw.explain(verdict["quality_B"]).values.tolist() == ["good", "S/N of 5 or less", "S/N of 5 or less"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": None}, "the noise must be known by ivar or by sigma"),
        ({"ivar": 1.0}, "the noise must be known by ivar or by sigma"),
        ({"wavelength": "NaN"}, "the wavelength of pixel 7 of spectrum 0 is nan"),
        ({"wavelength": "nm"}, "run from 496 to 534; arm B needs 5000.0 to 5299.9 Angstrom.*nanometres"),
        ({"arm": "R"}, "arm R needs 6350.1 to 6749.9 Angstrom"),
        ({"wavelength": "short"}, "between the 70 pixels at each end that do not count"),
        ({"flux": np.ones(100)}, r"flux has shape \(100,\); expected"),
        ({"sigma": np.ones(5)}, r"sigma has shape \(5,\), which does not fit"),
        ({"arm": "G"}, "no arm is called 'G'"),
    ],
)
def test_errors_say_what_is_wrong(spectrum: tuple[Array, Array], change: dict[str, Any], message: str) -> None:
    wavelength, flux = spectrum
    changed = {
        "NaN": np.where(np.arange(wavelength.size) == 7, np.nan, wavelength),
        "nm": wavelength / 10.0,
        "short": np.linspace(4999.0, 5301.0, wavelength.size),
    }
    arguments = {"arm": "B", "wavelength": wavelength, "flux": flux, "sigma": 0.01, **change}
    if isinstance(arguments["wavelength"], str):
        arguments["wavelength"] = changed[arguments["wavelength"]]
    with pytest.raises(ValueError, match=message) as caught:
        tw.judge_arrays(**arguments)
    assert isinstance(caught.value, SpectrumError) or arguments["arm"] == "G"


def test_a_dataset_comes_back(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    verdict = tw.judge_arrays("B", wavelength, np.empty((0, flux.size)), sigma=0.1, **options)
    assert isinstance(verdict, xr.Dataset)
    assert verdict.sizes["exposure"] == 0


@pytest.mark.parametrize("unit", [1e-30, 1e-19, 1e25])
def test_the_unit_of_the_flux_does_not_matter(
    spectrum: tuple[Array, Array], options: dict[str, Any], unit: float
) -> None:
    """Single precision holds neither the inverse variance of 1e-19 nor that of 1e25."""
    wavelength, flux = spectrum
    noisy = flux + 0.05 * np.random.default_rng(2).standard_normal(flux.size)
    plain = tw.judge_arrays("B", wavelength, noisy, sigma=0.05, **options)
    scaled = tw.judge_arrays("B", wavelength, unit * noisy, sigma=unit * 0.05, **options)
    assert scaled["quality_B"].values.tolist() == plain["quality_B"].values.tolist()
    for name in ("rv_obs_B", "rv_obs_err_B", "snr_B"):
        np.testing.assert_allclose(scaled[name], plain[name], rtol=1e-3, err_msg=name)
    # Another content gives another noise.
    np.testing.assert_allclose(scaled["pb_pct_B_16"], plain["pb_pct_B_16"], atol=0.1)


def test_masked_pixels_are_not_used(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    masked = np.zeros(flux.size, dtype=bool)
    masked[800:840] = True
    hidden = np.ma.masked_array(np.where(masked, -999.0, flux), masked)
    nan = np.where(masked, np.nan, flux)
    one, other = (tw.judge_arrays("B", wavelength, each, sigma=0.02, **options) for each in (hidden, nan))
    for name in ("rv_obs_B", "npixbad_B", "snr_B", "pb_pct_B_16"):
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert int(one["npixbad_B"][0]) >= 20


def test_units_are_refused_not_dropped(spectrum: tuple[Array, Array], options: dict[str, Any]) -> None:
    wavelength, flux = spectrum
    with pytest.raises(SpectrumError, match="sigma has the unit adu; give numbers"):
        tw.judge_arrays("B", wavelength, flux, sigma=np.full(flux.shape, 20.0) * u.adu, **options)
    with pytest.raises(SpectrumError, match="wavelength has the unit nm"):
        tw.judge_arrays("B", wavelength / 10.0 * u.nm, flux, sigma=0.02, **options)


def test_what_is_no_dataset_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="no exposures but str; read files by read_lamost"):
        tw.judge("file.fits", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [0, -0.02, np.nan])
def test_errors_that_are_none_are_refused(spectrum: tuple[Array, Array], options: dict[str, Any], sigma: float) -> None:
    wavelength, flux = spectrum
    with pytest.raises(SpectrumError, match="nowhere above 0; give standard deviations"):
        tw.judge_arrays("B", wavelength, flux, sigma=sigma, **options)
