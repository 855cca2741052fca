"""Variables of a store in a folder, opened in milliseconds: a chunk of rows is one file, read without a detour.

Zarr's own reading costs a millisecond for each variable, whatever is read of it; a catalog has more than fifty. What
:mod:`twinlines.pipeline.storage.stores` writes is simple enough to be read here: whole rows, little-endian, Blosc, a
checksum. What is stored in another way is left to Zarr. Same values, to the bit.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from numcodecs.blosc import Blosc
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from twinlines.pipeline.schema import Schema
from twinlines.pipeline.storage import chunks, inventory
from twinlines.pipeline.storage.chunks import CHECKSUM, StoreError
from twinlines.pipeline.storage.stores import read_columns

_CODECS = (["bytes"], ["bytes", "blosc"], ["vlen-utf8", "blosc"])  # that are read here, with a checksum or without
_UNPACK: Callable[..., Any] = Blosc().decode
_TEXTS: Callable[..., Any] = VLenUTF8().decode


@dataclass(frozen=True)
class Column:
    """One variable of a store; reads when asked, and keeps nothing."""

    folder: str
    """Folder of the variable."""
    shape: tuple[int, ...]
    """Its shape; the first axis is that of rows."""
    dtype: np.dtype[Any]
    """Its dtype; ``object`` for text."""
    chunk_rows: int
    """Rows of a chunk."""
    codecs: tuple[str, ...]
    """How a chunk's file is packed; none: only Zarr knows."""
    missing: Any
    """Value of a chunk that has no file, because it holds nothing else."""
    full: bool
    """Whether each chunk has a file, so that one that is gone was lost."""

    @classmethod
    def open(cls, folder: Path, missing: Any, files: int | None) -> tuple[Column, dict[str, Any]]:
        """Open the variable in a folder; returns it with its metadata, as stored.

        Parameters
        ----------
        folder
            Where it is.
        missing
            Its missing value.
        files
            Number of its files by the store's inventory; None if there is none.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        try:
            said = (folder / "zarr.json").read_bytes()
        except OSError as error:
            raise StoreError(f"{folder / 'zarr.json'} cannot be read ({error!r})") from error
        return cls.described(folder, said, missing, files)

    @classmethod
    def described(
        cls, folder: Path, said: bytes, missing: Any, files: int | None = None
    ) -> tuple[Column, dict[str, Any]]:
        """The variable of which ``said`` is the metadata, and that; see :meth:`open`."""
        try:
            about = json.loads(said)
            shape = tuple(about["shape"])
            text = about["data_type"] == "string"
            dtype = np.dtype(object) if text else np.dtype(about["data_type"]).newbyteorder("<")
            chunk = about["chunk_grid"]["configuration"]["chunk_shape"]
            codecs = [codec["name"] for codec in about["codecs"]]
            packing = codecs[:-1] if codecs[-1:] == [CHECKSUM] else codecs
            simple = packing in _CODECS and tuple(chunk[1:]) == shape[1:] and about["zarr_format"] == 3
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder / 'zarr.json'} cannot be read ({error!r})") from error
        full = files == -(-shape[0] // chunk[0]) + 1
        column = cls(str(folder), shape, dtype, int(chunk[0]), tuple(codecs) if simple else (), missing, full)
        return column, about

    @property
    def chunks(self) -> int:
        """Number of its chunks."""
        return -(-self.shape[0] // self.chunk_rows)

    def chunk(self, number: int) -> NDArray[Any]:
        """Read the rows of chunk ``number``, shape (row, ...).

        Raises
        ------
        StoreError
            If its file is damaged, or lost.
        """
        start = number * self.chunk_rows
        rows = min(self.chunk_rows, self.shape[0] - start)
        if not self.codecs:
            array = zarr.open_array(self.folder, mode="r", zarr_format=3)
            key = (slice(start, start + rows), *[slice(None)] * (array.ndim - 1))
            return chunks.read(array, Path(self.folder), key).astype(self.dtype, copy=False)
        path = Path(self.folder, self.file(number))
        try:
            packed = path.read_bytes()
        except FileNotFoundError as error:
            if self.full:
                raise StoreError(f"{path} is gone; restore it from a copy, or make the store again") from error
            return np.full((rows, *self.shape[1:]), self.missing, self.dtype)
        return self.unpacked(packed, number)

    def file(self, number: int) -> str:
        """File of chunk ``number``, in the variable's folder."""
        return "/".join(["c", str(number), *["0"] * (len(self.shape) - 1)])

    def unpacked(self, packed: bytes, number: int) -> NDArray[Any]:
        """Rows of chunk ``number`` from the content of its file.

        Raises
        ------
        StoreError
            If it is damaged.
        """
        rows = min(self.chunk_rows, self.shape[0] - number * self.chunk_rows)
        try:
            content: Any = chunks.checked(packed) if self.codecs[-1] == CHECKSUM else packed
            if self.codecs[0] == "vlen-utf8":
                return np.asarray(_TEXTS(_UNPACK(content)), object)[:rows]
            # The last chunk's file is as long as the others.
            values = np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
            if "blosc" in self.codecs:
                _UNPACK(content, values)
            else:
                values.view(np.uint8).ravel()[:] = np.frombuffer(content, np.uint8)
            return values[:rows]
        except (ValueError, RuntimeError, TypeError) as error:
            raise chunks.damaged(Path(self.folder, self.file(number)), error) from error

    def rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows in any order, shape (len(rows), ...); only chunks that hold some are read.

        Raises
        ------
        StoreError
            As :meth:`chunk`.
        """
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return values
        of = rows // self.chunk_rows
        if of[0] == of[-1] and (of == of[0]).all():  # the usual case of a few
            values[:] = self.chunk(int(of[0]))[rows - of[0] * self.chunk_rows]
            return values
        order = np.argsort(of, kind="stable")
        ends = np.flatnonzero(np.diff(of[order], append=-1)) + 1
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            mine = order[begin:end]
            number = int(of[mine[0]])
            values[mine] = self.chunk(number)[rows[mine] - number * self.chunk_rows]
        return values

    def lazy(self, name: str) -> da.Array:
        """The variable as a Dask array of this name, one task for each chunk."""
        ends = (0,) * (len(self.shape) - 1)
        sizes = tuple(
            min(self.chunk_rows, self.shape[0] - number * self.chunk_rows) for number in range(self.chunks)
        ) or (0,)
        graph: dict[Any, Any] = {(name, number, *ends): (self.chunk, number) for number in range(self.chunks)}
        if not graph:
            graph = {(name, 0, *ends): (np.empty, (0, *self.shape[1:]), self.dtype)}
        meta = np.empty((0,) * len(self.shape), self.dtype)
        return da.Array(graph, name, (sizes, *((size,) for size in self.shape[1:])), meta=meta)


@dataclass(frozen=True)
class Store:
    """A store in a folder, open."""

    identity: str
    """SHA-256 of what the store says of itself, its inventory of all files' contents included; "" if it has none."""
    columns: Mapping[str, Column]
    """Its variables by name, as stored."""
    dataset: xr.Dataset
    """All of it as a Dataset, brought up to the schema's version, in Dask arrays of a chunk each."""
    names: Mapping[str, str]
    """Names of the Dask arrays, by variable."""


def read_packed(path: Path, schema: Schema, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read whole variables of a ``.zip`` file that :func:`twinlines.pipeline.storage.stores.pack` made.

    Raises
    ------
    StoreError
        If there is no such file, it is damaged, or lacks one of the variables.
    """
    columns: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            chunks.check_names(archive)
            there = set(archive.namelist())
            for name in names:
                missing = schema.variables[name].missing
                column, _ = Column.described(path / name, archive.read(f"{name}/zarr.json"), missing)
                if not column.codecs:
                    columns |= read_columns(path, [name])
                    continue
                parts = []
                for number in range(column.chunks):
                    file = f"{name}/{column.file(number)}"
                    if file in there:
                        parts.append(column.unpacked(archive.read(file), number))
                    else:  # it holds nothing else
                        rows = min(column.chunk_rows, column.shape[0] - number * column.chunk_rows)
                        parts.append(np.full((rows, *column.shape[1:]), missing, column.dtype))
                columns[name] = parts[0] if len(parts) == 1 else _joined(parts, column)
    except chunks.DAMAGE as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read ({error}); restore it from a copy, or make it again") from error
    return columns


def _joined(parts: list[NDArray[Any]], column: Column) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty((0, *column.shape[1:]), column.dtype)


def identity_of(path: Path) -> str:
    """What a store in a folder is known by; see :attr:`Store.identity`. "" if it is unknown, or there is no store."""
    try:
        said = (path / "zarr.json").read_bytes()
        return hashlib.sha256(said).hexdigest() if inventory.parsed(said)[1] else ""
    except (OSError, ValueError):
        return ""


def open_columns(path: Path, schema: Schema) -> Store:
    """Open a store in a folder lazily, and check it against ``schema``; text is of Python's own kind.

    What :func:`twinlines.pipeline.storage.stores.open_store` does for any store, in a tenth of the time.

    Raises
    ------
    StoreError
        If there is no such store, it cannot be read, or has lost files since it was made.
    SchemaError
        If it is a store of another kind.
    """
    path = Path(path)
    try:
        said = (path / "zarr.json").read_bytes()
        attrs, files = inventory.parsed(said)
        lost = inventory.problems(path, files)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr store: {error}") from error
    if lost:  # what is gone would read as missing values
        raise StoreError(f"{path} is not whole: {'; '.join(lost)}; restore it from a copy, or make it again")
    token = hashlib.sha256(str(path).encode() + said).hexdigest()
    columns, names, variables = {}, {}, {}
    for name, variable in schema.variables.items():
        if not (path / name).is_dir():
            continue  # of a later version, or the schema says that it is missing
        column, about = Column.open(path / name, variable.missing, files.get(name, {}).get("files"))
        columns[name], names[name] = column, f"{name}-{token[:32]}"
        dims = about.get("dimension_names") or ()
        try:
            variables[name] = xr.Variable(dims, column.lazy(names[name]), about.get("attributes"), fastpath=True)
        except ValueError as error:
            raise StoreError(f"{path / name} cannot be read: {error}") from error
    coords = {}
    for dim in schema.coords:
        if (path / dim).is_dir():
            column, _ = Column.open(path / dim, None, None)
            coords[dim] = xr.Variable((dim,), np.concatenate([column.chunk(at) for at in range(column.chunks)]))
    try:
        dataset = schema.brought_up(xr.Dataset(variables, coords, attrs))
    except ValueError as error:  # of different lengths
        raise StoreError(f"{path} cannot be opened: {error}") from error
    schema.validate(dataset)
    if list(dataset.data_vars) != list(schema.variables):
        dataset = dataset[list(schema.variables)]
    return Store(hashlib.sha256(said).hexdigest() if files else "", columns, dataset, names)
