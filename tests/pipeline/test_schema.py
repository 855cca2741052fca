from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.schema import (
    CATALOG,
    EXPOSURES,
    FATAL,
    PAIRS,
    RESULTS,
    TABLE4,
    Quality,
    Schema,
    SchemaError,
    Variable,
)
from twinlines.pipeline.storage import stores

SMALL = Schema(
    name="small",
    version=3,
    row="exposure",
    variables={
        "number": Variable(("exposure",), "int64", "", "A number"),
        "flux": Variable(("exposure", "pixel"), "float32", "adu", "Flux"),
        "name": Variable(("exposure",), "str", "", "A name"),
    },
    sizes={"pixel": 5},
    coords={},
    chunk_rows=2,
    shard_rows=8,
)


def block(first: int, rows: int) -> dict[str, np.ndarray]:
    number = np.arange(first, first + rows)
    return {"number": number, "flux": np.repeat(number[:, None], 5, axis=1), "name": number.astype(str).astype(object)}


def test_table_4_has_the_papers_columns() -> None:
    names = list(TABLE4)
    assert len(names) == 34
    assert names[:11] == ["obsid", "lmjm", "bjdmid", "lmjd", "planid", "spid", "fiberid", "ra", "dec", "snr_B", "snr_R"]
    assert names[11:17] == ["rv_obs_B", "rv_obs_err_B", "rv_abs_B", "rv_abs_err_B", "rv_teff_B", "ccfmax_B"]
    assert names[23:28] == ["pb_pct_B_8", "pb_pct_B_16", "pb_pct_B_32", "specflag_B", "npixbad_B"]
    assert names[28:] == ["pb_pct_R_8", "pb_pct_R_16", "pb_pct_R_32", "specflag_R", "npixbad_R", "bprp0"]
    assert TABLE4["bjdmid"].units == "d"
    assert TABLE4["rv_obs_B"].units == "km s-1"


def test_doubtful_arms_are_not_fatal() -> None:
    assert not FATAL & (Quality.BAD_PIXELS | Quality.DESPIKE_FAILED)


@pytest.mark.parametrize("schema", [EXPOSURES, PAIRS, RESULTS, CATALOG], ids=lambda schema: schema.name)
def test_stores_of_every_schema_open_as_they_were_made(tmp_path: Path, schema: Schema) -> None:
    stores.create(tmp_path / "a.zarr", schema, 3, {"release": "x"})
    opened = stores.open_store(tmp_path / "a.zarr", schema)
    assert opened.sizes[schema.row] == 3
    assert opened.attrs["release"] == "x"
    for name, variable in schema.variables.items():
        values = opened[name].values
        if variable.dtype != "str" and np.dtype(variable.dtype).kind == "f":
            assert np.isnan(values).all()
        assert opened[name].attrs["units"] == variable.units


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40))
def test_whole_shards_come_back(tmp_path_factory: pytest.TempPathFactory, rows: int) -> None:
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    stores.create(path, SMALL, rows)
    for start in range(0, rows, 8):
        count = min(8, rows - start)
        stores.write_shard(path, SMALL, start, SMALL.dataset(block(start, count), count))
    opened = stores.open_store(path, SMALL)
    np.testing.assert_array_equal(opened["number"], np.arange(rows))
    np.testing.assert_array_equal(opened["flux"][:, 3], np.arange(rows))
    assert opened["name"].values.tolist() == [str(number) for number in range(rows)]


@pytest.mark.parametrize(("start", "rows"), [(1, 8), (0, 7), (8, 4), (4, 4), (16, 8), (0, 24)])
def test_writers_of_less_than_whole_shards_are_refused(tmp_path: Path, start: int, rows: int) -> None:
    path = tmp_path / "s.zarr"
    stores.create(path, SMALL, 20)
    with pytest.raises(stores.StoreError, match="not whole shards of 8 rows"):
        stores.write_shard(path, SMALL, start, SMALL.dataset(block(start, rows), rows))
    assert (stores.open_store(path, SMALL)["number"] == 0).all()


def test_a_store_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    stores.create(tmp_path / "s.zarr", SMALL, 4)
    with pytest.raises(SchemaError, match="'small' version 3, not 'results' version 3"):
        stores.open_store(tmp_path / "s.zarr", RESULTS)
    older = Schema("small", 2, "exposure", SMALL.variables, SMALL.sizes, chunk_rows=2, shard_rows=8)
    with pytest.raises(SchemaError, match="version 3, not 'small' version 2"):
        stores.open_store(tmp_path / "s.zarr", older)


GROWN = Schema(
    name="small",
    version=5,
    row="exposure",
    variables={
        **SMALL.variables,
        "noise": Variable(("exposure",), "float32", "", "Noise"),
        "bits": Variable(("exposure", "pixel"), "uint16", "", "Bits"),
    },
    sizes={"pixel": 5},
    oldest=3,
    since={"noise": 4, "bits": 5},
    chunk_rows=2,
    shard_rows=8,
)


def test_stores_of_an_older_version_open_with_what_they_lack_missing(tmp_path: Path) -> None:
    stores.create(tmp_path / "s.zarr", SMALL, 4)
    stores.write_shard(tmp_path / "s.zarr", SMALL, 0, SMALL.dataset(block(0, 4), 4))
    for opened in (
        stores.open_store(tmp_path / "s.zarr", GROWN),
        stores.open_store(tmp_path / "s.zarr", GROWN, chunked=True),
    ):
        GROWN.validate(opened)
        assert list(opened.data_vars) == list(GROWN.variables)
        assert opened["number"].values.tolist() == [0, 1, 2, 3]
        assert np.isnan(opened["noise"].values).all()
        assert opened["bits"].shape == (4, 5)
        assert not opened["bits"].values.any()
    # A store of this version that lacks one is not whole; and what is too old, or too new, is refused as before.
    with pytest.raises(SchemaError, match="'noise' is missing"):
        GROWN.validate(stores.open_store(tmp_path / "s.zarr", GROWN).drop_vars("noise"))
    for other in (replace(GROWN, oldest=4), replace(GROWN, version=2, oldest=1)):
        with pytest.raises(SchemaError, match="'small' version 3, not 'small' version"):
            stores.open_store(tmp_path / "s.zarr", other)


@pytest.mark.parametrize("schema", [RESULTS, CATALOG], ids=lambda schema: schema.name)
def test_results_and_catalogs_of_version_1_are_read(tmp_path: Path, schema: Schema) -> None:
    before = {name: variable for name, variable in schema.variables.items() if name not in schema.since}
    stores.create(tmp_path / "a.zarr", replace(schema, version=1, variables=before), 3)
    opened = stores.open_store(tmp_path / "a.zarr", schema)
    for name in ("noise_B", "misfit_B", "misfit_R"):
        assert np.isnan(opened[name].values).all()
    assert list(opened.data_vars) == list(schema.variables)


def test_wrong_columns_are_named() -> None:
    with pytest.raises(SchemaError, match="'colour'"):
        SMALL.dataset({"colour": np.zeros(2)}, 2)
    good = SMALL.dataset(block(0, 2), 2)
    with pytest.raises(SchemaError, match="'flux' is missing"):
        SMALL.validate(good.drop_vars("flux"))
    with pytest.raises(SchemaError, match="'flux' has dtype float64, expected float32"):
        SMALL.validate(good.assign(flux=good["flux"].astype("float64")))
    good["flux"].attrs["units"] = "Jy"
    with pytest.raises(SchemaError, match="units 'Jy', expected 'adu'"):
        SMALL.validate(good)


def test_missing_and_existing_stores(tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="does not exist"):
        stores.open_store(tmp_path / "none.zarr", SMALL)
    stores.create(tmp_path / "s.zarr", SMALL, 1)
    with pytest.raises(stores.StoreError, match="exists already"):
        stores.create(tmp_path / "s.zarr", SMALL, 1)
    (tmp_path / "folder").mkdir()
    with pytest.raises(stores.StoreError, match="cannot be opened"):
        stores.open_store(tmp_path / "folder", SMALL)


def test_chunks_are_shards(tmp_path: Path) -> None:
    stores.create(tmp_path / "s.zarr", SMALL, 20)
    assert stores.open_store(tmp_path / "s.zarr", SMALL, chunked=True)["flux"].chunks[0] == (8, 8, 4)


def test_a_dimension_may_be_each_store_s_own(tmp_path: Path) -> None:
    open_ended = Schema("small", 3, "exposure", SMALL.variables, chunk_rows=2, shard_rows=8)
    labelled = open_ended.labelled("pixel", [10.0, 20.0, 40.0])
    dataset = labelled.dataset({"flux": np.ones((2, 3), np.float32)}, 2, note="kept")
    path = tmp_path / "s.zarr.zip"
    path.write_bytes(stores.pack(labelled, dataset))
    stored = stores.open_store(path, open_ended)
    assert stored["pixel"].values.tolist() == [10.0, 20.0, 40.0]
    assert stored.attrs["note"] == "kept"
    labelled.validate(stored)
    with pytest.raises(SchemaError, match="dimension 'pixel' has 3 entries, expected 2"):
        open_ended.labelled("pixel", [10.0, 20.0]).validate(stored)
    with pytest.raises(SchemaError, match="dimension 'pixel' is not labelled"):
        open_ended.labelled("pixel", [10.0, 20.0, 30.0]).validate(stored)
