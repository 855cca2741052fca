"""A scheduler and its workers in a process of their own, and the largest memory that a process ever had.

python processes.py WORKERS     # prints the scheduler's address, and serves until its input ends
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local


def peak(process: int | str = "self") -> float:
    """Largest memory that a process of this machine ever had, MiB."""
    said = Path(f"/proc/{process}/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024.0


@contextmanager
def scheduler(workers: int) -> Iterator[tuple[str, int]]:
    """Start a scheduler and its workers in a process of their own; yields address and process."""
    command = [sys.executable, __file__, str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), child.pid
        finally:
            child.communicate("")


def main() -> None:
    with launch(Local(n_workers=int(sys.argv[1]))) as client:
        print(client.cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
