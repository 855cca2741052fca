"""Trains an ensemble over a Dask client: one task a member, each on a core or a GPU of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from distributed import Client

from twinlines.cluster.window import run_window
from twinlines.cluster.workers import device
from twinlines.models import checkpoint, defaults
from twinlines.models.network import NetworkConfig
from twinlines.models.pairs import load_pairs
from twinlines.models.training import TrainingConfig, train_member
from twinlines.pipeline.arms import arm as named_arm
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores

Metrics = dict[str, float]


@dataclass(frozen=True)
class WarmStart:
    """How a member learns its second and later penalties: briefly, from its own weights at the first."""

    epochs: int = defaults.WARM_EPOCHS
    """Most epochs at each such penalty."""
    learning_rate: float = defaults.WARM_LEARNING_RATE
    """Adam's learning rate at the start."""
    pairs: int = defaults.EPOCH_PAIRS
    """Pairs shown in an epoch; 0: all."""


@dataclass(frozen=True)
class Training:
    """What an ensemble is trained like."""

    arms: Sequence[str] = ("B", "R")
    """Arms."""
    penalties: Sequence[int] = (defaults.PENALTY,)
    """Penalties; with a warm start, the first is trained from random weights and the others from the first."""
    members: int = defaults.MEMBERS
    """Members for each arm and penalty."""
    epochs: int = defaults.EPOCHS
    """Most epochs of a member."""
    learning_rate: float = defaults.LEARNING_RATE
    """Adam's learning rate at the start."""
    seed: int = 0
    """Seed of the ensemble."""
    schedule: str = defaults.SCHEDULE
    """How the learning rate falls: see :attr:`twinlines.models.training.TrainingConfig.schedule`."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`~twinlines.models.network.NetworkConfig` that are not the default ones."""
    warm_start: WarmStart | None = None
    """How later penalties start at the first one's weights; None: every member starts at random ones."""
    start_at: Path | None = None
    """Folder of an ensemble in which the other members start, each at the weights of its namesake; None: at random
    ones."""

    def chains(self) -> Iterator[tuple[TrainingConfig, ...]]:
        """Members that one task trains, one after the other; the first is the parent of the others."""
        for member in range(1, self.members + 1):
            for name in self.arms:
                network = NetworkConfig(named_arm(name).n_pixels, **self.sizes)
                first, *later = (
                    TrainingConfig(
                        *(name, penalty, network, member, self.seed),
                        max_epochs=self.epochs,
                        learning_rate=self.learning_rate,
                        schedule=self.schedule,
                    )
                    for penalty in self.penalties
                )
                if self.warm_start is None:
                    yield from ((one,) for one in (first, *later))
                else:
                    yield (first, *(self._warm(one, self.warm_start) for one in later))

    @staticmethod
    def _warm(config: TrainingConfig, warm: WarmStart) -> TrainingConfig:
        return replace(config, max_epochs=warm.epochs, learning_rate=warm.learning_rate, epoch_pairs=warm.pairs)


def train(
    client: Client,
    pairs: Path,
    out: Path,
    training: Training = Training(),
    *,
    progress: Progress = silent,
    member_finished: Callable[[], None] | None = None,
) -> dict[str, Metrics]:
    """Train an ensemble; metrics by the stem of the weights' file.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    pairs
        Training store, of :data:`twinlines.pipeline.schema.PAIRS`.
    out
        Folder of the ensemble. Members that are there already, made with the same settings, are kept; members that were
        interrupted go on after their last epoch.
    training
        Which members, and how.
    progress
        Called with (stage, done, total) as members finish.
    member_finished
        Called on the client when members have finished and their weights and logs are in ``out``: what draws learning
        curves, say, which a worker must not.

    Raises
    ------
    StoreError
        If there is no store at ``pairs``.
    SchemaError
        If it is no training store.
    TrainingError, PairsError
        If the settings are impossible, a member cannot be trained, or its loss is no longer finite.
    """
    chains = list(training.chains())  # impossible settings are one clear error before any worker starts
    for chain in chains:
        chain[0].network.lengths()
    stores.open_store(pairs, PAIRS).close()
    total = sum(len(chain) for chain in chains)
    metrics: dict[str, Metrics] = {}
    progress("train", 0, total)
    start_at = training.start_at and str(training.start_at.resolve())
    for _, future in run_window(client, train_chain, ((str(pairs), chain, str(out), start_at) for chain in chains)):
        metrics |= future.result()
        if member_finished is not None:
            member_finished()
        progress("train", len(metrics), total)
    return metrics


def train_chain(
    pairs: str, chain: Sequence[TrainingConfig], out: str, start_at: str | None = None
) -> dict[str, Metrics]:
    """Train members in this process, on one thread or its GPU: the first, then the others from its weights."""
    torch.set_num_threads(1)
    first = chain[0]
    name = f"{checkpoint.stem(first.arm, first.penalty, first.member)}{checkpoint.SUFFIX}"
    # Each would read and unpack the whole store again.
    found, folder = load_pairs(Path(pairs), first.arm).remembering(), Path(out)
    namesake = None if start_at is None else Path(start_at) / name
    return {
        checkpoint.stem(config.arm, config.penalty, config.member): train_member(
            found, config, folder, parent=namesake if config is first else folder / name, device=device()
        )
        for config in chain
    }
