import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlines.models import checkpoint, training
from twinlines.models.augmentation import Augmentation
from twinlines.models.batches import Batch, batches
from twinlines.models.evaluation import evaluate, logits_of
from twinlines.models.network import NetworkConfig
from twinlines.models.pairs import PairArrays, PairsError
from twinlines.models.training import Epoch, TrainingConfig, TrainingError, train_member
from twinlines.models.trainingstate import TrainingRun
from twinlines.models.vocabulary import SPLITS, TEST, VALIDATION


@pytest.fixture
def config(small: NetworkConfig) -> TrainingConfig:
    return TrainingConfig("B", 1, small, batch_pairs=16, max_epochs=6)


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


def test_a_toy_is_learned(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    metrics = train_member(pairs, replace(config, max_epochs=15), tmp_path)
    assert metrics["test_tpr"] > 0.9
    assert metrics["test_fpr"] < 0.1
    network, header = checkpoint.load(tmp_path / "B_p1_m1.safetensors")
    assert dict(header.metrics) == metrics
    assert header.pairs == pairs.digest
    assert header.training["batch_pairs"] == 16
    assert evaluate(network, pairs) == (metrics["test_tpr"], metrics["test_fpr"])
    lines = [json.loads(line) for line in (tmp_path / "B_p1_m1.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert min(line["validation_loss"] for line in lines) == metrics["validation_loss"]
    assert not list(tmp_path.glob("*.state"))


def test_the_best_weights_are_kept(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    metrics = train_member(pairs, config, tmp_path)
    network, _ = checkpoint.load(tmp_path / "B_p1_m1.safetensors")
    held_out = pairs.read(VALIDATION)
    logits = logits_of(network, held_out.flux)
    loss = training.penalised_cross_entropy(logits, torch.tensor([0.0, 1.0]).expand_as(logits), 1)
    assert float(loss) == pytest.approx(metrics["validation_loss"], rel=1e-3)  # weights are stored rounded


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_killed_run_ends_in_the_same_bits(
    epoch: int, pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    whole = train_member(pairs, config, tmp_path / "whole")
    with pytest.raises(Killed):
        train_member(pairs, config, tmp_path / "killed", progress=kill_after(epoch))
    assert not (tmp_path / "killed" / "B_p1_m1.safetensors").exists()
    torch.randn(3)  # whatever else the process draws must not matter
    seen: list[int] = []
    resumed = train_member(pairs, config, tmp_path / "killed", progress=lambda each: seen.append(each.epoch))
    assert seen == list(range(epoch + 1, config.max_epochs + 1))
    assert resumed == whole
    name = "B_p1_m1.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_training_leaves_the_global_generator_alone(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.randn(4)
    torch.manual_seed(1)
    train_member(pairs, replace(config, max_epochs=1), tmp_path)
    assert torch.equal(torch.randn(4), expected)


def test_a_finished_member_is_not_trained_again(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    first = train_member(pairs, replace(config, max_epochs=1), tmp_path)
    assert train_member(pairs, replace(config, max_epochs=1), tmp_path, progress=kill_after(1)) == first
    with pytest.raises(TrainingError, match="batch_pairs = 16, asked for is 8"):
        train_member(pairs, replace(config, max_epochs=1, batch_pairs=8), tmp_path)


def test_the_state_of_another_run_is_refused(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_member(pairs, config, tmp_path, progress=kill_after(1))
    with pytest.raises(TrainingError, match=r"learning_rate = 0.001, asked for is 0.01"):
        train_member(pairs, replace(config, learning_rate=0.01), tmp_path)
    with pytest.raises(TrainingError, match="pairs = "):
        train_member(replace(pairs, digest="others"), config, tmp_path)
    assert train_member(pairs, replace(config, max_epochs=2), tmp_path)["epochs"] == 2


def test_the_penalty_suppresses_positives(hard_pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    low, high = (
        train_member(hard_pairs, replace(config, penalty=penalty, max_epochs=8), tmp_path) for penalty in (1, 32)
    )
    assert high["validation_fpr"] < 0.5 * low["validation_fpr"]
    assert high["validation_tpr"] < low["validation_tpr"]


def test_members_differ(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    for member in (1, 2):
        train_member(pairs, replace(config, member=member, max_epochs=1), tmp_path)
    first, second = (checkpoint.load(path)[0] for path in checkpoint.members(tmp_path))
    assert not torch.equal(first.last.weight, second.last.weight)


def test_the_learning_rate_and_the_end_follow_the_validation_loss(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 4.0, 4.5, 4.2, 4.3, 3.9, 4.0, 4.0, 4.1, 4.2])
    monkeypatch.setattr(
        training,
        "logits_of",
        # A logit z gives both labels' mean loss softplus(z) / 2 + softplus(-z) / 2; search the z of the wanted loss.
        lambda *_: torch.full((1, 2), _logit_of_loss(next(losses))),
    )
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
    with pytest.raises(TrainingError, match="takes 200 pixels; the pairs have 120"):
        train_member(pairs, replace(config, network=NetworkConfig(200)), tmp_path)


def test_a_loss_that_explodes_is_an_error(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError,
        match="batch 2, at learning rate 1e\\+38: from its beginning the same command with a lower learning rate",
    ):
        train_member(pairs, replace(config, learning_rate=1e38), tmp_path)


def test_augmentation_adds_what_it_says() -> None:
    flux, snr = torch.ones(400, 2, 100), torch.full((400,), 10.0)
    torch.manual_seed(0)
    off = Augmentation(extra_noise=0, continuum_wiggle=0)
    assert torch.equal(off(flux, snr), flux)
    noisy = Augmentation(extra_noise=1.0, continuum_wiggle=0)(flux, snr) - 1
    # A fraction drawn evenly from 0 to 1 has mean square 1/3.
    assert float(noisy.std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    assert float(noisy.std(dim=2).max()) < 0.14
    wiggly = Augmentation(extra_noise=0, continuum_wiggle=0.02)(flux, snr) - 1
    assert float(wiggly.std()) == pytest.approx(0.02, rel=0.1)
    assert float(wiggly.diff(dim=2).abs().max()) < 0.02
    gaps = Augmentation(extra_noise=0, continuum_wiggle=0, gap_pixels=9)(0.5 * flux, snr)
    filled = (gaps == 1.0).sum(dim=2)
    assert int(filled.max()) == 9
    assert int(filled.min()) == 0


def test_the_test_split_is_never_shown(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    flux = np.array(pairs.flux[:])
    flux[pairs.split == TEST] = 1.0
    one_epoch = replace(config, max_epochs=1)
    train_member(pairs, one_epoch, tmp_path / "a")
    train_member(replace(pairs, flux=flux), one_epoch, tmp_path / "b")
    first, second = (checkpoint.load(tmp_path / each / "B_p1_m1.safetensors")[0] for each in "ab")
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
        shown.append(len(batch.flux))
        return step(run, config, batch, dropout)

    monkeypatch.setattr(training, "_step", watched)
    linear = replace(config, schedule="linear", max_epochs=3, epoch_pairs=40, learning_rate=3e-3)
    epochs: list[Epoch] = []
    train_member(pairs, linear, tmp_path, progress=epochs.append)
    assert sum(shown) == 3 * 40
    steps = len(rates)
    np.testing.assert_allclose(rates, 3e-3 * (1 - np.arange(steps) / steps), rtol=1e-9)
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([3e-3, 2e-3, 1e-3])


def test_a_linear_run_cannot_be_made_longer(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    linear = replace(config, schedule="linear", max_epochs=3)
    whole = train_member(pairs, linear, tmp_path / "whole")
    with pytest.raises(Killed):
        train_member(pairs, linear, tmp_path / "killed", progress=kill_after(2))
    with pytest.raises(TrainingError, match="max_epochs = 3, asked for is 4"):
        train_member(pairs, replace(linear, max_epochs=4), tmp_path / "killed")
    assert train_member(pairs, linear, tmp_path / "killed") == whole


def test_a_warm_start_begins_at_its_parent_and_says_so(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    train_member(pairs, config, tmp_path)
    parent = tmp_path / "B_p1_m1.safetensors"
    # With hardly any learning, the weights stay the parent's.
    warm = replace(config, penalty=4, max_epochs=1, learning_rate=1e-12)
    train_member(pairs, warm, tmp_path, parent=parent)
    first, again = checkpoint.load(parent)[0], checkpoint.load(tmp_path / "B_p4_m1.safetensors")[0]
    assert torch.equal(first.last.weight, again.last.weight)
    header = checkpoint.load(tmp_path / "B_p4_m1.safetensors")[1]
    assert header.parent == checkpoint.file_digest(parent)
    assert header.torch == torch.__version__
    assert checkpoint.load(parent)[1].parent is None
    with pytest.raises(TrainingError, match="parent = "):
        train_member(pairs, warm, tmp_path)
    with pytest.raises(TrainingError, match="weights of arm B; a member of arm R cannot start there"):
        train_member(pairs, replace(warm, arm="R"), tmp_path / "red", parent=parent)
    small = replace(config.network, dense=(4,))
    with pytest.raises(TrainingError, match=r"dense = \(16, 8\), asked for is \(4,\)"):
        train_member(pairs, replace(warm, network=small), tmp_path / "other", parent=parent)
    sure = replace(warm, network=replace(config.network, dropout=0.0), penalty=8)
    train_member(pairs, sure, tmp_path, parent=parent)
    assert checkpoint.load(tmp_path / "B_p8_m1.safetensors")[0].config.dropout == 0.0
    (tmp_path / "cut.safetensors").write_bytes(parent.read_bytes()[:1000])
    with pytest.raises(checkpoint.CheckpointError, match=r"cut\.safetensors"):
        train_member(pairs, warm, tmp_path / "cut", parent=tmp_path / "cut.safetensors")


def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_last_epoch(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_member(pairs, config, tmp_path / "whole")
    step, steps = training._step, 0

    def broken(run: TrainingRun, config: TrainingConfig, batch: Batch, dropout: np.random.Generator) -> torch.Tensor:
        nonlocal steps
        steps += 1
        loss = step(run, config, batch, dropout)
        return loss * torch.nan if len(run.history) == 2 and steps % 3 == 0 else loss

    with monkeypatch.context() as patched:
        patched.setattr(training, "_step", broken)
        with pytest.raises(
            TrainingError,
            match=r"became nan in epoch 3, batch \d+, at learning rate 0\.001; the state after epoch 2 is in",
        ):
            train_member(pairs, config, tmp_path / "broken")
    assert train_member(pairs, config, tmp_path / "broken") == whole


@pytest.mark.parametrize("lacking", [VALIDATION, TEST])
def test_a_split_that_is_not_there_is_an_error_before_any_work(
    lacking: int, pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    split = np.where(pairs.split == lacking, 0, pairs.split).astype(np.int8)
    with pytest.raises(PairsError, match=f"no pair is of the split '{SPLITS[lacking]}'"):
        train_member(replace(pairs, split=split), config, tmp_path, progress=kill_after(1))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schedule": "cosine"}, "schedule is 'cosine'; choose one of validation, linear"),
        ({"epoch_pairs": -1}, "epoch_pairs is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give a positive number"),
    ],
)
def test_odd_settings_are_refused(changed: dict[str, object], said: str, config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match=said):
        replace(config, **changed)  # type: ignore[arg-type]


def test_batches_are_the_split_in_the_asked_order(pairs: PairArrays) -> None:
    split = pairs.read(TEST)
    order = np.random.default_rng(0).permutation(len(split.flux))
    found = list(batches(split, order, 3, torch.device("cpu")))
    assert [len(batch.flux) for batch in found[:-1]] == [3] * (len(found) - 1)
    assert found[0].flux.dtype == torch.float32
    np.testing.assert_array_equal(torch.cat([batch.flux for batch in found]), split.flux[order].astype(np.float32))
    np.testing.assert_array_equal(torch.cat([batch.label for batch in found]), split.label[order])
    np.testing.assert_array_equal(torch.cat([batch.snr for batch in found]), split.snr[order])


def test_pairs_that_remember_read_once(pairs: PairArrays) -> None:
    class Counted:
        shape = pairs.flux.shape
        times = 0

        def __getitem__(self, rows: slice) -> object:
            self.times += 1
            return pairs.flux[rows]

    counted = Counted()
    remembering = replace(pairs, flux=counted).remembering()
    assert remembering.read(TEST) is remembering.read(TEST)
    remembering.read(VALIDATION)
    assert counted.times == 1
    np.testing.assert_array_equal(remembering.read(TEST).flux, pairs.read(TEST).flux)
    assert remembering.digest == pairs.digest
