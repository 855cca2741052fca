"""Workers on machines that the user may log in to, through dask's SSHCluster."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from distributed import SSHCluster
from distributed.security import Security

from twinlines.cluster.errors import LaunchError
from twinlines.cluster.profiles import Ssh
from twinlines.cluster.security import LOOPBACK


def options(profile: Ssh, security: Security | None) -> dict[str, Any]:
    """Keyword arguments of dask's SSHCluster.

    The machines learn environment and credentials from dask's configuration, which SSHCluster hands on.
    """
    connect: dict[str, object] = {
        "username": profile.user,
        "port": profile.port,
        "client_keys": profile.key_file and [str(profile.key_file)],
        "known_hosts": profile.known_hosts and str(profile.known_hosts),
    }
    worker: dict[str, object] = {
        "nthreads": 1,
        "n_workers": profile.workers_per_host,
        "memory_limit": profile.memory,
        "local_directory": profile.local_directory,
        "dashboard_address": LOOPBACK,
    }
    return {
        "hosts": [profile.scheduler or profile.hosts[0], *profile.hosts],
        # To asyncssh, None is not "the default": known_hosts=None would trust any server.
        "connect_options": {name: value for name, value in connect.items() if value is not None},
        "worker_options": {name: value for name, value in worker.items() if value is not None},
        "scheduler_options": {
            "protocol": "tcp://" if security is None else "tls://",
            "port": profile.scheduler_port,
            "dashboard_address": LOOPBACK,
        },
        # -P: no module from the folder in which the login begins.
        "remote_python": f"{profile.python or sys.executable} -P",
    }


def start(profile: Ssh, security: Security | None) -> Any:
    """Start the scheduler and the workers.

    Raises
    ------
    LaunchError
        If the package ``asyncssh`` is missing, or a machine cannot be reached or used.
    """
    if find_spec("asyncssh") is None:
        raise LaunchError(
            "the profile 'ssh' needs the package asyncssh, which is missing; install it with: "
            "pip install 'twinlines[ssh]'"
        )
    chosen = options(profile, security)
    try:
        return SSHCluster(**chosen, security=security, silence_logs="critical")
    except Exception as error:  # dask raises bare exceptions here, and asyncssh dozens
        raise LaunchError(
            f"no cluster on {', '.join(dict.fromkeys(chosen['hosts']))}: {error}; can you log in to each by 'ssh HOST' "
            f"without being asked, and does '{profile.python or 'this Python'}' run there?"
        ) from error
