"""What an evaluation has measured: its numbers as JSON, and Table 3 beside the paper's. Computes and prints nothing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinlines.models.evaluation import Bin, Precision, Rate, Rates
from twinlines.pipeline.evaluation.limit import Limit
from twinlines.pipeline.evaluation.twins import CENTRED, DISPLACED, PERCENTILES, RATIOS, SEPARATIONS
from twinlines.pipeline.storage import atomic

_TABLE3 = (
    # penalty, TPR and FPR of the blue arm, TPR and FPR of the red arm
    (1, 0.679015, 0.183200, 0.628980, 0.151890),
    (2, 0.496245, 0.036595, 0.483435, 0.041970),
    (4, 0.436340, 0.011250, 0.413220, 0.011075),
    (8, 0.393160, 0.004140, 0.368120, 0.004380),
    (16, 0.359925, 0.001275, 0.347165, 0.001620),
    (32, 0.337955, 0.000355, 0.312365, 0.000645),
    (64, 0.318940, 0.000205, 0.302915, 0.000280),
    (128, 0.311070, 0.000155, 0.276590, 0.000125),
    (256, 0.286845, 0.000055, 0.268060, 0.000050),
    (512, 0.281780, 0.000010, 0.256640, 0.000030),
)
PAPER: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "B": {penalty: (tpr, fpr) for penalty, tpr, fpr, _, _ in _TABLE3},
    "R": {penalty: (tpr, fpr) for penalty, _, _, tpr, fpr in _TABLE3},
}
"""Mean TPR and FPR by arm and penalty: Table 3 of Zhang et al. (2022), from 40,000 test pairs of another population."""

CATALOG_PENALTY = 16
"""The paper's choice of penalty for Figure 6 and for its candidates (section 4.1)."""


def reference(penalties: Sequence[int], wanted: int = CATALOG_PENALTY) -> int:
    """The penalty nearest to ``wanted``, as a ratio; by default the one that figures of one penalty show."""
    return min(penalties, key=lambda penalty: abs(math.log(penalty / wanted)))


@dataclass(frozen=True)
class Provenance:
    """Whether one arm's members have seen the pairs that they are judged on."""

    arm: str
    """The arm."""
    pairs: str
    """Digest of the pairs that they are judged on."""
    trained_on: tuple[str, ...]
    """Digests of the pairs that the members were trained on."""

    @property
    def same_set(self) -> bool:
        """Whether all members were trained on this very set, whose test split training never reads."""
        return self.trained_on == (self.pairs,)

    @property
    def verdict(self) -> str:
        """What is known of it, for people."""
        if self.same_set:
            return f"arm {self.arm}: trained on this set's training split: its test split is unseen by construction"
        others = ", ".join(digest[:12] for digest in self.trained_on if digest != self.pairs)
        return f"arm {self.arm}: trained on another set (digest {others}): unseen if seeds differ"


@dataclass(frozen=True)
class MemberRow:
    """Rates of one member at threshold 0.5."""

    arm: str
    penalty: int
    member: int
    """Its place among the members of its arm and penalty, from 1."""
    rates: Rates
    tpr_at_fixed_fpr: float
    """True positive rate at the threshold that gives a false positive rate of 0.001."""


@dataclass(frozen=True)
class PopulationRow:
    """How well one arm does on one population of the pairs, and on all of them: also at the paper's FPR.

    Thresholds are set on the population's own single stars, so that rates of differently bold networks compare.
    """

    arm: str
    penalty: int
    population: str
    """One of :data:`twinlines.pipeline.schema.POPULATIONS`, or "all" of several."""
    rates: Rates
    """At threshold 0.5, mean over members."""
    fpr: float
    """False positive rate at which the two following are measured: the paper's for the penalty nearest to this one."""
    members: Rate
    """True positive rate there, mean over members."""
    ensemble: Rate
    """True positive rate there of the members' mean probability (equation 8)."""


@dataclass(frozen=True)
class FrameCurves:
    """Median probabilities of a single star off rest, and of two such stars about their mean, in one arm."""

    star: str
    arm: str
    penalty: int
    displaced: tuple[float, ...]
    """At the velocities of :data:`twinlines.pipeline.evaluation.twins.DISPLACED`: low, if double lines were learnt."""
    centred: tuple[float, ...]
    """At the separations of :data:`~twinlines.pipeline.evaluation.twins.CENTRED`: high at the larger ones, if so."""


@dataclass(frozen=True)
class TableRow:
    """One row and arm of Table 3: the mean over members at threshold 0.5."""

    arm: str
    penalty: int
    members: int
    """Number of members."""
    rates: Rates
    """Mean rates; the intervals are those of one member's trials."""
    precision: Precision
    """What the rates imply at the stated SB2 fraction."""

    @property
    def paper(self) -> dict[str, float] | None:
        """TPR and FPR of the paper's Table 3, by "tpr" and "fpr"; None at a penalty that it lacks."""
        rates = PAPER[self.arm].get(self.penalty)
        return None if rates is None else {"tpr": rates[0], "fpr": rates[1]}


@dataclass(frozen=True)
class RuleRow:
    """Rates of the rule that makes the catalog: the lowest of draws x members above 0.5 in both arms."""

    penalty: int
    rates: Rates
    precision: Precision
    """What the rates imply at the stated SB2 fraction."""


@dataclass(frozen=True)
class Reliability:
    """Observed fraction of binaries against the members' mean probability (equation 8)."""

    arm: str
    penalty: int
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Marginal:
    """True positive rate against one parameter, mean over members at threshold 0.5: a diagonal panel of Figure 6."""

    arm: str
    penalty: int
    parameter: str
    """Key of :data:`twinlines.pipeline.evaluation.evaluation.MARGINALS`."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class TwinCurves:
    """Probabilities of one twin binary in one arm: a panel of Figure 5."""

    star: str
    vsini: float
    """km/s."""
    arm: str
    penalty: int
    percentiles: tuple[tuple[tuple[float, ...], ...], ...]
    """(separation, S/N, percentile) of the members' mean probability; the axes are in ``axes`` of the JSON."""


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that an evaluation has measured."""

    pairs: str
    """Path of the pairs."""
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
    provenance: tuple[Provenance, ...]
    """What the members were trained on, by arm."""
    members: tuple[MemberRow, ...]
    """Rates of every member."""
    table: tuple[TableRow, ...]
    """Table 3."""
    populations: tuple[PopulationRow, ...]
    """By arm, penalty and population."""
    rule: tuple[RuleRow, ...]
    """The catalog's rule; empty where it was left out."""
    rule_draws: int
    """Noisy copies of each spectrum that the rule judges."""
    reliability: tuple[Reliability, ...]
    """By arm and penalty."""
    marginals: tuple[Marginal, ...]
    """By arm and parameter, at the penalty nearest to 16."""
    twins: tuple[TwinCurves, ...]
    """By star, vsini, arm and penalty; empty where they were left out."""
    frames: tuple[FrameCurves, ...]
    """By star, arm and penalty; empty where twins were left out."""
    limit: Limit | None
    """What a likelihood-ratio test would find; None where it was left out."""
    twin_spectra: int
    """Noisy spectra at each point of the twins' curves."""
    twins_left_out: Mapping[str, str]
    """Stars that the library lacks, and why."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the numbers."""
        verdicts = [provenance.verdict for provenance in self.provenance]
        if self.split == "all":
            verdicts.append("all splits were judged: right only if no member was trained on any of these pairs")
        verdicts += [f"twins: {star} is left out: {reason}" for star, reason in self.twins_left_out.items()]
        return tuple(verdicts)

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object; what is not a number is null."""
        content = asdict(self)
        for stored, provenance in zip(content["provenance"], self.provenance, strict=True):
            stored["same_set"] = provenance.same_set
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
        """Table 3 as CSV, a row for each arm and penalty; an empty field is no number."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_CSV)
        for row in self.table:
            tpr, fpr, paper = row.rates.tpr, row.rates.fpr, row.paper or {}
            numbers = (tpr.value, tpr.low, tpr.high, fpr.value, fpr.low, fpr.high)
            writer.writerow(
                [
                    *(row.arm, row.penalty, row.members, tpr.trials, fpr.trials),
                    *("" if math.isnan(number) else f"{number:.6g}" for number in numbers),
                    *(paper.get("tpr", ""), paper.get("fpr", "")),
                ]
            )
        return text.getvalue()


_CSV = (
    *("arm", "penalty", "members", "n_binaries", "n_singles"),
    *("tpr", "tpr_low", "tpr_high", "fpr", "fpr_low", "fpr_high", "paper_tpr", "paper_fpr"),
)


def write_numbers(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, every number, and ``table3.csv`` into a folder that is there; return their paths."""
    numbers, table = folder / "evaluation.json", folder / "table3.csv"
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
