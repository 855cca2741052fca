"""The footprint of a table's rows as a MOC, the IVOA's multi-order coverage map, version 2.0, in FITS."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from twinlines.pipeline.catalog.tables import whole
from twinlines.pipeline.catalog.tables.cells import count
from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.catalog.tables.table import Table

ORDER = 11
"""HEALPix order of the smallest cells: 1.7 arcmin wide."""


def write(table: Table, path: Path, *, overwrite: bool) -> None:
    """Write which cells of order :data:`ORDER` have a row, in as few cells as say it.

    Raises
    ------
    ExportError
        If a row has no position, or the file cannot be written.
    """
    counts = count(table, ORDER)
    if counts.without:
        raise ExportError(
            f"{path}: {counts.without} of {len(table)} rows have no position, and a footprint is of all; "
            "leave them out first"
        )
    hdu = fits.BinTableHDU.from_columns([fits.Column("UNIQ", "K", array=uniq(counts.cells, ORDER))], name="MOC")
    hdu.header["TTYPE1"] = "UNIQ"
    for keyword, value, comment in (
        ("MOCVERS", "2.0", "version of MOC"),
        ("MOCDIM", "SPACE", "what is covered"),
        ("ORDERING", "NUNIQ", "how cells are numbered"),
        ("COORDSYS", "C", "equatorial (ICRS)"),
        ("MOCORD_S", ORDER, "order of the smallest cells"),
        ("MOCTOOL", table.provenance.get("written_by"), "what made it"),
    ):
        hdu.header[keyword] = (value, comment)
    for entry in table.provenance:
        hdu.header.add_history(f"{entry.name} = {entry.value}".encode("ascii", "replace").decode())
    content = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(content)
    with whole.file(path, overwrite=overwrite) as aside:
        aside.write_bytes(content.getvalue())


def uniq(cells: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Number cells, (cell,) ascending, of one order uniquely (4^(order + 1) + cell), four of one parent as that one.

    Returns
    -------
    NDArray
        Ascending.
    """
    parts: list[NDArray[np.int64]] = []
    while order > 0 and len(cells):
        parents, many = np.unique(cells >> 2, return_counts=True)
        full = parents[many == 4]
        parts.append(cells[~np.isin(cells >> 2, full)] + (1 << 2 * (order + 1)))
        cells, order = full, order - 1
    return np.sort(np.concatenate([*parts, cells + (1 << 2 * (order + 1))]))
