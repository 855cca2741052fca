"""Which binaries are injected: pairs of real single stars, with mass ratios, velocities and S/N that are known.

The flux ratio follows the mass ratio on the main sequence; the second star is a real one of about the temperature that
it asks for. Spectra keep less than half of the S/N that their stars have, so that the noise which is added, and not the
stars' own, decides (as in training, :mod:`twinlines.pipeline.synthesis.observed`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.synthesis.observed import snr_limit
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.validation.injection.mainsequence import MainSequence
from twinlines.pipeline.validation.trust.classes import TrustError

Array = NDArray[np.float64]

SIZE = 1024
"""Draws that are made together: a longer list begins as a shorter one."""


@dataclass(frozen=True)
class InjectionConfig:
    """Distributions of what is injected."""

    mass_ratio: tuple[float, float] = (0.6, 1.0)
    """Least and largest mass ratio, uniform."""
    separation: float = 130.0
    """Standard deviation of the velocity difference, km/s, as training has it."""
    systemic: float = 30.0
    """Standard deviation of the systemic velocity, km/s."""
    snr: tuple[float, float] = (7.0, 100.0)
    """Least and largest S/N per pixel of the blue arm, uniform in its logarithm, if the stars have it."""
    red_snr: tuple[float, float] = (0.8, 2.0)
    """Least and largest S/N of the red arm over the blue's, uniform in its logarithm."""
    tolerance: float = 400.0
    """By how much the second star's temperature may differ from what the mass ratio asks for, K: templates, by which
    temperatures are told, are 250 to 500 K apart."""
    seed: int = 0
    """Seed of the draws and of the noise."""

    def __post_init__(self) -> None:
        low, high = self.mass_ratio
        if not 0.1 <= low <= high <= 1.0:
            raise TrustError(f"mass ratios from {low} to {high} are asked for; give rising ones of 0.1 to 1")
        low, high = self.snr
        if not MINIMUM_SNR < low <= high:
            raise TrustError(f"S/N from {low} to {high} is asked for; give rising ones above {MINIMUM_SNR:g}")

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Injections:
    """Binaries that are injected; arrays of shape (injection,)."""

    number: NDArray[np.int64]
    """Serial number of the draw."""
    star1: NDArray[np.int64]
    """Place of the first star among the real stars."""
    star2: NDArray[np.int64]
    """Place of the second star."""
    mass_ratio: Array
    """Mass of the second over the first's, on the main sequence."""
    ratio_blue: Array
    """Flux of the second star over the first's, blue arm."""
    ratio_red: Array
    """The same, red arm."""
    separation: Array
    """Velocity of the second star less the first's, km/s."""
    velocity: Array
    """Velocity of the first star, km/s."""
    snr_blue: Array
    """S/N per pixel, blue arm."""
    snr_red: Array
    """S/N per pixel, red arm."""

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: slice | NDArray[Any]) -> Injections:
        """Some of them."""
        return Injections(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def draw(stars: RealStars, count: int, config: InjectionConfig) -> Injections:
    """Draw so many binaries of these stars; the same for the same stars and configuration, and whatever the count.

    Raises
    ------
    TrustError
        If hardly any pair of the stars makes a binary of the mass ratios asked for.
    """
    parts: list[Injections] = []
    made, tried = 0, 0
    while made < count:
        parts.append(_draw(stars, tried // SIZE, config))
        made, tried = made + len(parts[-1]), tried + SIZE
        if tried >= 8 * SIZE and made < 0.01 * tried:
            warm = stars.teff[np.isfinite(stars.teff)]
            known = f"{warm.min():.0f} to {warm.max():.0f} K" if len(warm) else "of no known temperature"
            raise TrustError(
                f"{len(stars)} spectra of single stars ({known}) make no binaries of mass ratio "
                f"{config.mass_ratio[0]:g} to {config.mass_ratio[1]:g} on the main sequence, or their S/N is too low; "
                "give more single stars (--nulls), or larger mass ratios (--mass-ratio)"
            )
    joined = {item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Injections)}
    return Injections(**joined).take(slice(count))


def _draw(stars: RealStars, block: int, config: InjectionConfig) -> Injections:
    rng = np.random.default_rng([config.seed, block])
    sequence = MainSequence.load()
    star1 = rng.integers(0, len(stars), SIZE)
    mass_ratio = rng.uniform(*config.mass_ratio, SIZE)
    asked = sequence.companion(stars.teff[star1], mass_ratio)
    star2 = _nearby(stars.teff, asked, config.tolerance, rng.random(SIZE))
    separation = rng.normal(0.0, config.separation, SIZE)
    velocity = rng.normal(0.0, config.systemic, SIZE)
    wanted = {"B": _log_uniform(rng, config.snr)}
    wanted["R"] = wanted["B"] * _log_uniform(rng, config.red_snr)
    ratio = {arm: sequence.flux_ratio(arm, stars.teff[star1], mass_ratio) for arm in ARM_NAMES}
    good = (star2 >= 0) & np.all([np.isfinite(ratio[arm]) for arm in ARM_NAMES], axis=0)
    safe = np.maximum(star2, 0)
    snr = {
        arm: np.minimum(wanted[arm], snr_limit(stars.snr[arm], star1, safe, np.where(good, ratio[arm], 1.0)))
        for arm in ARM_NAMES
    }
    good &= np.all([snr[arm] > MINIMUM_SNR for arm in ARM_NAMES], axis=0)
    every = Injections(
        number=block * SIZE + np.arange(SIZE),
        star1=star1,
        star2=star2,
        mass_ratio=mass_ratio,
        ratio_blue=ratio["B"],
        ratio_red=ratio["R"],
        separation=separation,
        velocity=velocity - separation / (1.0 + 1.0 / mass_ratio),
        snr_blue=snr["B"],
        snr_red=snr["R"],
    )
    return every.take(np.flatnonzero(good))


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> Array:
    return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), SIZE))


def _nearby(teff: Array, asked: Array, tolerance: float, uniform: Array) -> NDArray[np.int64]:
    """One of the stars whose temperature is near what is asked for, each as likely; -1 where there is none."""
    order = np.argsort(teff, kind="stable")  # NaN last
    known = order[: int(np.isfinite(teff).sum())]
    low = np.searchsorted(teff[known], asked - tolerance, side="left")
    high = np.searchsorted(teff[known], asked + tolerance, side="right")
    place = low + np.floor(uniform * (high - low)).astype(np.int64)
    there = np.isfinite(asked) & (high > low)
    return np.where(there, known[np.minimum(place, max(len(known) - 1, 0))] if len(known) else -1, -1)
