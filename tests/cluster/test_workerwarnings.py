"""Warnings of workers: shown by the client's process, before the result of the task that raised them, and each once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator

import pytest
from distributed import Client

from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Address, Local


class OddWarning(UserWarning):
    """One whose arguments are no text."""

    def __init__(self, number: int) -> None:
        super().__init__(f"odd {number}")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with launch(Local(n_workers=2, memory=2**30)) as client:
        yield client


def warn(number: int) -> int:
    """What a task may do."""
    warnings.warn("all tasks say this", stacklevel=1)
    warnings.warn(f"task {number} says this", RuntimeWarning, stacklevel=1)
    warnings.warn(OddWarning(number), stacklevel=1)
    return number


def shown(client: Client, tasks: int) -> list[warnings.WarningMessage]:
    """What is shown of tasks' warnings until their results are there."""
    with warnings.catch_warnings(record=True) as records:
        assert client.gather(client.map(warn, range(tasks), pure=False)) == list(range(tasks))
    return records


def test_none_is_lost_and_none_is_told_twice(client: Client) -> None:
    records = shown(client, 20)
    texts = [str(record.message) for record in records]
    own = [text for number in range(20) for text in (f"task {number} says this", f"odd {number}")]
    assert sorted(texts) == sorted(["all tasks say this", *own])
    assert {record.category for record in records} == {UserWarning, RuntimeWarning, OddWarning}
    assert {record.filename for record in records} == {__file__}


def test_a_fork_of_a_worker_says_it_on_its_standard_error(client: Client) -> None:
    def in_a_fork() -> str:
        ends = os.pipe()
        if (child := os.fork()) == 0:
            os.dup2(ends[1], 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            warnings.showwarning("a fork says this", RuntimeWarning, "nowhere.py", 1)
            sys.stderr.flush()
            os._exit(0)
        os.waitpid(child, 0)
        os.close(ends[1])
        with os.fdopen(ends[0]) as said:
            return said.read()

    assert client.submit(in_a_fork, pure=False).result() == "RuntimeWarning: a fork says this\n"


def test_workers_of_others_show_theirs_as_they_did(client: Client) -> None:
    with launch(Local(n_workers=1)) as own:
        before = own.run(lambda: warnings.showwarning.__module__)
        with launch(Address(own.scheduler.address)):
            assert own.run(lambda: warnings.showwarning.__module__) == before


def test_a_command_prints_messages_and_no_line_of_code() -> None:
    program = """
        import warnings
        from twinlines.cluster.launch import launch
        from twinlines.cluster.profiles import Local
        from twinlines.pipeline.cli import console

        def warn(number):
            import warnings
            warnings.warn("a worker says this", stacklevel=1)

        if __name__ == "__main__":
            warnings.showwarning = console.warn
            with launch(Local(n_workers=1)) as client:
                client.submit(warn, 1).result()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=True
    )
    assert ended.stderr == "twinlines: warning: a worker says this\n"
