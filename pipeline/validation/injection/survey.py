"""Injects known binaries into a survey's own single spectra, over a Dask client; what is judged is not judged again.

Stands in ``validation/<catalog>`` of the survey's folder: answers of tasks in ``injection/``, and, when all are there,
``injections-<number>.zarr`` and ``completeness-<number>.zarr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray

from twinlines.cluster.workers import keeping
from twinlines.pipeline.binaries import numbered
from twinlines.pipeline.jobs import locks, sizing
from twinlines.pipeline.jobs.answers import Answers
from twinlines.pipeline.jobs.markers import Markers, now
from twinlines.pipeline.jobs.questions import Questions
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.spectra.inference import NUMERICS as INFERENCE
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.validation.injection import completeness as counting
from twinlines.pipeline.validation.injection.completeness import Completeness
from twinlines.pipeline.validation.injection.draws import InjectionConfig, Injections, draw
from twinlines.pipeline.validation.injection.judging import InjectionTask, Source, judge, load
from twinlines.pipeline.validation.injection.reals import Ensemble, RealConfig, ensemble_of, light_of, source_of
from twinlines.pipeline.validation.injection.stored import STEM
from twinlines.pipeline.validation.schema import COMPLETENESS, INJECTIONS
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.nulls import NullRule
from twinlines.pipeline.validation.trust.survey import LOCK, CatalogStars, folder_of, stars_of

NUMERICS = 1
"""Numerical version: raised with every change that alters a result."""

TASK = 64
"""Binaries of a task: some seconds."""

_ANSWERS, _STEM = "injection", "injections"


@dataclass(frozen=True)
class InjectionReport:
    """What was injected, and what was found of it."""

    catalog: str
    """Name of the catalog."""
    release: str
    """Release of which the real spectra are."""
    stars: int
    """Real single stars that were used."""
    spectra: int
    """Their exposures."""
    left_out: tuple[str, ...]
    """Exposures that could not be used, and why."""
    config: Mapping[str, Any]
    """Distributions of what was injected."""
    injected: int
    """Binaries."""
    completeness: Completeness
    """The parts found."""
    store: Path
    """Where the binaries are."""
    of_stars: Path
    """Where each star's own completeness is."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        names = ("catalog", "release", "stars", "spectra", "left_out", "config", "injected")
        told = {name: getattr(self, name) for name in names}
        stored = {"store": str(self.store), "of_stars": str(self.of_stars)}
        return {**told, **self.completeness.to_json(), **stored}


def inject(
    client: Client,
    survey: str | Path,
    *,
    count: int = 2000,
    config: InjectionConfig | None = None,
    real: RealConfig | None = None,
    nulls: str | Path | None = None,
    rule: NullRule | None = None,
    classes: Classes | None = None,
    weights: str | Path | None = None,
    progress: Progress = silent,
    ignore_plan: bool = False,
) -> InjectionReport:
    """Combine a survey's single spectra into known binaries, judge them as the catalog was, and count what is found.

    Parameters
    ----------
    client
        Client of the cluster that computes; its workers must see the survey and the weights under the same paths.
    survey
        Folder of the survey.
    count
        Binaries; more of them cost only those that are new.
    config
        Distributions of what is injected.
    real
        Which single spectra are used.
    nulls
        A list of single stars; None: the survey's own.
    rule
        What the survey's own must show.
    classes
        Where classes of S/N and type end.
    weights
        Folder of the ensemble that computed the catalog, if it is not where it was.
    progress
        Called after each task; the stage is "injections".
    ignore_plan
        Start even if memory or space seem too small.

    Raises
    ------
    CatalogError
        If there is no catalog.
    TrustError
        If there are no single spectra that will do, or the ensemble of the catalog is not at hand.
    twinlines.pipeline.jobs.engine.JobError
        If a task fails; what the others have answered is kept.
    twinlines.pipeline.jobs.sizing.SizingError
        If the workers' memory, or the space on the disk, is too small.
    """
    if count < 1:
        raise TrustError(f"{count} binaries are asked for; give 1 or more")
    config, real, classes = config or InjectionConfig(), real or RealConfig(), classes or Classes()
    place = Survey.at(survey)
    stars = stars_of(place.path, nulls=nulls, rule=rule, classes=classes)
    name = str(stars.catalog.attrs["name"])
    folder, digest, parameters = ensemble_of(place, stars.catalog, weights)
    base = folder_of(place, name)
    with locks.lock(place.path, "twinlines validate injection", LOCK):
        decides = {"numerics": NUMERICS, "inference": INFERENCE, "weights": digest, "parameters": parameters.to_json()}
        answers = Answers(Markers(base / _ANSWERS), decides)
        answers.open()
        source, release = source_of(place, stars, real, classes, base / _ANSWERS)
        light = light_of(source)
        injections = draw(light, count, config)
        sizing.require(client, place.path, sizing.of_run(count, 0, TASK), ignore=ignore_plan)
        judged = _judge(
            client, answers, injections, light, source, release, (folder, digest, parameters), config, progress
        )
        rows = _dataset(injections, light, judged)
        found = counting.measure(rows, classes)
        about = {
            "catalog": name,
            "release": release,
            "config": config.to_json(),
            **decides,
            "stars": light.digest,
            "classes": classes.to_json(),
            "created": now(),
        }
        store = numbered.put(base, _STEM, INJECTIONS, len(injections), lambda column: rows[column].values, about)
        each = _of_stars(stars, found)
        of_stars = numbered.put(
            base,
            STEM,
            COMPLETENESS,
            len(each["obsid"]),
            lambda column: each[column],
            {**about, "made_of": store.name},
        )
    return InjectionReport(
        catalog=name,
        release=release,
        stars=len(set(light.name)),
        spectra=len(light),
        left_out=light.left_out,
        config=config.to_json(),
        injected=count,
        completeness=found,
        store=store,
        of_stars=of_stars,
    )


def _judge(
    client: Client,
    answers: Answers,
    injections: Injections,
    light: RealStars,
    source: Source,
    release: str,
    ensemble: Ensemble,
    config: InjectionConfig,
    progress: Progress,
) -> dict[str, NDArray[Any]]:
    """What the chain says of all, in their order."""
    folder, digest, parameters = ensemble
    tasks = [
        InjectionTask(injections.take(slice(start, start + TASK)), source, light.digest, release)
        for start in range(0, len(injections), TASK)
    ]
    with keeping(client, f"the inference of {digest[:12]}", load, str(folder), digest, parameters) as keeper:
        asked = Questions(client, answers, progress, keeper).ask(
            "injections", judge, ((task, config.seed) for task in tasks)
        )
    asked.sort(key=lambda pair: int(pair[0].injections.number[0]))
    return {name: np.concatenate([answer[name] for _, answer in asked]) for name in asked[0][1]}


def _dataset(injections: Injections, light: RealStars, judged: Mapping[str, NDArray[Any]]) -> xr.Dataset:
    names = np.array(light.name, dtype=object)
    return INJECTIONS.dataset(
        {
            "number": injections.number,
            "star1": names[injections.star1],
            "star2": names[injections.star2],
            "teff1": light.teff[injections.star1],
            "teff2": light.teff[injections.star2],
            "mass_ratio": injections.mass_ratio,
            "flux_ratio_B": injections.ratio_blue,
            "flux_ratio_R": injections.ratio_red,
            "separation": injections.separation,
            "velocity": injections.velocity,
            "snr_B": injections.snr_blue,
            "snr_R": injections.snr_red,
            **judged,
        },
        len(injections),
    )


def _of_stars(stars: CatalogStars, found: Completeness) -> dict[str, NDArray[Any]]:
    columns = counting.of_stars(stars.exposures, found)
    row = columns.pop("row")
    columns |= {name: stars.catalog[name].values[row] for name in ("ra", "dec")}
    dtypes = {name: COMPLETENESS.variables[name].dtype for name in COMPLETENESS.variables}
    return {name: columns[name].astype(dtypes[name]) for name in dtypes}
