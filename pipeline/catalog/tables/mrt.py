"""A table as text of fixed columns, which the AAS calls machine-readable, and the CDS keeps with a ReadMe.

Numbers stand with as many digits as tell the stored value, and no more. Columns are as wide as their widest entry, so
that the rows are read twice.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.catalog.tables import whole
from twinlines.pipeline.catalog.tables.columns import Column
from twinlines.pipeline.catalog.tables.fits import ascii_bytes
from twinlines.pipeline.catalog.tables.table import Block, Table
from twinlines.pipeline.catalog.tables.units import cds
from twinlines.pipeline.catalog.tables.votable import HEX_DIGITS, hexadecimal

README, DATA = "ReadMe", "table.dat"
"""Files of a table for the CDS."""

_PIECE_ROWS = 8192
_LINE = 80
_RULE = "-" * _LINE
_BANNER = "=" * _LINE


@dataclass(frozen=True)
class Field:
    """One value a row."""

    column: Column
    """Column that it is of."""
    element: int | None
    """Which of the values of a row; None where there is one."""
    width: int = 1
    """Characters."""
    decimals: int = 0
    """Digits behind the point."""
    exponent: bool = False
    """Whether an entry has an exponent."""
    blank: bool = False
    """Whether an entry is missing."""

    @property
    def label(self) -> str:
        """Name of the field: the column's, and of several values a row the letter and label of its own."""
        if self.element is None:
            return self.column.name
        return f"{self.column.name}_p{self.column.labels[self.element]}"

    @property
    def format(self) -> str:
        """Fortran's format."""
        if self.column.is_text or self.column.dtype == np.uint64:
            return f"A{self.width}"
        if self.column.dtype.kind == "f":
            return f"{'E' if self.exponent else 'F'}{self.width}.{self.decimals}"
        return f"I{self.width}"

    @property
    def explanation(self) -> str:
        """What it is."""
        said = self.column.description
        if self.element is not None:
            said = (
                f"{self.column.variable.long_name}; {self.column.variable.dims[1]} {self.column.labels[self.element]}"
            )
        if self.column.dtype == np.uint64:
            said = f"{said}; {HEX_DIGITS} hexadecimal digits"
        if self.column.dtype.kind == "b":
            said = f"{said}; 1 true, 0 false"
        return f"? {said}" if self.blank else said

    def texts(self, block: Block) -> Any:
        """Its entries as Arrow's text, (row,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values = block[self.column.name]
        if self.element is not None:
            values = values[:, self.element]
        if self.column.is_text:
            return pa.array(ascii_bytes(values, 1 + max(map(len, set(values.tolist())), default=0)).astype(str))
        if self.column.dtype == np.uint64:
            return pa.array(hexadecimal(values).astype(str))
        if self.column.dtype.kind == "b":
            values = values.astype(np.int8)
        plain = np.ascontiguousarray(values)
        texts = pc.cast(pa.array(plain), pa.string())
        if plain.dtype.kind == "f":  # NaN, and what no fixed column can say
            texts = pc.if_else(pa.array(np.isfinite(plain)), texts, "")
            # Fortran would take an entry without a point for one that has lost it.
            texts = pc.replace_substring_regex(texts, r"^(-?\d+)(e.*)?$", r"\1.0\2")
        return texts

    def fitted(self, texts: Any) -> Field:
        """The field as wide as these entries need, too."""
        import pyarrow.compute as pc

        width = max(self.width, pc.max(pc.utf8_length(texts)).as_py() or 0)
        if self.column.dtype.kind != "f":
            return replace(self, width=width, blank=self.blank or (self.column.is_text and _any(pc.equal(texts, ""))))
        mantissa = pc.replace_substring_regex(texts, "e.*$", "")
        point = pc.find_substring(mantissa, ".")
        behind = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(mantissa), point), 1))
        return replace(
            self,
            width=width,
            decimals=max(self.decimals, pc.max(behind).as_py() or 0),
            exponent=self.exponent or _any(pc.match_substring(texts, "e")),
            blank=self.blank or _any(pc.equal(texts, "")),
        )


def _any(truths: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(truths).as_py())


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as the AAS has it: one file, the description of its bytes first.

    Raises
    ------
    ExportError
        If it cannot be written wholly.
    """
    fields = _fields(table)
    with whole.file(path, overwrite=overwrite) as aside, aside.open("wb") as file:
        head = [f"Title: {table.title}", f"Authors: {table.provenance.get('written_by')}", f"Table: {table.title}"]
        lines = [*head, _BANNER, *_description(path.name, fields), *_notes(table), _RULE]
        file.write("".join(f"{line}\n" for line in lines).encode("ascii", "replace"))
        _write_rows(file, table, fields)


def write_cds(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as the CDS has it: a folder with the rows, and a ReadMe that describes them.

    Raises
    ------
    ExportError
        If it cannot be written wholly.
    """
    fields = _fields(table)
    with whole.folder(path, overwrite=overwrite, mark=README) as aside:
        with (aside / DATA).open("wb") as file:
            _write_rows(file, table, fields)
        length = sum(field.width + 1 for field in fields) - 1
        summary = [
            "File Summary:",
            _RULE,
            " FileName      Lrecl  Records   Explanations",
            _RULE,
            f"{README:<12} {_LINE:>7} {'.':>8}   This file",
            f"{DATA:<12} {length:>7} {len(table):>8}   The rows",
            _RULE,
            "",
        ]
        by = f"     {table.provenance.get('written_by')}"
        lines = [table.title, _BANNER, table.title, by, _BANNER, "", *summary, *_description(DATA, fields)]
        lines += ["", *_notes(table), _BANNER]
        (aside / README).write_bytes("".join(f"{line}\n" for line in lines).encode("ascii", "replace"))


def _fields(table: Table) -> list[Field]:
    """The fields of a table, as wide as its rows need."""
    fields = [
        Field(column, element)
        for column in table.columns
        for element in (range(column.size) if column.labels else [None])
    ]
    for block in _pieces(table):
        fields = [field.fitted(field.texts(block)) for field in fields]
    return fields


def _pieces(table: Table) -> Iterator[Block]:
    """Blocks of a table's rows, cut smaller: text takes more room than numbers."""
    for block in table.blocks():
        rows = len(block[table.columns[0].name])
        for start in range(0, rows, _PIECE_ROWS):
            yield {name: values[start : start + _PIECE_ROWS] for name, values in block.items()}


def _description(name: str, fields: list[Field]) -> Iterator[str]:
    """Byte by byte, what stands in a line."""
    total = sum(field.width + 1 for field in fields) - 1
    digits = len(str(total))
    formats = max(6, *(len(field.format) for field in fields))
    units = max(5, *(len(cds(field.column.variable.units)) for field in fields))
    labels = max(5, *(len(field.label) for field in fields))
    yield f"Byte-by-byte Description of file: {name}"
    yield _RULE
    yield f" {'Bytes':>{2 * digits + 1}} {'Format':<{formats}} {'Units':<{units}} {'Label':<{labels}} Explanations"
    yield _RULE
    start = 1
    for field in fields:
        stop = start + field.width - 1
        span = f"{start:>{digits}}-{stop:>{digits}}" if stop > start else f"{start:>{2 * digits + 1}}"
        unit = cds(field.column.variable.units)
        head = f" {span} {field.format:<{formats}} {unit:<{units}} {field.label:<{labels}} "
        first, *more = textwrap.wrap(field.explanation, max(_LINE - len(head), 30))
        yield head + first
        yield from (" " * (len(head) + 2) + line for line in more)
        start = stop + 2
    yield _RULE


def _notes(table: Table) -> Iterator[str]:
    """Provenance, a note for each thing."""
    for entry in table.provenance:
        yield from textwrap.wrap(f"Note: {entry.name} = {entry.value}", _LINE - 2, subsequent_indent="    ")


def _write_rows(file: BinaryIO, table: Table, fields: list[Field]) -> None:
    import pyarrow.compute as pc

    for block in _pieces(table):
        columns: list[NDArray[np.uint8]] = []
        for field in fields:
            pad = pc.ascii_rpad if field.format.startswith("A") else pc.ascii_lpad
            padded = pad(field.texts(block), width=field.width)
            data = np.frombuffer(padded.buffers()[2], np.uint8, field.width * len(padded))
            columns.append(data.reshape(len(padded), field.width))
        blank = np.full((len(columns[0]), 1), ord(" "), np.uint8)
        line = [part for column in columns for part in (column, blank)]
        line[-1] = np.full_like(blank, ord("\n"))
        file.write(np.concatenate(line, axis=1).tobytes())
