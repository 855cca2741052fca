"""Training over a real cluster, from a store of pairs; what the command takes and refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from twinlines.models import checkpoint, defaults
from twinlines.models.augmentation import Augmentation, AugmentationError
from twinlines.models.network import PRESETS, Network, NetworkConfig
from twinlines.models.training import TrainingConfig, TrainingError
from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.arms import ARMS, BLUE, RED
from twinlines.pipeline.cli import main
from twinlines.pipeline.figures import learning
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.training.config import ConfigError, read_augmentation, read_sizes
from twinlines.pipeline.training.members import Training, train

TINY = {"filters": (4,), "kernels": (16,), "strides": (16,), "features": 8, "head": (), "joint": (4,)}
PAPER = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def make_store(path: Path, count: int = 190, frame: str | None = "measured") -> Path:
    """A store of noise, a little deeper where it shows two stars, in a frame."""
    provenance = {} if frame is None else {"frame": frame}
    stores.create(path, PAIRS, count, {"digest": "toy", "provenance": provenance})
    group = zarr.open_group(path, mode="r+")
    rng = np.random.default_rng(0)
    label = np.tile(np.array([0, 1], np.int8), (count, 1))
    columns: dict[str, Any] = {"label": label, "split": np.arange(count, dtype=np.int8) % 3}
    for name, arm in ARMS.items():
        flux = 1.0 + 0.05 * rng.standard_normal((count, 2, arm.n_pixels)) - 0.02 * label[:, :, None]
        columns |= {f"flux_{name}": flux.astype(np.float32), f"snr_{name}": np.full(count, 20.0, np.float32)}
    for name, values in columns.items():
        if name in group:
            group[name][:] = values  # type: ignore[index]
        else:
            group.create_array(name, data=values, dimension_names=("pair",))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("training") / "pairs.zarr")


def test_an_ensemble_is_trained_a_member_a_task(client: Client, store: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    drawn: list[int] = []
    training = Training(penalties=(16, 8, 32), members=2, epochs=2, schedule="linear", sizes=TINY, epoch_pairs=40)
    metrics = train(
        client,
        store,
        tmp_path,
        training,
        progress=lambda *step: told.append(step),
        member_finished=lambda: drawn.append(len(learning.read_logs(tmp_path))),
    )
    assert sorted(metrics) == ["member_1", "member_2"]
    assert (told[0], told[-1]) == (("train", 0, 2), ("train", 2, 2))
    assert len(drawn) == drawn[-1] == 2
    for name, measured in metrics.items():
        network, header = checkpoint.load(tmp_path / f"{name}.safetensors")
        assert network.config.penalties == (8, 16, 32)
        assert network.config.pixels == (BLUE.n_pixels, RED.n_pixels)
        assert header.parent is None
        assert header.pairs == "toy"
        assert (header.training["max_epochs"], header.training["epoch_pairs"]) == (2, 40)
        assert {f"test_tpr_{head}_at_paper_fpr" for head in HEADS} < set(measured)
    logs = learning.read_logs(tmp_path)
    assert list(logs) == [1, 2]
    assert [len(epochs) for epochs in logs.values()] == [2, 2]
    figure = learning.draw(logs)
    assert len(figure.axes) == 2
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[:2] == ["member 1", "member 2"]
    assert learning.learning_curves(tmp_path) == tmp_path / "learning.png"
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert train(client, store, tmp_path, training) == metrics  # nothing is trained twice
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == before


def test_without_a_log_nothing_is_drawn(tmp_path: Path) -> None:
    assert learning.learning_curves(tmp_path) is None


def test_workers_that_train_load_nothing_that_draws() -> None:
    code = "import sys, twinlines.pipeline.training.members; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_settings_of_an_ensemble_and_of_a_member_have_the_same_defaults() -> None:
    configs = Training().configs()
    assert len(configs) == defaults.MEMBERS
    network = NetworkConfig((BLUE.n_pixels, RED.n_pixels), defaults.PENALTIES)
    assert configs[0] == TrainingConfig(network, least_visibility=defaults.LEAST_VISIBILITY)
    assert [config.member for config in configs] == [1, 2, 3, 4, 5]
    assert all(replace(config, member=1) == configs[0] for config in configs)


def test_every_penalty_is_an_output_of_every_member() -> None:
    configs = Training(penalties=PAPER[::-1], members=3).configs()
    assert [config.network.penalties for config in configs] == [PAPER] * 3


@pytest.mark.parametrize("wrong", [{"members": 0}, {"penalties": [0]}, {"penalties": []}, {"penalties": [8, 8]}])
def test_a_training_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(wrong))} is .*; give"):
        Training(**wrong)


@pytest.mark.parametrize("frame", ["true", None])
def test_pairs_without_measured_frames_are_refused(client: Client, frame: str | None, tmp_path: Path) -> None:
    path = make_store(tmp_path / "pairs.zarr", 6, frame)
    with pytest.raises(TrainingError, match=rf"pairs\.zarr are in the frame {frame!r}.*synthesize --frame measured"):
        train(client, path, tmp_path / "W", Training(members=1))
    assert not (tmp_path / "W").exists()


def test_errors_reach_the_client(client: Client, store: Path, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="does not exist"):
        train(client, tmp_path / "none.zarr", tmp_path, Training(members=1))
    with pytest.raises(TrainingError, match="schedule is 'odd'"):
        train(client, store, tmp_path, Training(schedule="odd"))
    with pytest.raises(ValueError, match="equally many"):
        train(client, store, tmp_path, Training(sizes={"filters": (4,)}))
    (tmp_path / "member_1.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"no other was asked for: member_1: CheckpointError: .*member_1"):
        train(client, store, tmp_path, Training(members=1, epochs=1, sizes=TINY))


def test_a_member_that_fails_does_not_end_the_others(client: Client, store: Path, tmp_path: Path) -> None:
    training = Training(members=3, epochs=1, sizes=TINY)
    (tmp_path / "member_2.safetensors").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"1 of 3 members failed, the other 2 are trained: member_2: Checkpoint"):
        train(client, store, tmp_path, training)
    trained = {path.name: path.read_bytes() for path in tmp_path.glob("member_[13].safetensors")}
    assert len(trained) == 2
    (failure,) = (tmp_path / ".training/failed").glob("*.json")
    assert json.loads(failure.read_text())["member"] == "member_2"
    (tmp_path / "member_2.safetensors").unlink()
    told: list[tuple[str, int, int]] = []
    assert len(train(client, store, tmp_path, training, progress=lambda *step: told.append(step))) == 3
    assert told[0] == ("train", 2, 3)  # those that are done have markers
    assert {path.name: path.read_bytes() for path in tmp_path.glob("member_[13].safetensors")} == trained
    assert not failure.exists()


def test_weights_without_markers_are_taken_as_they_are(client: Client, store: Path, tmp_path: Path) -> None:
    """What is trained is not trained again because its marker is lost."""
    training = Training(members=1, epochs=1, sizes=TINY)
    metrics = train(client, store, tmp_path, training)
    weights = (tmp_path / "member_1.safetensors").read_bytes()
    shutil.rmtree(tmp_path / ".training")
    assert train(client, store, tmp_path, training) == metrics
    assert (tmp_path / "member_1.safetensors").read_bytes() == weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_that_should_have_a_gpu_trains_on_nothing_else(store: Path, tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0", resources={"GPU": 1}) as cluster,
        Client(cluster) as workers,
        pytest.raises(TrainingError, match="finds no GPU; look at 'nvidia-smi'"),
    ):
        train(workers, store, tmp_path, Training(members=1, epochs=1, sizes=TINY))


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_fit_both_arms(name: str) -> None:
    network = Network(NetworkConfig((BLUE.n_pixels, RED.n_pixels), **read_sizes(name)))
    assert sum(weight.numel() for weight in network.parameters()) > 1000


def test_sizes_come_from_a_file_or_a_name(tmp_path: Path) -> None:
    path = tmp_path / "sizes.toml"
    path.write_text("filters = [4, 8]\nkernels = [8, 8]\nstrides = [4, 2]\nfeatures = 9\njoint = []\ndropout = 0.1\n")
    sizes = {"filters": (4, 8), "kernels": (8, 8), "strides": (4, 2), "features": 9, "joint": (), "dropout": 0.1}
    assert read_sizes(str(path)) == sizes
    for text, said in (
        ("filter = [4]", r"there is no 'filter' \(did you mean 'filters'\?\)"),
        ("filters = 4", r"sizes\.toml: filters is 4; give a list of numbers above 0, such as \[16, 32\]"),
        ("features = 0", "features is 0; give a whole number above 0"),
        ("head = [0]", "head is "),
        ("penalties = [8]", "there is no 'penalties'"),
        ("pixels = [8, 8]", "there is no 'pixels'"),
        ("filters = [", "cannot be read as TOML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_sizes(str(path))
    with pytest.raises(ConfigError, match="no network is called 'lenet'; there are default"):
        read_sizes("lenet")


def test_variations_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "varied.toml"
    path.write_text("diluted = 0.5\nmost_light = 1\nband_pixels = 200\nwiggle_terms = 0\n")
    expected = Augmentation(diluted=0.5, most_light=1.0, band_pixels=200, wiggle_terms=0)
    assert read_augmentation(path) == expected
    path.write_text("")
    assert read_augmentation(path) == Augmentation()
    for text, error, said in (
        ("dilute = 1", ConfigError, r"varied\.toml: there is no 'dilute' \(did you mean 'diluted'\?\)"),
        ("diluted = 'half'", ConfigError, r"varied\.toml: diluted is 'half'; give a number"),
        ("band_pixels = 1.5", ConfigError, r"band_pixels is 1\.5; give a whole number"),
        ("diluted = 2", AugmentationError, r"varied\.toml: diluted is 2\.0; give a fraction from 0 to 1"),
        ("diluted = [", ConfigError, "cannot be read as TOML"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=said):
            read_augmentation(path)
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        read_augmentation(tmp_path / "none.toml")


def test_from_the_command_line(client: Client, store: Path, tmp_path: Path) -> None:
    sizes, varied = tmp_path / "tiny.toml", tmp_path / "varied.toml"
    sizes.write_text("filters = [4]\nkernels = [16]\nstrides = [16]\nfeatures = 8\nhead = []\njoint = [4]\n")
    varied.write_text("diluted = 0.3\nrelined = 0.2\n")
    address = client.scheduler_info()["address"]

    def asked(out: str, *more: object) -> list[str]:
        options = ["--members", 1, "--epochs", 2, "--epoch-pairs", 30, "--network", sizes, "--augmentation", varied]
        options += ["--penalty", 512, "--penalty", 2, "--schedule", "linear", "--learning-rate", 0.002, "--json"]
        return [str(word) for word in ("train", "--pairs", store, "--out", tmp_path / out, *options, *more)]

    done = CliRunner().invoke(main.app, [*asked("W"), "--cluster", address])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "W/learning.png").stat().st_size > 10_000
    told = json.loads(done.stdout)
    assert list(told) == ["member_1"]
    network, header = checkpoint.load(tmp_path / "W/member_1.safetensors")
    assert network.config.filters == (4,)
    assert network.config.penalties == (2, 512)
    assert header.training["learning_rate"] == 0.002
    assert header.training["epoch_pairs"] == 30
    assert header.training["augmentation"]["diluted"] == 0.3
    assert header.training["augmentation"]["restrengthened"] == 0.0
    assert dict(header.metrics) == told["member_1"]
    done = CliRunner().invoke(main.app, [*asked("on", "--start-at", tmp_path / "W"), "--cluster", address])
    assert done.exit_code == 0, done.output
    onward = checkpoint.load(tmp_path / "on/member_1.safetensors")[1]
    assert onward.parent == checkpoint.file_digest(tmp_path / "W/member_1.safetensors")
    table = asked("W", "--cluster", address)
    table.remove("--json")
    done = CliRunner().invoke(main.app, table)
    assert done.exit_code == 0, done.output
    assert "member_1" in done.stdout
    assert "test_tpr_J_at_paper_fpr" in done.stdout


def test_several_stores_are_shown_together(client: Client, store: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other.zarr", 60)
    training = Training(members=1, epochs=1, sizes=TINY)
    with pytest.raises(TrainingError, match=r"holds the same pairs as .*name each set once"):
        train(client, [store, other], tmp_path / "W", training)
    zarr.open_group(other, mode="r+").attrs["digest"] = "more"
    address = client.scheduler_info()["address"]
    sizes = tmp_path / "tiny.toml"
    sizes.write_text("filters = [4]\nkernels = [16]\nstrides = [16]\nfeatures = 8\nhead = []\njoint = [4]\n")
    words = ["train", "--pairs", store, "--pairs", other, "--out", tmp_path / "W", "--members", 1, "--epochs", 1]
    words += ["--network", sizes, "--cluster", address, "--json"]
    done = CliRunner().invoke(main.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    header = checkpoint.load(tmp_path / "W/member_1.safetensors")[1]
    assert header.pairs == "toy+more"


def test_members_start_at_weights_that_are_there(client: Client, store: Path, tmp_path: Path) -> None:
    training = Training(members=1, epochs=1, sizes=TINY, start_at=tmp_path / "none")
    with pytest.raises(checkpoint.CheckpointError, match=r"none/member_1\.safetensors"):
        train(client, store, tmp_path / "W", training)
