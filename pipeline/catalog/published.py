"""What a Dataset that was opened from a survey knows beside its rows: its columns' files, and the index beside it.

It goes with the Dataset as part of its encoding, and is believed of a variable only as long as that holds the very
Dask array that was opened: of rows that were sorted, selected, joined, loaded or replaced since, the index says
nothing. What is answered from here has columns that are read when they are looked at, and then kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from twinlines.pipeline.storage.columns import Column
from twinlines.pipeline.survey.catalog_index import CatalogIndex

_ENCODING = "twinlines"  # name among the Dataset's encoding
_ROW = "exposure"
_TEMPLATES = 64  # rows of an answer for whose number a template is kept


@dataclass(frozen=True)
class OpenedCatalog:
    """The files of an opened catalog."""

    columns: Mapping[str, Column]
    """Its columns by name."""
    names: Mapping[str, str]
    """Name of the Dask array that holds each column in the Dataset that was opened."""
    index: CatalogIndex | None
    """The index beside it; None if it has none."""

    def attach(self, catalog: xr.Dataset) -> xr.Dataset:
        """Let the Dataset know its files; returns it."""
        catalog.encoding[_ENCODING] = self
        return catalog

    def has(self, catalog: xr.Dataset, *names: str) -> bool:
        """Whether these columns of a Dataset are still those that were opened."""
        return all(self._is_opened(name, catalog.variables.get(name)) for name in names)

    def has_any(self, catalog: xr.Dataset) -> bool:
        """Whether any column of a Dataset is still as it was opened."""
        return any(self._is_opened(name, held) for name, held in catalog.variables.items())

    def answer(self, catalog: xr.Dataset, rows: NDArray[np.int64], templates: dict[int, xr.Dataset]) -> xr.Dataset:
        """Rows of a Dataset; columns that are as they were opened are read when they are looked at.

        Parameters
        ----------
        catalog
            The Dataset; at least one column is as it was opened.
        rows
            (row,) which.
        templates
            Answers of this Dataset by their number of rows, to be kept by the caller: xarray copies a Dataset faster
            than it makes one.
        """
        lazy = {name: self._lazy(name, rows) for name, held in catalog.variables.items() if self._is_opened(name, held)}
        template = templates.get(len(rows))
        if template is not None and lazy.keys() == set(template.data_vars) and _described_alike(template, catalog):
            answer = template.copy(data=lazy)
            answer.attrs = dict(catalog.attrs)
            return answer
        others = [name for name, held in catalog.variables.items() if name not in lazy and _ROW in held.dims]
        variables = {
            name: xr.Variable(catalog.variables[name].dims, values, catalog.variables[name].attrs)
            for name, values in lazy.items()
        }
        rest = catalog.drop_vars(list(lazy))
        answer = (rest.isel({_ROW: rows}).load() if others else rest).assign(variables)
        answer = answer[list(catalog.data_vars)]
        answer.attrs = dict(catalog.attrs)
        answer.encoding = {name: value for name, value in catalog.encoding.items() if name != _ENCODING}
        if not others and len(rows) <= _TEMPLATES:
            templates[len(rows)] = answer.copy()  # the caller may load, or change, the answer
        return answer

    def _is_opened(self, name: Any, held: xr.Variable | None) -> bool:
        # Not held.data: that takes as long as all the rest of a question.
        return name in self.names and getattr(getattr(held, "_data", None), "name", None) == self.names[name]

    def _lazy(self, name: Any, rows: NDArray[np.int64]) -> indexing.LazilyIndexedArray:
        return indexing.LazilyIndexedArray(_Rows(self.columns[name], rows))


def published(catalog: xr.Dataset) -> OpenedCatalog | None:
    """What is known of the files of a Dataset; None if it was not opened from a survey."""
    known = catalog.encoding.get(_ENCODING)
    return known if isinstance(known, OpenedCatalog) else None


def distrust(error: Exception) -> None:
    """Say that an index is not used."""
    warnings.warn(
        f"{error}; answers come from the catalog itself, and take longer; 'twinlines run' writes it again",
        stacklevel=3,
    )


class _Rows(BackendArray):
    """Some rows of a column: read when they are asked for, and kept when all are."""

    def __init__(self, column: Column, rows: NDArray[np.int64]) -> None:
        self.shape = (len(rows), *column.shape[1:])
        self.dtype = column.dtype
        self._column, self._rows = column, rows
        self._values: NDArray[Any] | None = None

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._get)

    def __setitem__(self, key: indexing.ExplicitIndexer, value: Any) -> None:
        self._all()[key.tuple] = value

    def _all(self) -> NDArray[Any]:
        if self._values is None:
            self._values = self._column.rows(self._rows)
        return self._values

    def _get(self, key: tuple[Any, ...]) -> NDArray[Any]:
        rows = self._rows[key[0]]
        if self._values is None and np.size(rows) < len(self._rows):  # the others may never be looked at
            values = self._column.rows(np.atleast_1d(rows))[(slice(None), *key[1:])]
            return np.asarray(values if np.ndim(rows) else values[0])
        return np.array(self._all()[key])


def _described_alike(one: xr.Dataset, other: xr.Dataset) -> bool:
    if one.variables.keys() != other.variables.keys():
        return False
    return all(held.attrs == one.variables[name].attrs for name, held in other.variables.items())
