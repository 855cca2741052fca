"""Turns what was judged, and the truth, into rows of a report: functions of arrays. Knows no client and no store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from twinlines.models.evaluation import (
    FIXED_FPR,
    PAPER_FPR,
    Rates,
    binned,
    called,
    count_rates,
    precision,
    rate,
    reliability,
    threshold_at,
    tpr_at,
)
from twinlines.models.vocabulary import ARMS, HEADS, JOINT
from twinlines.pipeline.evaluation.paper import paper_fpr, reference
from twinlines.pipeline.evaluation.rows import (
    JOINT_LOWEST,
    JOINT_RULE,
    PAPER_RULE,
    Marginal,
    MemberRow,
    OperatingCurve,
    OperatingPoint,
    OperatingRow,
    PopulationRow,
    Reliability,
    RuleRow,
    Stratum,
    TableRow,
)
from twinlines.pipeline.schema import POPULATIONS

MARGINALS: Mapping[str, Sequence[float]] = {
    "mass_ratio": np.linspace(0.0, 1.0, 11).tolist(),
    "separation": np.linspace(0.0, 500.0, 11).tolist(),
    "luminosity_ratio": np.linspace(-4.0, 0.0, 11).tolist(),
    "snr": np.linspace(5.0, 100.0, 11).tolist(),
    "teff1": np.linspace(3500.0, 10000.0, 14).tolist(),
    "logg1": np.linspace(0.0, 5.0, 11).tolist(),
    "feh1": np.linspace(-2.0, 0.5, 11).tolist(),
    "alpha1": np.linspace(-0.5, 0.7, 13).tolist(),
    "vsini1": np.linspace(0.0, 500.0, 11).tolist(),
    "vsini2": np.linspace(0.0, 500.0, 11).tolist(),
}
"""Parameters of Figure 6 with the edges of their bins, in the units of the pairs' store: the separation without its
sign, and log10 of the luminosity ratio."""

STRATA: Mapping[str, Sequence[float]] = {
    "separation": (0.0, 30.0, 60.0, 100.0, 200.0, 500.0),
    "flux_ratio": (0.0, 0.01, 0.03, 0.1, 0.3, 10.0),
    "snr": (0.0, 10.0, 20.0, 40.0, 70.0, 1000.0),
    "vsini1": (0.0, 10.0, 30.0, 60.0, 100.0, 500.0),
    "logg1": (-1.0, 1.0, 2.0, 3.0, 4.0, 6.0),
}
"""Parameters by which operating points are told apart, with the edges of their bins, in the units of the pairs' store:
the separation without its sign. The outermost edges lie beyond all values."""

PER_ARM = ("flux_ratio", "snr")
"""Parameters that each arm has for itself; the head of both arms takes their mean."""

FPRS = tuple(10.0 ** (step / 10.0) for step in range(-40, 1))
"""False positive rates of operating curves: ten a decade, from 1e-4 to 1."""


@dataclass(frozen=True)
class Truth:
    """What is known of the pairs that are judged."""

    rows: NDArray[np.int64]
    """(pair,) their rows in the store."""
    label: NDArray[np.int8]
    """(pair, 2) 1 where the spectrum shows two stars."""
    population: NDArray[np.int8]
    """(pair,) places in :data:`twinlines.pipeline.schema.POPULATIONS`."""
    parameters: Mapping[str, NDArray[np.float32]]
    """(pair,) each: those of :data:`MARGINALS` and :data:`STRATA`, each of :data:`PER_ARM` as ``<name>_<arm>``."""

    @property
    def binary(self) -> NDArray[np.bool_]:
        """(pair,) whether there is a spectrum that shows two stars: the second one of the pair."""
        return self.label[:, 1] > 0

    def of(self, parameter: str, head: str) -> NDArray[np.float32]:
        """A parameter, (pair,), as it matters to a head."""
        if parameter not in PER_ARM:
            return self.parameters[parameter]
        arms = [self.parameters[f"{parameter}_{arm}"] for arm in ARMS if head in (arm, JOINT)]
        return np.asarray(np.mean(arms, axis=0), np.float32)


@dataclass(frozen=True)
class Logits:
    """What every member says of every spectrum."""

    penalties: tuple[int, ...]
    """Penalties of the outputs, ascending."""
    values: Mapping[str, NDArray[np.float32]]
    """By head, (member, pair, 2, penalty)."""

    def of(self, head: str, penalty: int) -> NDArray[np.float32]:
        """Logits of one output of a head, (member, pair, 2)."""
        return self.values[head][..., self.penalties.index(penalty)]

    def groups(self) -> Iterator[tuple[str, int, NDArray[np.float32]]]:
        """Head, penalty and logits, (member, pair, 2), of every output."""
        return ((head, penalty, self.of(head, penalty)) for head in self.values for penalty in self.penalties)


@dataclass(frozen=True)
class Draws:
    """What a catalog would keep of the first pairs."""

    penalties: tuple[int, ...]
    """Penalties of the outputs, ascending."""
    lowest: Mapping[str, NDArray[np.float32]]
    """By head, (pair, 2, penalty): p0, the lowest probability of draws x members."""
    median: Mapping[str, NDArray[np.float32]]
    """By head, (pair, 2, penalty): p50."""

    def scores(self) -> dict[str, NDArray[np.float32]]:
        """By rule, (pair, 2, penalty): the probability that must be above the rule's threshold."""
        return {
            PAPER_RULE: np.minimum(*(self.lowest[arm] for arm in ARMS)),
            JOINT_RULE: self.median[JOINT],
            JOINT_LOWEST: self.lowest[JOINT],
        }


def members(logits: Logits, truth: Truth) -> tuple[MemberRow, ...]:
    """Rates of every output of every member."""
    label = torch.from_numpy(truth.label)
    return tuple(
        MemberRow(
            *(head, penalty, number, count_rates(called(values[None]), truth.label)),
            tpr_at(torch.from_numpy(values), label, FIXED_FPR),
        )
        for head, penalty, of_members in logits.groups()
        for number, values in enumerate(of_members, 1)
    )


def table(logits: Logits, truth: Truth, sb2_fraction: float) -> tuple[TableRow, ...]:
    """Mean rates over members: Table 3, and the same of both arms together."""
    rows = []
    for head, penalty, values in logits.groups():
        rates = count_rates(called(values), truth.label)
        rows.append(TableRow(head, penalty, len(values), rates, precision(rates, sb2_fraction)))
    return tuple(rows)


def populations(logits: Logits, truth: Truth) -> tuple[PopulationRow, ...]:
    """Rates by population, and of all of them."""
    groups = {POPULATIONS[code]: truth.population == code for code in np.unique(truth.population).tolist()}
    if len(groups) > 1:
        groups = {"all": np.ones(len(truth.rows), dtype=bool), **groups}
    made = []
    for head, penalty, values in logits.groups():
        fpr = paper_fpr(head, penalty)
        for population, rows in groups.items():
            label, mine = torch.from_numpy(truth.label[rows]), values[:, rows]
            mean = torch.from_numpy(expit(mine.astype(np.float64)).mean(axis=0))
            trials = int(label.sum())
            single = [tpr_at(torch.from_numpy(member), label, fpr) for member in mine] if trials else [0.0]
            together = tpr_at(mean, label, fpr) if trials else 0.0
            made.append(
                PopulationRow(
                    *(head, penalty, population, count_rates(called(mine), truth.label[rows]), fpr),
                    *(rate(share * trials, trials) for share in (float(np.mean(single)), together)),
                )
            )
    return tuple(made)


def reliabilities(logits: Logits, truth: Truth) -> tuple[Reliability, ...]:
    """Observed fraction of binaries against the members' mean probability."""
    return tuple(
        Reliability(head, penalty, reliability(expit(values).mean(axis=0), truth.label))
        for head, penalty, values in logits.groups()
    )


def marginals(logits: Logits, truth: Truth) -> tuple[Marginal, ...]:
    """True positive rates at threshold 0.5 against each parameter, at the penalty nearest to 16."""
    penalty = reference(logits.penalties)
    made = []
    for head in logits.values:
        positive = called(logits.of(head, penalty))[truth.binary, 1]
        for parameter, edges in MARGINALS.items():
            bins = binned(truth.of(parameter, head)[truth.binary], positive, edges)
            made.append(Marginal(head, penalty, parameter, bins))
    return tuple(made)


def rules(draws: Draws, truth: Truth, thresholds: Mapping[str, float], sb2_fraction: float) -> tuple[RuleRow, ...]:
    """Rates of the catalog's rules on the first pairs, each at its threshold."""
    made = []
    for rule, scores in draws.scores().items():
        for place, penalty in enumerate(draws.penalties):
            rates = count_rates(scores[..., place] > thresholds[rule], truth.label[: len(scores)])
            made.append(RuleRow(rule, thresholds[rule], penalty, rates, precision(rates, sb2_fraction)))
    return tuple(made)


@dataclass(frozen=True)
class _Ranked:
    """Scores of single stars and of binaries, ascending; what is called a binary has one above a threshold."""

    singles: NDArray[np.float64]
    binaries: NDArray[np.float64]

    @classmethod
    def of(cls, score: NDArray[np.float64], label: NDArray[np.int8]) -> _Ranked:
        return cls(np.sort(score[label == 0]), np.sort(score[label > 0]))

    def at(self, fpr: float) -> OperatingPoint:
        """The point of the lowest threshold whose false positive rate is at most ``fpr``."""
        threshold = threshold_at(self.singles, fpr)
        above = [len(scores) - int(np.searchsorted(scores, threshold, side="right")) for scores in self._both]
        tpr, reached = (rate(count, len(scores)) for count, scores in zip(above, self._both, strict=True))
        return OperatingPoint(fpr, threshold, Rates(tpr, reached))

    @property
    def _both(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.binaries, self.singles

    def curve(self) -> tuple[OperatingPoint, ...]:
        """Points at :data:`FPRS`, but for those that would ask for less than one single star."""
        if not (len(self.singles) and len(self.binaries)):
            return ()
        return tuple(self.at(fpr) for fpr in FPRS if fpr * len(self.singles) >= 1.0)


def _score(logits: Logits, head: str, penalty: int) -> NDArray[np.float64]:
    """The members' mean logit, as a probability, (pair, 2)."""
    return np.asarray(expit(logits.of(head, penalty).mean(axis=0, dtype=np.float64)), np.float64)


def curves(logits: Logits, draws: Draws | None, truth: Truth) -> tuple[OperatingCurve, ...]:
    """Operating curves of the heads, and of the rules on the pairs that these were tried on."""
    penalty = reference(logits.penalties)
    scores = {head: _score(logits, head, penalty) for head in logits.values}
    if draws is not None:
        place = draws.penalties.index(penalty)
        scores |= {rule: values[..., place].astype(np.float64) for rule, values in draws.scores().items()}
    return tuple(
        OperatingCurve(verdict, penalty, _Ranked.of(score, truth.label[: len(score)]).curve())
        for verdict, score in scores.items()
    )


def operating(logits: Logits, truth: Truth) -> tuple[OperatingRow, ...]:
    """What the heads find at the paper's false positive rates, and of which binaries; none without both kinds."""
    penalty = reference(logits.penalties)
    if not 0 < np.count_nonzero(truth.label) < truth.label.size:
        return ()
    made = []
    for head in (head for head in HEADS if head in logits.values):
        score = _score(logits, head, penalty)
        point = _Ranked.of(score, truth.label).at(PAPER_FPR[head])
        positive = score[truth.binary, 1] > point.threshold
        strata = tuple(
            Stratum(parameter, binned(truth.of(parameter, head)[truth.binary], positive, edges))
            for parameter, edges in STRATA.items()
        )
        made.append(OperatingRow(head, penalty, point, strata))
    return tuple(made)
