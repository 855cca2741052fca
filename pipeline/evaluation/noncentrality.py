"""How far binaries are from the best single star, and how far noise takes a single star towards binaries.

Pure functions of a library and of stored pairs' parameters; :mod:`twinlines.pipeline.evaluation.limit` makes an
information limit of them. No spectrum of the store is read, and none is noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.beyond_table1 import FIELD
from twinlines.pipeline.synthesis.fitting import Observation, continuum_basis, fit_star, star_terms
from twinlines.pipeline.synthesis.starlight import PARAMETERS, VELOCITY, VSINI, Starlight, starlight

ARM_SETS: Mapping[str, tuple[ArmName, ...]] = {"B": ("B",), "R": ("R",), "J": ARM_NAMES}
"""What is judged: the blue arm, the red arm, or both jointly."""

_BATCH = 32  # binaries fitted together
_STRIDE = 2  # light without noise is determined by every second pixel
_FAINTEST = 0.3  # standard deviations; a companion that adds less is never the best explanation of noise


@dataclass(frozen=True)
class Binaries:
    """Parameters of binaries; the first axis of every array is theirs."""

    serial: NDArray[np.int64]
    """A number that no other pair of the store has."""
    first: Tensor
    """The primaries' parameters, in the order of :data:`.starlight.PARAMETERS`; (pair, parameter) float64."""
    second: Tensor
    """The secondaries'."""
    area: Tensor
    """Weight of the secondary's surface flux over the primary's: their radii's ratio squared, diluted; float32."""
    snr: Mapping[ArmName, Tensor]
    """Signal-to-noise ratio per pixel, by arm, float32."""
    on_detector: Tensor
    """Whether noise was made on the detector's pixels, and interpolated; bool."""

    def take(self, rows: Tensor) -> Binaries:
        """The binaries at ``rows``."""
        snr = {name: values[rows] for name, values in self.snr.items()}
        parts = self.first[rows], self.second[rows], self.area[rows]
        return Binaries(self.serial[rows.numpy()], *parts, snr, self.on_detector[rows])


def read_binaries(pairs: str | Path, rows: NDArray[np.int64]) -> Binaries:
    """Parameters of stored pairs.

    Parameters
    ----------
    pairs
        Training store, of :data:`twinlines.pipeline.schema.PAIRS`.
    rows
        Rows of the store that hold binaries.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    stars = [f"{name}{star}" for star in "12" for name in (*PARAMETERS, "radius")]
    of_arms = [f"{name}_{arm}" for name in ("snr", "frame") for arm in ARM_NAMES]
    names = [*stars, *of_arms, "dilution", "draw", "population"]
    columns = {name: values[rows] for name, values in stores.read_columns(pairs, names).items()}

    def of(star: str) -> Tensor:
        return torch.from_numpy(np.stack([columns[f"{name}{star}"] for name in PARAMETERS], axis=1).astype(np.float64))

    population = columns["population"]
    measured = np.isfinite(columns["frame_B"]).any(axis=1) | np.isfinite(columns["frame_R"]).any(axis=1)
    area = (columns["radius2"] / columns["radius1"]) ** 2 * columns["dilution"]
    return Binaries(
        serial=columns["draw"] + (population.astype(np.int64) << np.int64(48)),
        first=of("1"),
        second=of("2"),
        area=torch.from_numpy(area.astype(np.float32)),
        snr={arm: torch.from_numpy(columns[f"snr_{arm}"].astype(np.float32)) for arm in ARM_NAMES},
        on_detector=torch.from_numpy((population == FIELD) | measured),
    )


def lights_of(library: Library) -> dict[ArmName, Starlight]:
    """The light of a library's stars in both arms, as fits of light without noise need it."""
    return {name: starlight(library, name, _STRIDE) for name in ARM_NAMES}


@dataclass(frozen=True)
class Noncentrality:
    """Distances of binaries from single stars: chi2 of the light without noise, by arm set; (pair, arm set) float64."""

    fitted: NDArray[np.float64]
    """From the best star of the library: labels, rotation, velocity and continuum fitted."""
    known: NDArray[np.float64]
    """From the primary as it is: only the continuum fitted. Never less."""


def noncentrality(lights: Mapping[ArmName, Starlight], binaries: Binaries) -> Noncentrality:
    """Fit single stars to the light of binaries without noise.

    Parameters
    ----------
    lights
        From :func:`lights_of`.
    binaries
        The binaries.
    """
    batches = torch.split(torch.arange(len(binaries.serial)), _BATCH)
    parts = [_of_batch(lights, binaries.take(rows)) for rows in batches]
    return Noncentrality(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("fitted", "known")))


def _of_batch(lights: Mapping[ArmName, Starlight], binaries: Binaries) -> Noncentrality:
    observed, share = _observe(lights, binaries)
    starts = _starts(binaries, share)
    everyone = torch.arange(len(starts))
    fitted, known = {}, {}
    for name in ("J", "B", "R"):
        seen = {arm: observed[arm] for arm in ARM_SETS[name]}
        fit = fit_star(lights, seen, starts, trial_steps=5, finalists=3)
        known[name] = star_terms(lights, seen, starts[:, 0], everyone).chi2
        fitted[name] = torch.minimum(fit.chi2, known[name])
        if name == "J":  # each arm alone begins where both are, too
            starts = torch.cat([starts, fit.parameters[:, None]], dim=1)
    return Noncentrality(*(torch.stack([chi2[name] for name in ARM_SETS], 1).numpy() for chi2 in (fitted, known)))


def _observe(lights: Mapping[ArmName, Starlight], binaries: Binaries) -> tuple[dict[ArmName, Observation], Tensor]:
    """Light of both stars without noise, with the weights of its noise; and the secondary's share of it, (pair,)."""
    observed, shares = {}, []
    for name, light in lights.items():
        first = light.flux(binaries.first)
        second = light.flux(binaries.second).mul_(binaries.area[:, None])
        flux = first + second
        shares.append(second.sum(dim=1) / flux.sum(dim=1))
        observed[name] = Observation(flux, _weight(light, flux, binaries.snr[name], binaries.on_detector))
    return observed, torch.stack(shares).mean(dim=0).double()


def _weight(light: Starlight, flux: Tensor, snr: Tensor, on_detector: Tensor) -> Tensor:
    """One over the noise that the training set adds (:func:`.spectra.add_noise`), for as many pixels as are fitted."""
    level = flux.median(dim=1, keepdim=True).values
    coarse = torch.from_numpy(observing.coarseness(light.arm)[light.pixels].astype(np.float32))
    stretch = torch.where(on_detector[:, None], coarse, 1.0)
    return snr[:, None] * torch.sqrt(light.stride / (flux * level * stretch))


def _starts(binaries: Binaries, share: Tensor) -> Tensor:
    """Single stars that may explain a binary, (pair, start, parameter): the primary first."""
    share = share[:, None]
    mean = (1.0 - share) * binaries.first + share * binaries.second
    apart = (binaries.first - binaries.second)[:, VELOCITY].abs()
    blend = mean.clone()
    # The variance of two lines is their own, and that of their places; a rotation profile's is about vsini^2 / 4.
    blend[:, VSINI] = (mean[:, VSINI] ** 2 + 4.0 * (share * (1.0 - share))[:, 0] * apart**2).sqrt()
    return torch.stack([binaries.first, mean, blend, binaries.second], dim=1)


def noise_maxima(
    lights: Mapping[ArmName, Starlight],
    star: Binaries,
    companions: Binaries,
    realisations: int,
    seed: int,
) -> NDArray[np.float32]:
    """How much better noise on a single star makes a binary than the best single star.

    For each companion, what it adds to the star's light is rid of what changes of the star's own parameters and of the
    continuum can imitate. Noise projects on such directions as correlated normal numbers; the largest decrease of chi2
    over all companions, of any brightness up to the companion's own, is the statistic of a likelihood-ratio test.

    Parameters
    ----------
    lights
        From :func:`lights_of`.
    star
        One binary, whose primary is the single star.
    companions
        Binaries whose secondaries are tried as companions of the star: at the same velocity relative to it, with the
        same area relative to it and, unless they have another than their own primary, with its composition.
    realisations
        Realisations of the noise.
    seed
        Seed of the noise, which depends on it and the star's serial number.

    Returns
    -------
    NDArray, shape (arm set, realisation) float32
        Square root of the decrease of chi2, in the order of :data:`ARM_SETS`; 0 where no companion is better.
    """
    second = companions.second.clone()
    related = (companions.second[:, 2:4] == companions.first[:, 2:4]).all(dim=1)
    second[related, 2:4] = star.first[0, 2:4]
    second[:, VELOCITY] += star.first[0, VELOCITY] - companions.first[:, VELOCITY]
    added, tangents = {}, {}
    for name, light in lights.items():
        alone = light.light(star.first)
        weight = _weight(light, alone.flux, star.snr[name], star.on_detector)
        inside = torch.maximum(torch.minimum(second, light.upper), light.lower)
        added[name] = light.flux(inside) * companions.area[:, None] * weight
        continuum = continuum_basis(alone.flux.shape[1]) * (alone.flux * weight)
        tangents[name] = continuum, alone.slopes[0] * weight
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, int(star.serial[0])], np.uint64)))
    normal = torch.from_numpy(generator.standard_normal((len(second), realisations), dtype=np.float32))
    return torch.stack([_maxima(added, tangents, arms, normal) for arms in ARM_SETS.values()]).numpy()


def _maxima(
    added: Mapping[ArmName, Tensor],
    tangents: Mapping[ArmName, tuple[Tensor, Tensor]],
    arms: tuple[ArmName, ...],
    normal: Tensor,
) -> Tensor:
    """The statistic of :func:`noise_maxima` for some arms together, (realisation,)."""
    rows = [torch.cat([tangents[name][1] for name in arms], dim=1)]
    for name in arms:
        free = tangents[name][0]
        rows.append(
            torch.cat([free if arm == name else torch.zeros(len(free), *added[arm].shape[1:]) for arm in arms], 1)
        )
    basis = torch.cat(rows).double()
    basis = basis / basis.norm(dim=1, keepdim=True).clamp_min(1e-30)
    _, singular, directions = torch.linalg.svd(basis, full_matrices=False)
    directions = directions[singular > 1e-7 * singular[0]].float()
    signal = torch.cat([added[name] for name in arms], dim=1)
    for _ in range(2):  # once more for what rounding left
        signal = signal - (signal @ directions.T) @ directions
    size = signal.norm(dim=1)
    bright = size > _FAINTEST
    if not bool(bright.any()):
        return torch.zeros(normal.shape[1])
    size, signal = size[bright], signal[bright] / size[bright, None]
    values, vectors = torch.linalg.eigh((signal @ signal.T).double())
    largest = values > 1e-5
    along = (vectors[:, largest] * values[largest].sqrt()).float() @ normal[: int(largest.sum())]
    # The best brightness is what noise asks for, but no more than the companion's, and not negative.
    taken = along.clamp_min(0.0).minimum(size[:, None])
    decrease: Tensor = (taken * (2.0 * along - taken)).amax(dim=0)
    return decrease.clamp_min(0.0).sqrt()
