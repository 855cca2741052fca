"""A table as Parquet, with units, UCDs and descriptions as VOParquet has them: a VOTable in the metadata.

The IVOA's note "Parquet in the VO", version 1.0: the keys ``IVOA.VOTable-Parquet.*`` of the file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from twinlines.pipeline.catalog.tables import votable, whole
from twinlines.pipeline.catalog.tables.columns import Column, Values
from twinlines.pipeline.catalog.tables.table import Block, Table
from twinlines.pipeline.catalog.tables.units import vounit

COMPRESSION = "zstd"
"""How pages are compressed."""


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as Parquet, a block of rows a row group.

    Raises
    ------
    ExportError
        If it cannot be written wholly.
    """
    with whole.file(path, overwrite=overwrite) as aside:
        write_blocks(aside, schema_of(table), table, table.blocks())


def schema_of(table: Table) -> Any:
    """Arrow's schema of a table, with all that is said of it."""
    import pyarrow as pa

    fields = []
    for column in table.columns:
        about = {"description": column.description, "ucd": column.variable.ucd, "unit": vounit(column.variable.units)}
        fields.append(pa.field(column.name, _type(column), metadata={key: said for key, said in about.items() if said}))
    described = {
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.encoding": "utf-8",
        "IVOA.VOTable-Parquet.type": "Parquet-local-XML",
        "IVOA.VOTable-Parquet.content": "".join(votable.document(table, wide="long")).encode(errors="replace"),
        "twinlines.provenance": json.dumps({entry.name: entry.value for entry in table.provenance}),
    }
    lengths = {f"table::len::{name}": str(width) for name, width in table.widths.items()}  # what astropy asks for
    return pa.schema(fields, metadata={**described, **lengths})


def write_blocks(path: Path, schema: Any, table: Table, blocks: Iterable[Block]) -> Any:
    """Write blocks of a table's rows into a Parquet file, and return its metadata.

    Parameters
    ----------
    path
        The file.
    schema
        What :func:`schema_of` made.
    table
        The table.
    blocks
        Blocks of its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression=COMPRESSION) as writer:
        for block in blocks:
            arrays = [_array(column, block[column.name]) for column in table.columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return pq.read_metadata(path)


def _type(column: Column) -> Any:
    import pyarrow as pa

    kind = pa.string() if column.is_text else pa.from_numpy_dtype(column.dtype)
    return pa.list_(kind, column.size) if column.labels else kind


def _array(column: Column, values: Values) -> Any:
    import pyarrow as pa

    if column.is_text:
        return pa.array(values.tolist(), pa.string())
    if column.labels:
        flat = pa.array(np.ascontiguousarray(values).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, column.size)
    return pa.array(np.ascontiguousarray(values))
