"""A table as a HATS catalog: Parquet files by the part of the sky that they hold, which hats and lsdb open.

Parts are split until none has more than :data:`MAXIMUM_ROWS`. Rows stand in the order of their HEALPix index, which is
the first column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twinlines.pipeline.catalog.tables import parquet, whole
from twinlines.pipeline.catalog.tables.cells import Counts, count, index_column, indices
from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.catalog.tables.table import Table
from twinlines.pipeline.schema import HEALPIX_ORDER

MAXIMUM_ROWS = 1_000_000
"""Rows of a part, if its sky can be split."""

FINEST = 12
"""Order beyond which no part is split: cells of 0.9 arcmin."""

PROPERTIES = "hats.properties"
"""File that says what a HATS catalog is."""

_INDEX = "_healpix_29"
_FOLDER_PARTS = 10_000  # parts of one folder


@dataclass(frozen=True)
class Part:
    """One file: a cell of the sky, and its rows."""

    order: int
    """HEALPix order of the cell."""
    cell: int
    """Number of the cell, nested."""
    start: int
    """First row, in the order of the index."""
    stop: int
    """Row after the last."""

    @property
    def path(self) -> str:
        """Where it is, within the data set."""
        folder = self.cell // _FOLDER_PARTS * _FOLDER_PARTS
        return f"Norder={self.order}/Dir={folder}/Npix={self.cell}.parquet"


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write a table as a HATS catalog, a folder.

    Raises
    ------
    ExportError
        If it has no positions, or a row has none, or no rows; or it cannot be written wholly.
    """
    lacking = [name for name in ("ra", "dec") if name not in {column.name for column in table.columns}]
    if lacking:
        raise ExportError(f"HATS files rows by position, and the columns lack {' and '.join(lacking)}; ask for them")
    if not len(table):
        raise ExportError(f"{path}: HATS has no way of saying that a catalog is empty; choose another format")
    counts = count(table, FINEST)
    if counts.without:
        raise ExportError(
            f"{path}: {counts.without} of {len(table)} rows have no position, and HATS files rows by it: none is left "
            "out silently; choose another format, or leave them out first"
        )
    order = None if counts.ascending else np.argsort(np.concatenate(list(indices(table))), kind="stable")
    import pyarrow.parquet as pq

    table = replace(table, columns=(index_column(table.rows, _INDEX), *table.columns))
    schema = parquet.schema_of(table)
    with whole.folder(path, overwrite=overwrite, mark=PROPERTIES) as aside:
        data, collected = aside / "dataset", []
        every = parts(counts)
        for part in every:
            file = data / part.path
            file.parent.mkdir(parents=True, exist_ok=True)
            blocks = table.blocks(part.start, part.stop, order=order)
            metadata = parquet.write_blocks(file, schema, table, blocks)
            metadata.set_file_path(part.path)
            collected.append(metadata)
        pq.write_metadata(schema, data / "_common_metadata")
        pq.write_metadata(schema, data / "_metadata", metadata_collector=collected)
        rows = "".join(f"{part.order},{part.cell}\n" for part in every)
        (aside / "partition_info.csv").write_text(f"Norder,Npix\n{rows}")
        size = sum(file.stat().st_size for file in data.rglob("*.parquet"))
        text = _properties(table, every, size)
        (aside / "properties").write_text(text)
        (aside / PROPERTIES).write_text(text)


def parts(counts: Counts) -> list[Part]:
    """Cells of the sky, as large as have no more than :data:`MAXIMUM_ROWS`, in the order of the index.

    Parameters
    ----------
    counts
        Rows of each small cell.
    """
    before = np.concatenate([[0], np.cumsum(counts.rows)])
    made: list[Part] = []

    def split(order: int, cell: int) -> None:
        scale = 2 * (counts.order - order)
        low, high = np.searchsorted(counts.cells, [cell << scale, (cell + 1) << scale])
        start, stop = int(before[low]), int(before[high])
        if start == stop:
            return
        if stop - start <= MAXIMUM_ROWS or order == counts.order:
            made.append(Part(order, cell, start, stop))
            return
        for child in range(4 * cell, 4 * cell + 4):
            split(order + 1, child)

    for base in range(12):
        split(0, base)
    return made


def _properties(table: Table, every: list[Part], size: int) -> str:
    """What the catalog says of itself, a line each: ``key=value``."""
    said: dict[str, object] = {
        "obs_collection": "twinlines",
        "obs_title": table.title,
        "obs_regime": "Optical",
        "dataproduct_type": "object",
        "hats_nrows": len(table),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": _INDEX,
        "hats_col_healpix_order": HEALPIX_ORDER,
        "hats_max_rows": max(part.stop - part.start for part in every),
        "hats_order": max(part.order for part in every),
        "hats_npix_suffix": ".parquet",
        "hats_builder": table.provenance.get("written_by"),
        "hats_estsize": -(-size // 1024),
        "hats_version": "v1.0",
        "moc_sky_fraction": f"{sum(1.0 / (12 * 4**part.order) for part in every):.6g}",
    }
    said |= {f"twinlines_{entry.name}": entry.value for entry in table.provenance}
    return "#HATS catalog\n" + "".join(f"{key}={_escaped(str(value))}\n" for key, value in said.items())


def _escaped(value: str) -> str:
    """A value as Java's properties have it: ASCII, on one line."""
    text = value.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(letter if " " <= letter < "\x7f" else f"\\u{ord(letter):04x}" for letter in text)
