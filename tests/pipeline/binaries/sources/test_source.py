"""Stars of a survey from made-up fits: which exposures are one star's, q, and an orbit."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from twinlines.pipeline.binaries.components.assignment import LineStatus
from twinlines.pipeline.binaries.fits.store import join
from twinlines.pipeline.binaries.orbits.solution import fit_orbit
from twinlines.pipeline.binaries.schema import FITS, SOURCES, FitQuality
from twinlines.pipeline.binaries.sources.source import is_resolved, sources
from twinlines.pipeline.cli.sources import show_sources
from twinlines.pipeline.schema import CATALOG

PERIOD, GAMMA, AMPLITUDES = 4.3059, -12.0, (62.0, 78.0)


def rows_of(
    times: Sequence[float], *, star: int = 0, double: bool = True, seed: int = 1
) -> tuple[xr.Dataset, xr.Dataset]:
    """Exposures of one star and their fits; which of the two is called the first changes at random."""
    rng = np.random.default_rng([seed, star])
    count, time = len(times), np.asarray(times, np.float64)
    phase = np.sin(2.0 * np.pi * time / PERIOD)
    velocity = np.stack([GAMMA + AMPLITUDES[0] * phase, GAMMA - AMPLITUDES[1] * phase], axis=1)
    velocity += rng.normal(0.0, 0.8, velocity.shape)
    turned = rng.uniform(size=count) < 0.3
    ratio = np.where(turned, 1.0 / 0.7, 0.7) * np.exp(rng.normal(0.0, 0.05, count))
    velocity = np.where(turned[:, None], velocity[:, ::-1], velocity)
    key = {
        "obsid": 1000 * (star + 1) + np.arange(count),
        "lmjm": np.arange(count).astype(np.int32),
        "content_hash": np.arange(1, count + 1).astype(np.uint64) + np.uint64(100 * star),
        "bjdmid": 2_458_000.0 + time,
    }
    catalog = CATALOG.dataset(
        {
            **key,
            "ra": np.full(count, 10.0 + star) + rng.uniform(-1e-4, 1e-4, count),
            "dec": np.full(count, 40.0),
            "pb_pct_J_16": np.full((count, 5), 0.99, np.float32),
            **{name: np.full(count, 30.0) for name in ("snr_B", "snr_R")},
        },
        count,
    )
    apart = np.abs(velocity[:, 1] - velocity[:, 0])
    bits = np.where(apart < 50.0, FitQuality.UNRESOLVED, 0) if double else np.full(count, FitQuality.NOT_DOUBLE)
    fits = FITS.dataset(
        {
            **key,
            **{f"rv{place + 1}": velocity[:, place] for place in (0, 1)},
            **{name: np.full(count, 0.8) for name in ("rv1_err", "rv2_err")},
            "rv_covariance": np.zeros(count),
            "rv_single": velocity.mean(axis=1),
            "rv_single_err": np.full(count, 0.8),
            "flux_ratio_B": ratio,
            "flux_ratio_B_err": 0.05 * ratio,
            "delta_chi2_diluted": np.full(count, 500.0),
            "fit_quality": bits,
        },
        count,
    )
    return catalog, fits


def together(parts: Sequence[tuple[xr.Dataset, xr.Dataset]]) -> xr.Dataset:
    catalog, fits = (xr.concat(each, "exposure", data_vars="all") for each in zip(*parts, strict=True))
    order = np.random.default_rng(0).permutation(catalog.sizes["exposure"])
    return join(catalog.isel(exposure=order), fits)


TIMES = np.sort(np.random.default_rng(4).uniform(0.0, 60.0, 16))


def test_a_star_s_exposures_give_its_mass_ratio_and_its_orbit() -> None:
    stars = sources(together([rows_of(TIMES), rows_of(TIMES[:3], star=1), rows_of(TIMES[:5], star=2, double=False)]))
    table = stars.table
    SOURCES.validate(table)
    assert table["epochs"].values.tolist() == [16, 3]  # the third shows no second star
    assert table["obsid"].values.tolist() == [1000, 2000]
    assert int(table["epochs_double"][0]) == int(is_resolved(rows := together([rows_of(TIMES)])).sum()) < 16
    assert float(table["wilson_mass_ratio"][0]) == pytest.approx(AMPLITUDES[0] / AMPLITUDES[1], abs=0.03)
    assert float(table["wilson_velocity"][0]) == pytest.approx(GAMMA, abs=1.0)
    assert float(table["flux_ratio"][0]) == pytest.approx(0.7, abs=0.05)
    assert float(table["delta_chi2_sum"][0]) == 16 * 500.0
    assert float(table["bjd_last"][0] - table["bjd_first"][0]) == pytest.approx(np.ptp(TIMES))
    orbit = fit_orbit(stars.epochs[0], exchange=stars.exchange[0])
    assert orbit.best is not None
    assert float(orbit.best.period) == pytest.approx(PERIOD, abs=0.02)
    assert abs(float(orbit.best.period) - PERIOD) < 5.0 * orbit.error["period"]
    assert abs(float(orbit.best.mass_ratio) - AMPLITUDES[0] / AMPLITUDES[1]) < 4.0 * orbit.error["mass_ratio"]
    assert fit_orbit(stars.epochs[1], exchange=stars.exchange[1]).best is None  # three epochs are too few
    assert rows.sizes["exposure"] == 16


def test_lines_that_lie_together_are_blends_where_two_stars_would_be_seen() -> None:
    rows = together([rows_of(TIMES)])
    double = is_resolved(rows)
    blend = int((~double).sum())
    assert blend >= 2
    stars = sources(rows)
    # An exposure that shows one star is a blend if it is exposed well enough to show two.
    assert int(stars.table["epochs_blended"][0]) == blend == int((~stars.epochs[0].resolved).sum())
    assert (np.diff(stars.epochs[0].time) > 0.0).all()
    assert (stars.exchange[0][~stars.epochs[0].resolved] == 0.0).all()
    place = np.flatnonzero(~double)
    single = rows.copy(deep=True)
    single["fit_quality"][place] = int(FitQuality.NOT_DOUBLE)
    assert int(sources(single).table["epochs_blended"][0]) == blend
    single["snr_R"][place] = 3.0
    single["snr_B"][place] = 0.0
    assert int(sources(single).table["epochs_blended"][0]) == 0


def test_double_exposures_in_which_the_moon_may_be_the_second_star_are_counted() -> None:
    rows = together([rows_of(TIMES)])
    assert int(sources(rows).table["epochs_moonlight"][0]) == 0
    double, blended = (np.flatnonzero(which) for which in (is_resolved(rows), ~is_resolved(rows)))
    rows["fit_quality"][[*double[:3], blended[0]]] |= int(FitQuality.MOONLIGHT)
    lit = sources(rows)
    assert int(lit.table["epochs_moonlight"][0]) == 3
    shown = io.StringIO()
    show_sources(lit.table, 5, Console(file=shown, width=200))
    assert "Moon's light" not in shown.getvalue()
    rows["fit_quality"][double] |= int(FitQuality.MOONLIGHT)
    show_sources(sources(rows).table, 5, Console(file=shown, width=200))
    assert "1 of them may be single stars in the Moon's light" in shown.getvalue()


def test_exposures_of_a_night_share_their_zero_point() -> None:
    alone = sources(together([rows_of(TIMES[:6])])).epochs[0]
    night = sources(together([rows_of([float(TIMES[0]) + 0.02 * step for step in range(4)] + [30.0])])).epochs[0]
    first = night.take(night.resolved & (night.time < 2_458_000.0 + 25.0))
    for epochs, exposures in ((alone.take(alone.resolved), 1), (first, len(first))):
        covariance = epochs.covariance[0]
        difference = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
        # Each exposure has the stars' difference as well as it is measured, and a night one zero point of 4 km/s.
        assert difference == pytest.approx(2.0 * (0.8**2 + 0.3**2), rel=1e-3)
        assert covariance[0, 1] / exposures == pytest.approx(16.0, rel=1e-3)


def test_the_order_of_rows_changes_nothing() -> None:
    rows = together([rows_of(TIMES), rows_of(TIMES[:6], star=1)])
    turned = rows.isel(exposure=slice(None, None, -1))
    for name in SOURCES.variables:
        np.testing.assert_array_equal(sources(rows).table[name], sources(turned).table[name], err_msg=name)


def test_no_star_at_all_is_an_empty_table() -> None:
    rows = together([rows_of(TIMES[:5], double=False)])
    assert sources(rows).table.sizes["source"] == 0
    assert sources(rows.isel(exposure=[])).table.sizes["source"] == 0


def test_exposures_without_a_position_are_of_no_star() -> None:
    rows = together([rows_of(TIMES)])
    assert sources(rows.assign(ra=rows["ra"] * np.nan)).table.sizes["source"] == 0


def test_a_star_at_the_beginning_of_right_ascension_stays_there() -> None:
    rows = together([rows_of(TIMES)])
    ra = np.where(np.arange(16) % 2, 1e-4, 359.9999)
    table = sources(rows.assign(ra=("exposure", ra))).table
    assert table.sizes["source"] == 1
    assert min(float(table["ra"][0]), 360.0 - float(table["ra"][0])) < 1e-4
    assert float(table["dec"][0]) == pytest.approx(40.0, abs=1e-6)


@pytest.mark.parametrize("name", ["bjdmid", "rv_covariance", "rv2", "rv1_err"])
def test_an_exposure_without_a_number_counts_for_nothing(name: str) -> None:
    rows = together([rows_of(TIMES)])
    odd = rows.copy(deep=True)
    place = int(np.flatnonzero(is_resolved(rows))[0])
    odd[name][place] = np.nan
    assert int(sources(odd).table["epochs_double"][0]) == int(is_resolved(rows).sum()) - 1


def test_epochs_of_one_phase_give_no_mass_ratio() -> None:
    rows = together([rows_of(PERIOD / 4.0 + 1e-6 * np.arange(5))])
    assert is_resolved(rows).all()
    table = sources(rows).table
    assert int(table["wilson_status"][0]) & LineStatus.UNBOUNDED
    assert np.isnan(table["wilson_mass_ratio"][0])
