"""One thread for a while: results depend, in their last bits, on how many threads PyTorch computes with.

What promises the same bits everywhere computes within :func:`one_thread`; nothing else may touch the number of threads,
which belongs to the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_LOCK = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """While the context lasts, PyTorch computes on one thread; afterwards on as many as before. Decorates, too.

    The number is the process's, not a thread's: where several threads want it, the others wait, so that none is
    returned more threads in the middle of its work. Workers have a thread each and never wait.
    """
    with _LOCK:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
