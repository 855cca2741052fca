"""Evaluates an ensemble on pairs that its training never saw, over a Dask client (Zhang et al. 2022, sections 3.4-3.6).

The client holds labels, parameters and logits, and no spectra; a task judges one block of pairs, or one twin binary,
with the ensemble that its worker keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distributed import Client
from numpy.typing import NDArray
from scipy.special import expit

from twinlines.cluster import inventory
from twinlines.cluster.workers import keeping
from twinlines.models import checkpoint, evaluation
from twinlines.models.ensemble import Ensemble
from twinlines.models.evaluation import FIXED_FPR, called, count_rates, precision, rate, reliability, tpr_at
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.evaluation.answers import Answers
from twinlines.pipeline.evaluation.limit import Limit, Sample, measure
from twinlines.pipeline.evaluation.questions import Question, Questions, compute, working_folder
from twinlines.pipeline.evaluation.report import (
    PAPER,
    EvaluationReport,
    FrameCurves,
    Marginal,
    MemberRow,
    PopulationRow,
    Provenance,
    Reliability,
    RuleRow,
    TableRow,
    TwinCurves,
    reference,
)
from twinlines.pipeline.evaluation.tasks import (
    DRAWS,
    Block,
    EvaluationError,
    TwinTask,
    candidates_of,
    digest_of,
    judge_block,
    judge_frame,
    judge_twin,
    load,
)
from twinlines.pipeline.evaluation.twins import FRAME_VSINI, ROTATIONS, TWINS
from twinlines.pipeline.jobs.markers import Markers
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import PAIRS, POPULATIONS, SPLITS
from twinlines.pipeline.storage import stores

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

_LOGIT_BLOCK = 512  # pairs of one task: 14 MB of flux
_RULE_BLOCK = 32  # pairs of one task: some seconds of 20 draws by every member, both arms


@dataclass(frozen=True)
class Options:
    """How an evaluation is made."""

    split: str = "test"
    """"test", or "all" for a set of which training has seen nothing."""
    twins: int = 100
    """Noisy spectra at each point of the twins' curves; 2000 in the paper, 0 leaves them out."""
    rotations: tuple[float, ...] = ROTATIONS
    """vsini of the twins, km/s."""
    rule_pairs: int = 2000
    """Most pairs that the catalog's rule is tried on, the first of the split; 0 leaves it out."""
    limit: int = 0
    """Most binaries of which the information limit is measured, the first of the split; 0 leaves it out."""
    sb2_fraction: float = 0.02
    """Fraction of SB2s for which precisions are computed."""
    seed: int = 0
    """Seed of the noise of draws and twins."""
    library: Path | None = None
    """Spectral library of the twins and the limit; None is the one that ships."""

    def __post_init__(self) -> None:
        if self.split not in ("test", "all"):
            raise EvaluationError(f"the split is {self.split!r}; give test or all")
        if not 0.0 <= self.sb2_fraction <= 1.0:
            raise EvaluationError(f"the SB2 fraction is {self.sb2_fraction:g}; give a number from 0 to 1")
        if min(self.twins, self.rule_pairs, self.limit) < 0:
            raise EvaluationError(
                f"{self.twins} twins, {self.rule_pairs} pairs for the rule and {self.limit} binaries for the limit "
                "were asked for; give 0 or more"
            )


@dataclass(frozen=True)
class _Truth:
    """What is known of the pairs that are judged; arrays of shape (pair, ...)."""

    rows: NDArray[np.int64]
    label: NDArray[np.int8]
    population: NDArray[np.int8]
    parameters: Mapping[str, NDArray[np.float32]]


Logits = dict[ArmName, dict[int, NDArray[np.float32]]]
"""By arm and penalty, (member, pair, 2)."""


def evaluate(
    client: Client,
    pairs: Path,
    weights: Path,
    options: Options = Options(),
    *,
    answers: Path | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Judge pairs with an ensemble, and measure how well it did.

    Parameters
    ----------
    client
        A connected ``distributed.Client``; its workers must see ``pairs`` and ``weights`` under the same paths.
    pairs
        Training store, of :data:`twinlines.pipeline.schema.PAIRS`.
    weights
        Folder of the ensemble, which must have both arms.
    options
        Which pairs, how many, and the stated SB2 fraction.
    answers
        Folder in which answers of tasks are kept, and looked for first: interrupted, an evaluation goes on. It stays;
        whoever has made use of the report removes it. None keeps nothing.
    progress
        Called with (stage, done, total); the stages are "digest", "judge", "rule", "twins", "frames",
        "limit" and "limit's noise".

    Raises
    ------
    StoreError, SchemaError
        If there is no training store at ``pairs``.
    CheckpointError
        If there is no ensemble of both arms in ``weights``.
    EvaluationError
        If the split is empty, the ensemble was trained on pairs that it would be judged on, or a task failed.
    LockedError
        If another evaluation uses the folder of answers.
    JobError
        If the cluster was lost, or a disk is full; answers that are kept stay.
    """
    pairs, weights = Path(pairs).resolve(), Path(weights).resolve()
    truth = _truth(pairs, options.split)
    digest = Ensemble.load(weights).digest  # so that wrong weights are one clear error before any worker starts
    library = options.library and options.library.resolve()
    keep = keeping(client, f"the ensemble {digest}", load, weights, digest)
    with working_folder(answers) as folder, keep as keeper:
        markers = Markers(folder)
        digests = _digests(client, markers, pairs, progress)
        provenance = _provenance(digests, pairs, weights, options.split)
        store = Answers(markers, _decides(digests, digest, pairs, library))
        store.open()
        questions = Questions(client, store, progress, keeper)
        logits = _logits(questions, str(pairs), truth)
        rule = _rule(questions, str(pairs), truth, options) if options.rule_pairs else ()
        curves, frames, left_out = _twins(questions, library, options) if options.twins else ((), (), {})
        limit = _limit(questions, str(pairs), truth, library, options) if options.limit else None
    return EvaluationReport(
        pairs=str(pairs),
        split=options.split,
        n_pairs=len(truth.rows),
        weights=str(weights),
        weights_digest=digest,
        seed=options.seed,
        sb2_fraction=options.sb2_fraction,
        provenance=provenance,
        members=_members(logits, truth),
        table=_table(logits, truth, options.sb2_fraction),
        populations=_populations(logits, truth),
        rule=rule,
        rule_draws=DRAWS,
        reliability=_reliability(logits, truth),
        marginals=_marginals(logits, truth),
        twins=curves,
        frames=frames,
        limit=limit,
        twin_spectra=options.twins,
        twins_left_out=left_out,
    )


def _truth(pairs: Path, split: str) -> _Truth:
    with stores.open_store(pairs, PAIRS) as store:
        codes = store["split"].values
        rows = np.flatnonzero(codes == SPLITS.index("test")) if split == "test" else np.arange(len(codes))
        if not rows.size:
            raise EvaluationError(
                f"{pairs} has {len(codes)} pairs and none in its test split; synthesize more pairs, or use --split all "
                "if training has seen none of them"
            )
        parameters = {name: store[name].values[rows] for name in MARGINALS}
        label, population = store["label"].values[rows], store["population"].values[rows]
    parameters["separation"] = np.abs(parameters["separation"])
    parameters["luminosity_ratio"] = np.log10(parameters["luminosity_ratio"])
    return _Truth(rows, label, population, parameters)


def _digests(client: Client, markers: Markers, pairs: Path, progress: Progress) -> dict[ArmName, str]:
    """Digest of each arm's pairs."""
    digests: dict[ArmName, str] = {}

    def finished(question: Question, digest: str) -> None:
        digests[question.subject] = digest
        progress("digest", len(digests), len(ARM_NAMES))

    markers.open()
    tasks = [(Question("digest", name, f"digest-{name}"), digest_of, str(pairs)) for name in ARM_NAMES]
    compute(client, markers, tasks, finished)
    return digests


def _decides(digests: Mapping[ArmName, str], weights: str, pairs: Path, library: Path | None) -> dict[str, Any]:
    """What decides all answers of an evaluation, as JSON."""
    with stores.open_store(pairs, PAIRS) as store:
        recipe = store.attrs.get("digest")
    return {
        "weights": weights,
        "pairs": dict(digests),
        "recipe": recipe,
        "library": Library.load(library).digest,
        "versions": inventory.versions(),
    }


def _provenance(digests: Mapping[ArmName, str], pairs: Path, weights: Path, split: str) -> tuple[Provenance, ...]:
    """Compare the pairs with what each member says it was trained on."""
    headers = [checkpoint.load(path)[1] for path in checkpoint.members(weights)]
    provenance = []
    for name in ARM_NAMES:
        trained_on = tuple(sorted({header.pairs for header in headers if header.arm == name}))
        if split == "all" and digests[name] in trained_on:
            raise EvaluationError(
                f"{weights} was trained on pairs of {pairs} (digest {digests[name]}), so that --split all would "
                "judge what training saw; use --split test"
            )
        provenance.append(Provenance(name, digests[name], trained_on))
    return tuple(provenance)


def _logits(questions: Questions, pairs: str, truth: _Truth) -> Logits:
    """Logits of all pairs by every member: one task a block and arm, so that each spectrum is read once."""
    blocks = [block for name in ARM_NAMES for block in _blocks(pairs, truth.rows, _LOGIT_BLOCK, (name,))]
    logits: Logits = {name: {} for name in ARM_NAMES}
    for block, made in questions.ask("judge", judge_block, ((block,) for block in blocks)):
        for penalty, parts in made.items():
            shape = len(parts["logits"]), len(truth.rows), 2
            logits[block.arms[0]].setdefault(penalty, np.empty(shape, np.float32))[:, block.place] = parts["logits"]
    return logits


def _blocks(pairs: str, rows: NDArray[np.int64], size: int, arms: tuple[ArmName, ...]) -> list[Block]:
    places = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    return [Block(pairs, place, rows[place], arms) for place in places]


def _rule(questions: Questions, pairs: str, truth: _Truth, options: Options) -> tuple[RuleRow, ...]:
    """Rates of the catalog's rule on the first pairs."""
    rows = truth.rows[: options.rule_pairs]
    tasks = ((block, options.seed) for block in _blocks(pairs, rows, _RULE_BLOCK, ARM_NAMES))
    candidates: dict[int, NDArray[np.bool_]] = {}
    for block, made in questions.ask("rule", candidates_of, tasks):
        for penalty, parts in made.items():
            candidates.setdefault(penalty, np.zeros((len(rows), 2), np.bool_))[block.place] = parts["candidate"]
    rates = {penalty: count_rates(values, truth.label[: len(rows)]) for penalty, values in sorted(candidates.items())}
    return tuple(
        RuleRow(penalty, counted, precision(counted, options.sb2_fraction)) for penalty, counted in rates.items()
    )


def _twins(
    questions: Questions, library: Path | None, options: Options
) -> tuple[tuple[TwinCurves, ...], tuple[FrameCurves, ...], dict[str, str]]:
    """Curves of Figure 5, those of the frame, and the stars that the library lacks, with the reason."""
    reasons = {twin.name: twin.outside(Library.load(library)) for twin in TWINS}
    shown = [twin for twin in TWINS if reasons[twin.name] is None]
    tasks = [TwinTask(twin, vsini, name) for twin in shown for vsini in options.rotations for name in ARM_NAMES]
    made = dict(questions.ask("twins", judge_twin, ((task, library, options.twins, options.seed) for task in tasks)))
    curves = [
        TwinCurves(task.twin.name, task.vsini, task.arm, penalty, _nested(parts["percentiles"]))
        for task in tasks
        for penalty, parts in made[task].items()
    ]
    still = [TwinTask(twin, FRAME_VSINI, name) for twin in shown for name in ARM_NAMES]
    displaced = dict(
        questions.ask("frames", judge_frame, ((task, library, options.twins, options.seed) for task in still))
    )
    frames = [
        FrameCurves(task.twin.name, task.arm, penalty, _rounded(parts["displaced"]), _rounded(parts["centred"]))
        for task in still
        for penalty, parts in displaced[task].items()
    ]
    return tuple(curves), tuple(frames), {star: reason for star, reason in reasons.items() if reason is not None}


def _limit(questions: Questions, pairs: str, truth: _Truth, library: Path | None, options: Options) -> Limit:
    sample = Sample(truth.rows, truth.label, truth.population, truth.parameters)
    return measure(questions, pairs, sample, options.limit, MARGINALS, library=library, seed=options.seed)


def _nested(values: NDArray[np.float32]) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(_rounded(row) for row in block) for block in values)


def _rounded(values: NDArray[np.float32]) -> tuple[float, ...]:
    # Six digits: a probability of N spectra is not known better, and the JSON stays small.
    return tuple(round(value, 6) for value in values.tolist())


def _groups(logits: Logits) -> list[tuple[ArmName, int, NDArray[np.float32]]]:
    return [(name, penalty, values) for name, group in logits.items() for penalty, values in group.items()]


def _members(logits: Logits, truth: _Truth) -> tuple[MemberRow, ...]:
    label = truth.label.astype(np.float32)
    return tuple(
        MemberRow(
            *(name, penalty, number, count_rates(called(values[None]), truth.label)),
            tpr_at(torch.from_numpy(values), label, FIXED_FPR),
        )
        for name, penalty, members in _groups(logits)
        for number, values in enumerate(members, 1)
    )


def _table(logits: Logits, truth: _Truth, sb2_fraction: float) -> tuple[TableRow, ...]:
    rows = []
    for name, penalty, members in _groups(logits):
        rates = count_rates(called(members), truth.label)
        rows.append(TableRow(name, penalty, len(members), rates, precision(rates, sb2_fraction)))
    return tuple(rows)


def _populations(logits: Logits, truth: _Truth) -> tuple[PopulationRow, ...]:
    groups = {POPULATIONS[code]: truth.population == code for code in np.unique(truth.population).tolist()}
    if len(groups) > 1:
        groups = {"all": np.ones(len(truth.rows), dtype=bool), **groups}
    rows_of_populations = []
    for name, penalty, members in _groups(logits):
        fpr = PAPER[name][reference(list(PAPER[name]), penalty)][1]
        for population, rows in groups.items():
            label, mine = truth.label[rows].astype(np.float32), members[:, rows]
            mean = expit(mine.astype(np.float64)).mean(axis=0)
            trials = int(label.sum())
            single = [tpr_at(torch.from_numpy(member), label, fpr) for member in mine] if trials else [0.0]
            together = tpr_at(torch.from_numpy(mean), label, fpr) if trials else 0.0
            rows_of_populations.append(
                PopulationRow(
                    *(name, penalty, population, count_rates(called(mine), truth.label[rows]), fpr),
                    *(rate(share * trials, trials) for share in (float(np.mean(single)), together)),
                )
            )
    return tuple(rows_of_populations)


def _reliability(logits: Logits, truth: _Truth) -> tuple[Reliability, ...]:
    return tuple(
        Reliability(name, penalty, reliability(expit(members).mean(axis=0), truth.label))
        for name, penalty, members in _groups(logits)
    )


def _marginals(logits: Logits, truth: _Truth) -> tuple[Marginal, ...]:
    # In a pair the spectrum that shows two stars is the second, if there is one.
    binary = truth.label[:, 1] > 0
    marginals = []
    for name, group in logits.items():
        penalty = reference(list(group))
        positive = called(group[penalty])[binary, 1]
        for parameter, edges in MARGINALS.items():
            bins = evaluation.binned(truth.parameters[parameter][binary], positive, edges)
            marginals.append(Marginal(name, penalty, parameter, bins))
    return tuple(marginals)
