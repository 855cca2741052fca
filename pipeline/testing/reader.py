"""A reader of FITS files that crashes, stalls or stumbles on files of certain names, for tests of what isolates it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from twinlines.pipeline.ingest.reader import Answer, read_one, serve


def read(path: str, keep: str | None) -> Answer:
    """Read a file, unless its name begins with what should go wrong."""
    name = Path(path).name
    if name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("stall"):
        time.sleep(3600)
    if name.startswith("stumble"):
        raise ZeroDivisionError("nobody thought of this")
    if name.startswith("full"):
        raise OSError(28, "No space left on device", "/dev/shm/x")
    if name.startswith("once") and not Path(path + ".died").exists():
        Path(path + ".died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read_one(path, keep)


if __name__ == "__main__":
    serve(read)
