"""How long DR8 would take: measured rates of every stage, put together, on 2 cores and on 64; and what dominates.

Stages are measured on one thread, on the exposures of a mock release, with the shipped ensemble (or random weights of
the default sizes, where it is of another version of the code); arms below the S/N limit cost little, as in the survey.
Hours on several cores are those of one, divided by the cores and an efficiency: that of ``survey.py`` for two, the same
for 64, which nobody has measured. What a GPU makes of it, ``gpu.py`` tells.

    python benchmarks/projection.py [--stars 40] [--exposures 5900000] [--efficiency 0.9] [--precision mixed]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.models import checkpoint, defaults
from twinlines.models.ensemble import Ensemble
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.precision import PRECISIONS
from twinlines.pipeline.arms import BLUE, RED
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.ingest.reader import read_one
from twinlines.pipeline.mock.release import make_release
from twinlines.pipeline.schema import EXPOSURES, RESULTS
from twinlines.pipeline.spectra import preprocess, velocity
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters
from twinlines.pipeline.storage import stores

BLOCK = 256
CORES = (2, 64)
STAGES: dict[str, tuple[Any, str]] = {
    "preprocess": (preprocess, "observe"),
    "to rest": (preprocess, "to_rest_frame"),
    "velocity": (velocity, "measure"),
    "ensemble": (Ensemble, "percentiles"),
}
"""Stages of a block, and the functions that do them."""


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

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is added to ``stage``."""
        return lambda *args, **kwargs: self(stage, lambda: function(*args, **kwargs))


def read_files(folder: Path, keep: Path, clock: Clock) -> tuple[int, int]:
    """Read all files as a scan does, keeping their rows; returns how many files and exposures there are."""
    files = exposures = 0
    for path in sorted(folder.rglob("*.fits*")):
        answer = clock("scan", lambda path=path: read_one(str(path), str(keep)))
        files += not answer.reason
        exposures += len(answer.rows)
    return files, exposures


def weights_of(folder: Path) -> Path:
    """The ensemble that ships; where it is of another version of the code, random weights of the same cost."""
    try:
        Ensemble.load(SHIPPED_WEIGHTS)
    except checkpoint.CheckpointError as error:
        print(f"random weights: {error}")
        folder.mkdir()
        network = NetworkConfig((BLUE.n_pixels, RED.n_pixels), defaults.PENALTIES)
        for member in range(1, defaults.MEMBERS + 1):
            header = checkpoint.Header(member, 0, "random weights")
            checkpoint.save(folder / f"{header.stem}{checkpoint.SUFFIX}", Network(network), header)
        return folder
    return SHIPPED_WEIGHTS


def infer(store: Path, weights: Path, folder: Path, clock: Clock, precision: str) -> int:
    """Do what a run's task does, its stages timed; returns the number of exposures."""
    inference = Inference.load(weights, None, InferenceParameters(precision=precision))
    with stores.open_store(store, EXPOSURES) as dataset:
        block = clock("read a store", lambda: dataset.isel(exposure=slice(0, BLOCK)).load())
    with ExitStack() as stack:
        for stage, (owner, name) in STAGES.items():
            stack.enter_context(mock.patch.object(owner, name, clock.timed(stage, getattr(owner, name))))
        began = time.process_time()
        results = inference(block)
        spent = time.process_time() - began
    clock.seconds["the rest of a block"] = spent - sum(clock.seconds[stage] for stage in set(STAGES))
    rows = block.sizes["exposure"]
    packed = clock("write results", lambda: stores.pack(RESULTS, results))
    clock("write results", lambda: (folder / "result.zarr.zip").write_bytes(packed))
    return int(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--exposures", type=int, default=5_900_000, help="exposures of the release")
    parser.add_argument("--efficiency", type=float, default=0.9, help="of several cores, as survey.py measures it")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the networks")
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
        rows = infer(store, weights_of(folder / "weights"), folder, clock, options.precision)
    # The time to read a file goes with its exposures, and DR8's files have more of them than a mock's. Files are read
    # once, as long as there is room for the rows that a scan keeps; without any, the scan would count twice.
    totals = {
        "ingest: scan": clock.seconds["scan"] / exposures * options.exposures,
        "ingest: write": clock.seconds["write a store"] / shard.sizes["exposure"] * options.exposures,
    }
    for stage in ("read a store", *STAGES, "the rest of a block", "write results"):
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
