"""The modes of an orbit's posterior: from likely frequencies to the orbits nearby that explain the velocities best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.orbits.amplitudes import Velocities
from twinlines.pipeline.binaries.orbits.periodogram import Periodogram
from twinlines.pipeline.binaries.orbits.prior import ROUND, TWO_PI, Ephemeris, OrbitPrior
from twinlines.pipeline.synthesis.leastsquares import Limits, Minimum, Terms, minimise

Array = NDArray[np.float64]

_SHAPES = ((0.0, 0.0), (0.05, 0.0), (0.6, 0.0), (0.6, 90.0), (0.6, 180.0), (0.6, 270.0))
"""Radii sqrt(e / e_max) and omegas, degrees, of starts; the first stays where tides make orbits circular."""
_FIRM = 8.0
"""One over the variance of x and of y in the prior of other orbits, nearly."""
_STEPS = np.array([1e-4, 1e-4, 1e-4])  # of x, y and longitude, for derivatives
_TRIAL, _MORE = 4, 14  # steps of searches: of all, and of those that are worth it
_HOPE = 60.0  # chi2 above the best's after the first steps beyond which a search ends
_SAME = 0.5  # standard deviations between minima that are one


class Target:
    """The posterior density of orbits, K1, K2 and gamma integrated out."""

    def __init__(self, epochs: Epochs, prior: OrbitPrior, ephemeris: Ephemeris | None = None) -> None:
        self.velocities = Velocities(epochs, prior)
        self.prior, self.ephemeris = prior, ephemeris
        self.weight = np.linalg.inv(epochs.covariance)
        self.velocity = epochs.velocity
        self.span = max(float(np.ptp(epochs.time)), 1.0)

    def pulls(self, points: Array) -> Array:
        """Of the ephemeris, (orbit, 0 to 2)."""
        if self.ephemeris is None:
            return np.zeros((len(points), 0))
        return self.ephemeris.pulls(self.prior, points, self.velocities.reference)

    def log_density(self, points: Array) -> Array:
        """Log posterior of orbits (orbit, 4) but for a constant.

        It is -inf outside the prior, and where K1 + K2 < 0: such an orbit is one with K1 + K2 > 0, half a turn on.
        """
        log = self.prior.log_density(points)
        rows = np.flatnonzero(np.isfinite(log))
        inside = points[rows]
        amplitudes = self.velocities.amplitudes(inside)
        log[rows] += amplitudes.log_evidence - 0.5 * (self.pulls(inside) ** 2).sum(axis=1)
        log[rows[amplitudes.mean[:, 0] + amplitudes.mean[:, 1] <= 0.0]] = -np.inf
        return log

    def terms(self, points: Array, firmness: Array) -> Terms:
        """Of a search in (frequency, x, y, longitude), the linear parameters projected out.

        Golub & Pereyra (1973), with Kaufman's approximation. A Gaussian stands for the prior of x and y; ``firmness``
        is one over its variance, (orbit,).
        """
        mean = self.velocities.amplitudes(points).mean
        curve, slopes = self.velocities.curve(points), []
        steps = np.concatenate([[1e-3 / self.span], _STEPS])
        pulls = self.pulls(points)
        pull_slopes = np.zeros((*pulls.shape, 4))
        for axis, step in enumerate(steps):
            moved = points.copy()
            moved[:, axis] += step
            slopes.append((self.velocities.curve(moved) - curve) / step)
            if pulls.shape[1]:
                change = np.abs(step * 1e-3) if axis == 0 else step  # an ephemeris is sharper than the epochs are
                moved[:, axis] = points[:, axis] + change
                pull_slopes[:, :, axis] = (self.pulls(moved) - pulls) / change
        slope = np.stack(slopes, axis=2)  # (orbit, epoch, parameter)
        first, second, gamma = mean.T
        lever = np.stack([first, -second], axis=1)
        residual = self.velocity - gamma[:, None, None] - curve[:, :, None] * lever[:, None, :]
        pulled = np.einsum("nij,bnj->bni", self.weight, residual)
        by_lever = np.einsum("bi,nij->bnj", lever, self.weight)
        gradient = np.einsum("bnp,bn->bp", slope, np.einsum("bi,bni->bn", lever, pulled))
        curvature = np.einsum("bnp,bnq,bn->bpq", slope, slope, np.einsum("bnj,bj->bn", by_lever, lever), optimize=True)
        # Columns of the linear parameters: (h, 0), (0, -h), (1, 1).
        columns = np.stack([by_lever[:, :, 0] * curve, -by_lever[:, :, 1] * curve, by_lever.sum(axis=2)], axis=2)
        mixed = np.einsum("bnp,bnl->bpl", slope, columns)
        curvature -= mixed @ self.velocities.amplitudes(points).covariance @ mixed.transpose(0, 2, 1)
        chi2 = np.einsum("bni,bni->b", residual, pulled) + self._shrinkage(points, first, second)
        chi2 += firmness * (points[:, 1] ** 2 + points[:, 2] ** 2)
        gradient[:, 1:3] -= firmness[:, None] * points[:, 1:3]
        curvature[:, [1, 2], [1, 2]] += firmness[:, None]
        chi2 += (pulls**2).sum(axis=1)
        gradient -= np.einsum("bkp,bk->bp", pull_slopes, pulls)
        curvature += np.einsum("bkp,bkq->bpq", pull_slopes, pull_slopes)
        return Terms(torch.from_numpy(chi2), torch.from_numpy(gradient), torch.from_numpy(curvature))

    def _shrinkage(self, points: Array, first: Array, second: Array) -> Array:
        spread = self.prior.spread(1.0 / points[:, 0], self.prior.shape(points)[0])
        alike = self.prior.alike
        squares = first**2 - 2.0 * alike * first * second + second**2
        return np.asarray(squares / (spread**2 * (1.0 - alike**2)), dtype=np.float64)


@dataclass(frozen=True)
class Modes:
    """Distinct minima, as components of a mixture; the first axis is theirs."""

    centre: Array
    """(mode, 4)."""
    factor: Array
    """Lower Cholesky factor of the covariance, (mode, 4, 4)."""
    log_mass: Array
    """Log posterior mass by Laplace's approximation, (mode,)."""


def find_modes(target: Target, screening: Periodogram, most: int, depth: float) -> Modes:
    """Search from the highest peaks of a periodogram.

    Parameters
    ----------
    target
        What is to be sampled.
    screening
        Its periodogram, with phases at the target's reference time.
    most
        Peaks to begin with; each is searched from several shapes.
    depth
        Modes whose mass is less than the best's by more than this, in the logarithm, are dropped.
    """
    peaks = screening.peaks(most)
    shapes = np.array([(r * np.cos(np.radians(w)), r * np.sin(np.radians(w))) for r, w in _SHAPES])
    starts = np.empty((len(peaks), len(shapes), 4))
    starts[:, :, 0], starts[:, :, 1:3] = screening.frequency[peaks, None], shapes
    starts[:, :, 3] = screening.phase[peaks, None]
    prior = target.prior
    # As far as to the next two points of the grid.
    near = np.array([2.0 * (screening.frequency[1] - screening.frequency[0]), 0.3, 0.3, 0.6])
    limits = Limits(
        torch.tensor([1.0 / prior.longest, -0.98, -0.98, -1e3], dtype=torch.float64),
        torch.tensor([1.0 / prior.shortest, 0.98, 0.98, 1e3], dtype=torch.float64),
        torch.from_numpy(near),
    )

    firmness = np.tile(np.where(np.arange(len(shapes)) == 0, 2.0 * ROUND, _FIRM), len(peaks))

    def search(begin: Tensor, owner: Array, steps: int) -> Minimum:
        def evaluate(parameters: Tensor, rows: Tensor) -> Terms:
            return target.terms(parameters.numpy(), owner[rows.numpy()])

        return minimise(evaluate, begin, limits, most_steps=steps, tolerance=0.02)

    # A few steps show which starts are worth more.
    trial = search(torch.from_numpy(starts.reshape(-1, 4)), firmness, _TRIAL)
    chi2 = trial.terms.chi2.numpy()
    hopeful = np.flatnonzero(chi2 <= chi2.min() + _HOPE)
    minimum = search(trial.parameters[torch.from_numpy(hopeful)], firmness[hopeful], _MORE)
    centre = minimum.parameters.numpy()
    radius = np.hypot(centre[:, 1], centre[:, 2])
    centre[:, 1:3] *= np.minimum(1.0, 0.98 / np.maximum(radius, 1e-12))[:, None]
    # No direction is freer than the prior leaves it, or than the next peak is far.
    firm = np.array([(2.0 * target.span) ** 2, 4.0, 4.0, 1.0])
    curvature = minimum.terms.curvature.numpy() + np.eye(4) * firm
    factor = np.linalg.cholesky(np.linalg.inv(curvature))
    logs = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    log_mass = target.log_density(centre) + logs + 2.0 * np.log(TWO_PI)
    return _distinct(Modes(centre, factor, log_mass), depth)


def _distinct(modes: Modes, depth: float) -> Modes:
    """Without minima that are nearly the same as a better one, best first."""
    best = float(modes.log_mass.max())
    order = np.argsort(-modes.log_mass, kind="stable")
    order = order[modes.log_mass[order] > best - depth] if np.isfinite(best) else order[:1]
    inverse = np.linalg.inv(modes.factor)
    chosen: list[int] = []
    for row in order:
        apart = modes.centre[row] - modes.centre[chosen]
        apart[:, 3] -= TWO_PI * np.round(apart[:, 3] / TWO_PI)
        distance = np.einsum("mij,mj->mi", inverse[chosen], apart)
        if not (np.square(distance).sum(axis=1) < _SAME**2).any():
            chosen.append(int(row))
    rows = np.array(chosen)
    return Modes(modes.centre[rows], modes.factor[rows], modes.log_mass[rows])
