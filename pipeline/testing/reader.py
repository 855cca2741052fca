"""A reader of FITS files that crashes, stalls or stumbles on files of certain names, for tests of what isolates it.

Nobody can make a disk fail at a test's bidding: names also say which error the system gives instead of the file.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from twinlines.pipeline.ingest.reader import Answer, out_of_reach, read_one, serve
from twinlines.pipeline.lamost.exposures import OutOfReachError


def _trouble(path: Path) -> int | None:
    """Number of the error that the system gives at this reading.

    ``errno5-x.fits`` has it twice, ``errno5always-x.fits`` while there is no file ``mended`` beside it.
    """
    match = re.match(r"errno(\d+)(always)?", path.name)
    if match is None:
        return None
    if match[2]:
        return None if path.with_name("mended").exists() else int(match[1])
    tries = path.with_name(f"{path.name}.tries")
    count = len(tries.read_text()) if tries.exists() else 0
    tries.write_text("x" * (count + 1))
    return int(match[1]) if count < 2 else None


def read(path: str, keep: str | None) -> Answer:
    """Read a file, unless its name begins with what should go wrong."""
    name = Path(path).name
    if name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("stall"):
        while True:
            pass
    if name.startswith("hang"):
        time.sleep(3600)
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if (trouble := _trouble(Path(path))) is not None:
        return out_of_reach(OutOfReachError(trouble, os.strerror(trouble), path))
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
