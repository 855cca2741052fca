"""Made-up catalogs of velocities: stars, binaries and zero points that are known, and a table of references. Seeded.

Where :mod:`twinlines.pipeline.mock` makes files, whose velocities must be measured first, this makes catalogs directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy import units as u
from astropy.table import QTable, Table
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VelocityConfig:
    """What a made-up catalog of velocities holds."""

    plates: int = 6
    """Fields, each with stars of its own, which one spectrograph observes."""
    stars: int = 30
    """Stars of a field."""
    exposures: int = 4
    """Exposures of a field."""
    binaries: float = 0.0
    """Fraction of stars whose velocity changes from exposure to exposure, by 40 km/s (standard deviation), and differs
    from the reference as much."""
    zero_points: float = 2.0
    """Standard deviation of zero points, km/s; those of the red arm are 3 km/s higher."""
    excess: float = 0.5
    """Scatter of velocities besides their stated errors, km/s; these are 0.5 to 1.5."""


@dataclass(frozen=True)
class MadeVelocities:
    """A made-up catalog, and the truth."""

    catalog: xr.Dataset
    """Rows of :data:`twinlines.pipeline.schema.CATALOG`, exposure by exposure of field by field."""
    references: Table
    """A row per star, with Gaia's names and units: ``source_id``, ``ra``, ``dec``, ``radial_velocity``,
    ``radial_velocity_error``; and ``obsid``."""
    zero_points: Array
    """True zero points of units, by rising time, shape (unit, arm), km/s."""
    velocity: Array
    """True velocity of each row's star at the time, shape (row,), km/s."""
    binary: NDArray[np.bool_]
    """Whether each row's star is a binary, shape (row,)."""


def make_velocities(seed: int, config: VelocityConfig | None = None) -> MadeVelocities:
    """Make a catalog of exposures whose zero points are known; the same for the same seed and configuration."""
    config = config or VelocityConfig()
    rng = np.random.default_rng(seed)
    stars, units = config.plates * config.stars, config.plates * config.exposures
    plate = np.repeat(np.arange(config.plates), config.stars)
    # No two stars nearer than some arcminutes.
    ra = np.round(10.0 + 10.0 * plate + 0.05 * (np.arange(stars) % config.stars), 6)
    dec = np.round(20.0 + rng.uniform(-1.0, 1.0, stars), 6)
    mean, binary = rng.normal(0.0, 30.0, stars), rng.random(stars) < config.binaries
    zero = rng.normal((0.0, 3.0), config.zero_points, (units, len(ARM_NAMES)))
    unit = np.repeat(np.arange(units), config.stars)
    star = (plate[unit // config.exposures * config.stars] * config.stars) + np.tile(np.arange(config.stars), units)
    orbit = np.where(binary[star], rng.normal(0.0, 40.0, len(star)), 0.0)
    velocity = mean[star] + orbit
    columns: dict[str, NDArray[Any]] = {
        "obsid": 700_000_000 + star,
        "lmjm": 84_000_000 + 30 * unit,
        "spid": 1 + unit // config.exposures % 16,
        "fiberid": 1 + star % config.stars,
        "ra": ra[star],
        "dec": dec[star],
        "planid": np.full(len(star), "TD", dtype=object),
        "release": np.full(len(star), "dr", dtype=object),
        "content_hash": np.arange(len(star), dtype=np.uint64),
    }
    for at, arm in enumerate(ARM_NAMES):
        error = rng.uniform(0.5, 1.5, len(star))
        scatter = np.hypot(error, config.excess) * rng.standard_normal(len(star))
        columns |= {f"rv_obs_{arm}": velocity - zero[unit, at] + scatter, f"rv_obs_err_{arm}": error}
    error = rng.uniform(0.2, 1.5, stars)
    known = mean + error * rng.standard_normal(stars) + np.where(binary, rng.normal(0.0, 40.0, stars), 0.0)
    references = QTable(
        {
            "source_id": 3_000_000_000 + np.arange(stars),
            "obsid": 700_000_000 + np.arange(stars),
            "ra": ra * u.deg,
            "dec": dec * u.deg,
            "radial_velocity": known * u.km / u.s,
            "radial_velocity_error": error * u.km / u.s,
        }
    )
    return MadeVelocities(CATALOG.dataset(columns, len(star)), Table(references), zero, velocity, binary[star])


def write_catalog(survey: Path, name: str, catalog: xr.Dataset, *, number: int = 1, release: str = "dr") -> Path:
    """Write rows as a survey's current catalog, named ``name``; returns its folder."""
    place = Survey.at(survey)
    folder = place.catalog(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    about = {"name": name, "releases": [release], "run": "0123456789abcdef", "exposures": name, "number": number}
    stores.create(folder, CATALOG, catalog.sizes["exposure"], about)
    for column in CATALOG.variables:
        stores.write_column(folder, CATALOG, column, catalog[column].values)
    stores.seal(folder, CATALOG)
    place.make_current(name)
    return folder
