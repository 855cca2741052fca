"""What a job will need, predicted from its plan, against what is there: a job that cannot end well does not start.

Memory is per worker, as Dask limits it: a worker that needs more is restarted again and again. Constants are measured
(one thread, Linux, spectra of the survey's size; ``benchmarks/survey.py`` measures them again), and predictions carry a
margin.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dask.utils import format_bytes
from distributed import Client

from twinlines.cluster.workers import workers_of
from twinlines.pipeline.arms import NATIVE_PIXELS
from twinlines.pipeline.schema import EXPOSURES, Schema

ROW_BYTES = 2 * NATIVE_PIXELS * (3 * 4 + 1)
"""Pixels of an exposure in memory, bytes: flux, inverse variance, wavelength and mask of both arms."""

STORED_BYTES = 55_000
"""Bytes of an exposure in a release: 54,600 measured on mock spectra, 54,300 on random ones; wavelengths compress well,
noise does not."""

RESULT_BYTES = 300
"""Bytes of an exposure in a run's results, and about as many again in a catalog: 260 measured."""

INGEST_WORKER = 200 << 20
"""Memory of a worker that ingests, without its shard, bytes: Python, Dask and Zarr."""

INGEST_COPIES = 1.9
"""Shards in memory, at most, while one is written, in units of its pixels: 1.75 measured."""

RUN_WORKER = 550 << 20
"""Memory of a worker that computes, without its block, bytes: torch, the library and the ensemble that ships."""

RUN_COPIES = 6.0
"""Blocks in memory, in units of the pixels of one: two that are read, and what is made of one; 5.5 measured."""

MEMORY_MARGIN = 1.25
"""A worker takes no new task from 80 % of its limit on."""

DISK_MARGIN = 1.15
"""Spectra may compress worse than those that were measured."""


class SizingError(RuntimeError):
    """A job needs more memory or space than there is."""


@dataclass(frozen=True)
class Need:
    """What a job is predicted to need, margins included."""

    what: str
    """The job, in words."""
    memory: int
    """Memory of one worker, bytes."""
    disk: int
    """Space that its files will take, bytes."""


def of_ingest(rows: int, schema: Schema = EXPOSURES) -> Need:
    """Need of writing a release of so many exposures."""
    shard = min(rows, schema.shard_rows) * ROW_BYTES
    return Need(
        f"writing {rows} exposures",
        int(MEMORY_MARGIN * (INGEST_WORKER + INGEST_COPIES * shard)),
        int(DISK_MARGIN * STORED_BYTES * rows),
    )


def of_run(rows_missing: int, rows: int, block_rows: int) -> Need:
    """Need of computing some exposures, and of a catalog of all."""
    block = min(rows_missing, block_rows) * ROW_BYTES
    return Need(
        f"computing {rows_missing} exposures",
        int(MEMORY_MARGIN * (RUN_WORKER + RUN_COPIES * block)) if rows_missing else 0,
        int(DISK_MARGIN * RESULT_BYTES * (rows_missing + rows)),
    )


def require(client: Client, folder: Path, need: Need, *, ignore: bool = False) -> None:
    """Compare a need with the workers' limits and the space that is left in ``folder``.

    Parameters
    ----------
    client
        Client of the cluster that is to do it.
    folder
        Where the files will be.
    need
        What is needed.
    ignore
        Let it pass all the same.

    Raises
    ------
    SizingError
        If something does not suffice: what is needed, what is there, and what to do.
    """
    problems = []
    limits = {address: int(worker.get("memory_limit") or 0) for address, worker in workers_of(client).items()}
    small = {address: limit for address, limit in limits.items() if 0 < limit < need.memory}  # 0 is no limit
    if small:
        address, limit = min(small.items(), key=lambda item: item[1])
        problems.append(
            f"each worker needs about {format_bytes(need.memory)}, but {len(small)} of {len(limits)} may use less "
            f"({address}: {format_bytes(limit)}); start fewer workers (--workers), or give each more memory "
            "(local:memory=...)"
        )
    free = shutil.disk_usage(folder).free
    if free < need.disk:
        problems.append(
            f"about {format_bytes(need.disk)} are needed in {folder}, where {format_bytes(free)} are left; free some "
            "space"
        )
    if problems and not ignore:
        raise SizingError(
            f"{need.what}: {'; and '.join(problems)}. Nothing was started; --ignore-plan starts it all the same"
        )
