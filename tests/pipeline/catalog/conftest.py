"""A small published catalog in several chunks, with the index beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.publication import healpix, write_index

ROWS = 2600
_SMALL = replace(CATALOG, chunk_rows=512, shard_rows=512)


def made_sky(rows: int = ROWS, seed: int = 3) -> xr.Dataset:
    """Stars all over the sky, a clump, the poles, the origin, and rows without a position, sorted as published."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    some = rows // 10
    ra[:some] = 120.0 + rng.normal(0, 5e-4, some)
    dec[:some] = 33.0 + rng.normal(0, 5e-4, some)
    dec[some : 2 * some] = (90.0 - rng.uniform(0, 0.01, some)) * rng.choice([-1, 1], some)
    ra[2 * some : 3 * some] = rng.uniform(-0.01, 0.01, some) % 360.0
    dec[2 * some : 3 * some] = rng.uniform(-0.01, 0.01, some)
    ra[3 * some : 3 * some + 5] = np.nan
    columns = {
        "ra": ra,
        "dec": dec,
        "obsid": 700_000_000 + rng.permutation(rows) // 3,
        "lmjm": 84_000_000 + np.arange(rows),
        "bjdmid": 2458000 + rng.uniform(0, 1000, rows),
        "planid": np.array([f"TD{number % 7}N" for number in range(rows)], dtype=object),
        "release": np.array(["dr7", "dr8"], object)[rng.integers(0, 2, rows)],
        "bprp0": np.where(rng.random(rows) < 0.5, np.nan, rng.uniform(0, 4, rows)),
        "healpix29": healpix(ra, dec),
        "content_hash": rng.integers(0, 2**64, rows, dtype=np.uint64),
    }
    for arm in "BR":
        columns[f"snr_{arm}"] = rng.uniform(0, 100, rows)
        columns[f"npixbad_{arm}"] = rng.integers(0, 130, rows)
        columns[f"quality_{arm}"] = rng.choice([0, 4, 128, 256, 260], rows)
        columns[f"specflag_{arm}"] = rng.random(rows) < 0.9
    for head in "BRJ":
        columns[f"pb_pct_{head}_16"] = np.sort(rng.random((rows, 5)), axis=1)
        columns[f"pb_pct_{head}_16"][rng.random(rows) < 0.1] = np.nan
    order = np.lexsort((columns["lmjm"], columns["obsid"], columns["healpix29"]))
    return CATALOG.dataset({name: values[order] for name, values in columns.items()}, rows)


def publish(folder: Path, sky: xr.Dataset, *, index: bool = True) -> Survey:
    """Publish rows as the current catalog of a survey."""
    path = folder / "catalogs" / "one.zarr"
    shutil.rmtree(path, ignore_errors=True)
    stores.create(path, _SMALL, sky.sizes["exposure"], {"releases": ["dr7", "dr8"], "run": "0123", "name": "one.zarr"})
    for name in CATALOG.variables:
        stores.write_column(path, _SMALL, name, sky[name].values)
    stores.seal(path, CATALOG)
    (folder / "CURRENT").write_text("one.zarr\n")
    survey = Survey.at(folder)
    if index:
        write_index(survey, "one.zarr")
    return survey


@pytest.fixture(scope="session")
def sky() -> xr.Dataset:
    return made_sky()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, sky: xr.Dataset) -> Survey:
    """A survey that tests read, and leave as it is."""
    return publish(tmp_path_factory.mktemp("whole"), sky)


@pytest.fixture
def republish() -> Callable[..., Survey]:
    return publish


@pytest.fixture
def more_sky() -> Callable[..., xr.Dataset]:
    return made_sky
