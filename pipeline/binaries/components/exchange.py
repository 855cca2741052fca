"""How likely a fit's two stars are exchanged, night by night.

Three things are the same at all epochs, and turn their sign when the stars are exchanged: the slope kappa of the Wilson
line (:mod:`.wilson`), the logarithm of the flux ratio, and the difference of temperatures. Given these, the exchange of
each night is a matter of its own: the 2^n ways need not be tried, and the likelihood sums over them exactly. Their
values are found by expectation-maximisation (Dempster, Laird & Rubin 1977) from many starts. Where nights are few, they
are integrated over for each of the 2^n ways instead, since a best value is too sure of itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp

from twinlines.pipeline.binaries.components.wilson import Halves, profiled, york_step

Array = NDArray[np.float64]

_KAPPAS = (-0.5, -0.35, -0.22, -0.1, -0.03, 0.03, 0.1, 0.22, 0.35, 0.5)  # starts
_GRID = np.linspace(-0.95, 0.95, 229)  # integration
_WIDE = 0.4  # standard deviation of kappa's prior: mass ratios from 0.43 to 2.3
_ITERATIONS = 15
_BROAD = 100.0  # km/s; how far outliers are from the line
_FREE = np.array([1.0, 2000.0])  # prior standard deviations of the log flux ratio and of the temperature difference, K
_BATCH = 128  # sources whose starts are followed together


@dataclass(frozen=True)
class Signs:
    """What turns its sign when stars are exchanged, of all sources."""

    points: Halves
    """Velocities; (source, epoch)."""
    other: Array
    """Log flux ratio, and the temperature of the first star less that of the second, 0 where unknown; (source, epoch,
    2)."""
    firmness: Array
    """One over their variances, 0 where unknown."""
    night: NDArray[np.int64]
    """Number of the night within the source, -1 where there is no epoch; (source, epoch)."""
    side: Array
    """1 or -1: turns epochs of a night so that the same star comes first; (source, epoch)."""

    def take(self, rows: NDArray[np.int64]) -> Signs:
        """Of the sources at ``rows``."""
        points = Halves(*(getattr(self.points, name)[rows] for name in Halves.__dataclass_fields__))
        return Signs(points, self.other[rows], self.firmness[rows], self.night[rows], self.side[rows])

    def turned(self) -> Signs:
        """With epochs turned by their ``side``."""
        points = self.points.turned(self.side)
        return Signs(points, self.other * self.side[:, :, None], self.firmness, self.night, np.ones_like(self.side))


def by_expectation(signs: Signs, outliers: float) -> tuple[Array, Array]:
    """Exchange of each epoch at the likeliest values of what is common.

    Parameters
    ----------
    signs
        Of all sources.
    outliers
        Fraction of epochs that may be anywhere.

    Returns
    -------
    probability, outlier
        Probability that the stars of the epoch are exchanged against an order common to the source, whichever; and that
        the epoch is off the line. (source, epoch) each.
    """
    batches = np.split(np.arange(len(signs.night)), range(_BATCH, len(signs.night), _BATCH))
    parts = [_of_batch(signs.take(rows).turned(), outliers) for rows in batches]
    probability, outlier = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return np.where(signs.side > 0.0, probability, 1.0 - probability), outlier


def _of_batch(signs: Signs, outliers: float) -> tuple[Array, Array]:
    sources, epochs = signs.night.shape
    starts = _starts(signs)
    count = starts.shape[1]
    kappa, gamma = starts.reshape(-1, 2).T
    everyone = np.repeat(np.arange(sources), count)
    many = signs.take(everyone)
    same = (many.night[:, :, None] == many.night[:, None, :]) & many.points.present[:, None, :]
    common = np.zeros((len(everyone), 2))
    level = np.abs(many.other) * many.firmness
    common[:, 0] = -level[:, :, 0].sum(axis=1) / np.maximum(many.firmness[:, :, 0].sum(axis=1), 1e-300)
    # Nothing is assumed of temperatures at first.
    weight = many.firmness * np.array([1.0, 0.0])
    both = _both_ways(many.points)
    for _ in range(_ITERATIONS):
        share, inlier, log = _expect(many, weight, same, kappa, gamma, common, outliers)
        amount = np.concatenate([share[0] * inlier[0], share[1] * inlier[1]], axis=1)
        kappa = york_step(both, amount, kappa, 1.0 / _WIDE**2).clip(-0.95, 0.95)
        gamma = profiled(both, amount, kappa)[1]
        weight = many.firmness
        balance = (share[0] - share[1])[:, :, None]
        common = (balance * many.other * weight).sum(axis=1) / (weight.sum(axis=1) + 1.0 / _FREE**2)
    share, inlier, log = _expect(many, weight, same, kappa, gamma, common, outliers)
    log = log - 0.5 * (kappa / _WIDE) ** 2 - 0.5 * np.square(common / _FREE).sum(axis=1)
    probability = share[1].reshape(sources, count, epochs)
    off = (1.0 - share[0] * inlier[0] - share[1] * inlier[1]).reshape(sources, count, epochs)
    return _average(probability, off, log.reshape(sources, count), signs.points.present)


def _starts(signs: Signs) -> Array:
    """Values of kappa and gamma to begin with, (source, start, 2)."""
    points, result = signs.points, []
    mean = np.where(points.present, points.mean, np.nan)
    half = np.abs(points.half)
    # A source without epochs has no median; nothing will come of it.
    mean[~points.present.any(axis=1)] = 0.0
    for kappa in _KAPPAS:
        # Star 1 approaching at most epochs, receding at most, or as often.
        for side in (-1.0, 0.0, 1.0):
            gamma = np.nanmedian(mean + side * kappa * half, axis=1)
            result.append(np.stack([np.full_like(gamma, kappa), gamma], axis=1))
    return np.stack(result, axis=1)


def _both_ways(points: Halves) -> Halves:
    """Each epoch twice, as it is and exchanged; (source, 2 epochs)."""
    one, other = points, points.turned(np.full_like(points.half, -1.0))
    names = Halves.__dataclass_fields__
    return Halves(*(np.concatenate([getattr(one, name), getattr(other, name)], axis=1) for name in names))


def _expect(
    signs: Signs,
    weight: Array,
    same: NDArray[np.bool_],
    kappa: Array,
    gamma: Array,
    common: Array,
    outliers: float,
) -> tuple[list[Array], list[Array], Array]:
    """Shares of both ways and of the line in each, (source, epoch) for each way; and the log likelihood, (source,)."""
    logs, inlier = [], []
    points = signs.points
    for sign in (1.0, -1.0):
        slope = sign * kappa[:, None]
        residual = points.mean - gamma[:, None] + slope * points.half
        variance = np.where(points.present, points.variance(slope), 1.0) / (1.0 + slope**2)
        line = -0.5 * residual**2 / (variance * (1.0 + slope**2)) - 0.5 * np.log(variance)
        broad = -0.5 * (residual / _BROAD) ** 2 - np.log(_BROAD)
        inside, outside = np.log1p(-outliers) + line, np.log(outliers) + broad
        other = -0.5 * (weight * (sign * signs.other - common[:, None]) ** 2).sum(axis=2)
        total = np.logaddexp(inside, outside)
        logs.append(np.where(points.present, total + other, 0.0))
        inlier.append(np.where(points.present, np.exp(inside - total), 0.0))
    # Epochs of a night are exchanged together.
    odds = np.einsum("sij,sj->si", same, logs[0] - logs[1])
    first = np.where(points.present, expit(odds), 0.0)
    share = [first, np.where(points.present, 1.0 - first, 0.0)]
    size = np.maximum(same.sum(axis=2), 1)
    of_night = [np.einsum("sij,sj->si", same, log) / size for log in logs]
    spread = np.logaddexp(of_night[0] * size, of_night[1] * size) / size
    return share, inlier, np.where(points.present, spread, 0.0).sum(axis=1)


def _average(probability: Array, off: Array, log: Array, present: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Over the starts' ends, each distinct one once, in the order of stars that the best has; (source, epoch) each."""
    best = log.argmax(axis=1)
    rows = np.arange(len(log))
    sign = np.where(present[:, None], 1.0 - 2.0 * probability, 0.0)
    agreement = (sign * sign[rows, best][:, None]).sum(axis=2)
    probability = np.where(agreement[:, :, None] < 0.0, 1.0 - probability, probability)
    # Ends that are the same count once.
    alike = np.abs(probability[:, :, None] - probability[:, None]).max(axis=3) < 0.02
    alike &= np.abs(log[:, :, None] - log[:, None]) < 0.02
    logs = log - np.log(alike.sum(axis=2))
    weight = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    return (weight[:, :, None] * probability).sum(axis=1), (weight[:, :, None] * off).sum(axis=1)


def exactly(signs: Signs, nights: int, outlier: Array) -> Array:
    """Exchange of each epoch of one source, all ways weighed and what is common integrated over.

    Parameters
    ----------
    signs
        Of the one source.
    nights
        How many there are: 2^(nights - 1) ways.
    outlier
        Probability of each epoch to be off the line; it counts so much less.

    Returns
    -------
    Array
        Probability that the stars of the epoch are exchanged against the order of the likeliest way; (epoch,).
    """
    turned = signs.turned()
    points, night = turned.points, signs.night[0]
    amount = np.where(points.present[0], 1.0 - outlier, 0.0)
    belongs = (night[None, :] == np.arange(nights)[:, None]) * amount
    # For each way of a night and each kappa: sums of weights, of heights and of their squares, and of logarithms.
    sums = np.empty((2, nights, len(_GRID), 4))
    for way, sign in enumerate((1.0, -1.0)):
        slope = sign * _GRID[:, None]
        height = points.mean[0] + slope * points.half[0]
        variance = np.where(points.present[0], points.variance(slope), 1.0)
        terms = np.stack([1.0 / variance, height / variance, height**2 / variance, np.log(variance / (1.0 + slope**2))])
        sums[way] = np.einsum("ne,tge->ngt", belongs, terms)
    ways = (np.arange(2 ** (nights - 1))[:, None] >> np.arange(nights)[None, :]) & 1
    total = sum(sums[ways[:, number], number] for number in range(nights))
    weight, first, second, logs = np.moveaxis(np.asarray(total), -1, 0)
    weight = np.maximum(weight, 1e-300)
    log = -0.5 * (second - first**2 / weight + logs + np.log(weight) + (_GRID / _WIDE) ** 2)
    evidence = logsumexp(log, axis=1)
    # Flux ratios and temperatures: Gaussian all through.
    pulled = np.einsum("ne,ek->nk", belongs, turned.other[0] * turned.firmness[0])
    firm = np.einsum("ne,ek->k", belongs, turned.firmness[0])
    level = (1.0 - 2.0 * ways) @ pulled
    evidence = evidence + 0.5 * (level**2 / (firm + 1.0 / _FREE**2)).sum(axis=1)
    share = np.exp(evidence - logsumexp(evidence))
    best = ways[share.argmax()]
    differs = ways != best
    # The two orders of the stars are one way: that which is nearer to the best.
    size = belongs.sum(axis=1)
    differs = np.where(((differs * 2 - 1) @ size > 0.0)[:, None], ~differs, differs)
    of_night = share @ differs
    exchanged = np.where(best == 1, 1.0 - of_night, of_night)[night]
    return np.asarray(np.where(signs.side[0] > 0.0, exchanged, 1.0 - exchanged), dtype=np.float64)
