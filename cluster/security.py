"""Who may talk to a scheduler: workers run whatever code they are sent, so only the user may send any.

What stays on this machine is bound to its loopback address. What other machines can reach uses TLS with certificates on
both sides, or is refused; ``insecure`` has to be said.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed.security import Security

from twinlines.cluster.errors import LaunchError
from twinlines.cluster.profiles import Existing

LOOPBACK = "127.0.0.1:0"
"""Where dashboards listen: at a free port of this machine only. Their pages know no passwords."""


_REQUIRED = "distributed.comm.require-encryption"


def is_required() -> bool:
    """Whether dask's configuration, a site's perhaps, allows connections by TLS only, those within a machine too."""
    return bool(dask.config.get(_REQUIRED, False))


def refuse_insecure() -> None:
    """Refuse that the user says ``insecure`` where dask's configuration asks for TLS.

    Raises
    ------
    LaunchError
        If it does.
    """
    if is_required():
        raise LaunchError(
            f"--insecure contradicts dask's configuration, which asks for TLS ({_REQUIRED}); leave --insecure out, or "
            "change the configuration"
        )


def refuse_plain(address: str, insecure: bool) -> None:
    """Refuse an address that is neither encrypted nor of this machine, unless the user says ``insecure``.

    Where dask's configuration asks for TLS, any that is not encrypted is refused.

    Raises
    ------
    LaunchError
        If it is refused.
    """
    if address.startswith("tls://"):
        return
    if is_required():
        raise LaunchError(
            f"{address} is not encrypted, and dask's configuration asks for TLS ({_REQUIRED}); start the scheduler and "
            "the workers with TLS and give tls://HOST:PORT, or change the configuration"
        )
    if insecure:
        return
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise LaunchError(
        f"{address} is not encrypted, and whoever reaches it can run code as you on its workers; start the scheduler "
        "and the workers with TLS and give tls://HOST:PORT, or say --insecure if the network between is yours"
    )


def for_loopback() -> dict[str, Any]:
    """Keyword arguments of a cluster that stays on this machine: TLS, where dask's configuration asks for it.

    Raises
    ------
    LaunchError
        If the package ``cryptography`` is missing then.
    """
    return {"security": _made(), "protocol": "tls://"} if is_required() else {}


def _made() -> Any:  # whose attributes no type checker knows
    try:
        return Security.temporary()
    except ImportError as error:
        raise LaunchError(
            "a cluster's certificates are made by the package 'cryptography', which is missing; install it with: pip "
            "install 'twinlines[tls]'; or do without TLS: say --insecure if the network between its machines is yours"
        ) from error


@contextmanager
def temporary(shared: Path) -> Iterator[Security]:
    """While the context lasts, credentials of a new cluster, as files that its machines can read.

    Dask would put them into command lines or into the current folder. Here they lie in a folder of their own within
    ``shared``, readable by this user only, and go with the context.

    Raises
    ------
    LaunchError
        If the package ``cryptography`` is missing, or the folder cannot be written.
    """
    made = _made()
    try:
        shared.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = tempfile.TemporaryDirectory(prefix="tls-", dir=shared)
    except OSError as error:
        raise LaunchError(
            f"the shared_directory {shared} cannot hold the cluster's credentials: {error}; give another"
        ) from error
    with folder as private:
        yield in_folder(Path(private), made.tls_ca_file, made.tls_client_key)


def in_folder(folder: Path, certificate: str | None = None, key: str | None = None) -> Security:
    """Credentials that lie in ``folder``; written there first, if their content is given."""
    paths = {"cert.pem": certificate, "key.pem": key}
    for name, content in paths.items():
        if content is not None:
            (folder / name).touch(mode=0o600, exist_ok=False)
            (folder / name).write_text(content)
    # One self-signed certificate is the authority's and everybody's: who has the key belongs to the cluster.
    cert_path, key_path = (str(folder / name) for name in paths)
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=cert_path,
        **{f"tls_{role}_cert": cert_path for role in roles},
        **{f"tls_{role}_key": key_path for role in roles},
    )


def own(profile: Existing) -> Security:
    """The user's credentials for an existing scheduler: those of the profile, over those of dask's configuration.

    Raises
    ------
    LaunchError
        If a file of the profile cannot be read.
    """
    credentials = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        path: Path | None = getattr(profile, name)
        if path is not None:
            if not os.access(path, os.R_OK):
                raise LaunchError(f"{name}: {path} cannot be read; give the PEM file of the scheduler's credentials")
            credentials[name] = str(path)
    return Security(**credentials)


def configuration(security: Security | None) -> dict[str, object]:
    """Dask's configuration that makes processes on other machines use ``security``, whose credentials are files."""
    if security is None:
        return {}
    roles = ("client", "scheduler", "worker")
    settings: Any = security  # whose attributes no type checker knows
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": settings.tls_ca_file,
        **{
            f"distributed.comm.tls.{role}.{part}": getattr(settings, f"tls_{role}_{part}")
            for role in roles
            for part in ("cert", "key")
        },
    }
