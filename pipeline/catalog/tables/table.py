"""A table that is to be written: its columns, its provenance, and its rows in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.catalog.tables.columns import Column, ExportError, Values
from twinlines.pipeline.catalog.tables.provenance import Provenance

BLOCK_ROWS = 65536
"""Rows that are in memory at a time: a chunk of a catalog."""

Block = Mapping[str, Values]
"""Values of some rows by name of the column."""


@dataclass(frozen=True)
class Table:
    """Rows along one dimension of a Dataset, with what is to be said of them."""

    rows: xr.Dataset
    """Where the values come from; may be lazy."""
    dim: str
    """Dimension of the rows."""
    columns: tuple[Column, ...]
    """Columns, in their order."""
    title: str
    """What the table is, in a few words."""

    def __post_init__(self) -> None:
        if self.dim not in self.rows.dims:
            raise ExportError(
                f"there is no dimension {self.dim!r}; select a row by a list, as in isel({self.dim}=[0]), and it stays"
            )

    def __len__(self) -> int:
        return int(self.rows.sizes[self.dim])

    @cached_property
    def provenance(self) -> Provenance:
        """Where the rows come from."""
        return Provenance.of(self.rows.attrs, rows_out=len(self))

    @cached_property
    def widths(self) -> dict[str, int]:
        """Characters of the longest entry of each column of text; read once, a block at a time."""
        texts = [column for column in self.columns if column.is_text]
        widths = {column.name: 1 for column in texts}
        for block in self.blocks(columns=texts) if texts else ():
            for name, values in block.items():
                widths[name] = max(widths[name], max(map(len, set(values.tolist())), default=1))
        return widths

    def blocks(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        order: NDArray[np.int64] | None = None,
        columns: list[Column] | None = None,
    ) -> Iterator[Block]:
        """Values of the rows from ``start`` to ``stop``, in blocks of :data:`BLOCK_ROWS` at most.

        Parameters
        ----------
        start, stop
            First row, and the row after the last; all by default.
        order
            (row,) rows in the order in which they are wanted, of which ``start`` and ``stop`` are places.
        columns
            Which columns; all by default.
        """
        wanted = list(self.columns) if columns is None else columns
        rows = self.rows[list(dict.fromkeys(name for column in wanted for name in column.sources))]
        last = len(self) if stop is None else stop
        for first in range(start, last, BLOCK_ROWS):
            place = slice(first, min(first + BLOCK_ROWS, last))
            block = rows.isel({self.dim: place if order is None else order[place]}).load()
            values = {str(name): block[name].values for name in block.variables}
            yield {column.name: column.values(values) for column in wanted}
