"""Zero points from a survey's own repeated stars: velocities of stars and zero points of units, solved for jointly.

A star has one velocity in all of its exposures and in both arms, a unit (spectrograph, exposure, arm) one zero point:
``velocity + zero_point[unit] = velocity[star]`` but for errors. The sum of ``2 (sqrt(1 + t^2) - 1)`` over observations,
t the residual over its error, is minimised: like least squares near zero, like absolute deviations far out, so that a
binary pulls little; and convex, so that there is one answer. Stars are eliminated, and what remains is solved by
conjugate gradients that never form the matrix of units with units.

A constant added to all velocities and zero points changes no residual. What fixes it, the gauge, is units whose zero
points are known beforehand; a group of units that no chain of common stars ties to such has a gauge of its own: the
median of its zero points, each counting as many times as it has stars, is 0. Knows arrays alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from twinlines.pipeline.binaries.grouped import median, weighted_median
from twinlines.pipeline.binaries.grouping import in_order
from twinlines.pipeline.binaries.zeropoints.ties import Floats, Numbers, Observations, tied

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

NO_GROUP = -1
"""Group of a unit that has too few repeated stars."""

_STEPS = 60  # of iteratively reweighted least squares; about ten are needed
_SETTLED = 1e-4  # largest change of a zero point, km/s, at which it ends
_TOLERANCE = 1e-7  # of conjugate gradients, relative
_REPLICAS, _AT_ONCE = 64, 16  # of the noise, from which errors come: they are good to 9 %
_MOST_LEVERAGE = 0.9


@dataclass(frozen=True)
class Consistent:
    """Zero points of units by their repeated stars; arrays of shape (unit,)."""

    zero_point: Array
    """What is added to measured velocities, km/s; NaN where there are too few repeated stars, and of units whose zero
    points were known beforehand these as they were."""
    error: Array
    """Error of the zero point, km/s, relative to the gauge."""
    stars: Integers
    """Number of the unit's stars that are in other exposures, too."""
    group: Integers
    """Number of the group of units that common stars tie together, in the order of their first units;
    :data:`NO_GROUP` without one."""
    anchored: NDArray[np.bool_]
    """Whether the group has units whose zero points were known beforehand."""


def small_sample(stars: Integers) -> Array:
    """Factor of an error that is made from the scatter of so few stars, shape of ``stars``.

    ``1 + 1/n``: with it, 68 to 76 % of zero points are within their errors, from 5 stars on, in simulations.
    """
    return 1.0 + 1.0 / stars


def solve(
    observations: Observations,
    units: int,
    *,
    least: int,
    known: Array | None = None,
    known_error: Array | None = None,
    seed: int = 0,
) -> Consistent:
    """Zero points of all units that have enough repeated stars.

    Parameters
    ----------
    observations
        Observations.
    units
        Number of units.
    least
        Fewest repeated stars of a unit.
    known, known_error
        (unit,) zero points that are known beforehand and their errors, km/s; NaN elsewhere.
    seed
        Seed of the replicas from which errors come.
    """
    zero = np.full(units, np.nan) if known is None else known.copy()
    error = np.full(units, np.nan) if known_error is None else known_error.copy()
    fixed = np.isfinite(zero)
    chosen = tied(observations, units, least, fixed)
    stars = np.bincount(chosen.unit, minlength=units).astype(np.int64)
    group, anchored = _groups(chosen, units, fixed)
    free = (stars > 0) & ~fixed
    if free.any():
        # Stars that are in known units alone say nothing of the others.
        concerned = np.bincount(chosen.star[free[chosen.unit]], minlength=int(chosen.star.max()) + 1) > 0
        system = _System.of(chosen.take(concerned[chosen.star]), units, free)
        gauge = _Gauge(np.where(anchored | ~free, NO_GROUP, group), stars)
        solution = gauge.median(system.minimise(np.where(fixed, zero, 0.0)))
        noise = system.noise(solution, np.where(fixed, error, 0.0), gauge, np.random.default_rng(seed))
        zero[free] = solution[free]
        error[free] = noise[free] * small_sample(stars[free])
    return Consistent(zero, error, stars, group, anchored)


def _groups(observations: Observations, units: int, fixed: NDArray[np.bool_]) -> tuple[Integers, NDArray[np.bool_]]:
    """Group of each unit, and whether units of it are fixed: components of the graph of stars and units."""
    edges = observations.unit, units + observations.star
    nodes = units + int(observations.star.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(nodes, nodes))
    count, component = connected_components(graph.tocsr(), directed=False)
    component = component[:units]
    has_fixed = np.bincount(component[fixed], minlength=count) > 0
    used = np.bincount(observations.unit, minlength=units) > 0
    group = np.full(units, NO_GROUP, np.int64)
    group[used] = in_order(component[used])
    return group, has_fixed[component] & used


@dataclass(frozen=True)
class _Gauge:
    """What makes the zero points of groups that nothing anchors definite."""

    group: Integers
    """(unit,) group of a unit that has a gauge of its own; :data:`NO_GROUP` of others."""
    stars: Integers
    """(unit,) weight in the gauge."""

    def median(self, zero: Array) -> Array:
        """Zero points whose weighted median is 0 in each group, shape (unit,)."""
        own = self.group >= 0
        shift = np.zeros(int(self.group.max(initial=-1)) + 1)
        middle = weighted_median(zero[own], self.stars[own].astype(np.float64), self.group[own], len(shift))
        return zero - np.where(own, np.nan_to_num(np.append(middle, 0.0))[self.group], 0.0)

    def mean(self, change: Array) -> Array:
        """Changes of zero points, shape (unit, replica), whose weighted mean is 0 in each group."""
        own = np.flatnonzero(self.group >= 0)
        shape = int(self.group.max(initial=-1)) + 1, len(self.group)
        adder = csr_array((self.stars[own].astype(np.float64), (self.group[own], own)), shape=shape)
        total = np.maximum(adder.sum(axis=1), 1.0)
        changed = change.copy()
        changed[own] -= ((adder @ change) / total[:, None])[self.group[own]]
        return changed


@dataclass(frozen=True)
class _System:
    """The problem with stars eliminated; observations are sorted by star."""

    star: Numbers
    unit: Numbers
    velocity: Floats
    error: Floats
    rows: Numbers
    """(star + 1,) where each star's observations begin."""
    free: NDArray[np.bool_]
    """(unit,) units to be solved for."""

    @classmethod
    def of(cls, observations: Observations, units: int, free: NDArray[np.bool_]) -> _System:
        order = np.argsort(observations.star, kind="stable")
        _, star, count = np.unique(observations.star[order], return_inverse=True, return_counts=True)
        return cls(
            star.astype(np.int32),
            observations.unit[order],
            observations.velocity[order],
            observations.error[order],
            np.r_[0, np.cumsum(count)].astype(np.int32 if len(order) < 2**31 else np.int64),
            free,
        )

    def minimise(self, zero: Array) -> Array:
        """Zero points of all units, shape (unit,), from those to begin with; the gauge is any where none is fixed."""
        zero = self._begin(zero)
        velocity = median(self.velocity + zero[self.unit], self.star, len(self.rows) - 1)
        for _ in range(_STEPS):
            t = (self.velocity + zero[self.unit] - velocity[self.star]) / self.error
            step = _Weighted(self, 1.0 / (self.error.astype(np.float64) ** 2 * np.sqrt(1.0 + t**2)))
            residual = self.velocity + zero[self.unit] - step.star_means(self.velocity + zero[self.unit])[self.star]
            pull = np.bincount(self.unit, step.weight * residual, minlength=len(zero)).astype(np.float64)
            change = step.solve(-pull[:, None])[:, 0]
            zero = zero + change
            velocity = step.star_means(self.velocity + zero[self.unit])
            if np.abs(change).max() < _SETTLED:
                break
        return zero

    def _begin(self, zero: Array) -> Array:
        """Medians of residuals to stars' medians: near enough that binaries do not draw the first steps astray."""
        for _ in range(2):
            velocity = median(self.velocity + zero[self.unit], self.star, len(self.rows) - 1)
            fitting = median(velocity[self.star] - self.velocity, self.unit, len(zero))
            zero = np.where(self.free, np.nan_to_num(fitting), zero)
        return zero

    def noise(self, zero: Array, fixed_error: Array, gauge: _Gauge, rng: np.random.Generator) -> Array:
        """Standard deviations of zero points, shape (unit,), by the scatter of their own residuals.

        The sandwich of M-estimators, ``H^-1 (sum of squared scores) H^-1``, whose diagonal comes from replicas in which
        the scores have random signs (the wild bootstrap), since the inverse of H is not to be had for many units.
        """
        t = self._residuals(zero) / self.error
        step = _Weighted(self, (1.0 + t**2) ** -1.5 / self.error.astype(np.float64) ** 2)
        leverage = step.weight * (1.0 / step.of_star[self.star] + 1.0 / step.of_unit[self.unit])
        score = t / np.sqrt(1.0 + t**2) / self.error / np.sqrt(1.0 - np.minimum(leverage, _MOST_LEVERAGE))
        total = np.zeros(len(zero))
        for _ in range(0, _REPLICAS, _AT_ONCE):
            start = np.where(self.free[:, None], 0.0, fixed_error[:, None] * rng.standard_normal((len(zero), _AT_ONCE)))
            right = -step.apply(start)
            for column in range(_AT_ONCE):
                signed = score * rng.choice(np.array([-1.0, 1.0]), len(score))
                of_star = np.bincount(self.star, signed, minlength=len(self.rows) - 1) / step.of_star
                right[:, column] += np.bincount(self.unit, signed, minlength=len(zero)) - step.matrix.T @ of_star
            total += np.sum(gauge.mean(step.solve(right)) ** 2, axis=1)
        return np.asarray(np.sqrt(total / _REPLICAS))

    def _residuals(self, zero: Array) -> Array:
        """Residuals, km/s, shape (observation,), once the stars' velocities are what minimises the loss, too."""
        values = self.velocity + zero[self.unit]
        velocity = median(values, self.star, len(self.rows) - 1)
        for _ in range(_STEPS):
            t = (values - velocity[self.star]) / self.error
            weight = 1.0 / (self.error**2 * np.sqrt(1.0 + t**2))
            total = np.add.reduceat(weight, self.rows[:-1])
            changed = np.add.reduceat(weight * values, self.rows[:-1]) / total
            settled = np.abs(changed - velocity).max() < _SETTLED
            velocity = changed
            if settled:
                break
        return values - velocity[self.star]


class _Weighted:
    """A weighted least-squares problem of the system."""

    def __init__(self, system: _System, weight: Array) -> None:
        units = len(system.free)
        self.system, self.weight = system, weight
        self.matrix = csr_array((weight, system.unit, system.rows), shape=(len(system.rows) - 1, units))
        self.of_star = np.add.reduceat(weight, system.rows[:-1])
        self.of_unit = np.bincount(system.unit, weight, minlength=units)

    def star_means(self, values: Array) -> Array:
        """Weighted mean of each star's observations, shape (star,)."""
        return np.add.reduceat(self.weight * values, self.system.rows[:-1]) / self.of_star

    def apply(self, zero: Array) -> Array:
        """The matrix of units with units on zero points, shape (unit, column)."""
        of_stars = (self.matrix @ zero) / self.of_star[:, None]
        return np.asarray(self.of_unit[:, None] * zero - self.matrix.T @ of_stars)

    def solve(self, right: Array) -> Array:
        """Zero points of the free units for right-hand sides, shape (unit, column); 0 for the others."""
        free = self.system.free[:, None]
        return conjugate_gradients(
            lambda zero: np.where(free, self.apply(zero), 0.0),
            np.where(self.system.free, self.of_unit, 1.0),
            np.where(free, right, 0.0),
        )


def conjugate_gradients(apply: Callable[[Array], Array], diagonal: Array, right: Array) -> Array:
    """Solve for several right-hand sides at once, from 0, preconditioned by a diagonal.

    Parameters
    ----------
    apply
        A symmetric matrix that is nowhere negative, on columns; it may be singular where the right-hand sides are not.
    diagonal
        (row,) what the matrix's diagonal is about.
    right
        (row, column).

    Returns
    -------
    array, shape (row, column)
    """
    solution, residual = np.zeros_like(right), right.copy()
    direction = residual / diagonal[:, None]
    size = np.sum(residual * direction, axis=0)
    goal = _TOLERANCE**2 * size
    for _ in range(10 * len(right)):
        going = size > goal
        if not going.any():
            break
        image = apply(direction)
        bend = np.sum(direction * image, axis=0)
        length = np.divide(size, bend, out=np.zeros_like(size), where=going & (bend > 0.0))
        solution += length * direction
        residual -= length * image
        scaled = residual / diagonal[:, None]
        before, size = size, np.sum(residual * scaled, axis=0)
        direction = scaled + np.divide(size, before, out=np.zeros_like(size), where=going) * direction
    return solution
