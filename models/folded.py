"""A member made ready to judge: normalisations folded, channels last, the precision chosen.

Every convolution is a two-dimensional one over images of height 1 with channels last: its windows are then contiguous,
and it runs at the speed of a matrix product without a copy of its windows. The first dense layer's weights are
permuted to match, so that nothing is ever transposed. Knows neither noise nor draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models.network import Network
from twinlines.models.precision import PrecisionName


class FoldedNetwork:
    """A member for inference: normalisations folded, the rest after the first convolution in the precision."""

    clip: float
    """Largest deviation from the continuum that the network sees."""
    units: int
    """Values that come out of the last convolution, for a spectrum."""
    dtype: torch.dtype
    """Type of what comes out of the convolutions."""
    operations: int
    """Multiplications and additions of one forward pass of one spectrum, activations aside."""

    def __init__(self, network: Network, precision: PrecisionName, device: str | torch.device) -> None:
        config = network.config
        self.clip = config.clip
        self.slope = config.slope
        self.dtype = torch.bfloat16 if precision == "mixed" else torch.float32
        lengths = config.lengths()
        channels, length = config.filters[-1], lengths[-1]
        self.units = channels * length
        self.convolutions: list[tuple[Tensor, Tensor, int]] = []
        layers: list[tuple[Any, Any]] = [*zip(network.convolutions, network.convolution_norms, strict=True)]
        for layer, norm in layers:
            # The first sees the spectrum itself, whose lines may be shallower than a bfloat16's last bit is wide.
            dtype = self.dtype if self.convolutions else torch.float32
            kernel, bias = _fold(layer, norm)
            images = kernel.unsqueeze(2).to(device, dtype).contiguous(memory_format=torch.channels_last)
            self.convolutions.append((images, bias.to(device, dtype), int(layer.stride[0])))
        self.dense: list[tuple[Tensor, Tensor]] = []
        layers = [*zip(network.dense, network.dense_norms, strict=True), (network.last, None)]
        for layer, norm in layers:
            weight, bias = _fold(layer, norm)
            if not self.dense:
                weight = weight.view(-1, channels, length).transpose(1, 2).flatten(1)
            self.dense.append((weight.to(device, self.dtype).contiguous(), bias.to(device, self.dtype)))
        products = sum(n * kernel.numel() for n, (kernel, _, _) in zip(lengths, self.convolutions, strict=True))
        self.operations = 2 * (products + sum(weight.numel() for weight, _ in self.dense))

    def __call__(self, deviation: Tensor) -> Tensor:
        """Logits (batch,) float32 of spectra given as flux - 1, (batch, pixel)."""
        return self.logits(self.features(deviation.clamp(-self.clip, self.clip)))

    def features(self, clipped: Tensor) -> Tensor:
        """What comes out of the last convolution, (batch, unit), of float32 deviations within the clip."""
        batch, pixels = clipped.shape
        # One channel: written out, because torch cannot tell that the layout is channels last.
        x = clipped.contiguous().as_strided((batch, 1, 1, pixels), (pixels, 1, pixels, 1))
        for kernel, bias, stride in self.convolutions:
            x = functional.conv2d(x.to(kernel.dtype), kernel, bias, (1, stride))
            x = functional.leaky_relu_(x.contiguous(memory_format=torch.channels_last), self.slope)
        return x.to(self.dtype).permute(0, 2, 3, 1).reshape(batch, -1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (batch,) float32 of what :meth:`features` made."""
        return apply_dense(features, self.dense, self.slope)


def apply_dense(features: Tensor, dense: Sequence[tuple[Tensor, Tensor]], slope: float) -> Tensor:
    """Logits (batch,) float32 of features (batch, unit) by dense layers, each a weight (out, in) and a bias."""
    *hidden, (last, bias) = dense
    x = features
    for weight, shift in hidden:
        x = functional.leaky_relu_(functional.linear(x, weight, shift), slope)
    return functional.linear(x, last, bias).squeeze(1).float()


def _fold(layer: Any, norm: nn.BatchNorm1d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a layer followed by its normalisation in evaluation mode."""
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    if norm is None:
        return weight, bias
    state = {name: tensor.detach().double() for name, tensor in norm.state_dict().items()}
    scale = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    shifted = state["bias"] + (bias - state["running_mean"]) * scale
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shifted
