"""What workers are: device, precision and versions, and whether that fits the client's.

Another version of a package may give other numbers under the same keys, so it is refused before any work starts, also
where a worker joins later.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from twinlines.cluster.errors import LaunchError
from twinlines.cluster.workers import let_go, let_go_of_clients_gone

PACKAGES = ("twinlines", "torch", "numpy", "scipy", "numba", "xarray", "zarr", "fitsio", "dask", "distributed")
"""Packages that must be the same everywhere: those that compute or store numbers, and those that talk to each other."""

_ATTEMPTS, _PATIENCE = 3, 30.0
"""How often workers are asked, if all that are there die meanwhile; seconds to wait for others."""

_ADMIT = "twinlines-admit"

REFUSED = "twinlines-refused"
"""Topic of the events by which workers say that they refuse."""

Probe = Callable[[str], bool]
"""Whether a device ("cpu" or "cuda") multiplies bfloat16 in hardware; :mod:`twinlines.models.precision` has it."""


@dataclass(frozen=True)
class Report:
    """What one process is."""

    host: str
    """Machine."""
    versions: Mapping[str, str]
    """Versions by package, ``python`` and the digest of Twinlines' own code among them."""
    device: str = ""
    """``cpu`` or ``cuda``; empty where nobody asked."""
    device_name: str = ""
    """The device's model."""
    bfloat16: bool | None = None
    """Whether it multiplies bfloat16 in hardware; None where nobody asked."""
    threads: int = 0
    """Tasks at a time."""
    memory: int = 0
    """Memory above which it is restarted, bytes; 0 for no limit."""

    @property
    def hardware(self) -> tuple[str, bool | None]:
        """What decides the last bits of results."""
        return self.device, self.bfloat16

    @property
    def hardware_text(self) -> str:
        """The same in words."""
        return f"{self.device}, {'bfloat16' if self.bfloat16 else 'float32'}"

    def to_json(self) -> dict[str, Any]:
        """Make a dictionary."""
        return asdict(self)


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of :data:`PACKAGES` and of Twinlines' code in this process, nothing imported for it."""
    installed = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
    for package in PACKAGES:
        try:
            # What follows a plus says for which hardware it was built, and may differ between GPU and CPU machines.
            installed[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            installed[package] = "missing"
    installed["twinlines' code"] = code_digest(_folders())
    return installed


HOUSES = ("twinlines", "twinlines.cluster", "twinlines.models", "twinlines.pipeline")
"""The packages that Twinlines is made of: an editable install has each in a folder that lies outside its parent's."""


def code_digest(folders: Mapping[str, Path]) -> str:
    """Digest of all modules below ``folders``, at any depth.

    Equal code has an equal digest, however it is installed: a module goes in by its name and its bytes, and what else
    lies beside it does not.

    Parameters
    ----------
    folders : mapping of str to Path
        The folder of each package, by the package's name. One may lie within another.

    Returns
    -------
    str
        12 hexadecimal digits.
    """
    # By name: a module of a package that lies within another is there once.
    modules = {name: path for package, folder in folders.items() for name, path in _modules(package, folder)}
    digest = hashlib.sha256()
    for name, path in sorted(modules.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules of a package and of those within it, by name; folders without an ``__init__.py`` are no packages."""
    for path in folder.iterdir():
        if path.suffix == ".py":
            yield f"{package}.{path.stem}", path
        elif (path / "__init__.py").is_file():
            yield from _modules(f"{package}.{path.name}", path)


def _folders() -> dict[str, Path]:
    """The folders of this process's :data:`HOUSES`."""
    specs = {house: find_spec(house) for house in HOUSES}
    return {
        house: Path(folder) for house, spec in specs.items() if spec for folder in spec.submodule_search_locations or ()
    }


def describe(probe: Probe | None = None) -> Report:
    """Describe this process. With a ``probe``, torch is imported, which may take seconds."""
    if probe is None:
        return Report(socket.gethostname(), versions())
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return Report(socket.gethostname(), versions(), device, name, probe(device))


async def _describe_worker(probe: Probe | None, dask_worker: Worker) -> Report:
    # In a thread: a worker that does not answer for long is taken for dead.
    report = await asyncio.to_thread(describe, probe)
    memory = dask_worker.memory_manager.memory_limit
    return replace(report, threads=dask_worker.state.nthreads, memory=int(memory or 0))


def collect(client: Client, probe: Probe | None = None) -> dict[str, Report]:
    """Reports of all workers, by address, but for those that are lost while they are asked.

    Raises
    ------
    LaunchError
        If a worker cannot say, above all because it lacks Twinlines, or all are lost.
    """
    for _ in range(_ATTEMPTS):
        said = client.run(_describe_worker, probe, on_error="return")
        answers = {address: answer for address, answer in said.items() if not isinstance(answer, OSError)}
        if answers:
            break
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=_PATIENCE)
    else:
        raise LaunchError(
            f"each worker is lost when it is asked what it is, {_ATTEMPTS} times: {said}; see why workers end there"
        )
    for address, answer in answers.items():
        if isinstance(answer, ModuleNotFoundError):
            raise LaunchError(
                f"the worker {address} lacks a package: {answer}; install twinlines {versions()['twinlines']} there"
            ) from answer
        if isinstance(answer, BaseException):
            raise LaunchError(f"the worker {address} does not say what it is: {answer}") from answer
    return dict(sorted(answers.items()))


def mismatch(worker: str, report: Report, expected: Report) -> str | None:
    """Say how a worker differs from what is expected of it; None if it does not."""
    for package, wanted in expected.versions.items():
        there = report.versions.get(package, "missing")
        if there != wanted:
            return (
                f"the worker {worker} on {report.host} has {package} {there}, and the client {wanted}; results would "
                "depend on who computed them: install the same version on both"
            )
    if expected.device and report.hardware != expected.hardware:
        return (
            f"the worker {worker} on {report.host} computes on {report.hardware_text}, others on "
            f"{expected.hardware_text}; results would depend on who computed them: use workers of one kind, or say "
            "'mixed-hardware: true' in the site's file"
        )
    return None


def expectation(reports: Iterable[Report], mixed_hardware: bool) -> Report:
    """What each worker should be: this client's versions, and the hardware of the first."""
    mine = Report(socket.gethostname(), versions())
    first = next(iter(reports), None)
    if first is None or mixed_hardware:
        return mine
    return replace(mine, device=first.device, bfloat16=first.bfloat16)


def check_devices(reports: Mapping[str, Report]) -> None:
    """Refuse workers of a GPU cluster whose torch finds no GPU: they would compute on the CPU, and nobody would know.

    Raises
    ------
    LaunchError
        If there is one.
    """
    for address, report in reports.items():
        if report.device == "cpu":
            raise LaunchError(
                f"the worker {address} on {report.host} has no GPU that torch {report.versions['torch']} can use; look "
                "at 'nvidia-smi' there, and install a build of torch for CUDA"
            )


class Admit(WorkerPlugin):
    """Ends a worker that joins later and does not fit; it says why to whoever listens to :data:`REFUSED`."""

    idempotent = True

    def __init__(self, expected: Report, probe: Probe | None) -> None:
        self._expected = expected
        self._probe = probe

    async def setup(self, worker: Worker) -> None:
        """Compare (called by the worker)."""
        report = await _describe_worker(self._probe, worker)
        wrong = mismatch(worker.address, report, self._expected)
        if wrong is not None:
            worker.log_event(REFUSED, {"message": wrong})
            # Later: a worker cannot close while it starts, and the event should be out.
            worker.loop.call_later(1.0, worker.close, reason=REFUSED, executor_wait=False)


@contextmanager
def admitting(
    client: Client, *, probe: Probe | None, mixed_hardware: bool, tell: Callable[[str], None]
) -> Iterator[dict[str, Report]]:
    """Check the workers that are there, and while the context lasts those that join; yields the reports.

    Raises
    ------
    LaunchError
        If a worker that is there does not fit; it names worker, package and both versions.
    """
    reports = collect(client, probe)
    expected = expectation(reports.values(), mixed_hardware)
    for address, report in reports.items():
        wrong = mismatch(address, report, expected)
        if wrong is not None:
            raise LaunchError(wrong)

    def heard(event: tuple[float, Mapping[str, str]]) -> None:
        tell(event[1]["message"])

    # Of this client alone: on a scheduler that several share, none ends what another has begun.
    let_go_of_clients_gone(client, _ADMIT)
    name = f"{_ADMIT} {client.id}"
    client.subscribe_topic(REFUSED, heard)
    client.register_plugin(Admit(expected, probe), name=name)
    try:
        yield reports
    finally:
        # Whoever lost the scheduler has an error to tell already; there is nothing to take back then.
        if client.status == "running":
            with suppress(OSError, KeyError):
                client.unsubscribe_topic(REFUSED)
            let_go(client, name)
