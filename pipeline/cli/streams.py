"""The command's standard streams, which may be closed, full, or read by nobody: none of that ends the work."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any, TextIO, cast


class OutputError(RuntimeError):
    """What was computed cannot be printed."""


class Forgiving:
    """A stream for words beside the result: once it cannot be written any more, what is written is lost, no more.

    Parameters
    ----------
    stream
        The stream that is written to; this one has its other attributes, too.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if that can be done; returns the number of characters, as streams do."""
        try:
            return self._stream.write(text)
        except OSError:
            forget(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        try:
            self._stream.flush()
        except OSError:
            forget(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forget(stream: IO[str]) -> None:
    """Let what a stream holds and will be given go nowhere: its reader has left."""
    with suppress(OSError, ValueError):  # it has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Make this process's standard streams such that all code can write to them.

    To be called by a command's process alone, before it opens any file.
    """
    # A closed descriptor would be that of the first file that is opened, and what libraries print would be in there.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be UTF-8, nor terminals know more than ASCII.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, Forgiving(sys.stderr))
