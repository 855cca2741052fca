"""Velocities of both stars of an eclipsing binary on a circular orbit: least squares at known phases.

At phase 0 star A, which is then eclipsed, is behind: v_A = gamma - K_A sin(2 pi phase), v_B = gamma + K_B sin(2 pi
phase) (Hilditch 2001, section 2.3, e = 0). So which velocity is A's follows from the phase: the lower one in the first
half of the orbit. The stars' separation is free of zero points and gives K_A + K_B; their mean, which a night's zero
point moves, gives gamma and K_B - K_A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ZERO_POINT = 4.0
"""By which the zero point of a night moves both stars alike, km/s, until it is measured."""

_LEAST_SINE = 0.1  # nearer to an eclipse which star is which is a guess
_LEAST_ERROR = 2.0  # km/s, of a velocity


@dataclass(frozen=True)
class Circle:
    """A circular orbit; what velocities do not tell is NaN."""

    exposures: int
    """Exposures that it was fitted to."""
    sum_amplitude: float
    """K_A + K_B, km/s."""
    sum_amplitude_error: float
    """Its standard error, km/s, from the residuals' own scatter if that is larger than stated errors give."""
    amplitude_a: float
    """K_A of the star that is eclipsed at phase 0, km/s; NaN of one exposure."""
    amplitude_b: float
    """K_B of the other, km/s."""
    amplitude_error: float
    """Standard error of both, km/s."""
    gamma: float
    """Systemic velocity, km/s."""
    gamma_error: float
    """Its standard error, km/s."""
    scatter: float
    """Root mean square of the residuals of the separations, km/s; NaN of one exposure."""

    def separation(self, phase: Array) -> Array:
        """Size of the velocity separation at phases, km/s."""
        return np.asarray(self.sum_amplitude * np.abs(np.sin(2.0 * np.pi * phase)))


def fit_circle(phase: Array, bjd: Array, velocity: Array, error: Array) -> Circle | None:
    """Fit a circular orbit.

    Parameters
    ----------
    phase
        (exposure,) orbital phase, 0 at the primary eclipse.
    bjd
        (exposure,) times, d: exposures of one night share a zero point.
    velocity
        (exposure, 2) velocities of the two stars, in any order, km/s.
    error
        (exposure, 2) their errors, km/s.

    Returns
    -------
    Circle or None
        None if no exposure is away from the eclipses.
    """
    sine = np.sin(2.0 * np.pi * phase)
    used = (np.abs(sine) > _LEAST_SINE) & np.isfinite(velocity).all(axis=1)
    if not used.any():
        return None
    sine, night = sine[used], np.round(bjd[used])  # a Julian date is whole at noon at Greenwich: evening in China
    lower, upper = velocity[used].min(axis=1), velocity[used].max(axis=1)
    variance = (np.hypot(np.where(np.isfinite(error[used]), error[used], 0.0), _LEAST_ERROR) ** 2).sum(axis=1)
    count, size = len(sine), np.abs(sine)
    curvature = float(np.sum(size**2 / variance))
    total = float(np.sum(size * (upper - lower) / variance) / curvature)
    residual = upper - lower - total * size
    inflation = math.sqrt(max(1.0, float(np.sum(residual**2 / variance)) / max(count - 1, 1)))
    total_error = inflation / math.sqrt(curvature)
    gamma, gamma_error, half_difference, difference_error = (math.nan,) * 4
    if count > 1 and np.ptp(sine) > 0.0:
        covariance = np.diag(inflation**2 * variance / 4.0) + ZERO_POINT**2 * (night[:, None] == night)
        design = np.stack([np.ones(count), sine], axis=1)
        weighted = np.linalg.solve(covariance, design)
        solved = np.linalg.inv(design.T @ weighted)
        gamma, half_difference = (float(value) for value in solved @ weighted.T @ ((lower + upper) / 2.0))
        gamma_error, difference_error = (float(value) for value in np.sqrt(np.diag(solved)))
    return Circle(
        exposures=count,
        sum_amplitude=total,
        sum_amplitude_error=total_error,
        amplitude_a=total / 2.0 - half_difference,
        amplitude_b=total / 2.0 + half_difference,
        amplitude_error=math.hypot(total_error / 2.0, difference_error),
        gamma=gamma,
        gamma_error=gamma_error,
        scatter=float(np.sqrt(np.mean(residual**2))) if count > 1 else math.nan,
    )
