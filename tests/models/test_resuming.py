"""Runs that are killed, go on, or are done already."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from tests.models.test_training import Killed, config, kill_after
from twinlines.models import training
from twinlines.models.augmentation import Augmentation
from twinlines.models.batches import Batch
from twinlines.models.pairs import PairArrays, load_pairs
from twinlines.models.training import TrainingConfig, TrainingError, train_member
from twinlines.models.trainingstate import TrainingRun
from twinlines.models.vocabulary import ARMS

__all__ = ["config"]  # a fixture


WAYS: dict[str, dict[str, object]] = {
    "float32": {"precision": "float32"},
    "mixed": {"precision": "mixed"},
    "some pairs, varied": {
        "epoch_pairs": 90,
        "precision": "float32",
        "augmentation": Augmentation(diluted=0.5, restrengthened=0.5, relined=0.5),
    },
    "linear": {"schedule": "linear", "precision": "float32"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_ends_in_the_same_bits(
    way: str, pairs: PairArrays, config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is killed: after an epoch, or within one."""
    config = replace(config, **WAYS[way])  # type: ignore[arg-type]
    whole = train_member(pairs, config, tmp_path / "whole")
    with pytest.raises(Killed):
        train_member(pairs, config, tmp_path / "killed", progress=kill_after(1))
    assert not (tmp_path / "killed" / "member_1.safetensors").exists()
    torch.randn(3)  # whatever else the process draws must not matter
    step, steps = training._step, 0

    def killed(run: TrainingRun, config: TrainingConfig, batch: Batch, dropout: np.random.Generator) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if len(run.history) == 3 and steps % 4 == 0:
            raise Killed
        return step(run, config, batch, dropout)

    with monkeypatch.context() as patched:
        patched.setattr(training, "_step", killed)
        with pytest.raises(Killed):
            train_member(pairs, config, tmp_path / "killed")
    seen: list[int] = []
    resumed = train_member(pairs, config, tmp_path / "killed", progress=lambda each: seen.append(each.epoch))
    assert seen == list(range(4, config.max_epochs + 1))
    assert resumed == whole
    name = "member_1.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_size_of_what_is_read_at_once_does_not_matter_to_validation(
    pairs: PairArrays, config: TrainingConfig, tmp_path: Path
) -> None:
    """And a store read block by block is learned as arrays in memory are, if the blocks are the same."""
    group = zarr.create_group(store=tmp_path / "pairs.zarr", attributes={"digest": pairs.digest})
    for arm in ARMS:
        flux = np.asarray(pairs.flux[arm][:])
        shards = (pairs.block, 2, flux.shape[2])
        group.create_array(f"flux_{arm}", data=flux, chunks=(16, 2, flux.shape[2]), shards=shards)
        group.create_array(f"snr_{arm}", data=pairs.snr[arm])
    group.create_array("label", data=pairs.label)
    group.create_array("split", data=pairs.split)
    once = replace(config, max_epochs=2)
    metrics = train_member(pairs, once, tmp_path / "arrays")
    assert train_member(load_pairs(tmp_path / "pairs.zarr"), once, tmp_path / "store") == metrics
    first, second = (tmp_path / name / "member_1.safetensors" for name in ("arrays", "store"))
    assert first.read_bytes() == second.read_bytes()


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


def test_a_linear_run_cannot_be_made_longer(pairs: PairArrays, config: TrainingConfig, tmp_path: Path) -> None:
    linear = replace(config, schedule="linear", max_epochs=3)
    whole = train_member(pairs, linear, tmp_path / "whole")
    with pytest.raises(Killed):
        train_member(pairs, linear, tmp_path / "killed", progress=kill_after(2))
    with pytest.raises(TrainingError, match="max_epochs = 3, asked for is 4"):
        train_member(pairs, replace(linear, max_epochs=4), tmp_path / "killed")
    assert train_member(pairs, linear, tmp_path / "killed") == whole


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
