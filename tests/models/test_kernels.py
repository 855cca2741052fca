import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models import kernels
from twinlines.models.network import Network, NetworkConfig

CONFIGS = {
    "strided": NetworkConfig(331, (4, 6), (16, 16), (4, 4), (16, 8)),
    "red, three convolutions": NetworkConfig(353, (4, 6, 8), (8, 6, 3), (4, 2, 1), (12,)),
    "stride 1": NetworkConfig(130, (3, 4), (5, 5), (1, 1), (8, 4)),
    "one convolution": NetworkConfig(131, (3,), (6,), (3,), (8,)),
    "no seam": NetworkConfig(128, (4, 6), (4, 4), (4, 4), (8,)),
}


class _Masks(nn.Module):
    """Dropout with given masks."""

    def __init__(self, masks: list[Tensor], keep: float) -> None:
        super().__init__()
        self.masks, self.keep = masks, keep

    def forward(self, x: Tensor) -> Tensor:
        mask = self.masks.pop(0)
        if mask.ndim == 3:  # rows first there, channels first here
            mask = mask.transpose(1, 2).flatten(1)
        return x * mask / self.keep


def _learned(network: Network, logits: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss, and running statistics."""
    labels = (torch.arange(len(logits)) % 2).to(logits.dtype)
    functional.binary_cross_entropy_with_logits(logits, labels).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return found | {name: tensor for name, tensor in network.named_buffers() if tensor.is_floating_point()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_logits_gradients_and_statistics_are_the_networks(
    name: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    config = CONFIGS[name]
    config = NetworkConfig(config.n_pixels, config.filters, config.kernels, config.strides, config.dense, dropout)
    assert kernels.fits(config)
    network = Network(config).train()
    with torch.no_grad():
        for norm in (*network.convolution_norms, *network.dense_norms):
            assert isinstance(norm, nn.BatchNorm1d)
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.uniform_(-1.0, 1.0)
    literal = copy.deepcopy(network).double()
    flux = 1.0 + 0.1 * torch.randn(24, config.n_pixels)
    flux[0, 5], flux[1, 7] = 100.0, -100.0  # clipped

    masks: list[Tensor] = []
    drawn = kernels._kept

    def kept(*arguments: object) -> Tensor:
        masks.append(drawn(*arguments))  # type: ignore[arg-type]
        return masks[-1]

    monkeypatch.setattr(kernels, "_kept", kept)
    ours = kernels.logits(network, flux, np.random.default_rng(0))
    assert len(masks) == (len(config.dense) if dropout else 0)
    if dropout:
        literal.dropout = _Masks([mask.double() for mask in masks], 1.0 - dropout)  # type: ignore[assignment]
    theirs = literal(flux.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    mine, expected = _learned(network, ours), _learned(literal, theirs)
    assert mine.keys() == expected.keys()
    for key, value in expected.items():
        error = float((mine[key].double() - value).abs().max())
        assert error <= 1e-4 * float(value.abs().max()) + 1e-7, key
    batches = network.convolution_norms[0].num_batches_tracked
    assert isinstance(batches, Tensor)
    assert int(batches) == 1


def test_a_kernel_that_is_no_multiple_of_its_stride_does_not_fit() -> None:
    assert not kernels.fits(NetworkConfig(200, (4, 8), (8, 5), (4, 2)))


def test_dropout_keeps_what_it_should() -> None:
    kept = kernels._kept((300, 333), 0.7, np.random.default_rng(3))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert float(kept.mean()) == pytest.approx(0.7, abs=4 * 0.46 / 316)
    assert not torch.equal(kept[0], kept[1])
