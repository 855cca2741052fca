"""Stars of a survey: groups what was fitted, and keeps the table of stars beside the fits.

The table appears whole, as the newest ``sources-<number>.zarr`` beside the fits it is made of. Orbits are a step of
their own (:mod:`.orbits`): a star has the best of them in the table as long as its velocities are those it was sampled
for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.fits.store import STEM, FitsError, fits_folder, join, load_fits
from twinlines.pipeline.binaries.fits.survey import LOCK
from twinlines.pipeline.binaries.grouping import RADIUS, group
from twinlines.pipeline.binaries.schema import SOURCES, FitQuality
from twinlines.pipeline.binaries.sources import solutions
from twinlines.pipeline.binaries.sources.source import Sources, sources
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.markers import now
from twinlines.pipeline.storage import stores

NUMERICS = 2
"""Numerical version of sources and orbits: raised with every change that alters a result."""

SOURCES_STEM = "sources"
"""Kind of the stores that hold the table of stars."""


class StaleWarning(UserWarning):
    """Stars were made before the last fits."""


@one_thread()
def make_sources(survey: str | Path, *, radius: float = RADIUS) -> xr.Dataset:
    """Group a survey's fits into stars, decide which of the two is which, and keep the table beside the fits.

    Parameters
    ----------
    survey
        Folder of the survey.
    radius
        Exposures within this angle are of one star, transitively, arcsec.

    Returns
    -------
    xr.Dataset
        Rows of :data:`.schema.SOURCES`, those with the most epochs first; with the orbits that were sampled for the
        same velocities.

    Raises
    ------
    FitsError, CatalogError
        If nothing of the survey was fitted, or it has no catalog.
    LockedError
        If somebody else fits this survey.
    """
    if not 0.0 < radius < 3600.0:
        raise FitsError(f"the radius of a star is {radius} arcsec; give one above 0 and below 3600")
    place = Path(survey).resolve()
    rows = rows_of_stars(place, radius)
    stars = sources(rows, radius=radius)
    folder = fits_folder(place)
    about = {"numerics": NUMERICS, "catalog": rows.attrs["name"], "fits": rows.attrs["fits"], "radius": radius}
    with locks.lock(place, "twinlines binaries sources", LOCK):
        return publish(folder, table_of(stars), about)


def table_of(stars: Sources) -> dict[str, NDArray[Any]]:
    """Columns of the table of stars, with the hashes of their velocities and without orbits."""
    columns = {name: stars.table[name].values for name in SOURCES.variables}
    return columns | {"velocities_hash": hashes_of(stars)}


def hashes_of(stars: Sources) -> NDArray[np.uint64]:
    """``velocities_hash`` of each star, (source,)."""
    every = zip(stars.epochs, stars.exchange, strict=True)
    return np.array([solutions.short(solutions.digest_of(*each)) for each in every], np.uint64)


def publish(folder: Path, columns: Mapping[str, NDArray[Any]], about: Mapping[str, object]) -> xr.Dataset:
    """Let a table be that of a survey's stars, with the orbits of its velocities; the caller holds the lock."""
    whole = {**columns, **solutions.table_columns(folder, columns["velocities_hash"])}
    table = SOURCES.dataset(whole, len(columns["obsid"]))
    numbered.put(
        *(folder, SOURCES_STEM, SOURCES, table.sizes["source"], lambda name: table[name].values),
        {**about, "created": now()},
    )
    return table


def rows_of_stars(survey: Path, radius: float) -> xr.Dataset:
    """All exposures, with their fits, of the stars of which one was fitted."""
    path = numbered.newest(fits_folder(survey), STEM)
    catalog, fits = catalogs.open(survey), load_fits(survey)
    star = group(catalog["ra"].values, catalog["dec"].values, radius=radius)
    fitted = np.isin(catalog["obsid"].values, fits["obsid"].values)
    rows = join(catalog.isel(exposure=np.flatnonzero(np.isin(star, star[fitted & (star >= 0)]))).load(), fits)
    if not ((rows["fit_quality"].values & FitQuality.NO_SPECTRUM) == 0).any():
        raise FitsError(f"no exposure of the current catalog of {survey} was fitted; 'twinlines binaries fit' does so")
    return rows.assign_attrs(fits="" if path is None else path.name)


def open_sources(survey: str | Path) -> xr.Dataset:
    """Open a survey's stars, those with the most epochs first.

    Parameters
    ----------
    survey
        Folder of the survey.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.binaries.schema.SOURCES`.

    Raises
    ------
    FitsError
        If the survey has none.

    Examples
    --------
    >>> import twinlines as tw
    >>> stars = tw.open_sources("S")  # doctest: +SKIP
    >>> stars.period, stars.mass_ratio  # doctest: +SKIP
    """
    folder = fits_folder(Path(survey))
    path, fits = (numbered.newest(folder, stem) for stem in (SOURCES_STEM, STEM))
    advice = f"'twinlines binaries sources --survey {survey}' makes them"
    if path is None:
        raise FitsError(f"{survey} has no stars yet; {advice}")
    try:
        table = numbered.read(path, SOURCES)
    except stores.StoreError as error:
        raise FitsError(f"{survey}: {error}; {advice} again") from error
    if fits is not None and table.attrs.get("fits") != fits.name:
        warnings.warn(
            f"the stars of {survey} are of fits that were added to since; {advice} anew", StaleWarning, stacklevel=2
        )
    return table
