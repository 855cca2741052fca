"""How likely the nights of a star are if it is single, a single-lined binary, or a double-lined one.

A night's ratio R (double lines to single ones) is the networks', on a calibrated scale. A double-lined binary shows
its lines in a night with a chance c, and else looks single; a star that is none looks double with a small chance d,
when its spectrum is disturbed:

    ln L(SB2)  = ln < prod over nights of (1 - c) + c R >,    ln L(not) = ln < prod over nights of (1 - d) + d R >

so that one quiet night takes no more than a factor 1 - c, and one bad spectrum gives no more than a factor 1 / d. The
brackets are means over stars: some binaries show their lines often, others never; some stars look double always, as
those that the library describes badly. ln(c / (1 - c)) and ln(d / (1 - d)) are Gaussian over stars, and linear in ln
S/N and in the class of the star. Velocities that change (V, :mod:`.variability`) enter in the same way: (1 - v) + v
V, with another v for single stars, single-lined binaries and double-lined ones. All constants are fitted to mock
surveys (:mod:`twinlines.pipeline.binaries.evidence.fitting`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.binaries.evidence.exposures import NO_HEAD, REFERENCE_SNR
from twinlines.pipeline.binaries.evidence.nights import Nights
from twinlines.pipeline.schema import HEADS

Array = NDArray[np.float64]

SINGLE, SB1, SB2 = range(3)
"""Columns of likelihoods."""

COOL_BELOW, HOT_ABOVE = 5000.0, 6500.0
"""Temperatures between which a star is of the middle class, K."""

_CLIP = 60.0  # of ln R of one night
_NODES = 9  # of the Gaussian over stars


@dataclass(frozen=True)
class Chance:
    """A chance of each night: its ln(c / (1 - c)) is linear, and Gaussian over stars."""

    middle: Mapping[str, float]
    """ln(c / (1 - c)) of a star of the middle class at S/N 20, by head."""
    scatter: Mapping[str, float]
    """Standard deviation over stars, by head."""
    snr: float
    """Change with ln S/N."""
    cool: float
    """Change for stars below :data:`COOL_BELOW`."""
    hot: float
    """Change for stars above :data:`HOT_ABOVE`."""

    def at(self, nights: Nights) -> Array:
        """ln(c / (1 - c)) of the mean star in each night, shape (night,)."""
        value = self._by_head(self.middle, nights) + self.snr * (nights.log_snr - np.log(REFERENCE_SNR))
        value += np.where(nights.teff < COOL_BELOW, self.cool, 0.0)
        return np.asarray(value + np.where(nights.teff > HOT_ABOVE, self.hot, 0.0))

    def over_stars(self, nights: Nights) -> Array:
        """Standard deviation over stars of it, shape (night,)."""
        return self._by_head(self.scatter, nights)

    @staticmethod
    def _by_head(values: Mapping[str, float], nights: Nights) -> Array:
        return np.asarray(np.array([values[head] for head in HEADS])[nights.head])


@dataclass(frozen=True)
class Calibration:
    """Constants of the model."""

    offset: Mapping[str, float]
    """Of ln R, by head."""
    slope: Mapping[str, float]
    """Of ln R against the networks' ratio, by head."""
    shared: float
    """How much the exposures of a night have in common: n of them count as n^(1 - shared) independent ones."""
    shows: Chance
    """Chance that a double-lined binary shows its lines."""
    disturbed: Chance
    """Chance that another star looks double."""
    varies: tuple[float, float, float]
    """ln(v / (1 - v)) of velocities that change: of single stars, single-lined and double-lined binaries."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What it was fitted to: the ensemble's digest, the command."""

    def to_json(self) -> dict[str, Any]:
        """As a dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """From what :meth:`to_json` made."""
        parts = {**values, "shows": Chance(**values["shows"]), "disturbed": Chance(**values["disturbed"])}
        return cls(**{**parts, "varies": tuple(values["varies"])})

    @property
    def digest(self) -> str:
        """A hash of its constants."""
        content = {name: value for name, value in self.to_json().items() if name != "about"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def shipped() -> Calibration:
    """The calibration that ships, for the ensemble that ships."""
    path = resources.files("twinlines.pipeline") / "data" / "evidence.json"
    return Calibration.from_json(json.loads(path.read_text()))


def night_log_ratio(nights: Nights, calibration: Calibration) -> Array:
    """Calibrated ln R of each night, shape (night,); 0 where nothing was judged."""
    offset, slope = (np.array([values[head] for head in HEADS]) for values in (calibration.offset, calibration.slope))
    value = nights.of_head @ offset + nights.ratio_of_head @ slope
    value *= np.maximum(nights.judged, 1) ** -calibration.shared
    return np.asarray(value.clip(-_CLIP, _CLIP))


def log_likelihoods(nights: Nights, ratio: Array, variable: Array, calibration: Calibration) -> Array:
    """Logarithm of the likelihood of each star, over that of light that tells nothing.

    Parameters
    ----------
    nights
        Nights of stars.
    ratio
        (night,) what :func:`night_log_ratio` returned.
    variable
        (star,) ln(likelihood of a velocity that changes / of a constant one).
    calibration
        Constants of the model.

    Returns
    -------
    array, shape (star, 3)
        Columns :data:`SINGLE`, :data:`SB1`, :data:`SB2`.
    """
    single = _over_stars(nights, ratio, calibration.disturbed)
    double = _over_stars(nights, ratio, calibration.shows)
    moves = [_mixed(np.float64(logit), variable) for logit in calibration.varies]
    return np.stack([single + moves[SINGLE], single + moves[SB1], double + moves[SB2]], axis=1)


def _over_stars(nights: Nights, ratio: Array, chance: Chance) -> Array:
    """Logarithm of the mean over stars of the product over nights of (1 - c) + c R, shape (star,)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    middle, scatter, judged = chance.at(nights), chance.over_stars(nights), nights.head != NO_HEAD
    total = np.full(len(nights.begin), -np.inf)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        each = np.where(judged, _mixed(middle + scatter * node, ratio), 0.0)
        total = np.logaddexp(total, np.log(weight) + nights.per_star(each))
    return total


def _mixed(logit: Array | np.float64, ratio: Array) -> Array:
    """ln((1 - c) + c R), of ln(c / (1 - c)) and ln R."""
    return np.asarray(np.logaddexp(0.0, logit + ratio) - np.logaddexp(0.0, logit))
