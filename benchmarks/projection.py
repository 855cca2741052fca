"""How long DR8 would take: measured rates of every stage, put together, on 2 cores and on 64; and what dominates.

Stages are measured on one thread, on the exposures of a mock release, with the shipped ensemble (as many members and
penalties as it has); arms below the S/N limit cost little, as in the survey. Hours on several cores are those of one,
divided by the cores and an efficiency: that of ``survey.py`` for two, the same for 64, which nobody has measured. Of a
GPU nothing is said, as none was measured.

    python benchmarks/projection.py [--stars 40] [--exposures 5900000] [--efficiency 0.9]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.models import checkpoint
from twinlines.models.ensemble import PERCENTILES
from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.ingest.reader import read_one
from twinlines.pipeline.mock.release import make_release
from twinlines.pipeline.schema import EXPOSURES, FATAL, RESULTS
from twinlines.pipeline.spectra import preprocess, velocity
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, ArmSpectra, Inference, InferenceParameters
from twinlines.pipeline.storage import stores

BLOCK = 256
CORES = (2, 64)


class Clock:
    """Adds up the processor's time of stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do ``work``, add its time to ``stage`` and return what it returns."""
        began = time.process_time()
        result = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - began
        return result


def read_files(folder: Path, keep: Path, clock: Clock) -> tuple[int, int]:
    """Read all files as a scan does, keeping their rows; returns how many files and exposures there are."""
    files = exposures = 0
    for path in sorted(folder.rglob("*.fits*")):
        answer = clock("scan", lambda path=path: read_one(str(path), str(keep)))
        files += not answer.reason
        exposures += len(answer.rows)
    return files, exposures


def infer(store: Path, folder: Path, clock: Clock) -> int:
    """Do what a run's task does, stage by stage; returns the number of exposures."""
    inference = Inference.load(SHIPPED_WEIGHTS, checkpoint.digest(SHIPPED_WEIGHTS), InferenceParameters())
    with stores.open_store(store, EXPOSURES) as dataset:
        block = clock("read a store", lambda: dataset.isel(exposure=slice(0, BLOCK)).load())
    keys = np.stack([block["obsid"].values, block["lmjm"].values.astype(np.int64)], axis=1)
    for index, name in enumerate(ARM_NAMES):
        good = np.flatnonzero(block["snr"].values[:, index] > inference.parameters.minimum_snr)
        some = ArmSpectra.of(name, block).take(good)
        seen = clock("preprocess", lambda name=name, some=some: some.observe(name))
        found = clock(
            "velocity",
            lambda name=name, seen=seen: velocity.measure(
                name, seen.wavelength, seen.normalised, seen.normalised_sigma, inference.templates, seen.bad
            ),
        )
        rest = clock(
            "preprocess",
            lambda name=name, seen=seen, found=found: preprocess.to_rest_frame(
                ARMS[name], seen, torch.from_numpy(found.velocity)
            ),
        )
        use = ((rest.quality.numpy().astype(np.uint16) | found.quality) & FATAL) == 0
        clock(
            "ensemble",
            lambda name=name, rest=rest, use=use, good=good: inference.ensemble.percentiles(
                name, rest.flux.numpy()[use], rest.sigma.numpy()[use], keys[good][use], percentiles=PERCENTILES
            ),
        )
    rows = block.sizes["exposure"]
    columns = {name: block[name].values for name in RESULTS.variables if name in block.variables}
    packed = clock("write results", lambda: stores.pack(RESULTS, RESULTS.dataset(columns, rows)))
    clock("write results", lambda: (folder / "result.zarr.zip").write_bytes(packed))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--exposures", type=int, default=5_900_000, help="exposures of the release")
    parser.add_argument("--efficiency", type=float, default=0.9, help="of several cores, as survey.py measures it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_release(folder / "fits", stars=options.stars, seed=1)
        with launch(Local(n_workers=1)) as client:
            ingest(client, folder / "fits", folder / "s", "r")
        store = folder / "s" / "releases" / "r" / "exposures.zarr"
        files, exposures = read_files(folder / "fits", folder / "kept.rows", clock)
        with stores.open_store(store, EXPOSURES) as dataset:
            shard = dataset.load()
        stores.create(folder / "copy.zarr", EXPOSURES, shard.sizes["exposure"])
        clock("write a store", lambda: stores.write_shard(folder / "copy.zarr", EXPOSURES, 0, shard))
        rows = infer(store, folder, clock)
    # The time to read a file goes with its exposures, and DR8's files have more of them than a mock's. Files are read
    # once, as long as there is room for the rows that a scan keeps; without any, the scan would count twice.
    totals = {
        "ingest: scan": clock.seconds["scan"] / exposures * options.exposures,
        "ingest: write": clock.seconds["write a store"] / shard.sizes["exposure"] * options.exposures,
    }
    for stage in ("read a store", "preprocess", "velocity", "ensemble", "write results"):
        totals[f"run: {stage}"] = clock.seconds[stage] / rows * options.exposures
    whole = sum(totals.values())
    for stage, seconds in sorted(totals.items(), key=lambda one: -one[1]):
        print(f"{stage:22} {seconds / 3600:9.1f} h of one core, {100 * seconds / whole:5.1f} %")
    hours = {cores: whole / 3600 / cores / options.efficiency for cores in CORES}
    dominant = max(totals, key=lambda stage: totals[stage])
    print(f"dominant: {dominant}; " + ", ".join(f"{cores} cores: {value:.1f} h" for cores, value in hours.items()))
    print(f"rates of {files} files, {exposures} exposures read; {rows} computed; no GPU was measured")
    result = {
        "name": "projection",
        "value": hours[CORES[-1]],
        "unit": "h",
        "baseline": hours[CORES[0]],
        "ratio": hours[CORES[0]] / hours[CORES[-1]],
        "hours": {f"{cores} cores": value for cores, value in hours.items()},
        "stages_core_hours": {stage: seconds / 3600 for stage, seconds in totals.items()},
        "dominant": dominant,
        "gpu_hours": None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
