"""A bit that flips on the disk: whoever reads it is told, or gets what was written; never another value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from twinlines.pipeline.schema import CATALOG, EXPOSURES, Schema, SchemaError
from twinlines.pipeline.storage import chunks, stores
from twinlines.pipeline.storage.columns import Column, open_columns, read_packed
from twinlines.pipeline.storage.stores import StoreError

ROWS = 20
Values = Mapping[str, NDArray[Any]]


def _few(schema: Schema, *names: str, **sizes: int) -> Schema:
    variables = {name: schema.variables[name] for name in names}
    return replace(schema, variables=variables, sizes={**schema.sizes, **sizes}, since={})


CATALOGS = replace(
    _few(CATALOG, "obsid", "planid", "rv_obs_B", "bprp0", "pb_pct_J_16", "specflag_B"), chunk_rows=8, shard_rows=8
)
RELEASES = replace(_few(EXPOSURES, "obsid", "planid", "snr", "flux", "mask", pixel=6), chunk_rows=4, shard_rows=8)


def _values(schema: Schema) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    values: dict[str, NDArray[Any]] = {}
    for name, variable in schema.variables.items():
        if variable.dtype == "str":
            values[name] = np.array([f"TD{row}é" for row in range(ROWS)], object)
        elif name != "bprp0":  # it is missing throughout
            values[name] = (100.0 * rng.random(schema.shape(name, ROWS))).astype(variable.dtype)
    return values


def _make(path: Path, schema: Schema) -> Values:
    """Write a store; returns what is in it."""
    written = schema.dataset(_values(schema), ROWS, name="one")
    stores.create(path, schema, ROWS, {"name": "one"})
    for start in range(0, ROWS, schema.shard_rows):
        stores.write_shard(path, schema, start, written.isel({schema.row: slice(start, start + schema.shard_rows)}))
    stores.seal(path, schema)
    return {name: written[name].values for name in schema.variables}


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if other.dtype == object:
        return bool(one.tolist() == other.tolist())
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=other.dtype.kind == "f")


@contextmanager
def _flipped(file: Path, bit: int) -> Iterator[None]:
    content = file.read_bytes()
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.write_bytes(content)


def _believed(read: Callable[[], Values], written: Values) -> bool:
    """Whether values were read, which are then right; else an error of ours was raised."""
    try:
        values = read()
    except (StoreError, SchemaError):
        return False
    assert all(_same(values[name], written[name]) for name in written)
    return True


def _lazily(path: Path, schema: Schema) -> Values:
    with stores.open_store(path, schema) as dataset:
        return {name: dataset[name].values for name in schema.variables}


WAYS: dict[str, Callable[[Path, Schema], Values]] = {
    "open_columns": lambda path, schema: {
        name: held.values for name, held in open_columns(path, schema).dataset.data_vars.items()
    },
    "open_store": _lazily,
    "read_columns": lambda path, schema: stores.read_columns(path, schema.variables),
}


def _chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def test_every_bit_of_every_chunk_of_a_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.zarr"
    written = _make(path, CATALOGS)
    for name, variable in CATALOGS.variables.items():
        column, _ = Column.open(path / name, variable.missing, None)
        assert column.codecs[-1] == "crc32c"
        for number in range(column.chunks):
            file = path / name / column.file(number)
            if not file.exists():
                assert name == "bprp0"
                continue
            good = file.read_bytes()
            assert _same(column.unpacked(good, number), written[name][8 * number : 8 * number + 8])
            for bit in range(8 * len(good)):
                changed = bytearray(good)
                changed[bit // 8] ^= 1 << bit % 8
                with pytest.raises(StoreError, match="is damaged \\(its checksum differs\\); restore it"):
                    column.unpacked(bytes(changed), number)


@pytest.mark.parametrize("schema", [CATALOGS, RELEASES], ids=["catalog", "release"])
@pytest.mark.parametrize("way", WAYS)
def test_a_bit_of_each_chunk_file_whatever_the_way_to_it(tmp_path: Path, schema: Schema, way: str) -> None:
    path = tmp_path / "one.zarr"
    written = _make(path, schema)
    assert _believed(lambda: WAYS[way](path, schema), written)
    rng = np.random.default_rng(4)
    for file in _chunk_files(path):
        for bit in rng.integers(0, 8 * file.stat().st_size, 2):
            with _flipped(file, int(bit)):
                assert (
                    not _believed(lambda: WAYS[way](path, schema), written) or file.parent.parent.name in schema.coords
                )
    assert _believed(lambda: WAYS[way](path, schema), written)


@pytest.mark.parametrize("schema", [CATALOGS, RELEASES], ids=["catalog", "release"])
@pytest.mark.parametrize("way", WAYS)
def test_a_bit_of_what_a_store_says_of_itself(tmp_path: Path, schema: Schema, way: str) -> None:
    """Where shapes, kinds, missing values, codecs, attributes and the inventory stand."""
    path = tmp_path / "one.zarr"
    written = _make(path, schema)
    rng = np.random.default_rng(5)
    for file in sorted(path.rglob("zarr.json")):
        for bit in rng.integers(0, 8 * file.stat().st_size, 6):
            with _flipped(file, int(bit)):
                _believed(lambda: WAYS[way](path, schema), written)


def test_attributes_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "one.zarr"
    _make(path, CATALOGS)
    about = path / "zarr.json"
    at = about.read_bytes().index(b'"one"') + 1
    with _flipped(about, 8 * at):
        for way in WAYS.values():
            with pytest.raises(StoreError, match=r"one\.zarr cannot be opened .* its zarr\.json is damaged \(its c"):
                way(path, CATALOGS)
    attrs = open_columns(path, CATALOGS).dataset.attrs
    assert attrs == stores.open_store(path, CATALOGS).attrs
    assert set(attrs) == {"schema", "schema_version", "name"}


@pytest.mark.parametrize("way", ["open_store", "read_columns", "read_packed"])
def test_a_bit_of_a_zipped_store(tmp_path: Path, way: str) -> None:
    path = tmp_path / "results.zarr.zip"
    written = CATALOGS.dataset(_values(CATALOGS), ROWS)
    data = stores.pack(CATALOGS, written)
    path.write_bytes(data)
    values = {name: written[name].values for name in CATALOGS.variables}

    def read() -> Values:
        return read_packed(path, CATALOGS, CATALOGS.variables) if way == "read_packed" else WAYS[way](path, CATALOGS)

    assert _believed(read, values)
    directory = data.index(b"PK\x01\x02")
    # An entry that bears another name is a chunk that is not there.
    names = [at for at in range(directory, len(data)) if data[at : at + 3] == b"/c/"]
    rng = np.random.default_rng(6)
    for byte in [*(at + 3 for at in names), *rng.integers(0, len(data), 30), *rng.integers(directory, len(data), 30)]:
        with _flipped(path, 8 * int(byte) + int(rng.integers(8))):
            _believed(read, values)
    with _flipped(path, 8 * (names[0] + 3)), pytest.raises(StoreError, match="checksum of its entries' names differs"):
        read()


def test_the_file_of_a_damaged_chunk_is_named_and_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "release.zarr"
    written = _make(path, RELEASES)
    file = path / "flux" / "c" / "1" / "0" / "0"
    with _flipped(file, 77), stores.open_store(path, RELEASES) as dataset:
        assert _same(dataset["flux"][16:].values, written["flux"][16:])
        with pytest.raises(StoreError, match=r"zarr.flux.c.1.0.0 is damaged \(its checksum differs\); restore"):
            dataset["flux"][[3, 9], 0].load()


@pytest.mark.parametrize("schema", [CATALOGS, RELEASES], ids=["catalog", "release"])
def test_stores_without_checksums_are_read_as_they_are(
    tmp_path: Path, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.zarr"
    with monkeypatch.context() as before:
        before.setattr(chunks, "compressed", lambda _: BloscCodec(cname="lz4"))
        before.setattr(chunks, "LABELS", None)
        written = _make(path, schema)
        (tmp_path / "a.zarr.zip").write_bytes(stores.pack(schema, schema.dataset(_values(schema), ROWS)))
    about = json.loads((path / "zarr.json").read_text())
    for files in about["attributes"]["inventory"].values():
        del files["described"]
    del about["attributes"]["checksum"]
    (path / "zarr.json").write_text(json.dumps(about))
    for way in WAYS.values():
        assert _believed(lambda way=way: way(path, schema), written)
    assert _believed(lambda: read_packed(tmp_path / "a.zarr.zip", schema, schema.variables), written)
