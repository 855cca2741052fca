"""Exposures of made-up binaries, as a survey stores them, for tests of fits. Same seed, same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.spectra import detector, expose
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.synthesis.light import Stars, component

PRIMARY, SECONDARY = (6050.0, 4.3, -0.1, 0.0), (5500.0, 4.5, -0.1, 0.0)
"""Teff in K, log g, [Fe/H] and [alpha/Fe] of the stars."""

RADIUS, VSINI = (1.2, 0.95), (10.0, 6.0)
"""Their radii, of the Sun's, and their projected rotational velocities, km/s."""


def mock_exposures(
    separations: Sequence[float], *, snr: float = 40.0, velocity: float = 20.0, seed: int = 1
) -> xr.Dataset:
    """Exposures of a binary, one for each separation in km/s, 0 for the primary alone.

    Parameters
    ----------
    separations
        (exposure,) velocity of the secondary less the primary's, km/s.
    snr
        Header S/N of both arms.
    velocity
        Velocity of the primary, km/s.
    seed
        Seed of the detector and of the noise.

    Returns
    -------
    xr.Dataset
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES`; obsid and lmjm count them.
    """
    library, rows = Library.load(), len(separations)
    apart = np.asarray(separations, np.float64)
    columns = {name: EXPOSURES.variables[name].empty(EXPOSURES.shape(name, rows)) for name in EXPOSURES.variables}
    columns["obsid"] = 700_000_000 + np.arange(rows)
    columns["lmjm"] = (84_000_000 + 30 * np.arange(rows)).astype(np.int32)
    columns["bjdmid"] = 2_458_400.0 + np.arange(rows) / 48.0
    columns["content_hash"] = np.arange(1, rows + 1).astype(np.uint64)
    for place, name in enumerate(ARM_NAMES):
        lights = []
        for labels, radius, vsini, moved in zip((PRIMARY, SECONDARY), RADIUS, VSINI, (0.0 * apart, apart), strict=True):
            stars = Stars(np.tile(labels, (rows, 1)), np.full(rows, radius), np.full(rows, vsini), velocity + moved)
            lights.append(component(ARMS[name], library, stars, whole=True).numpy())
        light = lights[0] + np.where(apart[:, None] != 0.0, lights[1], 0.0).astype(np.float32)
        frames = expose(
            name,
            {1: detector(name, 1, seed)},
            np.ones(rows, np.int64),
            light,
            np.zeros(rows),
            np.full(rows, snr),
            0.0,
            np.random.default_rng([seed, place]),
        )
        columns["snr"][:, place] = frames.snr
        for column in ("flux", "ivar", "loglam", "mask"):
            columns[column][:, place] = getattr(frames, column)
    return EXPOSURES.dataset(columns, rows)
