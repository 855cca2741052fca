"""The index beside a catalog, against a look at every row."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinlines.pipeline.survey import catalog_index
from twinlines.pipeline.survey.catalog_index import BLOCK_ROWS, CatalogIndex, CatalogIndexError
from twinlines.pipeline.survey.publication import healpix

ROWS = 5 * BLOCK_ROWS + 17


@pytest.fixture(scope="module")
def columns() -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, ROWS), np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS)))
    ra[:9], dec[9:12], dec[12:15] = np.nan, np.nan, 95.0
    order = np.argsort(healpix(ra, dec), kind="stable")
    return {
        "ra": ra[order],
        "dec": dec[order],
        "bjdmid": rng.uniform(0.0, 1e3, ROWS),
        # One obsid fills more than two blocks.
        "obsid": np.where(rng.random(ROWS) < 0.5, 777, rng.integers(0, 1500, ROWS)),
    }


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, NDArray[np.generic]]) -> CatalogIndex:
    path = tmp_path_factory.mktemp("index") / "one.index"
    catalog_index.write(path, "me", ROWS, columns.__getitem__)
    assert [one.name for one in path.parent.iterdir()] == ["one.index"]
    return CatalogIndex.open(path, "me", ROWS)


_INDEX: list[tuple[CatalogIndex, dict[str, NDArray[np.generic]]]] = []


@pytest.fixture(autouse=True)
def _at_hand(index: CatalogIndex, columns: dict[str, NDArray[np.generic]]) -> None:
    _INDEX[:] = [(index, columns)]


@settings(max_examples=150, deadline=None)
@given(
    ra=st.floats(0.0, 360.0),
    dec=st.one_of(st.floats(-90.0, 90.0), st.sampled_from([90.0, -90.0, 0.0])),
    radius=st.one_of(st.floats(1e-9, np.pi), st.floats(1e-3, 0.1), st.just(np.pi)),
)
def test_rows_near_a_position(ra: float, dec: float, radius: float) -> None:
    index, columns = _INDEX[0]
    with np.errstate(invalid="ignore"):
        apart = angular_separation(*map(np.radians, (ra, dec, columns["ra"], columns["dec"])))
        expected = np.flatnonzero((apart <= radius) & (np.abs(columns["dec"]) <= 90.0))
    near = index.near(ra, dec, radius)
    assert sorted(near.row.tolist()) == expected.tolist()
    assert (np.diff(near.distance) >= 0.0).all()
    np.testing.assert_array_equal(near.distance, apart[near.row])
    np.testing.assert_array_equal(near.bjdmid, columns["bjdmid"][near.row])


def test_a_row_is_near_itself(index: CatalogIndex, columns: dict[str, NDArray[np.generic]]) -> None:
    for row in np.flatnonzero(np.isfinite(columns["ra"]) & (np.abs(columns["dec"]) <= 90.0))[::97]:
        assert row in index.near(*index.at(int(row)), 1e-12).row
        assert index.at(int(row)) == (columns["ra"][row], columns["dec"][row])


def test_rows_of_an_obsid(index: CatalogIndex, columns: dict[str, NDArray[np.generic]]) -> None:
    for obsid in (-5, 0, 1, 776, 777, 778, 1499, 1500, 10**12, *range(2, 1500, 41)):
        assert index.of_obsid(obsid).tolist() == np.flatnonzero(columns["obsid"] == obsid).tolist()


def test_few_blocks_are_read(index: CatalogIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    read = CatalogIndex._read

    def count(self: CatalogIndex, file: int, first: int, last: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        blocks.append(last - first)
        return read(self, file, first, last, dtype)

    monkeypatch.setattr(CatalogIndex, "_read", count)
    index.of_obsid(5)
    assert sum(blocks) <= 2
    blocks.clear()
    index.near(200.0, 40.0, 1e-5)
    assert sum(blocks) < len(index.blocks)


def test_any_damage_is_noticed(index: CatalogIndex, tmp_path: Path) -> None:
    good, path = index.path.read_bytes(), tmp_path / "one.index"
    rng = np.random.default_rng(2)
    for place in [*range(0, 60, 7), *rng.integers(0, len(good), 60).tolist()]:
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << int(rng.integers(8)))]) + good[place + 1 :])
        with pytest.raises(CatalogIndexError):
            CatalogIndex.open(path, "me", ROWS).check()
    path.write_bytes(good)
    CatalogIndex.open(path, "me", ROWS).check()


def test_what_is_of_something_else_is_refused(
    index: CatalogIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CatalogIndexError, match="of another catalog"):
        CatalogIndex.open(index.path, "you", ROWS)
    with pytest.raises(CatalogIndexError, match="of another catalog"):
        CatalogIndex.open(index.path, "me", ROWS - 1)
    (tmp_path / "x.index").write_bytes(b"something else that is long enough")
    with pytest.raises(CatalogIndexError, match="is no index"):
        CatalogIndex.open(tmp_path / "x.index", "me", ROWS)
    monkeypatch.setattr(catalog_index, "INDEX_VERSION", 2)
    with pytest.raises(CatalogIndexError, match="has version 1, and this code reads 2"):
        CatalogIndex.open(index.path, "me", ROWS)


def test_a_disk_that_fills_leaves_what_was_there(small_disk: Path, columns: dict[str, NDArray[np.generic]]) -> None:
    path = small_disk / "one.index"
    catalog_index.write(path, "me", ROWS, columns.__getitem__)
    good = path.read_bytes()
    free = shutil.disk_usage(small_disk).free
    (small_disk / "rest").write_bytes(bytes(free - len(good) // 2))
    with pytest.raises(OSError, match=r"No space left.*one\.index"):
        catalog_index.write(path, "you", ROWS, columns.__getitem__)
    assert path.read_bytes() == good
    assert sorted(one.name for one in small_disk.iterdir()) == ["one.index", "rest"]


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "none.index"
    catalog_index.write(path, "me", 0, lambda _: np.empty(0))
    index = CatalogIndex.open(path, "me", 0)
    assert len(index.near(1.0, 2.0, np.pi).row) == len(index.of_obsid(3)) == 0
    index.check()
