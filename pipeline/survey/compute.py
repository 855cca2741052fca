"""Runs a survey over a Dask client: plans, computes what is missing, publishes.

The client only hands out shards: a task opens the exposures itself, keeps its result itself, and returns a few numbers.
Knows no wavelength.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from distributed import Client, get_worker

from twinlines.cluster.workers import device, keeping, kept_object, tasks_at_once
from twinlines.pipeline.jobs import engine, sizing
from twinlines.pipeline.jobs.engine import Failure, JobError
from twinlines.pipeline.progress import Progress
from twinlines.pipeline.schema import EXPOSURES, RESULTS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity, plan, publication
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan, ShardTask
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.survey.runs import Recipe, SurveyRun, task_key
from twinlines.pipeline.survey.stages import Stages, threads_for

__all__ = ["Failure", "RunReport", "SurveyError", "run"]

BLOCK_ROWS = EXPOSURES.chunk_rows
"""Exposures that are in a worker's memory at a time, twice: one block is computed while the next one is read."""


class Parameters(Protocol):
    """What decides results besides data, weights and code.

    A survey's are :class:`twinlines.pipeline.spectra.inference.InferenceParameters`.
    """

    def to_json(self) -> dict[str, object]:
        """Make a dictionary for provenance and for the ledger's keys."""
        ...


Loader = Callable[[str, str, Any, str], Callable[[xr.Dataset], xr.Dataset]]
"""Makes, from weights, their digest, parameters and the device, the function from exposures to results."""


@dataclass(frozen=True)
class RunReport:
    """What a run did."""

    config_key: str
    """Key of weights, parameters and numerics."""
    releases: tuple[str, ...]
    """Releases that the run covers, the oldest first."""
    shards: int
    """Shards of these releases."""
    computed: int
    """Shards computed now."""
    skipped: int
    """Shards that had been done before."""
    rows: int
    """Exposures of the releases."""
    rows_computed: int
    """Exposures computed now."""
    failed: tuple[Failure, ...]
    """Shards that failed; if there are any, nothing is published."""
    catalog: Path | None
    """The catalog, or None."""
    published: bool
    """Whether the catalog is new; False also where the same had been published before."""
    seconds: float
    """Wall time, s."""
    parameters: Mapping[str, Any]
    """Parameters of the inference, as the run's key has them."""

    @property
    def complete(self) -> bool:
        """Whether everything asked for was done."""
        return not self.failed and self.catalog is not None

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            **asdict(self),
            "failed": [failure.to_json() for failure in self.failed],
            "catalog": str(self.catalog) if self.catalog else None,
            "complete": self.complete,
        }


def run(
    client: Client,
    survey: Path,
    *,
    weights: Path,
    parameters: Parameters,
    release: str | None = None,
    shard_rows: int = EXPOSURES.shard_rows,
    progress: Progress | None = None,
    loader: Loader | None = None,
    ignore_plan: bool = False,
) -> RunReport:
    """Compute what is missing of a release and those before it, and publish their catalog.

    Nothing that has a marker is computed again. If a shard fails to the last retry, the others go on, but nothing is
    published.

    Parameters
    ----------
    client
        Client of the cluster that computes; its workers must see the survey and the weights under the same paths.
    survey
        Folder of the survey.
    weights
        Folder of the ensemble.
    parameters
        Parameters of the inference.
    release
        Name of the release; by default the newest.
    shard_rows
        Exposures of one task. The catalog does not depend on it.
    progress
        Called at the start and after every shard; the stage is "exposures", and both numbers count them.
    loader
        Makes the inference on a worker; by default :meth:`twinlines.pipeline.spectra.inference.Inference.load`.
    ignore_plan
        Start even if memory or space seem too small.

    Raises
    ------
    SurveyError
        If the survey or the release does not exist or holds no exposures.
    twinlines.pipeline.jobs.sizing.SizingError
        If the workers' memory, or the space on the disk, is too small for what is to do.
    twinlines.pipeline.jobs.engine.JobError
        If the cluster was lost, or a disk is full.
    twinlines.pipeline.jobs.locks.LockedError
        If another run is at work on the survey.
    twinlines.cluster.workers.WorkerError
        If a worker cannot load the ensemble.
    """
    # Here, since other commands need not wait for torch.
    from twinlines.models import checkpoint
    from twinlines.pipeline.spectra.inference import NUMERICS, Inference

    started = time.monotonic()
    place, weights = Survey.at(survey), Path(weights).resolve()
    place.releases_up_to(release)
    recipe = Recipe(weights, checkpoint.digest(weights), parameters.to_json(), NUMERICS)
    with place.run_lock("twinlines run"):
        todo = _begin(place, recipe, release, shard_rows, len(client.nthreads()))
        need = sizing.of_run(sum(task.rows for task in todo.missing), todo.rows, BLOCK_ROWS)
        sizing.require(client, place.path, need, ignore=ignore_plan)
        job = _Job(client, todo, recipe, parameters, loader or Inference.load, progress)
        failed = job.compute() if todo.missing else {}
        catalog, published = (None, False) if failed else _publish(place, todo, recipe)
    missing = todo.missing
    computed = [task for task in missing if task.key not in failed]
    return RunReport(
        config_key=recipe.key,
        releases=tuple(covered.name for covered in todo.releases),
        shards=len(todo.tasks),
        computed=len(computed),
        skipped=len(todo.tasks) - len(missing),
        rows=todo.rows,
        rows_computed=sum(task.rows for task in computed),
        failed=tuple(failed.values()),
        catalog=catalog,
        published=published,
        seconds=time.monotonic() - started,
        parameters=recipe.parameters,
    )


def _begin(survey: Survey, recipe: Recipe, release: str | None, shard_rows: int, workers: int) -> Plan:
    run = survey.run(recipe.key)
    run.begin(recipe, shard_rows, survey.next_start_number, workers=workers)
    todo = plan.make(survey, run, release=release, shard_rows=shard_rows, verify=True)
    if not todo.tasks:
        names = ", ".join(covered.name for covered in todo.releases)
        raise SurveyError(f"{names} of {survey} holds no exposures; see the report of its ingestion")
    return todo


def _publish(survey: Survey, todo: Plan, recipe: Recipe) -> tuple[Path, bool]:
    try:
        return publication.publish(survey, todo, recipe)
    except OSError as error:
        if not engine.is_full(error):
            raise
        raise JobError(
            f"all shards are computed, but the catalog found no room: {error}; free some space and give the same "
            "command again"
        ) from error


@dataclass(frozen=True)
class _Job:
    """The computing part of a run."""

    client: Client
    plan: Plan
    recipe: Recipe
    parameters: Parameters
    loader: Loader
    progress: Progress | None

    def compute(self) -> dict[str, Failure]:
        """Compute the missing shards; returns the failures by their tasks' keys."""
        stores_by_name = {release.name: str(release.store) for release in self.plan.releases}
        run = self.plan.run
        total = self.plan.rows
        rows = total - sum(task.rows for task in self.plan.missing)

        def finished(task: ShardTask, _marker: dict[str, Any]) -> None:
            nonlocal rows
            rows += task.rows
            self._tell(rows, total)

        self._tell(rows, total)
        what = f"the inference {self.recipe.key}"
        with keeping(self.client, what, _load, self.loader, self.recipe, self.parameters) as keeper:
            tasks = ((task, stores_by_name[task.release], str(run.folder), keeper) for task in self.plan.missing)
            return engine.compute(self.client, run, compute_shard, tasks, finished, together=True)

    def _tell(self, rows: int, total: int) -> None:
        if self.progress is not None:
            self.progress("exposures", rows, total)


def _load(loader: Loader, recipe: Recipe, parameters: Parameters) -> Stages:
    """Make the inference on a worker, if its installation makes what the run's key promises.

    Parameters are objects, whose meaning (the library's digest, say) is the installation's of whoever holds them.
    """
    from twinlines.pipeline.spectra.inference import NUMERICS

    mine = Recipe(recipe.weights, recipe.digest, parameters.to_json(), NUMERICS)
    if mine.key != recipe.key:
        raise SurveyError(
            f"this worker's twinlines would compute {mine.content}, but the run is {recipe.content}; "
            "install the same version of twinlines, with the same library, on the workers as where the run is started"
        )
    where = device()
    infer = loader(str(recipe.weights), recipe.digest, parameters, where)
    return Stages(infer, threads_for(where), tasks_at_once())


def compute_shard(task: ShardTask, store: str, folder: str, keeper: str) -> dict[str, Any]:
    """Compute a shard on a worker and write its result and its marker; returns the marker.

    Parameters
    ----------
    task
        The shard.
    store
        Exposures store.
    folder
        Folder of the run.
    keeper
        Name under which the worker keeps the stages of the inference.
    """
    started = time.monotonic()
    run, stages = SurveyRun(Path(folder)), kept_object(keeper)
    integrity.check_rows(Path(store), task.start, task.stop)
    results = list(_results(stages, store, task.start, task.stop))
    columns = {name: np.concatenate([result[name].values for result in results]) for name in RESULTS.variables}
    key = task_key(run.config_key, columns["obsid"], columns["lmjm"], columns["content_hash"])
    if key != task.key:
        raise SurveyError(f"{store}: {task} changed since the run was planned; a release must not change")
    return run.record(
        task.key,
        RESULTS.dataset(columns, task.rows),
        release=task.release,
        start=task.start,
        stop=task.stop,
        seconds=round(time.monotonic() - started, 3),
        worker=get_worker().address,
    )


def _results(stages: Stages, store: str, start: int, stop: int) -> Iterator[xr.Dataset]:
    """Results of some rows of a store, block by block."""
    with stores.open_store(store, EXPOSURES, look=False) as dataset:

        def read(first: int) -> xr.Dataset:
            return dataset.isel({EXPOSURES.row: slice(first, min(first + BLOCK_ROWS, stop))}).load()

        for block, result in stages(range(start, stop, BLOCK_ROWS), read):
            yield _checked(block, result)


def _checked(block: xr.Dataset, result: xr.Dataset) -> xr.Dataset:
    """``result``, if its rows are those of ``block`` in the same order."""
    for name in ("obsid", "lmjm", "content_hash"):
        if not np.array_equal(result[name].values, block[name].values):
            raise SurveyError(f"the inference returned rows that differ in {name!r} from those it was given")
    return result
