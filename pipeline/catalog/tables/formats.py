"""The formats that tables are written in: their names, the files' endings, and who writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.catalog.tables.table import Table


class Writer(Protocol):
    """What writes a table."""

    def __call__(self, table: Table, path: Path, *, overwrite: bool) -> None:
        """Write it, wholly or not at all."""


@dataclass(frozen=True)
class Format:
    """One format."""

    what: str
    """What it is, for people."""
    suffixes: tuple[str, ...]
    """Endings of the names by which it is known; none: it is asked for by name."""
    module: str
    """Module that writes it; imported when it is used."""
    function: str = "write"
    """Function of it."""

    @property
    def writer(self) -> Writer:
        """What writes it."""
        made: Writer = getattr(import_module(self.module), self.function)
        return made


_HERE = "twinlines.pipeline.catalog.tables"

FORMATS: Mapping[str, Format] = {
    "fits": Format("FITS binary table", (".fits", ".fits.gz"), f"{_HERE}.fits"),
    "votable": Format("VOTable 1.4, BINARY2", (".vot", ".votable", ".xml"), f"{_HERE}.votable"),
    "parquet": Format("Parquet with VOParquet's metadata", (".parquet", ".pq"), f"{_HERE}.parquet"),
    "hats": Format("HATS catalog, a folder, for hats and lsdb", (".hats",), f"{_HERE}.hats"),
    "mrt": Format("machine-readable table of the AAS, text", (".mrt",), f"{_HERE}.mrt"),
    "cds": Format("table and ReadMe of the CDS, a folder", (".cds",), f"{_HERE}.mrt", "write_cds"),
    "moc": Format("footprint as a MOC, in FITS", (".moc.fits", ".moc"), f"{_HERE}.moc"),
}
"""All formats by name."""


def guess(path: Path, name: str | None = None, formats: Mapping[str, Format] = FORMATS) -> Format:
    """The format of a file: by its name, or as asked for.

    Parameters
    ----------
    path
        The file.
    name
        Name of the format; None: the ending of the file's name says it.
    formats
        Those that there are.

    Raises
    ------
    ExportError
        If there is no such format, or no format has such an ending.
    """
    if name is not None:
        if name not in formats:
            raise ExportError(f"no format is called {name!r}; there are {', '.join(formats)}")
        return formats[name]
    ending = {suffix: format_ for format_ in formats.values() for suffix in format_.suffixes}
    for suffix in sorted(ending, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return ending[suffix]
    raise ExportError(
        f"{path} has no ending that says a format ({', '.join(ending)}); give it one, or say the format "
        f"({', '.join(formats)})"
    )
