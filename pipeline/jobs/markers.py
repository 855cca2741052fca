"""Done-markers: which tasks of a job are done, and which have failed, in the job's folder on the disk.

A *recipe* is everything but the rows that decides a result; a *task* has a key that hashes all that it depends on. So
neither a restart nor a new name makes anything be computed twice, and nothing stale is ever taken for new. In a job's
folder, be it a survey's run, an ingestion, an evaluation or the making of a training set:

``run.json``
    the recipe in full, and which versions of what computed it
``done/<task key>.json``
    the marker of a task, written after its data: data without a marker do not count
``failed/<task key>.json``
    the error of a task that failed to the last retry

Knows files and hashes; neither Dask nor a wavelength.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from twinlines.pipeline.storage import atomic

_DISTRIBUTIONS = ("twinlines", "numpy", "scipy", "torch", "xarray", "zarr", "dask", "distributed")


class RecipeError(RuntimeError):
    """A job's folder was begun with another recipe than is asked for."""


def now() -> str:
    """Return the time, UTC, to the millisecond, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def fingerprint(files: Sequence[Path]) -> dict[str, Any]:
    """Size in bytes, and SHA-256, of files one after the other; what a marker says of its task's data."""
    digest, size = hashlib.sha256(), 0
    for path in files:
        with path.open("rb") as file:
            while data := file.read(1 << 20):  # a shard's pixels are hundreds of megabytes
                digest.update(data)
                size += len(data)
    return {"size": size, "sha256": digest.hexdigest()}


def fingerprint_of(data: bytes) -> dict[str, Any]:
    """What :func:`fingerprint` says of a file with this content, which need not be read back."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@dataclass(frozen=True)
class Markers:
    """The folder of a job: which of its tasks are done, which have failed."""

    folder: Path
    """Where ``run.json`` and the markers are."""

    def marker_path(self, key: str) -> Path:
        """File of a task's marker."""
        return self.folder / "done" / f"{key}.json"

    @property
    def done(self) -> int:
        """How many tasks have a marker."""
        return sum(1 for _ in (self.folder / "done").glob("[!.]*.json"))

    def marker(self, key: str) -> dict[str, Any]:
        """Content of a task's marker; empty if there is none."""
        return read_json(self.marker_path(key))

    def failure_path(self, key: str) -> Path:
        """File of a task's failure."""
        return self.folder / "failed" / f"{key}.json"

    def failure(self, key: str) -> dict[str, Any]:
        """Content of a task's failure; empty if it has none."""
        return read_json(self.failure_path(key))

    def open(self, folders: Sequence[str] = ()) -> None:
        """Make the folder, or take it up again: sweep away what a crash left half written. The caller holds the lock.

        Parameters
        ----------
        folders
            Folders wanted beside those of the markers.
        """
        for name in ("done", "failed", *folders):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            for stale in (self.folder / name).glob(".*.tmp"):
                stale.unlink(missing_ok=True)

    def start(self, content: Mapping[str, Any], folders: Sequence[str] = (), **about: Any) -> None:
        """:meth:`open` the folder for one recipe alone, and write ``run.json``.

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
        RecipeError
            If the folder belongs to another recipe; the message says where they differ.
        """
        self.open(folders)
        # The recipe passes through JSON, as what was found did: there, tuples are lists.
        wanted, before = json.loads(json.dumps(dict(content))), self.description()
        others = _differences(before, wanted) if before else []
        if others:
            raise RecipeError(
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
        return read_json(self.folder / "run.json")

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


def versions() -> dict[str, str]:
    """Versions of the packages that take part in a result."""
    return {name: metadata.version(name) for name in _DISTRIBUTIONS}


def _differences(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where two recipes differ, value by value, in words."""
    differences: list[str] = []
    for name, value in wanted.items():
        other = before.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            differences += [f"{name}.{inner}" for inner in _differences(other, value)]
        elif value != other:
            differences.append(f"{name} is {other!r}, asked for is {value!r}")
    return differences


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON object's file; empty if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
