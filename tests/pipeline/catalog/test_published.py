"""A catalog that was opened from a survey: its index answers, and only for what was opened."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.storage.columns import Column
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey import catalog_index, publication
from twinlines.pipeline.survey.catalog_index import CatalogIndex
from twinlines.pipeline.survey.folder import Survey

CLUMP = (120.0, 33.0)


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """Columns are read here, and not by the workers of whichever client other tests have left."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Questions that an index was asked."""
    seen: list[str] = []
    near, of_obsid = CatalogIndex.near, CatalogIndex.of_obsid
    monkeypatch.setattr(CatalogIndex, "near", lambda *of: (seen.append("near"), near(*of))[1])
    monkeypatch.setattr(CatalogIndex, "of_obsid", lambda *of: (seen.append("obsid"), of_obsid(*of))[1])
    return seen


def test_answers_are_those_of_the_rows_themselves(whole: Survey, sky: xr.Dataset, asked: list[str]) -> None:
    opened = catalog.open(whole.path)
    rng = np.random.default_rng(1)
    places = [(*CLUMP, 3.0), (*CLUMP, 1.0), (0.0, 0.0, 20.0), (7.0, 90.0, 25.0), (180.0, -90.0, 30.0), (0.0, 0.0, 6e5)]
    places += [(rng.uniform(0, 360), rng.uniform(-90, 90), 10 ** rng.uniform(0, 5)) for _ in range(20)]
    found = 0
    for ra, dec, radius in places:
        mine, theirs = opened.sb2.cone(ra, dec, radius), sky.sb2.cone(ra, dec, radius)
        found += mine.sizes["exposure"]
        assert mine["lmjm"].values.tolist() == theirs["lmjm"].values.tolist()
    assert found > len(sky["ra"])
    for obsid in sky["obsid"].values[:: len(sky["obsid"]) // 25]:
        if np.isfinite(sky["ra"].values[np.flatnonzero(sky["obsid"].values == obsid)[0]]):
            xr.testing.assert_identical(
                opened.sb2.source(obsid).drop_attrs(deep=False), sky.sb2.source(obsid).drop_attrs(deep=False)
            )
    assert asked.count("obsid") > 20
    assert asked.count("near") > len(places)


def test_candidates_and_their_columns_are_the_same(whole: Survey, sky: xr.Dataset) -> None:
    opened = catalog.open(whole.path)
    for rule in ("joint", "paper"):
        mine, theirs = opened.sb2.candidates(rule=rule), sky.sb2.candidates(rule=rule)
        assert 0 < mine.sizes["exposure"] < len(sky["ra"])
        xr.testing.assert_identical(mine.drop_attrs(deep=False), theirs.drop_attrs(deep=False))
    assert (opened.sb2.is_unfamiliar() == sky.sb2.is_unfamiliar()).all()


def test_columns_are_read_when_they_are_looked_at(whole: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    chunk = Column.chunk
    monkeypatch.setattr(Column, "chunk", lambda self, number: (read.append(self.folder), chunk(self, number))[1])
    opened = catalog.open(whole.path)
    assert {Path(folder).name for folder in read} == {"percentile"}
    read.clear()
    cone = opened.sb2.cone(*CLUMP, 3.0)
    assert not read
    assert len(cone["snr_B"].values) == cone.sizes["exposure"] > 10
    assert len({*read}) == 1
    some = opened.sb2.candidates()
    read.clear()
    assert len(some.isel(exposure=slice(3))["planid"].values) == 3
    assert len(read) == 1  # of the chunks that hold candidates
    assert some["planid"].values[:3].tolist() == some.isel(exposure=[0, 1, 2])["planid"].values.tolist()


def test_what_is_changed_is_not_answered_by_the_index(whole: Survey, sky: xr.Dataset, asked: list[str]) -> None:
    opened = catalog.open(whole.path)
    wanted = sorted(sky.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist())
    elsewhere = opened.assign(ra=opened["ra"] + 1.0)
    changed = {
        "sorted": opened.sortby("lmjm"),
        "selected": opened.isel(exposure=slice(None, None, -1)),
        "joined": xr.concat([opened.isel(exposure=slice(900, None)), opened.isel(exposure=slice(900))], "exposure"),
        "loaded": catalog.open(whole.path).load(),
    }
    for name, rows in changed.items():
        assert sorted(rows.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist()) == wanted, name
    assert elsewhere.drop_vars("healpix29").sb2.cone(*CLUMP, 3.0).sizes["exposure"] == 0
    in_place = catalog.open(whole.path)
    in_place["ra"][:] = 200.0
    assert in_place.drop_vars("healpix29").sb2.cone(*CLUMP, 3.0).sizes["exposure"] == 0
    assert not asked
    # What is beside the columns that decide may be whatever it is.
    beside = opened.assign(mine=("exposure", np.arange(opened.sizes["exposure"]))).assign_attrs(note="mine")
    cone = beside.sb2.cone(*CLUMP, 3.0)
    assert asked == ["near"]
    assert cone.attrs["note"] == "mine"
    assert opened["lmjm"].values[cone["mine"].values].tolist() == cone["lmjm"].values.tolist()


def test_answers_are_the_callers_own(whole: Survey) -> None:
    opened = catalog.open(whole.path)
    first = opened.sb2.cone(*CLUMP, 3.0)
    first["snr_B"][:] = -1.0
    first.attrs["note"] = first["ra"].attrs["note"] = "mine"
    again = opened.sb2.cone(*CLUMP, 3.0)
    assert (again["snr_B"].values >= 0.0).all()
    assert "note" not in {**again.attrs, **again["ra"].attrs}


def test_an_opened_catalog_and_its_answers_travel(whole: Survey, tmp_path: Path, asked: list[str]) -> None:
    opened = catalog.open(whole.path)
    cone = opened.sb2.cone(*CLUMP, 3.0)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(cone)), cone)
    again = pickle.loads(pickle.dumps(opened))
    assert again.sb2.cone(*CLUMP, 3.0).sizes == cone.sizes
    assert asked == ["near", "near"]
    opened.isel(exposure=slice(30)).load().to_netcdf(tmp_path / "few.nc")
    cone.to_netcdf(tmp_path / "cone.nc")
    with xr.open_dataset(tmp_path / "cone.nc") as stored:
        assert stored["lmjm"].values.tolist() == cone["lmjm"].values.tolist()


def test_a_catalog_without_an_index_answers_all_the_same(
    republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path
) -> None:
    survey = republish(tmp_path, sky, index=False)
    opened = catalog.open(survey.path)
    assert opened.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist() == sky.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist()
    obsid = int(opened.sb2.cone(*CLUMP, 3.0)["obsid"].values[0])
    assert opened.sb2.source(obsid)["lmjm"].values.tolist() == sky.sb2.source(obsid)["lmjm"].values.tolist()
    with pytest.raises(CatalogError, match="no exposure of obsid 5"):
        opened.sb2.source(5)
    assert not survey.catalog_index("one.zarr").exists()


def test_the_index_of_another_catalog_is_not_used(
    republish: Callable[..., Survey], more_sky: Callable[..., xr.Dataset], sky: xr.Dataset, tmp_path: Path
) -> None:
    survey = republish(tmp_path, more_sky(seed=4))
    path = survey.catalog_index("one.zarr")
    republish(tmp_path, sky, index=False)  # of the same name and size
    with pytest.warns(UserWarning, match="is of another catalog than the one beside it; answers come from the catalog"):
        opened = catalog.open(survey.path)
    assert opened.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist() == sky.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist()
    before = path.read_bytes()
    publication.write_index(survey, "one.zarr")
    assert path.read_bytes() != before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog.open(survey.path)
    written = path.stat().st_mtime_ns
    publication.write_index(survey, "one.zarr")
    assert path.stat().st_mtime_ns == written


def test_a_damaged_index_is_noticed_and_not_believed(
    republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path
) -> None:
    survey = republish(tmp_path, sky)
    path = survey.catalog_index("one.zarr")
    good = path.read_bytes()
    wanted = sky.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist()
    obsid = int(sky.sb2.cone(*CLUMP, 3.0)["obsid"].values[0])
    theirs = sky.sb2.source(obsid)["lmjm"].values.tolist()
    begin = len(good) - 36 * len(sky["ra"])
    rows, keys = begin + 24 * len(sky["ra"]) // 2, begin + 24 * len(sky["ra"]) + 12 * len(sky["ra"]) // 2
    noticed = 0
    for place in (3, 10, 30, begin - 20, rows, rows + 4000, keys, len(good) - 1):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            opened = catalog.open(survey.path)
            assert opened.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist() == wanted
            assert opened.sb2.source(obsid)["lmjm"].values.tolist() == theirs
        assert all("answers come from the catalog itself" in str(one.message) for one in said)
        noticed += bool(said)
        with pytest.raises(catalog_index.CatalogIndexError):
            CatalogIndex.open(path, publication.columns.identity_of(survey.catalog("one.zarr")), len(sky["ra"])).check()
    assert noticed >= 6  # of the other places, nothing was asked
    for shortened in (b"", good[:7], good[:40], good[:begin], good[:-1]):
        path.write_bytes(shortened)
        with pytest.warns(UserWarning, match="answers come from the catalog itself"):
            opened = catalog.open(survey.path)
        assert opened.sb2.cone(*CLUMP, 3.0)["lmjm"].values.tolist() == wanted
    publication.write_index(survey, "one.zarr")
    assert path.read_bytes() == good


def test_an_index_that_goes_while_it_is_used(republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path) -> None:
    survey = republish(tmp_path, sky)
    opened = catalog.open(survey.path)
    survey.catalog_index("one.zarr").unlink()
    with pytest.warns(UserWarning, match=r"one\.index"):
        assert opened.sb2.cone(*CLUMP, 3.0).sizes["exposure"] == sky.sb2.cone(*CLUMP, 3.0).sizes["exposure"]


def test_an_empty_catalog_answers_nothing(republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path) -> None:
    survey = republish(tmp_path, sky.isel(exposure=slice(0)))
    opened = catalog.open(survey.path)
    assert survey.catalog_index("one.zarr").exists()
    assert opened.sb2.cone(*CLUMP, 3.0).sizes["exposure"] == 0
    assert opened.sb2.candidates().load().sizes["exposure"] == 0
    assert opened.sb2.where("snr_B > 3").sizes["exposure"] == 0
    assert opened["planid"].values.tolist() == []
    match = opened.sb2.crossmatch({"ra": [120.0], "dec": [33.0]}, unit="deg")
    assert (match.to_json()["pairs"], match.nearest.tolist()) == (0, [-1])
    with pytest.raises(CatalogError, match="no exposure of obsid 7"):
        opened.sb2.source(7)


def test_a_catalog_of_a_newer_schema_says_so(republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path) -> None:
    survey = republish(tmp_path, sky.isel(exposure=slice(10)))
    about = survey.catalog("one.zarr") / "zarr.json"
    said = json.loads(about.read_text())
    said["attributes"].pop("checksum")  # theirs would agree
    said["attributes"] |= {"schema_version": 99, "twinlines": "7.1"}
    about.write_text(json.dumps(said))
    with pytest.raises(CatalogError, match=r"by a newer Twinlines \(7.1; catalog version 99, and this one reads up to"):
        catalog.open(survey.path)


def test_a_source_without_a_position_is_named(whole: Survey, sky: xr.Dataset) -> None:
    rows = [int(np.flatnonzero(sky["obsid"].values == obsid)[0]) for obsid in sky["obsid"].values[:5]]
    lost = next(row for row in rows if np.isnan(sky["ra"].values[row]))
    for cat in (catalog.open(whole.path), sky):
        with pytest.raises(CatalogError, match=r"have no position \(ra nan"):
            cat.sb2.source(int(sky["obsid"].values[lost]))


def test_a_file_that_is_lost_after_opening_is_no_missing_value(
    republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path
) -> None:
    survey = republish(tmp_path, sky)
    opened = catalog.open(survey.path)
    (survey.catalog("one.zarr") / "snr_B/c/1").unlink()
    with pytest.raises(Exception, match="snr_B/c/1 is gone"):
        opened["snr_B"].load()
    with pytest.raises(CatalogError, match="has 6 of 7 files"):
        catalog.open(survey.path)


def test_a_flipped_bit_is_no_candidate(republish: Callable[..., Survey], sky: xr.Dataset, tmp_path: Path) -> None:
    survey = republish(tmp_path, sky)
    opened = catalog.open(survey.path)
    file = survey.catalog("one.zarr") / "pb_pct_J_16" / "c" / "0" / "0"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 16
    file.write_bytes(changed)
    said = r"pb_pct_J_16.c.0.0 is damaged \(its checksum differs\); .*'twinlines status --verify' says"
    with pytest.raises(StoreError, match=said):
        opened.sb2.candidates()
    near = catalog.open(survey.path).sb2.cone(*CLUMP, 3.0)  # by the index, and columns that are whole
    assert near["ra"].values.tolist() == sky.sb2.cone(*CLUMP, 3.0)["ra"].values.tolist()
    with pytest.raises(StoreError, match=said):
        near["pb_pct_J_16"].load()
