"""Zarr stores on disk: create an empty one from a schema, write whole shards, open as an xarray Dataset.

Two writers inside one shard would lose rows silently (a shard is one object: the last writer wins), so nothing here
writes less than whole shards.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.core import indexing
from zarr.abc.buffer import Buffer
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore, MemoryStore, ZipStore

from twinlines.pipeline.schema import Schema, SchemaError, Variable
from twinlines.pipeline.storage import atomic, chunks, inventory
from twinlines.pipeline.storage.chunks import StoreError as StoreError

PathLike = str | Path


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
    with atomic.naming(path):
        _template(path, schema, rows, attrs or {})


def _template(store: Path | MemoryStore, schema: Schema, rows: int, attrs: Mapping[str, object]) -> zarr.Group:
    attributes = {"schema": schema.name, "schema_version": schema.version, **attrs}
    group = zarr.create_group(store=store, zarr_format=3, attributes=attributes)
    for name, variable in schema.variables.items():
        _create_variable(group, schema, name, variable, rows)
    for dim, labels in schema.coords.items():
        values = np.asarray(labels)
        text = values.dtype.kind == "U"
        array = group.create_array(
            dim,
            shape=values.shape,
            dtype="string" if text else values.dtype,
            dimension_names=(dim,),
            compressors=chunks.LABELS,
        )
        array[:] = values.astype(object) if text else values
    return group


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
        compressors=chunks.compressed(schema.bitshuffle),
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
    stored = group.attrs.get("schema")
    if stored != schema.name:
        raise SchemaError(f"{path} holds {stored!r}, not {schema.name!r}")
    first = group[next(iter(schema.variables))]
    total, rows = int(first.shape[0]), int(block.sizes[schema.row])  # type: ignore[union-attr]
    stop = start + rows
    if start % schema.shard_rows or not (stop == total or stop % schema.shard_rows == 0) or stop > total or rows == 0:
        raise StoreError(
            f"{path}: rows {start} to {stop} of {total} are not whole shards of {schema.shard_rows} rows; "
            "two writers inside one shard would lose rows, so nothing was written"
        )
    with atomic.naming(Path(path)):
        for name in schema.variables:
            group[name][start:stop] = block[name].values  # type: ignore[index]


def shard_files(path: PathLike, schema: Schema, start: int) -> list[Path]:
    """Files that hold the shard of rows from ``start`` on, in the schema's order of variables.

    A variable has one, or none if all of its values are missing ones.
    """
    place = str(start // schema.shard_rows)
    places = (
        Path(path, name, "c", place, *["0"] * (len(variable.dims) - 1)) for name, variable in schema.variables.items()
    )
    return [file for file in places if file.exists()]


def sync(files: Iterable[Path]) -> None:
    """Flush files and the entries of their folders to the disk; a marker may be written after this."""
    folders = set()
    for path in files:
        atomic.sync_folder(path)
        folders.add(path.parent)
    for folder in folders:
        atomic.sync_folder(folder)


def seal(path: PathLike, schema: Schema, *, contents: bool = True) -> None:
    """Write down what files a store has, now that it is whole: opening it later says if one is gone.

    Parameters
    ----------
    path
        Folder of the store.
    schema
        Its schema.
    contents
        Whether :func:`damaged` compares contents later; all is read once.
    """
    inventory.seal(Path(path), [*schema.variables, *schema.coords], contents=contents)


def damaged(path: PathLike, *, contents: bool = True) -> list[str]:
    """What is wrong with a store that was sealed, a message for each variable; with ``contents``, all is read.

    A store of a version that sealed none passes, if its group can be read.
    """
    try:
        _, files = inventory.parsed(Path(path, "zarr.json").read_bytes())
    except (OSError, ValueError) as error:
        return [f"its zarr.json cannot be read ({error!r})"]
    return inventory.problems(Path(path), files, contents=contents)


def write_column(path: PathLike, schema: Schema, name: str, values: NDArray[Any]) -> None:
    """Write a whole variable, all rows of it; for the one writer who makes a store column by column.

    Raises
    ------
    StoreError
        If ``values`` has not the shape of the whole variable.
    """
    array = zarr.open_array(store=Path(path), path=name, mode="r+", zarr_format=3)
    expected = schema.shape(name, int(array.shape[0]))
    if values.shape != expected:
        raise StoreError(f"{path}: {name!r} has shape {expected}, the values {values.shape}; give the whole column")
    # Zarr makes a copy of text, in a kind of its own; of no more than some shards.
    step = 8 * schema.shard_rows if schema.variables[name].dtype == "str" else max(len(values), 1)
    with atomic.naming(Path(path)):
        for start in range(0, len(values), step):
            array[start : start + step] = values[start : start + step]


def pack(schema: Schema, dataset: xr.Dataset) -> bytes:
    """Return ``dataset``, with its attributes, as a zipped store; equal datasets give equal bytes.

    Entries are sorted and carry a fixed date, so that a content hash of the file says something about its content.

    Raises
    ------
    SchemaError
        If the dataset is not of this schema.
    """
    schema.validate(dataset)
    entries: dict[str, Buffer] = {}
    group = _template(MemoryStore(entries), schema, dataset.sizes[schema.row], dataset.attrs)
    for name in schema.variables:
        group[name][:] = dataset[name].values  # type: ignore[index]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(entries):
            archive.writestr(zipfile.ZipInfo(key), entries[key].to_bytes())
        archive.comment = chunks.names_checksum(entries)
    return packed.getvalue()


def _store(path: Path) -> LocalStore | ZipStore:
    if not path.is_file():
        return LocalStore(path, read_only=True)
    with zipfile.ZipFile(path) as archive:
        chunks.check_names(archive)
    return ZipStore(path, mode="r")


@contextmanager
def _reading(path: Path) -> Iterator[LocalStore | ZipStore]:
    store = _store(path)
    try:
        yield store
    finally:
        # A ZipStore that could not be opened has nothing to close, and hides why by saying so.
        with suppress(AttributeError):
            store.close()


def read_columns(
    path: PathLike, names: Iterable[str], start: int = 0, stop: int | None = None
) -> dict[str, NDArray[Any]]:
    """Read the rows ``start`` to ``stop`` of a few variables of a store (a folder, or a ``.zip`` file), and no more.

    Raises
    ------
    StoreError
        If there is no such store, or it lacks one of the variables.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    if path.is_dir():
        _look(path, inventory.altered, names := list(names))
    try:
        with _reading(path) as store:
            arrays = {name: zarr.open_array(store=store, path=name, mode="r", zarr_format=3) for name in names}
            return {
                name: chunks.read(array, path / name, (slice(start, stop), *[slice(None)] * (array.ndim - 1)))
                for name, array in arrays.items()
            }
    except chunks.DAMAGE as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path}: cannot read {', '.join(names)}: {error}") from error


def _look(path: Path, check: Callable[..., list[str]], names: Iterable[str] | None = None) -> None:
    """Refuse a store in a folder that is not what was written, as far as ``check`` of the inventory looks."""
    try:
        _, files = inventory.parsed((path / "zarr.json").read_bytes())
        wrong = check(path, files if names is None else {name: files[name] for name in names if name in files})
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    if wrong:
        raise StoreError(f"{path} is not whole: {'; '.join(wrong)}; restore it from a copy, or make it again")


def _lazy(group: zarr.Group, path: Path, schema: Schema) -> xr.Dataset:
    """What a schema describes of a group, read when it is looked at; labels are read now."""
    variables, labels = {}, {}
    for name, array in group.arrays():
        dims = cast(ArrayV3Metadata, array.metadata).dimension_names or ()
        if name in schema.variables:
            values = indexing.LazilyIndexedArray(chunks.Lazy(array, path / name))
            variables[name] = xr.Variable(dims, values, dict(array.attrs))
        elif dims == (name,):
            labels[name] = xr.Variable(dims, chunks.read(array, path / name, (slice(None),)))
    return xr.Dataset(variables, labels, dict(group.attrs))


def open_store(path: PathLike, schema: Schema, *, chunked: bool = False, look: bool = True) -> xr.Dataset:
    """Open a store lazily and check it against ``schema``; one of an older version gets the variables that it lacks.

    Parameters
    ----------
    path
        Folder, or ``.zip`` file, of the store.
    schema
        What the store must be.
    chunked
        Wrap the variables in Dask arrays of one shard a chunk.
    look
        Look whether files are gone. Who checks each shard that it reads may do without: a release has many.

    Raises
    ------
    StoreError
        If there is nothing at ``path``, or no Zarr store, or one that has lost files since it was made.
    SchemaError
        If it is a store of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(f"{path} does not exist")
    if path.is_dir():
        # Zarr would read what is gone as missing values.
        _look(path, inventory.problems if look else inventory.altered)
    try:
        # Not the path: xarray takes '::' in one for a chain of addresses.
        dataset = _lazy(zarr.open_group(_store(path), mode="r", zarr_format=3), path, schema)
    except chunks.DAMAGE as error:
        if isinstance(error, StoreError | SchemaError):
            raise
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    dataset = schema.brought_up(dataset)
    schema.validate(dataset)
    for name in (inventory.ATTRIBUTE, inventory.CHECKSUM):
        dataset.attrs.pop(name, None)
    # A folder lists its entries in no order; the schema has one.
    ordered: xr.Dataset = dataset[list(schema.variables)]
    return ordered.chunk({schema.row: schema.shard_rows}) if chunked else ordered
