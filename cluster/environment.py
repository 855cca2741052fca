"""The environment variables of every worker, whichever way it is started, and dask's configuration of all clusters."""

from __future__ import annotations

_POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
ONE_THREAD = {**{f"{pool}_NUM_THREADS": "1" for pool in _POOLS}, "BLOSC_NTHREADS": "1"}
"""One process per core beats threads, and the two together beat neither."""

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_ARENA_MAX": "1",
}
"""Freed memory is kept for the next array. Dask's default hands every array above 128 kB back to the system, whose
zeroed pages then cost more than the computing. It is kept in one place for all threads: each of Zarr's would keep its
own, and a worker's memory would grow with the number of shards that it has written."""

NO_PROFILE = {"distributed.worker.profile.enabled": False}
"""Dask's sampling profiler is off. It keeps call trees of every second of the last hour, 80 kB for each, so that a
worker's memory would grow for an hour. The dashboard's profile page stays empty for it."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Python puts the working folder first on the path of what it runs by -m and -c, as all workers are run: a
``signal.py`` or a ``fitsio/`` that lies there would be run in place of the true one."""

WORKER_ENVIRONMENT = {
    **KEEP_MEMORY,
    **ONE_THREAD,
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    **SAFE_PATH,
}
"""All of it. The allocator and the thread pools read it when a process starts, so it must be there before Python is."""

NANNY_CONFIG = {"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT, **NO_PROFILE}
"""The same as dask's configuration, for workers that a nanny of this configuration starts."""

FEW_MESSAGES = {"distributed.admin.low-level-log-length": 100}
"""Dask keeps the last thousand messages to each worker, for its developers, and with them what tasks were handed: on a
large cluster, all that a job ever handed out."""
