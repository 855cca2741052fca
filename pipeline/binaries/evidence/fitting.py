"""Constants of the evidence's model, fitted to stars whose kind is known: those of mock surveys.

The networks' ratios are taken as they are. A steeper scale, by which mock exposures with and without two sets of
lines are told apart best, was tried: it believed the narrow spread of some detectors' spectra, and called stars on
others double. All chances are fitted by whole stars that were judged by both arms together; of each arm's own
verdicts, how often a binary shows its lines in it, and how often another star looks double. What is minimised is the
information that the three probabilities of each star lack (the logarithmic score), at two prevalences: rare binaries
ask for what a rare disturbance does. Each constant has a Gaussian prior about where it begins, for what mock stars do
not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.evidence.exposures import Exposures, arm_offset_of, exposures_of
from twinlines.pipeline.binaries.evidence.model import (
    SB1,
    SB2,
    SINGLE,
    Calibration,
    Chance,
    log_likelihoods,
    night_log_ratio,
)
from twinlines.pipeline.binaries.evidence.nights import Nights, nights_of
from twinlines.pipeline.binaries.evidence.variability import variability
from twinlines.pipeline.schema import HEADS, JOINT

Array = NDArray[np.float64]

PREVALENCES = (0.3, 0.03)
"""Prevalences of double-lined binaries at which probabilities are scored."""

_SB1 = 0.1  # of the other stars, there
_STEPS = 60
_PRIOR_SCATTER = 1.0  # of every constant about where it begins
_PRIOR_SCATTER_OF_CLASSES = 0.3  # of how rarer disturbances are by S/N and class, of which few stars tell


@dataclass(frozen=True)
class Known:
    """Stars whose kind is known."""

    nights: Nights
    """Their nights."""
    kind: NDArray[np.int64]
    """(star,) :data:`.model.SINGLE`, :data:`.model.SB1` or :data:`.model.SB2`."""


def begin() -> Calibration:
    """Where fits begin: the networks' ratios as they are."""
    same = dict.fromkeys(HEADS, 0.0)
    return Calibration(
        offset=same,
        slope=dict.fromkeys(HEADS, 1.0),
        shared=0.5,
        shows=Chance(dict.fromkeys(HEADS, 1.0), scatter=dict.fromkeys(HEADS, 1.5), snr=0.0, cool=0.0, hot=0.0),
        disturbed=Chance(dict.fromkeys(HEADS, -5.0), scatter=dict.fromkeys(HEADS, 1.0), snr=0.0, cool=0.0, hot=0.0),
        varies=(-4.0, 2.0, 0.0),
    )


def known_of(exposures: Exposures, star: NDArray[np.int64], kind: NDArray[np.int64]) -> Known:
    """Gather exposures of stars, 0 to the number of kinds less 1, whose kind is known; each star has an exposure."""
    order = np.lexsort((exposures.night, star))
    return Known(nights_of(exposures.take(order), star[order], len(HEADS)), kind)


def calibrate(
    catalog: xr.Dataset,
    star: NDArray[np.int64],
    kind: NDArray[np.int64],
    about: Mapping[str, str],
) -> Calibration:
    """Fit the constants to a catalog whose stars are known.

    Parameters
    ----------
    catalog
        Variables :data:`.exposures.COLUMNS` of its rows.
    star
        (exposure,) star of each, 0 to the number of stars less 1.
    kind
        (star,) :data:`.model.SINGLE`, :data:`.model.SB1` or :data:`.model.SB2`.
    about
        What is kept with the constants: the ensemble's digest, the command.

    Raises
    ------
    ValueError
        If stars of a kind are missing.
    """
    calibration, offset = begin(), arm_offset_of(catalog)
    for head in (JOINT, *ARM_NAMES):
        seen = exposures_of(catalog, arm_offset=offset, without=tuple(other for other in HEADS if other != head))
        calibration = fit(known_of(seen, star, kind), calibration, head, common=head == JOINT)
    return replace(calibration, about=dict(about))


def fit(known: Known, start: Calibration, head: str, *, common: bool) -> Calibration:
    """Fit the chances of one head, and those that all have in common.

    Parameters
    ----------
    known
        Stars that this head judged, and no other.
    start
        Where to begin, and what stays.
    head
        The head.
    common
        Whether what all heads have in common is fitted, too.

    Raises
    ------
    ValueError
        If stars of a kind are missing.
    """
    for kind, name in ((SINGLE, "single"), (SB1, "SB1"), (SB2, "SB2")):
        if not (known.kind == kind).any():
            raise ValueError(f"no star of the kind {name} is among those that the evidence is to be calibrated with")
    origin = _numbers(start)
    free = np.array([name == head or (common and not name) for name in _OF_HEADS])
    variable = variability(known.nights, known.nights.ratio_of_head.sum(axis=1) < 0.0).log_ratio

    scatter = np.full(len(origin), _PRIOR_SCATTER)
    scatter[_CLASSES_OF_DISTURBED] = _PRIOR_SCATTER_OF_CLASSES

    def calibration(numbers: Array) -> Calibration:
        values = origin.copy()
        values[free] = numbers
        return _calibration(values, start)

    def cost(numbers: Array) -> float:
        prior = 0.5 * np.sum(((numbers - origin[free]) / scatter[free]) ** 2)
        return _score(known, variable, calibration(numbers)) + float(prior)

    return calibration(minimize(cost, origin[free], method="L-BFGS-B", options={"maxiter": _STEPS}).x)


def _score(sample: Known, variable: Array, calibration: Calibration) -> float:
    """Sum of what the true kinds' probabilities lack, -ln p, mean over prevalences."""
    ratio = night_log_ratio(sample.nights, calibration)
    log = log_likelihoods(sample.nights, ratio, variable, calibration)
    counts = np.array([(sample.kind == kind).sum() for kind in (SINGLE, SB1, SB2)])
    total = 0.0
    for prevalence in PREVALENCES:
        prior = np.array([(1.0 - _SB1) * (1.0 - prevalence), _SB1 * (1.0 - prevalence), prevalence])
        joint = log + np.log(prior)
        lacks = logsumexp(joint, axis=1) - joint[np.arange(len(joint)), sample.kind]
        # Every star counts as many times as there would be of its kind, and a binary at least as often as it is there.
        weight = (prior / np.maximum(counts, 1))[sample.kind]
        total += float(np.sum(weight * lacks)) * counts[SB2] / prevalence
    return total / len(PREVALENCES)


_OF_CHANCE = (*HEADS, *HEADS, "", "", "")
_OF_HEADS = ("", *_OF_CHANCE, *_OF_CHANCE, "", "", "")  # to which head each of the numbers below belongs
_CLASSES_OF_DISTURBED = slice(2 * len(_OF_CHANCE) - 2, 2 * len(_OF_CHANCE) + 1)


def _numbers(calibration: Calibration) -> Array:
    shows, disturbed = (
        [
            *(chance.middle[head] for head in HEADS),
            *(np.log(chance.scatter[head]) for head in HEADS),
            chance.snr,
            chance.cool,
            chance.hot,
        ]
        for chance in (calibration.shows, calibration.disturbed)
    )
    return np.array(
        [
            _logit(calibration.shared),
            *shows,
            *disturbed,
            *calibration.varies,
        ]
    )


def _calibration(numbers: Array, start: Calibration) -> Calibration:
    values = iter(numbers.tolist())

    def chance() -> Chance:
        middle = {head: next(values) for head in HEADS}
        scatter = {head: float(np.exp(next(values))) for head in HEADS}
        return Chance(middle, scatter, next(values), next(values), next(values))

    return replace(
        start,
        shared=float(1.0 / (1.0 + np.exp(-next(values)))),
        shows=chance(),
        disturbed=chance(),
        varies=(next(values), next(values), next(values)),
    )


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))
