"""Twin binaries: how the probability of two equal stars grows with their velocity separation (Zhang et al. 2022, 3.5).

And double lines or displacement: what networks make of a single star off rest, and of twins about their mean. Table 1
puts every primary at rest within 5 km/s, so that displacement alone betrays a binary of like stars; a survey's velocity
is measured, and of blended twins it is their mean. A network that has learnt double lines gives the former a low
probability and the latter a high one. Both arms are judged at once, shifted alike, so that there is a curve for each
head.

Pure functions of an ensemble, a library and a star; :mod:`twinlines.pipeline.evaluation.evaluation` runs them over a
Dask client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from twinlines.models.ensemble import Ensemble
from twinlines.models.evaluation import judge
from twinlines.pipeline.arms import ARM_NAMES, ARMS, Arm, ArmName
from twinlines.pipeline.library.library import Library, OutsideLibraryError
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.tiles import tiles
from twinlines.pipeline.synthesis.spectra import Stars, add_noise, component

RATIOS = (5.0, 10.0, 20.0, 40.0, 80.0)
"""Signal-to-noise ratios per pixel (section 3.5)."""

SEPARATIONS = tuple(float(step) for step in range(0, 201, 10))
"""Velocity separations, km/s (section 3.5)."""

ROTATIONS = (5.0, 50.0, 100.0)
"""vsini of both stars, km/s: the paper's 5, and faster."""

PERCENTILES = (16.0, 50.0, 84.0)
"""Percentiles of the probability over noisy spectra; the paper draws the first and the last."""

DISPLACED = (0.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0)
"""Velocities of single stars off rest, km/s."""

CENTRED = (0.0, 60.0, 100.0, 140.0, 200.0)
"""Separations of twins whose mean is at rest, km/s."""

FRAME_RATIO, FRAME_VSINI = 40.0, 5.0
"""S/N and vsini (km/s) of both."""

_POINT = np.int64(1) << np.int64(20)  # serial numbers of noise for one point of the grid: its spectra are fewer


@dataclass(frozen=True)
class Twin:
    """A binary of two equal stars of solar composition."""

    name: str
    """What it is."""
    teff: float
    """Effective temperature, K."""
    logg: float
    """log10 of surface gravity, cm s-2."""

    @property
    def labels(self) -> tuple[float, float, float, float]:
        """Library labels: Teff, logg, [Fe/H], [alpha/Fe]."""
        return self.teff, self.logg, 0.0, 0.0

    def outside(self, library: Library) -> str | None:
        """Why the library has no spectrum of it, or None where it has."""
        try:
            library.interpolate([self.labels])
        except OutsideLibraryError as error:
            return str(error)
        return None


TWINS = (
    Twin("A dwarf", 9000.0, 4.5),
    Twin("F dwarf", 7000.0, 4.5),
    Twin("G dwarf", 6000.0, 4.5),
    Twin("K dwarf", 4500.0, 4.8),
    Twin("K giant", 4500.0, 1.5),
    Twin("M dwarf", 3500.0, 4.8),
)
"""The six stars of section 3.5."""


def probabilities(
    ensemble: Ensemble, library: Library, twin: Twin, vsini: float, count: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Percentiles of the members' mean probability (equation 8) over noisy spectra, on the grid of section 3.5.

    One star rests, the other moves at the separation, in both arms; noise and continuum are those of the training set,
    and both arms have one S/N.

    Parameters
    ----------
    ensemble, library
        What judges, and where spectra come from.
    twin
        The two equal stars, one of :data:`TWINS`, whose place there decides the noise.
    vsini
        Projected rotational velocity of both, km/s.
    count
        Noisy spectra of each arm at each point; 2000 in the paper.
    seed
        Seed of the noise. More spectra at a point begin with those of fewer.

    Returns
    -------
    dict
        By head, (penalty, separation, S/N, percentile) float32, in the order of the ensemble's penalties,
        :data:`SEPARATIONS`, :data:`RATIOS` and :data:`PERCENTILES`.

    Raises
    ------
    OutsideLibraryError
        If the library has no such star.
    """
    light = {}
    for name in ARM_NAMES:
        stars = _light(ARMS[name], library, twin, vsini, np.array([0.0, *SEPARATIONS]))
        light[name] = (stars[:1] + stars[1:]).repeat_interleave(len(RATIOS), 0)
    snr = torch.tensor(RATIOS).repeat(len(SEPARATIONS))
    made = _judged(ensemble, light, snr, 1000 * TWINS.index(twin) + int(vsini), count, seed)
    shape = len(ensemble.penalties), len(SEPARATIONS), len(RATIOS), len(PERCENTILES)
    return {
        head: np.moveaxis(np.percentile(values, PERCENTILES, axis=2), 0, 2).reshape(shape).astype(np.float32)
        for head, values in made.items()
    }


def displacement(
    ensemble: Ensemble, library: Library, twin: Twin, count: int, seed: int
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Median probabilities of a single star off rest, and of two such stars about their mean.

    Parameters
    ----------
    ensemble, library, twin, count, seed
        As of :func:`probabilities`.

    Returns
    -------
    dict
        By head, the medians over noisy spectra at :data:`DISPLACED` and at :data:`CENTRED`, (penalty, velocity) each.

    Raises
    ------
    OutsideLibraryError
        If the library has no such star.
    """
    apart = np.array(CENTRED)
    velocity = np.concatenate([DISPLACED, -apart / 2.0, apart / 2.0])
    light = {}
    for name in ARM_NAMES:
        stars = _light(ARMS[name], library, twin, FRAME_VSINI, velocity)
        left, right = stars[len(DISPLACED) :].view(2, len(CENTRED), -1)
        light[name] = torch.cat([stars[: len(DISPLACED)], left + right])
    snr = torch.full((len(DISPLACED) + len(CENTRED),), FRAME_RATIO)
    serial = 1000 * TWINS.index(twin) + 999  # no vsini of a twin binary
    made = _judged(ensemble, light, snr, serial, count, seed)
    median = {head: np.median(values, axis=2).astype(np.float32) for head, values in made.items()}
    return {head: (values[:, : len(DISPLACED)], values[:, len(DISPLACED) :]) for head, values in median.items()}


def _judged(
    ensemble: Ensemble, light: Mapping[ArmName, Tensor], snr: Tensor, serial: int, count: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Members' mean probability of ``count`` noisy spectra of each light, by head, (penalty, light, spectrum)."""
    points = len(snr)
    made: dict[str, list[NDArray[np.float32]]] = {}
    for tile in tiles(points * count):
        number = np.arange(tile.start, tile.stop)
        point = number // count
        keys = np.stack([np.full_like(point, serial), (point + 1) * _POINT + number % count], axis=1)
        place = torch.from_numpy(point)
        flux: dict[str, NDArray[np.float32]] = {
            name: _observed(ARMS[name], light[name][place], snr[place], keys, seed) for name in ARM_NAMES
        }
        for head, logits in judge(ensemble, flux).items():
            made.setdefault(head, []).append(expit(logits).mean(axis=0))
    return {head: np.concatenate(parts).T.reshape(-1, points, count) for head, parts in made.items()}


def _observed(arm: Arm, light: Tensor, snr: Tensor, keys: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Noisy flux over continuum, (spectrum, pixel)."""
    noisy, _ = add_noise(light, snr, keys, arm, seed)
    normalised, _ = normalise(torch.from_numpy(arm.wavelength), noisy.double().clamp_min_(0.0))
    return normalised.float().numpy()


def _light(arm: Arm, library: Library, twin: Twin, vsini: float, velocity: NDArray[np.float64]) -> Tensor:
    """Light of the star at each velocity, (velocity, pixel)."""
    stars = len(velocity)
    alone = Stars(np.tile(twin.labels, (stars, 1)), np.ones(stars), np.full(stars, vsini), velocity)
    return component(arm, library, alone)
