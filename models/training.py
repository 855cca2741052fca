"""Offline trainer of one member, as the paper trains (Zhang et al. 2022, section 3.2). Knows no survey and no cluster.

A run can be killed at any moment and started again: after each epoch it leaves a state file beside the weights, and
every random number is drawn from (seed, member, epoch), so that a resumed run ends in the same bits as
one that was never interrupted. The number of threads is the caller's business: one thread a process, and a process a
member, is best.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from twinlines.models import checkpoint, defaults, kernels
from twinlines.models.augmentation import Augmentation
from twinlines.models.batches import Batch, batches
from twinlines.models.checkpoint import Header
from twinlines.models.evaluation import logits_of, named_rates
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.pairs import PairArrays, Part
from twinlines.models.precision import missing, resolve
from twinlines.models.trainingstate import Epoch, Settings, TrainingError, TrainingRun, log, restore, store
from twinlines.models.vocabulary import ARMS, SPLITS, TEST, TRAIN, VALIDATION

__all__ = ["Epoch", "TrainingConfig", "TrainingError", "penalised_cross_entropy", "train_member"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one member's training run."""

    network: NetworkConfig
    """Sizes of the network, and the penalties that it judges with."""
    member: int = 1
    """Serial number of the member, from 1; it decides initialisation, order and noise."""
    seed: int = 0
    """Seed of the ensemble."""
    batch_pairs: int = defaults.BATCH_PAIRS
    """Pairs in a batch, which holds both spectra of each."""
    max_epochs: int = defaults.EPOCHS
    """Epochs after which the run ends in any case."""
    learning_rate: float = defaults.LEARNING_RATE
    """Adam's learning rate at the start (the paper's)."""
    divisor: float = 5.0
    """What the learning rate is divided by after an epoch whose validation loss is above the previous epoch's (the
    paper's)."""
    minimum_learning_rate: float = 1.0e-6
    """Learning rate below which it is not divided further."""
    schedule: str = defaults.SCHEDULE
    """How the learning rate falls: "validation", divided after epochs whose validation loss has risen, as in the paper;
    "linear", from ``learning_rate`` to zero, batch by batch, over ``max_epochs``."""
    epoch_pairs: int = defaults.EPOCH_PAIRS
    """Training pairs shown in an epoch, a fresh random choice each; 0: all."""
    patience: int = 10
    """Consecutive epochs without a new lowest validation loss after which the run stops. The paper stops "if the loss
    function increases for 10 consecutive epochs" and was made with Keras, whose early stopping counts like this; ten
    rises in a row would hardly ever come about by chance once the learning rate is small."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How stored spectra are varied each time they are shown."""
    least_visibility: float = 0.0
    """Visibility below which a binary has no weight in the loss. Kept with the weights; who opens the pairs gives them
    their weights by it (:mod:`twinlines.pipeline.training.visibility`)."""
    precision: str = "mixed"
    """"mixed": bfloat16 in the training steps where the CPU or GPU has it; losses and rates are always float32."""

    def __post_init__(self) -> None:
        if self.schedule not in defaults.SCHEDULES:
            raise TrainingError(f"schedule is {self.schedule!r}; choose one of {', '.join(defaults.SCHEDULES)}")
        for name, least in (("epoch_pairs", 0), ("batch_pairs", 1), ("max_epochs", 1)):
            if (value := getattr(self, name)) < least:
                raise TrainingError(f"{name} is {value}; give {least} or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise TrainingError(f"learning_rate is {self.learning_rate}; give a positive number, such as 0.001")


Progress = Callable[[Epoch], None]

VALIDATION_PAIRS = 16_384
"""Most validation pairs that are judged after an epoch; they stay in memory."""


def penalised_loss(
    logits: Mapping[str, Tensor], labels: Tensor, weights: Mapping[str, Tensor], penalties: Sequence[int]
) -> Tensor:
    """Mean of equation 7 over heads and penalties, each over the mean penalty of a spectrum, (1 + Lambda) / 2.

    Parameters
    ----------
    logits
        By head, (spectrum, penalty).
    labels
        (spectrum,) 1 for binaries, 0 for single stars.
    weights
        By head, (spectrum,) weight of each spectrum.
    penalties
        Lambda of each output.
    """
    each = [
        penalised_cross_entropy(values[:, place], labels, penalty, weights[head]) * (2.0 / (1.0 + penalty))
        for head, values in logits.items()
        for place, penalty in enumerate(penalties)
    ]
    return torch.stack(each).mean()


def penalised_cross_entropy(logits: Tensor, labels: Tensor, penalty: float, weights: Tensor | None = None) -> Tensor:
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
    weights
        (spectrum,) a further weight of each spectrum; one, if it is not said.
    """
    positive = labels * functional.softplus(-logits)
    negative = (1.0 - labels) * functional.softplus(logits)
    loss = positive + penalty * negative
    return (loss if weights is None else loss * weights).mean()


def train_member(
    pairs: PairArrays,
    config: TrainingConfig,
    out: Path,
    *,
    parent: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train one member and write its weights into folder ``out``.

    Beside the weights, ``member_<number>.safetensors``, stands a log of one JSON line per epoch
    (``.jsonl``), and while the run lasts its state (``.state``), from which a second call goes on. Where the weights
    are there already, made with the same settings from the same pairs, nothing is done.

    Parameters
    ----------
    pairs
        What is learned.
    config
        Settings.
    out
        Folder; made if there is none.
    parent
        Weights at which to start, of the same sizes: those of an earlier turn, say. Their digest goes into the header,
        and a run goes on only from the parent that it started from.
    device
        Where to train, as torch names it.
    progress
        Called after each epoch.

    Returns
    -------
    dict
        ``epochs``, ``best_epoch``, ``validation_loss`` (:func:`penalised_loss` at the kept weights), and for the splits
        ``validation`` and ``test`` and each head, at the penalty 16 or the first: ``<split>_tpr_<head>`` and
        ``<split>_fpr_<head>`` at threshold 0.5 (equations 11 and 10), ``<split>_tpr_<head>_at_fpr_0.001``, and
        ``<split>_tpr_<head>_at_paper_fpr`` (:data:`twinlines.models.evaluation.PAPER_FPR`).

    Raises
    ------
    PairsError
        If the pairs lack a split, or hold flux that is not finite.
    CheckpointError
        If the parent, a state or finished weights are damaged.
    TrainingError
        If the network or the parent does not fit the pairs, the device is not there, ``out`` holds other weights or
        another run's state of the same name, or the loss is no longer finite. The state of the last good epoch then
        stays.
    """
    if config.network.pixels != pairs.pixels:
        raise TrainingError(f"the network takes {config.network.pixels} pixels; the pairs have {pairs.pixels}")
    if wrong := missing(device):
        raise TrainingError(wrong)
    out.mkdir(parents=True, exist_ok=True)
    name = checkpoint.stem(config.member)
    weights, state = out / f"{name}{checkpoint.SUFFIX}", out / f"{name}.state"
    start = None if parent is None else _parent(parent, config)
    settings = _settings(config, pairs, None if parent is None else checkpoint.file_digest(parent))
    if weights.exists():
        return _finished(weights, settings)

    for split in (TRAIN, VALIDATION, TEST):
        pairs.count(split)  # an hour's work must not end in the want of one
    held_out = list(pairs.parts(VALIDATION, VALIDATION_PAIRS))
    run = _start(config, device)
    if state.exists():
        restore(run, state, settings)
        logger.info("%s: goes on after epoch %d", name, len(run.history))
    elif start is not None:
        run.network.load_state_dict(start.state_dict())
    while len(run.history) < config.max_epochs and run.epochs_without_best < config.patience:
        try:
            epoch = _epoch(run, config, pairs, held_out, torch.device(device))
        except FloatingPointError as error:
            advice = (
                f"; the state after epoch {len(run.history)} is in {state}, from which"
                if run.history
                else ": from its beginning"
            )
            raise TrainingError(
                f"{name}: {error}{advice} the same command with a lower learning rate goes on"
            ) from error
        store(run, state, settings)
        log(out / f"{name}.jsonl", run.history)
        if progress is not None:
            progress(epoch)

    run.network.load_state_dict(run.best)
    metrics = {
        "epochs": float(len(run.history)),
        "best_epoch": float(max(epoch.epoch for epoch in run.history if epoch.best)),
        "validation_loss": run.lowest,
        **_rates(run.network, VALIDATION, held_out),
        **_rates(run.network, TEST, pairs.parts(TEST)),
    }
    header = Header(
        config.member,
        config.seed,
        pairs.digest,
        metrics,
        settings.training,
        parent=settings.parent,
        torch=torch.__version__,
    )
    checkpoint.save(weights, run.network.cpu(), header)
    state.unlink(missing_ok=True)
    return metrics


def _rates(network: Network, split: int, parts: Iterable[Part]) -> dict[str, float]:
    logits, label = logits_of(network, parts)
    penalties = network.config.penalties
    told = penalties.index(defaults.PENALTY) if defaults.PENALTY in penalties else 0
    return named_rates(SPLITS[split], logits, label, told)


def _epoch(
    run: TrainingRun, config: TrainingConfig, pairs: PairArrays, held_out: Sequence[Part], device: torch.device
) -> Epoch:
    """Show the training pairs of one epoch, then measure the validation loss and draw the consequences.

    Raises
    ------
    FloatingPointError
        If a loss is not finite; names the epoch, the batch and the learning rate.
    """
    began = time.perf_counter()
    number = len(run.history) + 1
    seeds = _seeds(config, number)
    plan = pairs.plan(TRAIN, np.random.default_rng(seeds[0]), config.epoch_pairs)
    losses, weights = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[1])
        dropout = np.random.Generator(np.random.SFC64(seeds[1]))
        run.network.train()
        steps = -(-plan.total // config.batch_pairs)
        for index, batch in enumerate(batches(plan.parts(), config.batch_pairs, device)):
            rate = _rate(run, config, number, index, steps)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            losses.append(_step(run, config, batch, dropout))
            weights.append(len(batch.label))
            if device.type == "cpu":  # elsewhere it would wait for the device
                _check(losses, number, rate, len(losses) - 1)
    first_rate = _rate(run, config, number, 0, steps)
    _check(losses, number, first_rate)
    training_loss = float(torch.stack(losses).cpu() @ torch.tensor(weights, dtype=torch.float32)) / sum(weights)
    logits, label = logits_of(run.network, held_out)
    flat = {head: values.flatten(0, 1) for head, values in logits.items()}
    weight = {head: torch.from_numpy(values).flatten() for head, values in Part.join(list(held_out)).weight.items()}
    loss = float(penalised_loss(flat, label.flatten(), weight, config.network.penalties))
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the validation loss became {loss} after epoch {number} at learning rate {first_rate:g}"
        )
    epoch = Epoch(number, training_loss, loss, first_rate, loss < run.lowest, time.perf_counter() - began)
    if config.schedule == "validation" and run.history and loss > run.history[-1].validation_loss:
        run.learning_rate = max(run.learning_rate / config.divisor, config.minimum_learning_rate)
    if epoch.best:
        run.best = {name: tensor.detach().clone() for name, tensor in run.network.state_dict().items()}
    run.history.append(epoch)
    return epoch


def _rate(run: TrainingRun, config: TrainingConfig, epoch: int, index: int, steps: int) -> float:
    """Learning rate of batch ``index``, from 0, of the ``steps`` batches of an epoch."""
    if config.schedule == "validation":
        return run.learning_rate
    return run.learning_rate * (1.0 - ((epoch - 1) * steps + index) / (config.max_epochs * steps))


def _check(losses: list[Tensor], epoch: int, learning_rate: float, first: int = 0) -> None:
    """Refuse losses, from number ``first`` on, that are not finite."""
    values = torch.stack(losses[first:])
    for index in torch.nonzero(~torch.isfinite(values)).flatten().tolist()[:1]:
        raise FloatingPointError(
            f"the training loss became {float(values[index])} in epoch {epoch}, batch {first + index + 1}, at learning "
            f"rate {learning_rate:g}"
        )


def _step(run: TrainingRun, config: TrainingConfig, batch: Batch, dropout: np.random.Generator) -> Tensor:
    varied = config.augmentation(batch.flux, batch.snr)
    spectra = {arm: flux.flatten(0, 1) for arm, flux in varied.items()}
    device = batch.label.device
    if resolve(config.precision, device) == "mixed":
        with torch.autocast(device.type, torch.bfloat16):
            logits = run.network(spectra)
    elif device.type == "cpu" and kernels.fits(config.network):
        features = {arm: kernels.features(run.network.trunk(arm), spectra[arm], dropout) for arm in ARMS}
        logits = run.network.verdicts(features)
    else:
        logits = run.network(spectra)
    floats = {head: values.float() for head, values in logits.items()}
    weight = {head: values.flatten() for head, values in batch.weight.items()}
    loss = penalised_loss(floats, batch.label.flatten(), weight, config.network.penalties)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimizer.step()
    return loss.detach()


def _seeds(config: TrainingConfig, epoch: int) -> tuple[int, int]:
    """Two seeds of an epoch; epoch 0 is the initialisation."""
    first, second = np.random.SeedSequence([config.seed, config.member, epoch]).generate_state(2)
    return int(first), int(second)


def _start(config: TrainingConfig, device: str) -> TrainingRun:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seeds(config, 0)[0])
        network = Network(config.network).to(device)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return TrainingRun(network, optimizer, {}, config.learning_rate, [])


def _parent(path: Path, config: TrainingConfig) -> Network:
    network = checkpoint.load(path)[0]
    # Dropout is a way of training, not a size.
    mine, theirs = asdict(replace(config.network, dropout=0.0)), asdict(replace(network.config, dropout=0.0))
    if mine != theirs:
        name = next(name for name in mine if mine[name] != theirs[name])
        raise TrainingError(
            f"{path} holds a network with {name} = {theirs[name]!r}, asked for is {mine[name]!r}; start at weights of "
            "the same sizes"
        )
    return network


def _settings(config: TrainingConfig, pairs: PairArrays, parent: str | None) -> Settings:
    # Through JSON, so that what was read back compares equal.
    return Settings(json.loads(json.dumps(asdict(config))), pairs.digest, parent)


def _finished(weights: Path, settings: Settings) -> dict[str, float]:
    header = checkpoint.load(weights)[1]
    if differs := settings.difference(Settings(header.training, header.pairs, header.parent)):
        raise TrainingError(f"{weights} was trained with {differs}; choose another folder or remove it")
    logger.info("%s: trained already", weights)
    return dict(header.metrics)
