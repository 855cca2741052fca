"""Ingestion of a folder of FITS files against a bare fitsio read of the same files, with as many processes.

The bare read opens every file and reads every extension, and keeps nothing. Ingestion reads every file in a process of
its own, checks it, keeps its rows, compares them, and writes a compressed store with checksums. Files are gzipped, as
the survey's are, three exposures each, of random numbers, half with new noise. Both are measured on warm file caches,
by the clock and by the processor's time of all processes, client and scheduler included, once they are all at work: it
is what a run on a machine with other work to do can be judged by. What the cluster takes where it has nothing to do is
measured, and taken off: on a busy machine, it grows with the clock.

    python benchmarks/ingest.py [--files 5000] [--workers 2] [--folder /tmp]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import fitsio
import psutil

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.pipeline.ingest import rows
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.ingest.reader import Reading
from twinlines.pipeline.lamost import content_hash, ordinary, reader, unpacking
from twinlines.pipeline.lamost.extensions import KEYWORDS
from twinlines.pipeline.testing.exposures import random_file

DISTINCT = 100
"""Files with noise of their own; others repeat theirs under another obsid, as making random numbers takes long."""

REST = 4.0
"""How long the idle cluster is watched, s."""


def write_files(folder: Path, numbers: range) -> None:
    for number in numbers:
        file = replace(random_file(number % DISTINCT, 3), obsid=700_000_000 + number)
        night = folder / f"night{number // 250:04d}"
        night.mkdir(parents=True, exist_ok=True)
        reader.write(night / f"{number:07d}.fits.gz", file)


def bare_read(paths: list[str]) -> int:
    pixels = 0
    for path in paths:
        with fitsio.FITS(path) as hdus:
            for hdu in hdus:
                if hdu.has_data():
                    pixels += hdu.read().size
    return pixels


def few(paths: list[str], folder: Path) -> Path:
    """A folder with links to some of the files."""
    folder.mkdir()
    for path in map(Path, paths):
        (folder / path.name).symlink_to(path)
    return folder


def processor(*, readers: bool = False) -> float:
    """Processor's time of this process and of all that it has started, s; or of those that read files alone."""
    this = psutil.Process()
    started = this.children(recursive=True)
    if readers:
        return sum(sum(each.cpu_times()[:2]) for each in started if Reading().module in each.cmdline())
    return sum(sum(process.cpu_times()[:4]) for process in (this, *started))


def pieces(paths: list[str], scratch: Path) -> dict[str, float]:
    """Processor's time of what is done with a file before its rows are written to the store, ms a file."""
    contents = [unpacking.content_of(Path(path)) for path in paths]
    files = [reader.read(Path(path)) for path in paths]
    exposures = [rows.records(file) for file in files]
    work: dict[str, Callable[[], object]] = {
        "inflate": lambda: [unpacking.content_of(Path(path)) for path in paths],
        "find": lambda: [ordinary.extensions(content, KEYWORDS) for content in contents],
        "read": lambda: [reader.read(Path(path)) for path in paths],
        "hash": lambda: [list(content_hash.contents(file)) for file in files],
        "records": lambda: [rows.records(file) for file in files],
        "pack": lambda: [rows.append(str(scratch / "rows"), some) for some in exposures],
    }
    took = {name: min(timed(function) for _ in range(3)) / len(paths) for name, function in work.items()}
    took["read"] -= took["inflate"] + took["find"]
    took["records"] -= took["hash"]
    return {name: 1e3 * seconds for name, seconds in took.items()}


def timed(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder, survey = Path(scratch) / "fits", Path(scratch) / "survey"
        step = -(-options.files // options.workers)
        parts = [range(low, min(low + step, options.files)) for low in range(0, options.files, step)]
        with ProcessPoolExecutor(options.workers) as pool:
            list(pool.map(write_files, [folder] * len(parts), parts))
            paths = sorted(map(str, folder.rglob("*.fits.gz")))
        shares = [paths[n :: options.workers] for n in range(options.workers)]
        with ProcessPoolExecutor(options.workers) as pool:
            list(pool.map(bare_read, [paths[:2]] * options.workers))
            before, began = processor(), time.perf_counter()
            list(pool.map(bare_read, shares))
            bare, bare_processor = time.perf_counter() - began, processor() - before
        stages: dict[str, float] = {}
        with launch(Local(n_workers=options.workers)) as client:
            # What a worker does once is no part of it: it reads the tables of the Earth's orientation, say.
            some = few(paths[: 4 * options.workers], Path(scratch) / "few")
            ingest(client, some, Path(scratch) / "first", "r", files_per_task=1)
            readers, before, began = processor(readers=True), processor(), time.perf_counter()

            def tell(stage: str, done: int, total: int) -> None:
                stages[stage] = time.perf_counter() - began

            report = ingest(client, folder, survey, "r", progress=tell, files_per_task=min(256, step))
            seconds, seconds_processor = time.perf_counter() - began, processor() - before
            readers = processor(readers=True) - readers
            before, began = processor(), time.perf_counter()
            time.sleep(REST)
            idle = (processor() - before) / (time.perf_counter() - began)
            seconds_processor -= idle * seconds
        with launch(Local(n_workers=options.workers)) as client:
            began = time.perf_counter()
            again = ingest(client, folder, survey, "again", files_per_task=min(256, step))
            unchanged = time.perf_counter() - began
        of_pieces = pieces(paths[:DISTINCT], Path(scratch))
        assert (report.files_seen, again.unchanged, again.rows) == (options.files, report.rows, 0)
        stored = sum(path.stat().st_size for path in (survey / "releases" / "r").rglob("*") if path.is_file())
    print(f"bare read {bare:.1f} s, ingestion {seconds:.1f} s (scan {stages['scan']:.1f} s), again {unchanged:.1f} s")
    result = {
        "name": "ingest",
        "value": 1e3 * seconds / options.files,
        "unit": "ms/file",
        "baseline": 1e3 * bare / options.files,
        "ratio": bare / seconds,
        "overhead": seconds / bare,
        "processor_ms": 1e3 * seconds_processor / options.files,
        "bare_processor_ms": 1e3 * bare_processor / options.files,
        "processor_overhead": seconds_processor / bare_processor,
        "idle_processor_share": idle,
        "readers_processor_ms": 1e3 * readers / options.files,
        "pieces_ms": {name: round(took, 3) for name, took in of_pieces.items()},
        "scan_ms": 1e3 * stages["scan"] / options.files,
        "unchanged_ms": 1e3 * unchanged / options.files,
        "rows_per_second": report.rows / seconds,
        "stored_bytes_per_row": stored / report.rows,
        "files": options.files,
        "rows": report.rows,
        "workers": options.workers,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
