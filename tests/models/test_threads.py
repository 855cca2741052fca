"""The context that computes on one thread: the process gets its threads back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from twinlines.models.threads import one_thread


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_the_threads_come_back() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_they_come_back_after_an_error() -> None:
    @one_thread()
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fail()
        assert torch.get_num_threads() == 3


def test_threads_of_the_process_do_not_disturb_each_other() -> None:
    def work(_: int) -> set[int]:
        torch.ones(2)  # which makes this thread's own number
        seen = set()
        for _ in range(50):
            with one_thread():
                seen.add(torch.get_num_threads())
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(work, range(8))) == {1}
    assert torch.get_num_threads() == 3


def test_blas_computes_on_one_thread_too() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads()
    with one_thread():
        assert threads() == {1}
    assert threads() == before


def test_a_thread_that_begins_meanwhile_does_not_take_one_for_the_usual_number() -> None:
    inside, go_on = Event(), Event()

    def compute() -> None:
        with one_thread():
            inside.set()
            go_on.wait(30)

    def begin() -> None:
        torch.get_num_threads()  # PyTorch gives a new thread the number that was set last: one
        begun.set()
        with one_thread():
            pass
        seen.append(torch.get_num_threads())

    begun, seen = Event(), list[int]()
    first, second = Thread(target=compute), Thread(target=begin)
    first.start()
    assert inside.wait(30)
    second.start()
    assert begun.wait(30)
    go_on.set()
    first.join()
    second.join()
    assert seen == [3]
    assert torch.get_num_threads() == 3


def test_a_fork_while_another_thread_computes_does_not_wait_for_ever() -> None:
    inside, go_on = Event(), Event()

    def compute() -> None:
        with one_thread():
            inside.set()
            go_on.wait(60)

    thread = Thread(target=compute)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        with one_thread():
            os._exit(7)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(ended[1]) == 7


GUESTS = """
import threading
import numpy
import torch
from twinlines.models.threads import one_thread

torch.set_num_threads(1)
meet = threading.Barrier(2, timeout=30)


def work():
    with one_thread(), one_thread():
        meet.wait()  # both are inside at once


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not meet.broken
torch.set_num_threads(3)
with one_thread():
    assert torch.get_num_threads() == 1
assert torch.get_num_threads() == 3
"""


def test_where_there_is_one_thread_anyway_none_waits() -> None:
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    done = subprocess.run([sys.executable, "-c", GUESTS], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
