"""Orbits of a survey's stars, sampled over a Dask client: a step of its own, after the table of stars.

A star's answer is kept by a hash of its velocities, of its ephemeris and of the settings: a call that was broken off
goes on, and a new release costs the stars that it adds exposures to. When all are there, the solutions and samples
appear whole beside the fits, and the table of stars with its best orbits after them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.fits.store import FitsError, fits_folder
from twinlines.pipeline.binaries.fits.survey import LOCK
from twinlines.pipeline.binaries.orbits.prior import Ephemeris
from twinlines.pipeline.binaries.orbits.solution import Fitting, fit_orbit
from twinlines.pipeline.binaries.orbits.summary import OrbitStatus
from twinlines.pipeline.binaries.schema import SOURCES, FitQuality
from twinlines.pipeline.binaries.sources import priors, solutions
from twinlines.pipeline.binaries.sources.source import Sources, sources
from twinlines.pipeline.binaries.sources.survey import (
    NUMERICS,
    SOURCES_STEM,
    hashes_of,
    open_sources,
    publish,
    rows_of_stars,
)
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.answers import Answer, Answers
from twinlines.pipeline.jobs.markers import Markers, now
from twinlines.pipeline.jobs.questions import Questions
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.storage import stores
from twinlines.pipeline.usertables.ephemerides import Ephemerides

SAMPLED = 10_000
"""Stars whose posterior samples are kept; 20 kB each."""

_ANSWERS = "orbits"


@dataclass(frozen=True)
class OrbitReport:
    """What a call did."""

    stars: int
    """Stars with two sets of lines."""
    sampled: int
    """Stars whose velocities were looked at now."""
    before: int
    """Stars whose answers were there."""
    orbits: int
    """Stars that have an orbit; the others have too few epochs, and limits."""
    periods: int
    """Stars whose best period has 95 % of the probability, or more."""
    samples: int
    """Stars whose posterior samples are kept."""
    ephemerides: Mapping[str, Any] | None
    """How the table of ephemerides was read, and how many stars have one; None without a table."""
    store: Path
    """Where the solutions are."""
    seconds: float
    """Wall time, s."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {**asdict(self), "store": str(self.store)}


@dataclass(frozen=True)
class Star:
    """One star whose orbit is asked for."""

    epochs: Epochs
    """Its velocities."""
    exchange: NDArray[np.float64]
    """Probability, for each epoch, that the stars are the other way round."""
    ephemeris: Ephemeris | None = None
    """What eclipses say."""

    @property
    def question(self) -> str:
        """What is asked: a hash of the velocities, and the ephemeris."""
        return f"{solutions.digest_of(self.epochs, self.exchange)} {self.ephemeris}"

    def __str__(self) -> str:
        return self.epochs.source


def sample_orbits(
    client: Client,
    survey: str | Path,
    *,
    ephemerides: Ephemerides | None = None,
    fitting: Fitting | None = None,
    sampled: int = SAMPLED,
    progress: Progress = silent,
) -> OrbitReport:
    """Sample the orbits of a survey's stars; a star whose velocities are as they were is not sampled again.

    Parameters
    ----------
    client
        Client of the cluster that computes.
    survey
        Folder of the survey; :func:`.survey.make_sources` has made its table of stars.
    ephemerides
        Known ones, from :func:`twinlines.pipeline.binaries.sources.priors.read_priors`; they count for this call.
    fitting
        How orbits are fitted.
    sampled
        Stars whose posterior samples are kept, at most: those of the surest periods.
    progress
        Called after each star; the stage is "orbits".

    Raises
    ------
    FitsError
        If the survey has no table of stars, or one of other fits or zero points than those in force.
    EphemerisError
        If no star, or one star twice, is in the table of ephemerides.
    twinlines.pipeline.jobs.engine.JobError
        If an orbit cannot be sampled; the others are kept.
    twinlines.pipeline.jobs.locks.LockedError
        If somebody else fits this survey.
    """
    started = time.monotonic()
    if sampled < 0:
        raise FitsError(f"samples of {sampled} stars are to be kept; give 0 or more")
    fitting, place = fitting or Fitting(), Path(survey).resolve()
    folder = fits_folder(place)
    open_sources(place).close()  # says what to do, where there is no table
    decides = {"numerics": NUMERICS, "fitting": fitting.to_json()}
    with locks.lock(place, "twinlines binaries orbits", LOCK):
        table, about = _table(folder, place)
        double = {name: values[table["epochs_double"] > 0] for name, values in table.items()}
        stars, obsids = _stars(place, double, about)
        known = {} if ephemerides is None else priors.match(ephemerides, double["ra"], double["dec"], obsids)
        every = [
            Star(epochs, exchange, known.get(number))
            for number, (epochs, exchange) in enumerate(zip(stars.epochs, stars.exchange, strict=True))
        ]
        answers = Answers(Markers(folder / _ANSWERS), decides)
        answers.open()
        asked = _Asked(Questions(client, answers, progress, ""))
        columns = asked.columns(every, fitting)
        told = None if ephemerides is None else {**ephemerides.to_json(), "stars": len(known)}
        whole = solutions.together(columns, double["obsid"], double["velocities_hash"], sampled)
        store = solutions.publish(folder, whole, {**decides, "ephemerides": told, "created": now()})
        publish(folder, table, about)
    flags = np.array([int(answer["flags"][0]) for answer in columns], np.int64)
    best = np.array([float(answer["mode_probability"][0]) for answer in columns])
    return OrbitReport(
        stars=len(every),
        sampled=asked.sampled,
        before=len(every) - asked.sampled,
        orbits=int(((flags & OrbitStatus.TOO_FEW_EPOCHS) == 0).sum()),
        periods=int((best >= 0.95).sum()),
        samples=whole.sampled,
        ephemerides=told,
        store=store,
        seconds=time.monotonic() - started,
    )


def _table(folder: Path, survey: Path) -> tuple[dict[str, NDArray[Any]], dict[str, object]]:
    """The columns of the newest table of stars, and what it says of itself."""
    path = numbered.newest(folder, SOURCES_STEM)
    if path is None:  # what was opened is of the time before the fits
        raise FitsError(
            f"the stars of {survey} were made before anything was fitted; 'twinlines binaries sources --survey "
            f"{survey}' makes them anew"
        )
    with numbered.read(path, SOURCES) as table:
        about = {name: value for name, value in table.attrs.items() if not name.startswith("schema")}
    return stores.read_columns(path, SOURCES.variables), about


def _stars(
    survey: Path, table: Mapping[str, NDArray[Any]], about: Mapping[str, object]
) -> tuple[Sources, dict[int, int]]:
    """The stars of a table with their velocities, and the star of each obsid."""
    radius = float(str(about["radius"]))
    rows = rows_of_stars(survey, radius)
    if not ((rows["fit_quality"].values & FitQuality.NO_SPECTRUM) == 0).any():
        raise FitsError(f"no exposure of the current catalog of {survey} was fitted; 'twinlines binaries fit' does so")
    stars = one_thread()(sources)(rows, radius=radius)
    same = np.array_equal(stars.table["obsid"].values, table["obsid"])
    if not same or not np.array_equal(hashes_of(stars), table["velocities_hash"]):
        raise FitsError(
            f"the stars of {survey} are of other fits, or zero points, than those in force; 'twinlines binaries "
            f"sources --survey {survey}' makes them anew"
        )
    obsid = rows["obsid"].values
    return stars, {int(obsid[row]): star for star, mine in enumerate(stars.members) for row in mine}


@dataclass
class _Asked:
    """Asks for orbits, and counts those that were not there."""

    questions: Questions
    sampled: int = 0

    def columns(self, stars: list[Star], fitting: Fitting) -> list[Answer]:
        # Two stars of one answer, as of one file under two names, are one question.
        distinct = {star.question: star for star in stars}
        progress, first = self.questions.progress, []

        def told(stage: str, done: int, total: int) -> None:
            first.append(done)
            progress(stage, done, total)

        asked = replace(self.questions, progress=told).ask(
            "orbits", sample_star, ((star, fitting) for star in distinct.values())
        )
        self.sampled = len(distinct) - first[0]
        answers = {star.question: answer for star, answer in asked}
        return [answers[star.question] for star in stars]


@one_thread()
def sample_star(star: Star, _keeper: str, fitting: Fitting) -> Answer:
    """Rows of one star's solutions, and its samples."""
    orbit = fit_orbit(star.epochs, allowing(fitting, star.ephemeris), star.ephemeris, star.exchange)
    return solutions.columns_of(orbit, star.ephemeris)


def allowing(fitting: Fitting, ephemeris: Ephemeris | None) -> Fitting:
    """Settings whose prior has room for a known period."""
    if ephemeris is None:
        return fitting
    prior, reach = fitting.prior, 10.0 * ephemeris.period_error
    shortest = min(prior.shortest, max(0.9 * (ephemeris.period - reach), 0.5 * ephemeris.period))
    longest = max(prior.longest, 1.1 * (ephemeris.period + reach))
    return replace(fitting, prior=replace(prior, shortest=shortest, longest=longest))
