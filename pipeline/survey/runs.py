"""A survey's runs: the recipe of one, and its folder with results, markers and failures.

A run stands in ``runs/<config key>`` of the survey, the hash of its recipe. Knows no wavelength.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.jobs.results import Results
from twinlines.pipeline.schema import RESULTS

CONFIG_KEY_DIGITS = 16
"""Hexadecimal digits of a recipe's key."""


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


class SurveyRun(Results):
    """The folder of a survey's run: results, markers and failures of one recipe's tasks."""

    schema = RESULTS

    @property
    def config_key(self) -> str:
        """Key of the recipe."""
        return self.folder.name

    def begin(self, recipe: Recipe, shard_rows: int, start_number: int, **about: Any) -> None:
        """Make the folder, or take it up again; see :meth:`.Markers.start`.

        Starts of a survey's runs are numbered, as clocks jump: the run of the highest number was started last.
        """
        self.start(
            {"config_key": self.config_key, **recipe.content},
            weights=str(recipe.weights),
            shard_rows=shard_rows,
            start_number=start_number,
            **about,
        )

    @property
    def start_number(self) -> int:
        """Which of the survey's starts of runs was this one's last; 0 if that is not known."""
        return int(self.description().get("start_number", 0))
