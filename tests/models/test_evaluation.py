import numpy as np
import pytest
import torch

from twinlines.models import evaluation

LABEL = np.array([[0, 1]], np.float32)


def test_rates_are_equations_10_and_11() -> None:
    logits = torch.tensor([[-1.0, 2.0], [0.0, 0.0], [1.0, -3.0], [-2.0, 0.1]])
    label = LABEL.repeat(4, axis=0)
    assert evaluation.rates(logits, label) == (0.5, 0.25)
    assert evaluation.rates(logits, label, threshold=0.8) == (0.25, 0.0)
    singles = torch.linspace(0, 1, 1000)
    many = torch.stack([singles, singles + 0.5], dim=1)
    assert evaluation.tpr_at(many, LABEL.repeat(1000, axis=0), 0.1) == pytest.approx(0.6, abs=2e-3)
    assert evaluation.tpr_at(many, LABEL.repeat(1000, axis=0), 0.0) == pytest.approx(0.5, abs=2e-3)


def test_a_pair_without_a_binary_counts_twice_as_single() -> None:
    logits = torch.tensor([[-1.0, 2.0], [3.0, 1.0]])
    label = np.array([[0, 1], [0, 0]], np.float32)
    assert evaluation.rates(logits, label) == (1.0, pytest.approx(2 / 3))
    assert evaluation.tpr_at(logits, label, 0.0) == 0.0
