"""Fits a survey's candidates over a Dask client: plans, fits what is missing, keeps the whole beside the catalogs.

A task fits some rows of a release and writes them to a file, then a marker. A row that was fitted once, whatever for,
is not fitted again: a new release, or another rule of candidates, costs its new rows alone. Knows no wavelength.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray

from twinlines.cluster.workers import keeping, kept_object
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.binaries.fits.store import (
    STEM,
    FitRun,
    FitsError,
    decides,
    join,
    load_fits,
    publish,
    run_of,
    shows_two,
)
from twinlines.pipeline.binaries.grouping import NO_STAR, group
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.rules import Rule
from twinlines.pipeline.jobs import engine, locks, sizing
from twinlines.pipeline.jobs.engine import Failure
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import JOINT
from twinlines.pipeline.survey.exposures import keys_of, keys_of_rows, read_rows
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import Release

TASK_ROWS = 128
"""Exposures of a task: some ten seconds."""

LOCK = ".fits.lock"
"""Lock of a survey's fits: they go on beside a run."""


@dataclass(frozen=True)
class FitReport:
    """What a call did."""

    key: str
    """Key of what decides a fit."""
    asked: int
    """Exposures asked for."""
    fitted: int
    """Exposures fitted now."""
    before: int
    """Exposures asked for that had been fitted before."""
    double: int
    """Exposures asked for that the fits show to be of two stars."""
    failed: tuple[Failure, ...]
    """Tasks that failed; the others' rows are kept."""
    store: Path | None
    """Where all fits are; None if there is none."""
    seconds: float
    """Wall time, s."""

    @property
    def complete(self) -> bool:
        """Whether everything asked for was done."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            **asdict(self),
            "failed": [failure.to_json() for failure in self.failed],
            "store": str(self.store) if self.store else None,
            "complete": self.complete,
        }


@dataclass(frozen=True)
class RowsTask:
    """The unit of work: some rows of a release."""

    release: str
    """Name of the release."""
    rows: NDArray[np.int64]
    """Rows of its store, ascending."""
    key: str
    """Key of the task: a hash over the rows' keys and content, and what decides a fit."""

    @property
    def about(self) -> dict[str, Any]:
        """What a failure's file should say of it."""
        return {"release": self.release, "first": int(self.rows[0]), "count": len(self.rows)}

    def __str__(self) -> str:
        return f"{len(self.rows)} rows of {self.release} from {self.rows[0]} on"


def fit(
    client: Client,
    survey: str | Path,
    *,
    release: str | None = None,
    obsids: Sequence[int] | None = None,
    everything: bool = False,
    least_probability: float | None = None,
    whole_stars: bool = False,
    progress: Progress = silent,
    ignore_plan: bool = False,
) -> FitReport:
    """Fit two stars to a survey's candidates, or to other exposures; what is fitted already is not fitted again.

    Parameters
    ----------
    client
        Client of the cluster that computes; its workers must see the survey under the same path.
    survey
        Folder of the survey.
    release
        Newest release of the catalog whose rows are meant; by default the current catalog.
    obsids
        Fit all exposures of these instead of the candidates.
    everything
        Fit all exposures that have a verdict, instead of the candidates.
    least_probability
        Fit all exposures whose median probability by both arms (by the likelier arm, where the ensemble judged each by
        itself) is as large, instead of the candidates: the fit finds binaries that the networks doubt.
    whole_stars
        Fit the other exposures of the same stars, too: what an orbit is made of, and when lines lie together.
    progress
        Called at the start and after every task; the stage is "fits", and both numbers count exposures.
    ignore_plan
        Start even if memory or space seem too small.

    Raises
    ------
    CatalogError
        If there is no such survey or catalog.
    FitsError
        If several of ``obsids``, ``everything`` and ``least_probability`` are asked for, that is no probability, the
        catalog has no exposure of an obsid, or a row of it is in no release.
    twinlines.pipeline.jobs.sizing.SizingError
        If the workers' memory, or the space on the disk, is too small for what is to do.
    twinlines.pipeline.jobs.engine.JobError
        If the cluster was lost, or a disk is full.
    twinlines.pipeline.jobs.locks.LockedError
        If somebody else fits this survey.
    """
    started = time.monotonic()
    place = Survey.at(survey)
    rows = _asked(catalogs.open(place.path, release=release), obsids, everything, least_probability, whole_stars)
    wanted = keys_of_rows(rows)
    content = decides()
    run = run_of(place, content)
    with locks.lock(place.path, "twinlines binaries fit", LOCK):
        numbered.sweep(run.folder, STEM)  # what a full disk left must not keep it full
        run.start(content)
        new = np.isin(wanted, run.kept().keys, invert=True)
        tasks = list(_tasks(place, run, wanted[new], rows["release"].values[new]))
        sizing.require(client, place.path, sizing.of_run(int(new.sum()), 0, TASK_ROWS), ignore=ignore_plan)
        failed = _compute(client, place, run, tasks, len(wanted), content, progress) if tasks else {}
        kept = run.kept()
        store = publish(place, run, kept)
    fitted = sum(len(task.rows) for task in tasks if task.key not in failed)
    lacking = int(np.isin(wanted, kept.keys, invert=True).sum())
    if lacking > int(new.sum()) - fitted:  # more than those of tasks that failed
        raise FitsError(f"{lacking} exposures that were asked for have no fit; give the same command again")
    double = 0 if store is None else int(shows_two(join(rows, load_fits(place.path))).sum())
    return FitReport(
        key=run.folder.name,
        asked=len(wanted),
        fitted=fitted,
        before=int((~new).sum()),
        double=double,
        failed=tuple(failed.values()),
        store=store,
        seconds=time.monotonic() - started,
    )


def _asked(
    catalog: xr.Dataset,
    obsids: Sequence[int] | None,
    everything: bool,
    least_probability: float | None,
    whole_stars: bool,
) -> xr.Dataset:
    """The catalog's rows that are asked for, keys and releases alone."""
    if bool(obsids) + everything + (least_probability is not None) > 1:
        raise FitsError(
            "several of all exposures, those of some obsids and those of some probability are asked for; give one"
        )
    heads = [JOINT] if catalog.sb2.has(JOINT, 16) else list(ARM_NAMES)
    if obsids:
        have = catalog["obsid"].values
        if lacking := sorted(set(obsids) - set(have.tolist())):
            raise FitsError(f"the catalog has no exposure of obsid {', '.join(map(str, lacking[:5]))}; see its obsids")
        chosen = np.isin(have, np.asarray(obsids, np.int64))
    elif everything:
        chosen = catalog["specflag_B"].values | catalog["specflag_R"].values
    elif least_probability is not None:
        if not 0.0 <= least_probability <= 1.0:
            raise FitsError(f"the least probability is {least_probability}; give a number from 0 to 1")
        chosen = np.any([catalog.sb2.probability(head).values >= least_probability for head in heads], axis=0)
    else:
        rule: Rule = "joint" if heads == [JOINT] else "paper"
        chosen = catalog.sb2.is_candidate(rule=rule, unfamiliar=True)
    if whole_stars:
        star = group(catalog["ra"].values, catalog["dec"].values)
        measured = catalog["specflag_B"].values | catalog["specflag_R"].values
        chosen |= measured & np.isin(star, star[chosen & (star != NO_STAR)])
    names = ["obsid", "lmjm", "content_hash", "release"]
    return catalog[names].isel(exposure=np.flatnonzero(chosen)).load()


def _tasks(survey: Survey, run: FitRun, keys: NDArray[np.void], releases: NDArray[Any]) -> Iterator[RowsTask]:
    there_are = survey.releases
    if gone := sorted(set(releases.tolist()) - {release.name for release in there_are}):
        raise FitsError(
            f"rows of the catalog come from {', '.join(gone)}, which {survey} has no more; restore "
            f"{survey.new_release(gone[0]).target}"
        )
    for release in there_are:
        mine = keys[releases == release.name]
        if not len(mine):
            continue
        there = keys_of(release.key_columns())
        rows = np.flatnonzero(np.isin(there, mine))
        if len(rows) < len(mine):
            raise FitsError(
                f"{len(mine) - len(rows)} rows of the catalog are not in its release {release.name} as they were; "
                f"restore {release.folder}"
            )
        for start in range(0, len(rows), TASK_ROWS):
            some = rows[start : start + TASK_ROWS]
            digest = hashlib.sha256(f"{run.folder.name}:".encode() + there[some].tobytes())
            yield RowsTask(release.name, some, digest.hexdigest())


def _compute(
    client: Client,
    survey: Survey,
    run: FitRun,
    tasks: Sequence[RowsTask],
    asked: int,
    content: dict[str, Any],
    progress: Progress,
) -> dict[str, Failure]:
    done = asked - sum(len(task.rows) for task in tasks)

    def finished(task: RowsTask, _marker: dict[str, Any]) -> None:
        nonlocal done
        done += len(task.rows)
        progress("fits", done, asked)

    progress("fits", done, asked)
    folders = {release.name: release for release in survey.releases}
    with keeping(client, f"fits {run.folder.name}", _load, content) as keeper:
        work = ((task, folders[task.release], str(run.folder), keeper) for task in tasks)
        return engine.compute(client, run, fit_rows, work, finished)


def _load(content: dict[str, Any]) -> Any:
    """Make the fitter on a worker, if its installation makes what the key promises."""
    from twinlines.pipeline.binaries.twostar.fit import Fitter

    if (mine := decides()) != content:
        raise FitsError(
            f"this worker's twinlines would compute {mine}, but asked for is {content}; install the same version of "
            "twinlines on the workers as where the fits are started"
        )
    return Fitter.default()


def fit_rows(task: RowsTask, release: Release, folder: str, keeper: str) -> dict[str, Any]:
    """Fit the rows of a task on a worker, write them and their marker; returns the marker."""
    started = time.monotonic()
    run, fitter = FitRun(Path(folder)), kept_object(keeper)
    fitted = fitter(read_rows(release, task.rows))
    return run.record(task.key, fitted, **task.about, seconds=round(time.monotonic() - started, 3))
