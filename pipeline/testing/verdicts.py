"""Made-up catalogs with verdicts: stars, binaries among them, and which of their exposures are judged double. Seeded.

Where :mod:`twinlines.pipeline.mock` makes files, which networks must judge, this makes catalogs directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import NDArray

from twinlines.pipeline.schema import CATALOG, CATALOG_PENALTIES, HEADS, PERCENTILES
from twinlines.pipeline.testing.velocities import VelocityConfig, make_velocities


@dataclass(frozen=True)
class MadeVerdicts:
    """A made-up catalog, and the truth."""

    catalog: xr.Dataset
    """Rows of :data:`twinlines.pipeline.schema.CATALOG`."""
    stars: Table
    """A row per star: ``star``, ``obsid``, ``ra``, ``dec`` (deg), ``period`` (d), ``epoch`` (BJD), ``binary``, and
    ``recovered``: whether an exposure is judged double. Of every seventh star no exposure is judged."""


def make_verdicts(seed: int, *, plates: int = 4, stars: int = 15, exposures: int = 4) -> MadeVerdicts:
    """Make a catalog in which exposures of binaries are double away from the eclipses, phases 0, 0.5 and 1.

    Parameters
    ----------
    seed
        Same seed, same catalog.
    plates, stars, exposures
        Fields, stars of each, and exposures of each field.
    """
    rng = np.random.default_rng(seed)
    made = make_velocities(seed, VelocityConfig(plates=plates, stars=stars, exposures=exposures))
    star = made.catalog["obsid"].values - 700_000_000
    count = plates * stars
    binary = np.arange(count) % 3 == 0
    period, epoch = 10.0 ** rng.uniform(0.0, 2.0, count), 2_458_000.0 + rng.uniform(0.0, 1.0, count)
    bjd = 2_458_400.0 + rng.uniform(0.0, 300.0, len(star))
    phase = ((bjd - epoch[star]) / period[star]) % 1.0
    double = binary[star] & (np.abs(np.sin(2.0 * np.pi * phase)) > 0.6)
    judged = star % 7 != 0
    columns: dict[str, NDArray[Any]] = {name: made.catalog[name].values for name in CATALOG.variables}
    columns |= {"bjdmid": bjd, "bprp0": np.full(len(star), np.nan)}
    for arm in ("B", "R"):
        columns[f"snr_{arm}"] = rng.uniform(12.0, 60.0, len(star))
        columns[f"npixbad_{arm}"] = np.zeros(len(star), np.int64)
        columns[f"specflag_{arm}"] = judged
    for head in HEADS:
        for penalty in CATALOG_PENALTIES:
            middle = np.where(double, 0.97, 0.02)
            spread = 0.02 * (np.asarray(PERCENTILES) - 50.0) / 50.0
            columns[f"pb_pct_{head}_{penalty}"] = np.where(judged[:, None], middle[:, None] + spread, np.nan)
    recovered = np.zeros(count, np.bool_)
    recovered[star[double & judged]] = True
    first = np.array([int(np.flatnonzero(star == number)[0]) for number in range(count)])
    table = Table(
        {
            "star": np.arange(count),
            "obsid": 700_000_000 + np.arange(count),
            "ra": columns["ra"][first],
            "dec": columns["dec"][first],
            "period": period,
            "epoch": epoch,
            "binary": binary,
            "recovered": recovered,
        }
    )
    for name, unit in {"ra": "deg", "dec": "deg", "period": "d", "epoch": "d"}.items():
        table[name].unit = unit
    return MadeVerdicts(CATALOG.dataset(columns, len(star)), table)
