"""A GPU that never waits: how much of the time the networks of a GPU's worker are at work, on a GPU that is made up.

Run ``python benchmarks/feeding.py [--rows 20480] [--share 0.85]``. A worker with a GPU's resource computes a release of
mock spectra: reading, preprocessing, velocities, marker and result are real, and the networks sleep for as long as a
GPU would compute. How long is measured first, as what this machine's cores need to prepare as much, over ``--share``:
the fraction of the cores that a GPU of that speed needs. ``value`` is the fraction of the time between the first and
the last verdict in which the made-up GPU is idle; ``one_by_one`` that of a worker that prepares a block, has it judged,
and prepares the next. Speeds of true GPUs: benchmarks/gpu.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from survey import mock_spectra, write_release

from twinlines.cluster.environment import NANNY_CONFIG
from twinlines.models.vocabulary import HEADS, PERCENTILES
from twinlines.pipeline.schema import CATALOG_PENALTIES, EXPOSURES
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters
from twinlines.pipeline.spectra.velocity import Templates
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.compute import run
from twinlines.pipeline.survey.stages import Stages, threads_for

_BLOCK = 256


class Sleeper:
    """Networks that take so many seconds for an exposure, and write down when they were at work."""

    def __init__(self, seconds: float, diary: Path) -> None:
        self.seconds, self.diary = seconds, diary

    def percentiles(
        self, flux: Mapping[str, Any], _sigma: Mapping[str, Any], keys: NDArray[np.int64], **_: Any
    ) -> dict[str, dict[int, NDArray[np.float32]]]:
        """Do what an ensemble's method does, asleep."""
        began = time.time()
        time.sleep(self.seconds * len(keys))
        with self.diary.open("a") as diary:
            diary.write(f"{began} {time.time()}\n")
        values = np.full((len(keys), len(PERCENTILES)), 0.5, np.float32)
        return {head: dict.fromkeys(CATALOG_PENALTIES, values) for head in HEADS}


def pace(folder: Path) -> float:
    """Seconds of all cores that reading and preparing an exposure takes, with nothing else to do."""
    infer = Inference(Sleeper(0.0, folder / "nothing"), Templates.default(), InferenceParameters())  # type: ignore[arg-type]
    with stores.open_store(folder / "releases" / "dr1" / "exposures.zarr", EXPOSURES) as dataset:

        def read(first: int) -> xr.Dataset:
            return dataset.isel(exposure=slice(first, first + _BLOCK)).load()

        stages = Stages(infer, threads_for("cuda"))
        list(stages(range(0, 4 * _BLOCK, _BLOCK), read))
        began = time.perf_counter()
        list(stages(range(0, 8 * _BLOCK, _BLOCK), read))
    return (time.perf_counter() - began) / (8 * _BLOCK)


def idle(client: Client, folder: Path, seconds: float, diary: Path) -> tuple[float, float]:
    """Fraction of the time that the networks are idle, and exposures a second."""

    def load(_weights: str, _digest: str, parameters: InferenceParameters, _device: str) -> Inference:
        return Inference(Sleeper(seconds, diary), Templates.default(), parameters)  # type: ignore[arg-type]

    report = run(
        client,
        folder,
        weights=SHIPPED_WEIGHTS,
        parameters=InferenceParameters(seed=int(diary.name)),
        loader=load,
    )
    assert report.complete, report.failed
    spells = np.sort(np.loadtxt(diary), axis=0)
    whole = spells[-1, 1] - spells[0, 0]
    return float(1.0 - (spells[:, 1] - spells[:, 0]).sum() / whole), report.rows_computed / whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20480)
    parser.add_argument("--share", type=float, default=0.85)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "survey"
        spectra = mock_spectra(Path(scratch) / "mock", stars=20)
        write_release(folder, "dr1", spectra, np.arange(options.rows), 0)
        seconds = pace(folder) / options.share
        told: dict[str, Any] = {}
        for name, threads, resources in (("value", 3, {"GPU": 1}), ("one_by_one", 1, {})):
            with dask.config.set(NANNY_CONFIG):
                workers = LocalCluster(
                    n_workers=1, threads_per_worker=threads, dashboard_address=":0", resources=resources, memory_limit=0
                )
            with workers, Client(workers) as client:
                waits, rate = idle(client, folder, seconds, Path(scratch) / str(threads))
            told |= {name: round(waits, 3), f"{name}_rate": round(rate, 1)}
    cores = threads_for("cuda")
    print(json.dumps({**told, "gpu_ms": round(1e3 * seconds, 2), "cores": cores, "rows": options.rows}))


if __name__ == "__main__":
    main()
