"""Spectra of one eclipsing binary, ordered by phase: the lines of both stars, as in the paper's Figure 9.

Wavelengths are barycentric, as the survey stores them: what moves from one spectrum to the next are the stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ArmName
from twinlines.pipeline.schema import JOINT
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.lines import TITLES, WAVELENGTHS
from twinlines.pipeline.survey.exposures import exposures_of
from twinlines.pipeline.validation.eclipsing.circle import Circle
from twinlines.pipeline.validation.eclipsing.phases import Eclipsing
from twinlines.pipeline.validation.observed import ValidationError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Part of an arm that is shown."""

    arm: ArmName
    """The arm."""
    title: str
    """What is seen there."""
    low: float
    """From, Angstrom, vacuum."""
    high: float
    """To, Angstrom."""
    lines: tuple[float, ...]
    """Rest wavelengths of its lines, Angstrom, vacuum (NIST)."""


WINDOWS = (
    Window("B", TITLES["B"], 5160.0, 5192.0, WAVELENGTHS["B"]),
    Window("R", TITLES["R"], 6550.0, 6580.0, WAVELENGTHS["R"]),
)
"""What the paper's Figure 9 shows."""

_STEP = 0.1  # Angstrom, about a pixel


@dataclass(frozen=True)
class PhasedSpectra:
    """Spectra of one star, by phase; arrays of shape (exposure,), or (exposure, pixel)."""

    name: str
    """The star."""
    period: float
    """Its period, d."""
    phase: Array
    """Orbital phases, rising."""
    probability: Array
    """Median binary probability, of both arms together where there is one; NaN where it is not judged."""
    head: str
    """What that probability is of."""
    wavelength: tuple[Array, ...]
    """Wavelengths of each window, (pixel,), Angstrom, vacuum, barycentric."""
    flux: tuple[Array, ...]
    """Flux over continuum in each window; NaN where the arm is absent."""
    circle: Circle | None
    """Its circular orbit, where velocities of both stars are known."""


def star_row(result: Eclipsing, star: str | None) -> int:
    """Row of a star in the ephemerides, by its name or an obsid of it; None: that with the most judged exposures.

    Raises
    ------
    ValidationError
        If the catalog has no exposure of it.
    """
    if star is None:
        judged = np.any([np.isfinite(values) for values in result.probability.values()], axis=0)
        counts = np.bincount(result.star, weights=judged)
        return int(np.argmax(counts))
    wanted = star.lower().removeprefix("kic").strip()
    names = np.char.lower(result.ephemerides.name[result.star])
    mine = np.flatnonzero((names == wanted) | (result.rows["obsid"].values.astype(str) == wanted))
    if not len(mine):
        some = ", ".join(np.unique(result.ephemerides.name[result.star])[:5].tolist())
        raise ValidationError(
            f"the catalog has no exposure of a star {star!r} of {result.ephemerides.table.path}; it has {some}"
        )
    return int(result.star[mine[0]])


@one_thread()
def phased_spectra(survey: str | Path, result: Eclipsing, star: str | None = None) -> PhasedSpectra:
    """Read one star's spectra.

    Parameters
    ----------
    survey
        Folder of the survey.
    result
        Exposures of eclipsing binaries.
    star
        Name of the star, or an obsid of it; by default that with the most judged exposures.

    Raises
    ------
    ValidationError
        If there is no such star, none of its exposures can be shown, or a release is gone.
    """
    row = star_row(result, star)
    seen = result.rows["specflag_B"].values | result.rows["specflag_R"].values
    mine = np.flatnonzero((result.star == row) & seen)
    name = str(result.ephemerides.name[row])
    if not len(mine):
        raise ValidationError(f"no exposure of the star {name} has S/N above 5; name another")
    block = exposures_of(survey, result.rows.isel(exposure=mine), ValidationError)
    head = JOINT if JOINT in result.probability else next(iter(result.probability))
    wavelengths, fluxes = [], []
    for window in WINDOWS:
        grid = np.arange(window.low, window.high, _STEP)
        observed = ArmSpectra.of(window.arm, block).observe(window.arm)
        flux = np.full((len(mine), len(grid)), np.nan)
        good = result.rows[f"specflag_{window.arm}"].values[mine]
        for at in np.flatnonzero(good).tolist():
            flux[at] = np.interp(grid, observed.wavelength[at].numpy(), observed.normalised[at].numpy())
        wavelengths.append(grid)
        fluxes.append(flux)
    return PhasedSpectra(
        name=name,
        period=float(result.ephemerides.period[row]),
        phase=result.phase[mine],
        probability=result.probability[head][mine],
        head=head,
        wavelength=tuple(wavelengths),
        flux=tuple(fluxes),
        circle=result.circles.get(row),
    )
