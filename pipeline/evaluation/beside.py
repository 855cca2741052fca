"""Several evaluations side by side: what the heads find on each set of pairs, such as Table 1's in either frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinlines.models.evaluation import Rate
from twinlines.pipeline.evaluation.report import NUMBERS, EvaluationReport
from twinlines.pipeline.evaluation.tasks import EvaluationError


@dataclass(frozen=True)
class Summary:
    """What one evaluation has found at the paper's false positive rates."""

    pairs: str
    """Path of the pairs."""
    frame: str
    """Where they are at rest."""
    weights_digest: str
    """Content hash of the ensemble."""
    rates: Mapping[str, Rate]
    """True positive rates by head."""

    @classmethod
    def of(cls, report: EvaluationReport) -> Summary:
        """That of a report."""
        rates = {row.head: row.point.rates.tpr for row in report.operating}
        return cls(report.pairs, report.frame, report.weights_digest, rates)

    @classmethod
    def read(cls, folder: Path) -> Summary:
        """That of an earlier evaluation.

        Raises
        ------
        EvaluationError
            If there is none in the folder, or one that has no operating points.
        """
        path = folder / NUMBERS
        try:
            stored = json.loads(path.read_bytes())
            rates = {row["head"]: Rate(**row["point"]["rates"]["tpr"]) for row in stored["operating"]}
            return cls(stored["pairs"], stored["frame"], stored["weights_digest"], rates)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{path} is no evaluation of this version ({error!r}); name a folder that 'twinlines evaluate' wrote"
            ) from error
