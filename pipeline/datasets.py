"""What describes a stored Dataset: its variables' dimensions, dtypes and units, its shards, its version.

Knows no name that is stored: :mod:`twinlines.pipeline.schema` has them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr


class SchemaError(ValueError):
    """A Dataset or store is not what the schema says it is."""


@dataclass(frozen=True)
class Variable:
    """One stored variable."""

    dims: tuple[str, ...]
    """Names of its dimensions; the first is the schema's row dimension."""
    dtype: str
    """NumPy dtype string, or "str" for variable-length text."""
    units: str
    """Unit in the FITS standard's spelling; "" for a pure number or text."""
    long_name: str
    """What it is, for people."""
    ucd: str = ""
    """What it is, for programs: a UCD1+ of the IVOA's. Not stored: tables that are exported have it."""
    bits: type[IntFlag] | None = None
    """Of an integer of named bits, their names."""

    @property
    def missing(self) -> object:
        """What stands where there is no value: NaN, an empty text, or zero."""
        if self.dtype == "str":
            return ""
        return np.nan if np.dtype(self.dtype).kind == "f" else np.dtype(self.dtype).type(0)

    def empty(self, shape: tuple[int, ...]) -> NDArray[np.generic]:
        """Return an array of missing values of ``shape``."""
        dtype = object if self.dtype == "str" else np.dtype(self.dtype)
        return np.full(shape, self.missing, dtype=dtype)


@dataclass(frozen=True)
class Schema:
    """A stored Dataset: rows along one dimension, written in whole shards."""

    name: str
    """Name of the kind of Dataset; stored in its attributes."""
    version: int
    """Raised with every change that an older reader would misread."""
    row: str
    """The row dimension."""
    variables: Mapping[str, Variable]
    """Stored variables by name."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Lengths of all dimensions but the row's."""
    coords: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Labels of dimensions, by dimension."""
    oldest: int | None = None
    """Oldest version that is still read, with missing values in the variables that it lacks; None: no older one."""
    since: Mapping[str, int] = field(default_factory=dict)
    """Version that brought a variable; those that are not listed are in every version that is read."""
    chunk_rows: int = 256
    """Rows of one chunk: the least that is read."""
    shard_rows: int = 4096
    """Rows of one shard: the least that is written, and the unit of work."""
    bitshuffle: bool = False
    """Sort bits, not bytes, before compression: it pays where values are rounded to few bits."""

    def labelled(self, dim: str, labels: Sequence[object]) -> Schema:
        """Return this schema with a dimension that every store labels, and so sizes, for itself.

        A schema that leaves such a dimension open validates stores of any size of it, but makes none.
        """
        return replace(self, sizes={**self.sizes, dim: len(labels)}, coords={**self.coords, dim: tuple(labels)})

    def shape(self, name: str, rows: int) -> tuple[int, ...]:
        """Shape of variable ``name`` in a Dataset of ``rows`` rows."""
        return tuple(rows if dim == self.row else self.sizes[dim] for dim in self.variables[name].dims)

    def dataset(self, columns: Mapping[str, NDArray[np.generic]], rows: int, **attrs: object) -> xr.Dataset:
        """Make a Dataset of ``rows`` rows from ``columns``; variables that are not given are missing.

        Raises
        ------
        SchemaError
            If a column is unknown or does not fit.
        """
        import xarray as xr  # here: who only wants a name or a dtype, as the readers of files, starts without it

        unknown = sorted(set(columns) - set(self.variables))
        if unknown:
            raise SchemaError(f"{self.name}: no variable {unknown} in the schema; it has {sorted(self.variables)}")
        data: dict[str, xr.Variable] = {}
        for name, variable in self.variables.items():
            values = columns.get(name)
            if values is None:
                values = variable.empty(self.shape(name, rows))
            else:
                values = np.asarray(values, dtype=object if variable.dtype == "str" else variable.dtype)
            data[name] = xr.Variable(variable.dims, values, {"units": variable.units, "long_name": variable.long_name})
        coords = {dim: list(labels) for dim, labels in self.coords.items()}
        dataset = xr.Dataset(data, coords, {"schema": self.name, "schema_version": self.version, **attrs})
        self.validate(dataset)
        return dataset

    def brought_up(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return a Dataset of an older version that is still read as one of this version, any other as it is.

        Variables that came later are there, and missing throughout.
        """
        import xarray as xr

        version = dataset.attrs.get("schema_version")
        if dataset.attrs.get("schema") != self.name or self.oldest is None or not isinstance(version, int):
            return dataset
        if not self.oldest <= version < self.version:
            return dataset
        later = {
            name: xr.Variable(
                self.variables[name].dims,
                self.variables[name].empty(self.shape(name, dataset.sizes[self.row])),
                {"units": self.variables[name].units, "long_name": self.variables[name].long_name},
            )
            for name, since in self.since.items()
            if since > version and name not in dataset.variables
        }
        return dataset.assign(later).assign_attrs(schema_version=self.version)

    def validate(self, dataset: xr.Dataset) -> None:
        """Check that ``dataset`` is of this schema.

        Raises
        ------
        SchemaError
            Naming the store's kind, the first variable that differs, what it is and what it should be.
        """
        kind, version = dataset.attrs.get("schema"), dataset.attrs.get("schema_version")
        if (kind, version) != (self.name, self.version):
            raise SchemaError(
                f"this store holds {kind!r} version {version!r}, not {self.name!r} version {self.version}; "
                "it is another kind of store, or was written by another version of Twinlines"
            )
        for name, variable in self.variables.items():
            if name not in dataset.variables:
                raise SchemaError(f"{self.name}: the variable {name!r} is missing")
            stored = dataset.variables[name]
            if stored.dims != variable.dims:
                raise SchemaError(f"{self.name}: {name!r} has dimensions {stored.dims}, expected {variable.dims}")
            if variable.dtype == "str":
                if stored.dtype.kind not in "OUT":
                    raise SchemaError(f"{self.name}: {name!r} has dtype {stored.dtype}, expected text")
            elif stored.dtype != np.dtype(variable.dtype):
                raise SchemaError(f"{self.name}: {name!r} has dtype {stored.dtype}, expected {variable.dtype}")
            for attribute in ("units", "long_name"):
                is_stored, expected = stored.attrs.get(attribute), getattr(variable, attribute)
                if is_stored != expected:
                    raise SchemaError(f"{self.name}: {name!r} has {attribute} {is_stored!r}, expected {expected!r}")
        for dim, size in self.sizes.items():
            if dim in dataset.sizes and dataset.sizes[dim] != size:
                raise SchemaError(f"{self.name}: dimension {dim!r} has {dataset.sizes[dim]} entries, expected {size}")
        for dim, labels in self.coords.items():
            if dim not in dataset.coords or tuple(dataset[dim].values.tolist()) != labels:
                raise SchemaError(f"{self.name}: dimension {dim!r} is not labelled {labels}")
