"""Reads FITS files in a process of its own, so that one on which the reader crashes or stalls costs that file alone.

cfitsio is C: a damaged file may end the process that reads it, or keep it busy without end, and neither can be caught
within that process. On a worker, it would take the batch with it, and after some retries the whole ingestion. Here, the
worker's thread hands one path after the other to a child and waits for its answer, which is small: keys and content
hashes, and where the child has kept the rows; no spectra. A child that dies, or does not answer in time, names the file
by dying; the file is tried once more in a new child, and then it is quarantined.

The child reads paths from its standard input and writes one JSON line for each; it ends when its input does, also when
the worker was killed. Alarm clocks of the kernel end it when one file takes too long, even within C, and when there
has been nothing to read for a minute.

What the system does not let us read is no fault of the file: it is tried again after pauses, and the answer says that
the file is out of reach, which nobody may take for a verdict on it. So is a file whose reader waits without end, or is
killed by somebody; one that keeps the processor busy without end is to blame itself. The child takes no module from
the working folder, where a ``random.py`` may lie.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any

from twinlines.pipeline.lamost.exposures import Reason

ATTEMPTS = 2
"""How many children may die of a file before it is quarantined."""

IDLE = 60
"""Seconds after which a child that has nothing to read ends."""

PATIENCE = 120
"""Seconds of the processor's time after which a file is taken for one that stalls. An ordinary one takes some 10 ms."""

WAITING = 600
"""Seconds by the clock after which the disk of a file, or its server, is taken to be at fault."""

PAUSES = (0.2, 1.0, 5.0)
"""Seconds to wait before a file that the system did not let us read is tried again."""

# glibc gives a file's megabyte back to the system, and asks for it again, page by page, for the next one.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}  # bytes
_PAUSES_OF_A_BATCH = 60.0  # where much is out of reach, waiting for each file would take days
_HANGING_OF_A_BATCH = 3  # files
_KILLS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)  # by no file's hand
_LASTING = (errno.EACCES, errno.EPERM)


class ReaderError(RuntimeError):
    """The reader itself cannot work, whatever the file."""


@dataclass(frozen=True)
class Answer:
    """What reading a file gave."""

    rows: tuple[tuple[int, int, int, int, float, float], ...] = ()
    """obsid, lmjm, content hash, fibre, right ascension and declination (deg) of each usable exposure."""
    problems: tuple[str, ...] = ()
    """What is wrong in a file that is used nevertheless."""
    reason: str = ""
    """Why the file gives no row, in a word; empty if it does."""
    message: str = ""
    """Why it gives no row, and what to do."""
    kept: tuple[int, ...] = ()
    """Byte at which each row begins in the file that keeps them, -1 for one that is not kept; empty if none is."""
    passing: bool = False
    """Whether the reason may be gone in a moment, so that to try again is worth while."""
    hangs: bool = False
    """Whether its disk did not answer."""


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    patience: int = PATIENCE
    """Seconds of the processor's time after which a file is taken for one that stalls."""
    waiting: int = WAITING
    """Seconds by the clock after which its disk is taken to be at fault."""
    module: str = "twinlines.pipeline.ingest.reader"
    """Module that the child runs; another one only to test files that crash or stall."""


class Child:
    """A child process that reads, on the side of its parent; to be used by one thread at a time."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.said = ""  # the last line of its standard error, once it has ended
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the child)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", reading.module, str(reading.patience), str(reading.waiting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**_KEEP_MEMORY, **os.environ},
        )
        if self._line() != b"ready\n":
            self.close()
            raise ReaderError(f"no process to read FITS files can be started here: {self.said}")

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def ask(self, path: str, keep: str | None) -> Answer | None:
        """Read one file, and keep its rows in ``keep``; None if the child died of it.

        Raises
        ------
        ReaderError
            If reading failed for want of memory or space, which says nothing about the file.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([path, keep]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            return None
        answer = json.loads(line)
        if "failed" in answer:
            raise ReaderError(f"{path}: {answer['failed']}; this says nothing about the file")
        rows = tuple(tuple(row) for row in answer["rows"])
        return Answer(**{**answer, "rows": rows, "problems": tuple(answer["problems"]), "kept": tuple(answer["kept"])})

    def lives(self) -> bool:
        """Whether the child is there to be asked."""
        return self._process.poll() is None

    def close(self) -> int:
        """End the child, if it still lives, and return its exit status: a negative one is the signal it died of."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        self.said = lines[-1] if lines else "it said nothing"
        return status


_idle: list[Child] = []
_lock = Lock()


@contextmanager
def _borrowed(reading: Reading) -> Iterator[list[Child]]:
    """Lend a child that waits for work, or a new one: starting one takes a second. The list may be refilled."""
    held: list[Child] = []
    with _lock:
        for child in [idle for idle in _idle if idle.reading == reading]:
            _idle.remove(child)
            if child.lives():
                held.append(child)
                break
            child.close()
    if not held:
        held.append(Child(reading))
    try:
        yield held
    except BaseException:
        for child in held:
            child.close()
        raise
    with _lock:
        _idle.extend(held)


def close_idle() -> None:
    """End the children that wait for work."""
    with _lock:
        ending = [*_idle]
        _idle.clear()
    for child in ending:
        child.close()


atexit.register(close_idle)


def read_all(paths: Iterator[str], reading: Reading, keep: str | None = None) -> Iterator[Answer]:
    """Read files one after the other, each isolated, and yield what each gave.

    Parameters
    ----------
    paths
        The files.
    reading
        How they are read.
    keep
        File to which rows are appended, see :func:`twinlines.pipeline.ingest.rows.append`; None keeps none.

    Raises
    ------
    ReaderError
        If no child can be started, memory or space is wanting, or one file after the other hangs.
    """
    patience, hanging = _PAUSES_OF_A_BATCH, 0
    with _borrowed(reading) as held:
        for path in paths:
            answer = _isolated(path, keep, held, reading)
            for pause in PAUSES:
                if not answer.passing or pause > patience:
                    break
                patience -= pause
                time.sleep(pause)
                answer = _isolated(path, keep, held, reading)
            if answer.hangs:
                hanging += 1
                if hanging == _HANGING_OF_A_BATCH:
                    raise ReaderError(f"{answer.message}, as for {hanging - 1} files before it")
            yield answer


def _isolated(path: str, keep: str | None, held: list[Child], reading: Reading) -> Answer:
    status, said = 0, ""
    for _ in range(ATTEMPTS):
        answer = held[0].ask(path, keep)
        if answer is not None:
            return answer
        dead = held.pop()
        status, said = dead.close(), dead.said
        held.append(Child(reading))
        if status == -signal.SIGALRM:
            waited = f"{path}: nothing came for {reading.waiting} s; see whether its disk or server answers"
            return Answer(reason=Reason.OUT_OF_REACH, message=waited, hangs=True)
    if status == -signal.SIGPROF:
        return Answer(
            reason=Reason.STALLED,
            message=f"{path}: not read after {reading.patience} s, {ATTEMPTS} times; fetch the file again or leave it "
            "out",
        )
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    message = f"{path}: ends the process that reads it, {ATTEMPTS} times ({how}; {said})"
    if -status in _KILLS:
        killed = f"{message}; no file does that: see who does, perhaps the system for want of memory"
        return Answer(reason=Reason.OUT_OF_REACH, message=killed)
    return Answer(reason=Reason.CRASHED, message=f"{message}; fetch the file again or leave it out")


def serve(read: Callable[[str, str | None], Answer]) -> None:
    """Be the child: read paths from standard input, answer on standard output, until the input ends."""
    patience, waiting = (int(argument) for argument in sys.argv[1:])
    # Whatever else is printed, cfitsio's own words included, must not stand among the answers.
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides
        out.write(b"ready\n")
        signal.alarm(IDLE)
        for line in sys.stdin.buffer:
            signal.alarm(waiting)
            signal.setitimer(signal.ITIMER_PROF, patience)
            out.write(json.dumps(_answer(read, *json.loads(line))).encode() + b"\n")
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(IDLE)


def _answer(read: Callable[[str, str | None], Answer], path: str, keep: str | None) -> dict[str, Any]:
    try:
        return vars(read(path, keep))
    except (MemoryError, OSError) as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"{path}: {type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno}); this is a "
            "fault of the reader; report it, or leave the file out"
        )
        return vars(Answer(reason=Reason.CRASHED, message=message))


def out_of_reach(error: OSError) -> Answer:
    """What to answer where the system does not let us read a file."""
    message = f"{error.filename}: the system does not let us read it (error {error.errno}: {error.strerror})"
    return Answer(reason=Reason.OUT_OF_REACH, message=message, passing=error.errno not in _LASTING)


def read_one(path: str, keep: str | None = None) -> Answer:
    """Read one file in this process, and append its rows to ``keep``."""
    from twinlines.pipeline.ingest import rows as ingest_rows
    from twinlines.pipeline.ingest.index import fibre_number
    from twinlines.pipeline.lamost import reader

    try:
        file = reader.read(Path(path))
    except reader.LamostError as error:
        return Answer(reason=str(error.reason), message=str(error))
    except reader.OutOfReachError as error:
        return out_of_reach(error)
    exposures = ingest_rows.records(file)
    fibres = fibre_number(exposures["spid"], exposures["fiberid"])
    columns = (
        exposures["obsid"],
        exposures["lmjm"],
        exposures["content_hash"],
        fibres,
        exposures["ra"],
        exposures["dec"],
    )
    rows = tuple(zip(*(column.tolist() for column in columns), strict=True))
    kept = () if keep is None else tuple(ingest_rows.append(keep, exposures))
    return Answer(rows, tuple(file.problems), kept=kept)


if __name__ == "__main__":
    serve(read_one)
