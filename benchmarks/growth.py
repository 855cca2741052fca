"""What grows with a survey: memory of client and scheduler, files, and what publishing costs; up to ten times DR12.

Surveys without spectra are made up (``made/``), and each step runs in a process of its own, whose peak of memory
(VmHWM) is the step's. Of stores that are made at once, of ``--rows`` exposures:

* ``settle``: what an ingestion holds that finds nothing new: the folder's rows, compared with those of the release.
* ``plan``: which shards are to be computed, none of which is done. ``replan``: all are, and each result is compared
  with its marker's hash.
* ``publish``: merging the results, checksums, the index. ``index``: the index alone. ``open``: the catalog.

Of ``--task-rows`` exposures, through a real cluster, whose workers do all of a task but what has to do with spectra:

* ``ingest``: a folder of files into an empty survey. ``again``: the same folder once more, as another release.
* ``run``: all of a run, publication included. ``idle``: a run with nothing to do.

Bytes a row are the growth of a peak from the smallest size to the largest. A run's core-hours are those that
``projection.py`` measures (``--core-hours``, for 5.9 million exposures; the default was measured in mixed precision),
and a release's bytes those that ``jobs/sizing.py`` states. What the table at the end says of more rows than were made
is extrapolated, in straight lines.

    python benchmarks/growth.py [--rows 100000 500000 2000000 6000000] [--task-rows 100000 1000000] [--folder DIR]

Takes ten minutes of a core and 4 GB of disk; with ``--rows 20000 50000 --task-rows 20000 50000``, two minutes.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client
from made import survey as made
from made.processes import peak, scheduler
from made.rows import VISITS

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.ingest import ingestion
from twinlines.pipeline.ingest.index import Index
from twinlines.pipeline.ingest.report import IngestReport
from twinlines.pipeline.ingest.settling import KNOWN_COLUMNS, settle
from twinlines.pipeline.jobs.sizing import STORED_BYTES
from twinlines.pipeline.schema import CATALOG, EXPOSURES
from twinlines.pipeline.survey import compute, plan, publication
from twinlines.pipeline.survey.compute import RunReport
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.plan import Plan

SIZES = (100_000, 500_000, 2_000_000, 6_000_000)
TASK_SIZES = (100_000, 1_000_000)
CORE_HOURS = 9.2  # of DR8, in mixed precision
DR8 = 5_900_000
RELEASES = {"DR8": DR8, "DR12": 15_000_000, "ten times DR12": 150_000_000}
CORES = (16, 64)
EFFICIENCY = 0.9  # of several cores, as projection.py has it
MOST_BYTES, MOST_SHARE = 100.0, 0.02
MIB = 2.0**20

Measured = dict[str, float]


# The steps: each returns what was measured of it besides time and memory. First those of a cluster.


def ingest(client: Client, survey: Path, rows: int, name: str) -> IngestReport:
    with made.without_spectra(rows):
        return ingestion.ingest(client, survey, survey, name, ignore_plan=True)


def run(client: Client, survey: Path, rows: int, release: str) -> RunReport:
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters

    with made.without_spectra(rows):
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
    place, how = Survey.at(survey), made.recipe(survey)
    of_recipe = place.run(how.key)
    of_recipe.begin(how, EXPOSURES.shard_rows, place.next_start_number)
    return plan.make(place, of_recipe, release=release, verify=verify)


# And those of stores that are there.


def step_settle(survey: Path, rows: int) -> Measured:
    (release,) = Survey.at(survey).releases
    index = Index.concatenate(made.indexes(rows), rows)
    settled = settle(index, release.key_pieces(ingestion.KNOWN_ROWS, KNOWN_COLUMNS))
    assert (settled.strangers, int(settled.kept.sum()), bool(settled.new.any())) == ((), rows, False)
    return {}


def step_plan(survey: Path, rows: int) -> Measured:
    todo = planned(survey, "dr8", verify=True)
    assert sum(task.rows for task in todo.missing) == todo.rows == rows
    return {"shards": len(todo.tasks)}


def step_replan(survey: Path, rows: int) -> Measured:
    todo = planned(survey, "dr8", verify=True)
    assert (todo.rows, todo.missing) == (rows, ())
    return {}


def step_publish(survey: Path, _rows: int) -> Measured:
    place = Survey.at(survey)
    todo = planned(survey, "dr8", verify=False)
    began, of_a_core = time.perf_counter(), time.process_time()
    publication.publish(place, todo, made.recipe(survey))
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
ALONE = {
    "settle": step_settle,
    "plan": step_plan,
    "replan": step_replan,
    "publish": step_publish,
    "index": step_index,
    "open": step_open,
}


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
    one = place.run(made.recipe(survey).key).folder
    return {
        "release": stored(survey / "releases" / "dr8"),
        "results": stored(one / "results"),
        "markers": stored(one / "done"),
        "catalog": stored(place.current),
        "index": {"files": 1, "bytes": place.catalog_index(place.current.name).stat().st_size},
    }


def in_a_process(step: str, survey: Path, rows: int, address: str = "") -> Measured:
    """What a step measures in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(survey), "--rows", str(rows)]
    done = subprocess.run([*command, "--address", address], stdout=subprocess.PIPE, text=True, check=True)
    measured: Measured = json.loads(done.stdout.splitlines()[-1])
    print(f"{rows} rows, {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in measured.items()), flush=True)
    return measured


def of_stores(folder: Path, rows: int) -> dict[str, Any]:
    """Make a survey of so many rows at once, and measure each step; removes it."""
    survey = folder / f"survey-{rows}"
    measured: dict[str, Any] = {"rows": rows}
    try:
        made.make_release(survey, "dr8", rows)
        for step in ALONE:
            if step == "replan":
                todo = planned(survey, "dr8", verify=False)
                made.make_results(todo.run, todo.tasks)
            measured[step] = in_a_process(step, survey, rows)
        measured["stored"] = files_of(survey)
    finally:
        shutil.rmtree(survey, ignore_errors=True)
    return measured


def of_tasks(folder: Path, rows: int) -> dict[str, Any]:
    """Ingest and run a survey of so many rows, and measure each step; removes it."""
    survey = folder / f"through-tasks-{rows}"
    survey.mkdir()
    measured: dict[str, Any] = {"rows": rows}
    try:
        with scheduler(2) as (address, process):
            for step in WITH_CLUSTER:
                measured[step] = in_a_process(step, survey, rows, address)
            measured["scheduler"] = {"peak_mib": peak(process)}
    finally:
        shutil.rmtree(survey, ignore_errors=True)
    return measured


# What it comes to.


def growth(sizes: list[dict[str, Any]], step: str) -> float:
    """Bytes by which the peak of a step grows for a row, from the smallest size to the largest."""
    first, last = sizes[0], sizes[-1]
    return float((last[step]["peak_mib"] - first[step]["peak_mib"]) * MIB / (last["rows"] - first["rows"]))


def at(sizes: list[dict[str, Any]], step: str, rows: int) -> float:
    """Peak of a step with so many rows, MiB: on the straight line through the smallest size and the largest."""
    return float(sizes[-1][step]["peak_mib"] + growth(sizes, step) * (rows - sizes[-1]["rows"]) / MIB)


def projected(stores: list[dict[str, Any]], tasks: list[dict[str, Any]], rows: int, core_hours: float) -> Measured:
    """What a survey of so many rows would take."""
    last = stores[-1]
    ratio = rows / last["rows"]
    shards, parts = math.ceil(rows / EXPOSURES.shard_rows), math.ceil(rows / CATALOG.shard_rows)
    gigabytes = {name: part["bytes"] * ratio / 1e9 for name, part in last["stored"].items()}
    memory = [at(stores, step, rows) for step in ALONE] + [at(tasks, step, rows) for step in WITH_CLUSTER]
    run_core_s = core_hours * 3600.0 * rows / DR8
    publish_s, publish_core_s = (last["publish"][name] * ratio for name in ("publish_s", "publish_core_s"))
    return {
        "core_hours": run_core_s / 3600.0,
        "shards": shards,
        "files_release": shards * len(EXPOSURES.variables),
        "files_results_and_markers": 2 * shards,
        "files_catalog": parts * len(CATALOG.variables),
        "release_gb": STORED_BYTES * rows / 1e9,
        "results_gb": gigabytes["results"] + gigabytes["markers"],
        "catalog_gb": gigabytes["catalog"] + gigabytes["index"],
        "client_mib": max(memory),
        "scheduler_mib": at(tasks, "scheduler", rows),
        "plan_s": last["plan"]["seconds"] * ratio,
        "publish_s": publish_s,
        "publish_core_s": publish_core_s,
        "index_s": last["index"]["seconds"] * ratio,
        "publish_share": publish_core_s / run_core_s,
        **{f"publish_share_of_wall_{n}_cores": publish_core_s * n * EFFICIENCY / run_core_s for n in CORES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="exposures of the surveys that are made")
    parser.add_argument("--task-rows", type=int, nargs="+", default=TASK_SIZES, help="exposures that go through tasks")
    parser.add_argument("--core-hours", type=float, default=CORE_HOURS, help="of a run of 5.9 million exposures")
    parser.add_argument("--folder", type=Path, help="where to work; by default the system's temporary folder")
    parser.add_argument("--step", choices=(*ALONE, *WITH_CLUSTER), help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.rows[0], options.address)))
        return
    rows, task_rows = (
        sorted({size // VISITS * VISITS for size in asked}) for asked in (options.rows, options.task_rows)
    )
    if min(len(rows), len(task_rows)) < 2:
        parser.error("--rows, --task-rows: growth is between sizes; give two or more of each")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made.write_recipe(Path(folder))
        stores = [of_stores(Path(folder), size) for size in rows]
        tasks = [of_tasks(Path(folder), size) for size in task_rows]
    report(stores, tasks, options.core_hours)


def report(stores: list[dict[str, Any]], tasks: list[dict[str, Any]], core_hours: float) -> None:
    """Print what was measured and what it comes to, and the JSON line."""
    bytes_a_row = {step: growth(stores, step) for step in ALONE} | {step: growth(tasks, step) for step in WITH_CLUSTER}
    for sizes, steps in ((stores, ALONE), (tasks, WITH_CLUSTER)):
        last = sizes[-1]
        print(f"\nat {last['rows']} rows: seconds, of a core, peak in MiB, bytes a row")
        for step in steps:
            numbers = (last[step]["seconds"], last[step]["core_s"], last[step]["peak_mib"], bytes_a_row[step])
            print(f"  {step:8} " + " ".join(f"{number:8.1f}" for number in numbers))
    schedulers = ", ".join(f"{size['scheduler']['peak_mib']:.0f} of {size['rows']} rows" for size in tasks)
    print(f"  scheduler, MiB: {schedulers}; {growth(tasks, 'scheduler'):.1f} bytes a row")
    table = {name: projected(stores, tasks, rows, core_hours) for name, rows in RELEASES.items()}
    print(f"\n{'':30} " + " ".join(f"{name:>15}" for name in RELEASES))
    print(f"{'exposures':30} " + " ".join(f"{rows:15}" for rows in RELEASES.values()))
    for what in table["DR8"]:
        print(f"{what:30} " + " ".join(f"{values[what]:15.5g}" for values in table.values()))
    beyond = [name for name, rows in RELEASES.items() if rows > stores[-1]["rows"]]
    print(f"extrapolated from {stores[-1]['rows']} rows, tasks from {tasks[-1]['rows']}: {', '.join(beyond) or 'none'}")
    most, share = max(bytes_a_row.values()), max(values["publish_share"] for values in table.values())
    print(f"at most {most:.0f} bytes a row ({MOST_BYTES:.0f} allowed); publishing {share:.2%} of a run's core-hours")
    result = {
        "name": "growth",
        "value": most,
        "unit": "bytes/row",
        "baseline": MOST_BYTES,
        "ratio": MOST_BYTES / most if most > 0.0 else None,
        "core_hours_of_dr8": core_hours,
        "client_bytes_per_row": bytes_a_row,
        "scheduler_bytes_per_row": growth(tasks, "scheduler"),
        "publish_share": share,
        "within": most <= MOST_BYTES and share <= MOST_SHARE,
        "stores": stores,
        "tasks": tasks,
        "projected": table,
        "extrapolated": beyond,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
