"""Offline trainer of one member, as the paper trains (Zhang et al. 2022, section 3.2). Knows no survey and no cluster.

A run can be killed at any moment and started again: after each epoch it leaves a state file beside the weights, and
every random number is drawn from (seed, arm, penalty, member, epoch), so that a resumed run ends in the same bits as
one that was never interrupted. The number of threads is the caller's business: one thread a process, and a process a
member, is best.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from twinlines.models import checkpoint, kernels
from twinlines.models.augmentation import Augmentation
from twinlines.models.evaluation import logits_of, named_rates
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.pairs import TEST, TRAIN, VALIDATION, PairArrays, Split
from twinlines.models.precision import resolve

logger = logging.getLogger(__name__)

_STATE_VERSION = 1


class TrainingError(RuntimeError):
    """A training run cannot start, continue or end as asked."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one member's training run."""

    arm: str
    """Arm whose spectra are learned, "B" or "R"."""
    penalty: int
    """Weight Lambda of single stars in the loss (equation 7)."""
    network: NetworkConfig
    """Sizes of the network."""
    member: int = 1
    """Serial number of the member, from 1; it decides initialisation, order and noise."""
    seed: int = 0
    """Seed of the ensemble."""
    batch_pairs: int = 128
    """Pairs in a batch, which holds both spectra of each."""
    max_epochs: int = 60
    """Epochs after which the run ends in any case."""
    learning_rate: float = 1.0e-3
    """Adam's learning rate at the start (the paper's)."""
    divisor: float = 5.0
    """What the learning rate is divided by after an epoch whose validation loss is above the previous epoch's (the
    paper's)."""
    minimum_learning_rate: float = 1.0e-6
    """Learning rate below which it is not divided further."""
    patience: int = 10
    """Consecutive epochs without a new lowest validation loss after which the run stops. The paper stops "if the loss
    function increases for 10 consecutive epochs" and was made with Keras, whose early stopping counts like this; ten
    rises in a row would hardly ever come about by chance once the learning rate is small."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How stored spectra are varied each time they are shown."""
    precision: str = "mixed"
    """"mixed": bfloat16 in the training steps where the CPU or GPU has it; losses and rates are always float32."""


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
    """Learning rate during the epoch."""
    best: bool
    """Whether the validation loss is the lowest so far."""
    seconds: float
    """Wall-clock time, s; of no influence on anything."""


Progress = Callable[[Epoch], None]


def penalised_cross_entropy(logits: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """Equation 7, as a mean over spectra: -y log p - penalty (1 - y) log(1 - p).

    Computed from logits, so that it never overflows.

    Parameters
    ----------
    logits
        (spectrum,) network outputs before the sigmoid.
    labels
        (spectrum,) 1 for binaries, 0 for single stars.
    penalty
        Lambda, the weight of single stars.
    """
    positive = labels * functional.softplus(-logits)
    negative = (1.0 - labels) * functional.softplus(logits)
    return (positive + penalty * negative).mean()


@dataclass
class _Run:
    """What an epoch changes; all of it goes into the state file."""

    network: Network
    optimizer: torch.optim.Adam
    best: dict[str, Tensor]
    learning_rate: float
    history: list[Epoch]

    @property
    def lowest(self) -> float:
        return min((epoch.validation_loss for epoch in self.history), default=float("inf"))

    @property
    def epochs_without_best(self) -> int:
        return next((n for n, epoch in enumerate(reversed(self.history)) if epoch.best), len(self.history))


def train_member(
    pairs: PairArrays,
    config: TrainingConfig,
    out: Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train one member and write its weights into folder ``out``.

    Beside the weights, ``<arm>_p<penalty>_m<member>.safetensors``, stands a log of one JSON line per epoch
    (``.jsonl``), and while the run lasts its state (``.state``), from which a second call goes on. Where the weights
    are there already, made with the same settings from the same pairs, nothing is done.

    Returns
    -------
    dict
        ``epochs``, ``best_epoch``, ``validation_loss`` (equation 7 at the kept weights), and for the splits
        ``validation`` and ``test``: ``<split>_tpr`` and ``<split>_fpr`` at threshold 0.5 (equations 11 and 10) and
        ``<split>_tpr_at_fpr_0.001``.

    Raises
    ------
    PairsError
        If the pairs lack a split, or hold flux that is not finite.
    TrainingError
        If the network does not fit the pairs, ``out`` holds other weights or another run's state of the same name, or
        the loss becomes infinite.
    """
    if config.network.n_pixels != pairs.n_pixels:
        raise TrainingError(f"the network takes {config.network.n_pixels} pixels; the pairs have {pairs.n_pixels}")
    out.mkdir(parents=True, exist_ok=True)
    name = checkpoint.stem(config.arm, config.penalty, config.member)
    weights, state = out / f"{name}{checkpoint.SUFFIX}", out / f"{name}.state"
    settings = _settings(config, pairs)
    if weights.exists():
        return _finished(weights, config, settings)

    shown, held_out = pairs.read(TRAIN), pairs.read(VALIDATION)
    run = _start(config, device)
    if state.exists():
        _restore(run, state, settings)
        logger.info("%s: goes on after epoch %d", name, len(run.history))
    while len(run.history) < config.max_epochs and run.epochs_without_best < config.patience:
        epoch = _epoch(run, config, shown, held_out, device)
        _store(run, state, settings)
        _log(out / f"{name}.jsonl", run.history)
        if progress is not None:
            progress(epoch)

    del shown
    run.network.load_state_dict(run.best)
    test = pairs.read(TEST)
    metrics = {
        "epochs": float(len(run.history)),
        "best_epoch": float(max(epoch.epoch for epoch in run.history if epoch.best)),
        "validation_loss": run.lowest,
        **named_rates("validation", logits_of(run.network, held_out.flux), held_out.label),
        **named_rates("test", logits_of(run.network, test.flux), test.label),
    }
    header = checkpoint.Header(
        config.arm, config.penalty, config.member, config.seed, pairs.digest, metrics, settings["training"]
    )
    checkpoint.save(weights, run.network.cpu(), header)
    state.unlink(missing_ok=True)
    return metrics


def _epoch(run: _Run, config: TrainingConfig, shown: Split, held_out: Split, device: str) -> Epoch:
    """Show every training pair once, then measure the validation loss and draw the consequences."""
    began = time.perf_counter()
    number = len(run.history) + 1
    seeds = _seeds(config, number)
    order = np.random.default_rng(seeds[0]).permutation(len(shown.flux))
    total, seen = torch.zeros((), device=device), 0
    batches = range(0, len(order), config.batch_pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[1])
        dropout = np.random.Generator(np.random.SFC64(seeds[1]))
        run.network.train()
        for group in run.optimizer.param_groups:
            group["lr"] = run.learning_rate
        for start in batches:
            rows = order[start : start + config.batch_pairs]
            batch = torch.from_numpy(shown.flux[rows]).to(device).float()
            labels, ratios = (torch.from_numpy(column[rows]).to(device) for column in (shown.label, shown.snr))
            total += _step(run, config, batch, labels, ratios, dropout) * len(rows)
            seen += len(rows)
    if not torch.isfinite(total):
        raise TrainingError(f"the training loss became {float(total)} in epoch {number}; lower the learning rate")
    logits = logits_of(run.network, held_out.flux)
    loss = float(penalised_cross_entropy(logits, torch.from_numpy(held_out.label), config.penalty))
    epoch = Epoch(number, float(total) / seen, loss, run.learning_rate, loss < run.lowest, time.perf_counter() - began)
    if run.history and loss > run.history[-1].validation_loss:
        run.learning_rate = max(run.learning_rate / config.divisor, config.minimum_learning_rate)
    if epoch.best:
        run.best = {name: tensor.detach().clone() for name, tensor in run.network.state_dict().items()}
    run.history.append(epoch)
    return epoch


def _step(
    run: _Run, config: TrainingConfig, batch: Tensor, labels: Tensor, snr: Tensor, dropout: np.random.Generator
) -> Tensor:
    spectra = config.augmentation(batch, snr).flatten(0, 1)
    if resolve(config.precision, batch.device) == "mixed":
        with torch.autocast(batch.device.type, torch.bfloat16):
            logits = run.network(spectra)
    elif batch.device.type == "cpu" and kernels.fits(config.network):
        logits = kernels.logits(run.network, spectra, dropout)
    else:
        logits = run.network(spectra)
    loss = penalised_cross_entropy(logits.float(), labels.flatten(), config.penalty)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    return loss.detach()


def _seeds(config: TrainingConfig, epoch: int) -> tuple[int, int]:
    """Two seeds of an epoch; epoch 0 is the initialisation."""
    entropy = [config.seed, ord(config.arm[0]), config.penalty, config.member, epoch]
    first, second = np.random.SeedSequence(entropy).generate_state(2)
    return int(first), int(second)


def _start(config: TrainingConfig, device: str) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seeds(config, 0)[0])
        network = Network(config.network).to(device)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return _Run(network, optimizer, {}, config.learning_rate, [])


def _settings(config: TrainingConfig, pairs: PairArrays) -> dict[str, Any]:
    """What a run must share with an earlier one to be the same; ``max_epochs`` may differ while it lasts."""
    content = asdict(config)
    # Through JSON, so that what was read back compares equal.
    plain: dict[str, Any] = json.loads(json.dumps({"training": content, "pairs": pairs.digest}))
    return plain


def _difference(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The first setting that differs, with both values."""
    flat = [{**content["training"], "pairs": content["pairs"]} for content in (mine, theirs)]
    name = next(name for name in flat[0] if flat[0][name] != flat[1].get(name))
    return f"{name} = {flat[1].get(name)!r}, asked for is {flat[0][name]!r}"


def _finished(weights: Path, config: TrainingConfig, settings: dict[str, Any]) -> dict[str, float]:
    header = checkpoint.load(weights)[1]
    theirs = {"training": dict(header.training), "pairs": header.pairs}
    if theirs != settings:
        raise TrainingError(
            f"{weights} was trained with {_difference(settings, theirs)}; choose another folder or remove it"
        )
    logger.info("%s: trained already", weights)
    return dict(header.metrics)


def _store(run: _Run, path: Path, settings: dict[str, Any]) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    for index, moments in run.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
    header = {
        "state_version": _STATE_VERSION,
        "settings": settings,
        "learning_rate": run.learning_rate,
        "history": [asdict(epoch) for epoch in run.history],
    }
    checkpoint.write_atomically(path, checkpoint.pack(tensors, header))


def _restore(run: _Run, path: Path, settings: dict[str, Any]) -> None:
    tensors, header = checkpoint.unpack(path)
    if header.get("state_version") != _STATE_VERSION:
        raise TrainingError(
            f"{path} is a state of version {header.get('state_version')}, this code's is {_STATE_VERSION}; remove it"
        )
    # A longer run of the same kind may go on from here.
    header["settings"]["training"]["max_epochs"] = settings["training"]["max_epochs"]
    if header["settings"] != settings:
        raise TrainingError(
            f"{path} is of a run with {_difference(settings, header['settings'])}; finish that run or remove it"
        )
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
    run.learning_rate = header["learning_rate"]
    run.history = [Epoch(**epoch) for epoch in header["history"]]


def _log(path: Path, history: list[Epoch]) -> None:
    lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
    checkpoint.write_atomically(path, lines.encode())
