"""Pairs per second of the trainer's step against the literal float32 step through the network's own modules.

Run ``python benchmarks/training.py``; one thread, made-up pairs of the blue arm, this thread's time on the processor,
steps of both in turn and the median of each. Both vary the spectra in the same way. Where there is bfloat16 the trainer
uses it; this compares float32 with float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import numpy as np
import torch

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.models import training
from twinlines.models.batches import Batch
from twinlines.models.network import NetworkConfig
from twinlines.models.training import TrainingConfig
from twinlines.models.trainingstate import TrainingRun
from twinlines.pipeline.arms import BLUE


def literal(run: TrainingRun, config: TrainingConfig, batch: Batch) -> None:
    """One step as one would write it: modules, autograd, the loss of equation 7."""
    logits = run.network(config.augmentation(batch.flux, batch.snr).flatten(0, 1))
    loss = training.penalised_cross_entropy(logits, batch.label.flatten(), config.penalty)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    run.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    environment = WORKER_ENVIRONMENT
    if any(os.environ.get(name) != value for name, value in environment.items()):
        # As the tasks of a local cluster run; the C library reads it when the process begins.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})
    torch.set_num_threads(1)
    config = TrainingConfig("B", 16, NetworkConfig(BLUE.n_pixels), precision="float32")
    rng = np.random.default_rng(0)
    shape = (config.batch_pairs, 2, config.network.n_pixels)
    stored = (1.0 - 0.2 * rng.random(shape) ** 8).astype(np.float16)
    labels = torch.tensor([0.0, 1.0]).repeat(len(stored), 1)
    snr = torch.full((len(stored),), 50.0)

    theirs, ours = (training._start(config, "cpu") for _ in range(2))
    dropout = np.random.Generator(np.random.SFC64(0))
    seconds: dict[str, list[float]] = {"literal": [], "ours": []}
    for step in range(options.steps + 3):
        batch = Batch(torch.from_numpy(stored).float(), labels, snr)
        began = time.thread_time()
        literal(theirs, config, batch)
        between = time.thread_time()
        training._step(ours, config, batch, dropout)
        ended = time.thread_time()
        if step >= 3:
            seconds["literal"].append(between - began)
            seconds["ours"].append(ended - between)
    baseline, value = (float(np.median(seconds[name])) for name in ("literal", "ours"))
    print(
        json.dumps(
            {
                "name": "training",
                "value": value / len(stored),
                "unit": "s per pair",
                "baseline": baseline / len(stored),
                "ratio": baseline / value,
                "pairs_per_second": len(stored) / value,
                "steps": options.steps,
            }
        )
    )


if __name__ == "__main__":
    main()
