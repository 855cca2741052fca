import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlines.models import checkpoint, training
from twinlines.models.batches import Batch
from twinlines.models.evaluation import logits_of, named_rates, rates
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.pairs import PairArrays, PairsError, Part
from twinlines.models.training import Epoch, TrainingConfig, TrainingError, train_member
from twinlines.models.trainingstate import TrainingRun
from twinlines.models.vocabulary import HEADS, SPLITS, TEST, VALIDATION


@pytest.fixture
def config(small: NetworkConfig) -> TrainingConfig:
    return TrainingConfig(replace(small, penalties=(1,)), batch_pairs=16, max_epochs=6)


class Killed(BaseException):
    """Ends a run as a signal would: nothing of the trainer's catches it."""


def kill_after(epochs: int) -> Callable[[Epoch], None]:
    def progress(epoch: Epoch) -> None:
        if epoch.epoch == epochs:
            raise Killed

    return progress


def test_the_loss_is_equation_7() -> None:
    logits = torch.tensor([-2.0, 0.5, 3.0, -40.0, 40.0])
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0])
    p = torch.sigmoid(logits.double())
    expected = -(labels * p.log() + 16 * (1 - labels) * torch.sigmoid(-logits.double()).log()).mean()
    assert float(training.penalised_cross_entropy(logits, labels, 16)) == pytest.approx(float(expected), rel=1e-6)


def test_a_spectrum_without_weight_does_not_count() -> None:
    logits, labels = torch.tensor([3.0, -3.0, 1.0]), torch.tensor([1.0, 1.0, 0.0])
    without = training.penalised_cross_entropy(logits, labels, 8, torch.tensor([1.0, 0.0, 1.0]))
    assert float(without) == pytest.approx(
        float(training.penalised_cross_entropy(logits[[0, 2]], labels[[0, 2]], 8)) * 2 / 3, rel=1e-6
    )


def test_the_loss_of_a_member_is_the_mean_over_heads_and_penalties() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {head: torch.randn(10, 2, generator=generator) for head in HEADS}
    labels = (torch.arange(10) % 2).float()
    weights = {head: torch.rand(10, generator=generator) for head in HEADS}
    each = [
        float(training.penalised_cross_entropy(logits[head][:, place], labels, penalty, weights[head]))
        * (2 / (1 + penalty))
        for head in HEADS
        for place, penalty in enumerate((4, 32))
    ]
    assert float(training.penalised_loss(logits, labels, weights, (4, 32))) == pytest.approx(np.mean(each), rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_a_toy_is_learned(precision: str, pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    """By every head, in the steps of both precisions."""
    config = replace(config, max_epochs=15, precision=precision)
    metrics = train_member(pairs, config, tmp_path)
    for head in HEADS:
        assert metrics[f"test_tpr_{head}"] > 0.85
        assert metrics[f"test_fpr_{head}"] < 0.15
    network, header = checkpoint.load(tmp_path / "member_1.safetensors")
    assert dict(header.metrics) == metrics
    assert header.pairs == pairs.digest
    assert (header.member, header.seed) == (1, 0)
    assert header.training["batch_pairs"] == 16
    assert header.training["augmentation"]["diluted"] == 0.0
    for split in (VALIDATION, TEST):
        told = named_rates(SPLITS[split], *logits_of(network, pairs.parts(split)), 0)
        for name, value in told.items():
            assert value == pytest.approx(metrics[name], abs=0.011), name  # weights are stored rounded
    lines = [json.loads(line) for line in (tmp_path / "member_1.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert min(line["validation_loss"] for line in lines) == metrics["validation_loss"]
    assert not list(tmp_path.glob("*.state"))


def test_the_best_weights_are_kept(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    config = replace(config, network=replace(config.network, penalties=(1, 8)))
    metrics = train_member(pairs, config, tmp_path)
    network, _ = checkpoint.load(tmp_path / "member_1.safetensors")
    logits, label = logits_of(network, pairs.parts(VALIDATION))
    flat = {head: values.flatten(0, 1) for head, values in logits.items()}
    every = {head: torch.ones(label.numel()) for head in HEADS}
    loss = training.penalised_loss(flat, label.flatten(), every, (1, 8))
    assert float(loss) == pytest.approx(metrics["validation_loss"], rel=1e-3)  # weights are stored rounded


def test_most_validation_pairs_are_enough(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "VALIDATION_PAIRS", 30)
    seen: list[int] = []
    honest = training.logits_of

    def watched(network: Network, parts: Iterable[Part]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        found = honest(network, parts)
        seen.append(len(found[1]))
        return found

    monkeypatch.setattr(training, "logits_of", watched)
    train_member(pairs, replace(config, max_epochs=1), tmp_path)
    assert seen == [30, 30, 100]  # after the epoch; at the end, and all of the test


def test_training_leaves_the_global_generator_alone(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.randn(4)
    torch.manual_seed(1)
    train_member(pairs, replace(config, max_epochs=1), tmp_path)
    assert torch.equal(torch.randn(4), expected)


def test_the_penalty_suppresses_positives(hard_pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    """Of the outputs of one member."""
    config = replace(config, network=replace(config.network, penalties=(1, 32)), max_epochs=8)
    train_member(hard_pairs, config, tmp_path)
    network, _ = checkpoint.load(tmp_path / "member_1.safetensors")
    logits, label = logits_of(network, hard_pairs.parts(VALIDATION))
    for head in HEADS:
        (tpr, fpr), (strict_tpr, strict_fpr) = (rates(logits[head][..., place], label) for place in (0, 1))
        assert strict_fpr < 0.5 * fpr
        assert strict_tpr < tpr


def test_two_outputs_differ_by_their_penalties_logarithm(
    hard_pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    """Equation 7 is least at logit = ln(f / (1 - f)) - ln(penalty), f the fraction of binaries among such spectra."""
    network = replace(config.network, penalties=(2, 8), dropout=0.0)
    config = replace(config, network=network, max_epochs=20, learning_rate=1e-2, precision="float32")
    train_member(hard_pairs, config, tmp_path)
    logits, _ = logits_of(checkpoint.load(tmp_path / "member_1.safetensors")[0], hard_pairs.parts(VALIDATION))
    for head in HEADS:
        apart = logits[head][..., 0] - logits[head][..., 1]
        assert float(apart.median()) == pytest.approx(math.log(4), abs=0.35)


def test_members_differ(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    for member in (1, 2):
        train_member(pairs, replace(config, member=member, max_epochs=1), tmp_path)
    first, second = (checkpoint.load(path)[0] for path in checkpoint.members(tmp_path))
    assert not torch.equal(first.heads["J"].last.weight, second.heads["J"].last.weight)  # type: ignore[union-attr, arg-type]


def test_the_learning_rate_and_the_end_follow_the_validation_loss(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 4.0, 4.5, 4.2, 4.3, 3.9, 4.0, 4.0, 4.1, 4.2])

    def told(*_: object) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        # A logit z gives both labels' mean loss softplus(z) / 2 + softplus(-z) / 2; search the z of the wanted loss.
        logit = _logit_of_loss(next(losses))
        rows = pairs.count(VALIDATION)
        return {head: torch.full((rows, 2, 1), logit) for head in HEADS}, torch.tensor([[0.0, 1.0]] * rows)

    monkeypatch.setattr(training, "logits_of", told)
    epochs: list[Epoch] = []
    with pytest.raises(StopIteration):  # the rates at the end want logits too
        train_member(
            pairs,
            replace(config, max_epochs=50, patience=4, minimum_learning_rate=2e-5),
            tmp_path,
            progress=epochs.append,
        )
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx(
        [1e-3, 1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5, 2e-5, 2e-5, 2e-5]
    )
    assert [epoch.epoch for epoch in epochs if epoch.best] == [1, 2, 6]
    assert len(epochs) == 10


def _logit_of_loss(loss: float) -> float:
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        mean = (math.log1p(math.exp(-middle)) + middle + math.log1p(math.exp(-middle))) / 2
        low, high = (middle, high) if mean < loss else (low, middle)
    return high


def test_pairs_of_another_length_are_refused(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"takes \(200, 131\) pixels; the pairs have \(120, 131\)"):
        train_member(pairs, replace(config, network=NetworkConfig((200, 131))), tmp_path)


def test_a_loss_that_explodes_is_an_error(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError,
        match="batch 2, at learning rate 1e\\+38: from its beginning the same command with a lower learning rate",
    ):
        train_member(pairs, replace(config, learning_rate=1e38), tmp_path)


def test_the_test_split_is_never_shown(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    flux = {arm: np.array(each[:]) for arm, each in pairs.flux.items()}
    for each in flux.values():
        each[pairs.split == TEST] = 1.0
    one_epoch = replace(config, max_epochs=1)
    train_member(pairs, one_epoch, tmp_path / "a")
    train_member(replace(pairs, flux=flux), one_epoch, tmp_path / "b")
    first, second = (checkpoint.load(tmp_path / each / "member_1.safetensors")[0] for each in "ab")
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_linear_schedule_falls_to_zero_and_shows_what_it_is_asked(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    shown: list[int] = []
    step = training._step

    def watched(run: TrainingRun, config: TrainingConfig, batch: Batch, dropout: np.random.Generator) -> torch.Tensor:
        rates.append(run.optimizer.param_groups[0]["lr"])
        shown.append(len(batch.label))
        return step(run, config, batch, dropout)

    monkeypatch.setattr(training, "_step", watched)
    linear = replace(config, schedule="linear", max_epochs=3, epoch_pairs=40, learning_rate=3e-3)
    epochs: list[Epoch] = []
    train_member(pairs, linear, tmp_path, progress=epochs.append)
    assert sum(shown) == 3 * 40
    steps = len(rates)
    np.testing.assert_allclose(rates, 3e-3 * (1 - np.arange(steps) / steps), rtol=1e-9)
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([3e-3, 2e-3, 1e-3])


def test_training_on_begins_at_its_parent_and_says_so(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    train_member(pairs, config, tmp_path)
    parent = tmp_path / "member_1.safetensors"
    # With hardly any learning, the weights stay the parent's.
    onward = replace(config, max_epochs=1, learning_rate=1e-12)
    train_member(pairs, onward, tmp_path / "on", parent=parent)
    first, again = checkpoint.load(parent)[0], checkpoint.load(tmp_path / "on" / "member_1.safetensors")[0]
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(again.get_parameter(name), parameter, rtol=1e-6, atol=1e-9)
    header = checkpoint.load(tmp_path / "on" / "member_1.safetensors")[1]
    assert header.parent == checkpoint.file_digest(parent)
    assert header.torch == torch.__version__
    assert checkpoint.load(parent)[1].parent is None
    with pytest.raises(TrainingError, match="parent = "):
        train_member(pairs, onward, tmp_path / "on")
    for changed, said in (
        ({"features": 4}, r"features = 12, asked for is 4"),
        ({"penalties": (1, 2)}, r"penalties = \(1,\), asked for is \(1, 2\)"),
    ):
        other = replace(config.network, **changed)  # type: ignore[arg-type]
        with pytest.raises(TrainingError, match=said):
            train_member(pairs, replace(onward, network=other), tmp_path / "other", parent=parent)
    sure = replace(onward, network=replace(config.network, dropout=0.0))
    train_member(pairs, sure, tmp_path / "sure", parent=parent)
    assert checkpoint.load(tmp_path / "sure" / "member_1.safetensors")[0].config.dropout == 0.0
    (tmp_path / "cut.safetensors").write_bytes(parent.read_bytes()[:1000])
    with pytest.raises(checkpoint.CheckpointError, match=r"cut\.safetensors"):
        train_member(pairs, onward, tmp_path / "cut", parent=tmp_path / "cut.safetensors")


@pytest.mark.parametrize("lacking", [VALIDATION, TEST])
def test_a_split_that_is_not_there_is_an_error_before_any_work(
    lacking: int, pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    split = np.where(pairs.split == lacking, 0, pairs.split).astype(np.int8)
    with pytest.raises(PairsError, match=f"no pair is of the split '{SPLITS[lacking]}'"):
        train_member(replace(pairs, split=split), config, tmp_path, progress=kill_after(1))


def test_a_pair_that_is_not_finite_ends_the_run_by_name(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    flux = np.array(pairs.flux["R"][:])
    flux[300, 1, 3] = np.nan
    with pytest.raises(PairsError, match="pair 300 holds flux of arm R that is not finite"):
        train_member(replace(pairs, flux={**pairs.flux, "R": flux}), config, tmp_path, progress=kill_after(1))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schedule": "cosine"}, "schedule is 'cosine'; choose one of validation, linear"),
        ({"epoch_pairs": -1}, "epoch_pairs is -1; give 0 or more"),
        ({"batch_pairs": 0}, "batch_pairs is 0; give 1 or more"),
        ({"max_epochs": 0}, "max_epochs is 0; give 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a positive number"),
    ],
)
def test_odd_settings_are_refused(changed: dict[str, object], said: str, config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match=said):
        replace(config, **changed)  # type: ignore[arg-type]
