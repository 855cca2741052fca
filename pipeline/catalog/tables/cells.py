"""Where a table's rows lie on the sky: HEALPix indices of its positions, and how many rows lie in each cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.catalog.tables.columns import Column, ExportError
from twinlines.pipeline.catalog.tables.table import Table
from twinlines.pipeline.schema import CATALOG, HEALPIX_ORDER
from twinlines.pipeline.survey.publication import healpix

Indices = NDArray[np.int64]

INDEX = "healpix29"
"""Variable of a catalog that has them."""


def index_column(rows: xr.Dataset, name: str = INDEX) -> Column:
    """The HEALPix indices (order 29, nested) of rows as a column; -1 where there is no position.

    Parameters
    ----------
    rows
        Rows that have the index itself, or ``ra`` and ``dec``.
    name
        Name of the column.

    Raises
    ------
    ExportError
        If there are no positions.
    """
    variable = CATALOG.variables[INDEX]
    if INDEX in rows.variables:
        return Column(name, variable, needs=(INDEX,), make=lambda block: block[INDEX])
    if "ra" not in rows.variables or "dec" not in rows.variables:
        raise ExportError("these rows have no positions (columns ra and dec), by which this format files them")
    return Column(name, variable, needs=("ra", "dec"), make=lambda block: healpix(block["ra"], block["dec"]))


def indices(table: Table) -> Iterator[Indices]:
    """HEALPix indices of a table's rows, in blocks.

    Raises
    ------
    ExportError
        As :func:`index_column`.
    """
    for block in replace(table, columns=(index_column(table.rows),)).blocks():
        yield np.asarray(block[INDEX], np.int64)


@dataclass(frozen=True)
class Counts:
    """How many rows lie in each cell of one order."""

    order: int
    """HEALPix order."""
    cells: Indices
    """(cell,) cells that have rows, ascending."""
    rows: Indices
    """(cell,) how many."""
    ascending: bool
    """Whether the table's rows stand in the order of their indices."""
    without: int
    """Rows that have no position."""


def count(table: Table, order: int) -> Counts:
    """Count the rows of each cell; in memory are one block, and the cells."""
    cells, rows, ascending, last, without = np.empty(0, np.int64), np.empty(0, np.int64), True, -1, 0
    for block in indices(table):
        ascending = ascending and bool(last <= block[0]) and bool(np.all(block[1:] >= block[:-1]))
        last = int(block[-1])
        there = block[block >= 0]
        without += len(block) - len(there)
        new, many = np.unique(there >> 2 * (HEALPIX_ORDER - order), return_counts=True)
        both, place = np.unique(np.concatenate([cells, new]), return_inverse=True)
        rows = np.bincount(place, np.concatenate([rows, many]), len(both)).astype(np.int64)
        cells = both
    return Counts(order, cells, rows, ascending, without)
