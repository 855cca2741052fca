"""Named ways to get workers, as frozen descriptions; :mod:`twinlines.cluster.launch` acts on them.

A description starts nothing and touches no network, so that a wrong option is refused before any work begins.
:mod:`twinlines.cluster.site` reads descriptions from the command line and from YAML files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from dask.system import CPU_COUNT

from twinlines.cluster.errors import ProfileError

Size: TypeAlias = int
"""Bytes; typed as ``4GiB``."""
Duration: TypeAlias = float
"""Seconds; typed as ``10 minutes``."""
Walltime: TypeAlias = str
"""As SLURM writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""

_MINUTE = 60.0


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What all profiles have."""

    name: ClassVar[str]

    dask: Mapping[str, object] = field(default_factory=dict)
    """Dask's configuration while this cluster is in use, over its files and variables; dotted keys."""

    def __str__(self) -> str:
        values = [(item, getattr(self, item.name)) for item in fields(self) if item.name != "dask"]
        options = [f"{item.name}={value}" for item, value in values if value != item.default]
        return self.name + (":" + ",".join(options) if options else "")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value < least:
                raise ProfileError(f"{self.name}: {name} is {value}; give {least} or more")

    def _memory_is_some(self) -> None:
        memory = getattr(self, "memory", None)
        if memory is not None and memory < 1:
            raise ProfileError(f"{self.name}: memory is {memory} bytes; give a size such as 4GiB")


@dataclass(frozen=True, kw_only=True)
class Remote(Configured):
    """What profiles have whose workers may be on other machines."""

    mixed_hardware: bool = False
    """Whether workers may differ in device or precision; the last bits of results then depend on who computed them."""


@dataclass(frozen=True)
class Here(Configured):
    """Single-threaded worker processes on this machine, reachable from this machine only."""

    n_workers: int | None = None
    """Worker processes; None for as many as this process may have: one per core, or per GPU."""
    memory: Size | None = None
    """Host memory of one worker, bytes, above which it is restarted; None for an equal share of the machine's."""

    def __post_init__(self) -> None:
        self._at_least(1, "n_workers")
        self._memory_is_some()


@dataclass(frozen=True)
class Local(Here):
    """Workers on cores; by default on all that this process may use."""

    name: ClassVar[str] = "local"


GPU_TASKS = 3
"""Tasks that a GPU's worker computes at a time: while one begins or writes, the networks judge another's exposures."""


@dataclass(frozen=True)
class Cuda(Here):
    """A worker for each GPU, by default for all that ``CUDA_VISIBLE_DEVICES`` allows; device memory is not spilled."""

    name: ClassVar[str] = "cuda"


@dataclass(frozen=True)
class Slurm(Remote):
    """Jobs of a SLURM cluster, each with a worker for every core, or for every GPU; the scheduler runs here.

    Where a field may be None and says nothing else, dask's configuration ``jobqueue.slurm`` decides.
    """

    name: ClassVar[str] = "slurm"

    jobs: int = 1
    """Jobs to keep in the queue or running: one that ends is replaced."""
    cores: int | None = None
    """Cores of a job. Without GPUs, each has a worker."""
    memory: Size | None = None
    """Memory of a job, bytes, shared equally by its workers."""
    gpus: int = 0
    """GPUs of a job, each with a worker; 0 for workers on cores."""
    gres: str | None = None
    """How to ask for the GPUs (``--gres``); None for ``gpu:N``."""
    walltime: Walltime | None = None
    """Time after which SLURM ends a job."""
    stagger: Duration | None = None
    """Workers leave by themselves at a random time within twice this, seconds, so that not all go at once; None for a
    twentieth of the walltime, 15 minutes at most."""
    leave_before: Duration = 2 * _MINUTE
    """The last of them leaves this long before the walltime, seconds, to hand over what it has."""
    queue: str | None = None
    """Partition (``-p``)."""
    account: str | None = None
    """Account (``-A``)."""
    directives: tuple[str, ...] = ()
    """More options of sbatch, such as ``--constraint=avx512``."""
    prologue: tuple[str, ...] = ()
    """Shell commands before the worker, such as ``module load cuda``."""
    python: str | None = None
    """Python of the jobs; None for this one, which compute nodes must then see under the same path."""
    host: str | None = None
    """Host name or address at which compute nodes reach the scheduler on this machine."""
    interface: str | None = None
    """Network interface of scheduler and workers, such as ``ib0``, instead of ``host``."""
    port: int = 0
    """Port of the scheduler; 0 for a free one."""
    shared_directory: Path = Path("~/.twinlines")
    """Folder that compute nodes see; the credentials of a launch lie in it, readable by you only, while it lasts."""
    local_directory: str | None = None
    """Folder of a compute node for what exceeds memory; the job's shell expands variables such as ``$TMPDIR``."""
    log_directory: Path = Path("slurm-logs")
    """Folder for the jobs' output; made if there is none."""
    wait: Duration = 24 * 60 * _MINUTE
    """How long to wait for the first worker, seconds: jobs may queue."""

    def __post_init__(self) -> None:
        self._at_least(1, "jobs", "cores")
        self._at_least(0, "gpus", "port", "stagger", "leave_before", "wait")
        self._memory_is_some()
        if self.walltime is not None:
            walltime_seconds(self.walltime)
        if self.gres is not None and not self.gpus:
            raise ProfileError(f"slurm: gres is {self.gres!r}, but gpus is 0; say how many GPUs a job has")
        if self.host is not None and self.interface is not None:
            raise ProfileError("slurm: host and interface are both given; one of them decides where to listen")


@dataclass(frozen=True)
class Ssh(Remote):
    """Workers on machines that this user may log in to by SSH without being asked for anything."""

    name: ClassVar[str] = "ssh"

    hosts: tuple[str, ...] = ()
    """Machines of the workers."""
    scheduler: str | None = None
    """Machine of the scheduler; None for the first of ``hosts``."""
    workers_per_host: int = 1
    """Single-threaded worker processes on each machine."""
    memory: Size | None = None
    """Memory of one worker, bytes; None for a core's share of its machine's."""
    user: str | None = None
    """User name there; None for what SSH's own configuration says."""
    port: int | None = None
    """Port of the SSH servers; None for what SSH's own configuration says."""
    key_file: Path | None = None
    """Private key; None for the agent's and the usual ones."""
    known_hosts: Path | None = None
    """File of the servers' keys; None for the usual one. A server that is not in it is refused."""
    python: str | None = None
    """Python there; None for the path of this one."""
    scheduler_port: int = 0
    """Port of the scheduler; 0 for a free one."""
    shared_directory: Path = Path("~/.twinlines")
    """Folder that all machines see; the credentials of a launch lie in it, readable by you only, while it lasts."""
    local_directory: str | None = None
    """Folder there for what exceeds memory."""
    wait: Duration = 2 * _MINUTE
    """How long to wait for the first worker, seconds."""

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ProfileError("ssh: there are no hosts; list them, as in 'hosts: [node1, node2]'")
        self._at_least(1, "workers_per_host", "port")
        self._at_least(0, "scheduler_port", "wait")
        self._memory_is_some()


@dataclass(frozen=True, kw_only=True)
class Existing(Remote):
    """A scheduler that runs already, with whatever workers it has."""

    tls_ca_file: Path | None = None
    """Certificate of the authority, PEM; None for dask's ``distributed.comm.tls.ca-file``. So with the others."""
    tls_client_cert: Path | None = None
    """Certificate of the client, PEM."""
    tls_client_key: Path | None = None
    """Private key of the client, PEM."""
    wait: Duration = 30.0
    """How long to wait for the first worker, seconds."""


@dataclass(frozen=True)
class Address(Existing):
    """A scheduler at an address."""

    name: ClassVar[str] = "address"

    address: str = ""
    """``tcp://host:port`` or ``tls://host:port``."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        try:
            port = parts.port
        except ValueError:
            port = None
        known = parts.scheme in ("tcp", "tls")
        if not known or not parts.hostname or port is None or parts.path not in ("", "/"):
            raise ProfileError(
                f"{self.address!r} is no scheduler's address; write it as tcp://HOST:PORT or tls://HOST:PORT"
            )

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class SchedulerFile(Existing):
    """A scheduler that has written its address to a file (``dask scheduler --scheduler-file FILE.json``)."""

    name: ClassVar[str] = "scheduler-file"

    file: Path = Path("scheduler.json")
    """The file."""

    def __str__(self) -> str:
        return str(self.file)


Profile = Local | Cuda | Slurm | Ssh | Address | SchedulerFile

KINDS: Mapping[str, type[Profile]] = {kind.name: kind for kind in (Local, Cuda, Slurm, Ssh, Address, SchedulerFile)}
"""The profiles by name."""

_WALLTIME = re.compile(
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?"
    r"|((?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)|(?P<only>\d+)"
)


def walltime_seconds(walltime: str) -> int:
    """Seconds of a walltime as SLURM writes it.

    Raises
    ------
    ProfileError
        If it is none.
    """
    match = _WALLTIME.fullmatch(walltime.strip())
    if not match:
        raise ProfileError(f"slurm: walltime is {walltime!r}; write it as '4:00:00' or '1-12:00:00', in quotes")
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    hours = 24 * part["days"] + part["hours"] + part["h"]
    minutes = part["minutes"] + part["m"] + part["only"]
    seconds = 3600 * hours + 60 * minutes + part["seconds"] + part["s"]
    if not seconds:
        raise ProfileError(f"slurm: walltime is {walltime!r}; a job needs some time")
    return seconds


def cores() -> int:
    """Cores that this process may use: its CPU affinity, or fewer where a container's quota says so."""
    return max(1, int(CPU_COUNT))
