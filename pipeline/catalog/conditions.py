"""Conditions in words, asked of a catalog: which of its columns they may name, and for which rows they hold."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.catalog.blockwise import blockwise
from twinlines.pipeline.catalog.expression import ColumnKind, Kind, parse

_KINDS = {"f": Kind.NUMBER, "i": Kind.NUMBER, "u": Kind.FLAGS, "b": Kind.BOOL, "O": Kind.TEXT, "U": Kind.TEXT}


def holds(catalog: xr.Dataset, condition: str) -> NDArray[np.bool_]:
    """For which rows a condition holds, shape (exposure,); a block of rows is in memory at a time.

    Raises
    ------
    ExpressionError
        As :func:`twinlines.pipeline.catalog.expression.parse`.
    """
    expression = parse(condition, column_kinds(catalog))
    return blockwise(expression, catalog, expression.columns, np.bool_)


def column_kinds(catalog: xr.Dataset) -> dict[str, ColumnKind]:
    """Columns that conditions may name."""
    kinds: dict[str, ColumnKind] = {}
    for name, column in catalog.variables.items():
        kind = _KINDS.get(column.dtype.kind, Kind.TEXT)
        if column.dims == ("exposure",):
            kinds[str(name)] = ColumnKind(kind)
        elif len(column.dims) == 2 and "exposure" in column.dims and "percentile" in column.dims:
            kinds[str(name)] = ColumnKind(kind, tuple(catalog["percentile"].values.tolist()))
    return kinds
