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

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.export import ExportError
from twinlines.pipeline.catalog.questions import JOINT_THRESHOLD, CatalogError
from twinlines.pipeline.catalog.tables import fits as fits_tables
from twinlines.pipeline.catalog.tables import table as tables
from twinlines.pipeline.schema import CATALOG, TABLE4, Quality
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.publication import healpix

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
        "noise_R": rng.uniform(0.7, 1.6, N),
        "quality_B": rng.integers(0, 512, N),
        "content_hash": rng.integers(0, 2**64, N, dtype=np.uint64),
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
    columns["pb_pct_J_16"] = np.mean([columns[f"pb_pct_{arm}_16"] for arm in "BR"], axis=0)
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
    assert cat.sb2.candidates(rule="paper")["lmjm"].values.tolist() == expected


def test_candidates_are_judged_by_both_arms_together(cat: xr.Dataset) -> None:
    p50, colour = cat["pb_pct_J_16"].values[:, 2], cat["bprp0"].values
    expected = (p50 > JOINT_THRESHOLD) & ~(colour >= 2.5)
    for arm in "BR":
        expected &= cat[f"npixbad_{arm}"].values < 100
    unfamiliar = (cat["quality_B"].values | cat["quality_R"].values) & Quality.UNFAMILIAR > 0
    assert 0 < (expected & unfamiliar).sum() < expected.sum() < np.isfinite(p50).sum()
    assert np.isnan(p50).any()
    every = cat.sb2.candidates(unfamiliar=True)
    assert every["lmjm"].values.tolist() == cat["lmjm"].values[expected].tolist()
    assert every.sb2.is_unfamiliar().tolist() == unfamiliar[expected].tolist()
    expected &= ~unfamiliar
    assert cat.sb2.candidates()["lmjm"].values.tolist() == cat["lmjm"].values[expected].tolist()
    assert cat.sb2.candidates(threshold=0.9).sizes["exposure"] < expected.sum()


def test_looser_rules_find_more(cat: xr.Dataset) -> None:
    strict, loose = cat.sb2.candidates(rule="paper"), cat.sb2.candidates(rule="paper", percentile=50)
    either = cat.sb2.candidates(rule="paper", arms="any")
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


def test_export_of_all_columns(survey: Path, cat: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "catalog.fits"
    assert catalog.open(survey).sb2.export(path, columns="all") == N
    table = Table.read(path)
    assert table.colnames == [*CATALOG.variables, "unfamiliar_B", "unfamiliar_R"]
    for name in ("B", "R"):
        odd = (cat[f"quality_{name}"].values & Quality.UNFAMILIAR) > 0
        assert table[f"unfamiliar_{name}"].dtype == bool
        np.testing.assert_array_equal(table[f"unfamiliar_{name}"], odd)
    assert 0 < np.sum(table["unfamiliar_B"]) < N
    assert table["quality_B"].dtype.kind == "u"
    for name in ("quality_B", "content_hash", "healpix29", "noise_R"):
        np.testing.assert_array_equal(np.ma.filled(table[name], 0), cat[name].fillna(0).values)
    with fits.open(path) as hdus:
        hdus.verify("exception")
    # Results, which have no release, have fewer columns.
    assert cat.drop_vars(["release", "run", "healpix29"]).sb2.export(tmp_path / "results.fits", columns="all") == N
    assert Table.read(tmp_path / "results.fits").colnames == [
        *list(CATALOG.variables)[:-3],
        "unfamiliar_B",
        "unfamiliar_R",
    ]
    with pytest.raises(CatalogError, match="columns is 'most'; give 'table4'"):
        cat.sb2.export(tmp_path / "x.fits", columns="most")


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
    check = fits_tables._check_whole

    def cut_and_check(path: Path, written: Path) -> None:
        os.truncate(written, written.stat().st_size * kept // 100)
        check(path, written)

    monkeypatch.setattr(fits_tables, "_check_whole", cut_and_check)
    with pytest.raises(CatalogError, match="make room"):
        cat.sb2.export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_export_streams_in_blocks(cat: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_ROWS", 700)
    cat.sb2.export(tmp_path / "blocks.fits")
    table = Table.read(tmp_path / "blocks.fits")
    np.testing.assert_array_equal(table["lmjm"], cat["lmjm"].values)


def test_export_keeps_what_is_there(cat: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "catalog.fits"
    path.write_text("mine")
    with pytest.raises(CatalogError, match="exists already"):
        cat.sb2.export(path)
    assert path.read_text() == "mine"
    with pytest.raises(CatalogError, match="no ending that says a format"):
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


@settings(max_examples=150, deadline=None)
@given(
    ra=st.floats(0, 360),
    from_pole=st.floats(1e-4, 20.0),
    south=st.booleans(),
    radius=st.floats(1e-4, 6.0),
    angle=st.floats(0, 360),
    share=st.floats(0.9, 0.999),
)
def test_stars_near_the_edge_of_a_cone_are_in_it(
    ra: float, from_pole: float, south: bool, radius: float, angle: float, share: float
) -> None:
    """A star just inside, cones about the poles above all: covering cells are missed there."""
    dec = (from_pole - 90.0) if south else (90.0 - from_pole)
    star = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.deg, share * radius * u.deg)
    where = np.array([star.ra.deg]), np.array([star.dec.deg])
    sky = xr.Dataset(
        {
            name: ("exposure", values)
            for name, values in zip(("ra", "dec", "healpix29"), (*where, healpix(*where)), strict=True)
        }
    )
    assert sky.sb2.cone(ra, dec, radius * u.deg).sizes["exposure"] == 1


def test_the_order_of_rows_does_not_matter(cat: xr.Dataset) -> None:
    """Sorted otherwise, reversed, joined, narrowed, without the index, or loaded from a cone: the same rows."""
    wanted = sorted(cat.sb2.cone(120.0, 33.0, 3600.0)["lmjm"].values.tolist())
    assert len(wanted) > 10
    others = {
        "sorted otherwise": cat.sortby("lmjm"),
        "reversed": cat.isel(exposure=slice(None, None, -1)),
        "joined": xr.concat([cat.isel(exposure=slice(N // 2, None)), cat.isel(exposure=slice(N // 2))], "exposure"),
        "without the index": cat.drop_vars("healpix29"),
    }
    for name, other in others.items():
        assert sorted(other.sb2.cone(120.0, 33.0, 3600.0)["lmjm"].values.tolist()) == wanted, name
    cone = cat.sb2.cone(120.0, 33.0, 3600.0)
    obsid = int(cone["obsid"].values[-1])
    assert set(cone.sb2.source(obsid)["lmjm"].values) <= set(cat.sb2.source(obsid)["lmjm"].values)
    assert obsid in cone.sb2.source(obsid)["obsid"].values


def test_small_cones_find_the_star_itself(cat: xr.Dataset) -> None:
    ra, dec = float(cat["ra"].values[100]), float(cat["dec"].values[100])
    for radius in (1e-9, 0.001, 0.009, 0.05):
        assert cat["lmjm"].values[100] in cat.sb2.cone(ra, dec, radius)["lmjm"].values


def test_questions_that_make_no_sense_are_refused(cat: xr.Dataset) -> None:
    with pytest.raises(CatalogError, match="arms is 'B'; give 'both'"):
        cat.sb2.candidates(arms="B")
    for odd in (50, -0.1, float("nan")):
        with pytest.raises(CatalogError, match=r"the threshold is .*; give a probability, 0 to 1"):
            cat.sb2.candidates(threshold=odd)
    obsid = int(cat["obsid"].values[7])
    assert cat.sb2.source(str(obsid)).identical(cat.sb2.source(obsid))
    for odd in ("star", 1.5, -3, None):
        with pytest.raises(CatalogError, match="give a whole number"):
            cat.sb2.source(odd)


def test_xarray_s_verbs_work(survey: Path, tmp_path: Path) -> None:
    opened = catalog.open(survey)
    few = opened.load().isel(exposure=slice(20))
    assert few.where(few["ra"] > 180.0, drop=True).sizes["exposure"] == int((few["ra"].values > 180.0).sum())
    assert few.where(few["ra"] > 180.0).sizes["exposure"] == 20
    numbered = few.assign_coords(exposure=range(20))
    assert numbered.reindex(exposure=[0, 99])["planid"].values[0] == few["planid"].values[0]
    joined = xr.concat([numbered.isel(exposure=[0, 1]), numbered.isel(exposure=[1, 2])], "exposure", join="outer")
    assert joined.sizes["exposure"] == 4
    few.to_netcdf(tmp_path / "few.nc")
    with xr.open_dataset(tmp_path / "few.nc") as again:
        assert again["planid"].values.tolist() == few["planid"].values.tolist()
        np.testing.assert_array_equal(again["obsid"], few["obsid"])


def test_a_link_stays_a_link(cat: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/real.fits").write_bytes(b"old")
    (tmp_path / "link.fits").symlink_to("disk/real.fits")
    assert cat.sb2.export(tmp_path / "link.fits", overwrite=True) == N
    assert (tmp_path / "link.fits").is_symlink()
    assert len(Table.read(tmp_path / "disk/real.fits")) == N


def test_two_exports_to_one_path_do_not_disturb_each_other(
    cat: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, out = fits_tables._check_whole, tmp_path / "c.fits"
    written: list[int] = []

    def meanwhile(path: Path, partial: Path) -> None:
        if not written:
            written.append(0)
            assert cat.isel(exposure=slice(5)).sb2.export(out, overwrite=True) == 5
        check(path, partial)

    monkeypatch.setattr(fits_tables, "_check_whole", meanwhile)
    assert cat.sb2.export(out, overwrite=True) == N
    assert len(Table.read(out)) == N
    assert [path.name for path in tmp_path.iterdir()] == ["c.fits"]


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =                    T" + b" " * 50, b"SIMPLE" * 500])
def test_half_a_header_is_no_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.fits").write_bytes(content)
    with pytest.raises(ExportError, match="could not be written wholly; make room"):
        fits_tables._check_whole(tmp_path / "wanted.fits", tmp_path / "x.fits")


def test_a_cone_takes_angles(cat: xr.Dataset) -> None:
    plain = cat.sb2.cone(120.0, 33.0, 3600.0)
    assert plain.sizes["exposure"]
    assert cat.sb2.cone(120.0 * u.deg, (33.0 * 60.0) * u.arcmin, 1.0 * u.deg).identical(plain)
    for odd in ({"ra": 1.0 * u.km}, {"dec": "north"}, {"radius": 3.0 * u.s}):
        with pytest.raises(CatalogError, match="are no angles"):
            cat.sb2.cone(**{"ra": 120.0, "dec": 33.0, "radius": 3.0, **odd})


def test_a_penalty_that_the_ensemble_lacks_is_refused(cat: xr.Dataset) -> None:
    with pytest.raises(CatalogError, match=r"has no penalty 8 in arm B: all its probabilities are NaN; it has 16"):
        cat.sb2.candidates(rule="paper", penalty=8)
    with pytest.raises(CatalogError, match=r"has no penalty 8 in arm J: all its probabilities are NaN; it has 16"):
        cat.sb2.candidates(penalty=8)
    empty = cat.isel(exposure=slice(0))
    assert empty.sb2.candidates(penalty=8).sizes["exposure"] == 0


def test_a_catalog_of_arms_judged_by_themselves_says_so(cat: xr.Dataset) -> None:
    older = cat.assign(pb_pct_J_16=cat["pb_pct_J_16"] * np.nan)
    with pytest.raises(CatalogError, match=r"no verdict of both arms together: .*rule='paper'"):
        older.sb2.candidates()
    assert older.sb2.candidates(rule="paper").sizes["exposure"]


def test_rules_that_there_are_not_are_refused(cat: xr.Dataset) -> None:
    with pytest.raises(CatalogError, match=r"rule is 'both'; give 'joint'"):
        cat.sb2.candidates(rule="both")
    with pytest.raises(CatalogError, match=r"arms='any' goes with rule='paper'"):
        cat.sb2.candidates(arms="any")
