"""Training over a real cluster, from a store of pairs; what the command takes and refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from twinlines.models import checkpoint, defaults
from twinlines.models.network import PRESETS, Network, NetworkConfig
from twinlines.models.training import TrainingConfig, TrainingError
from twinlines.pipeline.arms import ARMS
from twinlines.pipeline.cli import main
from twinlines.pipeline.figures import learning
from twinlines.pipeline.storage import stores
from twinlines.pipeline.training.config import ConfigError, read_sizes
from twinlines.pipeline.training.members import Training, WarmStart, train
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

TINY = {"filters": (4,), "kernels": (16,), "strides": (16,), "dense": (8,)}


@pytest.fixture(scope="module")
def store(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("training") / "pairs.zarr"
    synthesize(client, TrainingSet(n_pairs=190, seed=5), out)
    return out


def test_later_penalties_start_at_the_first(client: Client, store: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    training = Training(
        penalties=(16, 8, 32), members=2, epochs=2, schedule="linear", sizes=TINY, warm_start=WarmStart(1, 1e-4, 60)
    )
    ends: list[int] = []
    metrics = train(
        client,
        store,
        tmp_path,
        training,
        progress=lambda *step: told.append(step),
        member_finished=lambda: ends.append(len(learning.read_logs(tmp_path))),
    )
    assert len(ends) == 4  # chains
    assert ends[-1] == 12
    assert sorted(metrics) == sorted(f"{n}_p{p}_m{m}" for n in ARMS for p in (8, 16, 32) for m in (1, 2))
    assert told[0] == ("train", 0, 12)
    assert told[-1] == ("train", 12, 12)
    for name in ARMS:
        first = checkpoint.load(tmp_path / f"{name}_p16_m1.safetensors")[1]
        later = checkpoint.load(tmp_path / f"{name}_p32_m1.safetensors")[1]
        assert later.parent == checkpoint.file_digest(tmp_path / f"{name}_p16_m1.safetensors")
        assert first.parent is None
        assert first.recipe == zarr.open_group(store, mode="r").attrs["digest"]
        assert (first.training["max_epochs"], later.training["max_epochs"]) == (2, 1)
        assert later.training["epoch_pairs"] == 60
    logs = learning.read_logs(tmp_path)
    assert len(logs) == 12
    assert [len(logs["B", penalty, 1]) for penalty in (8, 16, 32)] == [1, 2, 1]
    figure = learning.draw(logs)
    assert len(figure.axes) == 4
    assert learning.learning_curves(tmp_path) == tmp_path / "learning.png"
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert train(client, store, tmp_path, training) == metrics  # nothing is trained twice
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == before


def test_workers_that_train_load_nothing_that_draws() -> None:
    code = "import sys, twinlines.pipeline.training.members; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_settings_of_an_ensemble_and_of_a_member_have_the_same_defaults() -> None:
    ((config,), *_) = Training().chains()
    assert config == TrainingConfig("B", defaults.PENALTY, NetworkConfig(ARMS["B"].n_pixels))


def test_without_a_warm_start_each_member_is_its_own_task() -> None:
    chains = list(Training(penalties=(1, 2), members=3).chains())
    assert len(chains) == 12
    assert all(len(chain) == 1 for chain in chains)
    assert len({(one.arm, one.penalty, one.member) for (one,) in chains}) == 12


@pytest.mark.parametrize("wrong", [{"members": 0}, {"penalties": [0]}, {"penalties": []}])
def test_a_training_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(wrong))} is .*; give"):
        Training(**wrong)


def test_errors_reach_the_client(client: Client, store: Path, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="does not exist"):
        train(client, tmp_path / "none.zarr", tmp_path, Training(members=1))
    with pytest.raises(TrainingError, match="schedule is 'odd'"):
        train(client, store, tmp_path, Training(schedule="odd"))
    (tmp_path / "B_p16_m1.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"no other was asked for: B_p16_m1: CheckpointError: .*B_p16_m1"):
        train(client, store, tmp_path, Training(arms=("B",), members=1, epochs=1, sizes=TINY))


def test_a_member_that_fails_does_not_end_the_others(client: Client, store: Path, tmp_path: Path) -> None:
    training = Training(arms=("B",), members=3, epochs=1, sizes=TINY)
    (tmp_path / "B_p16_m2.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"1 of 3 tasks failed, the other 2 are trained: B_p16_m2: CheckpointError"):
        train(client, store, tmp_path, training)
    trained = {path.name: path.read_bytes() for path in tmp_path.glob("B_p16_m[13].safetensors")}
    assert len(trained) == 2
    (failure,) = (tmp_path / ".training/failed").glob("*.json")
    assert json.loads(failure.read_text())["members"] == ["B_p16_m2"]
    (tmp_path / "B_p16_m2.safetensors").unlink()
    told: list[tuple[str, int, int]] = []
    assert len(train(client, store, tmp_path, training, progress=lambda *step: told.append(step))) == 3
    assert told[0] == ("train", 2, 3)  # those that are done have markers
    assert {path.name: path.read_bytes() for path in tmp_path.glob("B_p16_m[13].safetensors")} == trained
    assert not failure.exists()


def test_weights_without_markers_are_taken_as_they_are(client: Client, store: Path, tmp_path: Path) -> None:
    """An ensemble of a version that wrote no markers is not trained again."""
    training = Training(arms=("B",), members=1, epochs=1, sizes=TINY)
    metrics = train(client, store, tmp_path, training)
    weights = (tmp_path / "B_p16_m1.safetensors").read_bytes()
    shutil.rmtree(tmp_path / ".training")
    assert train(client, store, tmp_path, training) == metrics
    assert (tmp_path / "B_p16_m1.safetensors").read_bytes() == weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_that_should_have_a_gpu_trains_on_nothing_else(store: Path, tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0", resources={"GPU": 1}) as cluster,
        Client(cluster) as workers,
        pytest.raises(TrainingError, match="finds no GPU; look at 'nvidia-smi'"),
    ):
        train(workers, store, tmp_path, Training(arms=("B",), members=1, epochs=1, sizes=TINY))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_fit_both_arms(name: str) -> None:
    for arm in ARMS.values():
        network = Network(NetworkConfig(arm.n_pixels, **read_sizes(name)))  # type: ignore[arg-type]
        assert sum(weight.numel() for weight in network.parameters()) > 1000


def test_sizes_come_from_a_file_or_a_name(tmp_path: Path) -> None:
    path = tmp_path / "sizes.toml"
    path.write_text("filters = [4, 8]\nkernels = [8, 8]\nstrides = [4, 2]\ndropout = 0.1\n")
    assert read_sizes(str(path)) == {"filters": (4, 8), "kernels": (8, 8), "strides": (4, 2), "dropout": 0.1}
    for text, said in (
        ("filter = [4]", r"there is no 'filter' \(did you mean 'filters'\?\)"),
        ("filters = 4", r"sizes\.toml: filters is 4; give a list of numbers above 0, such as \[16, 32\]"),
        ("dense = [0]", "dense is "),
        ("filters = [", "cannot be read as TOML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_sizes(str(path))
    with pytest.raises(ConfigError, match="no network is called 'lenet'; there are default"):
        read_sizes("lenet")


def test_from_the_command_line(client: Client, store: Path, tmp_path: Path) -> None:
    sizes = tmp_path / "tiny.toml"
    sizes.write_text("filters = [4]\nkernels = [16]\nstrides = [16]\ndense = [8]\n")
    arguments = ["train", "--pairs", store, "--out", tmp_path / "W", "--arm", "B", "--members", "1", "--epochs", "1"]
    options = ["--network", sizes, "--penalty", "4", "--penalty", "2", "--warm-start", "--schedule", "linear"]
    options += ["--learning-rate", "0.002", "--json"]
    address = client.scheduler_info()["address"]
    done = CliRunner().invoke(main.app, [*map(str, arguments), *map(str, options), "--cluster", address])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "W/learning.png").stat().st_size > 10_000
    assert sorted(json.loads(done.stdout)) == ["B_p2_m1", "B_p4_m1"]
    network, header = checkpoint.load(tmp_path / "W/B_p4_m1.safetensors")
    assert network.config.filters == (4,)
    assert header.training["learning_rate"] == 0.002
    assert checkpoint.load(tmp_path / "W/B_p2_m1.safetensors")[1].training["learning_rate"] == 3e-4
    onward = [*map(str, [*arguments, *options]), "--start-at", str(tmp_path / "W"), "--cluster", address]
    onward[onward.index(str(tmp_path / "W"))] = str(tmp_path / "onward")
    done = CliRunner().invoke(main.app, onward)
    assert done.exit_code == 0, done.output
    header = checkpoint.load(tmp_path / "onward/B_p4_m1.safetensors")[1]
    assert header.parent == checkpoint.file_digest(tmp_path / "W/B_p4_m1.safetensors")
    assert (
        header.metrics["validation_loss"]
        < checkpoint.load(tmp_path / "W/B_p4_m1.safetensors")[1].metrics["validation_loss"]
    )
    later = checkpoint.load(tmp_path / "onward/B_p2_m1.safetensors")[1]
    assert later.parent == checkpoint.file_digest(tmp_path / "onward/B_p4_m1.safetensors")


def test_members_start_at_weights_that_are_there(client: Client, store: Path, tmp_path: Path) -> None:
    training = Training(arms=("B",), members=1, epochs=1, sizes=TINY, start_at=tmp_path / "none")
    with pytest.raises(checkpoint.CheckpointError, match=r"none/B_p16_m1\.safetensors"):
        train(client, store, tmp_path / "W", training)
