"""Profiles: descriptions that refuse what cannot be, and say themselves as a user would type them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twinlines.cluster.profiles import (
    Address,
    Cuda,
    Local,
    Profile,
    ProfileError,
    SchedulerFile,
    Slurm,
    Ssh,
    cores,
    walltime_seconds,
)
from twinlines.cluster.site import parse


@pytest.mark.parametrize(
    "profile",
    [
        Local(),
        Local(2),
        Local(2, 10**9),
        Cuda(1),
        Address("tcp://127.0.0.1:8786"),
        SchedulerFile(file=Path("/shared/scheduler.json")),
    ],
    ids=str,
)
def test_a_profile_reads_what_it_prints(profile: Profile) -> None:
    assert parse(str(profile)) == profile


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("4:00:00", 4 * 3600),
        ("1-12", 36 * 3600),
        ("1-12:30", 36.5 * 3600),
        ("1-12:30:10", 36.5 * 3600 + 10),
    ],
)
def test_walltimes_are_read_as_slurm_reads_them(walltime: str, seconds: int) -> None:
    assert walltime_seconds(walltime) == seconds


@pytest.mark.parametrize("walltime", ["", "4h", "1:2:3:4", "1-", "0:00"])
def test_no_walltime(walltime: str) -> None:
    with pytest.raises(ProfileError, match=f"walltime is '{walltime}'"):
        walltime_seconds(walltime)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Local(n_workers=0), "local: n_workers is 0; give 1 or more"),
        (lambda: Cuda(memory=0), "cuda: memory is 0 bytes"),
        (lambda: Slurm(jobs=0), "slurm: jobs is 0; give 1 or more"),
        (lambda: Slurm(gres="gpu:a100:4"), "gres is 'gpu:a100:4', but gpus is 0"),
        (lambda: Slurm(host="a", interface="ib0"), "host and interface are both given"),
        (lambda: Slurm(walltime="soon"), "walltime is 'soon'"),
        (lambda: Ssh(), "there are no hosts"),
        (lambda: Ssh(hosts=("a",), workers_per_host=0), "workers_per_host is 0"),
        (lambda: Address(), "'' is no scheduler's address"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], Profile], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        make()


def test_there_is_a_core() -> None:
    assert cores() >= 1
