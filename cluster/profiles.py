"""Named ways to get workers, as frozen descriptions; :mod:`twinlines.cluster.launch` acts on them.

Reading a profile starts nothing and touches no network, so that a wrong option is refused before any work begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from dask.system import CPU_COUNT
from dask.utils import parse_bytes

AVAILABLE = ("local", "tcp://HOST:PORT", "tls://HOST:PORT")
"""The profiles that this version can launch, as a user writes them."""

PLANNED = ("cuda", "slurm", "ssh")
"""Profiles of the design that this version does not have."""


class ProfileError(ValueError):
    """A profile's name or option is unknown, or its value is out of range."""


@dataclass(frozen=True)
class Local:
    """Single-threaded worker processes on this machine, reachable from this machine only."""

    n_workers: int | None = None
    """Worker processes; None for one per core that this process may use."""
    memory: int | None = None
    """Memory of one worker, bytes, above which it is restarted; None for an equal share of the machine's."""

    def __post_init__(self) -> None:
        if self.n_workers is not None and self.n_workers < 1:
            raise ProfileError(f"local: n_workers is {self.n_workers}; give 1 or more")
        if self.memory is not None and self.memory < 1:
            raise ProfileError(f"local: memory is {self.memory} bytes; give a size such as 4GiB")

    def __str__(self) -> str:
        options = []
        if self.n_workers is not None:
            options.append(f"n_workers={self.n_workers}")
        if self.memory is not None:
            options.append(f"memory={self.memory}")
        return "local" + (":" + ",".join(options) if options else "")


@dataclass(frozen=True)
class Address:
    """A scheduler that runs already, with whatever workers it has."""

    address: str
    """``tcp://host:port`` or ``tls://host:port``; TLS credentials come from dask's own configuration."""

    def __str__(self) -> str:
        return self.address


Profile = Local | Address


def parse(text: str, n_workers: int | None = None) -> Profile:
    """Read a profile as it is typed: ``local``, ``local:n_workers=2,memory=4GiB``, or a scheduler's address.

    Parameters
    ----------
    text
        The profile.
    n_workers
        Number of workers, in place of what ``text`` says.

    Raises
    ------
    ProfileError
        If the profile is unknown or is not available in this version, or an option is unknown or malformed, or a
        number of workers is asked of a scheduler that has its own; the message says what there is.
    """
    text = text.strip()
    if text.startswith(("tcp://", "tls://")):
        if n_workers is not None:
            raise ProfileError(f"{text} has the workers it has; n_workers={n_workers} is for the profile 'local'")
        return _address(text)
    name, _, options = text.partition(":")
    if name == "local":
        profile = _local(options)
        return profile if n_workers is None else replace(profile, n_workers=n_workers)
    available = ", ".join(AVAILABLE)
    if name in PLANNED or text.endswith((".yaml", ".yml")):
        raise ProfileError(f"the cluster profile {text!r} is not available in this version; available are: {available}")
    raise ProfileError(f"no cluster profile is called {text!r}; available are: {available}")


def _address(text: str) -> Address:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None or parts.path not in ("", "/"):
        raise ProfileError(f"{text!r} is no scheduler's address; write it as tcp://HOST:PORT or tls://HOST:PORT")
    return Address(text.rstrip("/"))


def _local(options: str) -> Local:
    profile = Local()
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        match name.strip():
            case "n_workers":
                profile = replace(profile, n_workers=_integer(value))
            case "memory":
                profile = replace(profile, memory=_size(value))
            case unknown:
                raise ProfileError(f"local: no option is called {unknown!r}; the options are n_workers and memory")
    return profile


def _integer(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ProfileError(f"local: n_workers is {value!r}; give a whole number, 1 or more") from None


def _size(value: str) -> int:
    try:
        return int(parse_bytes(value))
    except ValueError:
        raise ProfileError(f"local: memory is {value!r}; give a size such as 4GiB") from None


def cores() -> int:
    """Cores that this process may use: its CPU affinity, or fewer where a container's quota says so."""
    return max(1, int(CPU_COUNT))
