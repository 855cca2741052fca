"""The package dask-jobqueue, which only clusters of SLURM need, without what its import does to this process."""

from __future__ import annotations

import signal
import threading
from types import ModuleType

import dask


def load() -> ModuleType:
    """Import dask-jobqueue, with its part of dask's configuration.

    Its import takes Ctrl-C over, with a handler that ends the process with status 0 and without a word; whatever
    handled it before does so again.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    before = signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    # Only the main thread may set handlers, so that in another one the import has set none.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)
    # Imported while dask.config.set held a key of its section, it loses the section's defaults when that ends.
    if "jobqueue" not in dask.config.config:
        dask_jobqueue.config.reconfigure()
    module: ModuleType = dask_jobqueue
    return module
