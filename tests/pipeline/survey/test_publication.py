"""Publication's own parts: positions to HEALPix indices, and whole columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from cdshealpix.nested import healpix_to_lonlat
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.survey.publication import NO_POSITION, healpix


@settings(deadline=None, max_examples=50)
@given(st.floats(-360.0, 720.0), st.floats(-90.0, 90.0))
def test_the_index_is_of_the_cell_in_which_the_position_lies(ra: float, dec: float) -> None:
    (index,) = healpix(np.array([ra]), np.array([dec]))
    assert 0 <= index < 12 * 4**29
    lon, lat = healpix_to_lonlat(np.array([index], np.uint64), 29)
    centre, position = SkyCoord(lon, lat), SkyCoord(ra * u.deg, dec * u.deg)
    assert centre.separation(position)[0] < 1.0 * u.mas


def test_the_poles_and_the_base_cells() -> None:
    index = healpix(np.array([45.0, 135.0, 45.0]), np.array([90.0, 41.81, -90.0]))
    assert (index >> 58).tolist() == [0, 1, 8]


def test_a_row_without_a_position_is_marked() -> None:
    index = healpix(np.array([np.nan, 1.0, 1.0, np.inf]), np.array([0.0, np.nan, 91.0, 0.0]))
    assert index.tolist() == [NO_POSITION] * 4


def test_a_column_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "catalog.zarr"
    stores.create(path, CATALOG, 7)
    stores.write_column(path, CATALOG, "release", np.array([f"dr{i}" for i in range(7)], dtype=object))
    stores.write_column(path, CATALOG, "pb_pct_B_8", np.ones((7, 5), np.float32))
    assert stores.open_store(path, CATALOG)["release"].values.tolist() == [f"dr{i}" for i in range(7)]
    assert stores.read_columns(path, ["pb_pct_B_8"], 2, 4)["pb_pct_B_8"].shape == (2, 5)
    with pytest.raises(StoreError, match=r"'obsid' has shape \(7,\), the values \(6,\)"):
        stores.write_column(path, CATALOG, "obsid", np.arange(6))


def test_a_store_opens_in_the_order_of_its_schema(tmp_path: Path) -> None:
    stores.create(tmp_path / "catalog.zarr", CATALOG, 3)
    assert list(stores.open_store(tmp_path / "catalog.zarr", CATALOG).data_vars) == list(CATALOG.variables)
