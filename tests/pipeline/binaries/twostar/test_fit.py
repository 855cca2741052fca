"""From exposures to fits: a mock's binaries and single stars, odd spectra, and the survey's real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import twinlines as tw
from tests.places import SHARED
from twinlines.pipeline.binaries.fits.store import shows_two
from twinlines.pipeline.binaries.schema import FITS, FitQuality
from twinlines.pipeline.binaries.twostar.fit import MOONLIT, Fitter, fit_pair, moonlit
from twinlines.pipeline.mock.epochs import EpochsConfig, double_and_others, observe_stars
from twinlines.pipeline.schema import SchemaError
from twinlines.pipeline.testing.binaries import mock_exposures

DOUBLE, SINGLE = 0, 1


@pytest.fixture(scope="module")
def block() -> xr.Dataset:
    """Exposures of a binary, 90 km/s apart, and of its primary alone, S/N 40."""
    return mock_exposures(separations=(90.0, 0.0), snr=40.0)


@pytest.fixture(scope="module")
def fits(block: xr.Dataset) -> xr.Dataset:
    return fit_pair(block)


def test_two_stars_are_told_from_one(fits: xr.Dataset) -> None:
    FITS.validate(fits)
    assert shows_two(fits).tolist() == [True, False]
    pair = fits.isel(exposure=DOUBLE)
    assert float(abs(pair.rv2 - pair.rv1)) == pytest.approx(90.0, abs=4.0)
    assert 0.0 < float(pair.rv1_err) < 3.0
    assert float(pair.delta_chi2) > 1000.0
    assert 0.8 < float(pair.chi2) < 1.3
    assert FitQuality(int(fits.fit_quality[SINGLE])) & FitQuality.NOT_DOUBLE
    assert float(fits.rv_single[SINGLE]) == pytest.approx(float(pair.rv1), abs=3.0)


def test_a_row_does_not_depend_on_the_others(block: xr.Dataset, fits: xr.Dataset) -> None:
    """But for last bits of sums: a batch is summed in an order of its own."""
    alone = fit_pair(block.isel(exposure=[DOUBLE]))
    for name in ("rv1", "rv2", "flux_ratio_B", "delta_chi2"):
        assert float(alone[name][0]) == pytest.approx(float(fits[name][DOUBLE]), rel=2e-3, abs=0.02)
    again = fit_pair(block)
    for name in FITS.variables:
        np.testing.assert_array_equal(again[name].values, fits[name].values)
    single = fit_pair(block.isel(exposure=DOUBLE))
    assert single.sizes["exposure"] == 1


@pytest.mark.parametrize("value", [1e25, -1e25, 1e8, np.inf])
def test_wild_pixels_of_one_exposure_leave_the_others_alone(block: xr.Dataset, value: float) -> None:
    odd = block.isel(exposure=[DOUBLE, DOUBLE]).copy(deep=True)
    odd["flux"][0, 0, 1200:1600] = value
    found = fit_pair(odd)
    assert float(abs(found.rv2[1] - found.rv1[1])) == pytest.approx(90.0, abs=4.0)
    assert not np.isinf(found.rv1.values).any()


@pytest.mark.parametrize("trouble", ["no blue arm", "NaN", "zero errors", "infinite errors", "nothing", "faint red"])
def test_odd_spectra_are_fitted_as_far_as_they_go(block: xr.Dataset, trouble: str) -> None:
    odd = block.isel(exposure=[DOUBLE, DOUBLE]).copy(deep=True)
    blue, red = 0, 1
    if trouble in ("no blue arm", "nothing"):
        for name in ("flux", "ivar", "loglam", "snr"):
            odd[name][0, [blue] if trouble == "no blue arm" else [blue, red]] = np.nan
    elif trouble == "NaN":
        odd["flux"][0, blue, 500:2500] = np.nan
    elif trouble == "zero errors":
        odd["ivar"][0, blue, 1000:1500] = np.inf
    elif trouble == "infinite errors":
        odd["ivar"][0, blue, 1000:1500] = 0.0
    else:
        odd["snr"][0, red] = 4.0
    found = fit_pair(odd)
    bits = FitQuality(int(found.fit_quality[0]))
    if trouble == "nothing":
        assert bits == FitQuality.NO_SPECTRUM
        assert np.isnan(found.rv1[0])
    else:
        assert bool(bits & FitQuality.ONE_ARM) == (trouble in ("no blue arm", "faint red"))
        unseen = {"no blue arm": "B", "faint red": "R"}.get(trouble)
        assert [bool(np.isnan(found[f"flux_ratio_{arm}"][0])) for arm in "BR"] == [arm == unseen for arm in "BR"]
        assert not bits & FitQuality.NOT_DOUBLE
        assert float(abs(found.rv2[0] - found.rv1[0])) == pytest.approx(90.0, abs=8.0)
    # The exposure beside it is as it was.
    assert float(abs(found.rv2[1] - found.rv1[1])) == pytest.approx(90.0, abs=4.0)


def test_what_is_no_exposure_is_refused() -> None:
    with pytest.raises(SchemaError, match="these are no exposures"):
        fit_pair("med.fits")  # type: ignore[arg-type]


def test_none_at_all_is_an_empty_answer(block: xr.Dataset) -> None:
    assert Fitter.default()(block.isel(exposure=[])).sizes["exposure"] == 0


@pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="needs the survey's real files in ../shared/lamost")
def test_a_real_binary_and_a_real_star() -> None:
    """KIC 8098300: a period of 4.3059 d and K1 / K2 of 0.82; on one night apart, on one closing, on one together."""

    def fits_of(name: str) -> xr.Dataset:
        (path,) = Path(SHARED / "lamost").glob(f"med-{name}*")
        fits = tw.fit_pair(tw.read_lamost(path))
        return fits.isel(exposure=(fits.fit_quality.values & FitQuality.NO_SPECTRUM) == 0)

    apart, blend, together, other = (fits_of(name) for name in ("58646", "58649", "58625", "58408"))
    assert shows_two(apart).all()
    np.testing.assert_allclose(apart.rv1 - apart.rv2, 139.0, atol=5.0)
    assert shows_two(blend).all()
    assert float((blend.rv1 - blend.rv2)[0]) == pytest.approx(41.0, abs=5.0)
    assert float((blend.rv1 - blend.rv2)[-1]) == pytest.approx(57.5, abs=5.0)
    for fits in (apart, blend):
        assert np.all(np.abs(fits.flux_ratio_B - 0.33) < 0.06)
        assert np.all(np.abs(fits.flux_ratio_R - 0.36) < 0.06)
    assert not shows_two(together).any()
    assert not shows_two(other).any()
    # As the stars part, their velocities change as K1 / K2; another night's zero point would be in the way.
    assert np.polyfit(blend.rv2, blend.rv1, 1)[0] == pytest.approx(-0.82, abs=0.1)
    # The arms' zero points of the other star's night differ.
    np.testing.assert_allclose(other.arm_offset, 3.5, atol=1.0)


def test_the_moon_s_light_is_told_from_a_star() -> None:
    config = EpochsConfig(double_and_others(0.0, 0.0), nights=(4, 4), exposures=(1, 1), snr=(30.0, 60.0), moonlight=1.0)
    ((truth, exposures),) = observe_stars(6, 9, config)
    lit = np.asarray(truth["moonlight"]) > 0.1
    fits = fit_pair(exposures.isel(exposure=lit))
    double = shows_two(fits)
    assert double.sum() == 4
    flagged = (fits.fit_quality.values & FitQuality.MOONLIGHT) > 0
    np.testing.assert_array_equal(flagged, double)
    # Half a day later the Moon was down.
    later = fit_pair(exposures.isel(exposure=lit).assign(bjdmid=exposures.bjdmid[lit] + 0.5))
    np.testing.assert_array_equal(shows_two(later), double)
    assert not (later.fit_quality.values & FitQuality.MOONLIGHT).any()


def test_moonlight_is_like_the_sun_and_has_the_moon_s_velocity() -> None:
    rows = {
        "rv1": np.zeros(7),
        "rv1_err": np.ones(7),
        "teff1": np.full(7, 5700.0),
        "teff1_err": np.full(7, 50.0),
        "rv2": np.array([30.0, 30.0 + MOONLIT + 1.9, 30.0 + MOONLIT + 2.1, 30.0, 30.0, np.nan, 300.0]),
        "rv2_err": np.array([1.0, 1.0, 1.0, 1.0, 1.0, np.nan, 1.0]),
        "teff2": np.array([5772.0, 6600.0, 5772.0, 4600.0, 5772.0, np.nan, 5772.0]),
        "teff2_err": np.full(7, 50.0),
        "fit_quality": np.array([0, 0, 0, 0, FitQuality.NOT_DOUBLE, FitQuality.NO_SPECTRUM, 0], np.uint16),
    }
    moon = np.full(7, 30.0)
    assert moonlit(rows, moon).tolist() == [True, True, False, False, False, False, False]
    assert not moonlit(rows, np.full(7, np.nan)).any()
    # Of stars as bright as each other either may be called the second.
    rows["fit_quality"][-1] = FitQuality.ALIKE
    assert moonlit(rows, np.full(7, 5.0)).tolist() == [False] * 6 + [True]
