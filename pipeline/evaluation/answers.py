"""What the tasks of an evaluation have answered, kept on the disk until the evaluation is whole.

An answer counts only for what it was asked of: its file is named by a hash of the question and of everything that
decides the answer (weights, pairs, library, numerics), so that nothing stale is ever taken for new.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.storage import atomic

Answer = Mapping[int, Mapping[str, NDArray[Any]]]
"""By penalty, arrays by name: what every task answers."""


@dataclass(frozen=True)
class Answers:
    """A folder of answers."""

    folder: Path
    """Where they are."""
    decides: Mapping[str, Any]
    """What decides them beside the question, as JSON."""

    def path(self, question: str) -> Path:
        """File of the answer to a question."""
        text = json.dumps([question, dict(self.decides)], sort_keys=True, allow_nan=False)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"

    def find(self, question: str) -> Answer | None:
        """The answer to a question; None if there is none, or its file is damaged."""
        found: dict[int, dict[str, NDArray[Any]]] = {}
        try:
            with np.load(io.BytesIO(self.path(question).read_bytes()), allow_pickle=False) as file:
                for name in file.files:
                    penalty, part = name.split(" ", 1)
                    found.setdefault(int(penalty), {})[part] = file[name]
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):
            return None
        return found

    def keep(self, question: str, answer: Answer) -> None:
        """Keep an answer.

        Raises
        ------
        OSError
            If the disk is full; what was kept before stays.
        """
        data = io.BytesIO()
        arrays: dict[str, Any] = {
            f"{penalty} {name}": values for penalty, parts in answer.items() for name, values in parts.items()
        }
        np.savez(data, **arrays)
        atomic.write_bytes(self.path(question), data.getvalue())
