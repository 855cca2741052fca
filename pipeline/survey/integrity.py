"""Whether a release's files are what they were when it was made: its shards against their checksums.

A disk that loses bits, or a copy that was broken off, must not become probabilities. Every task checks the shards that
it reads; ``twinlines status --verify`` checks them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from twinlines.pipeline.jobs.markers import fingerprint
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import atomic, stores
from twinlines.pipeline.survey.releases import CHECKSUMS, STORE, Release, SurveyError


def seal(folder: Path, shard_rows: int, shards: Sequence[Mapping[str, Any]]) -> str:
    """Write down what the files of a release must be, its store whole; returns the digest of what was written.

    Parameters
    ----------
    folder
        Folder of the release, or where it is made.
    shard_rows
        Rows of a shard.
    shards
        Each shard's :func:`twinlines.pipeline.jobs.markers.fingerprint`.
    """
    description = fingerprint(_description(folder / STORE))
    about = {"shard_rows": shard_rows, "shards": [dict(shard) for shard in shards], "description": description}
    atomic.write_json(folder / CHECKSUMS, about)
    return str(fingerprint([folder / CHECKSUMS])["sha256"])


def _description(store: Path) -> list[Path]:
    """The files of a store that say what it is: its variables' types and shapes, its labels; but no row."""
    labels = (path for name in EXPOSURES.coords for path in (store / name).rglob("*") if path.is_file())
    return sorted({*store.glob("zarr.json"), *store.glob("*/zarr.json"), *labels})


def check_rows(store: Path, start: int, stop: int) -> None:
    """Check the shards that hold some rows of a release.

    A release without checksums, of a version that kept none, passes.

    Parameters
    ----------
    store
        Exposures store of the release.
    start, stop
        First row, and the row after the last.

    Raises
    ------
    SurveyError
        If a shard is damaged or lost, saying which and what to do.
    """
    about = _checksums(store)
    _check_description(store, about)
    _check_shards(store, about, start, stop)


def _check_description(store: Path, about: Mapping[str, Any]) -> None:
    if "description" in about and _fingerprint(_state(_description(store))) != about["description"]["sha256"]:
        raise SurveyError(
            f"{store}: its zarr.json files, or its labels, are damaged (their checksum differs); restore them from a "
            "copy, or move this release and all later ones away and ingest them again, in their order"
        )


def _check_shards(store: Path, about: Mapping[str, Any], start: int, stop: int) -> None:
    """Check the shards of some rows; one that has no checksum passes."""
    if not about:
        return
    size = int(about["shard_rows"])
    for number in range(start // size, -(-stop // size)):
        files = stores.shard_files(store, replace(EXPOSURES, shard_rows=size), number * size)
        if _fingerprint(_state(files)) != about["shards"][number]["sha256"]:
            raise SurveyError(
                f"{store}: shard {number} (rows from {number * size} on) is damaged (its checksum differs); "
                f"restore the files c/{number} of its variables from a copy, or move this release and all later ones "
                "away and ingest them again, in their order: what was computed of equal rows is kept"
            )


def damaged(store: Path, rows: int) -> list[str]:
    """What is wrong with a release, one message each: its description, and each of its shards."""
    try:
        about = _checksums(store)
    except SurveyError as error:
        return [str(error)]
    size = int(about.get("shard_rows", EXPOSURES.shard_rows))
    checks = [partial(_check_description, store, about)]
    checks += [partial(_check_shards, store, about, start, min(start + size, rows)) for start in range(0, rows, size)]
    messages = []
    for check in checks:
        try:
            check()
        except SurveyError as error:
            messages.append(str(error))
    return messages


def _checksums(store: Path) -> dict[str, Any]:
    path, promised = store.parent / CHECKSUMS, Release.read(store.parent).checksums_digest
    cure = "restore it from a copy, or move this release and all later ones away and ingest them again, in their order"
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        if not promised:  # of a version that kept none
            return {}
        raise SurveyError(f"{path} is gone; {cure}") from None
    except ValueError as error:
        raise SurveyError(f"{path} is damaged ({error}); {cure}") from error
    if promised and fingerprint([path])["sha256"] != promised:
        raise SurveyError(f"{path} is damaged (its checksum differs); {cure}")
    return about


def _state(files: Sequence[Path]) -> tuple[tuple[Path, int, int], ...]:
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=16)
def _fingerprint(state: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of files that a worker reads for several tasks in a row; a change makes them others."""
    return str(fingerprint([file for file, _, _ in state])["sha256"])
