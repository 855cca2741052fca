from __future__ import annotations

import os
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from cdshealpix.nested import lonlat_to_healpix
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.catalog import catalog, export
from twinlines.pipeline.catalog.catalog import CatalogError
from twinlines.pipeline.schema import CATALOG, TABLE4
from twinlines.pipeline.storage import stores

N = 3000


def make_catalog() -> xr.Dataset:
    rng = np.random.default_rng(8)
    ra, dec = rng.uniform(0, 360, N), np.degrees(np.arcsin(rng.uniform(-1, 1, N)))
    # A clump around one star, and rows at the pole and at the origin of right ascension.
    ra[:40], dec[:40] = 120.0 + rng.normal(0, 5e-4, 40), 33.0 + rng.normal(0, 5e-4, 40)
    ra[40:60], dec[40:60] = rng.uniform(0, 360, 20), 90 - rng.uniform(0, 0.01, 20)
    ra[60:80], dec[60:80] = rng.uniform(-0.01, 0.01, 20) % 360, rng.uniform(-0.01, 0.01, 20)
    index = lonlat_to_healpix(ra * u.deg, dec * u.deg, depth=29).astype(np.int64)
    order = np.argsort(index, kind="stable")
    columns = {
        "obsid": np.arange(N) // 3 + 700_000_000,
        "lmjm": np.arange(N) + 84_000_000,
        "bjdmid": 2458000 + rng.uniform(0, 1000, N),
        "ra": ra,
        "dec": dec,
        "planid": np.array([f"TD{number % 7}N" for number in range(N)], dtype=object),
        "bprp0": np.where(rng.random(N) < 0.5, np.nan, rng.uniform(0, 4, N)),
        "healpix29": index,
    }
    for arm in "BR":
        columns[f"pb_pct_{arm}_16"] = np.sort(rng.random((N, 5)), axis=1)
        columns[f"pb_pct_{arm}_16"][rng.random(N) < 0.1] = np.nan
        columns[f"npixbad_{arm}"] = rng.integers(0, 130, N)
        columns[f"specflag_{arm}"] = np.isfinite(columns[f"pb_pct_{arm}_16"][:, 0])
    return CATALOG.dataset({name: values[order] for name, values in columns.items()}, N, release="dr7", weights="abc")


@pytest.fixture(scope="module")
def cat() -> xr.Dataset:
    return make_catalog()


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, cat: xr.Dataset) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    stores.create(
        folder / "catalogs" / "one.zarr",
        CATALOG,
        N,
        {"releases": ["dr6", "dr7"], "run": "0123", "weights_digest": "4567"},
    )
    stores.write_shard(folder / "catalogs" / "one.zarr", CATALOG, 0, cat)
    (folder / "CURRENT").write_text("one.zarr\n")
    return folder


def test_open_is_lazy_and_the_same(survey: Path, cat: xr.Dataset) -> None:
    opened = catalog.open(survey)
    assert opened["ra"].chunks is not None
    np.testing.assert_array_equal(opened["obsid"], cat["obsid"])
    assert opened.sb2.candidates().sizes == cat.sb2.candidates().sizes


def test_candidates_are_the_papers_rule(cat: xr.Dataset) -> None:
    expected = []
    for row in range(N):
        agreed = all(
            cat[f"pb_pct_{arm}_16"].values[row, 0] > 0.5 and cat[f"npixbad_{arm}"].values[row] < 100 for arm in "BR"
        )
        colour = cat["bprp0"].values[row]
        if agreed and (np.isnan(colour) or colour < 2.5):
            expected.append(int(cat["lmjm"].values[row]))
    assert expected
    assert cat.sb2.candidates()["lmjm"].values.tolist() == expected


def test_looser_rules_find_more(cat: xr.Dataset) -> None:
    strict, loose = cat.sb2.candidates(), cat.sb2.candidates(percentile=50)
    either = cat.sb2.candidates(arms="any")
    assert strict.sizes["exposure"] < loose.sizes["exposure"]
    assert set(strict["lmjm"].values) < set(either["lmjm"].values)


@settings(max_examples=60, deadline=None)
@given(
    ra=st.one_of(st.floats(0, 360), st.sampled_from([0.0, 120.0, 359.999])),
    dec=st.one_of(st.floats(-90, 90), st.sampled_from([33.0, 90.0, -90.0, 0.0])),
    radius=st.one_of(st.floats(0.1, 600_000), st.floats(100, 18_000), st.sampled_from([1.0, 3.0, 30.0])),
)
def test_a_cone_is_what_a_look_at_every_row_finds(ra: float, dec: float, radius: float) -> None:
    cat = make_catalog_once()
    found = cat.sb2.cone(ra, dec, radius * u.arcsec)
    everything = SkyCoord(cat["ra"].values, cat["dec"].values, unit="deg")
    distance = everything.separation(SkyCoord(ra, dec, unit="deg")).to_value(u.arcsec)
    assert set(found["lmjm"].values.tolist()) == set(cat["lmjm"].values[distance <= radius].tolist())


_ONCE: list[xr.Dataset] = []


def make_catalog_once() -> xr.Dataset:
    if not _ONCE:
        _ONCE.append(make_catalog())
    return _ONCE[0]


def test_a_cone_is_sorted_by_distance(cat: xr.Dataset) -> None:
    found = cat.sb2.cone(120.0, 33.0, 5)
    assert found.sizes["exposure"] > 20
    distance = SkyCoord(found["ra"].values, found["dec"].values, unit="deg").separation(SkyCoord(120, 33, unit="deg"))
    assert (np.diff(distance.value) >= 0).all()


def test_a_source_is_all_its_exposures_in_time_order(cat: xr.Dataset) -> None:
    row = int(np.flatnonzero((np.abs(cat["dec"].values - 33) < 0.01) & (np.abs(cat["ra"].values - 120) < 0.01))[0])
    found = cat.sb2.source(int(cat["obsid"].values[row]))
    assert found.sizes["exposure"] > 3
    assert (np.diff(found["bjdmid"].values) >= 0).all()


def test_export_is_table_4(survey: Path, cat: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "catalog.fits"
    assert catalog.open(survey).sb2.export(path) == N
    table = Table.read(path)
    assert table.colnames == list(TABLE4)
    assert len(table) == N
    assert table["rv_obs_B"].unit == u.km / u.s
    assert table["bjdmid"].unit == u.d
    assert table["obsid"].dtype == np.dtype(">i8")
    assert table["spid"].dtype == np.dtype(">i2")
    assert table["specflag_B"].dtype == bool
    assert table["pb_pct_B_16"].shape == (N, 5)
    for name in ("obsid", "ra", "pb_pct_R_16", "specflag_R", "bprp0"):
        np.testing.assert_array_equal(np.ma.filled(table[name], np.nan if name == "bprp0" else None), cat[name].values)
    assert table["planid"][5].strip() == cat["planid"].values[5]
    assert (table.meta["RELEASE"], table.meta["RUN"], table.meta["WEIGHTS"]) == ("dr7", "0123", "4567")
    with fits.open(path) as hdus:
        hdus.verify("exception")


@pytest.mark.parametrize("name", ["of[1].fits", "of(1).fits", "!of.fits.gz"])
def test_export_takes_names_as_they_are(cat: xr.Dataset, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in[1]"
    folder.mkdir()
    cat.sb2.export(folder / name)
    with (folder / name).open("rb") as file:
        assert len(Table.read(file, format="fits")) == N
    assert [path.name for path in tmp_path.iterdir()] == ["in[1]"]
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("kept", [0, 99])
@pytest.mark.parametrize("name", ["c.fits", "c.fits.gz"])
def test_export_that_a_full_disk_cuts_short_is_refused(
    cat: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: int
) -> None:
    check = export._check_whole

    def cut_and_check(path: Path, written: Path) -> None:
        os.truncate(written, written.stat().st_size * kept // 100)
        check(path, written)

    monkeypatch.setattr(export, "_check_whole", cut_and_check)
    with pytest.raises(CatalogError, match="make room"):
        cat.sb2.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_export_streams_in_blocks(cat: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_BLOCK_ROWS", 700)
    cat.sb2.export(tmp_path / "blocks.fits")
    table = Table.read(tmp_path / "blocks.fits")
    np.testing.assert_array_equal(table["lmjm"], cat["lmjm"].values)


def test_export_keeps_what_is_there(cat: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "catalog.fits"
    path.write_text("mine")
    with pytest.raises(CatalogError, match="exists already"):
        cat.sb2.export(path)
    assert path.read_text() == "mine"
    with pytest.raises(CatalogError, match=r"not named \.fits"):
        cat.sb2.export(tmp_path / "catalog.csv")
    with pytest.raises(CatalogError, match="no folder"):
        cat.sb2.export(tmp_path / "nowhere" / "catalog.fits")
    cat.sb2.export(path, overwrite=True)
    assert len(Table.read(path)) == N


def test_what_does_not_exist_is_named(survey: Path, cat: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no survey at"):
        catalog.open(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="no catalog yet"):
        catalog.open(tmp_path)
    with pytest.raises(CatalogError, match=r"no catalog 'two'; it has \['one.zarr'\]"):
        catalog.open(survey, "two")
    with pytest.raises(CatalogError, match="no exposure of obsid 5"):
        cat.sb2.source(5)
    with pytest.raises(CatalogError, match="no penalty 7"):
        cat.sb2.candidates(penalty=7)
    with pytest.raises(CatalogError, match="no percentile 5"):
        cat.sb2.candidates(percentile=5)
    with pytest.raises(CatalogError, match="no position"):
        cat.sb2.cone(400, 0, 3)
    with pytest.raises(CatalogError, match="radius"):
        cat.sb2.cone(40, 0, -3)
