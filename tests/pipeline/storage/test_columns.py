"""Columns read without Zarr: the same values, and the same complaints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.schema import CATALOG, EXPOSURES, RESULTS, SchemaError
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.columns import Column, identity_of, open_columns, read_packed
from twinlines.pipeline.storage.stores import StoreError

ROWS = 250


@pytest.fixture(params=["chunks", "shards"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A catalog of several chunks, or of shards of them, which is left to Zarr; in ``snr_R``, a chunk has no file."""
    schema = replace(CATALOG, chunk_rows=100 if request.param == "chunks" else 50, shard_rows=100)
    rng = np.random.default_rng(1)
    path = tmp_path / "one.zarr"
    stores.create(path, schema, ROWS, {"name": "one"})
    for name, variable in CATALOG.variables.items():
        values = variable.empty(CATALOG.shape(name, ROWS))
        if variable.dtype == "str":
            values[:] = [name + "\u00e9" * (row % 5) for row in range(ROWS)]
        elif variable.dtype == "bool":
            values[:] = rng.random(ROWS) < 0.5
        else:
            values[:] = (100 * rng.random(values.shape)).astype(variable.dtype)
        if name == "snr_R":
            values[100:200] = np.nan
        stores.write_column(path, schema, name, values)
    stores.seal(path, CATALOG)
    return path


def test_columns_are_what_zarr_reads(store: Path) -> None:
    assert not (store / "snr_R/c/1").exists()
    mine, theirs = open_columns(store, CATALOG), stores.open_store(store, CATALOG)
    rows = np.array([249, 3, 3, 120, 0, 199, 200])
    for name in CATALOG.variables:
        values = mine.dataset[name].values
        assert values.flags.writeable
        np.testing.assert_array_equal(values, theirs[name].values.astype(values.dtype))
        np.testing.assert_array_equal(mine.columns[name].rows(rows), values[rows])
        np.testing.assert_array_equal(mine.columns[name].rows(rows[1:3]), values[rows[1:3]])
    assert mine.dataset["planid"].dtype == object
    assert mine.dataset.attrs == theirs.attrs
    assert mine.dataset["percentile"].values.tolist() == theirs["percentile"].values.tolist()
    assert mine.identity == identity_of(store) != ""


def test_what_is_damaged_or_lost_is_named(store: Path) -> None:
    opened = open_columns(store, CATALOG)
    file = store / "dec/c/1"
    good = file.read_bytes()
    file.write_bytes(good[:-40])
    with pytest.raises(StoreError, match="not whole: 'dec' has"):
        open_columns(store, CATALOG)
    if opened.columns["dec"].codecs:
        with pytest.raises(StoreError, match=r"dec/c/1 is damaged"):
            opened.columns["dec"].chunk(1)
        file.unlink()
        with pytest.raises(StoreError, match=r"dec/c/1 is gone"):
            opened.columns["dec"].chunk(1)
        assert np.isnan(opened.columns["snr_R"].chunk(1)).all()
    with pytest.raises(StoreError, match="cannot be opened"):
        open_columns(store.parent / "none.zarr", CATALOG)
    (store / "ra/zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"zarr.json cannot be read"):
        Column.open(store / "ra", np.nan, None)


def test_a_store_of_another_kind_is_refused(tmp_path: Path) -> None:
    stores.create(tmp_path / "x.zarr", EXPOSURES, 5)
    with pytest.raises(SchemaError, match="holds 'exposures'"):
        open_columns(tmp_path / "x.zarr", CATALOG)
    assert identity_of(tmp_path / "x.zarr") == ""  # it was not sealed
    assert identity_of(tmp_path / "none.zarr") == ""


def test_packed_results_are_what_zarr_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = 5000  # two chunks
    columns = {
        "obsid": rng.integers(0, 10**9, rows),
        "planid": np.array([f"TD{row % 9}" for row in range(rows)], object),
        "pb_pct_J_16": rng.random((rows, 5)),
        "bprp0": np.full(rows, np.nan),
    }
    path = tmp_path / "a.zarr.zip"
    path.write_bytes(stores.pack(RESULTS, RESULTS.dataset(columns, rows)))
    mine = read_packed(path, RESULTS, columns)
    theirs = stores.read_columns(path, columns)
    for name in columns:
        np.testing.assert_array_equal(mine[name], theirs[name].astype(mine[name].dtype))
    empty = tmp_path / "b.zarr.zip"
    empty.write_bytes(stores.pack(RESULTS, RESULTS.dataset({}, 0)))
    assert {name: values.shape for name, values in read_packed(empty, RESULTS, ["ra", "pb_pct_B_8"]).items()} == {
        "ra": (0,),
        "pb_pct_B_8": (0, 5),
    }
    with pytest.raises(StoreError, match=r"a.zarr.zip cannot be read"):
        read_packed(path, replace(RESULTS, variables={"no": RESULTS.variables["ra"]}), ["no"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"a.zarr.zip cannot be read"):
        read_packed(path, RESULTS, ["obsid"])
