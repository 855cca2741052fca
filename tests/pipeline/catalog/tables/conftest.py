"""A small catalog with all that a table may have: missing values, odd texts, bits, 64 bits without a sign."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.survey.publication import healpix

N = 300


def make(rows: int = N, release: str = "dr7", seed: int = 5) -> xr.Dataset:
    """A catalog of so many rows, as it is opened."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(80, 100, rows), rng.uniform(20, 40, rows)
    order = np.argsort(healpix(ra, dec), kind="stable")
    columns = {
        "obsid": np.arange(rows) // 3 + 700_000_000,
        "lmjm": np.arange(rows) + 84_000_000,
        "bjdmid": 2458000.0 + rng.uniform(0, 1000, rows),
        "ra": ra[order],
        "dec": dec[order],
        "healpix29": healpix(ra, dec)[order],
        "planid": np.array([f"HD{number % 97}<&>" for number in range(rows)], object),
        "spid": rng.integers(1, 17, rows),
        "rv_obs_B": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(0, 50, rows)),
        "rv_teff_B": rng.choice([5000.0, 5250.0], rows),
        "ccfmax_R": 10.0 ** rng.uniform(-12, 0, rows),
        "pb_pct_J_16": np.sort(rng.random((rows, 5)), axis=1),
        "specflag_B": rng.random(rows) < 0.5,
        "npixbad_B": rng.integers(0, 4000, rows),
        "quality_B": rng.integers(0, 1024, rows),
        "content_hash": rng.integers(0, 2**64, rows, dtype=np.uint64),
        "release": np.full(rows, release, object),
        "run": np.full(rows, "0123456789abcdef", object),
    }
    about = {
        "name": f"{release}-0123456789abcdef.zarr",
        "releases": ["dr6", release],
        "run": "0123456789abcdef",
        "weights_digest": "89ab",
        "parameters": '{"seed": 0, "n_draws": 20}',
        "numerics": '{"spectra": 7}',
        "code": '{"0.1.0": 700}',
        "rows_in": 9000,
    }
    return CATALOG.dataset(columns, rows, **about)


@pytest.fixture(scope="session")
def cat() -> xr.Dataset:
    return make()
