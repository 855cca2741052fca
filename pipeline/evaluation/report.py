"""What an evaluation has measured: its numbers as JSON, and Table 3 beside the paper's. Computes and prints nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinlines.pipeline.evaluation.limit import Limit
from twinlines.pipeline.evaluation.rows import (
    FrameCurves,
    Marginal,
    MemberRow,
    OperatingCurve,
    OperatingRow,
    PopulationRow,
    Provenance,
    Reliability,
    RuleRow,
    TableRow,
    TwinCurves,
)
from twinlines.pipeline.evaluation.twins import CENTRED, DISPLACED, PERCENTILES, RATIOS, SEPARATIONS
from twinlines.pipeline.storage import atomic

NUMBERS = "evaluation.json"
"""Name of the file that holds every number."""

MEASURED, DRAWN = "measured", "drawn"
FRAMES: Mapping[str, str] = {
    MEASURED: "at rest by the velocity that our own cross-correlation measures on them, as in a survey",
    DRAWN: "at rest within 5 km/s by their drawn velocity, as in Table 1; field stars by a measured one",
}
"""Frames of pairs, by the name that their recipe has for them, for people."""


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that an evaluation has measured."""

    pairs: str
    """Path of the pairs."""
    frame: str
    """Where they are at rest: one of :data:`FRAMES`, or "unknown" where the pairs have no recipe."""
    split: str
    """Which of them: "test" or "all"."""
    n_pairs: int
    """Pairs judged."""
    weights: str
    """Folder of the ensemble."""
    weights_digest: str
    """Its content hash."""
    seed: int
    """Seed of the noise of the rule's draws and of the twins."""
    sb2_fraction: float
    """Stated fraction of SB2s for precisions."""
    provenance: Provenance
    """What the members were trained on."""
    members: tuple[MemberRow, ...]
    """Rates of every member."""
    table: tuple[TableRow, ...]
    """Table 3."""
    populations: tuple[PopulationRow, ...]
    """By head, penalty and population."""
    rule: tuple[RuleRow, ...]
    """The catalog's rules, by rule and penalty; empty where they were left out."""
    rule_draws: int
    """Noisy copies of each spectrum that rules judge."""
    operating: tuple[OperatingRow, ...]
    """By head, at the penalty nearest to 16."""
    curves: tuple[OperatingCurve, ...]
    """By head, then by rule where they were not left out, at the penalty nearest to 16."""
    reliability: tuple[Reliability, ...]
    """By head and penalty."""
    marginals: tuple[Marginal, ...]
    """By head and parameter, at the penalty nearest to 16."""
    twins: tuple[TwinCurves, ...]
    """By star, vsini, head and penalty; empty where they were left out."""
    frames: tuple[FrameCurves, ...]
    """By star, head and penalty; empty where twins were left out."""
    limit: Limit | None
    """What a likelihood-ratio test would find; None where it was left out."""
    twin_spectra: int
    """Noisy spectra at each point of the twins' curves."""
    twins_left_out: Mapping[str, str]
    """Stars that the library lacks, and why."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the numbers."""
        frame = FRAMES.get(self.frame, "where they are at rest is not said: they have no recipe")
        verdicts = [f"frame of the pairs: {self.frame} ({frame})", self.provenance.verdict]
        if self.split == "all":
            verdicts.append("all splits were judged: right only if no member was trained on any of these pairs")
        verdicts += [f"twins: {star} is left out: {reason}" for star, reason in self.twins_left_out.items()]
        return tuple(verdicts)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object; what is not a number is null."""
        content = asdict(self)
        content["provenance"]["same_set"] = self.provenance.same_set
        for stored, row in zip(content["table"], self.table, strict=True):
            stored["paper"] = row.paper
        axes = {
            "separation": SEPARATIONS,
            "snr": RATIOS,
            "percentile": PERCENTILES,
            "displaced": DISPLACED,
            "centred": CENTRED,
        }
        plain: dict[str, Any] = _plain({**content, "axes": axes, "notes": self.notes})
        return plain

    def table3(self) -> str:
        """Table 3 as CSV, a row for each head and penalty; an empty field is no number."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_CSV)
        for row in self.table:
            tpr, fpr, paper = row.rates.tpr, row.rates.fpr, row.paper or {}
            numbers = (tpr.value, tpr.low, tpr.high, fpr.value, fpr.low, fpr.high)
            writer.writerow(
                [
                    *(row.head, row.penalty, row.members, tpr.trials, fpr.trials),
                    *("" if math.isnan(number) else f"{number:.6g}" for number in numbers),
                    *(paper.get("tpr", ""), paper.get("fpr", "")),
                ]
            )
        return text.getvalue()


_CSV = (
    *("head", "penalty", "members", "n_binaries", "n_singles"),
    *("tpr", "tpr_low", "tpr_high", "fpr", "fpr_low", "fpr_high", "paper_tpr", "paper_fpr"),
)


def write_numbers(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, every number, and ``table3.csv`` into a folder that is there; return their paths."""
    numbers, table = folder / NUMBERS, folder / "table3.csv"
    atomic.write_json(numbers, report.to_json())
    atomic.write_bytes(table, report.table3().encode())
    return [numbers, table]


def _plain(value: Any) -> Any:
    """The value with lists for tuples and None for NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value]
    return None if isinstance(value, float) and math.isnan(value) else value
