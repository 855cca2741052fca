"""A toy survey for tests of the machinery: random releases, and an inference that is quick, or fails when told to.

Where :mod:`twinlines.pipeline.testing.exposures` makes files, this makes stores directly. Seeded: same seed, same rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, NATIVE_PIXELS
from twinlines.pipeline.jobs.markers import fingerprint
from twinlines.pipeline.schema import CATALOG_PENALTIES, EXPOSURES, JOINT, PERCENTILES, RESULTS, TABLE4
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import STORE, write_about

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def write_release(
    survey: Path, name: str, obsids: NDArray[np.int64], *, seed: int = 0, day: int = 0, minutes: int = 1000
) -> Path:
    """Write a release of one exposure per entry of ``obsids``; returns its folder.

    Parameters
    ----------
    survey
        Folder of the survey; made if there is none.
    name
        Name of the release.
    obsids
        (exposure,) identifiers; the time of an exposure and the star's position follow from them.
    seed
        Changes the content of all rows, not their keys.
    day
        Orders the releases: number of the release, from 0. Its clock runs backwards, as no clock may count.
    minutes
        Number of minutes in which exposures begin.
    """
    obsids = np.asarray(obsids, dtype=np.int64)
    rows = len(obsids)
    folder = Survey(Path(survey)).new_release(name).target
    folder.mkdir(parents=True)
    level = np.random.default_rng(seed).uniform(100.0, 200.0, (rows, 2)).astype(np.float32)
    flux = level[:, :, np.newaxis] + np.linspace(0.0, 1.0, NATIVE_PIXELS, dtype=np.float32)
    columns: dict[str, NDArray[Any]] = {
        "obsid": obsids,
        "lmjm": (84_000_000 + obsids % minutes).astype(np.int32),
        "planid": np.array([f"TD{obsid % 7}" for obsid in obsids], dtype=object),
        "ra": (obsids * 137.508) % 360.0,
        "dec": (obsids * 31.7) % 120.0 - 40.0,
        "snr": level / 10.0,
        "content_hash": level.view(np.uint64)[:, 0],
        "flux": flux,
        "ivar": np.ones_like(flux),
    }
    stores.create(folder / STORE, EXPOSURES, rows)
    for start in range(0, rows, EXPOSURES.shard_rows):
        shard = {column: values[start : start + EXPOSURES.shard_rows] for column, values in columns.items()}
        block = EXPOSURES.dataset(shard, len(shard["obsid"]))
        stores.write_shard(folder / STORE, EXPOSURES, start, block)
    starts = range(0, rows, EXPOSURES.shard_rows)
    shards = [fingerprint(stores.shard_files(folder / STORE, EXPOSURES, start)) for start in starts]
    checksums = integrity.seal(folder, EXPOSURES.shard_rows, shards)
    about = {
        "name": name,
        "number": day + 1,
        "created": (_EPOCH - timedelta(days=day)).isoformat(),
        "rows": rows,
        "quarantined": 0,
        "checksums": checksums,
    }
    write_about(folder, about)
    return folder


def write_weights(folder: Path, content: bytes = b"toy") -> Path:
    """Write a folder that has a digest, like an ensemble's; only :class:`ToyInference` takes it for one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.safetensors").write_bytes(content)
    return folder


@dataclass(frozen=True)
class ToyParameters:
    """Parameters of the toy; only the seed decides results."""

    seed: int = 0
    """Changes all results."""
    pause: float = 0.0
    """Seconds that each block takes."""
    poison: int | None = None
    """An obsid at which the inference fails."""

    def to_json(self) -> dict[str, object]:
        """Make a dictionary for provenance and for the ledger's keys."""
        return {"seed": self.seed}


@dataclass(frozen=True)
class ToyInference:
    """Stands in for the real inference: a pure function of each row, without any network."""

    digest: str
    """Digest of the weights."""
    parameters: ToyParameters
    """Parameters."""

    @classmethod
    def load(cls, weights: str, digest: str, parameters: ToyParameters, device: str = "cpu") -> ToyInference:
        """Make one; the device is all the same.

        Raises
        ------
        FileNotFoundError
            If there are no weights.
        """
        (Path(weights) / "toy.safetensors").read_bytes()
        return cls(digest, parameters)

    def __call__(self, block: xr.Dataset) -> xr.Dataset:
        """Rows of results of rows of exposures."""
        time.sleep(self.parameters.pause)
        if self.parameters.poison in block["obsid"].values:
            raise ValueError(f"cannot digest the exposure of obsid {self.parameters.poison}")
        columns = {name: block[name].values for name in TABLE4 if name in block}
        columns["content_hash"] = block["content_hash"].values
        mean = block["flux"].values.mean(axis=2, dtype=np.float64) + self.parameters.seed
        for index, arm in enumerate(ARM_NAMES):
            columns[f"snr_{arm}"] = block["snr"].values[:, index]
            columns[f"rv_obs_{arm}"] = mean[:, index]
            columns[f"rv_obs_err_{arm}"] = np.ones(len(mean))
            for penalty in CATALOG_PENALTIES:
                columns[f"pb_pct_{arm}_{penalty}"] = np.sin(np.outer(mean[:, index], np.add(PERCENTILES, penalty)))
        for penalty in CATALOG_PENALTIES:
            both = [columns[f"pb_pct_{arm}_{penalty}"] for arm in ARM_NAMES]
            columns[f"pb_pct_{JOINT}_{penalty}"] = np.mean(both, axis=0)
        return RESULTS.dataset(columns, block.sizes["exposure"])
