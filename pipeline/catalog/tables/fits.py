"""A table as FITS, plain or gzipped: a binary table with units, UCDs and descriptions, written through cfitsio."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fitsio
import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from twinlines.pipeline.catalog.tables import whole
from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.catalog.tables.table import Block, Table

_FITS_BLOCK = 2880
_FRAME = (
    ("RADESYS", "FK5", "frame of ra and dec"),
    ("EQUINOX", 2000.0, "equinox of ra and dec"),
    ("TIMESYS", "TDB", "time scale of Barycentric Julian dates"),
)


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as FITS; text that is no ASCII becomes question marks.

    Raises
    ------
    ExportError
        If it cannot be written wholly.
    """
    suffix = ".fits.gz" if path.name.endswith(".gz") else ".fits"
    with whole.file(path, overwrite=overwrite, suffix=suffix) as aside:
        with _plain_name(aside) as name, fitsio.FITS(name, "rw") as fits:
            units = [column.variable.units for column in table.columns]
            fits.write(_records(None, table), extname="TWINLINES", units=units, header=_header(table))
            for block in table.blocks():
                fits[1].append(_records(block, table))
        _check_whole(path, aside)


@contextmanager
def _plain_name(path: Path) -> Iterator[str]:
    """Name of a file, of letters that mean nothing to cfitsio.

    It takes brackets and parentheses in a name for its own syntax and writes another file: it is given a link to the
    folder, and a name of ours.
    """
    with tempfile.TemporaryDirectory(prefix="twinlines-") as scratch:
        there = Path(scratch) / "there"
        there.symlink_to(path.parent, target_is_directory=True)
        yield str(there / path.name)


def _header(table: Table) -> list[dict[str, object]]:
    cards: list[dict[str, object]] = []
    for number, column in enumerate(table.columns, start=1):
        cards.append({"name": f"TUCD{number}", "value": column.variable.ucd, "comment": ""})
        cards.append({"name": f"TCOMM{number}", "value": _ascii(column.description), "comment": ""})
    cards += [{"name": name, "value": value, "comment": comment} for name, value, comment in _FRAME]
    for entry in table.provenance:
        if entry.keyword:
            value = int(entry.value) if entry.name in ("rows_in", "rows_out") else _ascii(entry.value)
            cards.append({"name": entry.keyword, "value": value, "comment": entry.meaning})
        else:
            cards.append({"name": "HISTORY", "value": _ascii(f"{entry.name} = {entry.value}")})
    return cards


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _records(block: Block | None, table: Table) -> NDArray[np.void]:
    """Rows as a structured array in the columns' names, order and formats; none of a table without a block."""
    fields = [
        (column.name, f"S{table.widths[column.name]}" if column.is_text else column.dtype.str)
        if not column.labels
        else (column.name, column.dtype.str, (column.size,))
        for column in table.columns
    ]
    rows = 0 if block is None else len(block[table.columns[0].name])
    records = np.empty(rows, dtype=fields)
    for column in table.columns if block is not None else ():
        values = block[column.name]  # type: ignore[index]
        records[column.name] = ascii_bytes(values, table.widths[column.name]) if column.is_text else values
    return records


def ascii_bytes(texts: NDArray[np.generic], width: int) -> NDArray[np.bytes_]:
    """Texts, (row,), as bytes of one width; what is no ASCII becomes question marks."""
    distinct, place = np.unique(np.asarray(texts, object), return_inverse=True)
    return np.array([text.encode("ascii", "replace") for text in distinct.tolist()], dtype=f"S{width}")[place]


def _check_whole(path: Path, written: Path) -> None:
    """Refuse a file that is shorter than its headers say: cfitsio keeps a full disk to itself."""
    last = b""
    reader = gzip.open if written.suffix == ".gz" else Path.open
    # ValueError and KeyError: what astropy says of half a header.
    with suppress(OSError, EOFError, ValueError, KeyError), reader(written, "rb") as file:
        Header.fromfile(file)
        table = Header.fromfile(file)
        size = table["NAXIS1"] * table["NAXIS2"]
        file.seek(file.tell() + -(-size // _FITS_BLOCK) * _FITS_BLOCK - 1)
        last = file.read(1)
    if not last:
        raise ExportError(f"{path} could not be written wholly; make room on the disk and export again")
