"""What the tasks of an evaluation do on a worker: judge a block of stored pairs, or one twin binary, in both arms.

Every task answers arrays by name, and in them the ensemble's penalties in its order. The ensemble is the one that the
worker keeps under the name ``keeper``; :mod:`twinlines.pipeline.evaluation.evaluation` plans the tasks.
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
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.evaluation import twins
from twinlines.pipeline.evaluation.twins import Twin
from twinlines.pipeline.jobs.answers import Answer
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.inference import InferenceParameters
from twinlines.pipeline.storage import chunks, stores

DRAWS = InferenceParameters().n_draws
"""Noisy copies of each spectrum that the catalog's rules judge."""

DRAWN = (0.0, 50.0)
"""Percentiles of draws x members on which rules are built: p0, the lowest, and p50."""


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

    def __str__(self) -> str:
        return f"pairs {self.rows[0]} to {self.rows[-1]} of {self.pairs}"

    @property
    def question(self) -> str:
        """What is asked, wherever the store lies."""
        return f"rows {hashlib.sha256(self.rows.astype('<i8').tobytes()).hexdigest()}"


@dataclass(frozen=True)
class TwinTask:
    """A twin binary, which one task judges."""

    twin: Twin
    """The two equal stars."""
    vsini: float
    """Projected rotational velocity of both, km/s."""

    def __str__(self) -> str:
        return f"{self.twin.name}, vsini {self.vsini:g} km/s"

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


def digest_of(pairs: str) -> str:
    """Digest of pairs, as weights name the pairs that they were trained on, from their content."""
    return load_pairs(Path(pairs)).digest


def ratios_of(pairs: str | Path) -> dict[ArmName, NDArray[np.float32]]:
    """S/N per pixel of stored pairs, by arm, (pair,).

    Raises
    ------
    StoreError
        If there is no such store.
    """
    stored = stores.read_columns(pairs, [f"snr_{name}" for name in ARM_NAMES])
    return {name: stored[f"snr_{name}"] for name in ARM_NAMES}


def _flux(block: Block, name: ArmName) -> NDArray[np.float32]:
    """Noisy flux over continuum of a block, (spectrum, pixel); the two spectra of a pair follow each other."""
    array: Any = zarr.open_array(block.pairs, path=f"flux_{name}", mode="r", zarr_format=3)
    every = slice(None)
    flux = chunks.read(array, Path(block.pairs, f"flux_{name}"), (block.rows, every, every)).astype(
        np.float32, copy=False
    )
    flux = flux.reshape(-1, flux.shape[2])
    if not np.isfinite(flux).all():
        bad = block.rows[int(np.flatnonzero(~np.isfinite(flux).all(axis=1))[0]) // 2]
        raise EvaluationError(f"pair {bad} holds flux that is not finite in arm {name}; synthesize the pairs again")
    return flux


@one_thread()
def judge_block(block: Block, keeper: str) -> Answer:
    """Logits of a block by head, (pair, 2, member, penalty)."""
    logits = evaluation.judge(kept_object(keeper), {name: _flux(block, name) for name in ARM_NAMES})
    return {
        head: np.moveaxis(values, 0, 1).reshape(len(block.rows), 2, len(values), -1) for head, values in logits.items()
    }


@one_thread()
def draws_of(block: Block, keeper: str, seed: int) -> Answer:
    """What a catalog would keep of a block: by head, (pair, 2, penalty, percentile) of :data:`DRAWN`.

    As in a survey, draws add noise to spectra that are noisy already; their sigma is sqrt(flux) / snr on flux over
    continuum, which is what synthesis added but for the continuum's departure from its median.
    """
    ensemble: Ensemble = kept_object(keeper)
    ratios = ratios_of(block.pairs)
    keys = np.stack([np.repeat(block.rows, 2), np.tile(np.arange(2), len(block.rows))], axis=1)
    flux: dict[str, NDArray[np.float32]] = {name: _flux(block, name) for name in ARM_NAMES}
    sigma: dict[str, NDArray[Any]] = {
        name: np.sqrt(np.maximum(flux[name], 0.0)) / np.repeat(ratios[name][block.rows], 2)[:, None]
        for name in ARM_NAMES
    }
    made = ensemble.percentiles(flux, sigma, keys, seed=seed, n_draws=DRAWS, percentiles=DRAWN)
    return {
        head: np.stack([by_penalty[penalty].reshape(-1, 2, len(DRAWN)) for penalty in ensemble.penalties], axis=2)
        for head, by_penalty in made.items()
    }


@one_thread()
def judge_frame(task: TwinTask, keeper: str, library: Path | None, count: int, seed: int) -> Answer:
    """Curves of a star off rest, "displaced <head>", and of twins about their mean, "centred <head>".

    Each is (penalty, velocity); see :func:`twinlines.pipeline.evaluation.twins.displacement`.
    """
    curves = twins.displacement(kept_object(keeper), Library.load(library), task.twin, count, seed)
    displaced = {f"displaced {head}": values for head, (values, _) in curves.items()}
    return displaced | {f"centred {head}": values for head, (_, values) in curves.items()}


@one_thread()
def judge_twin(task: TwinTask, keeper: str, library: Path | None, count: int, seed: int) -> Answer:
    """Curves of a twin binary by head, (penalty, separation, S/N, percentile).

    See :func:`twinlines.pipeline.evaluation.twins.probabilities`.
    """
    return twins.probabilities(kept_object(keeper), Library.load(library), task.twin, task.vsini, count, seed)
