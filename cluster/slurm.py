"""Jobs of a SLURM cluster: what is asked of SLURM and run in each job, through dask-jobqueue.

Each job starts one command that starts one worker for every core (``dask worker``) or every GPU (``dask cuda worker``).
Workers leave by themselves before the walltime, at staggered times, and hand over what they have; then another job
takes their place. What a job needs travels in its script: environment, credentials' paths, lifetime.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import parse_bytes
from distributed.security import Security

from twinlines.cluster import jobqueue
from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.errors import LaunchError, ProfileError
from twinlines.cluster.profiles import GPU_TASKS, Slurm, walltime_seconds
from twinlines.cluster.security import LOOPBACK

if TYPE_CHECKING:
    from distributed import Client

    from twinlines.cluster.slurmjobs import SlurmJobs

NAME = "twinlines"
"""Name of the jobs, and the beginning of their workers' names."""

_LONGEST_STAGGER = 15 * 60
_QUICK = 300.0  # seconds; see SlurmJobs

POLL = 15.0
"""Seconds between looks at the queue while no worker has come."""

_NEVER = frozenset(
    (
        *("AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS"),
        *("JobLaunchFailure", "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed"),
    )
)
"""SLURM's words for jobs that wait for ever: only another request mends it. So does what a limit "PerJob" forbids."""

_log = logging.getLogger(__name__)


def _package() -> ModuleType:
    try:
        return jobqueue.load()
    except ImportError as error:
        raise LaunchError(
            "the profile 'slurm' needs the package dask-jobqueue, which is missing; install it with: "
            "pip install 'twinlines[slurm]'"
        ) from error


def _given(profile: Slurm, field: str, key: str) -> Any:
    """Value of a field, or what dask's configuration says instead."""
    value = getattr(profile, field)
    if value is None:
        value = dask.config.get(f"jobqueue.slurm.{key}", default=None)
    if value is None:
        raise ProfileError(f"slurm: {field} is not set; say it in the site's file, or as jobqueue.slurm.{key}")
    return value


def lifetime(walltime: str, stagger: float | None, leave_before: float) -> tuple[int, int]:
    """When workers leave by themselves: (mean lifetime, most that it differs), seconds.

    Raises
    ------
    ProfileError
        If the walltime is too short for it.
    """
    seconds = walltime_seconds(walltime)
    spread = min(seconds / 20, _LONGEST_STAGGER) if stagger is None else stagger
    mean = seconds - leave_before - spread
    if mean <= spread:
        raise ProfileError(
            f"slurm: the walltime {walltime} leaves workers no time: they leave {leave_before:g} s before its end, "
            f"some {2 * spread:g} s earlier; ask for more, or lower leave_before and stagger"
        )
    return int(mean), int(spread)


def job_options(profile: Slurm) -> dict[str, Any]:
    """Keyword arguments of a job of dask-jobqueue, but for security.

    Raises
    ------
    ProfileError
        If cores, memory or walltime are given neither by the profile nor by dask's configuration, or do not fit.
    LaunchError
        If dask-jobqueue is missing.
    """
    _package()  # also loads its part of dask's configuration
    cores = int(_given(profile, "cores", "cores"))
    walltime = str(_given(profile, "walltime", "walltime"))
    mean, spread = lifetime(walltime, profile.stagger, profile.leave_before)
    logs = profile.log_directory.absolute()
    options: dict[str, Any] = {
        "job_name": NAME,
        "cores": GPU_TASKS * profile.gpus or cores,
        "processes": profile.gpus or cores,
        "job_cpu": cores,
        "memory": int(parse_bytes(_given(profile, "memory", "memory"))),
        "walltime": walltime,
        "queue": profile.queue,
        "account": profile.account,
        "python": shlex.quote(profile.python or sys.executable),
        "local_directory": profile.local_directory,
        "job_extra_directives": [
            # Not dask-jobqueue's log_directory, which makes the folder also where nothing is launched.
            f"-o {logs}/{NAME}-%j.log",
            *([f"--gres={profile.gres or f'gpu:{profile.gpus}'}"] if profile.gpus else []),
            *(profile.directives or dask.config.get("jobqueue.slurm.job-extra-directives")),
        ],
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()),
            # As variables, since 'dask cuda worker' has no options for it.
            f"export DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION={mean}s",
            f"export DASK_DISTRIBUTED__WORKER__LIFETIME__STAGGER={spread}s",
            *(profile.prologue or dask.config.get("jobqueue.slurm.job-script-prologue")),
        ],
        "worker_extra_args": ["--dashboard-address", LOOPBACK],
        "interface": profile.interface,
    }
    if profile.gpus:
        # 0: what exceeds device memory is an error, not a silent crawl.
        options["worker_command"] = "dask_cuda.cli"
        options["worker_extra_args"] += ["--resources", "GPU=1", "--device-memory-limit", "0"]
    return options


def job_script(profile: Slurm, security: Security | None, scheduler: str) -> str:
    """Script of a job, as it would be given to sbatch; starts nothing and makes no file.

    Raises
    ------
    ProfileError, LaunchError
        As :func:`job_options`.
    """
    job = _package().slurm.SLURMJob(scheduler, f"{NAME}-0", security=security, protocol=_protocol(security),
                                    **job_options(profile))  # fmt: skip
    return str(job.job_script())


def start(profile: Slurm, security: Security | None) -> SlurmJobs:
    """Start a scheduler in this process and submit the jobs.

    Raises
    ------
    ProfileError
        As :func:`job_options`.
    LaunchError
        If there is no SLURM here, or it refuses a job.
    """
    options = job_options(profile)
    if shutil.which("sbatch") is None:
        raise LaunchError("there is no command sbatch on this machine; launch from a login node of the SLURM cluster")
    from twinlines.cluster.slurmjobs import SlurmJobs

    listen = {key: value for key in ("host", "interface") if (value := getattr(profile, key)) is not None}
    mean, spread = lifetime(options["walltime"], profile.stagger, profile.leave_before)
    cluster = SlurmJobs(
        quick=min(_QUICK, (mean - spread) / 2),
        name=NAME,
        security=security,
        protocol=_protocol(security),
        scheduler_options={"dashboard_address": LOOPBACK, "port": profile.port, **listen},
        silence_logs="critical",
        **options,
    )
    try:
        Path(profile.log_directory).mkdir(parents=True, exist_ok=True)
        cluster.submit(profile.jobs)
    except RuntimeError as error:
        cluster.close()
        raise LaunchError(f"SLURM does not take the job: {error}") from error
    except BaseException:
        cluster.close()
        raise
    return cluster


def wait_for_worker(profile: Slurm, cluster: SlurmJobs, client: Client) -> None:
    """Wait until the first worker has come, as long as ``profile`` says, if a job may still bring it.

    What SLURM says of jobs that wait is logged, once for each change.

    Raises
    ------
    LaunchError
        If none came, or SLURM says that none of the jobs can ever start.
    """
    logs = profile.log_directory.absolute()
    until = time.monotonic() + profile.wait
    looks_without_hope, told = 0, ""
    while time.monotonic() < until:
        try:
            client.wait_for_workers(1, timeout=min(POLL, profile.wait))
        except TimeoutError:
            jobs = _queue(cluster.job_ids)
            if jobs is None:
                continue
            # Twice, since a job may have ended between its worker's coming and our seeing it.
            looks_without_hope = looks_without_hope + 1 if all(job.hopeless for job in jobs) else 0
            if looks_without_hope > 1 and not jobs:
                raise LaunchError(f"the jobs ended before a worker came; their output in {logs} says why") from None
            if looks_without_hope > 1:
                raise LaunchError(
                    f"SLURM cannot start the jobs as they are asked for: {_in_words(jobs)}; change queue, walltime, "
                    "cores, memory or directives in the site's file ('sinfo -l' lists what the partitions allow)"
                ) from None
            told, before = _in_words(jobs), told
            if told != before:
                _log.warning("no worker has come yet; SLURM says of the jobs: %s", told)
        else:
            return
    raise LaunchError(
        f"no worker came within {profile.wait:g} s; SLURM says of the jobs: {told or 'nothing'} ('squeue --me' says "
        f"what they wait for now), and the output of those that run is in {logs}. Raise 'wait' in the site's file if "
        "the queue is long"
    )


@dataclass(frozen=True)
class _Job:
    """A job in SLURM's queue."""

    number: str
    state: str
    reason: str

    @property
    def hopeless(self) -> bool:
        """Whether it waits for what time does not bring."""
        never = self.reason in _NEVER or "PerJob" in self.reason
        return self.state == "PENDING" and never


def _in_words(jobs: Sequence[_Job]) -> str:
    return ", ".join(
        f"{job.number} is {job.state.lower()}" + (f" ({job.reason})" if job.reason != "None" else "") for job in jobs
    )


def _queue(jobs: list[str]) -> list[_Job] | None:
    """What SLURM says of those jobs that it still knows; None if it does not answer."""
    command = ["squeue", "--noheader", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return [] if "invalid job id" in answer.stderr.lower() else None
    return [_Job(*line.split("|", 2)) for line in answer.stdout.split("\n") if line.count("|") >= 2]


def _protocol(security: Security | None) -> str:
    # Without '://', with which a worker does not look which of its addresses the scheduler can reach: where a node has
    # no way to the Internet, it would call itself 127.0.0.1.
    return "tcp" if security is None else "tls"
