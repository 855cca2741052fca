"""Evaluates an ensemble on pairs that its training never saw, over a Dask client (Zhang et al. 2022, sections 3.4-3.6).

The client holds labels, parameters and logits, and no spectra; a task judges one block of pairs, or one twin binary,
in both arms, with the ensemble that its worker keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from distributed import Client
from numpy.typing import NDArray

from twinlines.cluster import inventory
from twinlines.cluster.workers import keeping
from twinlines.models import checkpoint
from twinlines.models.ensemble import Ensemble
from twinlines.models.pairs import DIGESTS
from twinlines.models.vocabulary import HEADS, JOINT
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.catalog.questions import JOINT_THRESHOLD, RULES
from twinlines.pipeline.evaluation import measures
from twinlines.pipeline.evaluation.limit import Limit, Sample, measure
from twinlines.pipeline.evaluation.measures import MARGINALS, PER_ARM, STRATA, Draws, Logits, Truth
from twinlines.pipeline.evaluation.report import DRAWN, EvaluationReport
from twinlines.pipeline.evaluation.rows import (
    JOINT_LOWEST,
    JOINT_RULE,
    PAPER_RULE,
    FrameCurves,
    Provenance,
    TwinCurves,
)
from twinlines.pipeline.evaluation.tasks import (
    DRAWS,
    Block,
    EvaluationError,
    TwinTask,
    digest_of,
    draws_of,
    judge_block,
    judge_frame,
    judge_twin,
    load,
    ratios_of,
)
from twinlines.pipeline.evaluation.twins import FRAME_VSINI, ROTATIONS, TWINS
from twinlines.pipeline.jobs.answers import Answer, Answers
from twinlines.pipeline.jobs.markers import Markers
from twinlines.pipeline.jobs.questions import Question, Questions, compute, working_folder
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import PAIRS, SPLITS
from twinlines.pipeline.storage import stores

_LOGIT_BLOCK = 512  # pairs of one task: 28 MB of flux
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
    """Most pairs that the catalog's rules are tried on, the first of the split; 0 leaves them out."""
    joint_threshold: float = JOINT_THRESHOLD
    """Probability of both arms together, J, that its rules want passed."""
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
        if not 0.0 < self.joint_threshold < 1.0:
            raise EvaluationError(f"the threshold of J is {self.joint_threshold:g}; give a number between 0 and 1")
        if min(self.twins, self.rule_pairs, self.limit) < 0:
            raise EvaluationError(
                f"{self.twins} twins, {self.rule_pairs} pairs for the rules and {self.limit} binaries for the limit "
                "were asked for; give 0 or more"
            )

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each rule, by its name."""
        of_paper = RULES[PAPER_RULE].threshold
        return {PAPER_RULE: of_paper, JOINT_RULE: self.joint_threshold, JOINT_LOWEST: self.joint_threshold}


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
        Folder of the ensemble.
    options
        Which pairs, how many, and the stated SB2 fraction.
    answers
        Folder in which answers of tasks are kept, and looked for first: interrupted, an evaluation goes on. It stays;
        whoever has made use of the report removes it. None keeps nothing.
    progress
        Called with (stage, done, total); the stages are "digest" (of pairs without a recipe), "judge", "rule",
        "twins", "frames", "limit" and "limit's noise".

    Raises
    ------
    StoreError, SchemaError
        If there is no training store at ``pairs``.
    CheckpointError
        If there is no ensemble in ``weights``, or one for other code.
    EvaluationError
        If the split is empty, or the ensemble was trained on pairs that it would be judged on.
    LockedError
        If another evaluation uses the folder of answers.
    JobError
        If a task failed, the cluster was lost, or a disk is full; answers that are kept stay.
    """
    pairs, weights = Path(pairs).resolve(), Path(weights).resolve()
    with stores.open_store(pairs, PAIRS) as store:
        truth, recipe = _truth(pairs, store, options.split), dict(store.attrs)
    ensemble = Ensemble.load(weights)  # so that wrong weights are one clear error before any worker starts
    digest, penalties = ensemble.digest, ensemble.penalties
    library = options.library and options.library.resolve()
    keep = keeping(client, f"the ensemble {digest}", load, weights, digest)
    with working_folder(answers, "twinlines evaluate") as folder, keep as keeper:
        markers = Markers(folder)
        content = _digest(client, markers, pairs, recipe, progress)
        provenance = _provenance(content, pairs, weights, options.split)
        store_of_answers = Answers(markers, _decides(content, digest, library))
        store_of_answers.open()
        questions = Questions(client, store_of_answers, progress, keeper)
        judged = _judge(questions, "judge", judge_block, _LOGIT_BLOCK, pairs, truth.rows)
        logits = Logits(penalties, {head: np.moveaxis(values, 2, 0) for head, values in judged.items()})
        draws = _draws(questions, pairs, truth, penalties, options) if options.rule_pairs else None
        curves, frames, left_out = _twins(questions, library, penalties, options) if options.twins else ((), (), {})
        limit = _limit(questions, str(pairs), truth, library, options) if options.limit else None
    return EvaluationReport(
        pairs=str(pairs),
        frame=_frame(recipe),
        split=options.split,
        n_pairs=len(truth.rows),
        weights=str(weights),
        weights_digest=digest,
        seed=options.seed,
        sb2_fraction=options.sb2_fraction,
        provenance=provenance,
        members=measures.members(logits, truth),
        table=measures.table(logits, truth, options.sb2_fraction),
        populations=measures.populations(logits, truth),
        rule=measures.rules(draws, truth, options.thresholds, options.sb2_fraction) if draws else (),
        rule_draws=DRAWS,
        operating=measures.operating(logits, truth),
        curves=measures.curves(logits, draws, truth),
        reliability=measures.reliabilities(logits, truth),
        marginals=measures.marginals(logits, truth),
        twins=curves,
        frames=frames,
        limit=limit,
        twin_spectra=options.twins,
        twins_left_out=left_out,
    )


def _truth(pairs: Path, store: xr.Dataset, split: str) -> Truth:
    codes = store["split"].values
    rows = np.flatnonzero(codes == SPLITS.index("test")) if split == "test" else np.arange(len(codes))
    if not rows.size:
        raise EvaluationError(
            f"{pairs} has {len(codes)} pairs and none in its test split; synthesize more pairs, or use --split all "
            "if training has seen none of them"
        )
    names = [name for name in dict.fromkeys([*MARGINALS, *STRATA]) if name not in PER_ARM]
    names += [f"flux_ratio_{name}" for name in ARM_NAMES]
    parameters = {name: store[name].values[rows] for name in names}
    parameters |= {f"snr_{name}": values[rows] for name, values in ratios_of(pairs).items()}
    parameters["separation"] = np.abs(parameters["separation"])
    parameters["luminosity_ratio"] = np.log10(parameters["luminosity_ratio"])
    return Truth(rows, store["label"].values[rows], store["population"].values[rows], parameters)


def _frame(recipe: Mapping[Any, Any]) -> str:
    """Where the pairs are at rest; recipes that do not say have Table 1's frame."""
    provenance = recipe.get("provenance")
    return str(provenance.get("frame", DRAWN)) if isinstance(provenance, dict) else "unknown"


def _digest(client: Client, markers: Markers, pairs: Path, recipe: Mapping[Any, Any], progress: Progress) -> str:
    """What identifies the pairs: the digest of their recipe, or else a hash of their content, which a worker makes."""
    known = recipe.get("digest")
    if isinstance(known, str):
        return known
    made: list[str] = []

    def finished(_: Question, digest: str) -> None:
        made.append(digest)
        progress("digest", 1, 1)

    markers.open()
    compute(client, markers, [(Question("digest", str(pairs), "digest"), digest_of)], finished)
    return made[0]


def _decides(pairs: str, weights: str, library: Path | None) -> dict[str, Any]:
    """What decides all answers of an evaluation, as JSON."""
    return {
        "weights": weights,
        "pairs": pairs,
        "library": Library.load(library).digest,
        "versions": inventory.versions(),
    }


def _provenance(digest: str, pairs: Path, weights: Path, split: str) -> Provenance:
    """Compare the pairs with what each member says it was trained on."""
    headers = (checkpoint.load(path)[1] for path in checkpoint.members(weights))
    trained_on = tuple(sorted({digest for header in headers for digest in header.pairs.split(DIGESTS)}))
    if split == "all" and digest in trained_on:
        raise EvaluationError(
            f"{weights} was trained on pairs of {pairs} (digest {digest}), so that --split all would judge what "
            "training saw; use --split test"
        )
    return Provenance(digest, trained_on)


def _judge(
    questions: Questions,
    stage: str,
    task: Callable[..., Answer],
    size: int,
    pairs: Path,
    rows: NDArray[np.int64],
    *others: Any,
) -> dict[str, NDArray[np.float32]]:
    """What a task answers of all rows, so many pairs at a time: by head, (pair, 2, ...)."""
    places = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    blocks = [Block(str(pairs), place, rows[place]) for place in places]
    made = {block.place.start: answer for block, answer in questions.ask(stage, task, ((b, *others) for b in blocks))}
    return {head: np.concatenate([made[place.start][head] for place in places]) for head in HEADS}


def _draws(questions: Questions, pairs: Path, truth: Truth, penalties: tuple[int, ...], options: Options) -> Draws:
    """Percentiles of the first pairs."""
    rows = truth.rows[: options.rule_pairs]
    made = _judge(questions, "rule", draws_of, _RULE_BLOCK, pairs, rows, options.seed)
    lowest, median = ({head: values[..., place] for head, values in made.items()} for place in range(2))
    return Draws(penalties, lowest, median)


def _twins(
    questions: Questions, library: Path | None, penalties: tuple[int, ...], options: Options
) -> tuple[tuple[TwinCurves, ...], tuple[FrameCurves, ...], dict[str, str]]:
    """Curves of Figure 5, those of the frame, and the stars that the library lacks, with the reason."""
    reasons = {twin.name: twin.outside(Library.load(library)) for twin in TWINS}
    shown = [twin for twin in TWINS if reasons[twin.name] is None]
    tasks = [TwinTask(twin, vsini) for twin in shown for vsini in options.rotations]
    made = dict(questions.ask("twins", judge_twin, ((task, library, options.twins, options.seed) for task in tasks)))
    curves = [
        TwinCurves(task.twin.name, task.vsini, head, penalty, _nested(made[task][head][place]))
        for task in tasks
        for head in HEADS
        for place, penalty in enumerate(penalties)
    ]
    still = [TwinTask(twin, FRAME_VSINI) for twin in shown]
    seen = dict(questions.ask("frames", judge_frame, ((task, library, options.twins, options.seed) for task in still)))
    frames = [
        FrameCurves(
            *(task.twin.name, head, penalty),
            *(_rounded(seen[task][f"{name} {head}"][place]) for name in ("displaced", "centred")),
        )
        for task in still
        for head in HEADS
        for place, penalty in enumerate(penalties)
    ]
    return tuple(curves), tuple(frames), {star: reason for star, reason in reasons.items() if reason is not None}


def _limit(questions: Questions, pairs: str, truth: Truth, library: Path | None, options: Options) -> Limit:
    parameters = {name: truth.of(name, JOINT) for name in STRATA}
    sample = Sample(truth.rows, truth.label, truth.population, parameters)
    return measure(questions, pairs, sample, options.limit, STRATA, library=library, seed=options.seed)


def _nested(values: NDArray[np.float32]) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(_rounded(row) for row in block) for block in values)


def _rounded(values: NDArray[np.float32]) -> tuple[float, ...]:
    # Six digits: a probability of N spectra is not known better, and the JSON stays small.
    return tuple(round(value, 6) for value in values.tolist())
