"""Folders of FITS tables, one real star a file, and what a ``stars.csv`` beside them says of each.

A table has the columns ``wavelength`` (Angstrom), ``flux`` and, if known, ``sigma`` or ``ivar``. What is to be known
beside stands in the row of ``stars.csv`` whose ``file`` it is, or else in the file's header:

    stars.csv     header         what it is                                            without it
    name          NAME, OBJECT   the star's name                                       the file's
    resolution    R              resolving power lambda / FWHM                         an error
    velocity      VELOCITY       by which it is off rest, km/s                         0
    class         CLASS          what kind of star it is, in any words                 none
    teff          TEFF           effective temperature, K                              not known
    logg, feh     LOGG, FEH      log10 of gravity (cgs), [Fe/H]                        not known
    snr           SNR            S/N per pixel of the file, where that has no errors   it has no noise
    air           AIR            whether wavelengths are in air                        in vacuum

This module knows FITS and the CSV; what is done with a spectrum is not its concern.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from twinlines.cluster.settings import did_you_mean
from twinlines.pipeline.arms import ARM_NAMES, air_to_vacuum, doppler_factor
from twinlines.pipeline.storage import cfitsio
from twinlines.pipeline.synthesis.real_light import RealStarError, Record, Spectrum

TABLE = "stars.csv"
"""File that says what each star is."""

_ENDINGS = (".fits", ".fits.gz", ".fit", ".fit.gz")
_KEYWORDS = {
    "name": ("NAME", "OBJECT"),
    "resolution": ("R",),
    "velocity": ("VELOCITY",),
    "class": ("CLASS",),
    "teff": ("TEFF",),
    "logg": ("LOGG",),
    "feh": ("FEH",),
    "snr": ("SNR",),
    "air": ("AIR",),
}
_TRUTH = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


def files_of(folder: Path) -> list[Path]:
    """FITS files of a folder and those below it, by name; hidden ones are no spectra."""
    found = (path for path in folder.rglob("*") if path.name.lower().endswith(_ENDINGS))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_table(path: Path, key: str) -> dict[str, dict[str, str]]:
    """Rows of a CSV file by their column ``key``; values that are empty are left out.

    Raises
    ------
    RealStarError
        If there is no such file or column, a key comes twice, or a column is called nearly as one that counts.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RealStarError(f"{path} cannot be read as CSV: {error}") from error
    known = (key, *_KEYWORDS)
    for column in columns:
        meant = "" if column in known else did_you_mean(column, known)
        if meant:  # a misspelt velocity must not pass for a star at rest
            raise RealStarError(f"{path}: has a column {column!r}{meant}; those that count are {', '.join(known)}")
    if key not in columns:
        raise RealStarError(f"{path}: has no column {key!r} (columns: {', '.join(columns)})")
    made: dict[str, dict[str, str]] = {}
    for row in rows:
        values = {name: value.strip() for name, value in row.items() if name in known and value and value.strip()}
        named = values.pop(key, "")
        if not named or named in made:
            raise RealStarError(f"{path}: {key} {named!r} stands there {'twice' if named else 'empty'}; mend the rows")
        made[named] = values
    return made


def read_folder(folder: Path, table: Path | None) -> Iterator[Record]:
    """Read the stars of a folder one after the other, by the names of their files.

    Parameters
    ----------
    folder
        Folder with the FITS files.
    table
        CSV file with a column ``file``, relative to the folder; None: ``stars.csv`` in the folder, if there is one.

    Raises
    ------
    RealStarError
        If there is no file, one cannot be read, or the table names one that is not there.
    """
    files = files_of(folder)
    if not files:
        raise RealStarError(f"{folder} holds no file *.fits or *.fits.gz")
    table = table or (folder / TABLE if (folder / TABLE).is_file() else None)
    rows = read_table(table, "file") if table else {}
    names = {str(path.relative_to(folder)) for path in files}
    for listed in rows:
        if listed not in names:
            raise RealStarError(f"{table} lists {listed}, which is not in {folder}; add the file or remove its row")
    for path in files:
        yield _read(path, rows.get(str(path.relative_to(folder)), {}))


def _read(path: Path, row: Mapping[str, str]) -> Record:
    header, columns = _content(path)
    said: dict[str, Any] = {}
    for name, keywords in _KEYWORDS.items():
        stated = [header[word] for word in keywords if header.get(word) not in (None, "")]
        said[name] = row.get(name, stated[0] if stated else None)
    number = {
        name: _number(path, name, said[name]) for name in ("resolution", "velocity", "teff", "logg", "feh", "snr")
    }
    if math.isnan(number["resolution"]):
        raise RealStarError(f"{path}: nothing says its resolving power; give the header R, or a column in {TABLE}")
    wavelength, flux, sigma = columns["wavelength"], columns["flux"], columns.get("sigma")
    if sigma is None and math.isfinite(number["snr"]):
        sigma = np.abs(flux) / number["snr"]
    air = _truth(path, said["air"])
    velocity = np.nan_to_num(number["velocity"])
    rest = (air_to_vacuum(wavelength) if air else wavelength) / doppler_factor(float(velocity))
    name, kind = str(said["name"] or path.name.partition(".")[0]), str(said["class"] or "")
    labels = number["teff"], number["logg"], number["feh"]
    about = repr((name, kind, number["resolution"], labels, air, float(velocity)))
    spectrum = Spectrum(rest, flux, sigma)
    return Record(
        place=str(path),
        name=name,
        kind=kind,
        resolution=number["resolution"],
        labels=labels,
        spectra=dict.fromkeys(ARM_NAMES, spectrum),
        content=digest_of(about, [wavelength, flux, *([] if sigma is None else [sigma])]),
    )


def digest_of(about: str, arrays: Iterable[NDArray[Any]]) -> str:
    """BLAKE2b, 32 hexadecimal digits, over a text and the little-endian values of arrays."""
    state = hashlib.blake2b(about.encode(), digest_size=16)
    for values in arrays:
        state.update(f"{values.shape}".encode())
        state.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return state.hexdigest()


def _content(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Keywords of the table on top of those of the primary header, and the columns of the first table that has them."""
    try:
        with cfitsio.name_of(path) as name, fitsio.FITS(name) as file:
            for number in range(1, len(file)):
                hdu = file[number]
                if hdu.get_exttype() == "IMAGE_HDU":
                    continue
                columns = {column.lower(): column for column in hdu.get_colnames()}
                if not {"wavelength", "flux"} <= set(columns):
                    continue
                keywords: dict[str, Any] = {}
                for header in (file[0].read_header(), hdu.read_header()):
                    keywords |= {str(key).upper(): header[key] for key in header if key}
                wanted = [word for word in ("wavelength", "flux", "sigma", "ivar") if word in columns]
                values = {word: np.asarray(hdu.read_column(columns[word]), np.float64).ravel() for word in wanted}
                return keywords, _errors(path, values)
    except (OSError, RuntimeError, TypeError, KeyError, IndexError) as error:
        raise RealStarError(f"{path} cannot be read as FITS: {error}; copy it again or move it away") from error
    raise RealStarError(f"{path}: no table in it has the columns wavelength and flux; name its columns so")


def _errors(path: Path, values: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The columns with sigma in place of ivar."""
    sizes = {word: column.size for word, column in values.items()}
    if len(set(sizes.values())) != 1:
        raise RealStarError(f"{path}: its columns have {sizes} values; one for each pixel is needed")
    if "ivar" in values:
        ivar = values.pop("ivar")
        with np.errstate(divide="ignore", invalid="ignore"):
            values.setdefault("sigma", np.where(ivar > 0.0, ivar**-0.5, np.nan))
    return values


def _number(path: Path, name: str, said: Any) -> float:
    """A number, or NaN where nothing is said."""
    if said is None or said == "":
        return math.nan
    try:
        number = float(said)
    except (TypeError, ValueError):
        number = math.nan
    positive = name in ("resolution", "teff", "snr")
    if not math.isfinite(number) or (positive and number <= 0.0):
        raise RealStarError(f"{path}: {name} is {said!r}; give a number{' above 0' if positive else ''}")
    return number


def _truth(path: Path, said: Any) -> bool:
    if said is None:
        return False
    word = str(said).strip().lower()
    if word not in _TRUTH:
        raise RealStarError(f"{path}: air is {said!r}; give true or false")
    return _TRUTH[word]
