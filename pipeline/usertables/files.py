"""Files of tables: FITS, VOTable, Parquet, CSV, ECSV, and machine-readable text of CDS and the AAS."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Column, MaskedColumn, Table

FORMATS = "FITS, ECSV, CSV, VOTable, Parquet or machine-readable file"
"""What is read, for people."""

_TEXT = (".txt", ".dat", ".mrt", ".tsv", ".cds", ".tbl")
_PARQUET = (".parquet", ".parq", ".pq")


class UserTableError(ValueError):
    """A table cannot be used."""


def read_table(path: Path, what: str, refused: type[Exception] = UserTableError) -> Table:
    """Read a table by the ending of its name; what is not known here by its ending, as astropy knows it.

    A CSV file may begin with lines of comments, by #.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, for errors.
    refused
        What is raised.

    Raises
    ------
    UserTableError
        Or whatever ``refused`` is: if there is no such file, or it is no table.
    """
    if not path.is_file():
        raise refused(f"there is no table of {what} {path}; give a {FORMATS}")
    name = path.name.lower().removesuffix(".gz")
    ways: tuple[Callable[[Path], Table], ...] = (Table.read,)
    if name.endswith(".csv"):
        # Comments of catalogs' own begin with #; a header that is one, as topcat writes, is not read so.
        ways = partial(Table.read, format="ascii.csv", comment="#"), partial(Table.read, format="ascii.csv")
    elif name.endswith(_TEXT):
        ways = tuple(partial(Table.read, format=format_) for format_ in ("ascii.mrt", "ascii.cds", "ascii"))
    elif name.endswith(_PARQUET):
        ways = (_read_parquet,)
    complaint = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units that astropy does not know are refused later, if they matter
        for way in ways:
            try:
                return way(path)
            except Exception as error:  # readers raise whatever their formats' parsers do
                complaint = complaint or (str(error).splitlines() or [repr(error)])[0]
    raise refused(f"{path} cannot be read as a table ({complaint}); give a {FORMATS}, with the ending of its format")


def _read_parquet(path: Path) -> Table:
    """Read a Parquet file; astropy's own reader knows no missing text, and makes floats of integers with missing ones.

    Units are those of columns' metadata, as VOParquet has them, or of astropy's header.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = pq.read_table(path)
    header = _header_of((stored.schema.metadata or {}).get(b"table_meta_yaml", b""))
    table = Table()
    for field, column in zip(stored.schema, stored.columns, strict=True):
        missing = np.asarray(column.is_null())
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type):
            values = column.fill_null(False if pa.types.is_boolean(field.type) else 0).to_numpy()
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            values = np.array(["" if value is None else value for value in column.to_pylist()], np.str_)
        else:
            values = np.empty(len(column), np.object_)
            values[:] = column.to_pylist()
        unit = (field.metadata or {}).get(b"unit", b"").decode() or header.get(field.name)
        kind = MaskedColumn if missing.any() else Column
        table[field.name] = kind(values, unit=unit, **({"mask": missing} if missing.any() else {}))
    return table


def _header_of(text: bytes) -> dict[str, str]:
    """Units by column, of the header that astropy writes into Parquet files."""
    from astropy.table import meta

    if not text:
        return {}
    columns = meta.get_header_from_yaml(text.decode().splitlines())["datatype"]
    return {column["name"]: column["unit"] for column in columns if "unit" in column}
