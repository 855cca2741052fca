"""Cross-correlation functions of some candidates, as in the insets of the paper's Figure 12."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.schema import JOINT
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.templates import Templates
from twinlines.pipeline.spectra.velocity import correlate
from twinlines.pipeline.survey.exposures import exposures_of
from twinlines.pipeline.validation.colours.diagram import Diagram
from twinlines.pipeline.validation.observed import ValidationError

Array = NDArray[np.float64]

WIDEST = 600.0
"""Half the range of velocities that is kept, km/s."""


@dataclass(frozen=True)
class StarCorrelation:
    """One candidate's exposure with the highest probability."""

    star: int
    """Number of the star in the diagram."""
    obsid: int
    """LAMOST's identifier."""
    probability: float
    """Median probability, of both arms together where there is one."""
    arms: Mapping[ArmName, tuple[Array, Array]]
    """Velocity relative to the measured one, km/s, and coefficient, of each arm that has a velocity."""


@one_thread()
def correlations(
    survey: str | Path, catalog: xr.Dataset, result: Diagram, most: int = 10
) -> tuple[StarCorrelation, ...]:
    """Correlate candidates with their best templates: some that are spread over the colours, from blue to red.

    Parameters
    ----------
    survey
        Folder of the survey, whose releases hold the spectra.
    catalog
        Its catalog.
    result
        The diagram.
    most
        Most stars.
    """
    candidates = np.flatnonzero(result.shown & result.candidate)
    candidates = candidates[np.argsort(result.colour[candidates], kind="stable")]
    if not len(candidates):
        return ()
    chosen = candidates[np.unique(np.linspace(0, len(candidates) - 1, most).round().astype(np.int64))]
    penalty = result.observed.asked.penalty
    head = JOINT if catalog.sb2.has(JOINT, penalty) else ARM_NAMES[0]
    median = catalog.sb2.probability(head, penalty=penalty).values
    rows = []
    for star in chosen.tolist():
        mine = np.flatnonzero((result.observed.star == star) & result.observed.candidate)
        rows.append(int(mine[np.argmax(np.nan_to_num(median[mine], nan=-1.0))]))
    some = catalog.isel(exposure=rows).load()
    block = exposures_of(survey, some, ValidationError)
    templates = Templates.default()
    functions: dict[ArmName, tuple[Array, Array]] = {}
    for name in ARM_NAMES:
        observed = ArmSpectra.of(name, block).observe(name)
        found = correlate(
            *(name, observed.wavelength, observed.normalised, observed.normalised_sigma, templates, observed.bad)
        )
        functions[name] = found.velocity, found.coefficient.astype(np.float64)
    every = []
    for at, star in enumerate(chosen.tolist()):
        arms: dict[ArmName, tuple[Array, Array]] = {}
        for name, (velocity, coefficient) in functions.items():
            relative = velocity - float(some[f"rv_obs_{name}"].values[at])
            kept = np.abs(relative) <= WIDEST  # nothing, where there is no velocity
            if kept.any():
                arms[name] = relative[kept], coefficient[at][kept]
        every.append(StarCorrelation(star, int(some["obsid"].values[at]), float(median[rows[at]]), arms))
    return tuple(every)
