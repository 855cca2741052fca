"""Trains an ensemble over a Dask client: one task a member, each on a core or a GPU of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client

from twinlines.cluster.workers import device
from twinlines.models import checkpoint, defaults
from twinlines.models.augmentation import Augmentation
from twinlines.models.network import NetworkConfig
from twinlines.models.pairs import DIGESTS, join, load_pairs
from twinlines.models.threads import one_thread
from twinlines.models.training import TrainingConfig, TrainingError, train_member
from twinlines.pipeline.arms import ARM_NAMES, BLUE, RED
from twinlines.pipeline.jobs import engine
from twinlines.pipeline.jobs.markers import Markers, fingerprint
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.training.visibility import weights

Metrics = dict[str, float]

MARKERS = ".training"
"""Folder of the tasks' markers, within the ensemble's."""


@dataclass(frozen=True)
class Training:
    """What an ensemble is trained like."""

    penalties: Sequence[int] = defaults.PENALTIES
    """Penalties for which every member has an output."""
    members: int = defaults.MEMBERS
    """Members: each is a network for both arms and all penalties."""
    epochs: int = defaults.EPOCHS
    """Most epochs of a member."""
    epoch_pairs: int = defaults.EPOCH_PAIRS
    """Training pairs shown in an epoch; 0: all."""
    batch_pairs: int = defaults.BATCH_PAIRS
    """Pairs in a batch, which holds both spectra of each."""
    learning_rate: float = defaults.LEARNING_RATE
    """Adam's learning rate at the start."""
    seed: int = 0
    """Seed of the ensemble."""
    schedule: str = defaults.SCHEDULE
    """How the learning rate falls: see :attr:`twinlines.models.training.TrainingConfig.schedule`."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`~twinlines.models.network.NetworkConfig` that are not the default ones."""
    least_visibility: float = defaults.LEAST_VISIBILITY
    """Binaries that show less than this do not count: see :mod:`twinlines.pipeline.training.visibility`."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How spectra are varied each time they are shown."""
    start_at: Path | None = None
    """Folder of an ensemble in which members start, each at the weights of its namesake; None: at random ones."""

    def __post_init__(self) -> None:
        if self.members < 1:
            raise TrainingError(f"members is {self.members}; give 1 or more")
        if not self.penalties or min(self.penalties) < 1 or len(set(self.penalties)) < len(self.penalties):
            raise TrainingError(f"penalties is {list(self.penalties)}; give one or more, each 1 or above, each once")

    def configs(self) -> list[TrainingConfig]:
        """Settings of each member."""
        pixels = BLUE.n_pixels, RED.n_pixels
        network = NetworkConfig(pixels, tuple(sorted(self.penalties)), **self.sizes)
        return [
            TrainingConfig(
                network,
                member,
                self.seed,
                max_epochs=self.epochs,
                epoch_pairs=self.epoch_pairs,
                batch_pairs=self.batch_pairs,
                learning_rate=self.learning_rate,
                schedule=self.schedule,
                least_visibility=self.least_visibility,
                augmentation=self.augmentation,
            )
            for member in range(1, self.members + 1)
        ]


@dataclass(frozen=True)
class Task:
    """What trains one member."""

    config: TrainingConfig
    """Its settings."""
    key: str
    """Key of the task: a hash of the settings, the pairs and the weights at which it starts."""

    @classmethod
    def of(cls, config: TrainingConfig, pairs: str, start_at: Path | None) -> Task:
        """Task of some settings; ``pairs`` is the training set's digest."""
        namesake = None if start_at is None else checkpoint.file_digest(start_at / _file_name(config))
        decides = [asdict(config), pairs, namesake]
        return cls(config, hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32])

    @property
    def about(self) -> dict[str, Any]:
        """What a failure's file should say of it."""
        return {"member": str(self)}

    def file(self, folder: Path) -> Path:
        """The member's weights."""
        return folder / _file_name(self.config)

    def __str__(self) -> str:
        return checkpoint.stem(self.config.member)


def _file_name(config: TrainingConfig) -> str:
    return f"{checkpoint.stem(config.member)}{checkpoint.SUFFIX}"


def train(
    client: Client,
    pairs: Path | Sequence[Path],
    out: Path,
    training: Training = Training(),
    *,
    progress: Progress = silent,
    member_finished: Callable[[], None] | None = None,
) -> dict[str, Metrics]:
    """Train an ensemble; metrics by the stem of the weights' file.

    A member that fails ends no other.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    pairs
        Training store, of :data:`twinlines.pipeline.schema.PAIRS`; or several, whose pairs are shown together.
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
    configs = training.configs()  # impossible settings are one clear error before any worker starts
    for arm in ARM_NAMES:
        configs[0].network.lengths(arm)
    sets, digests = [pairs] if isinstance(pairs, Path) else list(pairs), []
    for one in sets:
        with stores.open_store(one, PAIRS) as store:
            digests.append(str(store.attrs.get("digest")))
            _require_measured_frames(one, store.attrs)
    again = next((at for at, digest in enumerate(digests) if digest in digests[:at]), None)
    if again is not None:
        first = sets[digests.index(digests[again])]
        raise TrainingError(f"{sets[again]} holds the same pairs as {first}, as their digests say; name each set once")
    digest = DIGESTS.join(digests)
    start_at = training.start_at and training.start_at.resolve()
    tasks = [Task.of(config, digest, start_at) for config in configs]
    markers = Markers(out / MARKERS)
    markers.open()
    finished_before = [task for task in tasks if markers.finished(task.key, [task.file(out)], verify=True)]
    metrics: dict[str, Metrics] = {str(task): markers.marker(task.key)["metrics"] for task in finished_before}

    def finished(task: Task, trained: Metrics) -> None:
        metrics[str(task)] = trained
        progress("train", len(metrics), len(tasks))
        if member_finished is not None:
            member_finished()

    progress("train", len(metrics), len(tasks))
    where = tuple(map(str, sets))
    missing = ((task, where, str(out), start_at) for task in tasks if task not in finished_before)
    failed = engine.compute(client, markers, train_one, missing, finished)
    if failed:
        errors = "; ".join(f"{failure.piece}: {failure.error}" for failure in failed.values())
        others = f"the other {len(metrics)} are trained" if metrics else "no other was asked for"
        raise TrainingError(
            f"{len(failed)} of {len(tasks)} members failed, {others}: {errors}. Tracebacks are in "
            f"{markers.folder / 'failed'}; mend the cause and give the same command again"
        )
    return metrics


def _require_measured_frames(pairs: Path, attrs: Mapping[str, Any]) -> None:
    """Refuse pairs that are at rest by a velocity that no survey knows: what they teach of displacement is wrong."""
    frame = attrs.get("provenance", {}).get("frame")
    if frame != "measured":
        raise TrainingError(
            f"the pairs in {pairs} are in the frame {frame!r}: at rest by their true velocities, where a survey has "
            "measured ones; make them with frame = \"measured\" ('twinlines synthesize --frame measured')"
        )


@one_thread()
def train_one(task: Task, pairs: tuple[str, ...], out: str, start_at: Path | None = None) -> Metrics:
    """Train a member in this process, on its device, and mark it; ``pairs`` are the paths of its training stores."""
    folder = Path(out)
    parent = None if start_at is None else start_at / _file_name(task.config)
    sets = [replace(load_pairs(Path(one)), weight=weights(Path(one), task.config.least_visibility)) for one in pairs]
    arrays = join(sets)
    metrics = train_member(arrays, task.config, folder, parent=parent, device=device())
    Markers(folder / MARKERS).mark(task.key, 1, fingerprint([task.file(folder)]), metrics=metrics, **task.about)
    return metrics
