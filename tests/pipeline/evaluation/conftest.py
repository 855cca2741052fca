"""Pairs, small members that say they know them, and an evaluation of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from numpy.typing import NDArray

from twinlines.models import checkpoint
from twinlines.models.checkpoint import Header
from twinlines.models.network import PRESETS, Network, NetworkConfig
from twinlines.pipeline.arms import ARM_NAMES, BLUE, RED
from twinlines.pipeline.evaluation.evaluation import Options, evaluate
from twinlines.pipeline.evaluation.report import EvaluationReport
from twinlines.pipeline.schema import PAIRS
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis.beyond_table1 import CoolGiants, Extras
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

PENALTIES = (4, 16)
OPTIONS = Options(twins=1, rotations=(50.0,), rule_pairs=12)


def read(store: Path, rows: NDArray[Any] | slice = slice(None)) -> dict[str, NDArray[np.float32]]:
    """Flux of some pairs by arm, (spectrum, pixel)."""
    with stores.open_store(store, PAIRS) as pairs:
        flux = {name: pairs[f"flux_{name}"].values[rows] for name in ARM_NAMES}
    return {name: values.reshape(-1, values.shape[2]) for name, values in flux.items()}


def logits(network: Network, flux: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """Logits by head, (pair, 2, penalty), as the network itself has them."""
    with torch.inference_mode():
        made = network({name: torch.from_numpy(values) for name, values in flux.items()})
    return {head: values.view(-1, 2, values.shape[1]) for head, values in made.items()}


@pytest.fixture(scope="session")
def options() -> Options:
    return OPTIONS


@pytest.fixture(scope="session")
def quick() -> Options:
    """Options of an evaluation of pairs alone."""
    return Options(twins=0, rule_pairs=0)


@pytest.fixture(scope="session")
def store(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, some of which are for the test, and some of which hold two single stars."""
    out = tmp_path_factory.mktemp("evaluation") / "pairs.zarr"
    synthesize(client, TrainingSet(n_pairs=190, seed=3, extras=Extras(CoolGiants(0.2))), out)
    return out


def make_weights(folder: Path, pairs: str, flux: dict[str, NDArray[np.float32]]) -> Path:
    """Two small untrained members that say they were trained on ``pairs``, and call most of their spectra binaries."""
    config = NetworkConfig((BLUE.n_pixels, RED.n_pixels), PENALTIES, **PRESETS["small"])  # type: ignore[arg-type]
    for member in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(member)
            network = Network(config).eval()
        with torch.no_grad():
            for name, values in logits(network, flux).items():
                last: Any = network.heads[name].last
                # Spread as a trained member's, and mostly positive: small weights tell spectra hardly apart.
                last.weight *= 3.0 / values.std(dim=(0, 1))[:, None]
                last.bias -= logits(network, flux)[name].flatten(0, 1).quantile(0.2, dim=0)
        header = Header(member, seed=1, pairs=pairs)
        checkpoint.save(folder / f"{header.stem}{checkpoint.SUFFIX}", network, header)
    return folder


@pytest.fixture(scope="session")
def weights(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Members that say they know the store."""
    with stores.open_store(store, PAIRS) as pairs:
        digest = pairs.attrs["digest"]
    return make_weights(tmp_path_factory.mktemp("weights"), digest, read(store, slice(20)))


@pytest.fixture(scope="session")
def strange_weights(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Members that know nothing of the store."""
    return make_weights(tmp_path_factory.mktemp("strange"), "none", read(store, slice(20)))


@pytest.fixture(scope="session")
def report(client: Client, store: Path, weights: Path) -> EvaluationReport:
    return evaluate(client, store, weights, OPTIONS)
