"""What counts as evidence in each exposure of each star: the networks' likelihood ratio, and velocities.

A network's probability with penalty Lambda is that of a pair of a training set of which a fraction f is binary, with
singles weighted by Lambda: logit(p) = ln(f / (1 - f)) - ln Lambda + ln(likelihood ratio). f is a half; the penalty is
taken back, and the penalties' ratios, which hardly differ, are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, JOINT, MAXIMUM_BAD_PIXELS, PERCENTILES, Quality

Array = NDArray[np.floating[Any]]

NO_HEAD = -1
"""Head of an exposure that no network judged, or that is not to be trusted."""

ZERO_POINT = 4.0
"""Standard deviation of the zero points of velocities that have none measured, km/s."""

REFERENCE_SNR = 20.0
"""S/N of an exposure of which it is not known; chances are told at it."""

LEAST_ERROR = 0.5
"""Least error of the velocity of one arm of an exposure, km/s."""

_MEDIAN = PERCENTILES.index(50)
_LEAST, _MOST = 1e-9, 1.0 - 6e-8  # probabilities beyond are rounded: no ratio is told by them

COLUMNS = (
    "lmjm",
    *(f"pb_pct_{head}_{penalty}" for head in HEADS for penalty in CATALOG_PENALTIES),
    *(
        f"{name}_{arm}"
        for arm in ARM_NAMES
        for name in (
            *("snr", "npixbad", "quality", "rv_teff"),
            *("rv_obs", "rv_obs_err", "rv_abs", "rv_abs_err"),
        )
    ),
)
"""Variables of :data:`twinlines.pipeline.schema.CATALOG` that are read."""


@dataclass(frozen=True)
class Exposures:
    """Exposures of stars; arrays of shape (exposure,)."""

    night: NDArray[np.int32]
    """Number of the local night, from noon to noon."""
    ratio: NDArray[np.float32]
    """ln(likelihood ratio of two stars' light to one's), as the network has it; 0 where there is no head."""
    head: NDArray[np.int8]
    """Place in :data:`twinlines.models.vocabulary.HEADS` of the verdict; :data:`NO_HEAD`."""
    log_snr: NDArray[np.float32]
    """ln of the S/N, of the blue arm where it takes part."""
    teff: NDArray[np.float32]
    """Effective temperature of the velocity's template, K; NaN where there is none."""
    velocity: NDArray[np.float32]
    """Velocity of the arms' mean, km/s; NaN where there is none."""
    error: NDArray[np.float32]
    """Its error, with the zero point's, km/s."""

    def take(self, rows: NDArray[np.int64]) -> Exposures:
        """The exposures at ``rows``."""
        return Exposures(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @classmethod
    def concatenate(cls, parts: list[Exposures]) -> Exposures:
        """All exposures of some blocks."""
        return cls(**{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)})


def log_ratio(probability: Mapping[int, Array]) -> NDArray[np.float64]:
    """ln(likelihood ratio) of two stars' light to one's, shape (exposure,).

    Parameters
    ----------
    probability
        (exposure,) median binary probability by penalty; NaN where there is none.

    Returns
    -------
    array
        Mean over the penalties that are there; NaN if there is none.
    """
    total, count = np.zeros(1), np.zeros(1)
    for penalty, values in probability.items():
        p = np.asarray(values, np.float64).clip(_LEAST, _MOST)
        known = np.isfinite(p)
        total = total + np.where(known, np.log(p) - np.log1p(-p) + np.log(penalty), 0.0)
        count = count + known
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1.0), np.nan), np.float64)


def exposures_of(
    catalog: xr.Dataset,
    *,
    arm_offset: float = 0.0,
    usual: float = 0.0,
    zero_point: float = ZERO_POINT,
    without: tuple[str, ...] = (),
) -> Exposures:
    """What counts in the rows of a catalog, all of them in memory.

    Parameters
    ----------
    catalog
        Variables :data:`COLUMNS` of rows of :data:`twinlines.pipeline.schema.CATALOG`, in any order.
    arm_offset
        Zero point of the red arm's measured velocities less the blue arm's, km/s (:func:`arm_offset_of`).
    usual
        Zero point of the blue arm that is taken where none is measured, km/s (:func:`usual_zero_point`): a star's
        velocities must be on one scale to be compared.
    zero_point
        Standard deviation of the zero points of measured velocities, km/s. Calibrated ones (``rv_abs_*``) have errors
        of their own.
    without
        Heads that are left out, as if they had not judged.
    """
    value = {name: catalog[name].values for name in COLUMNS}
    rows = len(value["lmjm"])
    usable: dict[str, NDArray[np.bool_]] = {arm: _usable(value, arm) for arm in ARM_NAMES}
    usable[JOINT] = np.all([usable[arm] for arm in ARM_NAMES], axis=0)
    ratio, head = np.zeros(rows), np.full(rows, NO_HEAD, np.int8)
    for place, name in enumerate(HEADS):  # both arms together come last, and count before either
        if name in without:
            continue
        mine = log_ratio({penalty: value[f"pb_pct_{name}_{penalty}"][:, _MEDIAN] for penalty in CATALOG_PENALTIES})
        here = np.isfinite(mine) & usable[name]
        if name == ARM_NAMES[1]:
            here &= head == NO_HEAD
        ratio, head = np.where(here, mine, ratio), np.where(here, np.int8(place), head)
    red = head == HEADS.index(ARM_NAMES[1])
    snr = np.where(red, value["snr_R"], value["snr_B"]).astype(np.float64)
    snr = np.where(np.isfinite(snr), np.maximum(snr, 1.0), REFERENCE_SNR)
    teff = np.where(red | ~np.isfinite(value["rv_teff_B"]), value["rv_teff_R"], value["rv_teff_B"])
    offsets = dict(zip(ARM_NAMES, (-usual, arm_offset - usual), strict=True))
    velocity, error = _velocity(value, offsets, zero_point)
    return Exposures(
        night=((value["lmjm"].astype(np.int64) + 720) // 1440).astype(np.int32),
        ratio=ratio.astype(np.float32),
        head=head,
        log_snr=np.where(head == NO_HEAD, 0.0, np.log(snr)).astype(np.float32),
        teff=teff.astype(np.float32),
        velocity=velocity,
        error=error,
    )


def arm_offset_of(catalog: xr.Dataset) -> float:
    """Median of the red arm's measured velocity less the blue arm's, km/s; 0 where no exposure has both."""
    apart = catalog["rv_obs_R"].values - catalog["rv_obs_B"].values
    apart = apart[np.isfinite(apart)]
    return float(np.median(apart)) if len(apart) else 0.0


def usual_zero_point(catalog: xr.Dataset) -> float:
    """Median zero point of the blue arm's velocities, km/s; by the red arm's, where the blue arm has none; else 0."""
    added = {}
    for arm in ARM_NAMES:
        apart = catalog[f"rv_abs_{arm}"].values.astype(np.float64) - catalog[f"rv_obs_{arm}"].values
        apart = apart[np.isfinite(apart)]
        added[arm] = float(np.median(apart)) if len(apart) else np.nan
    blue, red = added.values()
    by_red = red + arm_offset_of(catalog) if np.isfinite(red) else 0.0
    return blue if np.isfinite(blue) else by_red


def _usable(value: Mapping[str, NDArray[Any]], arm: str) -> NDArray[np.bool_]:
    """Whether the verdict on an arm is to be trusted, as by the candidates' rule."""
    familiar = (value[f"quality_{arm}"] & Quality.UNFAMILIAR) == 0
    return np.asarray(familiar & (value[f"npixbad_{arm}"] < MAXIMUM_BAD_PIXELS), np.bool_)


def _velocity(
    value: Mapping[str, NDArray[Any]], offsets: Mapping[ArmName, float], zero_point: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weighted mean velocity of the arms, and its error; offsets are taken off where no zero point is measured."""
    weights, sums = (np.zeros(len(value["lmjm"])) for _ in range(2))
    for arm, offset in offsets.items():
        absolute = np.isfinite(value[f"rv_abs_{arm}"]) & np.isfinite(value[f"rv_abs_err_{arm}"])
        velocity = np.where(absolute, value[f"rv_abs_{arm}"], value[f"rv_obs_{arm}"] - offset).astype(np.float64)
        stated = np.where(absolute, value[f"rv_abs_err_{arm}"], value[f"rv_obs_err_{arm}"]).astype(np.float64)
        variance = stated**2 + LEAST_ERROR**2 + np.where(absolute, 0.0, zero_point**2)
        known = np.isfinite(velocity) & np.isfinite(variance)
        weight = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
        weights, sums = weights + weight, sums + weight * np.where(known, velocity, 0.0)
    there = weights > 0.0
    divisor = np.where(there, weights, 1.0)
    velocity = np.where(there, sums / divisor, np.nan)
    return velocity.astype(np.float32), np.where(there, divisor**-0.5, np.nan).astype(np.float32)
