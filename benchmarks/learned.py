"""What an ensemble has learned by heart: how it fares on pairs that trained it, and on others of the same set.

    python benchmarks/learned.py --pairs pairs.zarr [--weights W] [--count 16384]

Each member judges the first pairs of the training split, and as many of the other two together. A binary counts as
found at a false positive rate of 0.0013 (of the red arm 0.0016), on the single stars of the same pairs. The value is by
how much more J finds of its own, the mean over members; thresholds, in logit, tell what it knows of its own odd single
stars.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from twinlines.models import checkpoint
from twinlines.models.evaluation import PAPER_FPR, logits_of, threshold_at, tpr_at
from twinlines.models.pairs import DIGESTS, PairArrays, Part, load_pairs
from twinlines.models.vocabulary import HEADS, TEST, TRAIN, VALIDATION
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS

PENALTY = 16


def some(pairs: PairArrays, splits: tuple[int, ...], count: int) -> list[Part]:
    """The first so many pairs of splits, as many of each."""
    each = count // len(splits)
    return [part for split in splits for part in pairs.parts(split, min(each, pairs.count(split)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="a training store that the ensemble was trained on")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--count", type=int, default=16384, help="pairs of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = load_pairs(options.pairs)
    kinds = {"own": some(pairs, (TRAIN,), options.count), "others": some(pairs, (VALIDATION, TEST), options.count)}
    found: dict[str, dict[str, list[float]]] = {kind: {head: [] for head in HEADS} for kind in kinds}
    thresholds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for path in checkpoint.members(options.weights):
        network, header = checkpoint.load(path)
        if pairs.digest not in header.pairs.split(DIGESTS):
            raise SystemExit(f"{path} was not trained on {options.pairs}, as its header says; give a set that it was")
        place = network.config.penalties.index(PENALTY)
        for kind, parts in kinds.items():
            logits, label = logits_of(network, parts)
            for head in HEADS:
                found[kind][head].append(tpr_at(logits[head][..., place], label, PAPER_FPR[head]))
            single = np.sort(logits["J"][..., place][label < 0.5].numpy())
            thresholds[kind].append(threshold_at(single, PAPER_FPR["J"]))
        for head in HEADS:
            print(path.stem, head, f"own {found['own'][head][-1]:.4f}, others {found['others'][head][-1]:.4f}")
    mean = {kind: {head: float(np.mean(values)) for head, values in heads.items()} for kind, heads in found.items()}
    line = {
        "name": "learned",
        "value": mean["own"]["J"] - mean["others"]["J"],
        "unit": "TPR",
        "baseline": mean["others"]["J"],
        "ratio": mean["own"]["J"] / mean["others"]["J"],
        "pairs": options.count,
        "found": mean,
        "threshold_J": {kind: float(np.mean(values)) for kind, values in thresholds.items()},
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
