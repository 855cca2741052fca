import pytest
import torch

from twinlines.models import evaluation


def test_rates_are_equations_10_and_11() -> None:
    logits = torch.tensor([[-1.0, 2.0], [0.0, 0.0], [1.0, -3.0], [-2.0, 0.1]])
    assert evaluation.rates(logits) == (0.5, 0.25)
    assert evaluation.rates(logits, threshold=0.8) == (0.25, 0.0)
    singles = torch.linspace(0, 1, 1000)
    many = torch.stack([singles, singles + 0.5], dim=1)
    assert evaluation.tpr_at(many, 0.1) == pytest.approx(0.6, abs=2e-3)
    assert evaluation.tpr_at(many, 0.0) == pytest.approx(0.5, abs=2e-3)
