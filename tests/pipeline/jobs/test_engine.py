"""The engine's loop: what goes wrong on the client's side is said as what goes wrong on a worker."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from twinlines.pipeline.jobs.engine import JobError, compute
from twinlines.pipeline.jobs.markers import Markers


@dataclass(frozen=True)
class Number:
    """A piece that is a number."""

    number: int

    @property
    def key(self) -> str:
        return f"{self.number:032x}"

    @property
    def about(self) -> dict[str, Any]:
        return {"number": self.number}


def twice(piece: Number) -> int:
    return 2 * piece.number


def run(client: Client, folder: Path, fails: OSError | None, where: str) -> list[int]:
    """Double three numbers; ``fails`` is raised as the second is prepared, or as its end is written."""
    markers, results = Markers(folder / "jobs"), list[int]()
    markers.open()

    def tasks() -> Iterator[tuple[Number]]:
        for number in range(3):
            if fails is not None and where == "prepared" and number == 1:
                raise fails
            yield (Number(number),)

    def finished(piece: Number, result: int) -> None:
        if fails is not None and where == "finished" and piece.number == 1:
            raise fails
        results.append(result)

    assert compute(client, markers, twice, tasks(), finished) == {}
    return sorted(results)


def test_a_job_is_all_its_pieces(client: Client, tmp_path: Path) -> None:
    assert run(client, tmp_path, None, "") == [0, 2, 4]


@pytest.mark.parametrize("where", ["prepared", "finished"])
def test_a_full_disk_of_the_client_says_what_to_do(client: Client, tmp_path: Path, where: str) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "parts/1.json")
    with pytest.raises(JobError, match=r"parts/1\.json.*; free some space and give the same command again"):
        run(client, tmp_path, full, where)
    denied = PermissionError(errno.EACCES, "Permission denied", "parts/1.json")
    with pytest.raises(PermissionError, match="Permission denied"):
        run(client, tmp_path, denied, where)
