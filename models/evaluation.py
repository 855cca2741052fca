"""How well a network tells pairs apart: true and false positive rates (Zhang et al. 2022, section 3.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.network import Network
from twinlines.models.pairs import TEST, PairArrays

FIXED_FPR = 1.0e-3
"""False positive rate at which ``tpr_at_fpr_0.001`` is measured: about the paper's at penalty 16 (Table 3)."""


def logits_of(network: Network, flux: NDArray[np.floating[Any]], batch: int = 128) -> Tensor:
    """Logits, float32 on the CPU, of pairs (pair, 2, pixel) -> (pair, 2)."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    with torch.inference_mode():
        parts = []
        for start in range(0, len(flux), batch):
            spectra = torch.from_numpy(np.ascontiguousarray(flux[start : start + batch])).to(device).float()
            parts.append(network(spectra.flatten(0, 1)).view(-1, 2).cpu())
    network.train(training)
    return torch.cat(parts)


def rates(logits: Tensor, label: NDArray[np.float32], threshold: float = 0.5) -> tuple[float, float]:
    """True and false positive rate (equations 11 and 10) at a threshold in probability.

    Parameters
    ----------
    logits, label
        (pair, 2) logits and labels of the spectra.
    threshold
        Probability above which a spectrum counts as a binary's.
    """
    positive = torch.sigmoid(logits.double()) > threshold
    truth = torch.from_numpy(label) > 0.5
    return float(positive[truth].double().mean()), float(positive[~truth].double().mean())


def tpr_at(logits: Tensor, label: NDArray[np.float32], fpr: float) -> float:
    """True positive rate at the lowest threshold of a false positive rate up to ``fpr``; both arrays (pair, 2)."""
    truth = torch.from_numpy(label) > 0.5
    singles, _ = logits[~truth].sort(descending=True)
    threshold = singles[min(int(fpr * len(singles)), len(singles) - 1)]
    return float((logits[truth] > threshold).double().mean())


def evaluate(network: Network, pairs: PairArrays, split: int = TEST, threshold: float = 0.5) -> tuple[float, float]:
    """True and false positive rate of a network on a split of pairs (equations 11 and 10).

    Raises
    ------
    PairsError
        If there are no such pairs.
    """
    found = pairs.read(split)
    return rates(logits_of(network, found.flux), found.label, threshold)


def named_rates(split: str, logits: Tensor, label: NDArray[np.float32]) -> dict[str, float]:
    """Rates of a split's logits (pair, 2) under the names that a member's metrics have."""
    tpr, fpr = rates(logits, label)
    return {
        f"{split}_tpr": tpr,
        f"{split}_fpr": fpr,
        f"{split}_tpr_at_fpr_{FIXED_FPR:g}": tpr_at(logits, label, FIXED_FPR),
    }
