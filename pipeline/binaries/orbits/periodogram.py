"""Which frequencies could be a binary's: both stars' velocities against a few harmonics, over a fine grid.

A screening for :mod:`.modes`: quick and smeared out, so that a mode is not lost between two frequencies. What is
likely, and how likely, is decided by the exact likelihood afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.orbits.prior import TWO_PI, Ephemeris, OrbitPrior

Array = NDArray[np.float64]

HARMONICS = 3
"""Harmonics of the orbital frequency that are fitted."""
STEP = 0.05
"""Step of the grid in units of one over the epochs' span."""

_FALL = 0.6  # of harmonics: their prior amplitude, per order, in units of the largest eccentricity at the period
_BLOCK = 4096
_SHORTEST_SPAN = 1.0  # days; a grid finer than this span's period resolution is never needed
_WINDOW = 6.0  # standard deviations of a known period that are searched


@dataclass(frozen=True)
class Periodogram:
    """How well each frequency explains the velocities."""

    frequency: Array
    """1 / days, ascending; (frequency,)."""
    log_posterior: Array
    """Log of the evidence of a periodic curve, times the prior of the frequency, but for a constant that is the same
    for all ways of exchanging the stars; (frequency,)."""
    phase: Array
    """Phase at the reference time of the largest velocity of star 1, turned so that it is a circular orbit's longitude,
    radians; (frequency,)."""

    def peaks(self, most: int, depth: float = 25.0) -> NDArray[np.int64]:
        """The ``most`` highest local maxima, best first, but for those ``depth`` below the best in log posterior."""
        padded = np.concatenate([[-np.inf], self.log_posterior, [-np.inf]])
        high = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] > padded[2:]))
        high = high[self.log_posterior[high] > self.log_posterior.max() - depth]
        order = np.argsort(-self.log_posterior[high], kind="stable")
        return np.asarray(high[order][:most], dtype=np.int64)


def grid(epochs: Epochs, prior: OrbitPrior, ephemeris: Ephemeris | None = None) -> Array:
    """Frequencies that are fine enough for the epochs' span, within the prior's or the ephemeris' limits; ascending."""
    low, high = 1.0 / prior.longest, 1.0 / prior.shortest
    if ephemeris is not None:
        reach = min(_WINDOW * ephemeris.period_error, 0.9 * ephemeris.period)
        low = max(low, 1.0 / (ephemeris.period + reach))
        high = min(high, 1.0 / (ephemeris.period - reach))
        if low >= high:
            raise ValueError(
                f"{epochs.source}: the ephemeris' period {ephemeris.period} d lies outside the prior's "
                f"{prior.shortest} to {prior.longest} d; widen the prior"
            )
    step = STEP / max(float(np.ptp(epochs.time)), _SHORTEST_SPAN)
    return np.linspace(low, high, max(int(np.ceil((high - low) / step)), 8) + 1)


def periodogram(
    epochs: Epochs,
    prior: OrbitPrior,
    mass_ratio: float,
    reference: float,
    ephemeris: Ephemeris | None = None,
) -> Periodogram:
    """Fit harmonics to the velocities at each frequency, amplitudes and the systemic velocity integrated out.

    Both stars' velocities are one curve: v1 = gamma + X(t), v2 = gamma - X(t) / q. The harmonics of X have Gaussian
    priors, as wide as the semi-amplitude's prior for the first, narrower for the others.

    Parameters
    ----------
    epochs
        At least two.
    prior
        Of orbits.
    mass_ratio
        q; 1 if it is unknown.
    reference
        Time at which phases count, days.
    ephemeris
        Restricts the frequencies.

    Raises
    ------
    ValueError
        If an ephemeris contradicts the prior's limits.
    """
    frequency = grid(epochs, prior, ephemeris)
    time = epochs.time - reference
    # The curve's value at each epoch, its weight, and what the systemic velocity adds to it.
    weight = np.linalg.inv(epochs.covariance)
    lever = np.array([1.0, -1.0 / mass_ratio])
    velocity = epochs.velocity - epochs.velocity.mean()
    firmness = np.einsum("i,nij,j->n", lever, weight, lever)
    value = np.einsum("i,nij,nj->n", lever, weight, velocity) / firmness
    offset = np.einsum("i,nij->n", lever, weight) / firmness
    # Between two frequencies of the grid the phase is off, the more the farther from the reference.
    step = frequency[1] - frequency[0]
    smear = np.sqrt(np.mean(value**2)) * TWO_PI * step / np.sqrt(12.0) * np.abs(time)
    firmness = 1.0 / (1.0 / firmness + smear**2)
    blocks = np.split(frequency, range(_BLOCK, len(frequency), _BLOCK))
    parts = [_of_block(block, time, value, offset, firmness, prior) for block in blocks]
    log_evidence, phase = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    log_prior = -np.log(frequency)
    if ephemeris is not None:
        log_prior = log_prior - 0.5 * ((1.0 / frequency - ephemeris.period) / ephemeris.period_error) ** 2
    return Periodogram(frequency, log_evidence + log_prior, phase)


def _of_block(
    frequency: Array, time: Array, value: Array, offset: Array, firmness: Array, prior: OrbitPrior
) -> tuple[Array, Array]:
    """Log evidence and phase at frequencies, (frequency,) each."""
    # Sums over epochs of weighted powers of one complex exponential give the whole normal matrix.
    columns = np.stack([firmness, firmness * offset, firmness * value], axis=1).astype(np.complex128)
    turn = np.exp(1j * TWO_PI * frequency[:, None] * time)
    power, sums = np.ones_like(turn), []
    for _ in range(2 * HARMONICS + 1):
        sums.append(power @ columns)
        power = power * turn
    total, size = np.stack(sums), 2 * HARMONICS
    matrix = np.empty((len(frequency), size, size))
    for one in range(1, HARMONICS + 1):
        for other in range(1, HARMONICS + 1):
            added, apart = total[one + other, :, 0], total[abs(one - other), :, 0]
            sign = 1.0 if one >= other else -1.0
            row, column = 2 * (one - 1), 2 * (other - 1)
            matrix[:, row, column] = 0.5 * (apart.real + added.real)
            matrix[:, row + 1, column + 1] = 0.5 * (apart.real - added.real)
            matrix[:, row + 1, column] = 0.5 * (added.imag + sign * apart.imag)
            matrix[:, row, column + 1] = 0.5 * (added.imag - sign * apart.imag)
    harmonics = total[1 : HARMONICS + 1].transpose(1, 0, 2)
    pairs = np.stack([harmonics.real, harmonics.imag], axis=2).reshape(len(frequency), size, 3)
    mixed, right = pairs[:, :, 1], pairs[:, :, 2]
    level = float(firmness @ offset**2)
    wanted = float(firmness @ (offset * value))
    matrix -= mixed[:, :, None] * mixed[:, None, :] / max(level, 1e-12)
    right = right - mixed * (wanted / max(level, 1e-12))
    period = 1.0 / frequency
    fall = (_FALL * prior.envelope(period))[:, None] ** np.arange(HARMONICS)
    spread = np.repeat(prior.spread(period, np.zeros_like(period))[:, None] * fall, 2, axis=1)
    matrix *= spread[:, :, None] * spread[:, None, :]
    matrix[:, np.arange(size), np.arange(size)] += 1.0
    right = right * spread
    lower = np.linalg.cholesky(matrix)
    solution = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    logs = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    left = float(firmness @ value**2) - wanted**2 / max(level, 1e-12) - float(np.log(firmness).sum())
    evidence = 0.5 * ((right * solution).sum(axis=1) - left) - logs
    # cos(2 pi f t + longitude) has the coefficients cos(longitude) and -sin(longitude).
    return evidence, np.arctan2(-solution[:, 1], solution[:, 0])
