"""Folders of FITS spectra, one spectrum a file, as the user describes them once in a small TOML file.

    hdu = 1                     # a table with columns; or an image, whose header gives the wavelengths
    wavelength = "wave"         # column; left out: CRVAL1, CDELT1 (or CD1_1) and CRPIX1 of the image's header
    flux = "flux"               # column; left out: the image itself
    scale = "linear"            # what the column or the header holds: linear, log10 or ln
    unit = "angstrom"           # or nm, micron
    resolution = "R"            # header keyword with lambda / FWHM; left out: said on the command line
    csv = "labels.csv"          # beside the TOML, with a column "file"; left out: labels come from the headers

    [labels]                    # keyword of the header or column of the CSV; or a number, the same for all files
    teff = "TEFF"
    logg = "LOGG"
    feh = "FEH"
    alpha = 0.0

Header keywords are looked for in the HDU of the spectrum, then in the primary one. This module knows FITS and the
TOML; what the labels and the fluxes are good for is not its concern.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from twinlines.cluster import settings
from twinlines.cluster.settings import Reader, Unfit
from twinlines.pipeline.library.source import DECIMALS, Entry, LibraryImportError, Spectrum, label_name
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.storage import cfitsio

_ENDINGS = (".fits", ".fits.gz", ".fit", ".fit.gz")
_SCALES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda x: x,
    "log10": lambda x: 10.0**x,
    "ln": np.exp,
}
_ANGSTROM = {"angstrom": 1.0, "nm": 10.0, "micron": 1e4}


@dataclass(frozen=True)
class FolderConfig:
    """How the files of a folder are to be read."""

    labels: Mapping[str, str | float]
    """For each label, by our name (``teff`` in K, ``logg``, ``feh``, ``alpha`` in dex, or a further one): the header
    keyword or CSV column that holds it, or the value that all files share."""
    hdu: int = 0
    """Number of the HDU with the spectrum, from 0."""
    wavelength: str | None = None
    """Column with the wavelengths; None: the header's CRVAL1, CDELT1 or CD1_1, CRPIX1."""
    flux: str | None = None
    """Column with the flux per unit wavelength; None: the HDU is an image."""
    scale: str = "linear"
    """What the column or the header holds: wavelength ("linear"), its log10, or its natural logarithm ("ln")."""
    unit: str = "angstrom"
    """Unit of the wavelengths: "angstrom", "nm" or "micron"."""
    resolution: str | None = None
    """Header keyword with the resolving power lambda / FWHM."""
    csv: Path | None = None
    """CSV file with a column ``file`` (relative to the folder) and the labels' columns; None: labels are in headers."""

    @classmethod
    def read(cls, path: str | Path) -> FolderConfig:
        """Read a configuration from a TOML file.

        Raises
        ------
        LibraryImportError
            If there is no such file, or it is no TOML, or has an unknown key or a value of the wrong kind; the message
            names the key.
        """
        path = Path(path)
        written = settings.read_toml(path, LibraryImportError)
        values = settings.read_table(written, _READERS, f"{path}:", LibraryImportError)
        if not values.get("labels"):
            raise LibraryImportError(f"{path}: lacks a table [labels] that says where teff, logg and feh are")
        if "csv" in values:
            values["csv"] = path.parent / values["csv"]
        return cls(**values)


class SpectraFolder:
    """A folder of FITS spectra as a source (:class:`twinlines.pipeline.library.source.SpectrumSource`).

    Parameters
    ----------
    folder
        Folder with files ``*.fits`` or ``*.fits.gz``; those in folders below it are found too.
    config
        How to read them.

    Raises
    ------
    LibraryImportError
        If the folder holds no such file, or the CSV file names one that is not there.
    """

    def __init__(self, folder: str | Path, config: FolderConfig) -> None:
        self.folder, self.config = Path(folder), config
        if not self.folder.is_dir():
            raise LibraryImportError(f"{folder} is no folder; give the one that holds the FITS spectra")
        # Hidden files are no spectra: among them are the companions ._* that macOS leaves beside a copy.
        self._files = sorted(
            path
            for path in self.folder.rglob("*")
            if path.name.lower().endswith(_ENDINGS) and not _is_hidden(path.relative_to(self.folder))
        )
        self._rows: list[dict[str, str]] | None = None
        if config.csv is not None:
            self._rows = _table(config.csv)
            self._files = [self._listed(row["file"]) for row in self._rows]
        if not self._files:
            raise LibraryImportError(f"{folder} holds no file *.fits or *.fits.gz")

    @property
    def notes(self) -> Mapping[str, Any]:
        """Folder, format and where labels and wavelengths come from."""
        config = self.config
        return {
            "source": self.folder.name,
            "format": "FITS, one spectrum a file",
            "source_labels": {name: str(where) for name, where in config.labels.items()},
            "source_nodes": len(self._files),
            "wavelength_from": config.wavelength or "CRVAL1, CDELT1",
        }

    def index(self, progress: Progress = silent) -> Sequence[Entry]:
        """List the files with their labels.

        Raises
        ------
        LibraryImportError
            If a label is missing or is no finite number; the message names file and label.
        """
        entries = []
        for key, path in enumerate(self._files):
            described = self._rows[key] if self._rows is not None else self._header(path)
            labels = {}
            for name, where in self.config.labels.items():
                value = described.get(where) if isinstance(where, str) else where
                labels[name] = round(_number(value, f"{path}: label {name} ({where})"), DECIMALS)
            entries.append(Entry(str(path), labels, key))
            progress("listing nodes", key + 1, len(self._files))
        return entries

    def read(self, entry: Entry) -> Spectrum | None:
        """Read the spectrum of one file; None where its flux is 0 or NaN throughout.

        Raises
        ------
        LibraryImportError
            If the file cannot be read, or lacks the HDU, a column or a keyword.
        """
        path, config = self._files[entry.key], self.config
        header = self._header(path) if config.wavelength is None or config.resolution else {}
        flux = self._array(path, config.flux)
        if config.wavelength is None:
            stored = _from_header(header, flux.size, path)
        else:
            stored = self._array(path, config.wavelength)
        if stored.size != flux.size:
            raise LibraryImportError(
                f"{path}: {stored.size} wavelengths and {flux.size} fluxes; one for each is needed"
            )
        if np.isnan(flux).all() or (flux == 0.0).all():
            return None
        resolution = None
        if config.resolution is not None:
            resolution = _number(header.get(config.resolution), f"{path}: keyword {config.resolution} (resolution)")
        with np.errstate(over="ignore"):  # a wavelength taken for its logarithm; refused as not finite
            wavelength = _SCALES[config.scale](stored) * _ANGSTROM[config.unit]
        return Spectrum((wavelength,), flux, resolution)

    def _listed(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise LibraryImportError(
                f"{self.config.csv} lists {name}, which is not in {self.folder}; add it or its row"
            )
        return path

    def _header(self, path: Path) -> dict[str, Any]:
        """Keywords of the spectrum's HDU, on top of those of the primary one."""
        with _reading(path), cfitsio.name_of(path) as name:
            keywords: dict[str, Any] = {}
            for hdu in sorted({0, self.config.hdu}):
                header = fitsio.read_header(name, ext=hdu)
                keywords |= {key: header[key] for key in header if key}
            return keywords

    def _array(self, path: Path, column: str | None) -> NDArray[np.float64]:
        """A column of the HDU's table, or its image, as one dimension."""
        with _reading(path), cfitsio.name_of(path) as name, fitsio.FITS(name) as file:
            if self.config.hdu >= len(file):
                raise LibraryImportError(f"{path}: has {len(file)} HDUs, so that there is no hdu = {self.config.hdu}")
            hdu = file[self.config.hdu]
            table = hdu.get_exttype() != "IMAGE_HDU"
            if table != (column is not None):
                remedy = "a table; name its columns" if table else "an image; leave the columns' names out"
                raise LibraryImportError(f"{path}: HDU {self.config.hdu} is {remedy} in the TOML file")
            if column is not None and column.lower() not in (name.lower() for name in hdu.get_colnames()):
                raise LibraryImportError(
                    f"{path}: HDU {self.config.hdu} has no column {column!r}; it has {', '.join(hdu.get_colnames())}"
                )
            values = hdu.read() if column is None else hdu.read_column(column)
            if values is None:
                raise LibraryImportError(f"{path}: HDU {self.config.hdu} is empty; say which one holds the spectrum")
            return np.asarray(values, dtype=np.float64).ravel()


def _labels(written: Any, where: str) -> dict[str, str | float]:
    if not isinstance(written, dict):
        raise Unfit("give a table that says where teff, logg and feh are")
    labels = settings.read_table(written, dict.fromkeys(written, _label), where, LibraryImportError)
    return {label_name(name): place for name, place in labels.items()}


def _label(written: Any, _: str) -> str | float:
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise Unfit("give a keyword, a column or a number")
    return written


_READERS: Mapping[str, Reader] = {
    "labels": _labels,
    "hdu": settings.whole_number,
    "wavelength": settings.text,
    "flux": settings.text,
    "scale": settings.one_of(_SCALES),
    "unit": settings.one_of(_ANGSTROM),
    "resolution": settings.text,
    "csv": settings.text,
}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever cfitsio says about a damaged file into an error that names it."""
    try:
        yield
    except (OSError, RuntimeError, TypeError, KeyError, IndexError) as error:
        raise LibraryImportError(f"{path} cannot be read as FITS: {error}; copy it again or move it away") from error


def _from_header(header: Mapping[str, Any], pixels: int, path: Path) -> NDArray[np.float64]:
    """CRVAL1 + (i - CRPIX1) CDELT1 for pixels i = 1..n (Greisen and Calabretta 2002, A&A 395, 1061, section 2.1)."""
    value = _number(header.get("CRVAL1"), f"{path}: keyword CRVAL1 (first wavelength)")
    reference = _number(header.get("CRPIX1", 1.0), f"{path}: keyword CRPIX1")
    step = _number(header.get("CDELT1", header.get("CD1_1")), f"{path}: keyword CDELT1 or CD1_1")
    return np.asarray(value + (np.arange(1, pixels + 1) - reference) * step, dtype=np.float64)


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        wrong = "is missing" if value is None else f"is {value!r}"
        raise LibraryImportError(f"{what} {wrong}; a finite number is needed there")
    return number


def _table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, which must have a column ``file``."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if "file" not in (reader.fieldnames or ()):
            raise LibraryImportError(f"{path}: has no column 'file' (columns: {', '.join(reader.fieldnames or ())})")
        return list(reader)
