"""Mock stars over several nights, as rows of exposures in memory: a survey's epochs without its files.

Plates, detectors, noise and defects are those of a mock release (:mod:`twinlines.pipeline.mock.release`). What is known
of each exposure stands in a table beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.plates import SPECTROGRAPHS, draw_plates, observe
from twinlines.pipeline.mock.spectra import Frames, detector
from twinlines.pipeline.mock.stars import Mixture, draw_stars
from twinlines.pipeline.mock.zeropoints import misplace
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.stars.tracks import Tracks


def double_and_others(sb2: float, sb1: float) -> Mixture:
    """A mixture with so many double-lined binaries of 1 to 100 days, whose lines come 50 km/s apart; a fifth giants."""
    return Mixture(sb2, sb1, 0.2, sb2_mass_ratios=(0.5, 1.0), sb2_periods=(1.0, 100.0), sb2_apart=50.0)


@dataclass(frozen=True)
class EpochsConfig:
    """What the stars are, and how they are observed."""

    mixture: Mixture = field(default_factory=lambda: double_and_others(0.1, 0.1))
    """Kinds of stars."""
    stars_per_plate: int = 40
    """Stars that are observed together."""
    nights: tuple[int, int] = (1, 5)
    """Fewest and most nights of a plate."""
    exposures: tuple[int, int] = (1, 2)
    """Fewest and most exposures of a night."""
    snr: tuple[float, float] = (10.0, 60.0)
    """Least and largest S/N of the blue arm at full transparency, log-uniform; the red arm has 1.4 to 2.1 times it."""
    cosmic_rays: float = 4.0
    """Mean number of cosmic rays in an exposure of one arm."""
    zero_points: float = 3.0
    """Standard deviation of zero points of spectrographs, exposures and arms, km/s."""
    moonlight: float = 0.01
    """Chance that in a night there is the Moon's light in a star's fibre, while the Moon is up."""


def observe_stars(stars: int, seed: int, config: EpochsConfig | None = None) -> Iterator[tuple[Table, xr.Dataset]]:
    """Observe mock stars, a plate at a time.

    Parameters
    ----------
    stars
        Number of stars.
    seed
        The same seed, number of stars and configuration give the same exposures.
    config
        What the stars are, and how they are observed.

    Yields
    ------
    truth
        A row per exposure: star, kind, time, velocities, zero points; units in the table.
    exposures
        The same rows, of :data:`twinlines.pipeline.schema.EXPOSURES`.
    """
    config = config or EpochsConfig()
    rng, library = np.random.default_rng([seed, 0]), Library.load()
    population = draw_stars(stars, rng, config.mixture, Tracks.load(), library)
    blue = np.exp(rng.uniform(np.log(config.snr[0]), np.log(config.snr[1]), stars))
    snr: dict[ArmName, NDArray[np.float64]] = {"B": blue, "R": blue * rng.uniform(1.4, 2.1, stars)}
    plates = draw_plates(stars, config.stars_per_plate, config.nights, config.exposures, 0, rng)
    detectors = {name: {spid: detector(name, spid, seed) for spid in range(1, SPECTROGRAPHS + 1)} for name in ARM_NAMES}
    for number, plate in enumerate(plates):
        stream = np.random.default_rng([seed, 2, number])
        truth, frames = observe(
            plate, population, snr, detectors, library, config.cosmic_rays, stream, moonlight=config.moonlight
        )
        if config.zero_points > 0.0:
            frames = misplace(truth, frames, config.zero_points, np.random.default_rng([seed, 3, number]))
        yield truth, _exposures(truth, frames)


def _exposures(truth: Table, frames: dict[ArmName, Frames]) -> xr.Dataset:
    rows = len(truth)
    columns = {
        name: np.asarray(truth[name]) for name in ("obsid", "lmjm", "bjdmid", "lmjd", "planid", "spid", "fiberid")
    }
    columns |= {name: np.asarray(truth[name]) for name in ("ra", "dec")}
    for column in ("snr", "flux", "ivar", "loglam", "mask"):
        columns[column] = np.stack([getattr(frames[name], column) for name in ARM_NAMES], axis=1)
    columns["content_hash"] = np.arange(1, rows + 1).astype(np.uint64)
    return EXPOSURES.dataset(columns, rows)
