"""What has been done: content keys, done-markers, and the lock of a folder.

A *recipe* is everything but the rows that decides a result. A *task* is one shard of rows under a recipe; its key
hashes the rows' content and the recipe, so that neither a restart nor a new name makes anything be computed twice, and
nothing stale is ever taken for new. In the folder of a job, be it a survey's run or the making of a training set:

``run.json``
    the recipe in full, and which versions of what computed it
``done/<task key>.json``
    the marker of a task, written after its data: data without a marker do not count
``failed/<task key>.json``
    the error of a task that failed to the last retry

A survey's run stands in ``runs/<config key>``, the hash of its recipe, and has its tasks' results beside the markers,
each in one file, ``results/<task key>.zarr.zip``.

Knows files and hashes; neither Dask nor a wavelength.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline import atomic, stores
from twinlines.pipeline.schema import RESULTS

CONFIG_KEY_DIGITS = 16
"""Hexadecimal digits of a recipe's key."""

LOCK = ".lock"
"""File of a job's lock; in a survey's folder, that of its runs."""

INGEST_LOCK = ".ingest.lock"
"""File of the lock of a survey's ingestions: releases are made one after the other, but beside a run."""

_DISTRIBUTIONS = ("twinlines", "numpy", "scipy", "torch", "xarray", "zarr", "dask", "distributed")


class LedgerError(RuntimeError):
    """What the ledger finds on disk does not allow what is asked."""


class SurveyLockedError(LedgerError):
    """Somebody else works on the survey."""


def now() -> str:
    """Return the time, UTC, to the millisecond, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Recipe:
    """Everything but the rows that decides a result."""

    weights: Path
    """Folder of the ensemble; where it lies does not count, what is in it does."""
    digest: str
    """Digest of the ensemble."""
    parameters: Mapping[str, Any]
    """Parameters of the inference, as JSON."""
    numerics: int
    """Numerical version of the code."""

    @property
    def content(self) -> dict[str, Any]:
        """What counts, as JSON."""
        return {
            "weights_digest": self.digest,
            "parameters": dict(self.parameters),
            "numerics": self.numerics,
            "results_version": RESULTS.version,
        }

    @property
    def key(self) -> str:
        """The config key: the first hexadecimal digits of SHA-256 over the canonical JSON of :attr:`content`."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:CONFIG_KEY_DIGITS]


def task_key(
    config_key: str, obsid: NDArray[np.int64], lmjm: NDArray[np.int32], content_hash: NDArray[np.uint64]
) -> str:
    """Key of a task: SHA-256 over the rows' keys and content and the recipe, hexadecimal.

    Parameters
    ----------
    config_key
        Key of the recipe.
    obsid, lmjm, content_hash
        (exposure,) columns of the rows, in their order.
    """
    digest = hashlib.sha256(f"{config_key}:{len(obsid)}:".encode())
    for values, dtype in ((obsid, "<i8"), (lmjm, "<i4"), (content_hash, "<u8")):
        digest.update(np.ascontiguousarray(values, dtype=dtype).tobytes())
    return digest.hexdigest()


def fingerprint(files: Sequence[Path]) -> dict[str, Any]:
    """Size in bytes, and SHA-256, of files one after the other; what a marker says of its task's data."""
    digest, size = hashlib.sha256(), 0
    for path in files:
        with path.open("rb") as file:
            while data := file.read(1 << 20):  # a shard's pixels are hundreds of megabytes
                digest.update(data)
                size += len(data)
    return {"size": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class Markers:
    """The folder of a job: which of its tasks are done, which have failed."""

    folder: Path
    """Where ``run.json`` and the markers are."""

    def marker_path(self, key: str) -> Path:
        """File of a task's marker."""
        return self.folder / "done" / f"{key}.json"

    def marker(self, key: str) -> dict[str, Any]:
        """Content of a task's marker; empty if there is none."""
        return _read_json(self.marker_path(key))

    def failure_path(self, key: str) -> Path:
        """File of a task's failure."""
        return self.folder / "failed" / f"{key}.json"

    def failure(self, key: str) -> dict[str, Any]:
        """Content of a task's failure; empty if it has none."""
        return _read_json(self.failure_path(key))

    def start(self, content: Mapping[str, Any], folders: Sequence[str] = (), **about: Any) -> None:
        """Make the folder, or take it up again: write ``run.json``, sweep away what a crash left half written.

        The caller holds the lock.

        Parameters
        ----------
        content
            The recipe, as JSON; a folder that was begun with another one is refused.
        folders
            Folders wanted beside those of the markers.
        about
            What else ``run.json`` should say.

        Raises
        ------
        LedgerError
            If the folder belongs to another recipe; the message says where they differ.
        """
        for name in ("done", "failed", *folders):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            for stale in (self.folder / name).glob(".*.tmp"):
                stale.unlink(missing_ok=True)
        # The recipe passes through JSON, as what was found did: there, tuples are lists.
        wanted, before = json.loads(json.dumps(dict(content))), self.description()
        others = _differences(before, wanted) if before else []
        if others:
            raise LedgerError(
                f"{self.folder} holds results of another recipe: {'; '.join(others)}. Give that one, choose another "
                "place, or remove the folder"
            )
        started = now()
        atomic.write_json(
            self.folder / "run.json",
            {
                **wanted,
                **about,
                "created": before.get("created", started),
                "last_started": started,
                "versions": versions(),
            },
        )

    def description(self) -> dict[str, Any]:
        """Content of ``run.json``; empty if there is none."""
        return _read_json(self.folder / "run.json")

    def finished(self, key: str, files: Sequence[Path], *, verify: bool = False) -> bool:
        """Whether a task has a marker, and the data that the marker speaks of.

        Parameters
        ----------
        key
            Key of the task.
        files
            Its data.
        verify
            Read the data and compare their hash with the marker's, not only their size.
        """
        marker = self.marker(key)
        if not marker or not all(path.is_file() for path in files):
            return False
        if sum(path.stat().st_size for path in files) != marker.get("size"):
            return False
        return not verify or fingerprint(files)["sha256"] == marker.get("sha256")

    def mark(self, key: str, rows: int, written: Mapping[str, Any], **about: Any) -> dict[str, Any]:
        """Write the marker of a task whose data are on the disk; returns its content.

        Parameters
        ----------
        key
            Key of the task.
        rows
            Rows of its data.
        written
            The data's :func:`fingerprint`.
        about
            What else the marker should say, as JSON.
        """
        code = metadata.version("twinlines")
        marker = {"rows": rows, **written, **about, "twinlines": code, "finished": now()}
        atomic.write_json(self.marker_path(key), marker)
        self.failure_path(key).unlink(missing_ok=True)
        return marker

    def record_failure(self, key: str, error: str, traceback: str, **about: Any) -> Path:
        """Write down that a task failed, and in how many runs it did so; returns the file."""
        path, runs_failed = self.failure_path(key), int(self.failure(key).get("runs", 0)) + 1
        said = {"error": error, "runs": runs_failed, "failed": now(), "traceback": traceback.splitlines()}
        atomic.write_json(path, {**about, **said})
        return path


class Run(Markers):
    """The folder of a survey's run, ``runs/<config key>``: results, markers and failures of one recipe's tasks."""

    @classmethod
    def at(cls, survey: Path, config_key: str) -> Run:
        """Run of a survey by its config key; touches no disk."""
        return cls(Path(survey) / "runs" / config_key)

    @property
    def config_key(self) -> str:
        """Key of the recipe."""
        return self.folder.name

    def result_path(self, key: str) -> Path:
        """File of a task's result."""
        return self.folder / "results" / f"{key}.zarr.zip"

    def begin(self, recipe: Recipe, shard_rows: int, **about: Any) -> None:
        """Make the folder, or take it up again; see :meth:`start`.

        Starts of a survey's runs are numbered, as clocks jump: the run of the highest number was started last.
        """
        others = [run.start_number for run in runs(self.folder.parents[1])]
        self.start(
            {"config_key": self.config_key, **recipe.content},
            ("results",),
            weights=str(recipe.weights),
            shard_rows=shard_rows,
            start_number=1 + max(others, default=0),
            **about,
        )

    @property
    def start_number(self) -> int:
        """Which of the survey's starts of runs was this one's last; 0 if that is not known."""
        return int(self.description().get("start_number", 0))

    def is_done(self, key: str, *, verify: bool = False) -> bool:
        """Whether a task has a marker and its result; see :meth:`finished`."""
        return self.finished(key, [self.result_path(key)], verify=verify)

    def record(self, key: str, result: xr.Dataset, **about: Any) -> dict[str, Any]:
        """Write a task's result, then its marker; returns the marker's content.

        Parameters
        ----------
        key
            Key of the task.
        result
            Rows of :data:`twinlines.pipeline.schema.RESULTS`.
        about
            What else the marker should say, as JSON.
        """
        data = stores.pack(RESULTS, result)
        atomic.write_bytes(self.result_path(key), data)
        written = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return self.mark(key, result.sizes[RESULTS.row], written, **about)


def runs(survey: Path) -> list[Run]:
    """Runs of a survey, the most recently started last."""
    found = [Run(path.parent) for path in (Path(survey) / "runs").glob("*/run.json")]
    return sorted(found, key=lambda run: (run.start_number, run.config_key))


def versions() -> dict[str, str]:
    """Versions of the packages that take part in a result."""
    return {name: metadata.version(name) for name in _DISTRIBUTIONS}


@contextmanager
def lock(folder: Path, purpose: str, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a survey, or of another folder: of two processes that want it, the second is refused.

    The kernel lets go of the lock when its holder dies, however it dies; the file's text only tells who holds it.

    Parameters
    ----------
    folder
        Folder of the survey, or of another job.
    purpose
        What for, in a word.
    name
        Name of the lock's file: what may go on at the same time has locks of its own.

    Raises
    ------
    SurveyLockedError
        If it is held, naming the holder.
    """
    path = Path(folder) / name
    with path.open("a+") as file:
        if not _acquire(file.fileno()):
            raise SurveyLockedError(f"{folder} is in use by {_holder(path)}; wait until it has finished, or end it")
        file.truncate(0)
        holder = {"purpose": purpose, "pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        file.write(json.dumps(holder) + "\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _acquire(handle: int) -> bool:
    for _ in range(3):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Whoever merely asks who holds the lock, holds it for an instant.
            time.sleep(0.05)
        else:
            return True
    return False


def _holder(path: Path) -> str:
    about = _read_json(path)
    if not about:
        return "a process that has just started"
    return f"'{about['purpose']}', process {about['pid']} on {about['host']}, since {about['since']}"


def holder(survey: Path, name: str = LOCK) -> str | None:
    """Who holds a lock of the survey, in words; None if nobody does."""
    path = Path(survey) / name
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(path)
    return None


def _differences(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where two recipes differ, value by value, in words."""
    found: list[str] = []
    for name, value in wanted.items():
        other = before.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found += [f"{name}.{one}" for one in _differences(other, value)]
        elif value != other:
            found.append(f"{name} is {other!r}, asked for is {value!r}")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON object's file; empty if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
