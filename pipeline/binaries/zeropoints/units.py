"""Zero points of radial velocities, per spectrograph, exposure and arm: against references, and by repeated stars.

Each exposure of a spectrograph has a wavelength scale of its own, off by some km/s, in each arm: a *unit*. A zero point
is what is added to its measured velocities. Where enough of its stars have reference velocities, it is their weighted
median residual (Zhang et al. 2022, section 4.1; 2021, ApJS 256, 14); elsewhere, stars that are in several exposures tie
it to others (:mod:`twinlines.pipeline.binaries.zeropoints.consistency`). Arrays in, arrays out: knows no catalog and
no file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouped import median, weighted_median
from twinlines.pipeline.binaries.grouping import RADIUS
from twinlines.pipeline.binaries.zeropoints.consistency import NO_GROUP, Consistent, solve
from twinlines.pipeline.binaries.zeropoints.ties import Observations, repeated
from twinlines.pipeline.schema import ZeroPointReason

Array = NDArray[np.float64]

OF_MEDIAN = float(np.sqrt(np.pi / 2.0))
"""Error of a median over that of a mean, for many normal numbers."""

_MAD = 1.4826  # standard deviation over median absolute deviation, of normal numbers
_LEAST_SCATTER = 0.5  # of what stated errors alone would give: a few stars may agree by chance
_ARMS = len(ARM_NAMES)


class ZeroPointError(RuntimeError):
    """Zero points cannot be computed as asked."""


@dataclass(frozen=True)
class ZeroPointConfig:
    """How zero points are computed."""

    least_stars: int = 5
    """Fewest stars of a unit that has a zero point; 3 or more."""
    floor: float = 1.0
    """What velocities scatter besides their stated errors, km/s: templates, light that fills fibres unevenly."""
    radius: float = RADIUS
    """Exposures within this angle are of one star, and a reference within it is that star's, arcsec."""
    seed: int = 0
    """Seed of the replicas from which errors of zero points by repeated stars come."""

    def __post_init__(self) -> None:
        if self.least_stars < 3:
            raise ZeroPointError(f"least_stars is {self.least_stars}; of fewer than 3 stars, none can be an outlier")
        if not 0.0 < self.floor < np.inf:
            raise ZeroPointError(f"floor is {self.floor} km/s; give a number above 0")
        if not 0.0 < self.radius < 3600.0:
            raise ZeroPointError(f"radius is {self.radius} arcsec; give one above 0 and below 3600")
        if self.seed < 0:
            raise ZeroPointError(f"seed is {self.seed}; give 0 or more")

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Velocities:
    """Measured velocities of exposures; arrays of shape (row,), or (row, arm) in the order of ``ARM_NAMES``."""

    spid: NDArray[np.integer[Any]]
    """(row,) spectrograph."""
    lmjm: NDArray[np.integer[Any]]
    """(row,) local modified Julian minute."""
    star: NDArray[np.int64]
    """(row,) number of the star, from 0; negative where it is not known."""
    velocity: NDArray[np.floating[Any]]
    """(row, arm) measured velocity, km/s; NaN where there is none that can be used."""
    error: NDArray[np.floating[Any]]
    """(row, arm) its error, km/s."""
    reference: NDArray[np.floating[Any]] | None = None
    """(row,) reference velocity of the star, km/s, NaN where there is none; None: there are no references at all."""
    reference_error: NDArray[np.floating[Any]] | None = None
    """(row,) its error, km/s."""


@dataclass(frozen=True)
class ZeroPoints:
    """Zero points of units, by rising time and spectrograph; arrays of shape (unit,) or (unit, arm)."""

    spid: NDArray[np.int16]
    """(unit,) spectrograph."""
    lmjm: NDArray[np.int32]
    """(unit,) local modified Julian minute."""
    n_stars: NDArray[np.int32]
    """(unit, arm) stars from which the zero point comes, or that are too few."""
    zero_point: Array
    """(unit, arm) what is added to measured velocities, km/s; NaN where there is none."""
    error: Array
    """(unit, arm) its error, km/s."""
    group: NDArray[np.int32]
    """(unit, arm) number of the units that repeated stars tie together; -1 where they do not."""
    reason: NDArray[np.uint8]
    """(unit, arm) :class:`twinlines.pipeline.schema.ZeroPointReason`."""
    unit: NDArray[np.int64]
    """(row,) unit of each row of the velocities."""
    scale: str
    """"reference", or "survey": without references, zero points are relative to each other, within a group."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object: how many units have what, and their medians, by arm."""
        return {"scale": self.scale, "units": len(self.spid), **summary(self.zero_point, self.error, self.reason)}


def summary(zero_point: Array, error: Array, reason: NDArray[np.uint8]) -> dict[str, Any]:
    """Numbers that sum zero points up, by arm; arrays of shape (unit, arm)."""
    of_arms = {}
    for at, arm in enumerate(ARM_NAMES):
        known = np.isfinite(zero_point[:, at])
        quantiles = np.percentile(zero_point[known, at], (16, 50, 84)) if known.any() else np.full(3, np.nan)
        counts = Counter(reason[:, at].tolist())
        of_arms[arm] = {
            "zero_points": int(known.sum()),
            "median_kms": _rounded(quantiles[1]),
            "spread_kms": _rounded((quantiles[2] - quantiles[0]) / 2.0),
            "median_error_kms": _rounded(np.median(error[known, at]) if known.any() else np.nan),
            "reasons": {each.name: counts[each.value] for each in ZeroPointReason if counts[each.value]},
        }
    return {"arms": of_arms}


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def zero_points(velocities: Velocities, config: ZeroPointConfig | None = None) -> ZeroPoints:
    """Zero points of every spectrograph, exposure and arm.

    Parameters
    ----------
    velocities
        Exposures.
    config
        How they are computed.

    Raises
    ------
    ZeroPointError
        If there is no exposure, or no unit has enough stars.
    """
    config = config or ZeroPointConfig()
    if not len(velocities.spid):
        raise ZeroPointError("there is no exposure; zero points need the velocities of some")
    # Rising time first, then spectrograph: a row of both, sorted as one number.
    key = velocities.lmjm.astype(np.int64) * 1000 + velocities.spid
    distinct, unit = np.unique(key, return_inverse=True)
    units = len(distinct)
    row, arm = np.nonzero(_usable(velocities))
    measured = np.bincount(unit[row] * _ARMS + arm, minlength=units * _ARMS)
    del row, arm
    if velocities.reference is None:
        scale, known, known_error, references = "survey", None, None, np.zeros(units * _ARMS, np.int64)
    else:
        scale = "reference"
        known, known_error, references = _against(velocities, unit, units, config)
    consistent = solve(
        _observations(velocities, unit, config.floor),
        units * _ARMS,
        least=config.least_stars,
        known=known,
        known_error=known_error,
        seed=config.seed,
    )
    if known is None and not np.isfinite(consistent.zero_point).any():
        every = _observations(velocities, unit, config.floor)
        most = np.bincount(every.unit[repeated(every, units * _ARMS, 1)]).max(initial=0)
        raise ZeroPointError(
            f"no spectrograph's exposure has {config.least_stars} or more stars that other exposures have, too, in an "
            f"arm; the best one has {most}; give references, or ask for fewer"
        )
    return _result(distinct, unit, scale, measured, references, known, consistent)


def _result(
    key: NDArray[np.int64],
    unit: NDArray[np.int64],
    scale: str,
    measured: NDArray[np.int64],
    references: NDArray[np.int64],
    known: Array | None,
    consistent: Consistent,
) -> ZeroPoints:
    """Put together what both ways gave, units' arms one after the other, and say of each where it is from."""
    solved = np.isfinite(consistent.zero_point)
    anchored = consistent.anchored if known is not None else np.ones(len(solved), np.bool_)
    reason = np.full(len(solved), ZeroPointReason.FEW_STARS, np.uint8)
    reason[measured == 0] = ZeroPointReason.NO_VELOCITIES
    reason[solved] = ZeroPointReason.UNTIED
    reason[solved & anchored] = ZeroPointReason.OWN_SCALE if known is None else ZeroPointReason.TIED
    stars = np.where(solved, consistent.stars, np.maximum(references, consistent.stars))
    if known is not None:
        reason[np.isfinite(known)] = ZeroPointReason.REFERENCE
        stars[np.isfinite(known)] = references[np.isfinite(known)]
    there = reason < ZeroPointReason.NO_VELOCITIES

    def by_arm(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
        return np.asarray(values.reshape(-1, _ARMS), dtype)

    return ZeroPoints(
        spid=(key % 1000).astype(np.int16),
        lmjm=(key // 1000).astype(np.int32),
        n_stars=by_arm(stars, np.int32),
        zero_point=by_arm(np.where(there, consistent.zero_point, np.nan), np.float64),
        error=by_arm(np.where(there, consistent.error, np.nan), np.float64),
        group=by_arm(np.where(solved, consistent.group, NO_GROUP), np.int32),
        reason=by_arm(reason, np.uint8),
        unit=unit.astype(np.int64),
        scale=scale,
    )


def _observations(velocities: Velocities, unit: NDArray[np.int64], floor: float) -> Observations:
    """Every velocity that can be used, of a star that is known, with the floor in its error."""
    row, arm = np.nonzero(_usable(velocities) & (velocities.star >= 0)[:, None])
    return Observations(
        star=velocities.star[row].astype(np.int32),
        unit=(unit[row] * _ARMS + arm).astype(np.int32),
        exposure=unit[row].astype(np.int32),
        velocity=velocities.velocity[row, arm],
        error=np.hypot(velocities.error[row, arm], floor),
    )


def _usable(velocities: Velocities) -> NDArray[np.bool_]:
    error = velocities.error
    return np.asarray(np.isfinite(velocities.velocity) & np.isfinite(error) & (error >= 0.0))


def _against(
    velocities: Velocities, unit: NDArray[np.int64], units: int, config: ZeroPointConfig
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Zero points by references, their errors, and the number of references, for all arms of units."""
    assert velocities.reference is not None
    assert velocities.reference_error is not None
    has = np.isfinite(velocities.reference) & np.isfinite(velocities.reference_error)
    row, arm = np.nonzero(_usable(velocities) & has[:, None])
    residual = velocities.reference[row].astype(np.float64) - velocities.velocity[row, arm]
    stated = np.hypot(velocities.error[row, arm].astype(np.float64), velocities.reference_error[row])
    of = unit[row] * _ARMS + arm
    number = np.bincount(of, minlength=units * _ARMS).astype(np.int64)
    zero, error = against_references(residual, stated, of, units * _ARMS, floor=config.floor)
    enough = number >= config.least_stars
    if not enough.any():
        raise ZeroPointError(
            f"no spectrograph's exposure has {config.least_stars} or more stars with a reference velocity in an arm; "
            f"the best one has {number.max(initial=0)}; give a table with more of the catalog's stars, or ask for fewer"
        )
    return np.where(enough, zero, np.nan), np.where(enough, error, np.nan), number


def against_references(
    residual: Array, stated: Array, unit: NDArray[np.int64], units: int, *, floor: float = 1.0
) -> tuple[Array, Array]:
    """Zero points by reference velocities: weighted medians, which no tenth of binaries draws far.

    They minimise ``sum |rv_obs + z - rv_ref| / sqrt(floor^2 + s_obs^2 + s_ref^2)``, exactly. Errors are those of a
    median, ``sqrt(pi/2) k c(n) / sqrt(sum 1/s^2)``, where s is that root, k the scatter of residuals over s (1.4826
    times their median absolute value; not below half of what stated errors would give), and ``c(n) = 1 + 1/n +
    4/n^2``, by which errors of few stars cover 68 %, too, in simulations of normal errors.

    Parameters
    ----------
    residual
        (star,) reference minus measured velocity, km/s.
    stated
        (star,) error of that difference, without the floor, km/s.
    unit
        (star,) unit, 0 to ``units`` - 1.
    units
        Number of units.
    floor
        What velocities scatter besides, km/s.

    Returns
    -------
    zero_point, error : arrays, shape (units,)
        NaN where a unit has no star.
    """
    sigma = np.hypot(stated, floor)
    zero = weighted_median(residual, 1.0 / sigma, unit, units)
    n = np.maximum(np.bincount(unit, minlength=units), 1.0)
    scatter = _MAD * median(np.abs(residual - zero[unit]) / sigma, unit, units)
    with np.errstate(divide="ignore"):  # units without stars, whose scatter is NaN, and stated errors of 0
        of_mean = 1.0 / np.sqrt(np.bincount(unit, sigma**-2, minlength=units))
        stated_of_mean = 1.0 / np.sqrt(np.bincount(unit, stated**-2, minlength=units))
    there = np.isfinite(zero)
    by_scatter = np.where(there, scatter, 0.0) * (1.0 + 1.0 / n + 4.0 / n**2) * np.where(there, of_mean, 0.0)
    error = OF_MEDIAN * np.maximum(by_scatter, _LEAST_SCATTER * stated_of_mean)
    return zero, np.where(there, error, np.nan)
