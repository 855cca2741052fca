"""A made-up catalog of verdicts: single stars and binaries that are known, of several classes. No spectra. Seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.schema import CATALOG, CATALOG_PENALTIES, HEADS, PERCENTILES
from twinlines.pipeline.survey.publication import healpix


@dataclass(frozen=True)
class VerdictConfig:
    """What a made-up catalog of verdicts holds."""

    singles: int = 2000
    """Single stars of few exposures."""
    binaries: int = 100
    """Binaries of few exposures."""
    repeated: int = 300
    """Single stars of many exposures on many nights: the nulls."""
    exposures: tuple[int, int] = (1, 6)
    """Fewest and most exposures of a star; the repeated ones have 12 to 24."""
    strength: float = 9.0
    """Mean log odds that an exposure which shows both stars has above a single star's."""
    showing: float = 0.6
    """Part of a binary's exposures that show it."""
    faint_nulls: float = 1.0
    """How many of the repeated stars of S/N below 20 stay as faint; the others are as bright as a star above."""


@dataclass(frozen=True)
class MadeVerdicts:
    """A made-up catalog, and the truth."""

    catalog: xr.Dataset
    """Rows of :data:`twinlines.pipeline.schema.CATALOG`."""
    binaries: NDArray[np.int64]
    """Obsids of the binaries; every star has one obsid."""
    repeated: NDArray[np.int64]
    """Obsids of the single stars of many exposures."""


def make_verdicts(seed: int, config: VerdictConfig | None = None) -> MadeVerdicts:
    """Make a catalog; the same for the same seed and configuration.

    Single stars' log odds depend on the star, its S/N and its temperature as networks' do: a faint or cool star looks
    double more easily, some stars do at every exposure, and no odds are what they say.
    """
    config = config or VerdictConfig()
    rng = np.random.default_rng(seed)
    stars = config.singles + config.binaries + config.repeated
    kind = np.repeat([0, 1, 2], [config.singles, config.binaries, config.repeated])
    low, high = config.exposures
    count = np.where(kind == 2, rng.integers(12, 25, stars), rng.integers(low, high + 1, stars))
    snr, teff = np.exp(rng.uniform(np.log(7.0), np.log(80.0), stars)), rng.choice([4500.0, 5500.0, 6500.0], stars)
    moved = (kind == 2) & (snr < 20.0) & (rng.random(stars) >= config.faint_nulls)
    snr = np.where(moved, np.exp(rng.uniform(np.log(20.0), np.log(80.0), stars)), snr)
    broad = rng.gumbel(0.0, 0.8, stars)  # what a star does at every exposure
    star = np.repeat(np.arange(stars), count)
    night = np.arange(len(star)) - np.repeat(np.cumsum(count) - count, count)
    mean = -6.0 + 2.0 * (teff[star] < 5000.0) + 8.0 / snr[star] ** 0.5 + broad[star]
    shows = (kind[star] == 1) & (rng.random(len(star)) < config.showing)
    logit = (
        mean + rng.normal(0.0, 1.0, len(star)) + np.where(shows, config.strength * rng.gamma(4.0, 0.25, len(star)), 0)
    )
    columns: dict[str, NDArray[Any]] = {
        "obsid": 700_000_000 + star,
        "lmjm": (84_000_000 + 1440 * 7 * night).astype(np.int32),
        "lmjd": (58_300 + 7 * night).astype(np.int32),
        "bjdmid": 2_458_300.0 + 7.0 * night,
        "spid": 1 + star % 16,
        "fiberid": 1 + star % 250,
        "ra": (star * 0.0731) % 360.0,
        "dec": -20.0 + (star * 0.0131) % 70.0,
        "planid": np.full(len(star), "TD", dtype=object),
        "release": np.full(len(star), "dr", dtype=object),
        "run": np.full(len(star), "0123456789abcdef", dtype=object),
        "content_hash": np.arange(len(star), dtype=np.uint64),
        "bprp0": np.full(len(star), np.nan),
    }
    wobble = np.where(kind[star] == 1, rng.normal(0.0, 30.0, len(star)), 0.0)
    for arm in ARM_NAMES:
        observed = snr[star] * rng.uniform(0.9, 1.1, len(star)) * (1.0 if arm == "B" else 1.5)
        error = 20.0 / observed
        columns |= {
            f"snr_{arm}": observed,
            f"rv_obs_{arm}": rng.normal(0.0, 40.0, stars)[star] + wobble + error * rng.standard_normal(len(star)),
            f"rv_obs_err_{arm}": error,
            f"rv_teff_{arm}": teff[star],
            f"specflag_{arm}": np.ones(len(star), bool),
            f"npixbad_{arm}": np.zeros(len(star), np.int32),
        }
    with np.errstate(over="ignore"):
        for penalty in CATALOG_PENALTIES:
            p = 1.0 / (1.0 + np.exp(-(logit - np.log(penalty / 16.0))))
            columns |= {f"pb_pct_{head}_{penalty}": np.tile(p[:, None], (1, len(PERCENTILES))) for head in HEADS}
    columns["healpix29"] = healpix(columns["ra"], columns["dec"])
    order = np.lexsort((columns["lmjm"], columns["obsid"], columns["healpix29"]))
    catalog = CATALOG.dataset({name: values[order] for name, values in columns.items()}, len(order))
    names = 700_000_000 + np.arange(stars)
    return MadeVerdicts(catalog, names[kind == 1], names[kind == 2])
