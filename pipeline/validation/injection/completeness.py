"""What part of injected binaries is found: by separation, flux ratio, S/N and type, and for each star of a catalog.

Intervals know that binaries of one real star are alike: they say what to expect of other stars of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.validation.intervals import CONFIDENCE, ExactRate, clustered_rate
from twinlines.pipeline.validation.trust.classes import NO_CLASS, Classes
from twinlines.pipeline.validation.trust.scores import Exposures

Array = NDArray[np.float64]

SEPARATIONS = (25.0, 50.0, 100.0, 150.0)
"""Velocity separations, km/s, that divide bins."""

FLUX_RATIOS = (0.1, 0.25, 0.5)
"""Flux ratios in the blue arm that divide bins."""


@dataclass(frozen=True)
class Bin:
    """Injected binaries that are alike in something."""

    label: str
    """Of what they are."""
    low: float
    """From this value on."""
    high: float
    """Up to this; infinite where there is no end."""
    stars: int
    """Real stars of which they are made."""
    found: ExactRate
    """The part that is found."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {"bin": self.label, "low": self.low, "high": self.high, "stars": self.stars, **self.found.to_json()}


@dataclass(frozen=True)
class Completeness:
    """Parts found, by what binaries are."""

    whole: Bin
    """All of them."""
    by: dict[str, tuple[Bin, ...]]
    """By "separation", "flux_ratio", "snr", "type"; bins without a binary are left out."""
    grid: tuple[tuple[Bin, ...], ...]
    """By flux ratio, and in it by separation; every bin is there."""
    cells: tuple[Bin, ...]
    """By class of S/N and type, in the order of :class:`.Classes`."""
    classes: Classes
    """Where classes end."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {
            "all": self.whole.to_json(),
            "by": {name: [one.to_json() for one in bins] for name, bins in self.by.items()},
            "flux_ratio_and_separation": [[one.to_json() for one in row] for row in self.grid],
            "classes": [one.to_json() for one in self.cells if one.found.trials],
        }


def measure(injections: xr.Dataset, classes: Classes, confidence: float = CONFIDENCE) -> Completeness:
    """Count what is found.

    Parameters
    ----------
    injections
        Rows of :data:`twinlines.pipeline.validation.schema.INJECTIONS`.
    classes
        Where classes of S/N and type end.
    confidence
        Of the intervals.
    """
    found, star = injections["candidate"].values, np.unique(injections["star1"].values, return_inverse=True)[1]
    value = {
        "separation": np.abs(injections["separation"].values.astype(np.float64)),
        "flux_ratio": injections["flux_ratio_B"].values.astype(np.float64),
        "snr": injections["snr_B"].values.astype(np.float64),
        "type": injections["teff1"].values.astype(np.float64),
    }
    edges = {"separation": SEPARATIONS, "flux_ratio": FLUX_RATIOS, "snr": classes.snr, "type": classes.teff}
    place = {name: np.searchsorted(edges[name], value[name], side="right") for name in edges}

    def one(label: str, low: float, high: float, rows: NDArray[np.bool_]) -> Bin:
        return Bin(label, low, high, len(np.unique(star[rows])), clustered_rate(found[rows], star[rows], confidence))

    def bins(name: str, inside: NDArray[np.bool_]) -> tuple[Bin, ...]:
        ends = [0.0, *edges[name], np.inf]
        return tuple(
            one(_label(name, ends, at), ends[at], ends[at + 1], inside & (place[name] == at))
            for at in range(len(ends) - 1)
        )

    every = np.ones(len(found), np.bool_)
    group = classes.of(value["snr"], value["type"])
    return Completeness(
        whole=one("all", 0.0, np.inf, every),
        by={name: tuple(each for each in bins(name, every) if each.found.trials) for name in edges},
        grid=tuple(bins("separation", place["flux_ratio"] == at) for at in range(len(FLUX_RATIOS) + 1)),
        cells=tuple(one(classes.label(number), 0.0, np.inf, group == number) for number in range(len(classes))),
        classes=classes,
    )


_UNITS = {"separation": " km/s", "flux_ratio": "", "snr": "", "type": " K"}


def _label(name: str, ends: Sequence[float], at: int) -> str:
    unit = _UNITS[name]
    if at == len(ends) - 2:
        return f"from {ends[at]:g}{unit} on"
    return f"{ends[at]:g} to {ends[at + 1]:g}{unit}"


def of_stars(exposures: Exposures, completeness: Completeness) -> dict[str, NDArray[Any]]:
    """Each star's own completeness: that of binaries of the class of its best exposure, columns of shape (star,).

    The best is that whose class finds most. Other exposures can only show more, so that this is what is found at least
    of binaries that are met at the injected separations.

    Parameters
    ----------
    exposures
        Those of a catalog that can be judged.
    completeness
        What was found of injected binaries.
    """
    cells = completeness.cells
    rate, low, high = (
        np.array([getattr(one.found, name) if one.found.trials else missing for one in cells])
        for name, missing in (("value", np.nan), ("low", 0.0), ("high", 1.0))
    )
    trials = np.array([one.found.trials for one in cells])
    group = completeness.classes.of(exposures.snr, exposures.teff)
    known = np.where(group == NO_CLASS, -1.0, np.nan_to_num(rate[group], nan=-1.0))
    # Of each star the exposure of the class that finds most; of these the one of the highest S/N.
    order = np.lexsort((exposures.snr, known, exposures.star))
    first = exposures.first
    count = np.diff(np.r_[first, len(exposures.star)])
    best = order[first + count - 1]
    mine, there = group[best], known[best] >= 0.0
    return {
        "obsid": exposures.name[first],
        "exposures": count,
        "best_snr": exposures.snr[best],
        "completeness": np.where(there, rate[mine], np.nan),
        "completeness_low": np.where(there, low[mine], 0.0),
        "completeness_high": np.where(there, high[mine], 1.0),
        "injections": np.where(there, trials[mine], 0),
        "row": exposures.row[best],
    }
