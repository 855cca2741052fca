"""A survey whose catalog is another one than its stars were made of: it is said, and rows are never mixed up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.sources import survey as stars
from twinlines.pipeline.binaries.sources.survey import StaleWarning, make_sources, open_sources
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.survey.folder import Survey


def publish(survey: Path, rows: xr.Dataset, **about: str) -> str:
    """Let some rows be the survey's current catalog; returns its name."""
    place = Survey(survey)
    count = rows.sizes["exposure"]
    path = numbered.put(
        *(place.catalogs_folder, "made", CATALOG, count, lambda name: np.asarray(rows[name].values)),
        {"name": "made up", **about},
    )
    place.make_current(path.name)
    return path.name


@pytest.mark.parametrize(("changed", "words"), [("exposures", "other exposures"), ("run", "other verdicts")])
def test_stars_of_another_catalog_are_told(changed: str, words: str, three: Path) -> None:
    rows = catalogs.open(three).load()
    about = {"exposures": "of dr8", "run": "first"}
    publish(three, rows, **about)
    make_sources(three)
    open_sources(three)  # says nothing
    publish(three, rows, **about)  # as with zero points: the same rows with the same verdicts
    open_sources(three)
    name = publish(three, rows, **{**about, changed: "another"})
    with pytest.warns(StaleWarning, match=f"the current one, {name}, has {words}; 'twinlines binaries sources"):
        open_sources(three)
    make_sources(three)
    open_sources(three)


def test_stars_of_before_say_their_catalog_by_name(three: Path) -> None:
    rows = catalogs.open(three).load()
    name = publish(three, rows, name="made-000002.zarr", exposures="of dr8")
    table = make_sources(three)
    about = {"catalog": name, "radius": 3.0}  # as earlier versions wrote it
    numbered.put(
        *(three / "fits" / "0123456789abcdef", "sources", stars.SOURCES, table.sizes["source"]),
        *(lambda column: np.asarray(table[column].values), {**about, "fits": "fits-000001.zarr"}),
    )
    open_sources(three)
    publish(three, rows, exposures="of dr9")
    with pytest.warns(StaleWarning, match="the stars of .* are of the catalog made-000002.zarr, and"):
        open_sources(three)


def test_a_catalog_that_is_published_meanwhile_mixes_up_no_star(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_sources(three)
    rows = catalogs.open(three).load()
    opened = catalogs.open

    def publishing(survey: str | Path, *arguments: str, **named: str) -> xr.Dataset:
        catalog = opened(survey, *arguments, **named)
        monkeypatch.setattr(stars.catalogs, "open", opened)
        publish(three, rows.isel(exposure=slice(None, None, -1)), exposures="others")
        return catalog

    monkeypatch.setattr(stars.catalogs, "open", publishing)
    after = make_sources(three)
    for name in ("obsid", "epochs", "epochs_fitted", "delta_chi2_sum", "sb2_probability"):
        np.testing.assert_array_equal(after[name].values, before[name].values)
