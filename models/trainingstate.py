"""What a training run leaves on disk while it lasts: its state after an epoch, its settings and its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twinlines.models import atomic, checkpoint
from twinlines.models.network import Network

_STATE_VERSION = 1


class TrainingError(RuntimeError):
    """A training run cannot start, continue or end as asked."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch did; one line of the log."""

    epoch: int
    """Serial number, from 1."""
    training_loss: float
    """Mean loss over the batches, with dropout and augmentation."""
    validation_loss: float
    """Loss over the validation pairs as stored."""
    learning_rate: float
    """Learning rate at the start of the epoch."""
    best: bool
    """Whether the validation loss is the lowest so far."""
    seconds: float
    """Wall-clock time, s; of no influence on anything."""


@dataclass
class TrainingRun:
    """What an epoch changes; all of it goes into the state file."""

    network: Network
    """Network that is trained."""
    optimizer: torch.optim.Adam
    """Its optimizer."""
    best: dict[str, Tensor]
    """Weights of the epoch with the lowest validation loss."""
    learning_rate: float
    """Learning rate of the next epoch."""
    history: list[Epoch]
    """Epochs so far."""

    @property
    def lowest(self) -> float:
        """Lowest validation loss so far."""
        return min((epoch.validation_loss for epoch in self.history), default=float("inf"))

    @property
    def epochs_without_best(self) -> int:
        """Epochs since the lowest validation loss."""
        return next((n for n, epoch in enumerate(reversed(self.history)) if epoch.best), len(self.history))


@dataclass(frozen=True)
class Settings:
    """What a run must share with an earlier one to be the same."""

    training: Mapping[str, Any]
    """Fields of the training configuration, by name, as JSON has them."""
    pairs: str
    """Digest of the pairs."""
    parent: str | None = None
    """Digest of the weights at which the run starts; None: at random ones."""

    def difference(self, other: Settings) -> str:
        """The first setting that differs, with both values; empty if none does."""
        mine, theirs = ({**run.training, "pairs": run.pairs, "parent": run.parent} for run in (self, other))
        names = [name for name in mine if name not in theirs or mine[name] != theirs[name]]
        if not names:
            return ""
        return f"{names[0]} = {theirs.get(names[0])!r}, asked for is {mine[names[0]]!r}"


def store(run: TrainingRun, path: Path, settings: Settings) -> None:
    """Write a run's state, atomically."""
    tensors = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    for index, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
    header = {
        "state_version": _STATE_VERSION,
        "settings": asdict(settings),
        "learning_rate": run.learning_rate,
        "history": [asdict(epoch) for epoch in run.history],
    }
    atomic.write_bytes(path, checkpoint.pack(tensors, header))


def restore(run: TrainingRun, path: Path, settings: Settings) -> None:
    """Read a run's state into ``run``.

    A run may be asked to last longer, unless its learning rate falls linearly over its length, or to go on at a lower
    learning rate, as after a loss that became infinite.

    Raises
    ------
    TrainingError
        If the state is of another version, or of a run with other settings; the message names both sides.
    CheckpointError
        If the file is damaged.
    """
    tensors, header = checkpoint.unpack(path)
    if header.get("state_version") != _STATE_VERSION:
        raise TrainingError(
            f"{path} is a state of version {header.get('state_version')}, this code's is {_STATE_VERSION}; remove it"
        )
    theirs = header["settings"]["training"]
    lower = min(settings.training["learning_rate"], theirs["learning_rate"])
    changed = {"learning_rate": lower}
    if settings.training["schedule"] != "linear":
        changed["max_epochs"] = settings.training["max_epochs"]
    stored = Settings({**theirs, **changed}, header["settings"]["pairs"], header["settings"].get("parent"))
    if differs := settings.difference(stored):
        raise TrainingError(f"{path} is of a run with {differs}; finish that run or remove it")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "adam": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    run.network.load_state_dict(parts["network"])
    run.best = parts["best"]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["adam"].items():
        index, _, rest = name.partition(".")
        moments.setdefault(int(index), {})[rest] = tensor
    run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": moments})
    run.learning_rate = min(header["learning_rate"], lower)
    run.history = [Epoch(**epoch) for epoch in header["history"]]


def log(path: Path, history: list[Epoch]) -> None:
    """Write the log: one JSON line an epoch."""
    lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
    atomic.write_bytes(path, lines.encode())


def read_log(path: Path) -> list[Epoch]:
    """Read what :func:`log` wrote."""
    return [Epoch(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
