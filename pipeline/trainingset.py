"""The training set: draws until enough pairs are kept, then synthesises them shard by shard over a Dask client.

The client holds the serial numbers of the kept draws and no spectra; a worker makes one shard of pairs from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twinlines.cluster.window import run_window
from twinlines.pipeline import population, stores, synthesis
from twinlines.pipeline.library import Library
from twinlines.pipeline.population import TABLE1, Draws, Population, Priors
from twinlines.pipeline.progress import Progress
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.tracks import Tracks

_DRAW_BLOCK = 16384
_MOST_DRAWS_PER_PAIR = 200


class SynthesisError(ValueError):
    """A training set cannot be made as asked."""


@dataclass(frozen=True)
class TrainingSet:
    """What a training set is made of; its digest identifies the pairs' content."""

    n_pairs: int
    """Pairs wanted."""
    seed: int = 0
    """Seed of the draws and of the noise."""
    priors: Priors = TABLE1
    """Distributions of the free parameters."""
    tracks: Path | None = None
    """Track table; None is the one that ships."""
    library: Path | None = None
    """Spectral library; None is the one that ships."""

    def provenance(self) -> dict[str, object]:
        """Everything that decides the pairs' values, for people and for the digest."""
        return {
            "n_pairs": self.n_pairs,
            "seed": self.seed,
            "priors": {item.name: repr(getattr(self.priors, item.name)) for item in fields(self.priors)},
            "tracks": Tracks.load(self.tracks).digest,
            "library": Library.load(self.library).digest,
            "numerics": synthesis.NUMERICS,
        }


@dataclass(frozen=True)
class SynthesisReport:
    """What became of the draws."""

    store: str
    """Where the pairs are."""
    n_pairs: int
    """Pairs stored."""
    n_draws: int
    """Draws made."""
    fates: dict[str, int]
    """Number of draws by fate: kept, or why not."""
    digest: str
    """Digest of the provenance."""

    @property
    def kept_fraction(self) -> float:
        """Kept over drawn; the paper keeps about 0.38."""
        return self.fates.get("kept", 0) / self.n_draws


def kept_draws(training_set: TrainingSet) -> tuple[Draws, int, dict[str, int]]:
    """The first ``n_pairs`` draws that become pairs, how many draws that took, and the fate of each by count.

    Raises
    ------
    SynthesisError
        If fewer than one in 200 draws is kept: the priors and the library's domain hardly overlap.
    """
    if training_set.n_pairs < 1:
        raise SynthesisError(f"at least one pair must be asked for (asked: {training_set.n_pairs})")
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    kept: list[Draws] = []
    fates: dict[str, int] = {}
    n_kept = n_draws = 0
    while n_kept < training_set.n_pairs:
        drawn = population.draw(n_draws, _DRAW_BLOCK, training_set.seed, training_set.priors)
        resolved = population.resolve(drawn, tracks, library)
        alive = np.flatnonzero(resolved.fate == population.KEPT)
        wanted = training_set.n_pairs - n_kept
        if len(alive) >= wanted:
            # The last block ends with the last wanted pair, so that the fates count just the draws that were needed.
            used = int(alive[wanted - 1]) + 1
            resolved, alive = resolved.take(slice(0, used)), alive[:wanted]
        kept.append(resolved.draws.take(alive))
        for label, number in resolved.counts().items():
            fates[label] = fates.get(label, 0) + number
        n_kept += len(alive)
        n_draws += len(resolved.fate)
        if n_draws > _MOST_DRAWS_PER_PAIR * max(n_kept, 1000):
            raise SynthesisError(
                f"only {n_kept} of {n_draws} draws became pairs; the fates are {fates}. "
                "Narrow the priors, or give a wider library or wider tracks"
            )
    joined = {item.name: np.concatenate([getattr(part, item.name) for part in kept]) for item in fields(Draws)}
    return Draws(**joined), n_draws, fates


def synthesize(
    client: Any,
    training_set: TrainingSet,
    out: Path,
    *,
    progress: Progress | None = None,
) -> SynthesisReport:
    """Make the training store ``out``: one Dask task per shard of pairs, published by one rename when it is whole.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    training_set
        What to make.
    out
        Folder of the new Zarr store, of :data:`twinlines.pipeline.schema.PAIRS`.
    progress
        Called with (stage, done, total).

    Raises
    ------
    StoreError
        If ``out`` exists.
    """
    if out.exists():
        raise stores.StoreError(f"{out} exists already; remove it or choose another name")
    draws, n_draws, fates = kept_draws(training_set)
    provenance = training_set.provenance()
    digest = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    attrs = {"provenance": provenance, "digest": digest, "n_draws": n_draws, "fates": fates}
    out.parent.mkdir(parents=True, exist_ok=True)
    stores.create(partial, PAIRS, training_set.n_pairs, attrs)

    def tasks() -> Iterator[tuple[object, ...]]:
        for start in range(0, training_set.n_pairs, PAIRS.shard_rows):
            numbers = draws.number[start : start + PAIRS.shard_rows]
            yield training_set, numbers, str(partial), start

    total = -(-training_set.n_pairs // PAIRS.shard_rows)
    try:
        for done, (_, future) in enumerate(run_window(client, write_pairs, tasks()), start=1):
            future.result()
            if progress:
                progress("synthesize", done, total)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # it cannot be gone on with
        raise
    partial.rename(out)
    return SynthesisReport(str(out), training_set.n_pairs, n_draws, fates, digest)


def write_pairs(training_set: TrainingSet, numbers: NDArray[np.int64], store: str, start: int) -> int:
    """Synthesise the draws ``numbers`` and write them as the store's rows from ``start`` on; returns their count."""
    torch.set_num_threads(1)
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    first = int(numbers[0])
    drawn = population.draw(first, int(numbers[-1]) - first + 1, training_set.seed, training_set.priors)
    kept: Population = population.resolve(drawn.take(numbers - first), tracks, library)
    stores.write_shard(store, PAIRS, start, synthesis.pairs(library, kept, training_set.seed))
    return len(numbers)
