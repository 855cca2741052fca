"""Fixtures of tests that launch jobs, through stand-ins for SLURM's commands or a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Slurm


@pytest.fixture(scope="module")
def launched(site: Slurm) -> Iterator[Client]:
    """A client of the module's ``site``, when two workers are there."""
    with launch(site) as client:
        client.wait_for_workers(2, timeout=60)
        yield client
