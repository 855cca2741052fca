"""Light that is not the stars' of a pair: featureless light, and a further star at the primary's velocity.

Knows spectra on an arm's grid and a library's nodes; no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.vocabulary import SynthesisStream
from twinlines.pipeline.synthesis.extra import ExtrasError, require_fraction, uniform
from twinlines.pipeline.synthesis.priors import NAMED, Prior, Uniform
from twinlines.pipeline.synthesis.realstars import LightSource

_TRIES = 8  # nodes that are tried for a further star before there is none
_STRIDE = 8  # every so many pixels tell the level of the continuum
_FLOOR = 0.005  # of the continuum: less light than that has no photon noise to speak of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Dilution:
    """Featureless light: veiling, scattered light, an error of the zero level; in each spectrum its own.

    In half of the spectra both arms have the same amount of it, in the others each has its own.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    light: Prior = Uniform(-0.05, 0.6)
    """Featureless light, in units of the continuum; below 0 where too much was subtracted."""

    def __post_init__(self) -> None:
        require_fraction("dilution", self.fraction)

    def amounts(self, arm: str, serial: NDArray[np.int64], seed: int) -> Array:
        """Featureless light of both spectra of each pair in turn, in units of the continuum, (2 pair,)."""
        random = uniform(serial, SynthesisStream.DILUTION, seed, 9)
        common, own, *of_arms = np.moveaxis(random[:, 1:].reshape(-1, 2, 4), 2, 0)
        mine = np.where(own < 0.5, common, of_arms["BR".index(arm)])
        return np.where(random[:, :1] < self.fraction, self.light.quantile(mine), 0.0).ravel()


class Further(NamedTuple):
    """A further star of each pair."""

    labels: Array
    """(pair, 4) Teff (K), log g, [Fe/H], [alpha/Fe], or (pair, 1) a real star's place; where there is none, the
    primary's."""
    vsini: Array
    """(pair,) projected rotational velocity, km/s."""
    ratio: Array
    """(pair,) its light over the primary's; 0 where there is none."""


@dataclass(frozen=True)
class Unresolved:
    """A further star at the primary's velocity, in both spectra of a pair, whose labels stay what they are.

    It has temperature and gravity of a node of the library, any of them, and the primary's composition. Beside a real
    star it is another, or the same.
    """

    fraction: float = 0.0
    """Fraction of the pairs."""
    light: Prior = Uniform(0.0, 0.5)
    """Its part of its and the primary's light together, in each arm."""
    vsini: Prior = NAMED["survey_vsini"]
    """Projected rotational velocity, km/s."""

    def __post_init__(self) -> None:
        require_fraction("unresolved", self.fraction)

    def stars(self, library: LightSource, primary: Array, serial: NDArray[np.int64], seed: int) -> Further:
        """The further star of each pair.

        Parameters
        ----------
        library
            Where its spectrum comes from.
        primary
            (pair, 4 or 1) labels of the primaries.
        serial, seed
            As in :func:`twinlines.pipeline.synthesis.extra.uniform`.
        """
        random = uniform(serial, SynthesisStream.UNRESOLVED, seed, 3 + _TRIES)
        light = self.light.quantile(random[:, 1])
        if not ((light >= 0.0) & (light < 1.0)).all():
            raise ExtrasError(f"unresolved: light {light.max():g} was drawn; give a prior from 0 to below 1")
        nodes = _nodes(library)
        labels = primary.copy()
        wanted = random[:, 0] < self.fraction
        missing = wanted.copy()
        for tried in range(_TRIES):
            rows = np.flatnonzero(missing)
            if not rows.size:
                break
            candidates = labels[rows]
            candidates[:, :2] = nodes[(random[rows, 3 + tried] * len(nodes)).astype(np.int64)]
            inside = library.outside(candidates) == 0
            labels[rows[inside]] = candidates[inside]
            missing[rows[inside]] = False
        ratio = np.where(wanted & ~missing, light / (1.0 - light), 0.0)
        return Further(labels, self.vsini.quantile(random[:, 2]), ratio)


@lru_cache(maxsize=2)
def _nodes(library: LightSource) -> Array:
    """Temperatures (K) and gravities that the library has, each once, (node, 2); or real stars, (star, 1)."""
    return np.unique(library.nodes()[:, :2], axis=0)


def dilute(light: Tensor, amount: Array) -> None:
    """Add featureless light, in place.

    Parameters
    ----------
    light
        (spectrum, pixel) light without noise, any unit.
    amount
        (spectrum,) in units of the continuum: of the 90th percentile over pixels.
    """
    rows = torch.from_numpy(np.flatnonzero(amount))
    if not len(rows):
        return
    some = light[rows, ::_STRIDE]
    level = some.kthvalue(int(0.9 * some.shape[1]), dim=1, keepdim=True).values
    more = torch.from_numpy(amount.astype(np.float32))[rows, None] * level
    light[rows] = torch.maximum(light[rows] + more, _FLOOR * level)
