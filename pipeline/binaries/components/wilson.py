"""The line on which one star's velocity lies against the other's (Wilson 1941, ApJ 93, 29): mass ratio, no orbit.

Written in the mean m and half the difference d of the two velocities, v1 = m + d, v2 = m - d, the line is

    m = gamma - kappa d,  kappa = (1 - q) / (1 + q),  q = m2 / m1 = K1 / K2.

Exchanging the stars turns the signs of d and of kappa, and nothing else: that is what
:mod:`~twinlines.pipeline.binaries.components.assignment` builds on.
Both m and d have errors, and the fit is York's (1966, Canadian Journal of Physics 44, 1079; 2004, American Journal of
Physics 72, 367), profiled over kappa.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

Array = NDArray[np.float64]

GRID = np.linspace(-1.0, 1.0, 401)
"""Values of kappa at which chi2 is profiled: from a secondary of all the mass to one of none."""

_NUMBERS = 1_000_000  # in an array at a time
_STEPS = 12  # of York's iteration; it gains a digit or two in each


@dataclass(frozen=True)
class Halves:
    """Means and half differences of velocities; padded with anything where ``present`` is false."""

    mean: Array
    """m, km/s; (source, epoch)."""
    half: Array
    """d, km/s; (source, epoch)."""
    mean_variance: Array
    """km2 s-2."""
    half_variance: Array
    """km2 s-2."""
    covariance: Array
    """Of m and d, km2 s-2."""
    present: NDArray[np.bool_]
    """Whether there is such an epoch."""

    def turned(self, sign: Array) -> Halves:
        """With the stars exchanged where ``sign`` is -1; (source, epoch)."""
        parts = self.mean, self.half * sign, self.mean_variance, self.half_variance, self.covariance * sign
        return Halves(*parts, self.present)

    def variance(self, kappa: Array) -> Array:
        """Of m + kappa d, for ``kappa`` that broadcasts with (source, epoch)."""
        return np.asarray(
            self.mean_variance + kappa * (kappa * self.half_variance + 2.0 * self.covariance), dtype=np.float64
        )


def halves_of(velocity: Array, covariance: Array) -> Halves:
    """Of one source, from velocities (epoch, 2) and covariances (epoch, 2, 2); the first axis has length one."""
    first, second, shared = covariance[:, 0, 0], covariance[:, 1, 1], covariance[:, 0, 1]
    error = np.sqrt(np.stack([first, second], axis=1))
    present = np.ones((1, len(velocity)), dtype=np.bool_)
    return halves(velocity[None], error[None], (shared / error.prod(axis=1))[None], present)


def halves(velocity: Array, error: Array, correlation: Array, present: NDArray[np.bool_]) -> Halves:
    """Means and half differences of velocities (source, epoch, 2), whose correlations are (source, epoch)."""
    first, second = error[..., 0] ** 2, error[..., 1] ** 2
    shared = correlation * error[..., 0] * error[..., 1]
    return Halves(
        mean=0.5 * (velocity[..., 0] + velocity[..., 1]),
        half=0.5 * (velocity[..., 0] - velocity[..., 1]),
        mean_variance=0.25 * (first + second + 2.0 * shared),
        half_variance=0.25 * (first + second - 2.0 * shared),
        covariance=0.25 * (first - second),
        present=present,
    )


@dataclass(frozen=True)
class Line:
    """Lines fitted to sources; (source,) but for the last."""

    kappa: Array
    """(1 - q) / (1 + q); NaN without two epochs."""
    kappa_error: Array
    """Standard deviation by the curvature of chi2."""
    mass_ratio: Array
    """q = m2 / m1."""
    mass_ratio_error: Array
    """Standard deviation; infinite where q is not bounded, NaN without two epochs."""
    lower: Array
    """Least q whose chi2 is within 1 of the best; 0 if unbounded."""
    upper: Array
    """Largest; infinite if unbounded."""
    gamma: Array
    """Systemic velocity, km/s."""
    gamma_error: Array
    """Standard deviation, km/s, the uncertainty of q included."""
    chi2: Array
    """Of the epochs about the line."""
    freedom: NDArray[np.int64]
    """Epochs less two."""
    p_value: Array
    """Probability of a chi2 as large by chance; NaN without a third epoch."""
    pull: Array
    """Each epoch's distance from the line in standard deviations, (source, epoch); NaN where there is no epoch."""


def fit_line(points: Halves, share: Array | None = None) -> Line:
    """Fit lines to means and half differences.

    Parameters
    ----------
    points
        The epochs of all sources.
    share
        Of each epoch's weight that counts, 0 to 1, (source, epoch); all of it if left out.

    Returns
    -------
    Line
        NaN for sources with fewer than two epochs.
    """
    counted = points.present if share is None else points.present & (share > 0.0)
    amount = np.where(counted, 1.0 if share is None else share, 0.0)
    enough = counted.sum(axis=1) >= 2
    clean = _without_gaps(points)
    profile = _profile(clean, amount)
    kappa = GRID[profile.argmin(axis=1)]
    floor = profile.min(axis=1)
    for _ in range(_STEPS):
        kappa = np.clip(york_step(clean, amount, kappa), -1.0, 1.0)
    least, gamma = profiled(clean, amount, kappa)
    # Iterations of a hopeless case may lead away; the grid's best is then as good.
    lost = ~(least <= floor + 1e-9)
    kappa = np.where(lost, GRID[profile.argmin(axis=1)], kappa)
    least, gamma = profiled(clean, amount, kappa)
    variance, gamma_variance = _errors(clean, amount, kappa, gamma)
    lower, upper = _limits(profile, least, kappa)
    endless = kappa <= -1.0
    above = np.where(endless, 1.0, 1.0 + kappa)
    mass_ratio = np.where(endless, np.inf, (1.0 - kappa) / above)
    bounded = np.isfinite(upper) & (lower > 0.0) & ~endless
    error = np.where(bounded, 2.0 * np.sqrt(variance) / above**2, np.inf)
    scatter = clean.mean - gamma[:, None] + kappa[:, None] * clean.half
    pull = np.where(points.present, scatter / np.sqrt(clean.variance(kappa[:, None])), np.nan)
    freedom = counted.sum(axis=1) - 2
    chi2 = np.where(enough, (amount * np.nan_to_num(pull) ** 2).sum(axis=1), np.nan)
    p_value = np.where(freedom > 0, chi2_distribution.sf(chi2, np.maximum(freedom, 1)), np.nan)
    kappa, kappa_error, mass_ratio, error, lower, upper, gamma, gamma_error = (
        np.where(enough, values, np.nan)
        for values in (
            *(kappa, np.sqrt(variance), mass_ratio, error, lower, upper, gamma),
            np.sqrt(gamma_variance),
        )
    )
    pull = np.where(enough[:, None], pull, np.nan)
    return Line(
        *(kappa, kappa_error, mass_ratio, error, lower, upper, gamma, gamma_error),
        *(chi2, freedom, p_value, pull),
    )


def _without_gaps(points: Halves) -> Halves:
    """With numbers that do no harm where there is no epoch."""
    here = points.present
    return Halves(
        mean=np.where(here, points.mean, 0.0),
        half=np.where(here, points.half, 0.0),
        mean_variance=np.where(here, points.mean_variance, 1.0),
        half_variance=np.where(here, points.half_variance, 1.0),
        covariance=np.where(here, points.covariance, 0.0),
        present=here,
    )


def _profile(points: Halves, amount: Array) -> Array:
    """The least chi2 at each kappa of the grid, (source, kappa); gamma is linear."""
    size = max(1, _NUMBERS // (len(GRID) * amount.shape[1]))
    kappa, result = GRID[:, None], []
    for rows in np.split(np.arange(len(amount)), range(size, len(amount), size)):
        spread = (values[rows, None] for values in (points.mean_variance, points.half_variance, points.covariance))
        of_mean, of_half, mixed = spread
        weight = amount[rows, None] / (of_mean + kappa * (kappa * of_half + 2.0 * mixed))
        height = points.mean[rows, None] + kappa * points.half[rows, None]
        total = np.maximum(weight.sum(axis=2, keepdims=True), 1e-300)
        height -= (weight * height).sum(axis=2, keepdims=True) / total
        result.append((weight * height**2).sum(axis=2))
    return np.concatenate(result)


def profiled(points: Halves, amount: Array, kappa: Array) -> tuple[Array, Array]:
    """The least chi2 at ``kappa``, (source,), and gamma there; nothing may be missing in ``points``."""
    column = kappa[:, None]
    weight = amount / points.variance(column)
    height = points.mean + column * points.half
    gamma = (weight * height).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
    return (weight * (height - gamma[:, None]) ** 2).sum(axis=1), gamma


def york_step(points: Halves, amount: Array, kappa: Array, firmness: float = 0.0) -> Array:
    """A better kappa, (source,): the adjusted abscissae of York, and a weighted line through them.

    ``amount`` is the share of each epoch that counts; ``firmness`` is that of a prior around 0.
    """
    column = kappa[:, None]
    variance = points.variance(column)
    weight = amount / variance
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    mean = points.mean - (weight * points.mean).sum(axis=1, keepdims=True) / total
    half = points.half - (weight * points.half).sum(axis=1, keepdims=True) / total
    residual = mean + column * half
    adjusted = half - residual * (column * points.half_variance + points.covariance) / variance
    adjusted = adjusted - (weight * adjusted).sum(axis=1, keepdims=True) / total
    below = (weight * adjusted * half).sum(axis=1) + firmness
    better = -(weight * adjusted * mean).sum(axis=1) / np.where(np.abs(below) > 1e-12, below, np.inf)
    return np.asarray(better, dtype=np.float64)


def _errors(points: Halves, amount: Array, kappa: Array, gamma: Array) -> tuple[Array, Array]:
    """Variances of kappa and gamma, from the spread of the adjusted abscissae (York 2004, equation 13)."""
    column = kappa[:, None]
    variance = points.variance(column)
    weight = amount / variance
    residual = points.mean - gamma[:, None] + column * points.half
    adjusted = points.half - residual * (column * points.half_variance + points.covariance) / variance
    total = np.maximum(weight.sum(axis=1), 1e-300)
    middle = (weight * adjusted).sum(axis=1) / total
    spread = (weight * (adjusted - middle[:, None]) ** 2).sum(axis=1)
    of_kappa = 1.0 / np.maximum(spread, 1e-30)
    return of_kappa, 1.0 / total + middle**2 * of_kappa


def _limits(profile: Array, least: Array, kappa: Array) -> tuple[Array, Array]:
    """Where the profile of chi2 leaves the best by 1, as mass ratios; interpolated between the grid's points."""
    rows = np.arange(len(profile))
    excess = profile - least[:, None] - 1.0
    limits = []
    for inward in (1, -1):  # from kappa = -1 upwards (large q), from kappa = 1 downwards (small q)
        values, places = excess[:, ::inward], GRID[::inward]
        inside = values <= 0.0
        first = np.where(inside.any(axis=1), inside.argmax(axis=1), np.abs(places - kappa[:, None]).argmin(axis=1))
        before = np.maximum(first - 1, 0)
        rise = values[rows, before] - values[rows, first]
        part = np.where(rise > 0.0, values[rows, before] / np.where(rise > 0.0, rise, 1.0), 1.0).clip(0.0, 1.0)
        limits.append(places[before] + part * (places[first] - places[before]))
        limits[-1] = np.where((first == 0) & inside[:, 0], places[0], limits[-1])
    highest = (1.0 - limits[0]) / np.where(limits[0] > -1.0, 1.0 + limits[0], 0.5)
    upper = np.where(limits[0] > -1.0, highest, np.inf)
    return (1.0 - limits[1]) / (1.0 + limits[1]), upper
