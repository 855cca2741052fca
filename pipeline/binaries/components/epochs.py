"""The velocities of one source over its epochs, as orbits are fitted to them: two a time, with a covariance.

A blend is an epoch, too: its one velocity is near the mean of two that are not far apart, which is a covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BLEND_REACH = 40.0
"""Separation below which lines of LAMOST's medium resolution (R = 7500, 40 km/s) are not told apart, km/s."""


@dataclass(frozen=True)
class Epochs:
    """Epochs of one source, in any order; star 1 is the same star in all of them."""

    source: str
    """What errors call the source."""
    time: Array
    """Barycentric Julian dates, or any other days; (epoch,)."""
    velocity: Array
    """Of star 1 and star 2, km/s; (epoch, 2)."""
    covariance: Array
    """Of ``velocity``, km2 s-2; (epoch, 2, 2)."""
    resolved: NDArray[np.bool_]
    """Whether both velocities were measured, rather than a blend's one; (epoch,)."""

    def __post_init__(self) -> None:
        count = len(self.time)
        for name, shape in (("velocity", (count, 2)), ("covariance", (count, 2, 2)), ("resolved", (count,))):
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{self.source}: {name} has the shape {getattr(self, name).shape}, but there are {count} times; "
                    f"give it the shape {shape}"
                )
        for name in ("time", "velocity", "covariance"):
            values = getattr(self, name)
            bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
            if len(bad):
                raise ValueError(
                    f"{self.source}: epoch {bad[0]}: {name} is {values[bad[0]].tolist()}; drop epochs without numbers"
                )
        variance = np.diagonal(self.covariance, axis1=1, axis2=2)
        determinant = variance.prod(axis=1) - self.covariance[:, 0, 1] * self.covariance[:, 1, 0]
        bad = np.flatnonzero(~((variance > 0.0).all(axis=1) & (determinant > 0.0)))
        if len(bad):
            raise ValueError(
                f"{self.source}: epoch {bad[0]}: the covariance {self.covariance[bad[0]].tolist()} is none; "
                "errors must be above 0, and correlations between -1 and 1"
            )

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Epochs:
        """The epochs at ``rows``."""
        return Epochs(self.source, self.time[rows], self.velocity[rows], self.covariance[rows], self.resolved[rows])

    def swapped(self, swap: NDArray[np.bool_] | bool = True) -> Epochs:
        """The same, with the stars exchanged where ``swap`` says so; (epoch,) or one for all."""
        swap = np.broadcast_to(swap, self.time.shape)
        velocity = np.where(swap[:, None], self.velocity[:, ::-1], self.velocity)
        covariance = np.where(swap[:, None, None], self.covariance[:, ::-1, ::-1], self.covariance)
        return Epochs(self.source, self.time, velocity, covariance, self.resolved)

    def with_jitter(self, jitter: float) -> Epochs:
        """The same, with ``jitter`` km/s added in quadrature to every velocity's error."""
        covariance = self.covariance + jitter**2 * np.eye(2)
        return Epochs(self.source, self.time, self.velocity, covariance, self.resolved)


def double(
    source: str, time: ArrayLike, velocity: ArrayLike, error: ArrayLike, correlation: ArrayLike | None = None
) -> Epochs:
    """Epochs at which both velocities were measured.

    Parameters
    ----------
    source
        What errors call the source.
    time
        Days; (epoch,).
    velocity, error
        Of star 1 and star 2, km/s; (epoch, 2).
    correlation
        Of the two velocities' errors, (epoch,); 0 if left out.

    Raises
    ------
    ValueError
        If shapes disagree, something is not finite, an error is not above 0, or a correlation not between -1 and 1; the
        message names the source and the epoch.
    """
    time, velocity, error = (np.asarray(value, dtype=np.float64) for value in (time, velocity, error))
    count = len(time)
    share = np.zeros(count) if correlation is None else np.asarray(correlation, dtype=np.float64)
    for name, value, shape in (("error", error, (count, 2)), ("correlation", share, (count,))):
        if value.shape != shape:
            raise ValueError(
                f"{source}: {name} has the shape {value.shape}, but there are {count} times; give it the shape {shape}"
            )
    bad = np.flatnonzero(~(error > 0.0).all(axis=1))
    if len(bad):
        raise ValueError(f"{source}: epoch {bad[0]}: the errors are {error[bad[0]].tolist()} km/s; make them positive")
    covariance = np.zeros((count, 2, 2))
    covariance[:, [0, 1], [0, 1]] = error**2
    covariance[:, 0, 1] = covariance[:, 1, 0] = share * error.prod(axis=1)
    return Epochs(source, time, velocity, covariance, np.ones(count, dtype=np.bool_))


def blended(
    source: str,
    time: ArrayLike,
    velocity: ArrayLike,
    error: ArrayLike,
    flux_ratio: float = 1.0,
    reach: float = BLEND_REACH,
) -> Epochs:
    """Epochs at which one velocity was measured, of lines that are not told apart.

    The model: the one velocity is the mean of both, weighted by light; their difference has the mean 0 and the variance
    of a uniform distribution within ``reach``. This is a covariance of both velocities, so that blends enter a fit like
    other epochs do. They say little of the systemic velocity, and much about when the stars pass each other.

    Parameters
    ----------
    source
        What errors call the source.
    time, velocity, error
        Days, km/s, km/s; (epoch,). To ``error``, 0.1 ``reach`` is added in quadrature: a blend's velocity is no exact
        mean.
    flux_ratio
        Light of star 2 over that of star 1.
    reach
        Separation from which lines are told apart, km/s.

    Raises
    ------
    ValueError
        As :func:`double`; also if ``flux_ratio`` is negative or ``reach`` not above 0.
    """
    if not (np.isfinite(flux_ratio) and flux_ratio >= 0.0):
        raise ValueError(f"{source}: the flux ratio is {flux_ratio}; give star 2's light over star 1's, 0 or more")
    if not reach > 0.0:
        raise ValueError(f"{source}: reach is {reach} km/s; give the separation from which lines are told apart")
    time, velocity, error = (np.asarray(value, dtype=np.float64) for value in (time, velocity, error))
    count = len(time)
    for name, value in (("velocity", velocity), ("error", error)):
        if value.shape != (count,):
            raise ValueError(f"{source}: {name} of blends has the shape {value.shape}, but there are {count} times")
    bad = np.flatnonzero(~(error > 0.0))
    if len(bad):
        raise ValueError(f"{source}: epoch {bad[0]}: the error is {error[bad[0]]} km/s; it must be above 0")
    share = flux_ratio / (1.0 + flux_ratio)
    # velocity 1 = mean + share * difference, velocity 2 = mean - (1 - share) * difference
    lever = np.array([share, share - 1.0])
    covariance = (error**2 + (0.1 * reach) ** 2)[:, None, None] + (reach**2 / 3.0) * np.outer(lever, lever)
    both = np.repeat(velocity[:, None], 2, axis=1)
    return Epochs(source, time, both, covariance, np.zeros(count, dtype=np.bool_))


def together(parts: Sequence[Epochs]) -> Epochs:
    """Epochs of several kinds as those of one source, in the order of time; the first names it.

    Raises
    ------
    ValueError
        If there are no parts.
    """
    if not parts:
        raise ValueError("there are no epochs to put together")
    order = np.argsort(np.concatenate([part.time for part in parts]), kind="stable")
    names = ("time", "velocity", "covariance", "resolved")
    columns = (np.concatenate([getattr(part, name) for part in parts])[order] for name in names)
    return Epochs(parts[0].source, *columns)
