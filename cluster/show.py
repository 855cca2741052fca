"""What a profile would launch, in words and in full, without launching it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from twinlines.cluster import cuda, slurm, ssh
from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.launch import local_options, scheduler_address
from twinlines.cluster.profiles import Address, Cuda, Local, Profile, SchedulerFile, Slurm, Ssh
from twinlines.cluster.security import in_folder, is_required, refuse_insecure, refuse_plain

_SHOWN_PORT = "PORT"


@dataclass(frozen=True)
class Shown:
    """What would be launched."""

    profile: str
    """Name of the profile."""
    workers: str
    """How many workers of which kind, where."""
    scheduler: str
    """Where the scheduler is."""
    security: str
    """Who may connect."""
    options: Mapping[str, Any]
    """What dask, dask-cuda or dask-jobqueue would be given."""
    environment: Mapping[str, str]
    """Environment variables of the workers; empty where workers run already."""
    dask: Mapping[str, Any]
    """Dask's configuration in the site's file."""
    script: str | None = None
    """The job's script, for sbatch."""

    def to_json(self) -> dict[str, Any]:
        """Make a dictionary."""
        return dict(vars(self))


_LOOPBACK = "this machine only: scheduler, workers and dashboard listen at 127.0.0.1"
_LOOPBACK_TLS = f"{_LOOPBACK}, by TLS, as dask's configuration asks for"
_TEMPORARY = "TLS, with certificates of this launch on both sides; dashboard at 127.0.0.1 only"
_NONE = "none (--insecure): whoever reaches the scheduler can run code as you; dashboard at 127.0.0.1 only"


def show(profile: Profile, *, insecure: bool = False) -> Shown:
    """Say what :func:`twinlines.cluster.launch.launch` would do.

    Raises
    ------
    LaunchError
        If it would be refused, or the package that knows is missing.
    ProfileError
        If the profile lacks something, or its values do not fit together.
    """
    with dask.config.set(profile.dask):
        return _show(profile, insecure)


def _show(profile: Profile, insecure: bool) -> Shown:
    guarded = _NONE if insecure else _TEMPORARY
    loopback = _LOOPBACK_TLS if is_required() else _LOOPBACK
    if insecure and isinstance(profile, Slurm | Ssh):
        refuse_insecure()
    rest: dict[str, Any] = {
        "profile": profile.name,
        "environment": dict(WORKER_ENVIRONMENT),
        "dask": dict(profile.dask),
    }
    match profile:
        case Local():
            options = local_options(profile)
            workers = f"{options['n_workers']} single-threaded processes here, {_size(options['memory_limit'])} each"
            return Shown(workers=workers, scheduler="in this process", security=loopback, options=options, **rest)
        case Cuda():
            number = "all GPUs" if profile.n_workers is None else f"the first {profile.n_workers} GPUs"
            return Shown(
                workers=f"one single-threaded process for each of {number} of this machine",
                scheduler="in this process",
                security=loopback,
                options=cuda.options(profile),
                **rest,
            )
        case Slurm():
            options = slurm.job_options(profile)
            each, what = options["processes"], "GPU" if profile.gpus else "core"
            tls = None if insecure else in_folder(profile.shared_directory.expanduser() / "tls-NAME")
            address = f"{'tcp' if insecure else 'tls'}://{profile.host or 'THIS-HOST'}:{profile.port or _SHOWN_PORT}"
            return Shown(
                workers=f"jobs: {profile.jobs}, each of {each} workers, one for each {what}, "
                f"{_size(options['memory'] // each)} each",
                scheduler=f"in this process, at {address}",
                security=guarded,
                options=options,
                script=slurm.job_script(profile, tls, address),
                **rest,
            )
        case Ssh():
            hosts = len(profile.hosts)
            return Shown(
                workers=f"{hosts * profile.workers_per_host} single-threaded processes on {hosts} machines",
                scheduler=f"on {profile.scheduler or profile.hosts[0]}",
                security=guarded,
                # What of the credentials decides the options is only whether there are any.
                options=ssh.options(profile, None if insecure else in_folder(Path("tls"))),
                **rest,
            )
        case Address() | SchedulerFile():
            address = profile.address if isinstance(profile, Address) else scheduler_address(profile.file)
            refuse_plain(address, insecure)
            return Shown(
                workers="those that it has",
                scheduler=f"{address}, which runs already",
                security="TLS, with your certificates" if address.startswith("tls://") else "none",
                options={},
                **{**rest, "environment": {}},
            )


def _size(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
