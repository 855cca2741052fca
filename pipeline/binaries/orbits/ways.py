"""Ways of exchanging two stars at epochs where it is unclear which is which, as an orbit's fit is to follow them.

Few unclear nights are exchanged in all ways. Stars as alike as twins leave many nights unclear, and the orbit has to
say: a grid of circular orbits is compared with the velocities' difference, whatever its sign; each good orbit has signs
of its own, and the periodogram says which signs are worth following.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.orbits.periodogram import grid, periodogram
from twinlines.pipeline.binaries.orbits.prior import TWO_PI, OrbitPrior

Array = NDArray[np.float64]

_UNCLEAR = 0.01  # probability above which an exchange is considered
_PHASES = 12
_POINTS = 4000  # best circular orbits whose signs are looked at
_FINALISTS = 64  # patterns of signs whose periodograms are compared
_ROUGHNESS = 0.15  # of the velocities' rms: orbits are not circular, and the mass ratio is not 1
_BLOCK = 1024


@dataclass(frozen=True)
class Ways:
    """Ways of exchanging the stars of one source."""

    exchanged: NDArray[np.bool_]
    """(way, epoch)."""
    chance: Array
    """Probability of each before any orbit, relative to the others; (way,)."""


def nights_of(time: Array, night: float) -> NDArray[np.int64]:
    """Number of the night of each epoch, epochs less than ``night`` days apart being of one; (epoch,)."""
    order = np.argsort(time, kind="stable")
    number = np.zeros(len(time), dtype=np.int64)
    number[order] = np.cumsum(np.diff(time[order], prepend=time[order[:1]]) > night)
    return number


def ways_of(epochs: Epochs, exchange: Array, nights: NDArray[np.int64], prior: OrbitPrior, most: int) -> Ways:
    """The ways to follow.

    Parameters
    ----------
    epochs
        Of one source.
    exchange
        Probability that the stars of an epoch are exchanged, (epoch,); those of a night with one doubt go together.
    nights
        From :func:`nights_of`.
    prior
        For the frequencies of the grid.
    most
        Most ways.
    """
    likely = exchange > 0.5
    doubt = np.round(np.minimum(exchange, 1.0 - exchange), 6)
    unclear = doubt > _UNCLEAR
    keys = sorted({(int(night), float(value)) for night, value in zip(nights[unclear], doubt[unclear], strict=True)})
    groups = [unclear & (nights == night) & (doubt == value) for night, value in keys]
    values = np.array([value for _, value in keys])
    if 2 ** len(groups) <= _FINALISTS:
        patterns = (np.arange(2 ** len(groups))[:, None] >> np.arange(len(groups))) & 1 > 0
    else:
        patterns = _by_orbits(epochs.swapped(likely), groups, values, prior)
    if len(patterns) > most:
        patterns = _by_periodogram(epochs.swapped(likely), groups, values, patterns, prior)[:most]
    exchanged = np.tile(likely, (len(patterns), 1))
    for number, mine in enumerate(groups):
        exchanged ^= patterns[:, number : number + 1] & mine
    log = np.where(patterns, np.log(np.maximum(values, 1e-300)), np.log1p(-values)).sum(axis=1)
    chance = np.exp(log - log.max()) if len(groups) else np.ones(len(patterns))
    return Ways(exchanged, chance / chance.sum())


def _by_orbits(epochs: Epochs, groups: list[NDArray[np.bool_]], values: Array, prior: OrbitPrior) -> NDArray[np.bool_]:
    """Patterns of exchanged groups that circular orbits suggest, best first; (pattern, group)."""
    frequency = grid(epochs, prior)
    time = epochs.time - 0.5 * (epochs.time.min() + epochs.time.max())
    covariance = epochs.covariance
    half = 0.5 * (epochs.velocity[:, 0] - epochs.velocity[:, 1])
    variance = 0.25 * (covariance[:, 0, 0] + covariance[:, 1, 1] - 2.0 * covariance[:, 0, 1])
    size = np.sqrt(np.mean(half**2))
    smear = size * TWO_PI * (frequency[1] - frequency[0]) / np.sqrt(12.0) * np.abs(time)
    weight = 1.0 / (variance + smear**2 + (_ROUGHNESS * size) ** 2)
    pull = weight * half
    scores, patterns = [], []
    membership = np.array(groups, dtype=np.float64).T
    odds = np.log(values) - np.log1p(-values)
    for block in np.split(frequency, range(_BLOCK, len(frequency), _BLOCK)):
        angle = TWO_PI * block[:, None] * time
        cosine, sine = np.cos(angle), np.sin(angle)
        # Squares of the two columns, for a fit of both at each frequency, with the signs that a phase suggests.
        first, second, mixed = (cosine**2) @ weight, (sine**2) @ weight, (cosine * sine) @ weight
        determinant = np.maximum(first * second - mixed**2, 1e-9 * first * second)
        for phase in np.arange(_PHASES) * (TWO_PI / _PHASES):
            curve = np.cos(phase) * cosine - np.sin(phase) * sine
            pattern = (curve * pull) @ membership < 0.0
            turned = pull * (1.0 - 2.0 * (pattern @ membership.T))
            along, across = (cosine * turned).sum(axis=1), (sine * turned).sum(axis=1)
            gain = (second * along**2 - 2.0 * mixed * along * across + first * across**2) / determinant
            score = 0.5 * gain + pattern @ odds
            best = np.argsort(-score)[:100]
            scores.append(score[best])
            patterns.append(pattern[best])
    score, pattern = np.concatenate(scores), np.concatenate(patterns)
    order = np.argsort(-score, kind="stable")[:_POINTS]
    _, places = np.unique(pattern[order], axis=0, return_index=True)
    return np.asarray(pattern[order][np.sort(places)][:_FINALISTS], dtype=np.bool_)


def _by_periodogram(
    epochs: Epochs, groups: list[NDArray[np.bool_]], values: Array, patterns: NDArray[np.bool_], prior: OrbitPrior
) -> NDArray[np.bool_]:
    """Patterns by how well any periodic curve explains them, best first."""
    odds = np.log(values) - np.log1p(-values)
    membership = np.array(groups)
    if (membership.any(axis=0) == epochs.resolved).all():
        # All exchanged against none is the same orbit with the stars renamed: the likelier is enough.
        chance = patterns @ odds
        patterns = patterns[(chance > odds.sum() - chance) | ((2.0 * chance == odds.sum()) & ~patterns[:, 0])]
    logs = []
    for chosen in patterns:
        ordered = epochs.swapped((chosen[:, None] & membership).any(axis=0))
        screening = periodogram(ordered, prior, 1.0, float(epochs.time.mean()))
        logs.append(logsumexp(screening.log_posterior) + chosen @ odds)
    return np.asarray(patterns[np.argsort(-np.array(logs), kind="stable")], dtype=np.bool_)
