"""From a profile to a connected ``distributed.Client``, and back to nothing when the work is done."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster
from distributed.comm.core import connect
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from twinlines.cluster.profiles import Address, Local, Profile, cores

CONNECT_TIMEOUT = 30
"""Seconds to wait for an existing scheduler to answer, and for its first worker."""

NO_WORKERS_TIMEOUT = "5 minutes"
"""How long tasks wait when every local worker has died and none came back; then they fail instead of waiting on."""

_POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
ONE_THREAD = {**{f"{pool}_NUM_THREADS": "1" for pool in _POOLS}, "BLOSC_NTHREADS": "1"}
"""Environment of a local worker: one process per core beats threads, and the two together beat neither."""

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of a local worker: freed memory is kept for the next array. Dask's default hands every array above 128 kB
back to the system, whose zeroed pages then cost more than the computing. It is kept in one place for all threads: each
of Zarr's would keep its own, and a worker's memory would grow with the number of shards that it has written."""


class LaunchError(RuntimeError):
    """A cluster cannot be launched or reached."""


@contextmanager
def launch(profile: Profile) -> Iterator[Client]:
    """Yield a client of the cluster that ``profile`` describes; afterwards stop what was started here, and only that.

    Raises
    ------
    LaunchError
        If a scheduler's address does not answer, or has no worker.
    """
    match profile:
        case Local():
            with _local(profile) as client:
                yield client
        case Address():
            with _existing(profile) as client:
                yield client


@contextmanager
def _local(profile: Local) -> Iterator[Client]:
    n_workers = profile.n_workers or cores()
    memory = profile.memory or int(MEMORY_LIMIT) // n_workers
    environment = {**KEEP_MEMORY, **ONE_THREAD}
    with (
        tempfile.TemporaryDirectory(prefix="twinlines-", ignore_cleanup_errors=True) as scratch,
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": environment,
                "distributed.scheduler.no-workers-timeout": NO_WORKERS_TIMEOUT,
            }
        ),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # The HTTP servers start in any case; without an address of their own they would listen on every interface.
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=memory,
            local_directory=scratch,
            # A task's error reaches whoever asked for the task; on the terminal, too, it would drown everything else.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


async def _knock(address: str) -> None:
    """Connect and hang up.

    A ``Client`` that fails to connect leaves its thread behind, and may block for ever later,
    when the garbage collector closes it in the middle of another one's start.
    """
    credentials = Security().get_connection_args("client")
    comm = await connect(address, timeout=CONNECT_TIMEOUT, **credentials)
    await comm.close()


@contextmanager
def _existing(profile: Address) -> Iterator[Client]:
    try:
        asyncio.run(_knock(profile.address))
        client = Client(profile.address, timeout=CONNECT_TIMEOUT)
    except (OSError, TypeError) as error:
        # TypeError: a TLS address without credentials.
        hint = "is it running, and does its port accept connections from here?"
        if profile.address.startswith("tls://"):
            hint = (
                "set the credentials, distributed.comm.tls (ca-file, client.cert, client.key), in dask's configuration"
            )
        raise LaunchError(f"no scheduler answers at {profile.address}: {error}; {hint}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        except TimeoutError as error:
            raise LaunchError(
                f"the scheduler at {profile.address} has no worker after {CONNECT_TIMEOUT} s; start one with "
                f"'dask worker {profile.address} --nthreads 1'"
            ) from error
        yield client
