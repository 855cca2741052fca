"""Tiny networks of both arms, toy pairs and small ensembles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlines.models import checkpoint
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.pairs import PairArrays, content_digest
from twinlines.models.vocabulary import ARMS

PIXELS = (120, 131)
SMALL = NetworkConfig(
    PIXELS, (8, 16), filters=(4, 6), kernels=(8, 6), strides=(4, 2), features=12, head=(8,), joint=(10, 6), dropout=0.1
)


def _network(seed: int = 0, config: NetworkConfig = SMALL) -> Network:
    """A network with random weights, whose normalisations have seen something and whose logits spread."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = Network(config)
        flux = {arm: 1.0 + 0.3 * torch.randn(64, config.pixels_of(arm)) for arm in ARMS}
        network.train()(flux)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for head, logits in network.eval()(flux).items():
            last = network.heads[head].last
            assert isinstance(last, torch.nn.Linear)
            last.weight /= logits.std(dim=0)[:, None]
            last.bias.copy_((last.bias - logits.mean(dim=0)) / logits.std(dim=0))
    return network


def make_pairs(count: int = 400, snr: float = 20.0, seed: int = 0, block: int = 64) -> PairArrays:
    """Pairs whose single star has one line in each arm, and whose binary has two lines of half the depth.

    Splits are mixed: every block has some pairs of each.
    """
    rng = np.random.default_rng(seed)
    centre, shift = rng.uniform(30, 50, (count, 1)), rng.uniform(10, 40, (count, 1))
    flux, ratios = {}, {}
    for arm, pixels in zip(ARMS, PIXELS, strict=True):
        pixel = np.arange(pixels)
        first = np.exp(-0.5 * ((pixel - centre) / 4) ** 2)
        second = np.exp(-0.5 * ((pixel - centre - shift) / 4) ** 2)
        light = 1 - np.stack([0.6 * first, 0.3 * first + 0.3 * second], axis=1)
        flux[arm] = (light + rng.standard_normal(light.shape) / snr).astype(np.float32)
        ratios[arm] = np.full(count, snr, np.float32) + np.arange(count, dtype=np.float32) / 1024
    split = np.array([0, 0, 1, 2], np.int8)[np.arange(count) % 4]
    label = np.tile(np.array([0, 1], np.int8), (count, 1))
    return PairArrays(flux, label, split, ratios, content_digest(flux, label, split, ratios), block)


@pytest.fixture(scope="session")
def small() -> NetworkConfig:
    return SMALL


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Network]:
    """A function that makes a small network from a seed."""
    return _network


@pytest.fixture(scope="session")
def pairs() -> PairArrays:
    return make_pairs()


@pytest.fixture(scope="session")
def hard_pairs() -> PairArrays:
    """Pairs so noisy that nobody tells them apart without errors."""
    return make_pairs(1000, snr=2.0)


@pytest.fixture
def make_ensemble(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes an ensemble's folder and returns it."""

    def write(members: int = 2) -> Path:
        folder = tmp_path / "ensemble"
        folder.mkdir(exist_ok=True)
        for member in range(1, members + 1):
            header = checkpoint.Header(member, 0, "toy")
            checkpoint.save(folder / f"{header.stem}{checkpoint.SUFFIX}", _network(member), header)
        return folder

    return write
