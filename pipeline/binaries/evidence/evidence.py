"""The evidence of all stars of a catalog: probabilities to be a double-lined and a single-lined binary.

Whole stars pass through in blocks, so that memory is that of a few numbers for each exposure.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from twinlines.pipeline.binaries.evidence.exposures import (
    COLUMNS,
    ZERO_POINT,
    Exposures,
    arm_offset_of,
    exposures_of,
    usual_zero_point,
)
from twinlines.pipeline.binaries.evidence.model import (
    SB1,
    SB2,
    SINGLE,
    Calibration,
    log_likelihoods,
    night_log_ratio,
    shipped,
)
from twinlines.pipeline.binaries.evidence.nights import Nights, nights_of
from twinlines.pipeline.binaries.evidence.variability import variability
from twinlines.pipeline.schema import HEADS

BLOCK_ROWS = 262_144
"""Rows of a catalog that are read at a time, and exposures whose stars are weighed at a time, about."""


class PrevalenceError(ValueError):
    """A prevalence is no fraction."""


@dataclass(frozen=True)
class Prevalence:
    """How many stars are binaries, before their spectra are looked at."""

    sb2: float = 0.01
    """Fraction of all stars that are double-lined binaries: two sets of lines, at some phase 50 km/s apart."""
    sb1: float = 0.05
    """Fraction of the other stars whose velocity changes by kilometres a second from night to night."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0.0 < value < 1.0:
                raise PrevalenceError(
                    f"the prevalence of {item.name.upper()}s is {value}; give a fraction between 0 and 1"
                )


@dataclass(frozen=True)
class Evidence:
    """What the exposures of each star say; arrays of shape (star,)."""

    nights: NDArray[np.int32]
    """Nights with a verdict."""
    epochs_judged: NDArray[np.int32]
    """Exposures with a verdict."""
    nights_double: NDArray[np.int32]
    """Nights that look double rather than single."""
    best_log_ratio: NDArray[np.float32]
    """Of the night that looks double most: ln(likelihood of two stars' light / of one's); NaN without a verdict."""
    sb2_log_evidence: NDArray[np.float32]
    """ln(likelihood of a double-lined binary / of any other star)."""
    sb2_probability: NDArray[np.float64]
    """Probability to be a double-lined binary."""
    sb1_probability: NDArray[np.float64]
    """Probability to be a single-lined binary."""
    rv_nights: NDArray[np.int32]
    """Nights with a velocity that look single."""
    rv_mean: NDArray[np.float32]
    """Mean of their velocities, km/s."""
    rv_range: NDArray[np.float32]
    """Largest less smallest, km/s."""
    rv_excess: NDArray[np.float32]
    """Standard deviation beyond the errors, km/s."""
    rv_p_value: NDArray[np.float32]
    """Chance that a constant velocity scatters as much."""


def evidence_of(
    exposures: Exposures,
    star: NDArray[np.int64],
    stars: int,
    *,
    prevalence: Prevalence | None = None,
    calibration: Calibration | None = None,
    block_rows: int = BLOCK_ROWS,
) -> Evidence:
    """Weigh the exposures of stars.

    Parameters
    ----------
    exposures
        What counts in each exposure.
    star
        (exposure,) star of each, 0 to ``stars`` - 1; negative: of no star.
    stars
        Number of stars; each has an exposure.
    prevalence
        How many stars are binaries, beforehand.
    calibration
        Constants of the model; by default those that ship.
    block_rows
        About how many exposures are weighed at a time.

    Raises
    ------
    ValueError
        If a star has no exposure.
    """
    prevalence, calibration = prevalence or Prevalence(), calibration or shipped()
    order = np.lexsort((exposures.night, star))
    order = order[np.searchsorted(star[order], 0) :]
    counts = np.bincount(star[order], minlength=stars)
    if len(counts) > stars or not counts.all():
        raise ValueError(f"{int((counts == 0).sum())} of {stars} stars have no exposure, or stars are numbered beyond")
    ends = np.cumsum(counts)
    parts = []
    begin = 0
    while begin < len(order):
        end = int(ends[np.searchsorted(ends, min(begin + block_rows, len(order)))])
        mine = order[begin:end]
        nights = nights_of(exposures.take(mine), star[mine], len(HEADS))
        parts.append(weigh(nights, prevalence, calibration))
        begin = end
    parts = parts or [weigh(nights_of(exposures.take(order), star[order], len(HEADS)), prevalence, calibration)]
    names = [item.name for item in fields(Evidence)]
    return Evidence(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def weigh(nights: Nights, prevalence: Prevalence, calibration: Calibration) -> Evidence:
    """Evidence of stars whose exposures are gathered into nights."""
    ratio, judged = night_log_ratio(nights, calibration), nights.judged > 0
    double = judged & (ratio > 0.0)
    velocities = variability(nights, judged & (nights.ratio_of_head.sum(axis=1) < 0.0))
    log = log_likelihoods(nights, ratio, velocities.log_ratio, calibration)
    other = np.logaddexp(np.log1p(-prevalence.sb1) + log[:, SINGLE], np.log(prevalence.sb1) + log[:, SB1])
    evidence = log[:, SB2] - other
    is_sb2 = expit(evidence + np.log(prevalence.sb2) - np.log1p(-prevalence.sb2))
    is_sb1 = (1.0 - is_sb2) * np.exp(np.log(prevalence.sb1) + log[:, SB1] - other)
    best = _largest(nights, np.where(judged, ratio, -np.inf))
    return Evidence(
        nights=nights.per_star(judged.astype(np.int32)),
        epochs_judged=nights.per_star(nights.judged).astype(np.int32),
        nights_double=nights.per_star(double.astype(np.int32)),
        best_log_ratio=np.where(np.isfinite(best), best, np.nan).astype(np.float32),
        sb2_log_evidence=evidence.astype(np.float32),
        sb2_probability=is_sb2,
        sb1_probability=is_sb1,
        rv_nights=velocities.nights.astype(np.int32),
        rv_mean=velocities.mean.astype(np.float32),
        rv_range=velocities.spread.astype(np.float32),
        rv_excess=velocities.excess.astype(np.float32),
        rv_p_value=velocities.p_value.astype(np.float32),
    )


def _largest(nights: Nights, values: NDArray[np.float64]) -> NDArray[Any]:
    return np.maximum.reduceat(values, nights.begin) if len(nights.begin) else values[:0]


def read_exposures(catalog: xr.Dataset, *, zero_point: float = ZERO_POINT, block_rows: int = BLOCK_ROWS) -> Exposures:
    """What counts in all rows of a catalog, read in blocks.

    Parameters
    ----------
    catalog
        Rows of :data:`twinlines.pipeline.schema.CATALOG`, on disk or not.
    zero_point
        Standard deviation of the zero points of velocities that have none measured, km/s.
    block_rows
        Rows that are read at a time.
    """
    offset, usual = arm_offset_of(catalog), usual_zero_point(catalog)
    columns, rows = catalog[list(COLUMNS)], catalog.sizes["exposure"]
    return Exposures.concatenate(
        [
            exposures_of(
                columns.isel(exposure=slice(begin, begin + block_rows)).load(),
                arm_offset=offset,
                usual=usual,
                zero_point=zero_point,
            )
            for begin in range(0, max(rows, 1), block_rows)
        ]
    )
