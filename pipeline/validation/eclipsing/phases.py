"""Binary probabilities of eclipsing binaries against orbital phase: the W of the paper's Figure 8.

In eclipse the stars move across the line of sight and their lines coincide; a quarter of an orbit away from it they are
farthest apart. Exposures with a probability below one half are to be near the phases 0, 0.5 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.fits.store import FitsError, join, load_fits
from twinlines.pipeline.binaries.grouping import NO_STAR, RADIUS
from twinlines.pipeline.binaries.sources.source import is_resolved
from twinlines.pipeline.catalog.questions import Rule
from twinlines.pipeline.schema import HEADS, JOINT
from twinlines.pipeline.usertables.ephemerides import Ephemerides
from twinlines.pipeline.validation.eclipsing.circle import Circle, fit_circle
from twinlines.pipeline.validation.foreign.match import match
from twinlines.pipeline.validation.observed import Asked, ValidationError, observe, probabilities

Array = NDArray[np.float64]

BINS = 20
"""Bins of the phase."""

OUT_OF_ECLIPSE = ((0.1, 0.4), (0.6, 0.9))
"""Phases at which the paper finds most of the high probabilities."""

_CIRCULAR = 0.02  # secondary eclipses are no farther from phase 0.5 on orbits taken for circular
_UNSURE = 0.05  # of a cycle: with larger errors a phase says nothing


@dataclass(frozen=True)
class EclipsingConfig:
    """Which exposures count in the W."""

    snr: float = 10.0
    """Least S/N of the arm, or of both."""
    periods: tuple[float, float] = (1.0, 10.0)
    """Shortest and longest period, d."""
    radius: float = RADIUS
    """Largest distance of a match, arcsec."""


@dataclass(frozen=True)
class Eclipsing:
    """Exposures of eclipsing binaries; arrays of shape (exposure,), by star and phase."""

    ephemerides: Ephemerides
    """Their stars."""
    config: EclipsingConfig
    """Which exposures count."""
    penalty: int
    """Penalty of the probabilities."""
    rows: xr.Dataset
    """Rows of the catalog, with the columns of their fits where there are any."""
    star: NDArray[np.int64]
    """Row of the star in the ephemerides."""
    phase: Array
    """Orbital phase, 0 at the primary eclipse."""
    phase_error: Array
    """Its error."""
    probability: Mapping[str, Array]
    """Median binary probability by head; NaN where it is not judged."""
    counts: Mapping[str, NDArray[np.bool_]]
    """Whether an exposure counts in the W, by head."""
    circles: Mapping[int, Circle]
    """Circular orbits by the star's row, where velocities of both stars are known."""
    separation: Array
    """Measured velocity separation, km/s, from the two-star fit; NaN where it does not show two stars."""
    expected: Array
    """Velocity separation that the circular orbit gives, km/s; NaN without."""
    notes: tuple[str, ...]
    """What a user should know."""

    def w(self, head: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Exposures that count, those with a probability below one half, and stars; each of shape (:data:`BINS`,)."""
        mine = self.counts[head]
        place = np.minimum((self.phase[mine] * BINS).astype(np.int64), BINS - 1)
        every = np.bincount(place, minlength=BINS)
        single = np.bincount(place, weights=self.probability[head][mine] < 0.5, minlength=BINS).astype(np.int64)
        stars = np.array([len(np.unique(self.star[mine][place == at])) for at in range(BINS)], np.int64)
        return every, single, stars

    def out_of_eclipse(self) -> NDArray[np.bool_]:
        """Whether exposures are at the phases :data:`OUT_OF_ECLIPSE`."""
        parts = [(self.phase >= low) & (self.phase <= high) for low, high in OUT_OF_ECLIPSE]
        return np.asarray(np.any(parts, axis=0), np.bool_)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        outside = self.out_of_eclipse()
        heads = {}
        for head, counted in self.counts.items():
            every, single, stars = self.w(head)
            double = self.probability[head] > 0.5
            heads[head] = {
                "exposures": int(counted.sum()),
                "stars": len(np.unique(self.star[counted])),
                "out_of_eclipse": {
                    "exposures": int((counted & outside).sum()),
                    "double": int((counted & outside & double).sum()),
                },
                "near_eclipse": {
                    "exposures": int((counted & ~outside).sum()),
                    "double": int((counted & ~outside & double).sum()),
                },
                "bins": {"exposures": every, "below_half": single, "stars": stars},
            }
        return {
            **self.ephemerides.table.to_json(),
            "notes": list(self.notes),
            "config": vars(self.config),
            "penalty": self.penalty,
            "stars": len(np.unique(self.star)),
            "exposures": len(self.star),
            "heads": heads,
            "orbits": {str(self.ephemerides.name[star]): vars(circle) for star, circle in self.circles.items()},
        }

    def table(self) -> Table:
        """A row for each exposure: star, phase, probabilities, separations."""
        names = self.ephemerides.name[self.star]
        columns: dict[str, NDArray[Any]] = {"star": names, "period": self.ephemerides.period[self.star]}
        columns |= {name: self.rows[name].values for name in ("obsid", "lmjm", "bjdmid", "snr_B", "snr_R")}
        columns |= {"phase": self.phase, "phase_error": self.phase_error}
        columns |= {f"p50_{head}": values for head, values in self.probability.items()}
        columns |= {f"counts_{head}": values for head, values in self.counts.items()}
        columns |= {"separation": self.separation, "expected_separation": self.expected}
        result = Table(columns)
        units = {"period": "d", "lmjm": "min", "bjdmid": "d", "separation": "km/s", "expected_separation": "km/s"}
        for name, unit in units.items():
            result[name].unit = unit
        return result


def eclipsing(
    survey: str | Path,
    catalog: xr.Dataset,
    ephemerides: Ephemerides,
    config: EclipsingConfig | None = None,
    penalty: int = 16,
) -> Eclipsing:
    """Find a catalog's exposures of eclipsing binaries, and their phases.

    Parameters
    ----------
    survey
        Folder of the survey: its two-star fits, if it has any, tell velocities of both stars.
    catalog
        Its catalog.
    ephemerides
        Periods and epochs.
    config
        Which exposures count.
    penalty
        Penalty of the probabilities.

    Raises
    ------
    ValidationError
        If the catalog has no verdict, or no exposure of these stars with a time.
    UserTableError
        If no star of the table is in the catalog.
    """
    config = config or EclipsingConfig()
    notes = list(ephemerides.notes)
    heads = [head for head in HEADS if catalog.sb2.has(head, penalty)]
    rule: Rule = "joint" if JOINT in heads else "paper"
    observed = observe(catalog, Asked(rule, penalty), config.radius)
    mine = match(ephemerides.table, observed, config.radius)
    star_of = np.full(observed.stars, -1, np.int64)
    there = np.flatnonzero((mine.star != NO_STAR) & np.isfinite(ephemerides.period))
    several = np.zeros(observed.stars, np.int64)
    np.add.at(several, mine.star[there], 1)
    star_of[mine.star[there]] = there
    if (several > 1).any():
        notes.append(f"{int((several > 1).sum())} stars have several ephemerides: left out, as their phase is not one")
        star_of[several > 1] = -1
    at = np.where(observed.star != NO_STAR, observed.star, 0)
    chosen = np.flatnonzero((observed.star != NO_STAR) & (star_of[at] >= 0) & np.isfinite(catalog["bjdmid"].values))
    if not len(chosen):
        raise ValidationError(f"the catalog has no exposure with a time of a star of {ephemerides.table.path}")
    star = star_of[observed.star[chosen]]
    phase, error = ephemerides.phase(star, catalog["bjdmid"].values[chosen])
    order = np.lexsort((phase, star))
    chosen, star, phase, error = chosen[order], star[order], phase[order], error[order]
    unsure = error > _UNSURE
    if unsure.any():
        notes.append(f"{int(unsure.sum())} exposures have phases with errors above {_UNSURE:g}: they do not count")
    rows = catalog.isel(exposure=chosen).load()
    try:
        rows = join(rows, load_fits(survey))
    except FitsError:
        notes.append(f"no two-star fits: 'twinlines binaries fit --survey {survey}' gives velocities of both stars")
    circles, separation, expected = _orbits(ephemerides, rows, star, phase)
    probability = probabilities(rows, penalty, 50)
    return Eclipsing(
        ephemerides=ephemerides,
        config=config,
        penalty=penalty,
        rows=rows,
        star=star,
        phase=phase,
        phase_error=error,
        probability=probability,
        counts={
            head: _counts(rows, head, config, ephemerides.period[star]) & np.isfinite(values) & ~unsure
            for head, values in probability.items()
        },
        circles=circles,
        separation=separation,
        expected=expected,
        notes=tuple(notes),
    )


def _counts(rows: xr.Dataset, head: str, config: EclipsingConfig, period: Array) -> NDArray[np.bool_]:
    arms = ARM_NAMES if head == JOINT else (head,)
    bright = np.all([rows[f"snr_{arm}"].values > config.snr for arm in arms], axis=0)
    return np.asarray(bright & (period >= config.periods[0]) & (period <= config.periods[1]), np.bool_)


def _orbits(
    ephemerides: Ephemerides, rows: xr.Dataset, star: NDArray[np.int64], phase: Array
) -> tuple[dict[int, Circle], Array, Array]:
    """Circular orbits of stars, measured separations, and those that the orbits give."""
    separation, expected = np.full(len(star), np.nan), np.full(len(star), np.nan)
    circles: dict[int, Circle] = {}
    if "rv1" not in rows:
        return circles, separation, expected
    resolved = is_resolved(rows)
    velocity, error = (
        np.stack([rows[f"rv{which}{what}"].values for which in "12"], axis=1).astype(np.float64)
        for what in ("", "_err")
    )
    separation[resolved] = np.abs(velocity[:, 1] - velocity[:, 0])[resolved]
    for one in np.unique(star).tolist():
        secondary = ephemerides.secondary[one]
        if np.abs(secondary - 0.5) > _CIRCULAR:
            continue
        mine = np.flatnonzero((star == one) & resolved)
        circle = fit_circle(phase[mine], rows["bjdmid"].values[mine], velocity[mine], error[mine])
        if circle is not None:
            circles[one] = circle
            expected[star == one] = circle.separation(phase[star == one])
    return circles, separation, expected
