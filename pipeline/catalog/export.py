"""A catalog as a table: the columns of Table 4 of Zhang et al. (2022), in its names, order and units, or others.

What the columns are is decided here; how each format has them, in :mod:`twinlines.pipeline.catalog.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.catalog.tables.columns import Column, ExportError, Values, columns_of, select
from twinlines.pipeline.catalog.tables.formats import FORMATS, Format, guess
from twinlines.pipeline.catalog.tables.table import Table
from twinlines.pipeline.schema import BANDS, CATALOG, TABLE4, Quality, Variable, of_exposure

__all__ = ["Columns", "ExportError", "export", "read_names", "write"]

Columns = str | Sequence[str]
"""Which columns a table has: "table4", "all", or their names."""


def export(
    catalog: xr.Dataset,
    path: Path,
    *,
    columns: Columns = "table4",
    format: str | None = None,  # noqa: A002 (the word for it)
    overwrite: bool = False,
) -> int:
    """Write the rows of a catalog as a table, and return their number.

    Text columns are as wide as their longest entry. Rows are streamed, so a catalog of any size needs the memory of one
    block.

    Parameters
    ----------
    catalog
        A catalog, or rows of one, or results.
    path
        File, or folder, to write.
    columns
        "table4" for the paper's 34; "all" for these and what else the catalog has of
        :data:`twinlines.pipeline.schema.CATALOG`, quality bits and hashes as integers, and, for tables' users who know
        no bits, ``unfamiliar_B`` and ``unfamiliar_R``; or names of some of these, in the order in which they are
        wanted.
    format
        One of :data:`twinlines.pipeline.catalog.tables.formats.FORMATS`; by default as the name of the file ends.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    ExportError
        If ``columns`` is none of these, there is no such format, ``path`` exists and ``overwrite`` is not set, its
        folder does not exist, or it could not be written wholly.
    """
    if isinstance(columns, str) and columns not in ("table4", "all"):
        raise ExportError(f"columns is {columns!r}; give 'table4' (the paper's 34), 'all', or a list of names")
    chosen = columns_of(catalog, {name: TABLE4[name] for name in TABLE4}) if columns == "table4" else _every(catalog)
    if not isinstance(columns, str):
        chosen = select(chosen, list(columns))
    return write(catalog, path, chosen, title=_title(catalog), format=format, overwrite=overwrite)


def write(
    rows: xr.Dataset,
    path: Path,
    columns: Sequence[Column] | Mapping[str, Variable],
    *,
    title: str,
    dim: str = "exposure",
    format: str | None = None,  # noqa: A002
    formats: Mapping[str, Format] = FORMATS,
    overwrite: bool = False,
) -> int:
    """Write columns of a Dataset as a table, in their order, and return the number of rows.

    Parameters
    ----------
    rows
        Where the values are; its attributes say where they come from.
    path
        File, or folder, to write.
    columns
        Columns; or variables of the Dataset, by name.
    title
        What the table is, in a few words.
    dim
        Dimension of the rows.
    format, overwrite
        As :func:`export`.
    formats
        The formats that there are.

    Raises
    ------
    ExportError
        As :func:`export`.
    """
    written_by = guess(path, format, formats).writer
    chosen = columns_of(rows, columns) if isinstance(columns, Mapping) else tuple(columns)
    table = Table(rows, dim, chosen, title)
    written_by(table, path, overwrite=overwrite)
    return len(table)


def read_names(path: Path) -> list[str]:
    """Names of columns that a file lists, one a line; what follows ``#`` is a remark.

    Raises
    ------
    ExportError
        If there is no such file of text, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as a list of columns, one a line ({error})") from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise ExportError(f"{path} names no column; it should have one a line")
    return names


def _every(catalog: xr.Dataset) -> tuple[Column, ...]:
    """All columns that rows of a catalog can have."""
    there = {name: variable for name, variable in CATALOG.variables.items() if name in catalog.variables}
    missing = [name for name in TABLE4 if name not in there]
    if missing:
        columns_of(catalog, TABLE4)  # says what is missing
    odd = tuple(_unfamiliar(arm) for arm in ARM_NAMES if f"quality_{arm}" in there)
    return columns_of(catalog, there) + odd


def _unfamiliar(arm: ArmName) -> Column:
    """Whether no star of the library, and no two, explain an arm's spectrum."""
    quality = f"quality_{arm}"
    what = of_exposure("bool", "", "Whether a quality has the bit UNFAMILIAR", f"meta.code.qual;{BANDS[arm]}")

    def make(block: Mapping[str, Values]) -> Values:
        return np.asarray((block[quality] & int(Quality.UNFAMILIAR)) > 0)

    return Column(f"unfamiliar_{arm}", what, needs=(quality,), make=make)


def _title(catalog: xr.Dataset) -> str:
    releases = catalog.attrs.get("releases") or []
    of = f" of {releases[-1]}" if releases else ""
    return f"Binary probabilities of exposures{of} by Twinlines"
