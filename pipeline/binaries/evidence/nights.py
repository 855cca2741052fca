"""Exposures of one night become one: minutes apart, they show the same phase, and the same disturbance.

Rows are sorted by star and night; every sum is over runs of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.evidence.exposures import NO_HEAD, Exposures

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Nights:
    """Nights of stars, star by star; arrays of shape (night,) but for ``begin``."""

    begin: NDArray[np.int64]
    """(star,) place of each star's first night; every star has one."""
    head: NDArray[np.int8]
    """The head that says most: the largest of its exposures'; :data:`.exposures.NO_HEAD` where none was judged."""
    judged: NDArray[np.int64]
    """Exposures with a verdict."""
    of_head: Array
    """(night, head) exposures that each head judged."""
    ratio_of_head: Array
    """(night, head) sum of the ratios of those."""
    log_snr: Array
    """Mean ln S/N of the exposures that were judged."""
    teff: Array
    """Mean temperature, K; NaN where there is none."""
    velocity: Array
    """Weighted mean velocity, km/s; NaN where there is none."""
    error: Array
    """Its error, km/s."""

    def __len__(self) -> int:
        """Number of nights."""
        return len(self.head)

    @property
    def star(self) -> NDArray[np.int64]:
        """Star of each night."""
        return np.repeat(np.arange(len(self.begin)), np.diff(np.r_[self.begin, len(self)]))

    def per_star(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum over each star's nights."""
        return np.add.reduceat(values, self.begin, axis=0) if len(self.begin) else values[:0]


def nights_of(exposures: Exposures, star: NDArray[np.int64], heads: int) -> Nights:
    """Gather exposures into nights.

    Parameters
    ----------
    exposures
        Sorted by star, then by night.
    star
        (exposure,) star of each, ascending.
    heads
        Number of heads.
    """
    rows = len(star)
    new_star = np.r_[True, star[1:] != star[:-1]][:rows]
    new = new_star | np.r_[True, exposures.night[1:] != exposures.night[:-1]][:rows]
    begin = np.flatnonzero(new)

    def total(values: NDArray[Any]) -> NDArray[Any]:
        return np.add.reduceat(values, begin, axis=0) if rows else values[:0]

    judged = exposures.head != NO_HEAD
    hot = exposures.head[:, None] == np.arange(heads)
    known = np.isfinite(exposures.teff)
    moving = np.isfinite(exposures.velocity)
    weight = np.where(moving, 1.0, 0.0) / np.where(moving, exposures.error, 1.0).astype(np.float64) ** 2
    weights, count, warm = total(weight), total(judged.astype(np.float64)), total(known.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing over nothing is what is not known
        velocity = total(weight * np.where(moving, exposures.velocity, 0.0)) / weights
        return Nights(
            begin=np.flatnonzero(new_star[begin]),
            head=np.maximum.reduceat(exposures.head, begin) if rows else exposures.head,
            judged=count.astype(np.int64),
            of_head=total(hot.astype(np.float64)),
            ratio_of_head=total(np.where(hot, exposures.ratio[:, None], 0.0).astype(np.float64)),
            log_snr=total(np.where(judged, exposures.log_snr, 0.0).astype(np.float64)) / np.maximum(count, 1.0),
            teff=total(np.where(known, exposures.teff, 0.0).astype(np.float64)) / warm,
            velocity=np.where(weights > 0.0, velocity, np.nan),
            error=np.where(weights > 0.0, weights**-0.5, np.nan),
        )
