"""How fast a catalog is published, and answers, at DR8's size; against reading the same columns with nothing else.

Results of a run are made up, 4096 rows a task, and stored as a run stores them; publication merges them, checksums the
catalog, and writes its index. Then, in a process of its own that has only imported the package, and with the catalog's
files out of the page cache: opening (``open_ms``). Then medians over random stars, each the best of three: a cone of 3
arcsec (``cone_ms``), all exposures of the star of an obsid (``obsid_ms``), which read their columns when these are
looked at, and a cone with every column read (``cone_all_ms``). The candidates' rule is measured against a bare read of
the columns that it needs, by Zarr, one after the other (``rule_over_raw``); a condition in words, and a crossmatch of a
million positions, come last. ``cone_mb`` is what the peak of a process grows by, opening included;
``client_bytes_per_row`` is what the peak of publication grows by from a fifth of the rows to all.

    python benchmarks/catalog.py [--rows 5900000] [--folder DIR] [--positions 1000000] [--keep]

Without the index (``slow_cone_ms``, ``slow_obsid_ms``) is what catalogs of before have.
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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from made.rows import TASK_ROWS, packed_result

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.jobs.markers import fingerprint_of
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan, ShardTask
from twinlines.pipeline.survey.publication import publish, write_index
from twinlines.pipeline.survey.releases import Release
from twinlines.pipeline.survey.runs import Recipe

QUESTIONS = 200
RUN_CORE_HOURS = 10.0  # of a run of DR8
CORES = 16  # that do it: publication's seconds of one core are held against the run's
RULE_COLUMNS = ("pb_pct_J_16", "npixbad_B", "npixbad_R", "bprp0", "quality_B", "quality_R")


def make_run(survey: Survey, rows: int, recipe: Recipe) -> Plan:
    """A run of one release whose tasks are all done."""
    run = survey.run(recipe.key)
    run.begin(recipe, TASK_ROWS, 1)
    tasks = []
    for start in range(0, rows, TASK_ROWS):
        stop = min(start + TASK_ROWS, rows)
        tasks.append(ShardTask("dr8", start, stop, hashlib.sha256(f"{start}".encode()).hexdigest()))
        if run.is_done(tasks[-1].key):
            continue
        packed = packed_result(start, stop)
        run.result_path(tasks[-1].key).write_bytes(packed)
        marker = {"rows": stop - start, **fingerprint_of(packed), "twinlines": "made"}
        run.marker_path(tasks[-1].key).write_text(json.dumps(marker))
    release = Release("dr8", survey.path / "releases/dr8", 1, datetime.now(UTC), rows, 0)
    return Plan(run, (release,), tuple(tasks), frozenset(task.key for task in tasks), f"made-{rows}")


def peak_mb() -> float:
    """Peak memory of this process; what getrusage says begins with the peak of its parent."""
    said = Path("/proc/self/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024.0


def milliseconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def best(work: Callable[[], Any]) -> float:
    """Milliseconds of the quickest of three: others use the machine, too."""
    return min(milliseconds(work) for _ in range(3))


def forget(folder: Path) -> None:
    """Take a folder's files out of the page cache."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_a_process(step: str, survey: Path, *options: str) -> dict[str, Any]:
    """What one of the steps below measures in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(survey), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def step_publish(survey: Path, options: argparse.Namespace) -> dict[str, Any]:
    place = Survey.at(survey)
    recipe = Recipe(Path("weights"), "made", {"seed": 0}, 1)
    plan = make_run(place, options.rows, recipe)
    shutil.rmtree(place.catalogs_folder, ignore_errors=True)
    began = time.process_time()
    seconds = milliseconds(lambda: publish(place, plan, recipe)) / 1e3
    cpu, peak = time.process_time() - began, peak_mb()
    current = place.current
    assert current is not None
    index = place.catalog_index(current.name)
    size = index.stat().st_size
    index.unlink()
    index_seconds = milliseconds(lambda: write_index(place, current.name)) / 1e3
    stored = sum(path.stat().st_size for path in current.rglob("*") if path.is_file())
    return {
        "publish_s": seconds,
        "publish_cpu_s": cpu,
        "peak_mb": peak,
        "index_s": index_seconds,
        "catalog_bytes_per_row": stored / options.rows,
        "index_bytes_per_row": size / options.rows,
    }


def step_open(survey: Path, _: argparse.Namespace) -> dict[str, Any]:
    began = time.process_time()
    wall = milliseconds(lambda: catalog.open(survey))
    return {"open_ms": wall, "open_cpu_ms": 1e3 * (time.process_time() - began)}


def step_cone(survey: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Peak of one cone of which all columns are read."""
    before = peak_mb()
    opened = catalog.open(survey)
    assert opened.sb2.cone(*options.at, 3.0).load().sizes["exposure"]
    return {"cone_mb": peak_mb() - before}


def answers(survey: Path, positions: int) -> dict[str, Any]:
    opened = catalog.open(survey)
    rng = np.random.default_rng(2)
    rows = opened.sizes["exposure"]
    some = opened[["obsid", "ra", "dec"]].isel(exposure=np.sort(rng.choice(rows, QUESTIONS))).load()
    stars = list(zip(*(some[name].values.tolist() for name in ("obsid", "ra", "dec")), strict=True))
    rng.shuffle(stars)

    def median(question: Callable[[Any, int, float, float], Any], asked: Any, times: int = QUESTIONS) -> float:
        return float(np.median([best(lambda star=star: question(asked, *star)) for star in stars[:times]]))

    result = {
        "cone_ms": median(lambda cat, _, ra, dec: cat.sb2.cone(ra, dec, 3.0), opened),
        "cone_all_ms": median(lambda cat, _, ra, dec: cat.sb2.cone(ra, dec, 3.0).load(), opened, 50),
        "obsid_ms": median(lambda cat, obsid, *_: cat.sb2.source(obsid), opened),
    }
    place = Survey(survey)
    assert place.current is not None
    index = place.catalog_index(place.current.name)
    hidden = index.with_suffix(".hidden")
    index.rename(hidden)
    try:
        plain = catalog.open(survey)
    finally:
        hidden.rename(index)
    result["slow_cone_ms"] = median(lambda cat, _, ra, dec: cat.sb2.cone(ra, dec, 3.0), plain, 5)
    result["slow_obsid_ms"] = median(lambda cat, obsid, *_: cat.sb2.source(obsid), plain, 5)
    for obsid, ra, dec in stars[:20]:
        assert opened.sb2.cone(ra, dec, 3.0).identical(plain.sb2.cone(ra, dec, 3.0))
        assert opened.sb2.source(obsid).identical(plain.sb2.source(obsid))

    def raw() -> None:
        for name in RULE_COLUMNS:
            stores.read_columns(current, [name])

    current = place.current
    pairs = [(milliseconds(raw), milliseconds(lambda: opened.sb2.candidates())) for _ in range(3)]
    result["raw_ms"], result["rule_ms"] = (float(min(values)) for values in zip(*pairs, strict=True))
    result["rule_over_raw"] = result["rule_ms"] / result["raw_ms"]
    result["candidates"] = opened.sb2.candidates().sizes["exposure"]
    words = "pb_pct_J_16[0] > 0.6 and snr_B > 20 and not quality_B & UNFAMILIAR"
    result["where_ms"] = milliseconds(lambda: opened.sb2.where(words))
    near = rng.integers(0, rows, positions)
    result["crossmatch_s"] = (
        milliseconds(
            lambda: opened.sb2.crossmatch(
                {"ra": opened["ra"].values[near], "dec": opened["dec"].values[near] + 1e-4}, 3.0, unit="deg"
            )
        )
        / 1e3
    )
    result["at"] = [stars[0][1], stars[0][2]]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_900_000)
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep what was made, and use it again")
    parser.add_argument("--step", choices=("publish", "open", "cone"), help=argparse.SUPPRESS)
    parser.add_argument("--at", type=float, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step = {"publish": step_publish, "open": step_open, "cone": step_cone}[options.step]
        print(json.dumps(step(options.folder, options)))
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder)) if not options.keep else options.folder
    survey = folder / "survey"
    for made in (survey, folder / "few"):
        (made / "releases").mkdir(parents=True, exist_ok=True)
    try:
        few = options.rows // 5
        smaller = in_a_process("publish", folder / "few", "--rows", str(few))
        published = in_a_process("publish", survey, "--rows", str(options.rows))
        grown = published.pop("peak_mb") - smaller["peak_mb"]
        published["client_bytes_per_row"] = grown * 2**20 / (options.rows - few)
        print(
            f"published {options.rows} rows in {published['publish_s']:.1f} s, the index of which in "
            f"{published['index_s']:.1f} s; {published['publish_cpu_s']:.1f} s of a core; "
            f"{published['client_bytes_per_row']:.0f} bytes a row on the client"
        )
        opening = []
        for _ in range(3):
            forget(survey / "catalogs")
            opening.append(in_a_process("open", survey))
        result = answers(survey, options.positions)
        where = [str(value) for value in result.pop("at")]
        result |= in_a_process("cone", survey, "--at", *where)
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    result |= {name: float(np.median([one[name] for one in opening])) for name in opening[0]}
    run_seconds = RUN_CORE_HOURS * 3600.0 / CORES * options.rows / 5_900_000
    print(
        f"open {result['open_ms']:.1f} ms ({result['open_cpu_ms']:.1f} of a core); cone {result['cone_ms']:.2f} ms "
        f"(all columns {result['cone_all_ms']:.1f}; "
        f"without index {result['slow_cone_ms']:.0f}); obsid {result['obsid_ms']:.2f} ms (without "
        f"{result['slow_obsid_ms']:.0f})"
    )
    print(
        f"rule {result['rule_ms']:.0f} ms, its columns alone {result['raw_ms']:.0f} ms; a condition "
        f"{result['where_ms']:.0f} ms; crossmatch of {options.positions} positions {result['crossmatch_s']:.1f} s"
    )
    print(
        json.dumps(
            {
                "name": "catalog",
                "value": round(result["cone_ms"], 3),
                "unit": "ms",
                "baseline": round(result["slow_cone_ms"], 1),
                "ratio": round(result["slow_cone_ms"] / result["cone_ms"], 1),
                "rows": options.rows,
                **{name: round(value, 3) for name, value in result.items()},
                **{name: round(value, 2) for name, value in published.items()},
                "publish_over_run": round(published["publish_cpu_s"] / run_seconds, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
