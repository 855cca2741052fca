"""A survey at scale on local workers: an incremental release, memory that does not grow, scaling from 1 to 2 workers.

Spectra are those of a mock release; they are repeated under other obsids to as many exposures as are asked for, written
as stores directly (``ingest.py`` measures FITS files). Everything else is the shipped ensemble's real work.

* Increment: on a release of N exposures, one with 30 % new and 2 % changed ones; the run must compute exactly these.
* Memory: peaks (VmHWM) of the client, of the scheduler and of each worker, at N/10 and at N exposures.
* Scaling: a release of ``--scaling-rows`` exposures with 1 and 2 workers in turn, each with a seed of its own, after
  they have loaded what they need; and the processor's time of workers, and of client and scheduler, in each.

    python benchmarks/survey.py [--rows 50000] [--scaling-rows 2048] [--workers 2] [--precision mixed] [--folder /tmp]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from made.processes import peak, scheduler
from numpy.typing import NDArray

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address, Local
from twinlines.models.precision import PRECISIONS
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog import diff as catalogdiff
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.jobs.markers import fingerprint, now
from twinlines.pipeline.mock.release import make_release
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import integrity
from twinlines.pipeline.survey.compute import RunReport, run
from twinlines.pipeline.survey.releases import write_about

FIRST_OBSID = 1_000_000_000
NEW, CHANGED = 0.30, 0.02


def mock_spectra(folder: Path, stars: int) -> Path:
    """Exposures of a mock release, ingested; returns their store."""
    make_release(folder / "fits", stars=stars, seed=1)
    with launch(Local(n_workers=2)) as client:
        ingest(client, folder / "fits", folder / "mock", "mock")
    return folder / "mock" / "releases" / "mock" / "exposures.zarr"


def write_release(survey: Path, name: str, spectra: Path, numbers: NDArray[np.int64], version: int) -> None:
    """Write a release of the exposures ``numbers``: spectra in turn, under obsids of their own."""
    folder = survey / "releases" / name
    folder.mkdir(parents=True)
    store, size = folder / "exposures.zarr", EXPOSURES.shard_rows
    stores.create(store, EXPOSURES, len(numbers))
    shards = []
    with stores.open_store(spectra, EXPOSURES) as source:
        block = source.load()
    for start in range(0, len(numbers), size):
        some = numbers[start : start + size]
        columns = dict(block.isel(exposure=some % block.sizes["exposure"]).data_vars)
        values: dict[str, NDArray[Any]] = {column: data.values for column, data in columns.items()}
        values["obsid"] = FIRST_OBSID + some
        values["flux"] = values["flux"] * np.float32(1 + 0.01 * version)
        texts = [f"{number} {version}".encode() for number in some.tolist()]
        hashes = [int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") for text in texts]
        values["content_hash"] = np.array(hashes, np.uint64)
        stores.write_shard(store, EXPOSURES, start, EXPOSURES.dataset(values, len(some)))
        shards.append(fingerprint(stores.shard_files(store, EXPOSURES, start)))
    checksums = integrity.seal(folder, size, shards)
    about = {"name": name, "number": version + 1, "created": now(), "rows": len(numbers), "quarantined": 0}
    write_about(folder, {**about, "checksums": checksums})


def compute(
    client: Client, survey: Path, precision: str, *, seed: int = 0, shard_rows: int = EXPOSURES.shard_rows
) -> RunReport:
    parameters = InferenceParameters(seed=seed, precision=precision)
    report = run(client, survey, weights=SHIPPED_WEIGHTS, parameters=parameters, shard_rows=shard_rows)
    assert report.complete, report.failed
    return report


def measure_memory(survey: Path, workers: int, precision: str) -> None:
    """Run a survey from this process, and print the peaks of all that take part."""
    with scheduler(workers) as (address, pid), launch(Address(address)) as client:
        report = compute(client, survey, precision)
        peaks = {"client": peak(), "scheduler": peak(pid), "worker": max(map(peak, client.run(os.getpid).values()))}
    print(json.dumps({"rows": report.rows, "seconds": report.seconds, **peaks}))


def increment(client: Client, survey: Path, spectra: Path, rows: int, precision: str) -> dict[str, float]:
    """A release on top; returns what was measured, having checked what was counted."""
    first = catalog.open(survey)
    assert first.sizes["exposure"] == rows
    changed = np.arange(0, rows, round(1 / CHANGED), dtype=np.int64)
    new = np.arange(rows, rows + round(NEW * rows), dtype=np.int64)
    write_release(survey, "two", spectra, np.concatenate([changed, new]), 1)
    report = compute(client, survey, precision)
    assert report.rows_computed == len(changed) + len(new), report
    difference = catalogdiff.diff(survey, "one", "two")
    counts = difference.added, difference.gone, difference.changed, difference.recomputed, difference.same
    assert counts == (len(new), 0, len(changed), 0, rows - len(changed)), counts
    again = compute(client, survey, precision)
    assert (again.computed, again.published) == (0, False)
    assert first.load().sizes["exposure"] == rows  # the old catalog is readable still
    print(f"increment: {len(new)} new, {len(changed)} changed, all computed and nothing else; then nothing to do")
    return {"increment_rows": report.rows_computed, "increment_seconds": report.seconds, "idle_seconds": again.seconds}


@dataclass
class Taken:
    """What a release takes, seconds."""

    clock: float = 0.0
    workers: float = 0.0
    client: float = 0.0


def scaling(survey: Path, warm: Path, rows: int, rounds: int, precision: str) -> tuple[dict[int, Taken], float]:
    """What one worker takes, and what two take, in turn; and what a worker takes to load, the mean.

    Workers that have judged a few exposures of another survey, ``warm``, have loaded what any run loads once.
    """
    taken, loading = {1: Taken(), 2: Taken()}, 0.0
    for turn in range(rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            seed = 200 + 2 * turn + workers
            with launch(Local(n_workers=workers)) as client:
                began = time.perf_counter()
                compute(client, warm, precision, seed=seed, shard_rows=1)
                loaded, mine = time.perf_counter(), time.process_time()
                theirs = sum(client.run(time.process_time).values())
                compute(client, survey, precision, seed=seed, shard_rows=max(1, rows // 16))
                taken[workers].clock += time.perf_counter() - loaded
                taken[workers].client += time.process_time() - mine
                taken[workers].workers += sum(client.run(time.process_time).values()) - theirs
                loading += (loaded - began) / (2 * rounds)
    return taken, loading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--scaling-rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--stars", type=int, default=40, help="stars of the mock release whose spectra are repeated")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the networks")
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory, options.workers, options.precision)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        spectra = mock_spectra(folder, options.stars)
        memory = []
        for name, rows in (("small", options.rows // 10), ("large", options.rows)):
            write_release(folder / name, "one", spectra, np.arange(rows, dtype=np.int64), 0)
            command = [sys.executable, __file__, "--memory", str(folder / name), "--workers", str(options.workers)]
            command += ["--precision", options.precision]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            memory.append(json.loads(done.stdout.splitlines()[-1]))
            print(memory[-1])
        growth = {who: memory[1][who] / memory[0][who] for who in ("client", "scheduler", "worker")}
        print("memory, large / small:", ", ".join(f"{who} {ratio:.3f}" for who, ratio in growth.items()))
        with launch(Local(n_workers=options.workers)) as client:
            measured = increment(client, folder / "large", spectra, options.rows, options.precision)
        shutil.rmtree(folder / "large")
        write_release(folder / "few", "one", spectra, np.arange(options.scaling_rows, dtype=np.int64), 0)
        write_release(folder / "warm", "one", spectra, np.arange(8, dtype=np.int64), 0)
        taken, loading = scaling(
            folder / "few", folder / "warm", options.scaling_rows, options.rounds, options.precision
        )
    print(f"scaling: {taken[1].clock:.1f} s with one worker, {taken[2].clock:.1f} s with two, {loading:.1f} s to load")
    result = {
        "name": "survey",
        "value": taken[2].clock,
        "unit": "s",
        "baseline": taken[1].clock,
        "ratio": taken[1].clock / taken[2].clock,
        "scaling": {workers: asdict(each) for workers, each in taken.items()},
        "rows": options.rows,
        "precision": options.precision,
        "loading_seconds": loading,
        "worker_seconds_per_row": options.workers * memory[1]["seconds"] / memory[1]["rows"],
        "memory": memory,
        "memory_growth": growth,
        **measured,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
