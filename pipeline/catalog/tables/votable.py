"""A table as VOTable 1.4: XML with units, UCDs, descriptions, frames and provenance; rows as BINARY2, streamed.

The same document without rows describes a Parquet file's columns, as the IVOA's note on Parquet (VOParquet) has it.
"""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from twinlines.pipeline.catalog.tables import whole
from twinlines.pipeline.catalog.tables.columns import Column, Values
from twinlines.pipeline.catalog.tables.fits import ascii_bytes
from twinlines.pipeline.catalog.tables.table import Block, Table
from twinlines.pipeline.catalog.tables.units import vounit

HEX_DIGITS = 16
"""Characters of a number of 64 bits without a sign, for which VOTable has no type: it is written as hexadecimal."""

_LINE = 57 * 1024  # bytes of a line of base64; a multiple of three
_TYPES = {
    "bool": "boolean",
    "uint8": "unsignedByte",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
    # Types that VOTable lacks: the next one that holds all of their values.
    "int8": "short",
    "uint16": "int",
    "uint32": "long",
}
_STORED = {"unsignedByte": "u1", "short": ">i2", "int": ">i4", "long": ">i8", "float": ">f4", "double": ">f8"}


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as VOTable; text that is no ASCII becomes question marks.

    Raises
    ------
    ExportError
        If it cannot be written wholly.
    """
    with whole.file(path, overwrite=overwrite) as aside, aside.open("wb") as file:
        head, tail = document(table, '<DATA><BINARY2><STREAM encoding="base64">\n', "</STREAM></BINARY2></DATA>\n")
        file.write(head.encode(errors="replace"))
        rest = b""
        for block in table.blocks():
            rest = _write_lines(file, rest + _rows(block, table))
        file.write(binascii.b2a_base64(rest) if rest else b"")
        file.write(tail.encode())


def document(table: Table, *data: str, wide: str = "char") -> tuple[str, str]:
    """The XML document of a table: what stands before its rows, and what after them.

    Parameters
    ----------
    table
        The table.
    data
        What stands around the rows; nothing, if they are elsewhere.
    wide
        VOTable's type of numbers of 64 bits without a sign: "char" for hexadecimal text.
    """
    before, after = data or ("", "")
    infos = "".join(
        f"<INFO name={quoteattr(entry.name)} value={quoteattr(entry.value)}>{escape(entry.meaning)}</INFO>\n"
        for entry in table.provenance
    )
    fields = "".join(_field(column, table, wide) for column in table.columns)
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f'<RESOURCE type="results">\n<DESCRIPTION>{escape(table.title)}</DESCRIPTION>\n{infos}'
        '<COOSYS ID="sky" system="eq_FK5" equinox="J2000"/>\n'
        '<TIMESYS ID="bjd" timeorigin="JD-origin" timescale="TDB" refposition="BARYCENTER"/>\n'
        f'<TABLE name="twinlines" nrows="{len(table)}">\n<DESCRIPTION>{escape(table.title)}</DESCRIPTION>\n'
        f"{fields}{before}"
    )
    return head, f"{after}</TABLE>\n</RESOURCE>\n</VOTABLE>\n"


def _field(column: Column, table: Table, wide: str) -> str:
    kind, size = _type(column, table, wide)
    attributes = {"name": column.name, "datatype": kind, "ucd": column.variable.ucd}
    if size:
        attributes["arraysize"] = size
    if column.variable.units:
        attributes["unit"] = vounit(column.variable.units)
    if column.variable.ucd.startswith("pos.eq"):
        attributes["ref"] = "sky"
    if column.variable.ucd.startswith("time.epoch"):
        attributes["ref"] = "bjd"
    said = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items() if value)
    description = column.description
    if column.dtype == np.uint64 and wide == "char":
        description += f"; {HEX_DIGITS} hexadecimal digits"
    return f"<FIELD {said}><DESCRIPTION>{escape(description)}</DESCRIPTION></FIELD>\n"


def _type(column: Column, table: Table, wide: str = "char") -> tuple[str, str]:
    """VOTable's type and size of a column."""
    if column.is_text:
        return "char", str(max(2, table.widths[column.name]))  # a size of 1 is no text, but one letter
    if column.dtype == np.uint64:
        return wide, str(HEX_DIGITS) if wide == "char" else ""
    return _TYPES[column.dtype.name], str(column.size) if column.labels else ""


def hexadecimal(values: Values) -> np.ndarray[tuple[int, ...], np.dtype[np.bytes_]]:
    """Numbers of 64 bits without a sign, (row,), as hexadecimal digits."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    data = np.ascontiguousarray(values, ">u8").view(np.uint8).reshape(-1, 8)
    both = np.stack([digits[data >> 4], digits[data & 15]], axis=-1)
    return both.reshape(-1, HEX_DIGITS).view(f"S{HEX_DIGITS}").ravel()


def _rows(block: Block, table: Table) -> bytes:
    """Rows as BINARY2 has them: bits of what is missing, of which there are none (NaN says so), then the values."""
    masks = -(-len(table.columns) // 8)
    fields: list[tuple[str, str, tuple[int, ...]]] = [("missing", "u1", (masks,))]
    values: dict[str, Values] = {}
    for column in table.columns:
        name, shape = column.name, (column.size,) if column.labels else ()
        kind, size = _type(column, table)
        data = block[name]
        if kind == "char":
            data = ascii_bytes(data, int(size)) if column.is_text else hexadecimal(data)
            stored = f"S{size}"
        elif kind == "boolean":
            data, stored = np.where(data, b"T", b"F"), "S1"
        else:
            stored = _STORED[kind]
        values[name] = data
        fields.append((name, stored, shape))
    records = np.zeros(len(block[table.columns[0].name]), fields)
    for name, data in values.items():
        records[name] = data
    return records.tobytes()


def _write_lines(file: BinaryIO, data: bytes) -> bytes:
    """Write whole lines of base64; returns the bytes that are left."""
    last = len(data) - len(data) % _LINE
    for start in range(0, last, _LINE):
        file.write(binascii.b2a_base64(data[start : start + _LINE]))
    return data[last:]
