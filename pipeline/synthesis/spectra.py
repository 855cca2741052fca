"""States become spectra: the light of two stars together, disturbed, brought to rest, with noise, over its continuum.

Everything happens on the library's log-wavelength grid (:mod:`twinlines.pipeline.spectra.broadening`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models import noise
from twinlines.models.vocabulary import SYNTHESIS_STREAMS
from twinlines.pipeline.arms import ARM_NAMES, ARMS, Arm
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.tiles import TILE
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.beyond_table1 import FIELD, OBSERVED, Extras
from twinlines.pipeline.synthesis.disturbances import Disturbances
from twinlines.pipeline.synthesis.instrument import spoil
from twinlines.pipeline.synthesis.light import Stars as Stars
from twinlines.pipeline.synthesis.light import component as component
from twinlines.pipeline.synthesis.population import Population
from twinlines.pipeline.synthesis.realstars import LightSource

NUMERICS = 6
"""Numerical version: raised with every change that changes a synthesised value."""

FLUX_STEP = 2.0**-12
"""Step in which flux over continuum is stored: its rounding, 7e-5 rms, is 0.7 % of the noise at S/N 100, and halves
the store."""

_BATCH = TILE // 2  # pairs synthesised together: their spectra are one tile of the continuum's, and fit the cache


def add_noise(flux: Tensor, snr: Tensor, keys: NDArray[np.int64], arm: Arm, seed: int) -> tuple[Tensor, Tensor]:
    """Add photon-like Gaussian noise so that the median over pixels of flux / sigma is ``snr``.

    sigma_i = sqrt(flux_i median(flux)) / snr: the noise of photons at the level that gives the asked S/N. A survey
    spectrum's header S/N is 0.92 to 0.97 of that median. The draws depend on (seed, keys, arm) alone.

    Parameters
    ----------
    flux : Tensor, shape (spectrum, pixel)
        Positive flux without noise.
    snr : Tensor, shape (spectrum,)
        Signal-to-noise ratio per pixel.
    keys : array, shape (spectrum, 2)
        Serial number of the draw, and kind of spectrum.

    Returns
    -------
    noisy, sigma : Tensor, shape (spectrum, pixel)
        The noisy flux, and the standard deviation of its noise.
    """
    normal = noise.normal(keys, SYNTHESIS_STREAMS[arm.name], seed, n_draws=1, n_pixels=flux.shape[1])[:, 0]
    return observing.expose(flux, snr, torch.from_numpy(normal))


class PairSpectra(NamedTuple):
    """Both spectra of some pairs in one arm."""

    flux: NDArray[np.float32]
    """Noisy flux over continuum in steps of :data:`FLUX_STEP`, shape (pair, 2, pixel); kind 0 is the single star."""
    flux_ratio: NDArray[np.float32]
    """Mean flux of the second star over the first's, before emission and noise, shape (pair,); NaN without a second."""
    n_defects: NDArray[np.int16]
    """Pixels with added defects, shape (pair, 2)."""
    frame: NDArray[np.float32]
    """Measured velocity at which each spectrum is at rest, km/s, shape (pair, 2); NaN: as drawn."""


FRAMES = ("measured", "drawn")
"""Where spectra are at rest: at the velocity that our own cross-correlation measures on each, as in a survey, with the
noise of the detector's pixels; or where Table 1 has the primary, at its drawn velocity's remainder."""


@dataclass(frozen=True)
class Scene:
    """What decides the spectra of resolved draws, beside the draws."""

    seed: int = 0
    """Seed of the noise and of the extras."""
    population: int = 0
    """Number of the population: draws of different populations with one serial number have noise of their own."""
    extras: Extras = Extras()
    """What Table 1 lacks."""
    frame: str = "drawn"
    """Where spectra are at rest, one of :data:`FRAMES`."""

    @property
    def measured(self) -> bool:
        """Whether spectra are brought to rest by measured velocities: field and real stars are in either frame."""
        return self.frame == "measured" or self.population in (FIELD, OBSERVED)

    def serial(self, population: Population) -> NDArray[np.int64]:
        """A number for each draw that no draw of another population has, shape (draw,)."""
        return population.draws.number + (np.int64(self.population) << np.int64(48))


def pair_spectra(arm: Arm, source: LightSource, population: Population, scene: Scene = Scene()) -> PairSpectra:
    """Noisy, continuum-normalised spectra of the primaries alone and of both stars together.

    Equation 4 of Zhang et al. (2022): F_binary = F_1 R_1^2 + F_2 R_2^2, each degraded to the drawn S/N, then the same
    continuum function as for observed spectra. Without a second star both spectra are the first's, with different
    noise. In a measured frame spectra are taken as a survey takes them: the velocity is measured on each, which is then
    made at rest there, with the same disturbances and the same noise.
    """
    rows = len(population.draws.number)
    keys = np.stack([np.repeat(scene.serial(population), 2), np.tile(np.arange(2), rows)], axis=1)
    snr = torch.from_numpy(np.repeat(population.draws.snr_of(arm.name), 2).astype(np.float32))
    primaries = population.labels(1)
    drawn = Disturbances.draw(arm, source, scene.extras, primaries, scene.serial(population), scene.seed)
    light = _light(arm, source, population, drawn)
    frame = np.full(2 * rows, np.nan)
    if scene.measured:
        native = observing.detector_noise(arm, keys, scene.seed)
        noisy, sigma = observing.expose(light.spectra, snr, observing.on_grid(arm, native, np.zeros(2 * rows)))
        normalised, continuum = _normalise(arm, noisy)
        frame = observing.measure(arm, normalised, sigma / continuum)
        # Without a velocity a survey has no spectrum at rest; here it stays where it was drawn, close to rest.
        moving = np.nan_to_num(frame)
        at_rest = _light(arm, source, population, drawn, moving.reshape(rows, 2))
        noisy, sigma = observing.expose(at_rest.spectra, snr, observing.on_grid(arm, native, moving))
    else:
        noisy, sigma = add_noise(light.spectra, snr, keys, arm, scene.seed)
    changed = spoil(arm, scene.extras.defects, noisy.numpy(), sigma.numpy(), keys, scene.seed)
    normalised, _ = _normalise(arm, noisy)
    stored = (normalised * (1.0 / FLUX_STEP)).round_().mul_(FLUX_STEP).to(torch.float32)
    return PairSpectra(
        flux=stored.reshape(rows, 2, arm.n_pixels).numpy(),
        flux_ratio=light.ratio.astype(np.float32),
        n_defects=changed.reshape(rows, 2),
        frame=frame.reshape(rows, 2).astype(np.float32),
    )


class _Light(NamedTuple):
    """Light of pairs without noise."""

    spectra: Tensor
    """(2 pair, pixel), of the first star alone and of both in turn."""
    ratio: NDArray[np.float32]
    """(pair,) mean flux of the second star over the first's, before emission; NaN without a second."""


def _light(
    arm: Arm, source: LightSource, population: Population, drawn: Disturbances, frame: NDArray[np.float64] | None = None
) -> _Light:
    """Light of both kinds of spectra; each kind seen from a frame of its own, (pair, 2) km/s, if there is one."""
    rows = len(population.draws.number)
    primary, secondary = stars_of(population, arm.name)
    two = population.double
    frames = np.zeros((rows, 1)) if frame is None else frame
    views = [primary.seen_from(one) for one in frames.T]
    stars = [*views, secondary.seen_from(frames[:, -1]).take(two)]
    if drawn.further is not None:
        stars += [Stars(drawn.further.labels, np.ones(rows), drawn.further.vsini, view.velocity) for view in views]
    broadening = None
    if drawn.broadening is not None:
        of_views = [drawn.broadening] * len(views)
        broadening = np.concatenate([*of_views, drawn.broadening[two], *(of_views if drawn.further else [])])
    together = reduce(Stars.join, stars)
    if frame is None:
        light = component(arm, source, together, broadening=broadening)
    else:
        # The whole grid, however far the frame: the transform's length, and so the last bits, must not depend on it.
        light = component(arm, source, together, whole=True, broadening=broadening)[:, arm.on_library].contiguous()
    parts = torch.split(light, [len(one.radius) for one in stars])
    first, second, further = parts[: len(views)], parts[len(views)], parts[len(views) + 1 :]
    if not two.all():
        second = torch.zeros_like(first[-1]).index_put_((torch.from_numpy(two),), second)
    ratio = np.where(two, (second.mean(dim=1) / first[-1].mean(dim=1)).numpy(), np.nan)
    for place, (view, flux) in enumerate(zip(views, first, strict=True)):
        level = flux.mean(dim=1)
        drawn.change_primaries(flux, view.velocity)
        if drawn.further is not None:
            share = torch.from_numpy(drawn.further.ratio).to(level.dtype) * level / further[place].mean(dim=1)
            flux.addcmul_(further[place], share[:, None])
    spectra = torch.stack([first[0], first[-1] + second], dim=1).flatten(0, 1)
    seen = np.stack([views[0].velocity, views[-1].velocity], axis=1).ravel()
    drawn.change_spectra(spectra, seen, np.broadcast_to(frames, (rows, 2)).ravel())
    return _Light(spectra, ratio)


def _normalise(arm: Arm, noisy: Tensor) -> tuple[Tensor, Tensor]:
    """Flux over continuum, and the continuum."""
    return normalise(torch.from_numpy(arm.wavelength), noisy.double().clamp_min(0.0))


def stars_of(population: Population, arm: str = "B") -> tuple[Stars, Stars]:
    """Components of each pair: the primary moves at v1, the secondary at v1 + separation.

    Radii are such that their squares weigh the light in an arm; the arm matters to real stars alone.
    """
    draws, (radius1, radius2) = population.draws, population.radii(arm)
    primary = Stars(population.labels(1), radius1, draws.vsini1, draws.velocity1)
    return primary, Stars(population.labels(2), radius2, draws.vsini2, draws.velocity1 + draws.separation)


def pairs(source: LightSource, population: Population, scene: Scene = Scene()) -> dict[str, NDArray[np.generic]]:
    """Synthesise kept draws of one population, both arms of a pair from one theta.

    Returns
    -------
    dict
        Columns of :data:`twinlines.pipeline.schema.PAIRS` but for ``split``, which is not the draws' to say.

    Raises
    ------
    ValueError
        If a spectrum has no continuum; names the draw.
    """
    draws, rows = population.draws, len(population.draws.number)
    codes = np.full(rows, scene.population, dtype=np.int8)
    with np.errstate(invalid="ignore"):
        luminosity_ratio = population.secondary.luminosity * population.dilution / population.primary.luminosity
    columns: dict[str, NDArray[np.generic]] = {
        "draw": draws.number,
        "population": codes,
        "label": scene.extras.labels(codes),
        "mass_ratio": population.mass2 / draws.mass1,
        "luminosity_ratio": luminosity_ratio,
        "dilution": population.dilution,
        "separation": np.where(population.double, draws.separation, np.nan),
        **{f"snr_{name}": draws.snr_of(name) for name in ARM_NAMES},
        "emission": scene.extras.emission(scene.serial(population), scene.seed),
        "disturbed": scene.extras.disturbed(scene.serial(population), scene.seed),
        **_star_columns(population),
    }
    for name in ARM_NAMES:
        made = _synthesise(ARMS[name], source, population, scene)
        if not np.isfinite(made.flux).all():
            lost = int(draws.number[~np.isfinite(made.flux).all(axis=(1, 2))][0])
            raise ValueError(f"draw {lost} has no continuum in arm {name}; narrow the priors so that it is not drawn")
        columns |= {f"{field}_{name}": values for field, values in made._asdict().items()}
    return columns


def _synthesise(arm: Arm, source: LightSource, population: Population, scene: Scene) -> PairSpectra:
    """:func:`pair_spectra` of any number of pairs, batch by batch; a pair's spectra do not depend on the others."""
    rows = len(population.draws.number)
    whole = PairSpectra(
        flux=np.empty((rows, 2, arm.n_pixels), dtype=np.float32),
        flux_ratio=np.empty(rows, dtype=np.float32),
        n_defects=np.empty((rows, 2), dtype=np.int16),
        frame=np.empty((rows, 2), dtype=np.float32),
    )
    for start in range(0, rows, _BATCH):
        part = slice(start, min(start + _BATCH, rows))
        # Every batch is full, the last by repetition: kernels choose their order of summation by the shape.
        full = np.minimum(np.arange(start, start + _BATCH), rows - 1)
        made = pair_spectra(arm, source, population.take(full), scene)
        new = slice(0, part.stop - start)
        whole.flux[part], whole.flux_ratio[part] = made.flux[new], made.flux_ratio[new]
        whole.n_defects[part], whole.frame[part] = made.n_defects[new], made.frame[new]
    return whole


def _star_columns(population: Population) -> dict[str, NDArray[np.generic]]:
    draws = population.draws
    always = np.ones(len(draws.number), dtype=bool)
    first = population.primary, always, draws.feh, draws.alpha, draws.mass1, draws.eep1
    second = (
        *(population.secondary, population.double),
        *(population.feh2, population.alpha2, population.mass2, population.eep2),
    )
    columns: dict[str, NDArray[np.generic]] = {}
    for suffix, star, known in zip("12", stars_of(population), (first, second), strict=True):
        state, exists, feh, alpha, mass, eep = known
        columns |= {
            f"teff{suffix}": state.teff,
            f"logg{suffix}": state.logg,
            f"feh{suffix}": feh,
            f"alpha{suffix}": alpha,
            f"log_age{suffix}": np.log10(state.age),
            f"radius{suffix}": state.radius,
            f"luminosity{suffix}": state.luminosity,
            f"mass{suffix}": mass,
            f"eep{suffix}": eep,
            f"vsini{suffix}": np.where(exists, star.vsini, np.nan),
            f"velocity{suffix}": np.where(exists, star.velocity, np.nan),
        }
    return columns
