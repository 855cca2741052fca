"""What orbits explain of the velocities, with both semi-amplitudes and the systemic velocity integrated out exactly.

Both are linear: v1 = gamma + K1 h, v2 = gamma - K2 h, where h is known for a period, an eccentricity, omega and a phase
(Price-Whelan et al. 2017, ApJ 837, 20, for one star). K1 and K2 have a Gaussian prior, gamma a flat one, so that the
integral is that of a Gaussian in three dimensions; all orbits are done by a few products of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.orbits.kepler import velocity_curve
from twinlines.pipeline.binaries.orbits.prior import TWO_PI, OrbitPrior

Array = NDArray[np.float64]

_BLOCK = 4096  # orbits whose intermediate results stay in the cache


@dataclass(frozen=True)
class Amplitudes:
    """The posterior of (K1, K2, gamma) at each orbit, a Gaussian; and what is left of the velocities."""

    log_evidence: Array
    """Log likelihood with K1, K2 and gamma integrated out, but for a constant of the epochs; (orbit,)."""
    mean: Array
    """K1, K2 and gamma, km/s; (orbit, 3)."""
    covariance: Array
    """Of ``mean``, (orbit, 3, 3)."""
    chi2: Array
    """Of the velocities at ``mean``, without the prior's share; (orbit,)."""


class Velocities:
    """Epochs of one source, ready to be compared with any number of orbits."""

    def __init__(self, epochs: Epochs, prior: OrbitPrior) -> None:
        self.prior = prior
        self.reference = float(np.mean([epochs.time.min(), epochs.time.max()])) if len(epochs) else 0.0
        """Time at which longitudes count, days."""
        self.time = epochs.time - self.reference
        """Days from the reference."""
        # Of velocities near zero, so that no digits are lost in the squares.
        self._zero = float(epochs.velocity.mean()) if len(epochs) else 0.0
        velocity = epochs.velocity - self._zero
        weight = np.linalg.inv(epochs.covariance)
        pulled = np.einsum("nij,nj->ni", weight, velocity)
        self._squares = np.stack([weight[:, 0, 0], -weight[:, 0, 1], weight[:, 1, 1]], axis=1)
        self._products = np.stack([weight[:, 0].sum(1), -weight[:, 1].sum(1), pulled[:, 0], -pulled[:, 1]], axis=1)
        self._total = float(weight.sum())
        self._sum = float(pulled.sum())
        self._norm = float((velocity * pulled).sum())
        self._determinants = float(np.linalg.slogdet(epochs.covariance)[1].sum())

    def curve(self, points: Array) -> Array:
        """The curve h of orbits at the epochs, (orbit, 4) -> (orbit, epoch)."""
        eccentricity, omega = self.prior.shape(points)
        mean = (TWO_PI * points[:, :1]) * self.time + (points[:, 3] - omega)[:, None]
        return velocity_curve(mean, eccentricity[:, None], omega[:, None])

    def amplitudes(self, points: Array) -> Amplitudes:
        """Integrate over K1, K2 and gamma.

        Parameters
        ----------
        points
            Orbits, (orbit, 4), as of :mod:`.prior`.
        """
        blocks = np.split(points, range(_BLOCK, len(points), _BLOCK))
        return _joined([self._of_block(block) for block in blocks])

    def _of_block(self, points: Array) -> Amplitudes:
        curve = self.curve(points)
        squares, products = (curve * curve) @ self._squares, curve @ self._products
        spread = self.prior.spread(1.0 / points[:, 0], self.prior.shape(points)[0])
        alike = self.prior.alike
        firmness = 1.0 / (spread**2 * (1.0 - alike**2))
        # Matrix and right side of the normal equations; the last row and column are gamma's.
        first, second = squares[:, 0] + firmness, squares[:, 2] + firmness
        mixed = squares[:, 1] - alike * firmness
        with1, with2, wanted1, wanted2 = products.T
        total, wanted = self._total, self._sum
        # Gamma taken out first, then K2: the matrix is 3 x 3, and written out.
        first, mixed, second = first - with1**2 / total, mixed - with1 * with2 / total, second - with2**2 / total
        right1, right2 = wanted1 - with1 * wanted / total, wanted2 - with2 * wanted / total
        determinant = np.maximum(first * second - mixed**2, 1e-300)
        inverse11, inverse12, inverse22 = second / determinant, -mixed / determinant, first / determinant
        amplitude1 = inverse11 * right1 + inverse12 * right2
        amplitude2 = inverse12 * right1 + inverse22 * right2
        gamma = (wanted - with1 * amplitude1 - with2 * amplitude2) / total
        explained = right1 * amplitude1 + right2 * amplitude2 + wanted**2 / total
        # det of the prior's precision: firmness^2 (1 - alike^2)
        volume = np.log(determinant * total) - np.log(firmness**2 * (1.0 - alike**2))
        evidence = -0.5 * (self._norm - explained + volume + self._determinants)
        shrinkage = firmness * (amplitude1**2 - 2.0 * alike * amplitude1 * amplitude2 + amplitude2**2)
        covariance = np.empty((len(points), 3, 3))
        lever1 = -(with1 * inverse11 + with2 * inverse12) / total
        lever2 = -(with1 * inverse12 + with2 * inverse22) / total
        covariance[:, 0, 0], covariance[:, 1, 1] = inverse11, inverse22
        covariance[:, 0, 1] = covariance[:, 1, 0] = inverse12
        covariance[:, 0, 2] = covariance[:, 2, 0] = lever1
        covariance[:, 1, 2] = covariance[:, 2, 1] = lever2
        covariance[:, 2, 2] = 1.0 / total - (with1 * lever1 + with2 * lever2) / total
        mean = np.stack([amplitude1, amplitude2, gamma + self._zero], axis=1)
        chi2 = np.maximum(self._norm - explained - shrinkage, 0.0)
        return Amplitudes(evidence, mean, covariance, chi2)


def _joined(parts: list[Amplitudes]) -> Amplitudes:
    names = ("log_evidence", "mean", "covariance", "chi2")
    return Amplitudes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
