"""A survey's two-star fits on disk: those that are there, all of them in one store, and joined to a catalog's rows.

They stand in ``fits/<key>`` of the survey's folder, the hash of what decides a fit besides the exposure; ``CURRENT``
names the key in force. ``fits.zarr`` there holds all rows that are fitted, in the order of obsid and lmjm, and appears
whole. Knows no cluster and no wavelength.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.binaries.schema import FITS, FitQuality
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.export import ExportError, write
from twinlines.pipeline.jobs.markers import Markers, now
from twinlines.pipeline.schema import CATALOG, METADATA
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey.folder import Survey

KEY = np.dtype([("obsid", "<i8"), ("lmjm", "<i4"), ("content_hash", "<u8")])
"""What says which exposure a row is, and whether it is the same as another."""

KEY_COLUMNS = ("obsid", "lmjm", "content_hash")
"""Names of the columns of :data:`KEY`."""

_FOLDER, _POINTER, _WHOLE = "fits", "CURRENT", "fits.zarr"
_KEY_DIGITS = 16


class FitsError(RuntimeError):
    """Exposures cannot be fitted as asked, or there are no fits."""


def keys_of(columns: Any) -> NDArray[np.void]:
    """Keys of rows, of :data:`KEY`, by their columns."""
    keys = np.empty(len(columns["obsid"]), KEY)
    for name in KEY_COLUMNS:
        keys[name] = columns[name]
    return keys


class FitRun(Markers):
    """The folder of a survey's fits of one key."""

    def result_path(self, key: str) -> Path:
        """File of a task's fits."""
        return self.folder / "results" / f"{key}.zarr.zip"

    @property
    def whole(self) -> Path:
        """The store of all fits."""
        return self.folder / _WHOLE

    def results(self) -> Iterator[Path]:
        """Files of the tasks that are done, by name."""
        for marker in sorted((self.folder / "done").glob("[!.]*.json")):
            if self.finished(marker.stem, [self.result_path(marker.stem)]):
                yield self.result_path(marker.stem)

    def fitted(self) -> NDArray[np.void]:
        """Keys of the rows that are fitted."""
        parts = [keys_of(stores.read_columns(path, KEY_COLUMNS)) for path in self.results()]
        return np.concatenate(parts) if parts else np.empty(0, KEY)


def decides() -> dict[str, Any]:
    """What decides a fit besides the exposure, as JSON."""
    from twinlines.pipeline.binaries.fit import NUMERICS
    from twinlines.pipeline.library.library import Library

    return {"numerics": NUMERICS, "library": Library.load().digest, "fits_version": FITS.version}


def run_of(survey: Survey, content: dict[str, Any]) -> FitRun:
    """The fits of a survey that something decides; touches no disk."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]
    return FitRun(survey.path / _FOLDER / key)


def publish(survey: Survey, run: FitRun, *, rewrite: bool) -> Path | None:
    """Put all fits of a run into one store, and let it be the survey's; the caller holds the lock."""
    for stale in run.folder.glob(f".{_WHOLE}.*"):
        shutil.rmtree(stale)
    if rewrite or not run.whole.exists() or stores.damaged(run.whole):
        paths = list(run.results())
        if not paths:
            return None
        parts = [stores.read_columns(path, FITS.variables) for path in paths]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in FITS.variables}
        order = np.lexsort((columns["content_hash"], columns["lmjm"], columns["obsid"]))
        aside = run.folder / f".{_WHOLE}.{os.getpid()}-{uuid4().hex[:8]}"
        about = {**run.description(), "created": now()}
        stores.create(aside, FITS, len(order), {name: about[name] for name in (*decides(), "versions", "created")})
        for name, values in columns.items():
            stores.write_column(aside, FITS, name, values[order])
        stores.seal(aside, FITS)
        if run.whole.exists():
            run.whole.rename(run.folder / f".{_WHOLE}.old")
        aside.rename(run.whole)
        atomic.sync_folder(run.folder)
        shutil.rmtree(run.folder / f".{_WHOLE}.old", ignore_errors=True)
    atomic.write_bytes(survey.path / _FOLDER / _POINTER, f"{run.folder.name}\n".encode())
    return run.whole


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
    whole = fits_folder(Path(survey)) / _WHOLE
    try:
        return stores.open_store(whole, FITS, chunked=True)
    except stores.StoreError as error:
        raise FitsError(f"{error}; 'twinlines binaries fit --survey {survey}' makes it again") from error


def fits_folder(survey: Path) -> Path:
    """Folder of the fits that are a survey's.

    Raises
    ------
    FitsError
        If there are none.
    """
    pointer = survey / _FOLDER / _POINTER
    if not pointer.exists():
        raise FitsError(f"{survey} has no fits of two stars yet; 'twinlines binaries fit --survey {survey}' makes them")
    return pointer.parent / pointer.read_text().strip()


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
    have = keys_of({name: fits[name].values for name in KEY_COLUMNS})
    want = keys_of({name: rows[name].values for name in KEY_COLUMNS})
    order = np.argsort(have)
    place = np.searchsorted(have[order], want).clip(0, max(len(have) - 1, 0))
    there = have[order][place] == want if len(have) else np.zeros(len(want), bool)
    source = order[place] if len(have) else place
    joined = {}
    for name, variable in FITS.variables.items():
        if name in rows.variables:
            continue
        values = variable.empty((len(want),))
        values[there] = fits[name].values[source[there]]
        if name == "fit_quality":
            values[~there] = FitQuality.NO_SPECTRUM
        joined[name] = (rows["obsid"].dims, values, {"units": variable.units, "long_name": variable.long_name})
    return rows.assign(joined)


def shows_two(fits: xr.Dataset) -> NDArray[np.bool_]:
    """Whether the fit of each exposure shows two stars, shape (exposure,)."""
    neither = FitQuality.NO_SPECTRUM | FitQuality.NOT_DOUBLE
    return np.asarray((fits["fit_quality"].values & neither) == 0, np.bool_)


def export(survey: str | Path, path: Path, *, every: bool = False, overwrite: bool = False) -> int:
    """Write a survey's fits as a FITS table and return the number of rows.

    The columns are those of the catalog that say what was observed, the verdict of both arms at penalty 16, and those
    of :data:`.schema.FITS`, for the rows of the current catalog that were fitted as they are.

    Parameters
    ----------
    survey
        Folder of the survey.
    path
        File to write.
    every
        Exposures that turned out to show one star, too.
    overwrite
        Whether a file that is there may be replaced.

    Raises
    ------
    FitsError, CatalogError
        If there are no fits, or no catalog, or the table cannot be written there.
    """
    catalog, fits = catalogs.open(survey), open_fits(survey)
    known = np.isin(catalog["obsid"].values, fits["obsid"].values)
    rows = join(catalog.isel(exposure=np.flatnonzero(known)), fits)
    bits = rows["fit_quality"].values
    wanted = (bits & FitQuality.NO_SPECTRUM) == 0 if every else shows_two(rows)
    observed = {name: CATALOG.variables[name] for name in (*METADATA, "snr_B", "snr_R", "pb_pct_J_16", "release")}
    try:
        return write(
            rows.isel(exposure=np.flatnonzero(wanted)), Path(path), {**observed, **FITS.variables}, overwrite=overwrite
        )
    except ExportError as error:
        raise FitsError(str(error)) from error
