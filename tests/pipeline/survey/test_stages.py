"""Blocks that cores prepare for networks that wait: order, results, who works at the same time, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, Lock

import numpy as np
import pytest
import xarray as xr

from twinlines.pipeline.survey.stages import Stages, threads_for

SIZE = 4


@dataclass
class Watched:
    """An inference in two parts that sees whether two threads are in the same part."""

    together: Barrier | None = None
    """Where two preparing threads must meet."""
    poison: int | None = None
    """First row of a block that cannot be prepared."""
    judging: Lock = field(default_factory=Lock)
    prepared: list[int] = field(default_factory=list)

    def __call__(self, block: xr.Dataset) -> xr.Dataset:
        return self.verdict(self.prepare(block))

    def prepare(self, block: xr.Dataset) -> xr.Dataset:
        first = int(block["obsid"].values[0])
        if first == self.poison:
            raise ValueError(f"row {first} is bad")
        if self.together is not None and first < 2 * SIZE:
            self.together.wait()
        self.prepared.append(first)
        return block.assign(half=2.0 * block["obsid"])

    def verdict(self, prepared: xr.Dataset) -> xr.Dataset:
        assert self.judging.acquire(blocking=False), "two threads judge at once"
        try:
            return prepared[["half"]] + 1.0
        finally:
            self.judging.release()


def _read(first: int) -> xr.Dataset:
    rows = np.arange(first, first + SIZE)
    return xr.Dataset({"obsid": ("exposure", rows), "flux": (("exposure", "pixel"), np.ones((SIZE, 3)))})


def _results(stages: Stages, rows: int = 40) -> Iterator[tuple[xr.Dataset, xr.Dataset]]:
    return stages(range(0, rows, SIZE), _read)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_are_those_of_one_block_after_the_other(threads: int) -> None:
    infer = Watched()
    pairs = list(_results(Stages(infer, threads)))
    assert [int(keys["obsid"].values[0]) for keys, _ in pairs] == list(range(0, 40, SIZE))
    for keys, result in pairs:
        assert result["half"].values.tolist() == (2.0 * keys["obsid"].values + 1.0).tolist()


def test_threads_prepare_at_the_same_time() -> None:
    infer = Watched(together=Barrier(2, timeout=30))
    assert len(list(_results(Stages(infer, 2)))) == 10  # else the barrier breaks


def test_tasks_of_one_worker_take_turns_at_the_networks() -> None:
    stages = Stages(Watched(), 2, tasks=3)
    with ThreadPoolExecutor(3) as tasks:
        found = list(tasks.map(lambda _: [float(r["half"].values[0]) for _, r in _results(stages, 80)], range(3)))
    assert found == [found[0]] * 3


@pytest.mark.parametrize("threads", [0, 3])
def test_an_error_comes_at_its_block_and_nothing_is_prepared_for_nobody(threads: int) -> None:
    infer = Watched(poison=8)
    results = _results(Stages(infer, threads), 4000)
    assert [int(next(results)[0]["obsid"].values[0]) for _ in range(2)] == [0, SIZE]
    with pytest.raises(ValueError, match="row 8 is bad"):
        next(results)
    assert len(infer.prepared) < 20


def test_blocks_wait_in_bounded_memory() -> None:
    infer = Watched()
    results = _results(Stages(infer, 4, tasks=2), 4000)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(infer.prepared) <= 4


def test_what_cannot_be_done_in_two_parts_is_done_in_one() -> None:
    infer = Watched()
    pairs = list(_results(Stages(lambda block: infer(block), 4)))
    assert len(pairs) == 10


def test_a_worker_without_a_gpu_prepares_nothing_ahead() -> None:
    assert threads_for("cpu") == 0
    assert threads_for("cuda") >= 1
