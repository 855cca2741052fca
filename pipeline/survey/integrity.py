"""Whether a release's files are what they were when it was made: its shards against their checksums.

A disk that loses bits, or a copy that was broken off, must not become probabilities. Every task checks the shards that
it reads; ``twinlines status --verify`` checks them all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from twinlines.pipeline.jobs.markers import fingerprint
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.releases import CHECKSUMS, SurveyError


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
    if not about:
        return
    size = int(about["shard_rows"])
    for number in range(start // size, -(-stop // size)):
        files = stores.shard_files(store, replace(EXPOSURES, shard_rows=size), number * size)
        state = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        if _fingerprint(state) != about["shards"][number]["sha256"]:
            raise SurveyError(
                f"{store}: shard {number} (rows from {number * size} on) is damaged (its checksum differs); "
                f"restore the files c/{number} of its variables from a copy, or move this release and all later ones "
                "away and ingest them again, in their order: what was computed of equal rows is kept"
            )


def damaged(store: Path, rows: int) -> list[str]:
    """What is wrong with the shards of a release, one message each."""
    messages = []
    size = int(_checksums(store).get("shard_rows", EXPOSURES.shard_rows))
    for start in range(0, rows, size):
        try:
            check_rows(store, start, min(start + size, rows))
        except SurveyError as error:
            messages.append(str(error))
    return messages


def _checksums(store: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((store.parent / CHECKSUMS).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SurveyError(
            f"{store.parent / CHECKSUMS} is damaged ({error}); restore it, or remove it to go on"
        ) from error
    return about


@lru_cache(maxsize=16)
def _fingerprint(state: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of files that a worker reads for several tasks in a row; a change makes them others."""
    return str(fingerprint([file for file, _, _ in state])["sha256"])
