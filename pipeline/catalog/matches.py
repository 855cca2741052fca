"""Pairs of a crossmatch as a table that joins to the other one by row: FITS, ECSV or CSV."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import astropy.table
import xarray as xr

from twinlines.pipeline.catalog.crossmatch import SkyMatch
from twinlines.pipeline.catalog.errors import CatalogError
from twinlines.pipeline.storage import atomic

FORMATS = {".fits": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
"""Formats by a file's ending, as astropy names them."""

COLUMNS = (
    *("obsid", "lmjm", "bjdmid", "ra", "dec", "snr_B", "snr_R", "rv_obs_B", "rv_obs_err_B", "rv_obs_R"),
    *("rv_obs_err_R", "quality_B", "quality_R"),
)
"""Columns of the exposures that are written, besides the probabilities."""

_PROBABILITIES = (("J", 50), ("B", 50), ("R", 50), ("B", 0), ("R", 0))


def table(match: SkyMatch, catalog: xr.Dataset, *, penalty: int = 16) -> astropy.table.Table:
    """Pairs with the other table's row, from 0, the separation, and what matters most of the exposure.

    Parameters
    ----------
    match
        The pairs.
    catalog
        The catalog that was matched.
    penalty
        Penalty of the probabilities, ``p50_J`` and others.

    Raises
    ------
    CatalogError
        If the catalog keeps no such penalty.
    """
    rows = match.rows(catalog)
    columns = {name: rows[name] for name in ("table_row", "separation", *COLUMNS)}
    columns |= {
        f"p{percentile}_{head}": rows.sb2.probability(head, penalty=penalty, percentile=percentile)
        for head, percentile in _PROBABILITIES
    }
    made = astropy.table.Table()
    for name, column in columns.items():
        unit, said = column.attrs.get("units") or None, column.attrs.get("long_name", "")
        made[name] = astropy.table.Column(column.values, unit=unit, description=said)
    return made


def check(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises
    ------
    CatalogError
        If its ending is of no known format, it exists and may not be replaced, or its folder does not exist.
    """
    if path.suffix not in FORMATS:
        raise CatalogError(f"{path} is named for no format that is known here; give one of {', '.join(FORMATS)}")
    if path.exists() and not overwrite:
        raise CatalogError(f"{path} exists already; choose another name or allow it to be overwritten (--overwrite)")
    if not path.parent.is_dir():
        raise CatalogError(f"there is no folder {path.parent} to write {path.name} in; make it first")


def write(made: astropy.table.Table, path: Path, *, overwrite: bool = False) -> None:
    """Write a table, whole or not at all.

    Raises
    ------
    CatalogError
        As :func:`check`.
    OSError
        If it cannot be written, as to a full disk.
    """
    check(path, overwrite=overwrite)
    partial = path.with_name(f".partial-{uuid4().hex}{path.suffix}")
    try:
        with atomic.naming(path):
            made.write(partial, format=FORMATS[path.suffix])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
