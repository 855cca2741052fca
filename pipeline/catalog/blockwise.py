"""A function of some columns, for all rows, a block of rows at a time: by Dask where columns are chunked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

BLOCK_ROWS = 65536
"""Rows of a block where nothing is chunked; a catalog's chunks are as long."""

Columns = Mapping[str, NDArray[Any]]
"""Columns by name, each of shape (row, ...)."""


def blockwise(
    function: Callable[[Columns], NDArray[Any]], catalog: xr.Dataset, names: Sequence[str], dtype: DTypeLike
) -> NDArray[Any]:
    """Return ``function`` of the columns ``names`` for each row, shape (exposure,).

    Memory is that of a block for each of Dask's threads or workers, and of the answer.

    Parameters
    ----------
    function
        Takes columns of a block by name, of shape (row, ...), and returns (row,) of ``dtype``.
    catalog
        A Dataset with the dimension ``exposure``.
    names
        Its columns that the function needs, at least one.
    dtype
        Kind of the answer.
    """
    columns = {name: catalog.variables[name].transpose("exposure", ...) for name in names}
    if any(column.chunks is not None for column in columns.values()):
        arguments: list[object] = []
        for column in columns.values():
            # A letter for each dimension; those besides the row's are whole in every block.
            axes = (0, *(hash(dim) for dim in column.dims[1:]))
            data = column.data if column.chunks is not None else da.from_array(column.values, BLOCK_ROWS, name=False)
            arguments += [data, axes]

        def of_arrays(*arrays: NDArray[Any]) -> NDArray[Any]:
            return function(dict(zip(columns, arrays, strict=True)))

        lazy = da.blockwise(of_arrays, (0,), *arguments, dtype=dtype, concatenate=True, meta=np.empty(0, dtype))
        return np.asarray(lazy.compute())
    rows = catalog.sizes["exposure"]
    answer = np.empty(rows, dtype)
    for start in range(0, rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        answer[block] = function({name: column[block].values for name, column in columns.items()})
    return answer
