"""Which star is which, over the epochs of a source; and the mass ratio and systemic velocity that follow.

Fits of two stars number them as they like. :mod:`.exchange` says how likely each epoch has them the other way round;
here sources of any numbers of epochs are put together, star 1 is chosen, and the Wilson line fitted and judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.components.epochs import Epochs, double
from twinlines.pipeline.binaries.components.exchange import Signs, by_expectation, exactly
from twinlines.pipeline.binaries.components.pairs import Pairs, padded
from twinlines.pipeline.binaries.components.wilson import Halves, Line, fit_line, halves

Array = NDArray[np.float64]

_FLOOR = np.array([0.03, 50.0])  # of errors of log flux ratios and of temperatures, K: no template is exact


class LineStatus(IntFlag):
    """What is to be known of a source's mass ratio."""

    ONE_EPOCH = 1
    """Fewer than two epochs: no line, no mass ratio."""
    UNBOUNDED = 2
    """The epochs are too near one phase: the mass ratio could be 0 or infinite."""
    DISAGREE = 4
    """The epochs do not lie on a line: not one binary, or errors that are too small."""
    OUTLIER = 8
    """An epoch is far off the line of the others, and counts little."""
    AMBIGUOUS = 16
    """At some epoch it is not clear which star is which."""
    BY_MASS = 32
    """No flux ratio and no temperature is known: star 1 is the one of more mass."""


@dataclass(frozen=True)
class Assigning:
    """How components are assigned."""

    floor: float = 0.0
    """Added in quadrature to errors of velocities, km/s."""
    outliers: float = 0.02
    """Fraction of epochs that may be anywhere."""
    night: float = 0.1
    """Epochs closer than this, days, have the same star on the same side; 0 to let each decide for itself."""
    exact: int = 9
    """Most nights of a source for which all ways of exchanging are weighed exactly."""
    p_value: float = 1e-3
    """Below, epochs disagree."""

    def __post_init__(self) -> None:
        if not self.floor >= 0.0:
            raise ValueError(f"floor is {self.floor} km/s; it must be 0 or more")
        if not 0.0 < self.outliers < 0.5:
            raise ValueError(f"outliers is {self.outliers}; it must lie between 0 and 0.5")


@dataclass(frozen=True)
class Components:
    """Which star is which; the first axis of every array is the sources'."""

    source: tuple[str, ...]
    """Names."""
    swap: NDArray[np.bool_]
    """Whether the fit's first star is star 2; (source, epoch), false where there is no epoch."""
    probability: Array
    """Of star 2 being the fit's first; NaN where there is no epoch. Star 1 is the brighter one by all epochs together;
    without flux ratios the hotter one; without temperatures, too, that of more mass."""
    outlier: Array
    """Probability that the epoch belongs to no line; (source, epoch)."""
    line: Line
    """Mass ratio, systemic velocity, and how far each epoch is off the line; outliers count little."""
    all_chi2: Array
    """chi2 of all epochs about a line of their own, outliers included; (source,)."""
    all_p_value: Array
    """Probability of so large an ``all_chi2`` by chance: whether all epochs agree with one binary."""
    worst: NDArray[np.int64]
    """Epoch that is farthest off the line; -1 without a line."""
    log_flux_ratio: Array
    """Natural logarithm of star 2's light over star 1's; NaN if no flux ratio is known."""
    status: NDArray[np.int64]
    """Bits of :class:`LineStatus`."""

    def epochs(self, row: int, pairs: Pairs) -> Epochs:
        """The epochs of source ``row`` with the stars in their order, for an orbit."""
        count = len(pairs.time)
        unordered = double(pairs.source, pairs.time, pairs.velocity, pairs.error, pairs.correlation)
        return unordered.swapped(self.swap[row, :count])

    def to_json(self) -> list[dict[str, Any]]:
        """One entry for each source; what is not a number is None."""

        def plain(value: float) -> float | None:
            return float(value) if np.isfinite(value) else None

        line = self.line
        return [
            {
                "source": name,
                "mass_ratio": plain(line.mass_ratio[row]),
                "mass_ratio_error": plain(line.mass_ratio_error[row]),
                "mass_ratio_lower": plain(line.lower[row]),
                "mass_ratio_upper": plain(line.upper[row]),
                "center_of_mass_velocity": plain(line.gamma[row]),
                "center_of_mass_velocity_error": plain(line.gamma_error[row]),
                "chi2": plain(self.all_chi2[row]),
                "p_value": plain(self.all_p_value[row]),
                "worst": int(self.worst[row]),
                "swap": self.swap[row][np.isfinite(self.probability[row])].tolist(),
                "status": int(self.status[row]),
            }
            for row, name in enumerate(self.source)
        ]


def assign(sources: Sequence[Pairs], assigning: Assigning | None = None) -> Components:
    """Decide which star is which at every epoch of every source.

    Parameters
    ----------
    sources
        From :func:`.pairs.pairs`.
    assigning
        Settings.

    Raises
    ------
    ValueError
        If there are no sources.
    """
    assigning = assigning or Assigning()
    if not sources or not max(len(source.time) for source in sources):
        raise ValueError("there are no epochs whose components could be assigned; give sources with epochs")
    signs = _signs(sources, assigning)
    probability, outlier = by_expectation(signs, assigning.outliers)
    nights = signs.night.max(axis=1) + 1
    for row in np.flatnonzero((nights > 1) & (nights <= assigning.exact)):
        probability[row] = exactly(signs.take(np.array([row])), int(nights[row]), outlier[row])
    probability, outlier = probability.clip(0.0, 1.0), outlier.clip(0.0, 1.0)  # for what rounding left
    present = signs.points.present
    outlier = np.where(present, outlier, 0.0)
    swap = (probability > 0.5) & present
    ordered = signs.points.turned(np.where(swap, -1.0, 1.0))
    turned = _first_star(signs, swap, fit_line(ordered, 1.0 - outlier).kappa)
    swap = (swap ^ turned[:, None]) & present
    probability = np.where(present, np.where(turned[:, None], 1.0 - probability, probability), np.nan)
    ordered = signs.points.turned(np.where(swap, -1.0, 1.0))
    line, everything = fit_line(ordered, 1.0 - outlier), fit_line(ordered)
    known = signs.firmness[:, :, 0].sum(axis=1)
    sign = np.where(swap, -1.0, 1.0)
    light = (sign * signs.other[:, :, 0] * signs.firmness[:, :, 0]).sum(axis=1)
    farthest = np.where(present, np.abs(np.nan_to_num(line.pull)), -1.0).argmax(axis=1)
    return Components(
        source=tuple(source.source for source in sources),
        swap=swap,
        probability=probability,
        outlier=np.where(present, outlier, np.nan),
        line=line,
        all_chi2=everything.chi2,
        all_p_value=everything.p_value,
        worst=np.where(np.isfinite(line.kappa), farthest, -1),
        log_flux_ratio=np.where(known > 0.0, light / np.maximum(known, 1e-300), np.nan),
        status=_status(signs, line, everything, probability, outlier, assigning),
    )


def _status(
    signs: Signs, line: Line, everything: Line, probability: Array, outlier: Array, assigning: Assigning
) -> NDArray[np.int64]:
    unclear = np.abs(np.nan_to_num(probability, nan=0.0) - 0.5) < 0.45
    bits = {
        LineStatus.ONE_EPOCH: signs.points.present.sum(axis=1) < 2,
        LineStatus.UNBOUNDED: np.isinf(line.mass_ratio_error),
        LineStatus.DISAGREE: np.nan_to_num(everything.p_value, nan=1.0) < assigning.p_value,
        LineStatus.OUTLIER: (outlier > 0.5).any(axis=1),
        LineStatus.AMBIGUOUS: unclear.any(axis=1),
        LineStatus.BY_MASS: ~(signs.firmness > 0.0).any(axis=(1, 2)),
    }
    total = np.sum([bit.value * flags for bit, flags in bits.items()], axis=0)
    return np.asarray(total, dtype=np.int64)


def _signs(sources: Sequence[Pairs], assigning: Assigning) -> Signs:
    present = np.isfinite(padded(sources, "time", np.nan))
    time = padded(sources, "time", 0.0)
    error = np.hypot(padded(sources, "error", 1.0), assigning.floor)
    points = halves(padded(sources, "velocity", 0.0), error, padded(sources, "correlation", 0.0), present)
    ratio, temperature = padded(sources, "flux_ratio", np.nan), padded(sources, "temperature", np.nan)
    heat_error = np.sqrt(np.square(padded(sources, "temperature_error", np.nan)).sum(axis=2))
    other = np.stack([np.log(ratio), temperature[..., 0] - temperature[..., 1]], axis=2)
    errors = np.stack([padded(sources, "flux_ratio_error", np.nan) / ratio, heat_error], axis=2)
    known = np.isfinite(other) & np.isfinite(errors)
    firmness = np.where(known, 1.0 / (np.where(known, errors, 1.0) ** 2 + _FLOOR**2), 0.0)
    night, side = _nights(time, points, assigning.night)
    return Signs(points, np.where(known, other, 0.0), firmness, night, side)


def _nights(time: Array, points: Halves, night: float) -> tuple[NDArray[np.int64], Array]:
    """Epochs that follow each other so soon that the stars cannot have changed sides, where sides are clear."""
    number = np.full(time.shape, -1, dtype=np.int64)
    side = np.ones(time.shape)
    clear = np.abs(points.half) > np.maximum(5.0 * np.sqrt(points.half_variance), 10.0)
    for row in range(len(time)):
        here = np.flatnonzero(points.present[row])
        order = here[np.argsort(time[row, here], kind="stable")]
        count = 0
        for place, epoch in enumerate(order):
            before = order[place - 1] if place else -1
            same = place and time[row, epoch] - time[row, before] < night and clear[row, epoch] and clear[row, before]
            count += not same
            number[row, epoch] = count - 1
            side[row, epoch] = np.sign(points.half[row, epoch]) if clear[row, epoch] else 1.0
    return number, side


def _first_star(signs: Signs, swap: NDArray[np.bool_], kappa: Array) -> NDArray[np.bool_]:
    """Whether star 1 is the wrong one: the fainter, or the cooler, or the lighter; (source,)."""
    sign = np.where(swap, -1.0, 1.0)[:, :, None]
    level = (sign * signs.other * signs.firmness).sum(axis=1)
    known = signs.firmness.sum(axis=1) > 0.0
    wrong = np.stack([level[:, 0] > 0.0, level[:, 1] < 0.0, np.nan_to_num(kappa) < 0.0], axis=1)
    first_known = np.stack([known[:, 0], known[:, 1], np.ones(len(known), dtype=np.bool_)], axis=1).argmax(axis=1)
    return np.asarray(wrong[np.arange(len(wrong)), first_known], dtype=np.bool_)
