"""Every star of a catalog in a row, against loops over stars."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.pipeline.binaries.sources.test_source import TIMES, rows_of, together
from twinlines.pipeline.binaries.evidence.evidence import evidence_of, read_exposures
from twinlines.pipeline.binaries.grouping import group
from twinlines.pipeline.binaries.schema import SOURCES
from twinlines.pipeline.binaries.sources.source import sources
from twinlines.pipeline.binaries.sources.stars import AllStars, of_fits, summaries


def all_stars(rows: xr.Dataset) -> AllStars:
    star = group(rows["ra"].values, rows["dec"].values)
    count = int(star.max(initial=-1)) + 1
    every = {**summaries(rows, star, count), **of_fits(rows, star, count)}
    grouped = sources(rows)
    double = star[np.array([mine[0] for mine in grouped.members], np.int64)]
    return AllStars.of(every, evidence_of(read_exposures(rows), star, count), grouped.table, double)


def table(rows: xr.Dataset) -> xr.Dataset:
    stars = all_stars(rows)
    return SOURCES.dataset({name: stars.column(name) for name in SOURCES.variables}, len(stars))


def mixed() -> xr.Dataset:
    """A binary of 16 exposures, one of 3, and two stars of five exposures that show no second star."""
    return together(
        [
            rows_of(TIMES),
            rows_of(TIMES[:3], star=1),
            rows_of(TIMES[:5], star=2, double=False),
            rows_of(TIMES[:5], star=3, double=False),
        ]
    )


def test_all_stars_have_a_row_and_those_with_two_sets_of_lines_are_first() -> None:
    rows = mixed()
    unlikely = rows["obsid"].values // 1000 == 3  # the third star
    rows["pb_pct_J_16"][unlikely] = 1e-4
    found = table(rows)
    assert found["obsid"].values.tolist() == [1000, 2000, 4000, 3000]
    assert found["epochs_double"].values.tolist()[2:] == [0, 0]
    assert found["epochs_fitted"].values.tolist() == [16, 3, 5, 5]
    np.testing.assert_allclose(found["delta_chi2_sum"], [8000.0, 1500.0, 2500.0, 2500.0])
    double = sources(rows).table
    for name in ("wilson_mass_ratio", "flux_ratio", "separation_largest", "wilson_status", "epochs_double"):
        np.testing.assert_array_equal(found[name][:2], double[name], err_msg=name)
    assert np.isnan(found["wilson_mass_ratio"][2:]).all()
    probability = found["sb2_probability"].values
    assert probability[2] > 0.5 > 0.01 > probability[3]
    assert (np.diff(probability[2:]) <= 0.0).all()


def test_summaries_are_those_of_loops_over_stars() -> None:
    rows = mixed()
    rows["rv_obs_B"][:] = 3.0
    rows["rv_obs_R"][:] = np.where(np.arange(rows.sizes["exposure"]) % 3, 5.0, np.nan)
    found = table(rows)
    for place, obsid in enumerate(found["obsid"].values.tolist()):
        mine = rows.isel(exposure=np.flatnonzero(rows["obsid"].values // 1000 == obsid // 1000))
        assert int(found["epochs"][place]) == mine.sizes["exposure"]
        assert int(found["epochs_both"][place]) == int(np.isfinite(mine["rv_obs_R"]).sum())
        assert float(found["bjd_first"][place]) == float(mine["bjdmid"].min())
        assert float(found["bjd_last"][place]) == float(mine["bjdmid"].max())
        assert float(found["ra"][place]) == pytest.approx(float(mine["ra"].mean()), abs=1e-9)
        assert float(found["dec"][place]) == pytest.approx(40.0, abs=1e-9)
        assert float(found["best_probability"][place]) == float(mine["pb_pct_J_16"].max())


def test_the_order_of_rows_changes_no_star() -> None:
    rows = mixed()
    one, other = table(rows), table(rows.isel(exposure=slice(None, None, -1)))
    for name in SOURCES.variables:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-6, err_msg=name)


def test_exposures_without_a_position_are_of_no_star_and_none_is_an_empty_table() -> None:
    rows = mixed()
    lost = rows["obsid"].values // 1000 == 1
    found = table(rows.assign(ra=rows["ra"].where(~lost)))
    assert found["obsid"].values.tolist()[:1] == [2000]
    assert found.sizes["source"] == 3
    assert table(rows.isel(exposure=[])).sizes["source"] == 0
