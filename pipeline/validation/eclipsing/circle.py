"""Velocities of both stars of an eclipsing binary on a circular orbit: least squares at known phases.

At phase 0 star A, which is then eclipsed, is behind: v_A = gamma - K_A sin(2 pi phase), v_B = gamma + K_B sin(2 pi
phase) (Hilditch 2001, section 2.3, e = 0). So which velocity is A's follows from the phase: the lower one in the first
half of the orbit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LEAST_SINE = 0.1  # nearer to an eclipse which star is which is a guess
_LARGEST_ERROR = 0.2  # of an amplitude, of the sum of both: beyond, the stars' own amplitudes are not known
_LEAST_ERROR = 2.0  # km/s of a velocity: zero points of exposures differ


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
    """K_A of the star that is eclipsed at phase 0, km/s."""
    amplitude_b: float
    """K_B of the other, km/s."""
    gamma: float
    """Systemic velocity, km/s."""
    scatter: float
    """Root mean square of the residuals of the separations, km/s; NaN of one exposure."""

    def separation(self, phase: Array) -> Array:
        """Size of the velocity separation at phases, km/s."""
        return np.asarray(self.sum_amplitude * np.abs(np.sin(2.0 * np.pi * phase)))


def fit_circle(phase: Array, velocity: Array, error: Array) -> Circle | None:
    """Fit a circular orbit.

    Parameters
    ----------
    phase
        (exposure,) orbital phase, 0 at the primary eclipse.
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
    sine, lower, upper = sine[used], velocity[used].min(axis=1), velocity[used].max(axis=1)
    sigma = np.hypot(np.where(np.isfinite(error[used]), error[used], 0.0), _LEAST_ERROR)
    weight = 1.0 / (sigma**2).sum(axis=1)
    size = np.abs(sine)
    curvature = float(np.sum(weight * size**2))
    total = float(np.sum(weight * size * (upper - lower)) / curvature)
    residual = upper - lower - total * size
    count = len(size)
    inflation = math.sqrt(max(1.0, float(np.sum(weight * residual**2)) / max(count - 1, 1)))
    star_a, star_b = np.where(sine > 0.0, lower, upper), np.where(sine > 0.0, upper, lower)
    # Unknowns gamma, K_A, K_B; both stars of every exposure.
    ones, nothing = np.ones(count), np.zeros(count)
    design = np.concatenate([np.stack([ones, -sine, nothing], 1), np.stack([ones, nothing, sine], 1)])
    scale = 1.0 / np.concatenate([sigma.mean(axis=1)] * 2)
    solved, _, rank, _ = np.linalg.lstsq(design * scale[:, None], np.concatenate([star_a, star_b]) * scale, rcond=1e-9)
    gamma, amplitude_a, amplitude_b = (math.nan,) * 3
    if rank == design.shape[1]:
        covariance = np.linalg.inv((design * scale[:, None]).T @ (design * scale[:, None])) * inflation**2
        if (
            math.sqrt(covariance[1, 1]) < _LARGEST_ERROR * total
            and math.sqrt(covariance[2, 2]) < _LARGEST_ERROR * total
        ):
            gamma, amplitude_a, amplitude_b = (float(value) for value in solved)
    return Circle(
        exposures=count,
        sum_amplitude=total,
        sum_amplitude_error=inflation / math.sqrt(curvature),
        amplitude_a=amplitude_a,
        amplitude_b=amplitude_b,
        gamma=gamma,
        scatter=float(np.sqrt(np.mean(residual**2))) if count > 1 else math.nan,
    )
