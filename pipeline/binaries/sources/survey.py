"""Stars of a survey: groups what was fitted, and samples orbits over a Dask client.

An orbit's answer is kept until all are there, by a hash of its velocities: a broken-off call goes on, and a new release
costs the stars that it adds exposures to. The table appears whole, as the newest ``sources-<number>.zarr``
beside the fits it is made of.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.fits.store import STEM, FitsError, fits_folder, join, load_fits
from twinlines.pipeline.binaries.fits.survey import LOCK
from twinlines.pipeline.binaries.grouping import RADIUS, group
from twinlines.pipeline.binaries.orbits.solution import Fitting
from twinlines.pipeline.binaries.schema import SOURCES, FitQuality
from twinlines.pipeline.binaries.sources.source import OrbitColumns, Sources, orbit_columns, sources
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.evaluation.answers import Answer, Answers
from twinlines.pipeline.evaluation.questions import Questions
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.markers import Markers, now
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.storage import stores

NUMERICS = 1
"""Numerical version of sources and orbits: raised with every change that alters a result."""

_STEM, _ANSWERS = "sources", "orbits"


class StaleWarning(UserWarning):
    """Stars were made before the last fits."""


@dataclass(frozen=True)
class Star:
    """One star whose orbit is asked for."""

    epochs: Epochs
    """Its velocities."""
    exchange: NDArray[np.float64]
    """Probability, for each epoch, that the stars are the other way round."""

    @property
    def question(self) -> str:
        """A hash of what is asked."""
        digest = hashlib.sha256()
        for values in (
            self.epochs.time,
            self.epochs.velocity,
            self.epochs.covariance,
            self.epochs.resolved,
            self.exchange,
        ):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def __str__(self) -> str:
        return self.epochs.source


def make_sources(
    client: Client,
    survey: str | Path,
    *,
    radius: float = RADIUS,
    fitting: Fitting | None = None,
    progress: Progress = silent,
) -> xr.Dataset:
    """Group a survey's fits into stars, sample their orbits, and keep the table beside the fits.

    Parameters
    ----------
    client
        Client of the cluster that computes.
    survey
        Folder of the survey.
    radius
        Exposures within this angle are of one star, transitively, arcsec.
    fitting
        How orbits are fitted.
    progress
        Called after each orbit; the stage is "orbits".

    Returns
    -------
    xr.Dataset
        Rows of :data:`.schema.SOURCES`, those with the most epochs first.

    Raises
    ------
    FitsError, CatalogError
        If nothing of the survey was fitted, or it has no catalog.
    twinlines.pipeline.evaluation.tasks.EvaluationError
        If an orbit cannot be sampled; the others are kept.
    """
    if not 0.0 < radius < 3600.0:
        raise FitsError(f"the radius of a star is {radius} arcsec; give one above 0 and below 3600")
    fitting = fitting or Fitting()
    place = Path(survey).resolve()
    rows = rows_of_stars(place, radius)
    stars = sources(rows, radius=radius)
    folder = fits_folder(place)
    decides = {"numerics": NUMERICS, "fitting": fitting.to_json()}
    with locks.lock(place, "twinlines binaries sources", LOCK):
        answers = Answers(Markers(folder / _ANSWERS), decides)
        answers.open()
        table = stars.with_orbits(_orbits(Questions(client, answers, progress, ""), stars, fitting))
        about = {
            **decides,
            "catalog": rows.attrs["name"],
            "fits": rows.attrs["fits"],
            "radius": radius,
            "created": now(),
        }
        numbered.put(folder, _STEM, SOURCES, table.sizes["source"], lambda name: table[name].values, about)
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


def _orbits(questions: Questions, stars: Sources, fitting: Fitting) -> list[OrbitColumns]:
    every = [Star(epochs, exchange) for epochs, exchange in zip(stars.epochs, stars.exchange, strict=True)]
    # Two stars of one answer, as of one file under two names, are one question.
    distinct = {star.question: star for star in every}
    asked = questions.ask("orbits", fit_star, ((star, fitting) for star in distinct.values()))
    answers = {star.question: {name: values.item() for name, values in answer.items()} for star, answer in asked}
    return [answers[star.question] for star in every]


@one_thread()
def fit_star(star: Star, _keeper: str, fitting: Fitting) -> Answer:
    """Columns of one star's orbit."""
    return {name: np.asarray(value) for name, value in orbit_columns(star.epochs, star.exchange, fitting).items()}


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
    path, fits = (numbered.newest(folder, stem) for stem in (_STEM, STEM))
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
