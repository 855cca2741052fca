"""One thread for a while: results depend, in their last bits, on how many threads PyTorch and BLAS compute with.

What promises the same bits everywhere computes within :func:`one_thread`; nothing else may touch the number of threads,
which belongs to the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, RLock, local

import torch
from threadpoolctl import threadpool_info, threadpool_limits


class _State:
    """Who computes on one thread, and how many there were before."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Know of nobody."""
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self.depth = 0
        self.guests = 0
        self.usual: int | None = None
        self.known = local()

    @property
    def single(self) -> bool:
        """Whether the process computes on one thread anyway, and has never done otherwise."""
        if self.depth or self.usual not in (None, 1) or torch.get_num_threads() != 1:
            return False
        return all(pool["num_threads"] == 1 for pool in threadpool_info() if pool["user_api"] == "blas")


_STATE = _State()
# A child that is forked while another thread computes would wait for ever for a lock that nobody holds in it.
os.register_at_fork(after_in_child=_STATE.begin)


@contextmanager
def one_thread() -> Iterator[None]:
    """While the context lasts, PyTorch and BLAS compute on one thread; afterwards on as many as before. Decorates, too.

    The number is the process's, not a thread's: where several threads want it, the others wait, so that none is
    returned more threads in the middle of its work. Where the process has one thread anyway, as Dask's workers have, no
    number changes and none waits: a worker that feeds a GPU computes in several threads at once.
    """
    if getattr(_STATE.known, "guest", False):
        yield
        return
    with _STATE.lock:
        guest = _STATE.single
        if guest:
            _STATE.guests += 1
    with _guest() if guest else _alone():
        yield


@contextmanager
def _guest() -> Iterator[None]:
    state = _STATE
    state.known.guest = True
    try:
        yield
    finally:
        state.known.guest = False
        with state.changed:
            state.guests -= 1
            state.changed.notify_all()


@contextmanager
def _alone() -> Iterator[None]:
    with _STATE.changed:
        _STATE.changed.wait_for(lambda: _STATE.guests == 0)
        if _STATE.depth:
            yield
            return
        usual = torch.get_num_threads()
        # PyTorch has a number for each thread, which a new one takes from whoever set it last: from us, perhaps.
        if usual == 1 and _STATE.usual is not None and not getattr(_STATE.known, "thread", False):
            usual = _STATE.usual
        _STATE.usual, _STATE.known.thread, _STATE.depth = usual, True, 1
        try:
            # NumPy's products go over BLAS, which PyTorch's number does not reach.
            with threadpool_limits(limits=1, user_api="blas"):
                torch.set_num_threads(1)
                yield
        finally:
            torch.set_num_threads(usual)
            _STATE.depth = 0
