"""Samples of an orbit's posterior: by rejection from prior samples where that is enough, else from the modes.

Both weigh each sample by the exact posterior over the density it was drawn from, so that they differ in cost alone:
rejection serves where velocities leave many orbits, the modes where they leave few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from twinlines.pipeline.binaries.orbits.modes import Modes, Target, find_modes
from twinlines.pipeline.binaries.orbits.periodogram import Periodogram
from twinlines.pipeline.binaries.orbits.prior import TWO_PI

Array = NDArray[np.float64]

_FREEDOM = 5.0  # of Student's t: heavier tails than the posterior's
_NEIGHBOURHOOD = 100.0  # standard deviations in frequency beyond which a component adds nothing
_OUTWARD = 1.2  # components are wider than the curvature says
_KERNEL = 0.5  # width of kernels around samples, in that of the mode they belong to
_ORIGINAL = 0.3  # share of later rounds that is still drawn from the modes


@dataclass(frozen=True)
class Sampling:
    """How much is sampled."""

    prior_samples: int = 16384
    """Orbits of the prior that are tried before anything else; made once, and shared by all sources."""
    more_prior_samples: int = 1048576
    """Orbits that are tried where the first show that so many will do."""
    enough: float = 256.0
    """Effective samples (Kish 1965) that end the sampling."""
    peaks: int = 1024
    """Peaks of the periodogram from which modes are searched."""
    depth: float = 12.0
    """Modes of which the logarithm of the mass is further below the best's take no part."""
    draws: int = 4096
    """Orbits that are drawn from the modes in each round."""
    kernels: int = 256
    """Samples around which the next round draws."""
    rounds: int = 4
    """Most rounds."""
    kept: int = 512
    """Posterior samples that are returned."""
    seed: int = 1
    """Of all random numbers."""

    def __post_init__(self) -> None:
        for name in ("prior_samples", "more_prior_samples", "peaks", "draws", "kernels", "rounds", "kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; sampling needs at least 1")


@dataclass(frozen=True)
class Weighted:
    """Orbits with weights."""

    points: Array
    """(orbit, 4), as of :mod:`.prior`."""
    weight: Array
    """Adding up to 1; (orbit,)."""
    log_evidence: float
    """Log of the likelihood's mean over the prior, but for a constant of the epochs; -inf if no orbit has any."""
    by_rejection: bool
    """Whether they are prior samples."""

    @property
    def effective(self) -> float:
        """Kish's effective number of samples; 0 if no orbit is possible."""
        return float(1.0 / np.square(self.weight).sum()) if np.isfinite(self.log_evidence) else 0.0


def rejection(target: Target, samples: int, seed: int) -> Weighted:
    """Prior samples weighted by their likelihood.

    Accepting each with a probability proportional to its weight is The Joker (Price-Whelan et al. 2017, ApJ 837, 20);
    weights keep what that throws away.
    """
    points = target.prior.draw(samples, seed)
    density = target.prior.log_density(points)
    log = target.log_density(points) - density
    return _normalised(points, log, by_rejection=True)


def sample(target: Target, screening: Periodogram, sampling: Sampling) -> Weighted:
    """Samples of the posterior, first by rejection, then around the modes if too few are effective.

    Parameters
    ----------
    target
        The posterior.
    screening
        The periodogram of the same epochs.
    sampling
        How much.
    """
    first, more = sampling.prior_samples, max(sampling.more_prior_samples, sampling.prior_samples)
    simple = rejection(target, first, sampling.seed)
    if simple.effective < sampling.enough < simple.effective * more / first:
        simple = rejection(target, more, sampling.seed)
    if simple.effective >= sampling.enough:
        return simple
    modes = find_modes(target, screening, sampling.peaks, sampling.depth)
    rng = np.random.default_rng([sampling.seed, 1])
    # A softened share: the mass of a mode that is no Gaussian may be quite another.
    possible = bool(np.isfinite(modes.log_mass).any())
    share = np.exp(0.5 * (modes.log_mass - modes.log_mass.max())) if possible else np.ones(len(modes.log_mass))
    share = share + 0.1 / len(share)
    mixture = _Mixture(modes.centre, modes.factor * _OUTWARD, share / share.sum())
    drawn = _weighted(target, mixture, mixture.draw(sampling.draws, rng))
    best = drawn
    for _ in range(sampling.rounds - 1):
        if best.effective >= sampling.enough:
            break
        # Bananas and forgotten neighbours: around what has been found to be likely.
        centres = drawn.points[_systematic(np.sqrt(drawn.weight), sampling.kernels, rng)]
        nearest = _nearest(modes, centres)
        kernels = _Mixture(centres, modes.factor[nearest] * _KERNEL, np.full(len(centres), 1.0 / len(centres)))
        both = kernels.joined(mixture, _ORIGINAL)
        drawn = _weighted(target, both, both.draw(sampling.draws, rng))
        if drawn.effective > best.effective:
            best = drawn
    return best if best.effective >= simple.effective else simple


def _weighted(target: Target, mixture: _Mixture, points: Array) -> Weighted:
    return _normalised(points, target.log_density(points) - mixture.log_density(points), by_rejection=False)


def _normalised(points: Array, log: Array, by_rejection: bool) -> Weighted:
    """Points with weights whose logarithms are ``log``; alike if none is possible."""
    if not np.isfinite(log).any():
        return Weighted(points, np.full(len(log), 1.0 / len(log)), -np.inf, by_rejection)
    total = float(logsumexp(log))
    return Weighted(points, np.exp(log - total), total - float(np.log(len(log))), by_rejection)


def _systematic(weight: Array, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows in proportion to their weights, by systematic resampling."""
    edges = np.cumsum(weight / weight.sum())
    places = (np.arange(count) + rng.random()) / count
    return np.minimum(np.searchsorted(edges, places), len(weight) - 1).astype(np.int64)


def resampled(weighted: Weighted, count: int, rng: np.random.Generator) -> Array:
    """So many orbits of equal weight, (orbit, 4)."""
    return weighted.points[_systematic(weighted.weight, count, rng)]


def _nearest(modes: Modes, points: Array) -> NDArray[np.int64]:
    """The mode that each point is nearest to, in its own standard deviations."""
    inverse = np.linalg.inv(modes.factor)
    apart = points[:, None] - modes.centre[None]
    apart[:, :, 3] -= TWO_PI * np.round(apart[:, :, 3] / TWO_PI)
    distance = np.einsum("mij,pmj->pmi", inverse, apart, optimize=True)
    return np.asarray(np.square(distance).sum(axis=2).argmin(axis=1), dtype=np.int64)


class _Mixture:
    """Components of Student's t in (frequency, x, y, longitude)."""

    def __init__(self, centre: Array, factor: Array, share: Array) -> None:
        order = np.argsort(centre[:, 0], kind="stable")
        self.centre, self.factor, self.share = centre[order], factor[order], share[order]
        self.inverse = np.linalg.inv(self.factor)
        dimensions = 4.0
        constant = gammaln(0.5 * (_FREEDOM + dimensions)) - gammaln(0.5 * _FREEDOM)
        constant -= 0.5 * dimensions * np.log(_FREEDOM * np.pi)
        logs = np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum(axis=1)
        self.log_height = constant - logs + np.log(self.share)

    def joined(self, other: _Mixture, share: float) -> _Mixture:
        """One mixture of both, with so large a share of the other."""
        parts = zip(
            (self.centre, self.factor, self.share * (1.0 - share)),
            (other.centre, other.factor, other.share * share),
            strict=True,
        )
        return _Mixture(*(np.concatenate(pair) for pair in parts))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Orbits, (orbit, 4)."""
        rows = _systematic(self.share, count, rng)
        normal = rng.standard_normal((count, 4)) / np.sqrt(rng.chisquare(_FREEDOM, (count, 1)) / _FREEDOM)
        return np.asarray(self.centre[rows] + np.einsum("nij,nj->ni", self.factor[rows], normal), dtype=np.float64)

    def log_density(self, points: Array) -> Array:
        """Log density, (orbit,); of components near in frequency alone."""
        order = np.argsort(points[:, 0], kind="stable")
        ordered = points[order]
        reach = _NEIGHBOURHOOD * np.sqrt(np.square(self.factor[:, 0]).sum(axis=1))
        density = np.zeros(len(points))
        first = np.searchsorted(ordered[:, 0], self.centre[:, 0] - reach)
        last = np.searchsorted(ordered[:, 0], self.centre[:, 0] + reach)
        for row in range(len(self.centre)):
            apart = ordered[first[row] : last[row]] - self.centre[row]
            apart[:, 3] -= TWO_PI * np.round(apart[:, 3] / TWO_PI)
            square = np.square(apart @ self.inverse[row].T).sum(axis=1)
            height = np.exp(self.log_height[row] - 0.5 * (_FREEDOM + 4.0) * np.log1p(square / _FREEDOM))
            density[first[row] : last[row]] += height
        log = np.full(len(points), -np.inf)
        log[order] = np.log(np.maximum(density, 1e-300))
        return log
