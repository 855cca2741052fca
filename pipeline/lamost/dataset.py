"""LAMOST files as an xarray Dataset, of the same rows as a survey's release."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.lamost import names, times
from twinlines.pipeline.lamost.content_hash import contents
from twinlines.pipeline.lamost.exposures import LamostError, MrsFile
from twinlines.pipeline.lamost.reader import read
from twinlines.pipeline.lamost.walking import walk
from twinlines.pipeline.schema import EXPOSURES

PathLike = str | os.PathLike[str]

_OF_FILE = ("obsid", "lmjd", "planid", "spid", "fiberid", "ra", "dec")
_OF_ARM = ("snr", "exptime", "flux", "ivar", "loglam", "mask")


class BadFileWarning(UserWarning):
    """A file was left out."""


def read_lamost(paths: PathLike | Iterable[PathLike], *, skip_bad: bool = False) -> xr.Dataset:
    """Read medium-resolution spectra of LAMOST, in the layout of any release.

    Parameters
    ----------
    paths
        A file, several, or a folder, which is searched with all in it for files that are named like spectra
        (:data:`twinlines.pipeline.lamost.names.PATTERNS`) and not hidden. All rows are in memory, 110 kB each: for more
        than some ten thousand, make a survey of them ('twinlines ingest').
    skip_bad
        Leave out files that cannot be used, with a warning for each, instead of raising an error.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`, one for each exposure of each file, both arms, values as
        stored; in the order of the files (in a folder, of their paths), then of time. ``attrs["problems"]`` says what
        was wrong in files that are usable.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or none in a folder.
    LamostError
        If a file cannot be used; it names the file, what is wrong and what to do.
    OutOfReachError
        If the system does not let us read one.

    Examples
    --------
    >>> import twinlines as tw
    >>> spectra = tw.read_lamost("med-58646-TD192102N424113K01_sp12-076.fits.gz")  # doctest: +SKIP
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files: list[tuple[str, MrsFile]] = []
    for path, name in (listed for each in several for listed in _listed(Path(each).expanduser())):
        try:
            files.append((name, read(path)))
        except LamostError as error:
            if not skip_bad:
                raise
            warnings.warn(f"left out: {error}", BadFileWarning, stacklevel=2)
    rows = sum(len(file.exposures) for _, file in files)
    columns: dict[str, NDArray[Any]] = {
        name: variable.empty(EXPOSURES.shape(name, rows)) for name, variable in EXPOSURES.variables.items()
    }
    mid_utc = np.full(rows, np.nan)
    row = 0
    for name, file in files:
        for exposure, content, middle in contents(file):
            for column in _OF_FILE:
                columns[column][row] = getattr(file, column)
            columns["source_file"][row] = name.encode("utf-8", "backslashreplace").decode()
            columns["lmjm"][row], columns["content_hash"][row], mid_utc[row] = exposure.lmjm, content, middle
            for letter, arm in exposure.arms.items():
                for column in _OF_ARM:
                    columns[column][row, ARM_NAMES.index(letter)] = getattr(arm, column)
            row += 1
    columns["bjdmid"] = times.bjd_tdb(mid_utc, columns["ra"], columns["dec"])
    problems = [f"{name}: {problem}" for name, file in files for problem in file.problems]
    return EXPOSURES.dataset(columns, rows, problems=problems)


def _listed(path: Path) -> Iterator[tuple[Path, str]]:
    """Files at ``path``, each with its name as rows bear it: relative to the folder, if it is one."""
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}; name a LAMOST file, several, or a folder of them")
        yield path, path.name
        return
    inside = [path / listed.path for listed in walk(path)]
    if not inside:
        raise FileNotFoundError(f"there is no spectrum ({names.PATTERNS}) in the folder {path}; name another one")
    for each in inside:
        yield each, each.relative_to(path).as_posix()
