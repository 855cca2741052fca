"""dask-jobqueue's SLURM cluster, with jobs that are replaced when all their workers have left.

Imported in the launcher only, since it needs dask-jobqueue. Dask itself notices lost workers one by one, by their
names; where a job has several, none has the job's name, and jobs that end with their walltime would not be replaced.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import dask
from dask.utils import parse_timedelta
from dask_jobqueue import SLURMCluster
from distributed.core import Status

MOST_FAILURES = 5
"""So many jobs that failed are replaced; a site where all fail is not flooded with more."""

_logger = logging.getLogger(__name__)


class SlurmJobs(SLURMCluster):  # type: ignore[misc]
    """A SLURM cluster of a constant number of jobs.

    A job whose workers leave earlier than ``quick`` seconds after they came has not ended but failed.
    """

    def __init__(self, *, quick: float, **options: Any) -> None:
        self._quick = quick
        self._job_at: dict[str, str] = {}  # by the worker's address: scheduler_info may forget one before it is removed
        self._came: dict[str, float] = {}
        self._failures = 0
        super().__init__(**options)

    @property
    def job_ids(self) -> list[str]:
        """SLURM's numbers of the jobs that were submitted and not given up."""
        return [job.job_id for job in self.workers.values() if job.job_id]

    def submit(self, jobs: int) -> None:
        """Submit ``jobs`` jobs.

        Raises
        ------
        RuntimeError
            If sbatch refuses one, with what it says. ``scale`` would only log that.
        """
        for _ in range(jobs):
            self.worker_spec.update(self.new_worker_spec())
        try:
            self.sync(self._correct_state)
        except RuntimeError:
            for job in self._created:
                if job.job_id is None:
                    job.status = Status.failed  # or the cluster would wait for its start when it closes
            raise

    def _job_of(self, worker: object) -> str | None:
        for job, spec in self.worker_spec.items():
            if worker in {f"{job}{suffix}" for suffix in spec.get("group", [""])}:
                return str(job)
        return None

    def _update_worker_status(self, op: str, msg: Any) -> None:
        if op == "add":
            for address, worker in msg["workers"].items():
                job = self._job_of(worker["name"])
                if job is not None:
                    self._job_at[address] = job
                    self._came.setdefault(job, time.monotonic())
        elif op == "remove":
            job = self._job_at.pop(msg, None)
            if job is not None:
                patience = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
                asyncio.get_running_loop().call_later(patience, self._replace, job, time.monotonic())
            if msg not in self.scheduler_info["workers"]:  # wait_for_workers has asked for them anew meanwhile
                return
        super()._update_worker_status(op, msg)

    def _replace(self, job: str, left: float) -> None:
        """Submit a job anew, if no worker of it is left; it has ended, or nearly."""
        here = job in self._job_at.values()
        if self.status != Status.running or job not in self.worker_spec or here:
            return
        came = self._came.pop(job, None)
        if came is None:  # replaced already, for another of its workers
            return
        if left - came < self._quick:
            self._failures += 1
            if self._failures > MOST_FAILURES:
                _logger.warning("the job %s failed like %d before it; it is not replaced", job, MOST_FAILURES)
                return
        old = self.workers.pop(job, None)
        if old is not None:
            self._futures.add(asyncio.ensure_future(old.close()))
        self.loop.add_callback(self._correct_state)
