"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from distributed import Client

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.models import checkpoint
from twinlines.models.network import Network, NetworkConfig
from twinlines.pipeline.arms import BLUE, RED


def pytest_configure() -> None:
    """Undo what a start in the background, or by nohup, does: signals that end a program are ignored then."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONGEST = ("test_packaging.py", "test_notebooks.py", "test_cli.py", "test_ingestion.py")
"""Files that take longest, first: one that came last would keep one process waiting for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute as workers do: on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def untrained_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two untrained members, penalties 8, 16 and 32."""
    folder = tmp_path_factory.mktemp("untrained")
    for member in (1, 2):
        torch.manual_seed(member)
        header = checkpoint.Header(member=member, seed=1, pairs="none")
        network = Network(NetworkConfig((BLUE.n_pixels, RED.n_pixels)))
        checkpoint.save(folder / f"{header.stem}.safetensors", network, header)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB, where the kernel lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True)
    if not done or done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A client of a real cluster, as users launch it: two single-threaded worker processes on this machine."""
    with launch(Local(n_workers=2)) as connected:
        yield connected
