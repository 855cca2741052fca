"""What the bounded window and the markers cost for each shard of a job without work, against a bare ``client.map``.

DR8's 5.9 million exposures are 1,441 shards. A shard computes for minutes; what is added for each must be milliseconds.

    python benchmarks/scheduler.py [--shards 1441] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.pipeline.jobs import engine
from twinlines.pipeline.jobs.markers import Markers


@dataclass(frozen=True)
class NoWork:
    """A shard of nothing."""

    key: str
    """Key of the task."""

    @property
    def about(self) -> dict[str, str]:
        """What a failure's file should say of it."""
        return {"key": self.key}


def no_work(piece: NoWork, folder: str) -> None:
    """Write the marker of a task, as every task does, and nothing else."""
    Markers(Path(folder)).mark(piece.key, 0, {"size": 0, "sha256": ""})


def nothing(number: int) -> None:
    """Do nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=1441)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, launch(Local(n_workers=options.workers)) as client:
        markers = Markers(Path(folder))
        markers.start({"benchmark": "scheduler"})
        client.gather(client.map(nothing, range(10), pure=False))
        began = time.perf_counter()
        client.gather(client.map(nothing, range(options.shards), pure=False))
        bare = time.perf_counter() - began
        tasks = [(NoWork(f"{number:05d}"), folder) for number in range(options.shards)]
        began = time.perf_counter()
        failed = engine.compute(client, markers, no_work, tasks, lambda piece, succeeded: None)
        seconds = time.perf_counter() - began
        assert not failed
        assert len(list((Path(folder) / "done").glob("*.json"))) == options.shards
    print(f"{options.shards} shards: {seconds:.2f} s with window and markers, {bare:.2f} s bare")
    result = {
        "name": "scheduler",
        "value": 1e3 * seconds / options.shards,
        "unit": "ms/shard",
        "baseline": 1e3 * bare / options.shards,
        "ratio": bare / seconds,
        "shards": options.shards,
        "workers": options.workers,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
