"""Sizes of the network: what each finds, and what it costs, from the same pairs and the same number of epochs.

Run ``python benchmarks/networks.py --pairs pairs.zarr [--test test.zarr] [--out folder] [--dropout 0 0.3]``; without
pairs it makes a few itself, which show that it works and no more. One member of the blue arm for each of the sizes (and
each dropout), penalty 16; killed, it goes on where it was. TPR is measured at the paper's FPR (0.0013), by population,
on the pairs' test split, and on all pairs of ``--test``; a forward pass is timed with 20 draws of one spectrum, one
thread, the least of several turns of all sizes. The ratio is the first sizes' cost over the default's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
import zarr

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.models import checkpoint
from twinlines.models.ensemble import Ensemble
from twinlines.models.evaluation import PAPER_FPR, judge, rate, tpr_at
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import PRESETS, NetworkConfig
from twinlines.models.pairs import load_pairs
from twinlines.models.training import TrainingConfig, train_member
from twinlines.pipeline.arms import BLUE
from twinlines.pipeline.schema import POPULATIONS, SPLITS
from twinlines.pipeline.synthesis.beyond_table1 import Extras, Field
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize


def found(folder: Path, store: Path, split: str | None) -> dict[str, str]:
    """TPR at the paper's FPR by population, with its interval."""
    group = zarr.open_group(store, mode="r")
    codes = np.asarray(group["split"])
    rows = np.flatnonzero(codes == SPLITS.index(split)) if split else np.arange(len(codes))
    ensemble = Ensemble.load(folder, arms=("B",))
    parts = []
    for start in range(0, len(rows), 2048):
        flux = np.asarray(group["flux_B"].oindex[rows[start : start + 2048]], np.float32)
        parts.append(judge(ensemble, "B", flux.reshape(-1, flux.shape[2]))[16][0].reshape(-1, 2))
    logits = np.concatenate(parts)
    label, population = (np.asarray(group[name])[rows] for name in ("label", "population"))
    made = {}
    for code in np.unique(population[label[:, 1] > 0]).tolist():
        mine = population == code
        truth = label[mine].astype(np.float32)
        trials = int(truth.sum())
        share = tpr_at(torch.from_numpy(logits[mine]), truth, PAPER_FPR["B"])
        one = rate(share * trials, trials)
        made[POPULATIONS[code]] = f"{one.value:.3f} ({one.low:.3f}-{one.high:.3f})"
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--sizes", nargs="*", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--dropout", nargs="*", type=float, default=[0.0], help="each of the sizes with each")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **WORKER_ENVIRONMENT})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if options.pairs is None:
            options.pairs, options.epochs = few(Path(scratch) / "pairs.zarr"), 1
        measure(options, options.out or Path(scratch))


def few(store: Path) -> Path:
    """A small training set, half field stars."""
    with launch(Local()) as client:
        synthesize(client, TrainingSet(950, extras=Extras(field=Field(0.5))), store)
    return store


def measure(options: argparse.Namespace, out: Path) -> None:
    pairs = load_pairs(options.pairs, "B").remembering()
    networks, value = {}, {}
    for size, dropout in product(options.sizes, options.dropout):
        name = f"{size}, dropout {dropout:g}" if dropout else size
        network = NetworkConfig(BLUE.n_pixels, **PRESETS[size], dropout=dropout)  # type: ignore[arg-type]
        config = TrainingConfig("B", 16, network, max_epochs=options.epochs)
        metrics = train_member(
            pairs, config, out / name, progress=lambda epoch, name=name: print(name, epoch, flush=True)
        )  # type: ignore[misc]
        networks[name] = InferenceMember(checkpoint.load(out / name / "B_p16_m1.safetensors")[0], "float32", "cpu")
        value[name] = {
            "mflop": networks[name].operations / 1e6,
            "megabytes": (out / name / "B_p16_m1.safetensors").stat().st_size / 1e6,
            "validation_loss": metrics["validation_loss"],
            "test": found(out / name, options.pairs, "test"),
            **({"other_test": found(out / name, options.test, None)} if options.test else {}),
        }
        print(name, json.dumps(value[name]), flush=True)
    draws = torch.randn(20, BLUE.n_pixels) * 0.1
    seconds = dict.fromkeys(networks, np.inf)
    with torch.inference_mode():
        for _ in range(30):
            for name, network in networks.items():
                began = time.thread_time()
                network(draws)
                seconds[name] = min(seconds[name], time.thread_time() - began)
    for name, cost in seconds.items():
        value[name]["ms"] = 1e3 * cost
    ratio = seconds["first"] / seconds["default"] if {"first", "default"} <= set(seconds) else None
    print(
        json.dumps({"name": "networks", "value": value, "unit": "TPR at FPR 0.0013; ms for 20 draws", "ratio": ratio})
    )


if __name__ == "__main__":
    main()
