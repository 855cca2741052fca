"""What has been done: content keys, done-markers, and the lock of a survey.

A *recipe* is everything but the rows that decides a result; its hash names the folder ``runs/<config key>``. A *task*
is one shard of rows under a recipe; its key hashes the rows' content and the recipe, so that neither a restart nor a
new name makes anything be computed twice, and nothing stale is ever taken for new. In a run's folder:

``run.json``
    the recipe in full, and which versions of what computed it
``results/<task key>.zarr.zip``
    the result of a task, one file
``done/<task key>.json``
    its marker, written after it: a result without a marker does not count
``failed/<task key>.json``
    the error of a task that failed to the last retry

Knows files and hashes; neither Dask nor a wavelength.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True)
class Run:
    """The folder of a run: results, markers and failures of one recipe's tasks."""

    folder: Path
    """``runs/<config key>`` of a survey."""

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

    def marker_path(self, key: str) -> Path:
        """File of a task's marker."""
        return self.folder / "done" / f"{key}.json"

    def failure_path(self, key: str) -> Path:
        """File of a task's failure."""
        return self.folder / "failed" / f"{key}.json"

    def begin(self, recipe: Recipe, shard_rows: int) -> None:
        """Make the folder, or take it up again: write ``run.json``, sweep away what a crash left half written.

        The caller holds the survey's lock.

        Raises
        ------
        LedgerError
            If the folder belongs to another recipe.
        """
        for name in ("results", "done", "failed"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            for stale in (self.folder / name).glob(".*.tmp"):
                stale.unlink(missing_ok=True)
        before = self.description()
        found = {name: before.get(name) for name in recipe.content} if before else recipe.content
        # The recipe passes through JSON, as what was found did: there, tuples are lists.
        if found != json.loads(json.dumps(recipe.content)):
            raise LedgerError(f"{self.folder} holds results of another recipe: {found}, not {recipe.content}")
        started = now()
        atomic.write_json(
            self.folder / "run.json",
            {
                "config_key": self.config_key,
                **recipe.content,
                "weights": str(recipe.weights),
                "shard_rows": shard_rows,
                "created": before.get("created", started),
                "last_started": started,
                "versions": versions(),
            },
        )

    def description(self) -> dict[str, Any]:
        """Content of ``run.json``; empty if there is none."""
        return _read_json(self.folder / "run.json")

    def is_done(self, key: str, *, verify: bool = False) -> bool:
        """Whether a task has a marker, and the result that the marker speaks of.

        Parameters
        ----------
        key
            Key of the task.
        verify
            Read the result and compare its hash with the marker's, not only its size.
        """
        marker, path = _read_json(self.marker_path(key)), self.result_path(key)
        if not marker or not path.is_file() or path.stat().st_size != marker.get("size"):
            return False
        return not verify or hashlib.sha256(path.read_bytes()).hexdigest() == marker.get("sha256")

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
        marker = {
            "rows": result.sizes[RESULTS.row],
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            **about,
            "finished": now(),
        }
        atomic.write_json(self.marker_path(key), marker)
        self.failure_path(key).unlink(missing_ok=True)
        return marker

    def record_failure(self, key: str, error: str, traceback: str, **about: Any) -> Path:
        """Write down that a task failed; returns the file."""
        path = self.failure_path(key)
        atomic.write_json(path, {**about, "error": error, "failed": now(), "traceback": traceback.splitlines()})
        return path


def runs(survey: Path) -> list[Run]:
    """Runs of a survey, the most recently started last."""
    found = [Run(path.parent) for path in (Path(survey) / "runs").glob("*/run.json")]
    return sorted(found, key=lambda run: (str(run.description().get("last_started")), run.config_key))


def versions() -> dict[str, str]:
    """Versions of the packages that take part in a result."""
    return {name: metadata.version(name) for name in _DISTRIBUTIONS}


@contextmanager
def lock(survey: Path, purpose: str) -> Iterator[None]:
    """Hold the survey's lock: of two processes that want it, the second is refused.

    The kernel lets go of the lock when its holder dies, however it dies; the file's text only tells who holds it.

    Parameters
    ----------
    survey
        Folder of the survey.
    purpose
        What for, in a word.

    Raises
    ------
    SurveyLockedError
        If it is held, naming the holder.
    """
    with (Path(survey) / ".lock").open("a+") as file:
        if not _acquire(file.fileno()):
            raise SurveyLockedError(
                f"{survey} is in use by {_holder(Path(survey))}; wait until it has finished, or end it"
            )
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


def _holder(survey: Path) -> str:
    about = _read_json(survey / ".lock")
    if not about:
        return "a process that has just started"
    return f"'{about['purpose']}', process {about['pid']} on {about['host']}, since {about['since']}"


def holder(survey: Path) -> str | None:
    """Who holds the survey's lock, in words; None if nobody does."""
    path = Path(survey) / ".lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(Path(survey))
    return None


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON object's file; empty if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
