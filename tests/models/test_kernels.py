import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models import kernels
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.vocabulary import ARMS

HEADS = {"head": (6,), "joint": (7, 5)}
CONFIGS = {
    "strided": NetworkConfig((331, 349), (8, 16), (4, 6), (16, 16), (4, 4), (), 16, **HEADS),  # type: ignore[arg-type]
    "three convolutions": NetworkConfig((353, 310), (16,), (4, 6, 8), (8, 6, 3), (4, 2, 1), (), 12, **HEADS),  # type: ignore[arg-type]
    "stride 1": NetworkConfig((130, 99), (16,), (3, 4), (5, 5), (1, 1), (), 8, **HEADS),  # type: ignore[arg-type]
    "one convolution": NetworkConfig((131, 130), (16,), (3,), (6,), (3,), (), 8, **HEADS),  # type: ignore[arg-type]
    "no seam": NetworkConfig((128, 256), (16,), (4, 6), (4, 4), (4, 4), (), 8, **HEADS),  # type: ignore[arg-type]
    "deep": NetworkConfig((128, 256), (16,), (4, 6), (4, 4), (4, 4), (9, 7), 8, **HEADS),  # type: ignore[arg-type]
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


def _learned(network: Network, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a loss of all heads and outputs, and running statistics."""
    every = torch.cat(list(logits.values()), dim=1)
    labels = ((torch.arange(len(every)) % 2).to(every.dtype))[:, None].expand_as(every)
    functional.binary_cross_entropy_with_logits(every, labels).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert len(found) == len(list(network.parameters()))
    return found | {name: tensor for name, tensor in network.named_buffers() if tensor.is_floating_point()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_logits_gradients_and_statistics_are_the_networks(
    name: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    config = replace(CONFIGS[name], dropout=dropout)
    assert kernels.fits(config)
    network = Network(config).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(-1.5, 1.5)
                module.bias.uniform_(-1.0, 1.0)
            if isinstance(module, nn.Dropout) and module is not network.trunks["B"].dense.dropout:  # type: ignore[union-attr]
                module.p = 0.0  # the heads', which are modules in both
    for arm in ARMS:
        network.trunk(arm).dense.dropout.p = dropout
    literal = copy.deepcopy(network).double()
    flux = {arm: 1.0 + 0.1 * torch.randn(24, config.pixels_of(arm)) for arm in ARMS}
    for each in flux.values():
        each[0, 5], each[1, 7] = 100.0, -100.0  # clipped

    masks: list[Tensor] = []
    drawn = kernels._kept

    def kept(*arguments: object) -> Tensor:
        masks.append(drawn(*arguments))  # type: ignore[arg-type]
        return masks[-1]

    monkeypatch.setattr(kernels, "_kept", kept)
    generator = np.random.default_rng(0)
    features = {arm: kernels.features(network.trunk(arm), flux[arm], generator) for arm in ARMS}
    ours = network.verdicts(features)
    layers = 1 + len(config.dense)
    assert len(masks) == (layers * len(ARMS) if dropout else 0)
    if dropout:
        for place, arm in enumerate(ARMS):
            mine = [mask.double() for mask in masks[place * layers : (place + 1) * layers]]
            literal.trunk(arm).dense.dropout = _Masks(mine, 1.0 - dropout)  # type: ignore[assignment]
    theirs = literal({arm: each.double() for arm, each in flux.items()})
    assert ours.keys() == theirs.keys()
    for head, logits in theirs.items():
        torch.testing.assert_close(ours[head].double(), logits, rtol=1e-5, atol=2e-5)
    learned, expected = _learned(network, ours), _learned(literal, theirs)
    assert learned.keys() == expected.keys()
    for key, value in expected.items():
        error = float((learned[key].double() - value).abs().max())
        assert error <= 1e-4 * float(value.abs().max()) + 1e-7, key
    for arm in ARMS:
        batches = network.trunk(arm).norms[0].num_batches_tracked
        assert isinstance(batches, Tensor)
        assert int(batches) == 1


def test_a_kernel_that_is_no_multiple_of_its_stride_does_not_fit() -> None:
    assert not kernels.fits(NetworkConfig((200, 200), filters=(4, 8), kernels=(8, 5), strides=(4, 2)))


def test_dropout_keeps_what_it_should() -> None:
    kept = kernels._kept((300, 333), 0.7, np.random.default_rng(3))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert float(kept.mean()) == pytest.approx(0.7, abs=4 * 0.46 / 316)
    assert not torch.equal(kept[0], kept[1])
