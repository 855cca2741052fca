"""Ordinary FITS files, read from their bytes: all extensions of one, or nothing where anything in it is unusual.

The survey's files are of one kind: headers of plain cards, tables of plain numbers, nothing scaled or packed. Of such a
file, cfitsio says nothing that does not stand in its bytes, and takes longer to say it than the file takes to inflate.
What is read here is what cfitsio would read, bit for bit; where that is not beyond doubt, the answer is None, and
cfitsio is asked. Judges nothing: whatever is wrong with a file is unusual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.lamost.cards import ordinary_value
from twinlines.pipeline.lamost.layout import BLOCK, CARD, HeaderValue

_END = b"END".ljust(CARD)
_MOST_HEADER = 20 * BLOCK  # bytes
_MOST_EXTENSIONS = 500
_MOST_COLUMNS = 50
_PRIMARY = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND")
_TABLE = ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS")
_MANDATORY = {*_PRIMARY, *_TABLE}
_COMMENTS = {b"", b"COMMENT", b"HISTORY"}
_COMMENT = ("", "")
_KEYWORD = re.compile(rb"[A-Z][A-Z0-9_-]*")
# What changes how data are read, names an extension otherwise, goes on in the next card, or vouches for the bytes; and
# what tables say of their columns besides name and form.
_UNUSUAL = re.compile(
    rb"Z|HDU|EXTVER|EXTLEVEL|BSCALE|BZERO|BLANK|NAXIS(?![12]?$)|GROUPS|THEAP|T(?!TYPE|FORM)[A-Z]+\d+$"
    rb"|CONTINUE|LONGSTRN|HIERARCH|INHERIT|CHECKSUM|DATASUM|END$"
)
_EXTNAME = re.compile(r"(?:[A-Za-z0-9_+-]+(?: [A-Za-z0-9_+-]+)*)?")
_COLUMN = re.compile(r"[A-Z][A-Z0-9_]*")
_FORM = re.compile(r"([1-9]\d{0,6})?([DEIJ])")
_KINDS = {"D": ">f8", "E": ">f4", "I": ">i2", "J": ">i4"}


@dataclass(frozen=True)
class OrdinaryExtension:
    """An extension, or the primary header, which has no data."""

    name: str
    """Its EXTNAME; empty if it has none."""
    header: Mapping[str, HeaderValue]
    """The wanted keywords that it has, and their values."""
    rows: NDArray[np.void] | None
    """(row,) of its table, fields in the order of its columns, big-endian; None of the primary header."""

    @property
    def kind(self) -> str:
        """What it is, in cfitsio's words."""
        return "IMAGE_HDU" if self.rows is None else "BINARY_TBL"

    @property
    def columns(self) -> Sequence[str]:
        """Names of its columns."""
        return () if self.rows is None else self.rows.dtype.names or ()

    def read(self, columns: Sequence[str]) -> Mapping[str, NDArray[np.generic]]:
        """Columns by name: (row,) each, or (row, pixel) of vectors."""
        assert self.rows is not None
        return {name: self.rows[name] for name in columns}


def extensions(content: bytes, wanted: Iterable[str]) -> list[OrdinaryExtension] | None:
    """Read all of a file, or nothing: None unless all of it is ordinary, to the last byte.

    Parameters
    ----------
    content
        The file, unpacked.
    wanted
        Keywords whose values are wanted.
    """
    keys, found, start = tuple(wanted), list[OrdinaryExtension](), 0
    while start < len(content):
        header = _header(content, start)
        if header is None or len(found) == _MOST_EXTENSIONS:
            return None
        values, start = header
        rows = None
        if found:
            rows = _table(content, values, start)
            if rows is None:
                return None
            end = start + rows.nbytes
            start = _whole_blocks(end)
            if content[end:start].strip(b"\0"):
                return None
        elif not _is_primary(values):
            return None
        name = values.get("EXTNAME", "")
        if not isinstance(name, str) or not _EXTNAME.fullmatch(name):
            return None
        found.append(OrdinaryExtension(name, {key: values[key] for key in keys if key in values}, rows))
    return found


def _whole_blocks(size: int) -> int:
    return size + -size % BLOCK


def _header(content: bytes, start: int) -> tuple[dict[str, HeaderValue], int] | None:
    """Values of the header that begins at a byte, in their order, all comments as one; and where its data begin."""
    end = content.find(_END, start, start + _MOST_HEADER)
    stop = _whole_blocks(end + CARD)
    if end < 0 or (end - start) % CARD or stop > len(content) or content[end + CARD : stop].strip(b" "):
        return None
    values: dict[str, HeaderValue] = {}
    for place in range(start, end, CARD):
        card = _card(content[place : place + CARD])
        if card is None or (card[0] in values and card is not _COMMENT):
            return None
        values[card[0]] = card[1]
    return values, stop


@lru_cache(maxsize=4096)  # most cards of a survey's headers are the same in all files
def _card(card: bytes) -> tuple[str, HeaderValue] | None:
    """Keyword and value of a card; of a comment, both are empty."""
    if not card.isascii() or not card.decode("ascii").isprintable():
        return None
    key = card[:8].rstrip()
    if key in _COMMENTS:
        return _COMMENT
    if card[8:10] != b"= " or not _KEYWORD.fullmatch(key) or _UNUSUAL.match(key):
        return None
    name, value = key.decode("ascii"), ordinary_value(card)
    if value is None or (name in _MANDATORY and card[10:30] != _fixed(value)):
        return None
    return name, value


def _fixed(value: HeaderValue) -> bytes:
    """How a value looks in the fixed format, which is due to mandatory keywords: cfitsio reads some others, not all."""
    if isinstance(value, str):
        return f"'{value:8}'".ljust(20).encode("ascii")
    return ("FT"[value] if isinstance(value, bool) else f"{value}").rjust(20).encode("ascii")


def _is_primary(values: Mapping[str, HeaderValue]) -> bool:
    """Whether a header is a primary one without data."""
    first = tuple(values)[: len(_PRIMARY)] == _PRIMARY and values["SIMPLE"] is True and values["EXTEND"] is True
    return (
        first
        and _whole_numbers(values, ("BITPIX", "NAXIS"))
        and values["BITPIX"] in (8, 16, 32, -32, -64)
        and values["NAXIS"] == 0
        and not any(key in values for key in ("XTENSION", *_TABLE[3:]))
        and not _of_columns(values)
    )


def _table(content: bytes, values: Mapping[str, HeaderValue], start: int) -> NDArray[np.void] | None:
    """The table whose header has these values, and whose data begin at a byte."""
    if tuple(values)[: len(_TABLE)] != _TABLE or "SIMPLE" in values or not _whole_numbers(values, _TABLE[1:]):
        return None
    form, bits, axes, width, rows, heap, groups, fields = (values[key] for key in _TABLE)
    if (form, bits, axes, heap, groups) != ("BINTABLE", 8, 2, 0, 1):
        return None
    assert isinstance(width, int)
    assert isinstance(rows, int)
    assert isinstance(fields, int)
    if rows < 1 or not 1 <= fields <= _MOST_COLUMNS or _of_columns(values) != 2 * fields:
        return None
    record = _record(*(tuple(values.get(f"{key}{n}") for n in range(1, fields + 1)) for key in ("TTYPE", "TFORM")))
    if record is None or record.itemsize != width or _whole_blocks(start + rows * width) > len(content):
        return None
    return np.frombuffer(content, record, rows, start)


def _whole_numbers(values: Mapping[str, HeaderValue], keys: Iterable[str]) -> bool:
    return all(type(values[key]) is int for key in keys)  # T is none


def _of_columns(values: Mapping[str, HeaderValue]) -> int:
    """How many keywords there are of columns."""
    return sum(key.startswith(("TTYPE", "TFORM")) for key in values)


@lru_cache(maxsize=256)
def _record(names: tuple[HeaderValue | None, ...], forms: tuple[HeaderValue | None, ...]) -> np.dtype[np.void] | None:
    """Dtype of the rows of a table."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for name, form in zip(names, forms, strict=True):
        if not isinstance(name, str) or not isinstance(form, str) or not _COLUMN.fullmatch(name):
            return None
        match = _FORM.fullmatch(form)
        if match is None:
            return None
        count, kind = int(match[1] or 1), _KINDS[match[2]]
        fields.append((name, kind) if count == 1 else (name, kind, (count,)))
    return np.dtype(fields) if len(set(names)) == len(names) else None
