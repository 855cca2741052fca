"""Trains an ensemble over a Dask client: one task a member, each on a core or a GPU of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client

from twinlines.cluster.workers import device
from twinlines.models import checkpoint, defaults
from twinlines.models.network import NetworkConfig
from twinlines.models.pairs import load_pairs
from twinlines.models.threads import one_thread
from twinlines.models.training import TrainingConfig, TrainingError, train_member
from twinlines.pipeline.arms import arm as named_arm
from twinlines.pipeline.jobs import engine
from twinlines.pipeline.jobs.markers import Markers, fingerprint
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores

Metrics = dict[str, float]

MARKERS = ".training"
"""Folder of the tasks' markers, within the ensemble's."""


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

    def __post_init__(self) -> None:
        if self.members < 1:
            raise TrainingError(f"members is {self.members}; give 1 or more")
        if not self.penalties or min(self.penalties) < 1:
            raise TrainingError(f"penalties is {list(self.penalties)}; give one or more, each 1 or above")

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
                    yield from ((config,) for config in (first, *later))
                else:
                    yield (first, *(self._warm(config, self.warm_start) for config in later))

    @staticmethod
    def _warm(config: TrainingConfig, warm: WarmStart) -> TrainingConfig:
        return replace(config, max_epochs=warm.epochs, learning_rate=warm.learning_rate, epoch_pairs=warm.pairs)


@dataclass(frozen=True)
class Chain:
    """Members that one task trains, one after the other; the first is the parent of the others."""

    configs: tuple[TrainingConfig, ...]
    """Their settings."""
    key: str
    """Key of the task: a hash of the settings, the pairs and the weights at which the first starts."""

    @classmethod
    def of(cls, configs: tuple[TrainingConfig, ...], pairs: str, start_at: Path | None) -> Chain:
        """Chain of some settings; ``pairs`` is the training set's digest."""
        first = configs[0]
        namesake = None if start_at is None else checkpoint.file_digest(start_at / _file_name(first))
        decides = [[asdict(config) for config in configs], pairs, namesake]
        return cls(configs, hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32])

    @property
    def about(self) -> dict[str, Any]:
        """What a failure's file should say of it."""
        return {"members": self.names}

    @property
    def names(self) -> list[str]:
        """Names of its members."""
        return [checkpoint.stem(config.arm, config.penalty, config.member) for config in self.configs]

    def files(self, folder: Path) -> list[Path]:
        """Its members' weights."""
        return [folder / _file_name(config) for config in self.configs]

    def __str__(self) -> str:
        return ", ".join(self.names)


def _file_name(config: TrainingConfig) -> str:
    return f"{checkpoint.stem(config.arm, config.penalty, config.member)}{checkpoint.SUFFIX}"


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

    A member that fails ends none but those that would start at its weights.

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
        Called after each task, on this side; to draw learning curves, say.

    Raises
    ------
    StoreError
        If there is no store at ``pairs``.
    SchemaError
        If it is no training store.
    CheckpointError
        If there are no weights to start at.
    TrainingError
        If the settings are impossible; or, when all others are trained, if a member cannot be trained, or its loss is
        no longer finite.
    twinlines.pipeline.jobs.engine.JobError
        If the cluster was lost, or a disk is full.
    """
    every = list(training.chains())  # impossible settings are one clear error before any worker starts
    for configs in every:
        configs[0].network.lengths()
    with stores.open_store(pairs, PAIRS) as store:
        digest = str(store.attrs.get("digest"))
    start_at = training.start_at and training.start_at.resolve()
    chains = [Chain.of(configs, digest, start_at) for configs in every]
    markers = Markers(out / MARKERS)
    markers.open()
    finished_before = [chain for chain in chains if markers.finished(chain.key, chain.files(out), verify=True)]
    missing = [chain for chain in chains if chain not in finished_before]
    total = sum(len(chain.configs) for chain in chains)
    metrics: dict[str, Metrics] = {}
    for chain in finished_before:
        metrics |= markers.marker(chain.key)["metrics"]

    def finished(_chain: Chain, trained: dict[str, Metrics]) -> None:
        metrics.update(trained)
        progress("train", len(metrics), total)
        if member_finished is not None:
            member_finished()

    progress("train", len(metrics), total)
    tasks = ((chain, str(pairs), str(out), start_at) for chain in missing)
    failed = engine.compute(client, markers, train_chain, tasks, finished)
    if failed:
        errors = "; ".join(f"{failure.piece}: {failure.error}" for failure in failed.values())
        others = f"the other {len(metrics)} are trained" if metrics else "no other was asked for"
        raise TrainingError(
            f"{len(failed)} of {len(chains)} tasks failed, {others}: {errors}. Tracebacks are in "
            f"{markers.folder / 'failed'}; mend the cause and give the same command again"
        )
    return metrics


@one_thread()
def train_chain(chain: Chain, pairs: str, out: str, start_at: Path | None = None) -> dict[str, Metrics]:
    """Train members in this process, on its device: the first, then the others from its weights; mark them."""
    folder = Path(out)
    first = folder / _file_name(chain.configs[0])
    namesake = None if start_at is None else start_at / first.name
    # Read once: each member would read and unpack the whole store again.
    arrays = load_pairs(Path(pairs), chain.configs[0].arm).remembering()
    metrics = {
        name: train_member(
            arrays, config, folder, parent=namesake if config is chain.configs[0] else first, device=device()
        )
        for name, config in zip(chain.names, chain.configs, strict=True)
    }
    written = fingerprint(chain.files(folder))
    Markers(folder / MARKERS).mark(chain.key, len(chain.configs), written, metrics=metrics, **chain.about)
    return metrics
