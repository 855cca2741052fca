"""Trains an ensemble over a Dask client: one task a member, each in a single-threaded process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from twinlines.cluster.window import run_window
from twinlines.models import checkpoint
from twinlines.models.network import NetworkConfig
from twinlines.models.pairs import load_pairs
from twinlines.models.training import TrainingConfig, train_member
from twinlines.pipeline import stores
from twinlines.pipeline.arms import arm as named_arm
from twinlines.pipeline.progress import Progress
from twinlines.pipeline.schema import PAIRS

Metrics = dict[str, float]


def train(
    client: Any,
    pairs: Path,
    out: Path,
    *,
    arms: Sequence[str] = ("B", "R"),
    penalties: Sequence[int] = (16,),
    members: int = 5,
    epochs: int = 60,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Metrics]:
    """Train ``members`` members for each arm and penalty; metrics by the stem of the weights' file.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    pairs
        Training store, of :data:`twinlines.pipeline.schema.PAIRS`.
    out
        Folder of the ensemble. Members that are there already, made with the same settings, are kept; members that were
        interrupted go on after their last epoch.
    arms, penalties, members, epochs, seed
        See :class:`twinlines.models.training.TrainingConfig`.
    progress
        Called with (stage, done, total) as members finish.

    Raises
    ------
    StoreError
        If there is no store at ``pairs``.
    SchemaError
        If it is no training store.
    """
    sizes = {name: NetworkConfig(named_arm(name).n_pixels) for name in arms}
    stores.open_store(pairs, PAIRS)  # so that a wrong path is one clear error before any worker starts

    def tasks() -> Iterator[tuple[str, TrainingConfig, str]]:
        for member in range(1, members + 1):
            for penalty in penalties:
                for name in arms:
                    base = TrainingConfig(name, penalty, sizes[name], seed=seed, max_epochs=epochs)
                    yield str(pairs), replace(base, member=member), str(out)

    total = members * len(penalties) * len(arms)
    metrics: dict[str, Metrics] = {}
    for (_, config, _), future in run_window(client, train_one, tasks()):
        metrics[checkpoint.stem(config.arm, config.penalty, config.member)] = future.result()
        if progress:
            progress("train", len(metrics), total)
    return metrics


def train_one(pairs: str, config: TrainingConfig, out: str) -> Metrics:
    """Train one member in this process, on one thread."""
    torch.set_num_threads(1)
    return train_member(load_pairs(Path(pairs), config.arm), config, Path(out))
