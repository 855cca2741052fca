"""The rows of an evaluation's report: frozen, with units, and without a line of how they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinlines.models.evaluation import Bin, Precision, Rate, Rates
from twinlines.pipeline.evaluation.paper import PAPER

PAPER_RULE, JOINT_RULE, JOINT_LOWEST = "paper", "joint", "joint p0"
RULES: Mapping[str, str] = {
    PAPER_RULE: "p0 of both arms",
    JOINT_RULE: "p50 of J",
    JOINT_LOWEST: "p0 of J",
}
"""Rules on the percentiles of draws x members, by name, with what must be above a threshold: the two of the catalog
(:data:`twinlines.pipeline.catalog.rules.RULES`), and both arms together by their lowest value."""


@dataclass(frozen=True)
class Provenance:
    """Whether the members have seen the pairs that they are judged on."""

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
        others = ", ".join(digest[:12] for digest in self.trained_on if digest != self.pairs)
        if self.pairs in self.trained_on:
            more = f"; and on another set (digest {others})" if others else ""
            return f"trained on this set's training split: its test split is unseen by construction{more}"
        return f"trained on another set (digest {others}): unseen if seeds differ"


@dataclass(frozen=True)
class MemberRow:
    """Rates of one head of a member at threshold 0.5."""

    head: str
    """One of :data:`twinlines.models.vocabulary.HEADS`: an arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    member: int
    """Its place among the members, from 1."""
    rates: Rates
    """What it calls binaries."""
    tpr_at_fixed_fpr: float
    """True positive rate at the threshold that gives a false positive rate of 0.001."""


@dataclass(frozen=True)
class PopulationRow:
    """How well one head does on one population of the pairs, and on all of them: also at the paper's FPR.

    Thresholds are set on the population's own single stars, so that rates of differently bold networks compare.
    """

    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
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
    """Median probabilities of a single star off rest, and of two such stars about their mean, both arms alike."""

    star: str
    """Name of the star."""
    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    displaced: tuple[float, ...]
    """At the velocities of :data:`twinlines.pipeline.evaluation.twins.DISPLACED`: low, if double lines were learnt."""
    centred: tuple[float, ...]
    """At the separations of :data:`~twinlines.pipeline.evaluation.twins.CENTRED`: high at the larger ones, if so."""


@dataclass(frozen=True)
class TableRow:
    """One row and head of Table 3: the mean over members at threshold 0.5."""

    head: str
    """An arm, or J of both, which the paper has not."""
    penalty: int
    """Penalty of the output."""
    members: int
    """Number of members."""
    rates: Rates
    """Mean rates; the intervals are those of one member's trials."""
    precision: Precision
    """What the rates imply at the stated SB2 fraction."""

    @property
    def paper(self) -> dict[str, float] | None:
        """TPR and FPR of the paper's Table 3, by "tpr" and "fpr"; None where it has none."""
        rates = PAPER.get(self.head, {}).get(self.penalty)
        return None if rates is None else {"tpr": rates[0], "fpr": rates[1]}


@dataclass(frozen=True)
class RuleRow:
    """Rates of a rule on the percentiles that a catalog keeps."""

    rule: str
    """One of :data:`RULES`."""
    threshold: float
    """Probability that must be passed."""
    penalty: int
    """Penalty of the outputs."""
    rates: Rates
    """What it calls binaries."""
    precision: Precision
    """What the rates imply at the stated SB2 fraction."""


@dataclass(frozen=True)
class Reliability:
    """Observed fraction of binaries against the members' mean probability (equation 8)."""

    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    bins: tuple[Bin, ...]
    """Even bins of the probability."""


@dataclass(frozen=True)
class Marginal:
    """True positive rate against one parameter, mean over members at threshold 0.5: a diagonal panel of Figure 6."""

    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    parameter: str
    """Key of :data:`twinlines.pipeline.evaluation.measures.MARGINALS`."""
    bins: tuple[Bin, ...]
    """Bins of the parameter."""


@dataclass(frozen=True)
class OperatingPoint:
    """What a verdict finds at the lowest threshold whose false positive rate is at most the one asked for."""

    fpr: float
    """False positive rate asked for."""
    threshold: float
    """The threshold, as a probability: for a head, of the members' mean logit; for a rule, of its percentile."""
    rates: Rates
    """Rates there, of spectra above the threshold; the interval of the FPR says how well the threshold is known."""


@dataclass(frozen=True)
class OperatingCurve:
    """True positive rate against false positive rate of one verdict, as its threshold varies."""

    verdict: str
    """A head (B, R, J), or one of :data:`RULES`."""
    penalty: int
    """Penalty of the outputs."""
    points: tuple[OperatingPoint, ...]
    """By rising false positive rate; none below what the single stars at hand can tell."""


@dataclass(frozen=True)
class Stratum:
    """True positive rate at an operating point against one parameter."""

    parameter: str
    """Key of :data:`twinlines.pipeline.evaluation.measures.STRATA`."""
    bins: tuple[Bin, ...]
    """Bins of the parameter."""


@dataclass(frozen=True)
class OperatingRow:
    """What a head finds at the paper's false positive rate at penalty 16, and of which binaries."""

    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    point: OperatingPoint
    """The threshold, set on all single stars, and the rates there."""
    strata: tuple[Stratum, ...]
    """The same threshold's rates of the binaries by one parameter each."""


@dataclass(frozen=True)
class TwinCurves:
    """Probabilities of one twin binary by one head: a panel of Figure 5."""

    star: str
    """Name of the star."""
    vsini: float
    """km/s."""
    head: str
    """An arm, or J of both."""
    penalty: int
    """Penalty of the output."""
    percentiles: tuple[tuple[tuple[float, ...], ...], ...]
    """(separation, S/N, percentile) of the members' mean probability; the axes are in ``axes`` of the JSON."""
