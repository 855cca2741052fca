"""What the tasks of an evaluation do on a worker: judge a block of stored pairs, or one twin binary.

Every task answers arrays by penalty and name. The ensemble is the one that the worker keeps under the name ``keeper``;
:mod:`twinlines.pipeline.evaluation.evaluation` plans the tasks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from twinlines.cluster.workers import device, kept_object
from twinlines.models import evaluation
from twinlines.models.ensemble import Ensemble
from twinlines.models.pairs import load_pairs
from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARMS, ArmName
from twinlines.pipeline.evaluation import twins
from twinlines.pipeline.evaluation.answers import Answer
from twinlines.pipeline.evaluation.twins import Twin
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.inference import InferenceParameters
from twinlines.pipeline.storage import stores

DRAWS = InferenceParameters().n_draws
"""Noisy copies of each spectrum that the catalog's rule judges."""


class EvaluationError(RuntimeError):
    """An evaluation cannot be made as asked."""


@dataclass(frozen=True)
class Block:
    """Some pairs of the store, which one task judges."""

    pairs: str
    """Path of the store."""
    place: slice
    """Their place among the pairs that are judged."""
    rows: NDArray[np.int64]
    """Their rows in the store, ascending."""
    arms: tuple[ArmName, ...]
    """Arms in which they are judged."""

    def __str__(self) -> str:
        return f"pairs {self.rows[0]} to {self.rows[-1]} of {self.pairs}, arm {' and '.join(self.arms)}"

    @property
    def question(self) -> str:
        """What is asked, wherever the store lies."""
        return f"arms {''.join(self.arms)} of rows {hashlib.sha256(self.rows.astype('<i8').tobytes()).hexdigest()}"


@dataclass(frozen=True)
class TwinTask:
    """A twin binary, which one task judges in one arm."""

    twin: Twin
    """The two equal stars."""
    vsini: float
    """Projected rotational velocity of both, km/s."""
    arm: ArmName
    """The arm."""

    def __str__(self) -> str:
        return f"{self.twin.name}, vsini {self.vsini:g} km/s, arm {self.arm}"

    @property
    def question(self) -> str:
        """What is asked."""
        return repr(self)


def load(weights: Path, digest: str) -> Ensemble:
    """The ensemble in a folder, if it is the one that the client has seen."""
    ensemble = Ensemble.load(weights, device=device())
    if ensemble.digest != digest:
        raise EvaluationError(
            f"the weights in {weights} have the digest {ensemble.digest} on this worker and {digest} on the client; "
            "give the workers the same weights"
        )
    return ensemble


def digest_of(name: ArmName, pairs: str) -> str:
    """Digest of one arm's pairs, as weights name the pairs that they were trained on."""
    return load_pairs(Path(pairs), name).digest


def _flux(block: Block, name: ArmName) -> NDArray[np.float32]:
    """Noisy flux over continuum of a block, (spectrum, pixel); the two spectra of a pair follow each other."""
    array: Any = zarr.open_array(block.pairs, path=f"flux_{name}", mode="r", zarr_format=3)
    flux = np.asarray(array.oindex[block.rows], np.float32)
    flux = flux.reshape(-1, flux.shape[2])
    if not np.isfinite(flux).all():
        bad = block.rows[int(np.flatnonzero(~np.isfinite(flux).all(axis=1))[0]) // 2]
        raise EvaluationError(f"pair {bad} holds flux that is not finite in arm {name}; synthesize the pairs again")
    return flux


@one_thread()
def judge_block(block: Block, keeper: str) -> Answer:
    """Logits of a block in its one arm, "logits" (member, pair, 2)."""
    (name,) = block.arms
    logits = evaluation.judge(kept_object(keeper), name, _flux(block, name))
    return {penalty: {"logits": values.reshape(len(values), -1, 2)} for penalty, values in logits.items()}


@one_thread()
def candidates_of(block: Block, keeper: str, seed: int) -> Answer:
    """Which spectra of a block are candidates, "candidate" (pair, 2).

    A candidate's lowest value of all draws and members is above 0.5 in both arms, as in the catalog. As in a survey,
    draws add noise to spectra that are noisy already; their sigma is sqrt(flux) / snr on flux over continuum, which is
    what synthesis added but for the continuum's departure from its median.
    """
    ensemble: Ensemble = kept_object(keeper)
    ratios = stores.read_columns(block.pairs, [f"snr_{name}" for name in block.arms])
    keys = np.stack([np.repeat(block.rows, 2), np.tile(np.arange(2), len(block.rows))], axis=1)
    above: dict[ArmName, dict[int, NDArray[np.bool_]]] = {}
    for name in block.arms:
        flux = _flux(block, name)
        sigma = np.sqrt(np.maximum(flux, 0.0)) / np.repeat(ratios[f"snr_{name}"][block.rows], 2)[:, None]
        lowest = ensemble.percentiles(name, flux, sigma, keys, seed=seed, n_draws=DRAWS, percentiles=(0,))
        above[name] = {penalty: values[:, 0].reshape(-1, 2) > 0.5 for penalty, values in lowest.items()}
    blue, red = above.values()
    return {penalty: {"candidate": blue[penalty] & red[penalty]} for penalty in blue.keys() & red.keys()}


@one_thread()
def judge_frame(task: TwinTask, keeper: str, library: Path | None, count: int, seed: int) -> Answer:
    """Curves of a star off rest, "displaced", and of twins about their mean, "centred", (velocity,) each.

    See :func:`twinlines.pipeline.evaluation.twins.displacement`.
    """
    curves = twins.displacement(kept_object(keeper), Library.load(library), ARMS[task.arm], task.twin, count, seed)
    return {penalty: {"displaced": displaced, "centred": centred} for penalty, (displaced, centred) in curves.items()}


@one_thread()
def judge_twin(task: TwinTask, keeper: str, library: Path | None, count: int, seed: int) -> Answer:
    """Curves of a twin binary, "percentiles" (separation, S/N, percentile).

    See :func:`twinlines.pipeline.evaluation.twins.probabilities`.
    """
    curves = twins.probabilities(
        kept_object(keeper), Library.load(library), ARMS[task.arm], task.twin, task.vsini, count, seed
    )
    return {penalty: {"percentiles": values} for penalty, values in curves.items()}
