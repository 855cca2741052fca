"""What a table's columns are: values, type, unit, UCD and description of each, all from the schema. Knows no format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.schema import Variable

Values = NDArray[Any]


class ExportError(RuntimeError):
    """A table cannot be written as asked."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """Name."""
    variable: Variable
    """What the schema says of it."""
    labels: tuple[object, ...] = ()
    """Of a column of several values a row, what each is; none: one value a row."""
    needs: tuple[str, ...] = ()
    """Variables of the Dataset that it is made of; none: the one of its name."""
    make: Callable[[Mapping[str, Values]], Values] | None = None
    """Makes its values from theirs; None: they are its values."""

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        return self.variable.dtype == "str"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one value; an object's for text."""
        return np.dtype(object) if self.is_text else np.dtype(self.variable.dtype)

    @property
    def size(self) -> int:
        """Values a row."""
        return max(1, len(self.labels))

    @property
    def sources(self) -> tuple[str, ...]:
        """Variables of the Dataset that are read for it."""
        return self.needs or (self.name,)

    @property
    def description(self) -> str:
        """What it is, in words; with the names of its bits, and of the values of a row."""
        said = self.variable.long_name
        if self.variable.bits is not None:
            names = ", ".join(f"{bit.value} {bit.name}" for bit in self.variable.bits if bit.value)
            said = f"{said.partition('; see')[0]}: {names}"
        if self.labels:
            said = f"{said}; {self.variable.dims[1]} {', '.join(map(str, self.labels))}"
        return said

    def values(self, block: Mapping[str, Values]) -> Values:
        """Its values, shape (row,) or (row, label), of a block of the Dataset's variables."""
        return block[self.name] if self.make is None else self.make(block)


def columns_of(rows: xr.Dataset, variables: Mapping[str, Variable]) -> tuple[Column, ...]:
    """Columns that are variables of a Dataset, in their order.

    Raises
    ------
    ExportError
        If the Dataset lacks one.
    """
    missing = [name for name in variables if name not in rows.variables]
    if missing:
        raise ExportError(
            f"these rows lack {', '.join(missing)}; export a catalog, fits or stars as they are opened, or rows of them"
        )
    return tuple(Column(name, variable, _labels(rows, name)) for name, variable in variables.items())


def _labels(rows: xr.Dataset, name: str) -> tuple[object, ...]:
    """Labels of the values that a variable has a row."""
    dims = rows[name].dims[1:]
    if not dims:
        return ()
    if len(dims) > 1:
        raise ExportError(f"{name} has {len(dims) + 1} dimensions; a table's column has two at most")
    dim = dims[0]
    return tuple(rows[dim].values.tolist()) if dim in rows.coords else tuple(range(rows.sizes[dim]))


def select(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Columns by their names, in the order of these.

    Raises
    ------
    ExportError
        If there is no such column, saying which are alike, or a name is there twice.
    """
    import difflib

    known = {column.name: column for column in columns}
    for number, name in enumerate(names):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            did = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
            raise ExportError(f"there is no column {name!r}; {did}")
        if name in names[:number]:
            raise ExportError(f"the column {name!r} is asked for twice; name it once")
    if not names:
        raise ExportError("no column is asked for; name one a line")
    return tuple(known[name] for name in names)
