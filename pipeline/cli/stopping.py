"""Signals that ask a command to stop: it cleans up, as by Ctrl-C, and the exit status says which signal it was.

SLURM, systemd and containers send SIGTERM, a terminal that is closed SIGHUP. Taken as they come, they would end the
process before it has stopped its workers and removed its folders.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask."""


class Stop:
    """The signal that asked, if any did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def status(self) -> int | None:
        """Exit status as shells have it, 128 and the signal's number; None if none asked."""
        return None if self.signal is None else 128 + self.signal


@contextmanager
def asked() -> Iterator[Stop]:
    """While the context lasts, the first of the signals raises KeyboardInterrupt, and a second ends the process.

    A signal that this process was started to ignore, as by ``nohup``, stays ignored.
    """
    stop = Stop()
    before = {each: signal.getsignal(each) for each in SIGNALS}
    handled = [each for each in SIGNALS if before[each] is not signal.SIG_IGN]

    def ask(number: int, _: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    for each in handled:
        signal.signal(each, ask)
    try:
        yield stop
    finally:
        for each in handled:
            signal.signal(each, before[each])
