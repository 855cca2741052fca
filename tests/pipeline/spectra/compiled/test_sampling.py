from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.spectra.compiled import sampling
from twinlines.pipeline.spectra.compiled.differences import ratios
from twinlines.pipeline.spectra.compiled.repairing import fill_rows

compiling = settings(deadline=None)  # the first example waits for the compiler


def read(**columns: np.ndarray) -> list[np.ndarray]:
    shape = columns["flux"].shape
    kinds = (np.float64, np.float32, np.float32, np.bool_, np.bool_)
    out = (*(np.empty(shape, kind) for kind in kinds), np.empty(shape[0], np.bool_))
    given_columns = (columns[name] for name in ("flux", "ivar", "loglam", "mask"))
    sampling.read(out, sampling.TABLE, *given_columns)
    return list(out)


def test_powers_of_ten() -> None:
    exponents = np.concatenate([np.linspace(0.0, 8.0, 4001), [-0.1, 8.1, np.nan]])
    ours = np.empty(exponents.size)
    sampling.powers_of_ten(exponents, sampling.TABLE, ours)
    np.testing.assert_allclose(ours[:-3], 10.0 ** exponents[:-3], rtol=1e-15)
    assert np.isnan(ours[-3:]).all()


@compiling
@given(st.integers(0, 2**31), st.integers(2, 60), st.sampled_from(["ascends", "descends", "no order", "unknown"]))
def test_rows_are_sorted_as_numpy_sorts(seed: int, pixels: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    # Few different wavelengths: equal ones stay in their order, or all of a row that descends are turned round.
    loglam = np.sort(rng.integers(0, 30, (2, pixels)) * 0.001 + 3.7, axis=1).astype(np.float32)
    loglam = {"ascends": loglam, "descends": loglam[:, ::-1]}.get(order, rng.permuted(loglam, axis=1)).copy()
    if order == "unknown":
        loglam[0, rng.integers(pixels)] = rng.choice([np.nan, -1.0, 9.0])
    flux, ivar = rng.normal(size=(2, 2, pixels)).astype(np.float32)
    flux[0, rng.integers(pixels)] = np.nan
    mask = rng.integers(0, 3, (2, pixels)).astype(np.uint8)
    wavelength, fluxes, sigma, bad, measured, known = read(flux=flux, ivar=ivar, loglam=loglam, mask=mask)
    for row in range(2):
        turned = slice(None, None, -1) if loglam[row, -1] < loglam[row, 0] else slice(None)
        unknown = order == "unknown" and row == 0
        assert known[row] == (not unknown)
        places = np.arange(pixels)[turned]
        if not unknown:
            places = places[np.argsort(loglam[row][turned], kind="stable")]
            np.testing.assert_allclose(wavelength[row], 10.0 ** loglam[row][places].astype(np.float64), rtol=1e-15)
        else:
            places = places if not np.isnan(wavelength[row, [0, -1]]).any() else np.arange(pixels)
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = np.where(ivar[row] > 0, np.float32(1.0) / np.sqrt(ivar[row]), np.float32(np.nan))[places]
        there = np.isfinite(flux[row][places]) & np.isfinite(expected) & known[row]
        np.testing.assert_array_equal(measured[row], there)
        np.testing.assert_array_equal(sigma[row], expected)
        np.testing.assert_array_equal(bad[row], mask[row][places] > 0)
        np.testing.assert_array_equal(fluxes[row], np.where(there, flux[row][places], np.nan))


@compiling
@given(st.integers(0, 2**31), st.integers(2, 50), st.integers(1, 60))
def test_spectra_on_the_grid_are_numpy_s_interpolation(seed: int, pixels: int, asked: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0.0, 10.0, (3, pixels)), axis=1)
    grid = np.unique(np.concatenate([rng.uniform(-1.0, 11.0, asked), rng.choice(x[0], 2)]))
    flux, sigma = rng.normal(size=(2, 3, pixels)).astype(np.float32)
    bad, factor = rng.random((3, pixels)) < 0.3, np.array([1.0, 1.01, 1.0])
    scale = np.array([1.0, 2.0, 1.0], np.float32)
    x[2, rng.integers(pixels)] = np.nan
    out = (*(np.empty((3, grid.size)) for _ in range(2)), np.empty(3, np.int32), np.empty(3, np.bool_))
    sampling.to_grid(out, x, factor, grid, flux, sigma, scale, bad)
    for row in range(2):
        inside = (grid >= (x[row] / factor[row])[0]) & (grid <= (x[row] / factor[row])[-1])
        for ours, values in ((out[0], flux), (out[1], sigma / scale[:, None])):
            theirs = np.where(inside, np.interp(grid, x[row] / factor[row], values[row]), np.nan)
            theirs = theirs.clip(min=0.0) if values is flux else theirs
            np.testing.assert_allclose(ours[row], theirs, rtol=1e-5, atol=1e-5)
        touched = np.interp(grid, x[row] / factor[row], bad[row].astype(float))[inside] > 0.0
        assert out[2][row] == touched.sum()
        assert out[3][row] == inside.all()
    assert np.isnan(out[0][2]).all()
    assert not out[3][2]


@compiling
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_filling_is_numpy_s_interpolation(seed: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0.0, 10.0, (2, pixels)), axis=1)
    flux, flagged = rng.normal(size=(2, pixels)), rng.random((2, pixels)) < rng.choice([0.2, 0.9])
    ours = flux.copy()
    fill_rows(x, ours, flagged)
    for row in range(2):
        good = ~flagged[row]
        if good.any():
            theirs = np.where(good, flux[row], np.interp(x[row], x[row][good], flux[row][good]))
            np.testing.assert_allclose(ours[row], theirs, rtol=1e-7, atol=1e-9)
        else:
            assert (ours[row] == flux[row, -1]).all()


@compiling
@given(st.integers(0, 2**31), st.integers(7, 80))
def test_noise_is_the_median_of_numpy_s_differences(seed: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    flux, sigma = rng.normal(size=(2, pixels)), rng.uniform(0.5, 2.0, (2, pixels))
    usable = rng.random((2, pixels)) < 0.97
    weights = np.array([1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0])
    ours = np.empty(2)
    ratios(ours, weights, 3, flux, sigma, usable)
    for row in range(2):
        difference = np.abs(np.convolve(flux[row], weights, "valid"))
        ratio = difference / np.sqrt(np.convolve(sigma[row] ** 2, weights**2, "valid"))
        some = np.sort(ratio[np.convolve(~usable[row], np.ones(7), "valid") == 0])
        theirs = some[(some.size - 1) // 2] if some.size >= 3 else np.nan
        np.testing.assert_allclose(ours[row], theirs, rtol=1e-9)
