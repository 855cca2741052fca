"""What tasks have answered, kept on the disk: until a job is whole, or for the next one that asks the same.

An answer counts only for what it was asked of: its key is a hash of the question and of everything that decides the
answer (weights, pairs, library, numerics), so that nothing stale is ever taken for new. Files and markers lie as those
of every job.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.jobs.markers import Markers, fingerprint_of
from twinlines.pipeline.storage import atomic

Answer = Mapping[str, NDArray[Any]]
"""Arrays by name: what every task answers."""


@dataclass(frozen=True)
class Answers:
    """A folder of answers."""

    markers: Markers
    """Which are there."""
    decides: Mapping[str, Any]
    """What decides them beside the question, as JSON."""

    def open(self) -> None:
        """Make the folder, or take it up again. The caller holds its lock."""
        self.markers.open(("answers",))

    def key(self, question: str) -> str:
        """Key of the answer to a question."""
        text = json.dumps([question, dict(self.decides)], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def path(self, key: str) -> Path:
        """File of an answer."""
        return self.markers.folder / "answers" / f"{key}.npz"

    def find(self, key: str) -> Answer | None:
        """An answer; None if there is none, or its file is damaged."""
        if not self.markers.finished(key, [self.path(key)], verify=True):
            return None
        with np.load(self.path(key), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def keep(self, key: str, answer: Answer, **about: Any) -> None:
        """Keep an answer, then its marker.

        Raises
        ------
        OSError
            If the disk is full; what was kept before stays.
        """
        data = io.BytesIO()
        arrays: dict[str, Any] = dict(answer)
        np.savez(data, **arrays)
        atomic.write_bytes(self.path(key), data.getvalue())
        self.markers.mark(key, len(arrays), fingerprint_of(data.getvalue()), **about)
