"""A survey's two-star fits on disk: those that are there, all of them in one store, and joined to a catalog's rows.

They stand in ``fits/<key>`` of the survey's folder, the hash of what decides a fit besides the exposure; ``CURRENT``
names the key in force. The newest ``fits-<number>.zarr`` there holds all rows that are fitted, in the order of obsid
and lmjm. Knows no cluster and no wavelength.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.schema import FITS, NO_SECOND_STAR, FitQuality
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.jobs.results import Results
from twinlines.pipeline.lookup import NOWHERE, places_of
from twinlines.pipeline.schema import Schema
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey.exposures import KEY, keys_of, keys_of_rows
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import KEY_COLUMNS

STEM = "fits"
"""Kind of the stores that hold all fits."""

_FOLDER, _POINTER = "fits", "CURRENT"
_UNFITTED = "unfitted"
_KEY_DIGITS = 16


class FitsError(RuntimeError):
    """Exposures cannot be fitted as asked, or there are no fits."""


class FitRun(Results):
    """The folder of a survey's fits of one key."""

    schema = FITS

    @property
    def whole(self) -> Path | None:
        """The newest store of all fits; None if there is none."""
        return numbered.newest(self.folder, STEM)

    def kept(self) -> Kept:
        """All rows that are fitted, each once: those of the tasks' files, and what the last store has besides.

        So that a file that is lost costs no row that was published once.
        """
        parts = list(self.recorded())
        if (whole := self.whole) is not None and not stores.damaged(whole):
            parts.append(whole)
        keys = [keys_of(stores.read_columns(path, KEY_COLUMNS)) for path in parts]
        together = np.concatenate(keys) if keys else np.empty(0, KEY)
        ordered, first = np.unique(together, return_index=True)
        return Kept(tuple(parts), ordered, first)


@dataclass(frozen=True)
class Kept:
    """Rows that are fitted, in the order of obsid, lmjm and content."""

    parts: tuple[Path, ...]
    """Where they are."""
    keys: NDArray[np.void]
    """Their keys, of :data:`.survey.exposures.KEY`."""
    place: NDArray[np.int64]
    """Where each stands among the rows of all parts, one after the other."""

    def column(self, name: str) -> NDArray[Any]:
        """One column of all rows."""
        return np.concatenate([stores.read_columns(path, [name])[name] for path in self.parts])[self.place]


def decides() -> dict[str, Any]:
    """What decides a fit besides the exposure, as JSON."""
    from twinlines.pipeline.binaries.twostar.fit import NUMERICS
    from twinlines.pipeline.library.library import Library

    return {"numerics": NUMERICS, "library": Library.load().digest, "fits_version": FITS.version}


def run_of(survey: Survey, content: dict[str, Any]) -> FitRun:
    """The fits of a survey that something decides; touches no disk."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]
    return FitRun(survey.path / _FOLDER / key)


def publish(survey: Survey, run: FitRun, kept: Kept) -> Path | None:
    """Let rows that are fitted be the survey's, one column in memory at a time; the caller holds the lock.

    Where they are those of the newest store, that one stays. None if there is no row.
    """
    if not len(kept.keys):
        return None
    path = run.whole
    if path is None or path not in kept.parts or not _holds(path, kept):
        about = {**run.description(), "created": now()}
        attributes = {name: about[name] for name in (*decides(), "versions", "created")}
        path = numbered.put(run.folder, STEM, FITS, len(kept.keys), kept.column, attributes)
    atomic.write_bytes(survey.path / _FOLDER / _POINTER, f"{run.folder.name}\n".encode())
    return path


def _holds(path: Path, kept: Kept) -> bool:
    return np.array_equal(keys_of(stores.read_columns(path, KEY_COLUMNS)), kept.keys)


def open_fits(survey: str | Path) -> xr.Dataset:
    """Open a survey's two-star fits lazily, in the order of obsid and lmjm.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.FITS`.

    Raises
    ------
    FitsError
        If the survey has none.

    Examples
    --------
    >>> import twinlines as tw
    >>> fits = tw.open_fits("S")  # doctest: +SKIP
    >>> fits.rv2 - fits.rv1  # doctest: +SKIP
    """
    return _newest(Path(survey), numbered.read)


def load_fits(survey: str | Path) -> xr.Dataset:
    """Read all of what :func:`open_fits` opens.

    Raises
    ------
    FitsError
        If the survey has none, or they are damaged.
    """
    return _newest(Path(survey), numbered.load)


def _newest(survey: Path, how: Callable[[Path, Schema], xr.Dataset]) -> xr.Dataset:
    again = f"'twinlines binaries fit --survey {survey}' makes it again"
    none = f"{survey}: its store of fits is gone; {again}"
    folder = fits_folder(survey)
    return numbered.open_newest(folder, STEM, FITS, none=none, again=again, refused=FitsError, how=how)[1]


def has_fits(survey: Path) -> bool:
    """Whether anything of a survey was fitted."""
    return (survey / _FOLDER / _POINTER).exists()


def unfitted_folder(survey: Path) -> Path:
    """Where the stars of a survey stand of which nothing was fitted, beside the folders of fits; it may not exist."""
    return survey / _FOLDER / _UNFITTED


def fits_folder(survey: Path) -> Path:
    """Folder of the fits that are a survey's.

    Raises
    ------
    FitsError
        If there are none.
    """
    advice = f"'twinlines binaries fit --survey {survey}' makes them"
    if not survey.is_dir():
        raise FitsError(f"there is no survey at {survey}")
    if not has_fits(survey):
        raise FitsError(f"{survey} has no fits of two stars yet; {advice}")
    pointer = survey / _FOLDER / _POINTER
    key = pointer.read_bytes().decode(errors="replace").strip()
    if not re.fullmatch(rf"[0-9a-f]{{{_KEY_DIGITS}}}", key):
        raise FitsError(f"{pointer} is damaged: it says {key[:20]!r}; {advice} anew")
    return pointer.parent / key


def join(rows: xr.Dataset, fits: xr.Dataset) -> xr.Dataset:
    """Rows of a catalog with the columns of their fits.

    Parameters
    ----------
    rows
        Rows of :data:`twinlines.pipeline.schema.CATALOG`.
    fits
        What :func:`open_fits` returned.

    Returns
    -------
    xr.Dataset
        ``rows``, in their order, with the variables of :data:`.schema.FITS` that they lack. Missing (NaN;
        ``fit_quality`` has ``NO_SPECTRUM``) where an exposure was not fitted, or has been changed since.
    """
    place = places_of(keys_of_rows(rows), keys_of_rows(fits))
    there = place != NOWHERE
    joined = {}
    for name, variable in FITS.variables.items():
        if name in rows.variables:
            continue
        values = variable.empty((len(place),))
        values[there] = fits[name].values[place[there]]
        if name == "fit_quality":
            values[~there] = FitQuality.NO_SPECTRUM
        joined[name] = (rows["obsid"].dims, values, {"units": variable.units, "long_name": variable.long_name})
    return rows.assign(joined)


def shows_two(fits: xr.Dataset) -> NDArray[np.bool_]:
    """Whether the fit of each exposure shows two stars, shape (exposure,)."""
    return np.asarray((fits["fit_quality"].values & NO_SECOND_STAR) == 0, np.bool_)
