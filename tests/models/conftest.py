"""Tiny networks, toy pairs and small ensembles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlines.models import checkpoint
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.pairs import PairArrays, content_digest

PIXELS = 120
SMALL = NetworkConfig(PIXELS, filters=(4, 6), kernels=(8, 6), strides=(3, 2), dense=(16, 8), dropout=0.1)


def _network(seed: int = 0, config: NetworkConfig = SMALL) -> Network:
    """A network with random weights and normalisations that have seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(config)
        network.train()
        network(1.0 + 0.3 * torch.randn(64, config.n_pixels))
    for norm in (*network.convolution_norms, *network.dense_norms):
        assert isinstance(norm, torch.nn.BatchNorm1d)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(seed))
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        network.last.weight *= 10  # so that probabilities spread
    return network.eval()


def make_pairs(count: int = 400, snr: float = 20.0, seed: int = 0) -> PairArrays:
    """Pairs whose single star has one line, and whose binary has two lines of half the depth."""
    rng = np.random.default_rng(seed)
    pixel = np.arange(PIXELS)
    centre = rng.uniform(30, 50, (count, 1))
    shift = rng.uniform(10, 40, (count, 1))
    first = np.exp(-0.5 * ((pixel - centre) / 4) ** 2)
    second = np.exp(-0.5 * ((pixel - centre - shift) / 4) ** 2)
    flux = 1 - np.stack([0.6 * first, 0.3 * first + 0.3 * second], axis=1)
    flux = (flux + rng.standard_normal(flux.shape) / snr).astype(np.float32)
    split = np.zeros(count, np.int8)
    split[count // 2 :] = 1
    split[3 * count // 4 :] = 2
    ratios = np.full(count, snr, np.float32)
    label = np.tile(np.array([0, 1], np.int8), (count, 1))
    return PairArrays(flux, label, split, ratios, content_digest(flux, label, split, ratios))


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

    def write(arms: str = "BR", penalties: tuple[int, ...] = (8, 16), members: int = 2) -> Path:
        folder = tmp_path / "ensemble"
        folder.mkdir(exist_ok=True)
        seed = 0
        for arm in arms:
            for penalty in penalties:
                for member in range(1, members + 1):
                    header = checkpoint.Header(arm, penalty, member, 0, "toy")
                    checkpoint.save(folder / f"{header.stem}{checkpoint.SUFFIX}", _network(seed := seed + 1), header)
        return folder

    return write
