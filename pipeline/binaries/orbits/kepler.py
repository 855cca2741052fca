"""Kepler's equation, and the velocity curve of an orbit, for any number of orbits and times at once.

Knows neither priors nor data. Angles are radians; nothing here loops over orbits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

_TWO_PI = 2.0 * np.pi


def eccentric_anomaly(mean_anomaly: Array, eccentricity: Array | float) -> Array:
    """Solve Kepler's equation E - e sin E = M.

    The starting value is Mikkola's (1987, Celestial Mechanics 40, 329), good to 2e-3; two steps of Halley's method
    bring it to the last bits. There is no loop that waits for the slowest, and no branch.

    Parameters
    ----------
    mean_anomaly
        M, any shape, any number of turns.
    eccentricity
        e, from 0 to below 1; of a shape that broadcasts with that of ``mean_anomaly``.

    Returns
    -------
    Array
        E between -pi and pi, of the common shape; the equation holds for M brought between -pi and pi.

    Raises
    ------
    ValueError
        If an eccentricity is negative, 1 or more, or not a number.
    """
    eccentricity = np.asarray(eccentricity, dtype=np.float64)
    if eccentricity.size and not (eccentricity.min() >= 0.0 and eccentricity.max() < 1.0):
        bad = eccentricity[~((eccentricity >= 0.0) & (eccentricity < 1.0))]
        raise ValueError(f"an eccentricity is {bad[0]}; closed orbits have 0 <= e < 1")
    mean = mean_anomaly - _TWO_PI * np.round(mean_anomaly / _TWO_PI)
    # Mikkola's cubic in s = sin(E / 3), whose root is explicit.
    rest = 1.0 - eccentricity
    scale = 1.0 / (4.0 * eccentricity + 0.5)
    alpha = rest * scale
    beta = 0.5 * mean * scale
    root = np.cbrt(np.abs(beta) + np.sqrt(beta * beta + alpha * alpha * alpha))
    # Equal to root - alpha / root, without the cancellation near M = 0.
    sine = 2.0 * beta / (root * root + alpha + (alpha / np.maximum(root, 1e-300)) ** 2)
    fourth = sine * sine
    fourth = fourth * fourth
    sine = sine - 0.078 * fourth * sine / (1.0 + eccentricity)
    guess = mean + eccentricity * sine * (3.0 - 4.0 * sine * sine)
    for _ in range(2):
        e_sin, e_cos = (eccentricity * part for part in _sine_cosine(guess))
        miss, slope = guess - e_sin - mean, 1.0 - e_cos
        guess = guess - miss * slope / (slope * slope - 0.5 * miss * e_sin)
    return np.asarray(guess, dtype=np.float64)


def velocity_curve(mean_anomaly: Array, eccentricity: Array, periastron: Array) -> Array:
    """What multiplies the semi-amplitude: cos(omega + nu) + e cos omega, nu being the true anomaly.

    Star 1 has the velocity gamma + K1 times this, star 2 gamma - K2 times this (e.g. Hilditch 2001, An Introduction to
    Close Binary Stars, section 2.5).

    Parameters
    ----------
    mean_anomaly, eccentricity, periastron
        M, e and star 1's omega, of shapes that broadcast.
    """
    anomaly = eccentric_anomaly(mean_anomaly, eccentricity)
    sine, cosine = _sine_cosine(anomaly)
    distance = 1.0 - eccentricity * cosine
    along = (cosine - eccentricity) / distance
    across = np.sqrt(1.0 - eccentricity * eccentricity) * sine / distance
    return np.asarray(np.cos(periastron) * (along + eccentricity) - np.sin(periastron) * across, dtype=np.float64)


def mean_from_true(true_anomaly: Array, eccentricity: Array) -> Array:
    """The mean anomaly at which a star has a true anomaly, between -pi and pi."""
    half = 0.5 * true_anomaly
    anomaly = 2.0 * np.arctan2(np.sqrt(1.0 - eccentricity) * np.sin(half), np.sqrt(1.0 + eccentricity) * np.cos(half))
    anomaly = anomaly - _TWO_PI * np.round(anomaly / _TWO_PI)
    return np.asarray(anomaly - eccentricity * np.sin(anomaly), dtype=np.float64)


def _sine_cosine(angle: Array) -> tuple[Array, Array]:
    """Both, by torch: it takes a third of numpy's time, which is most of what an orbit costs."""
    angles = torch.from_numpy(np.ascontiguousarray(angle))
    return angles.sin().numpy().reshape(np.shape(angle)), angles.cos().numpy().reshape(np.shape(angle))
