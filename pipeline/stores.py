"""Zarr stores on disk: create an empty one from a schema, write whole shards, open as an xarray Dataset.

Two writers inside one shard would lose rows silently (a shard is one object: the last writer wins), so nothing here
writes less than whole shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from twinlines.pipeline.schema import Schema, SchemaError, Variable

PathLike = str | Path


class StoreError(RuntimeError):
    """A store cannot be created, written or opened as asked."""


def create(path: PathLike, schema: Schema, rows: int, attrs: Mapping[str, object] | None = None) -> None:
    """Create the empty template of a store: every variable, ``rows`` rows long, holding missing values.

    Raises
    ------
    StoreError
        If something is at ``path`` already.
    """
    path = Path(path)
    if path.exists():
        raise StoreError(f"{path} exists already; remove it or choose another name")
    group = zarr.open_group(store=path, mode="w-", zarr_format=3)
    group.attrs.update({"schema": schema.name, "schema_version": schema.version, **(attrs or {})})
    for name, variable in schema.variables.items():
        _create_variable(group, schema, name, variable, rows)
    for dim, labels in schema.coords.items():
        values = np.asarray(labels)
        text = values.dtype.kind == "U"
        array = group.create_array(
            dim, shape=values.shape, dtype="string" if text else values.dtype, dimension_names=(dim,), compressors=None
        )
        array[:] = values.astype(object) if text else values


def _create_variable(group: zarr.Group, schema: Schema, name: str, variable: Variable, rows: int) -> None:
    shape = schema.shape(name, rows)
    text = variable.dtype == "str"
    fixed = tuple(1 if dim in ("arm", "kind") else size for dim, size in zip(variable.dims[1:], shape[1:], strict=True))
    group.create_array(
        name,
        shape=shape,
        dtype="string" if text else variable.dtype,
        chunks=(schema.chunk_rows, *fixed),
        shards=None if schema.chunk_rows == schema.shard_rows else (schema.shard_rows, *shape[1:]),
        compressors=BloscCodec(cname="lz4", shuffle=BloscShuffle.shuffle),
        fill_value=variable.missing,
        dimension_names=variable.dims,
        attributes={"units": variable.units, "long_name": variable.long_name},
    )


def write_shard(path: PathLike, schema: Schema, start: int, block: xr.Dataset) -> None:
    """Write ``block`` as the rows from ``start`` on: exactly one or more whole shards.

    Raises
    ------
    SchemaError
        If the block is not of this schema.
    StoreError
        If the block does not begin and end at shard boundaries (the store's last row is one).
    """
    schema.validate(block)
    group = zarr.open_group(store=Path(path), mode="r+", zarr_format=3)
    found = group.attrs.get("schema")
    if found != schema.name:
        raise SchemaError(f"{path} holds {found!r}, not {schema.name!r}")
    first = group[next(iter(schema.variables))]
    total, rows = int(first.shape[0]), int(block.sizes[schema.row])  # type: ignore[union-attr]
    stop = start + rows
    if start % schema.shard_rows or not (stop == total or stop % schema.shard_rows == 0) or stop > total or rows == 0:
        raise StoreError(
            f"{path}: rows {start} to {stop} of {total} are not whole shards of {schema.shard_rows} rows; "
            "two writers inside one shard would lose rows, so nothing was written"
        )
    for name in schema.variables:
        group[name][start:stop] = block[name].values  # type: ignore[index]


def open_store(path: PathLike, schema: Schema, *, chunked: bool = False) -> xr.Dataset:
    """Open a store lazily and check it against ``schema``.

    Parameters
    ----------
    path
        Folder, or ``.zip`` file, of the store.
    schema
        What the store must be.
    chunked
        Wrap the variables in Dask arrays of one shard a chunk.

    Raises
    ------
    StoreError
        If there is nothing at ``path``, or no Zarr store.
    SchemaError
        If it is a store of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    chunks = {schema.row: schema.shard_rows} if chunked else None
    try:
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
        dataset = xr.open_zarr(store, chunks=chunks, consolidated=False, zarr_format=3, decode_cf=False)
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    schema.validate(dataset)
    return dataset
