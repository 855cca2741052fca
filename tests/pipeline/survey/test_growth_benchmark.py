"""The script that measures what grows with a survey, at a size at which nothing does; and what tasks are handed."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tests.places import ROOT
from twinlines.pipeline.jobs import engine

FOLDER = str(ROOT / "benchmarks")
LARGEST = 10_000
"""Bytes of a task's arguments that are few: of the tasks here, each reads or writes a thousand rows of 340 files."""


def _path_begins(folder: str, *, stops: bool = False) -> None:
    """Let the modules beside the scripts be found, or not any more."""
    if stops:
        sys.path.remove(folder)
    else:
        sys.path.insert(0, folder)


@pytest.fixture
def growth(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module, its steps in this process and on the suite's workers."""
    monkeypatch.syspath_prepend(FOLDER)
    client.run(_path_begins, FOLDER)
    module = importlib.import_module("growth")

    def here(step: str, survey: Path, rows: int, address: str = "") -> Any:
        return module.measure(step, survey, rows, address)

    monkeypatch.setattr(module, "in_a_process", here)
    monkeypatch.setattr(module, "scheduler", lambda _workers: nullcontext((client.scheduler.address, "self")))
    yield module
    client.run(_path_begins, FOLDER, stops=True)


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of what each task is handed, as they are handed out."""
    sizes: list[int] = []
    compute = engine.compute

    def measuring(
        client: Client, markers: Any, function: Callable[..., Any], tasks: Iterable[Any], *how: Any, **more: Any
    ) -> Any:
        def measured() -> Iterator[Any]:
            for task in tasks:
                sizes.append(len(pickle.dumps(task)))
                yield task

        return compute(client, markers, function, measured(), *how, **more)

    monkeypatch.setattr(engine, "compute", measuring)
    return sizes


def test_growth_is_measured_and_tasks_are_handed_little(
    growth: Any, handed_out: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    growth.made.write_recipe(tmp_path)
    stores = [growth.of_stores(tmp_path, rows) for rows in (999, 4800)]
    tasks = [growth.of_tasks(tmp_path, rows) for rows in (999, 4800)]
    assert [path.name for path in tmp_path.iterdir()] == [growth.made.RECIPE]
    growth.report(stores, tasks, 9.2)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["client_bytes_per_row"].keys() == {*growth.ALONE, *growth.WITH_CLUSTER}
    assert stores[1]["stored"]["results"]["files"] == stores[1]["stored"]["markers"]["files"] == 2
    assert result["extrapolated"] == ["DR8", "DR12", "ten times DR12"]
    dr8 = result["projected"]["DR8"]
    assert (dr8["shards"], dr8["files_release"], dr8["core_hours"]) == (1441, 1441 * 17, pytest.approx(9.2))
    # Twice 2 and 7 batches to scan; once 1 and 2 shards to write, and to compute.
    assert len(handed_out) == 2 * (2 + 7) + 2 * (1 + 2)
    assert max(handed_out) < LARGEST
