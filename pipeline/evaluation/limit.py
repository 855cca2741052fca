"""The information limit: which binaries a likelihood-ratio test could find that knows the library and every prior.

What no network can exceed by much, for it is asked for the same binaries at the same false positive rate.
``docs/evaluation.md`` has the method in two paragraphs, and what it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ncx2

from twinlines.models.evaluation import Bin, binned
from twinlines.models.threads import one_thread
from twinlines.pipeline.evaluation.noncentrality import (
    ARM_SETS,
    Binaries,
    lights_of,
    noise_maxima,
    noncentrality,
    read_binaries,
)
from twinlines.pipeline.evaluation.tasks import Block, EvaluationError
from twinlines.pipeline.jobs.answers import Answer
from twinlines.pipeline.jobs.questions import Questions
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import POPULATIONS
from twinlines.pipeline.storage import stores

FPR = 0.0013
"""False positive rate of the limit: the paper's, of the blue arm at penalty 16."""

FREEDOM = 3
"""Parameters of a binary's second star: mass ratio, velocity, rotation. Age and composition are the primary's."""

COMPANIONS = 400
"""Companions whose light noise may look like, for each single star."""

REALISATIONS = 2000
"""Realisations of the noise, for each single star."""

STARS = 64
"""Single stars of each population on which the threshold is set."""

_BLOCK = 64  # binaries of one task: some seconds
_STARS_BLOCK = 4  # single stars of one task
_BOOTSTRAPS = 200
_CERTAIN = 1000.0  # a larger noncentrality is found whatever the noise


@dataclass(frozen=True)
class LimitRow:
    """The limit of one population with one set of arms."""

    arms: str
    """"B", "R", or "J" for both jointly."""
    population: str
    """One of :data:`twinlines.pipeline.schema.POPULATIONS`, or "all" of several."""
    binaries: int
    """Binaries that were fitted by single stars."""
    fraction: float
    """Fraction of them that the test finds."""
    low: float
    """Lower end of its interval at 95 % confidence: of the sample of binaries, and of the threshold."""
    high: float
    """Upper end."""
    known: float
    """The same for single stars whose labels, rotation and velocity are known: only the continuum is fitted."""
    stars: int
    """Single stars on which the threshold was set."""
    threshold: float
    """Decrease of chi2, from the best single star to the best binary, above which a spectrum is called a binary's."""
    threshold_error: float
    """Standard error of the threshold."""


@dataclass(frozen=True)
class LimitMarginal:
    """The limit against one parameter, all populations together."""

    arms: str
    """"B", "R", or "J" for both jointly."""
    parameter: str
    """Key of :data:`twinlines.pipeline.evaluation.measures.STRATA`."""
    bins: tuple[Bin, ...]
    """Wilson's intervals; the threshold's error is not in them."""


@dataclass(frozen=True)
class Limit:
    """The information limit of a sample of pairs."""

    fpr: float
    """False positive rate at which it is."""
    binaries: int
    """Binaries of the sample."""
    rows: tuple[LimitRow, ...]
    """By population and arms."""
    marginals: tuple[LimitMarginal, ...]
    """By arms and parameter."""

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object; NaN stays NaN."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """Pairs of which a limit is asked; the first axis of every array is theirs."""

    rows: NDArray[np.int64]
    """Their rows in the store, ascending."""
    label: NDArray[np.int8]
    """Labels, (pair, 2)."""
    population: NDArray[np.int8]
    """Codes of their populations."""
    parameters: Mapping[str, NDArray[np.float32]]
    """Parameters by which the limit is tabulated."""

    def first_binaries(self, count: int) -> Sample:
        """The first so many pairs that hold a binary, or all there are.

        Raises
        ------
        EvaluationError
            If there is none.
        """
        chosen = np.flatnonzero(self.label[:, 1] > 0)[:count]
        if not chosen.size:
            raise EvaluationError("no pair of the split holds a binary, so that there is no limit; leave out --limit")
        parameters = {name: values[chosen] for name, values in self.parameters.items()}
        return Sample(self.rows[chosen], self.label[chosen], self.population[chosen], parameters)


def measure(
    questions: Questions,
    pairs: str,
    sample: Sample,
    count: int,
    edges: Mapping[str, Sequence[float]],
    *,
    library: Path | None = None,
    seed: int = 0,
) -> Limit:
    """Measure the limit of the first binaries of a sample.

    Parameters
    ----------
    questions
        Where tasks go, and their answers are kept; the stages are "limit" and "limit's noise".
    pairs
        Path of the training store.
    sample
        Its pairs that are judged.
    count
        Most binaries.
    edges
        Edges of the bins, by parameter of the sample.
    library
        The spectral library; None is the one that ships. It should be the one that the pairs were made of.
    seed
        Seed of the noise.

    Raises
    ------
    EvaluationError
        If the sample holds no binary.
    JobError
        If a task failed, the cluster was lost, or a disk is full.
    """
    chosen = sample.first_binaries(count)
    fitted, known = (np.empty((len(chosen.rows), len(ARM_SETS))) for _ in range(2))
    blocks = ((block, library) for block in _blocks(pairs, chosen.rows, np.arange(len(chosen.rows)), _BLOCK))
    for block, answer in questions.ask("limit", fit_block, blocks):
        fitted[block.place], known[block.place] = answer["fitted"], answer["known"]
    stars = np.concatenate([np.flatnonzero(chosen.population == code)[:STARS] for code in np.unique(chosen.population)])
    maxima = np.empty((len(stars), len(ARM_SETS), REALISATIONS), np.float32)
    tasks = (
        (block, COMPANIONS, REALISATIONS, seed, library)
        for block in _blocks(pairs, chosen.rows[stars], np.arange(len(stars)), _STARS_BLOCK)
    )
    for block, answer in questions.ask("limit's noise", noise_of_block, tasks):
        maxima[block.place] = answer["maxima"]
    of_stars = chosen.population[stars]
    groups = {POPULATIONS[code]: [code] for code in np.unique(chosen.population).tolist()}
    if len(groups) > 1:
        groups = {"all": [code for (code,) in groups.values()], **groups}
    rows, marginals = [], []
    for group, codes in groups.items():
        mine, singles = np.isin(chosen.population, codes), np.isin(of_stars, codes)
        for place, arms in enumerate(ARM_SETS):
            weight = _weights(of_stars[singles], chosen.population[mine])
            noise = maxima[singles, place]
            rows.append(_row(arms, group, fitted[mine, place], known[mine, place], noise, weight, seed))
            if group == next(iter(groups)):
                positive = detected(fitted[:, place], rows[-1].threshold)
                marginals += [
                    LimitMarginal(arms, name, binned(values, positive, edges[name]))
                    for name, values in chosen.parameters.items()
                ]
    return Limit(FPR, len(chosen.rows), tuple(rows), tuple(marginals))


def detected(noncentrality: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Probability that a binary is found: that chi2 decreases by more than the threshold.

    The decrease follows a noncentral chi2 distribution with as many degrees of freedom as the second star has
    parameters (Wilks 1938; Wald 1943).
    """
    return np.asarray(ncx2.sf(threshold, FREEDOM, np.minimum(noncentrality, _CERTAIN)))


def _weights(of_stars: NDArray[np.int8], of_binaries: NDArray[np.int8]) -> NDArray[np.float64]:
    """Weight of each single star, so that populations count as they do among the binaries."""
    codes, place, numbers = np.unique(of_stars, return_inverse=True, return_counts=True)
    share = np.array([np.count_nonzero(of_binaries == code) for code in codes]) / len(of_binaries)
    return np.asarray((share / numbers)[place])


def _threshold(maxima: NDArray[np.float32], weight: NDArray[np.float64]) -> float:
    """What a fraction :data:`FPR` of single stars exceed; maxima are (star, realisation), of sqrt(chi2)."""
    order = np.argsort(maxima, axis=None)[::-1]
    share = np.cumsum(np.repeat(weight, maxima.shape[1])[order]) / (weight.sum() * maxima.shape[1])
    return float(maxima.flat[order[np.searchsorted(share, FPR)]]) ** 2


def _row(
    arms: str,
    population: str,
    fitted: NDArray[np.float64],
    known: NDArray[np.float64],
    maxima: NDArray[np.float32],
    weight: NDArray[np.float64],
    seed: int,
) -> LimitRow:
    threshold = _threshold(maxima, weight)
    positive = detected(fitted, threshold)
    pace = detected(fitted, threshold + 0.5).mean() - detected(fitted, threshold - 0.5).mean()
    rng = np.random.default_rng(seed)
    thresholds, fractions = np.empty(_BOOTSTRAPS), np.empty(_BOOTSTRAPS)
    for trial in range(_BOOTSTRAPS):
        stars = rng.integers(0, len(maxima), len(maxima))
        thresholds[trial] = _threshold(maxima[stars], weight[stars])
        again = positive[rng.integers(0, len(positive), len(positive))].mean()
        fractions[trial] = again + pace * (thresholds[trial] - threshold)
    low, high = np.clip(np.percentile(fractions, (2.5, 97.5)), 0.0, 1.0).tolist()
    return LimitRow(
        arms=arms,
        population=population,
        binaries=len(fitted),
        fraction=float(positive.mean()),
        low=low,
        high=high,
        known=float(detected(known, threshold).mean()),
        stars=len(maxima),
        threshold=threshold,
        threshold_error=float(thresholds.std()),
    )


def _blocks(pairs: str, rows: NDArray[np.int64], places: NDArray[np.intp], size: int) -> list[Block]:
    parts = [slice(start, min(start + size, len(places))) for start in range(0, len(places), size)]
    return [Block(pairs, part, rows[part]) for part in parts]


@one_thread()
def fit_block(block: Block, _keeper: str, library: Path | None) -> Answer:
    """Noncentralities of a block's binaries, "fitted" and "known", (pair, arm set); see :class:`.Noncentrality`."""
    found = noncentrality(lights_of(Library.load(library)), read_binaries(block.pairs, block.rows))
    return {"fitted": found.fitted, "known": found.known}


@one_thread()
def noise_of_block(
    block: Block, _keeper: str, companions: int, realisations: int, seed: int, library: Path | None
) -> Answer:
    """What noise makes of a block's primaries, "maxima" (pair, arm set, realisation); see :func:`.noise_maxima`.

    Companions are those of the pairs of the same population whose primaries are most alike in Teff and log g, of
    whatever split: what is taken of them is known of no star of the test set.
    """
    lights, stars = lights_of(Library.load(library)), read_binaries(block.pairs, block.rows)
    columns = stores.read_columns(block.pairs, ["label", "population"])
    maxima = []
    for place, row in enumerate(block.rows.tolist()):
        like = (columns["label"][:, 1] > 0) & (columns["population"] == columns["population"][row])
        others = read_binaries(block.pairs, np.flatnonzero(like))
        star = stars.take(torch.tensor([place]))
        near = nearest(star, others, companions)
        maxima.append(noise_maxima(lights, star, others.take(near), realisations, seed))
    return {"maxima": np.stack(maxima)}


def nearest(star: Binaries, others: Binaries, count: int) -> torch.Tensor:
    """The binaries whose primaries are most like a star's: a tenth in Teff counts as much as half a dex in log g."""
    hotter = (others.first[:, 0] / star.first[0, 0]).log() / 0.1
    denser = (others.first[:, 1] - star.first[0, 1]) / 0.5
    return torch.argsort(hotter**2 + denser**2, stable=True)[:count]
