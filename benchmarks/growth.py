"""What grows with a survey: memory of client and scheduler, files, and what publishing costs; up to ten times DR12.

For each of some sizes, a survey without spectra is made through the real ingestion and the real run, on a real cluster:
only what workers do with spectra is made up (``made/survey.py``), so that a shard takes 0.1 s instead of half a minute.
Each step runs in a process of its own, whose peak of memory (VmHWM) is the step's:

* ``ingest``: a folder into an empty survey. ``again``: the same folder once more, where every row is known.
* ``plan``: which shards are to be computed, none of which is. ``replan``: with the second release, all of them done,
  each result compared with its marker's hash. ``run``: all of a run. ``idle``: a run with nothing to do.
* ``publish``: merging the results, checksums, the index. ``index``: the index alone. ``open``: the catalog.

Bytes a row are the growth of a peak from the smallest size to the largest. A run's core-hours are those that
``projection.py`` measures (``--core-hours``, for 5.9 million exposures; the default was measured in mixed precision),
and a release's bytes those that ``jobs/sizing.py`` states. The table's figures for more rows than the largest size
are extrapolated, in straight lines.

    python benchmarks/growth.py [--rows 100000 500000 2000000 6000000] [--core-hours 9.2] [--folder DIR]

Takes half an hour and 6 GB of disk; ``--rows 20000 100000`` takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from distributed import Client
from made import survey as made
from made.rows import VISITS

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address, Local
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.ingest import ingestion
from twinlines.pipeline.ingest.report import IngestReport
from twinlines.pipeline.jobs.sizing import STORED_BYTES
from twinlines.pipeline.schema import CATALOG, EXPOSURES
from twinlines.pipeline.survey import compute, plan, publication
from twinlines.pipeline.survey.compute import RunReport
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan
from twinlines.pipeline.survey.runs import Recipe

SIZES = (100_000, 500_000, 2_000_000, 6_000_000)
RECIPE = "recipe.json"
CORE_HOURS = 9.2  # of DR8, in mixed precision
DR8 = 5_900_000
RELEASES = {"DR8": DR8, "DR12": 15_000_000, "ten times DR12": 150_000_000}
CORES = (16, 64)
EFFICIENCY = 0.9  # of several cores, as projection.py has it
MOST_BYTES, MOST_SHARE = 100.0, 0.02
MIB = 2.0**20

Measured = dict[str, float]


def write_recipe(folder: Path) -> None:
    """Write down the recipe of the runs here: all of it is real. Steps that a user's need no torch for do without."""
    from twinlines.models import checkpoint
    from twinlines.pipeline.spectra.inference import NUMERICS, SHIPPED_WEIGHTS, InferenceParameters

    digest = checkpoint.digest(SHIPPED_WEIGHTS)
    about = [str(SHIPPED_WEIGHTS), digest, InferenceParameters().to_json(), NUMERICS]
    (folder / RECIPE).write_text(json.dumps(about))


def recipe(survey: Path) -> Recipe:
    weights, digest, parameters, numerics = json.loads((survey.parent / RECIPE).read_text())
    return Recipe(Path(weights), digest, parameters, numerics)


def peak(process: int | str = "self") -> float:
    """Largest memory that a process ever had, MiB."""
    said = Path(f"/proc/{process}/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024.0


@contextmanager
def scheduler(workers: int) -> Iterator[tuple[str, int]]:
    """Start a scheduler and its workers in a process of their own; yields address and process."""
    command = [sys.executable, __file__, "--serve", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), child.pid
        finally:
            child.communicate("")


def serve(workers: int) -> None:
    with launch(Local(n_workers=workers)) as client:
        print(client.cluster.scheduler_address, flush=True)
        sys.stdin.read()


@contextmanager
def without_spectra(rows: int) -> Iterator[None]:
    """Let tasks make up what they would read and compute; the client's own work stays as it is."""
    with ExitStack() as stack:
        stand_ins = (
            (ingestion, "walk", made.walker(rows)),
            (ingestion, "scan", made.scan),
            (ingestion, "write_rows", made.write_rows),
            (compute, "compute_shard", made.compute_shard),
        )
        for module, name, stand_in in stand_ins:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield


# The steps: each returns what was measured of it besides time and memory.


def ingest(client: Client, survey: Path, rows: int, name: str) -> IngestReport:
    with without_spectra(rows):
        return ingestion.ingest(client, survey, survey, name, ignore_plan=True)


def run(client: Client, survey: Path, rows: int, release: str) -> RunReport:
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters

    with without_spectra(rows):
        parameters = InferenceParameters()
        return compute.run(
            client,
            survey,
            weights=SHIPPED_WEIGHTS,
            parameters=parameters,
            release=release,
            loader=made.load,
            ignore_plan=True,
        )


def step_ingest(survey: Path, rows: int, client: Client) -> Measured:
    report = ingest(client, survey, rows, "dr8")
    assert (report.rows, report.new, len(report.quarantined)) == (rows, rows, 0), report
    return {}


def step_again(survey: Path, rows: int, client: Client) -> Measured:
    report = ingest(client, survey, rows, "dr9")
    assert (report.rows, report.unchanged) == (0, rows), report
    return {}


def step_run(survey: Path, rows: int, client: Client) -> Measured:
    report = run(client, survey, rows, "dr8")
    assert (report.complete, report.rows_computed) == (True, rows), report
    return {}


def step_idle(survey: Path, rows: int, client: Client) -> Measured:
    report = run(client, survey, rows, "dr8")
    assert (report.rows, report.computed, report.published) == (rows, 0, False), report
    return {}


def planned(survey: Path, release: str, *, verify: bool) -> Plan:
    place, how = Survey.at(survey), recipe(survey)
    of_recipe = place.run(how.key)
    of_recipe.begin(how, EXPOSURES.shard_rows, place.next_start_number)
    return plan.make(place, of_recipe, release=release, verify=verify)


def step_plan(survey: Path, rows: int) -> Measured:
    todo = planned(survey, "dr8", verify=True)
    assert sum(task.rows for task in todo.missing) == todo.rows == rows
    return {"shards": len(todo.tasks)}


def step_replan(survey: Path, rows: int) -> Measured:
    todo = planned(survey, "dr9", verify=True)
    assert (len(todo.releases), todo.rows, todo.missing) == (2, rows, ())
    return {}


def step_publish(survey: Path, _rows: int) -> Measured:
    place = Survey.at(survey)
    shutil.rmtree(place.catalogs_folder)
    todo = planned(survey, "dr8", verify=False)
    began, of_a_core = time.perf_counter(), time.process_time()
    publication.publish(place, todo, recipe(survey))
    return {"publish_s": time.perf_counter() - began, "publish_core_s": time.process_time() - of_a_core}


def step_index(survey: Path, _rows: int) -> Measured:
    place = Survey.at(survey)
    assert place.current is not None
    place.catalog_index(place.current.name).unlink()
    publication.write_index(place, place.current.name)
    return {}


def step_open(survey: Path, rows: int) -> Measured:
    assert catalog.open(survey).sizes["exposure"] == rows
    return {}


WITH_CLUSTER = {"ingest": step_ingest, "run": step_run, "idle": step_idle, "again": step_again}
ALONE = {"plan": step_plan, "publish": step_publish, "index": step_index, "open": step_open, "replan": step_replan}
ORDER = ("ingest", "plan", "run", "publish", "index", "open", "idle", "again", "replan")


def measure(step: str, survey: Path, rows: int, address: str) -> Measured:
    """Do a step in this process: what it says, its time, and the peak of memory."""

    def timed(work: Callable[[], Measured]) -> Measured:
        began, of_a_core = time.perf_counter(), time.process_time()
        said = work()
        return {"seconds": time.perf_counter() - began, "core_s": time.process_time() - of_a_core, **said}

    if step in ALONE:
        return {**timed(lambda: ALONE[step](survey, rows)), "peak_mib": peak()}
    with launch(Address(address)) as client:
        return {**timed(lambda: WITH_CLUSTER[step](survey, rows, client)), "peak_mib": peak()}


def stored(folder: Path) -> Measured:
    """Files of a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def files_of(survey: Path) -> dict[str, Measured]:
    """Files and bytes of a survey's parts, by what they are."""
    place = Survey.at(survey)
    assert place.current is not None
    one = place.run(recipe(survey).key).folder
    return {
        "release": stored(survey / "releases" / "dr8"),
        "results": stored(one / "results"),
        "markers": stored(one / "done"),
        "catalog": stored(place.current),
        "index": {"files": 1, "bytes": place.catalog_index(place.current.name).stat().st_size},
    }


def of_size(folder: Path, rows: int) -> dict[str, Any]:
    """Make a survey of so many rows, and measure each step; removes it."""
    survey = folder / f"survey-{rows}"
    survey.mkdir()
    if not (folder / RECIPE).exists():
        write_recipe(folder)
    measured: dict[str, Any] = {"rows": rows}
    try:
        with scheduler(2) as (address, process):
            for step in ORDER:
                command = [sys.executable, __file__, "--step", step, "--folder", str(survey), "--rows", str(rows)]
                done = subprocess.run(
                    [*command, "--address", address], stdout=subprocess.PIPE, text=True, check=True, cwd=folder
                )
                measured[step] = json.loads(done.stdout.splitlines()[-1])
                said = ", ".join(f"{name} {value:.4g}" for name, value in measured[step].items())
                print(f"{rows} rows, {step}: {said}", flush=True)
                if step == "open":
                    measured["stored"] = files_of(survey)
            measured["scheduler_mib"] = peak(process)
    finally:
        shutil.rmtree(survey)
    return measured


# What it comes to.


def bytes_per_row(sizes: list[dict[str, Any]], step: str) -> float:
    """What the peak of a step grows by, from the smallest size to the largest."""
    first, last = sizes[0], sizes[-1]
    return float((last[step]["peak_mib"] - first[step]["peak_mib"]) * MIB / (last["rows"] - first["rows"]))


def missing_files(rows: int) -> int:
    """Files of a release's pixels and S/N, which were not made: one of each variable in a shard."""
    return len(MADE_UP) * math.ceil(rows / EXPOSURES.shard_rows)


MADE_UP = ("snr", "exptime", "flux", "ivar", "loglam", "mask")


def projected(sizes: list[dict[str, Any]], rows: int, core_hours: float) -> dict[str, Any]:
    """What a survey of so many rows would take, in straight lines from the largest size and the growth up to it."""
    last = sizes[-1]
    beyond, ratio = rows - last["rows"], rows / last["rows"]
    shards = math.ceil(rows / EXPOSURES.shard_rows)
    parts = math.ceil(rows / CATALOG.shard_rows)
    whole_catalog = last["stored"]["catalog"]["files"] - len(CATALOG.variables) * (
        math.ceil(last["rows"] / CATALOG.shard_rows) - parts
    )
    files = {
        "release": shards * len(EXPOSURES.variables),
        "results and markers": 2 * shards,
        "catalog and index": whole_catalog + 1,
    }
    memory = {step: last[step]["peak_mib"] + bytes_per_row(sizes, step) * beyond / MIB for step in ORDER}
    growth = (last["scheduler_mib"] - sizes[0]["scheduler_mib"]) / (last["rows"] - sizes[0]["rows"])
    run_core_s = core_hours * 3600.0 * rows / DR8
    publish_s = last["publish"]["publish_s"] * ratio
    return {
        "rows": rows,
        "shards": shards,
        "core_hours": run_core_s / 3600.0,
        "files": files,
        "release_gb": STORED_BYTES * rows / 1e9,
        "results_gb": (last["stored"]["results"]["bytes"] + last["stored"]["markers"]["bytes"]) * ratio / 1e9,
        "catalog_gb": (last["stored"]["catalog"]["bytes"] + last["stored"]["index"]["bytes"]) * ratio / 1e9,
        "client_mib": max(memory.values()),
        "client_step": max(memory, key=lambda step: memory[step]),
        "scheduler_mib": last["scheduler_mib"] + growth * beyond,
        "publish_s": publish_s,
        "index_s": last["index"]["seconds"] * ratio,
        "publish_share": last["publish"]["publish_core_s"] * ratio / run_core_s,
        "publish_share_of_wall": {f"{n} cores": publish_s * n * EFFICIENCY / run_core_s for n in CORES},
        "extrapolated": beyond > 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="exposures of the surveys that are made")
    parser.add_argument("--core-hours", type=float, default=CORE_HOURS, help="of a run of 5.9 million exposures")
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    parser.add_argument("--step", choices=ORDER, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.rows[0], options.address)))
        return
    rows = sorted(size // VISITS * VISITS for size in options.rows)
    if len(set(rows)) < 2:
        parser.error("--rows: growth is between sizes; give two or more")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sizes = [of_size(Path(folder), size) for size in rows]
    report(sizes, options.core_hours)


def report(sizes: list[dict[str, Any]], core_hours: float) -> None:
    """Print what was measured and what it comes to, and the JSON line."""
    growth = {step: bytes_per_row(sizes, step) for step in ORDER}
    print(f"\nstep        {'seconds':>8} {'of a core':>9} {'MiB':>6} {'bytes a row':>11}   at {sizes[-1]['rows']} rows")
    for step in ORDER:
        last = sizes[-1][step]
        print(f"{step:11} {last['seconds']:8.1f} {last['core_s']:9.1f} {last['peak_mib']:6.0f} {growth[step]:11.1f}")
    print("scheduler, MiB: " + ", ".join(f"{size['scheduler_mib']:.0f}" for size in sizes))
    table = {name: projected(sizes, rows, core_hours) for name, rows in RELEASES.items()}
    for name, values in table.items():
        print(f"\n{name}, {values['rows']} exposures{': extrapolated' if values['extrapolated'] else ''}")
        for what, value in values.items():
            print(f"  {what:22} {json.dumps(value) if isinstance(value, dict | str) else f'{value:.6g}'}")
    most = max(growth.values())
    share = max(values["publish_share"] for values in table.values())
    print(f"\nat most {most:.0f} bytes a row ({MOST_BYTES:.0f} allowed); publishing {share:.2%} of a run's core-hours")
    result = {
        "name": "growth",
        "value": most,
        "unit": "bytes/row",
        "baseline": MOST_BYTES,
        "ratio": MOST_BYTES / most,
        "core_hours_of_dr8": core_hours,
        "client_bytes_per_row": growth,
        "publish_share": share,
        "within": most <= MOST_BYTES and share <= MOST_SHARE,
        "sizes": sizes,
        "projected": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
