"""From a profile to a connected ``distributed.Client``, and back to nothing when the work is done."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.comm.core import connect
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from twinlines.cluster import cuda, security, slurm, ssh
from twinlines.cluster.environment import FEW_MESSAGES, NANNY_CONFIG, WORKER_ENVIRONMENT
from twinlines.cluster.errors import LaunchError, ProfileError
from twinlines.cluster.inventory import Probe, admitting, check_devices
from twinlines.cluster.profiles import Address, Cuda, Existing, Local, Profile, Remote, SchedulerFile, Slurm, Ssh, cores
from twinlines.cluster.workerwarnings import telling_warnings

__all__ = ["LaunchError", "ProfileError", "launch"]

CONNECT_TIMEOUT = 30
"""Seconds to wait for an existing scheduler to answer."""

NO_WORKERS_TIMEOUT = "5 minutes"
"""How long tasks wait when every local worker has died and none came back; then they fail instead of waiting on."""

_log = logging.getLogger(__name__)


@contextmanager
def launch(profile: Profile, *, insecure: bool = False, probe: Probe | None = None) -> Iterator[Client]:
    """Yield a client of the cluster that ``profile`` describes; afterwards stop what was started here, and only that.

    Workers elsewhere than on this machine's cores must have this client's versions. With a ``probe``, they must also
    be of one kind of hardware, unless the profile says otherwise.

    Parameters
    ----------
    profile
        What to launch or to join.
    insecure
        Whether connections between machines may do without TLS.
    probe
        Whether a device ("cpu" or "cuda") multiplies bfloat16 in hardware, to be called on the workers.

    Raises
    ------
    LaunchError
        If the cluster cannot be launched or reached, is not encrypted, or has no worker or one that does not fit.
    ProfileError
        If the profile lacks something, or its values do not fit together.
    """
    config = {**FEW_MESSAGES, **profile.dask}
    with dask.config.set(config), _started(profile, insecure) as client, _warnings_of(profile, client):
        if isinstance(profile, Local):  # this Python on this machine: nothing can differ
            yield client
            return
        mixed = profile.mixed_hardware if isinstance(profile, Remote) else False
        with admitting(client, probe=probe, mixed_hardware=mixed, tell=_log.warning) as reports:
            if isinstance(profile, Cuda) or (isinstance(profile, Slurm) and profile.gpus):
                check_devices(reports)
            yield client


def _warnings_of(profile: Profile, client: Client) -> AbstractContextManager[None]:
    """Have warnings told of workers that were started here; how others show theirs is their owner's business."""
    return nullcontext() if isinstance(profile, Address | SchedulerFile) else telling_warnings(client)


def _started(profile: Profile, insecure: bool) -> AbstractContextManager[Client]:
    match profile:
        case Local() | Cuda():
            return _here(profile)
        case Slurm():
            return _slurm(profile, insecure)
        case Ssh():
            return _ssh(profile, insecure)
        case Address(address=address):
            return _existing(profile, address, insecure)
        case SchedulerFile(file=file):
            return _existing(profile, scheduler_address(file), insecure)


def local_options(profile: Local) -> dict[str, Any]:
    """Keyword arguments of dask's LocalCluster."""
    n_workers = profile.n_workers or cores()
    return {
        "n_workers": n_workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        # The HTTP servers start in any case; without an address of their own they would listen on every interface.
        "dashboard_address": security.LOOPBACK,
        "worker_dashboard_address": security.LOOPBACK,
        "memory_limit": profile.memory or int(MEMORY_LIMIT) // n_workers,
        # A task's error reaches whoever asked for the task; on the terminal, too, it would drown everything else.
        "silence_logs": logging.CRITICAL,
    }


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Take back what dask's nannies leave in the environment of the process that they are in: it is the caller's."""
    names = {*WORKER_ENVIRONMENT, "PYTHONHASHSEED"}
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _here(profile: Local | Cuda) -> Iterator[Client]:
    with (
        _environment_restored(),
        tempfile.TemporaryDirectory(prefix="twinlines-", ignore_cleanup_errors=True) as scratch,
        dask.config.set(
            {
                **NANNY_CONFIG,
                "distributed.scheduler.no-workers-timeout": NO_WORKERS_TIMEOUT,
                "temporary-directory": scratch,  # of the scheduler, which would leave a folder in the system's
            }
        ),
        _local_cluster(profile, scratch) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _local_cluster(profile: Local | Cuda, scratch: str) -> Any:
    guarded = security.for_loopback()
    try:
        if isinstance(profile, Cuda):
            return cuda.start(profile, scratch, **guarded)
        return LocalCluster(**local_options(profile), **guarded, local_directory=scratch)
    except (RuntimeError, OSError) as error:
        if isinstance(error, LaunchError):
            raise
        raise LaunchError(
            f"no workers can be started on this machine: {_first_cause(error)}; 'twinlines cluster show' says what was "
            "asked for"
        ) from error


def _first_cause(error: BaseException) -> BaseException:
    """Where dask's chains of errors began."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _credentials(shared: Path, insecure: bool) -> AbstractContextManager[Security | None]:
    if not insecure:
        return security.temporary(shared.expanduser())
    security.refuse_insecure()
    return nullcontext()


@contextmanager
def _slurm(profile: Slurm, insecure: bool) -> Iterator[Client]:
    with (
        _credentials(profile.shared_directory, insecure) as credentials,
        slurm.start(profile, credentials) as cluster,
        Client(cluster) as client,
    ):
        slurm.wait_for_worker(profile, cluster, client)
        yield client


@contextmanager
def _ssh(profile: Ssh, insecure: bool) -> Iterator[Client]:
    with (
        _credentials(profile.shared_directory, insecure) as credentials,
        dask.config.set({**NANNY_CONFIG, **security.configuration(credentials)}),
        ssh.start(profile, credentials) as cluster,
        Client(cluster) as client,
    ):
        _wait(client, profile.wait, "'ssh HOST' and the Python there may say why")
        yield client


def scheduler_address(file: Path) -> str:
    """Address of the scheduler that wrote ``file``.

    Raises
    ------
    LaunchError
        If it does not say.
    """
    try:
        address = json.loads(file.read_text())["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LaunchError(
            f"{file} names no scheduler: {error!r}; 'dask scheduler --scheduler-file {file}' writes it"
        ) from error
    return str(address)


async def _knock(address: str, credentials: Security) -> None:
    """Connect and hang up.

    A ``Client`` that fails to connect leaves its thread behind, and may block for ever later,
    when the garbage collector closes it in the middle of another one's start.
    """
    comm = await connect(address, timeout=CONNECT_TIMEOUT, **credentials.get_connection_args("client"))
    await comm.close()


@contextmanager
def _existing(profile: Existing, address: str, insecure: bool) -> Iterator[Client]:
    security.refuse_plain(address, insecure)
    credentials = security.own(profile)
    try:
        asyncio.run(_knock(address, credentials))
        client = Client(address, timeout=CONNECT_TIMEOUT, security=credentials)
    except (OSError, TypeError) as error:
        # TypeError: a TLS address without credentials.
        hint = "is it running, and does its port accept connections from here?"
        if address.startswith("tls://"):
            hint = (
                "set the credentials in the site's file (tls-ca-file, tls-client-cert, tls-client-key) or in dask's "
                "configuration (distributed.comm.tls)"
            )
        raise LaunchError(f"no scheduler answers at {address}: {error}; {hint}") from error
    with client:
        _wait(client, profile.wait, f"start one with 'dask worker {address} --nthreads 1'")
        yield client


def _wait(client: Client, seconds: float, hint: str) -> None:
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        raise LaunchError(
            f"the scheduler at {client.scheduler_info()['address']} has no worker after {seconds:g} s; {hint}"
        ) from error
