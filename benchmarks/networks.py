"""Sizes of the network: what each finds, and what it costs, from the same pairs and the same number of epochs.

Run ``python benchmarks/networks.py --pairs pairs.zarr [--test test.zarr] [--out folder] [--augmentation varied.toml]``;
without pairs it makes a few up itself, which show that it works and no more. One member for each of the sizes; killed,
it goes on where it was. The TPR of every head is measured at the paper's FPR, penalty 16, by population, on the pairs'
test split, and on all pairs of ``--test``; a pass of 20 draws of both arms through all heads is timed, one thread, the
least of several turns of all sizes. The ratio is the last sizes' cost over the first's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.models import checkpoint, defaults
from twinlines.models.augmentation import Augmentation
from twinlines.models.evaluation import PAPER_FPR, logits_of, rate, tpr_at
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import PRESETS, Network, NetworkConfig
from twinlines.models.pairs import PairArrays, load_pairs
from twinlines.models.training import TrainingConfig, train_member
from twinlines.models.vocabulary import ARMS, HEADS, SPLITS, TEST
from twinlines.pipeline.arms import BLUE, RED
from twinlines.pipeline.schema import POPULATIONS
from twinlines.pipeline.training.config import read_augmentation

PIXELS = (BLUE.n_pixels, RED.n_pixels)


def found(network: Network, pairs: PairArrays, population: NDArray[np.int8], splits: tuple[int, ...]) -> dict[str, Any]:
    """TPR at the paper's FPR by head and population, with its interval, on the pairs of some splits."""
    judged = [(split, *logits_of(network, pairs.parts(split))) for split in splits if np.any(pairs.split == split)]
    code = np.concatenate([population[pairs.split == split] for split, *_ in judged])
    label = torch.cat([label for *_, label in judged])
    place = network.config.penalties.index(defaults.PENALTY)
    told: dict[str, Any] = {}
    for head in HEADS:
        logits = torch.cat([logits[head][..., place] for _, logits, _ in judged])
        for mine in np.unique(code).tolist():
            rows = torch.from_numpy(code == mine)
            trials = int(label[rows].sum())
            if trials:
                one = rate(tpr_at(logits[rows], label[rows], PAPER_FPR[head]) * trials, trials)
                told.setdefault(head, {})[POPULATIONS[mine]] = f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})"
    return told


def made_up(count: int = 240) -> tuple[PairArrays, NDArray[np.int8]]:
    """Pairs of one line and of two, and their populations."""
    rng = np.random.default_rng(0)
    centre, shift = rng.uniform(500, 2500, (2, count, 1)) * np.array([1.0, 0.05])[:, None, None]
    flux = {}
    for arm, pixels in zip(ARMS, PIXELS, strict=True):
        first, second = (
            np.exp(-0.5 * ((np.arange(pixels, dtype=np.float32) - at) / 5.0) ** 2) for at in (centre, centre + shift)
        )
        light = 1.0 - np.stack([0.6 * first, 0.3 * first + 0.3 * second], axis=1)
        flux[arm] = (light + 0.02 * rng.standard_normal(light.shape)).astype(np.float32)
    split = (np.arange(count) % len(SPLITS)).astype(np.int8)
    label = np.tile(np.array([0, 1], np.int8), (count, 1))
    snr = dict.fromkeys(ARMS, np.full(count, 50.0, np.float32))
    return PairArrays(flux, label, split, snr, "made up"), np.zeros(count, np.int8)


def opened(store: Path) -> tuple[PairArrays, NDArray[np.int8]]:
    """The pairs in a store, and their populations."""
    return load_pairs(store), np.asarray(zarr.open_group(store, mode="r")["population"], np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--augmentation", type=Path, help="TOML file: how spectra are varied")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--sizes", nargs="*", default=list(PRESETS), choices=list(PRESETS))
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **WORKER_ENVIRONMENT})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        pairs, population = opened(options.pairs) if options.pairs else made_up()
        options.epochs = options.epochs if options.pairs else 1
        measure(options, pairs, population, options.out or Path(scratch))


def measure(options: argparse.Namespace, pairs: PairArrays, population: NDArray[np.int8], out: Path) -> None:
    """Train a member of each of the sizes, and print what it finds and costs."""
    augmentation = read_augmentation(options.augmentation) if options.augmentation else Augmentation()
    members, value = {}, {}
    for name in options.sizes:
        network = NetworkConfig(PIXELS, **PRESETS[name])  # type: ignore[arg-type]
        config = TrainingConfig(network, max_epochs=options.epochs, augmentation=augmentation)
        metrics = train_member(
            pairs, config, out / name, progress=lambda epoch, name=name: print(name, epoch, flush=True)  # type: ignore[misc]
        )  # fmt: skip
        weights = out / name / f"{checkpoint.stem(1)}{checkpoint.SUFFIX}"
        trained, _ = checkpoint.load(weights)
        members[name] = InferenceMember(trained, "float32", "cpu")
        value[name] = {
            "mflop": members[name].operations / 1e6,
            "megabytes": weights.stat().st_size / 1e6,
            "validation_loss": metrics["validation_loss"],
            "test": found(trained, pairs, population, (TEST,)),
            **({"other_test": found(trained, *opened(options.test), (0, 1, 2))} if options.test else {}),
        }
        print(name, json.dumps(value[name]), flush=True)
    draws = {arm: 0.1 * torch.randn(20, pixels) for arm, pixels in zip(ARMS, PIXELS, strict=True)}
    seconds = dict.fromkeys(members, np.inf)
    with torch.inference_mode():
        for _ in range(30):
            for name, member in members.items():
                began = time.thread_time()
                member(draws)
                seconds[name] = min(seconds[name], time.thread_time() - began)
    for name, cost in seconds.items():
        value[name]["ms"] = 1e3 * cost
    first, last = (seconds[options.sizes[place]] for place in (0, -1))
    result = {
        "name": "networks",
        "value": value,
        "unit": "TPR at the paper's FPR; ms for 20 draws",
        "ratio": last / first,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
