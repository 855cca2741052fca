"""A real SLURM of one node on this machine, for tests: Debian's slurmctld, slurmd and munged, as root.

The controller is where the tests are; the node is a host of its own where the kernel lets us have network namespaces:
other addresses, its own loopback, joined to the controller's by one cable (veth). Files are shared, as a site's are.
All that is made lies in one folder, and all of it ends with the context; nothing listens to the world.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")
CORES, MEMORY_MB = 4, 9000
"""What the node says that it has, whatever this machine has: two clusters of two small jobs fit."""

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}({head})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=1
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=10
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
NodeName=node NodeHostname={host} NodeAddr={node} CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=debug Nodes=node Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=node MaxTime=1 State=UP
"""


@dataclass(frozen=True)
class SlurmHere:
    """A SLURM that runs."""

    folder: Path
    """Its configuration, logs and state."""
    head: str
    """Address of this machine, as the node reaches it."""
    namespace: str | None
    """Network namespace of the node; None if the node is this host."""

    def on_node(self, command: Sequence[str]) -> list[str]:
        """``command``, to be run on the node."""
        return _within(self.namespace, command)


def missing() -> str | None:
    """Why there can be no SLURM here; None if there can."""
    if os.geteuid():
        return "a SLURM of our own needs root"
    absent = [name for name in COMMANDS if _find(name) is None]
    return f"no {', '.join(absent)} here; 'apt-get install slurm-wlm munge' has them" if absent else None


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _within(namespace: str | None, command: Sequence[str]) -> list[str]:
    # Not 'ip netns exec', which hides /sys/fs/cgroup from slurmd.
    return list(command) if namespace is None else ["nsenter", f"--net=/run/netns/{namespace}", *command]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _two_hosts() -> Iterator[tuple[str, str, str | None]]:
    """Addresses of head and node, and the node's namespace; this host for both where there are no namespaces."""
    ip, name = _find("ip"), f"tl{os.getpid()}"
    # Of the addresses for tests of networks (RFC 2544), where no other run of this process's number is.
    net = f"198.{18 + os.getpid() % 2}.{os.getpid() // 2 % 250}"
    commands = [
        f"netns add {name}",
        f"link add {name}h type veth peer name {name}n netns {name}",
        f"addr add {net}.1/24 dev {name}h",
        f"link set {name}h up",
        f"-n {name} addr add {net}.2/24 dev {name}n",
        f"-n {name} link set {name}n up",
        f"-n {name} link set lo up",
    ]
    try:
        done = ip is not None and all(
            not subprocess.run([ip, *command.split()], capture_output=True, check=False).returncode
            for command in commands
        )
        yield (f"{net}.1", f"{net}.2", name) if done else ("127.0.0.1", "127.0.0.1", None)
    finally:
        if ip is not None:
            for command in (f"link del {name}h", f"netns del {name}"):
                subprocess.run([ip, *command.split()], capture_output=True, check=False)


@contextmanager
def _daemon(folder: Path, command: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    name = next(Path(word).name for word in command if Path(word).name in COMMANDS)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(list(command), stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def slurm(folder: Path) -> Iterator[SlurmHere]:
    """Start it; while the context lasts, ``SLURM_CONF`` says where it is to whoever has it in the environment.

    Parameters
    ----------
    folder
        An empty folder for all that it writes; its path short enough for a socket (80 characters).

    Raises
    ------
    RuntimeError
        If the node does not come up; the message ends with what the daemons said.
    """
    configuration = folder / "slurm.conf"
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    with ExitStack() as stack:
        head, node, namespace = stack.enter_context(_two_hosts())
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                head=head,
                node=node,
                controller_port=_free_port(),
                node_port=_free_port(),
                cores=CORES,
                memory=MEMORY_MB,
            )
        )
        munged = [str(_find("munged")), "--foreground", "--force", f"--key-file={key}"]
        munged += [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file")]
        stack.enter_context(_daemon(folder, munged, environment))
        _until(lambda: (folder / "munge.socket").exists(), folder)
        stack.enter_context(_daemon(folder, [str(_find("slurmctld")), "-D", "-c"], environment))
        slurmd = _within(namespace, [str(_find("slurmd")), "-D", "-N", "node"])
        stack.enter_context(_daemon(folder, slurmd, environment))
        _until(lambda: "idle" in _say(["sinfo", "-h", "-p", "debug"], environment), folder)
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(configuration)
        try:
            yield SlurmHere(folder, head, namespace)
        finally:
            _say(["scancel", "--me"], environment)
            _until(lambda: not _say(["squeue", "-h"], environment).strip(), folder)
            del os.environ["SLURM_CONF"]
            if before is not None:
                os.environ["SLURM_CONF"] = before


def _say(command: Sequence[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout


def _until(holds: Callable[[], bool], folder: Path, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            said = "\n".join(f"{log.name}: {log.read_text()[-800:]}" for log in sorted(folder.glob("*.log")))
            raise RuntimeError(f"SLURM is not ready after {seconds:g} s\n{said}")
        time.sleep(0.1)
