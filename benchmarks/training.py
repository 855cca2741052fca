"""Pairs per second of the trainer's step against the literal float32 step through the network's own modules.

Run ``python benchmarks/training.py``; one thread, made-up pairs of both arms, this thread's time on the processor,
steps of both in turn and the median of each. Both vary the spectra in the same way. The ratio compares float32 with
float32; where there is bfloat16, the steps that the trainer then takes are timed, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.models import training
from twinlines.models.augmentation import Augmentation
from twinlines.models.batches import Batch
from twinlines.models.network import NetworkConfig
from twinlines.models.precision import has_bfloat16
from twinlines.models.training import TrainingConfig
from twinlines.models.trainingstate import TrainingRun
from twinlines.models.vocabulary import ARMS
from twinlines.pipeline.arms import BLUE, RED


def literal(run: TrainingRun, config: TrainingConfig, batch: Batch) -> None:
    """One step as one would write it: modules, autograd, the loss of equation 7 for every head and penalty."""
    varied = config.augmentation(batch.flux, batch.snr)
    logits = run.network({arm: flux.flatten(0, 1) for arm, flux in varied.items()})
    loss = training.penalised_loss(logits, batch.label.flatten(), config.network.penalties)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    run.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--varied", action="store_true", help="with dilution and changed line strengths, too")
    options = parser.parse_args()
    environment = WORKER_ENVIRONMENT
    if any(os.environ.get(name) != value for name, value in environment.items()):
        # As the tasks of a local cluster run; the C library reads it when the process begins.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})
    torch.set_num_threads(1)
    augmentation = Augmentation(diluted=0.5, restrengthened=0.3, relined=0.3) if options.varied else Augmentation()
    network = NetworkConfig((BLUE.n_pixels, RED.n_pixels))
    config = TrainingConfig(network, precision="float32", augmentation=augmentation)
    mixed = replace(config, precision="mixed")
    rng = np.random.default_rng(0)
    count = config.batch_pairs
    stored = {
        arm: torch.from_numpy((1.0 - 0.2 * rng.random((count, 2, network.pixels_of(arm))) ** 8).astype(np.float32))
        for arm in ARMS
    }
    batch = Batch(stored, torch.tensor([0.0, 1.0]).repeat(count, 1), dict.fromkeys(ARMS, torch.full((count,), 50.0)))
    runs = {name: training._start(config, "cpu") for name in ("literal", "ours", "mixed")}
    dropout = np.random.Generator(np.random.SFC64(0))
    steps: dict[str, Callable[[], object]] = {
        "literal": lambda: literal(runs["literal"], config, batch),
        "ours": lambda: training._step(runs["ours"], config, batch, dropout),
        "variations": lambda: config.augmentation(batch.flux, batch.snr),
    }
    if has_bfloat16("cpu"):
        steps["mixed"] = lambda: training._step(runs["mixed"], mixed, batch, dropout)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.steps + 3):
        for name, step in steps.items():
            began = time.thread_time()
            step()
            if turn >= 3:
                seconds[name].append(time.thread_time() - began)
    median = {name: float(np.median(each)) for name, each in seconds.items()}
    baseline, value = median["literal"], median["ours"]
    print(
        json.dumps(
            {
                "name": "training",
                "value": value / count,
                "unit": "s per pair",
                "baseline": baseline / count,
                "ratio": baseline / value,
                "pairs_per_second": {name: count / each for name, each in median.items() if name != "variations"},
                "share_of_variations": median["variations"] / value,
                "steps": options.steps,
            }
        )
    )


if __name__ == "__main__":
    main()
