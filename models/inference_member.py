"""A member made ready to judge: its network computes the same function, rewritten for speed.

What training needs and judging does not is gone: batch normalisations are folded into the weights before them, and the
arithmetic is float32 or bfloat16. The first convolution is a matrix product over its windows, which are laid out once
for all members. Every other one is two-dimensional over images of height 1 with channels last: its windows are then
contiguous, and it runs at the speed of a matrix product without a copy of them. The first dense layer's weights are
permuted to match, so that nothing is ever transposed. A trunk is computed once for all heads and penalties. Knows
neither noise nor draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models.network import Dense, Network, NetworkConfig, Trunk
from twinlines.models.precision import PrecisionName
from twinlines.models.vocabulary import ARMS, JOINT

_MOST_COPIES = 4
"""In so many windows a pixel may stand; at stride 1, a product over windows takes longer than a convolution."""


@dataclass(frozen=True)
class Pixels:
    """Spectra as a first convolution takes them: within the clip, in its precision."""

    clip: float
    """Largest deviation from the continuum that the network sees."""
    dtype: torch.dtype
    """Type of the values."""

    def empty(self, batch: int, pixels: int, device: torch.device | None = None) -> Tensor:
        """Room for spectra (batch, pixel), that are nothing but continuum until they are filled in."""
        return torch.zeros((batch, pixels), dtype=self.dtype, device=device)

    def fill(self, room: Tensor, deviation: Tensor) -> Tensor:
        """Lay out spectra given as flux - 1, (batch, pixel) float32, in ``room``, and return it."""
        room[:] = deviation.clamp(-self.clip, self.clip)
        return room

    def of(self, deviation: Tensor) -> Tensor:
        """Spectra given as flux - 1, (batch, pixel) float32, laid out in room of their own."""
        batch, pixels = deviation.shape
        return self.fill(self.empty(batch, pixels, deviation.device), deviation)


@dataclass(frozen=True)
class Windows(Pixels):
    """Spectra as a matrix product takes them that does a first convolution: a row for each window."""

    kernel: int
    """Pixels of a window."""
    stride: int
    """Pixels from one window to the next."""
    count: int
    """Windows of a spectrum: those at which later layers look."""

    @property
    def columns(self) -> int:
        """Values of a row: the window, and a one that the bias multiplies; an even number, as bfloat16's units like."""
        return (self.kernel + 2) // 2 * 2

    def empty(self, batch: int, pixels: int, device: torch.device | None = None) -> Tensor:
        """Room for the windows (batch, window, column) of spectra."""
        room = torch.zeros((batch, self.count, self.columns), dtype=self.dtype, device=device)
        room[..., -1] = 1.0
        return room

    def fill(self, room: Tensor, deviation: Tensor) -> Tensor:
        """Lay out spectra given as flux - 1, (batch, pixel) float32, in ``room``, and return it."""
        pixels = (self.count - 1) * self.stride + self.kernel
        clipped = deviation[:, :pixels].clamp(-self.clip, self.clip)
        room[..., : self.kernel] = clipped.unfold(1, self.kernel, self.stride)
        return room

    def matrix(self, kernel: Tensor, bias: Tensor) -> Tensor:
        """What such a row is multiplied by, (column, filter), of a convolution's (filter, 1, pixel) and its bias."""
        matrix = kernel.new_zeros((self.columns, len(bias)))
        matrix[: self.kernel] = kernel[:, 0].T
        matrix[-1] = bias
        return matrix.to(self.dtype)


class InferenceTrunk:
    """A trunk for inference: normalisations folded, products in the precision, sums in float32."""

    layout: Pixels
    """How it wants spectra laid out; trunks that want the same may share them."""
    activation: int
    """Bytes of the largest layer's values, for a spectrum."""
    operations: int
    """Multiplications and additions of one pass of one spectrum, activations aside."""

    def __init__(self, trunk: Trunk, dtype: torch.dtype, device: str | torch.device) -> None:
        config, lengths = trunk.config, trunk.lengths
        self.slope = config.slope
        self.layout = Pixels(config.clip, dtype)
        if torch.device(device).type == "cpu" and config.kernels[0] <= _MOST_COPIES * config.strides[0]:
            needed = _needed(config, lengths[-1])
            self.layout = Windows(config.clip, dtype, config.kernels[0], config.strides[0], needed)
        channels, length = config.filters[-1], lengths[-1]
        self.activation = dtype.itemsize * max(a * b for a, b in zip(lengths, config.filters, strict=True))
        self.convolutions: list[tuple[Tensor, Tensor, int]] = []
        layers: list[tuple[Any, Any]] = [*zip(trunk.convolutions, trunk.norms, strict=True)]
        for layer, norm in layers:
            kernel, bias = _fold(layer, norm)
            if not self.convolutions and isinstance(self.layout, Windows):
                self._first = self.layout.matrix(kernel, bias)
            images = kernel.unsqueeze(2).to(device, dtype).contiguous(memory_format=torch.channels_last)
            self.convolutions.append((images, bias.to(device, dtype), int(layer.stride[0])))
        (weight, bias), *_ = _folded_dense(trunk.dense)
        weight = weight.view(-1, channels, length).transpose(1, 2).flatten(1)
        self.dense = weight.to(device, dtype).contiguous(), bias.to(device, dtype)
        products = sum(n * kernel.numel() for n, (kernel, _, _) in zip(lengths, self.convolutions, strict=True))
        self.operations = 2 * (products + weight.numel())

    def __call__(self, spectra: Tensor) -> Tensor:
        """Features (batch, unit) of spectra laid out as :attr:`layout` says."""
        batch, length = spectra.shape[:2]
        convolutions = self.convolutions
        if isinstance(self.layout, Windows):
            rows = torch.mm(spectra.flatten(0, 1), self._first)
            x = functional.leaky_relu_(rows, self.slope).view(batch, 1, length, -1).permute(0, 3, 1, 2)
            convolutions = convolutions[1:]
        else:
            # One channel: written out, because torch cannot tell that the layout is channels last.
            x = spectra.as_strided((batch, 1, 1, length), (length, 1, length, 1))
        for kernel, bias, stride in convolutions:
            x = functional.conv2d(x, kernel, bias, (1, stride))
            x = functional.leaky_relu_(x.contiguous(memory_format=torch.channels_last), self.slope)
        flat = x.permute(0, 2, 3, 1).reshape(batch, -1)
        return functional.leaky_relu_(functional.linear(flat, *self.dense), self.slope)


class InferenceMember:
    """A member for inference: a trunk for each arm, and the heads on what they see."""

    config: NetworkConfig
    """Sizes."""
    precision: PrecisionName
    """Arithmetic."""

    def __init__(self, network: Network, precision: PrecisionName, device: str | torch.device) -> None:
        self.config, self.precision = network.config, precision
        self.slope = network.config.slope
        dtype = torch.bfloat16 if precision == "mixed" else torch.float32
        trunks: dict[str, Any] = dict(network.trunks.items())
        heads: dict[str, Any] = dict(network.heads.items())
        self.trunks = {arm: InferenceTrunk(trunk, dtype, device) for arm, trunk in trunks.items()}
        self.heads = {
            name: [
                (weight.to(device, dtype).contiguous(), bias.to(device, dtype))
                for weight, bias in [*_folded_dense(head.dense), _fold(head.last, None)]
            ]
            for name, head in heads.items()
        }

    @property
    def activation(self) -> int:
        """Bytes of the largest layer's values, for a spectrum of the arm where that is most."""
        return max(trunk.activation for trunk in self.trunks.values())

    @property
    def operations(self) -> int:
        """Multiplications and additions of one pass of an exposure, both arms and all heads, activations aside."""
        heads = sum(weight.numel() for layers in self.heads.values() for weight, _ in layers)
        return sum(trunk.operations for trunk in self.trunks.values()) + 2 * heads

    def __call__(self, deviation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits (batch, penalty) float32, by head, of spectra given by arm as flux - 1, (batch, pixel)."""
        trunks = {arm: self.trunks[arm] for arm in ARMS if arm in deviation}
        return self.verdicts({arm: trunk(trunk.layout.of(deviation[arm])) for arm, trunk in trunks.items()})

    def verdicts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits (batch, penalty) float32, by head, of what the trunks of some arms saw, (batch, unit)."""
        logits = {arm: self._logits(arm, seen) for arm, seen in features.items()}
        if all(arm in features for arm in ARMS):
            logits[JOINT] = self._logits(JOINT, torch.cat([features[arm] for arm in ARMS], dim=1))
        return logits

    def _logits(self, head: str, x: Tensor) -> Tensor:
        *hidden, (last, shift) = self.heads[head]
        for weight, bias in hidden:
            x = functional.leaky_relu_(functional.linear(x, weight, bias), self.slope)
        return functional.linear(x, last, shift).float()


def _needed(config: NetworkConfig, count: int) -> int:
    """Values of the first convolution from which all ``count`` values of the last one follow."""
    for kernel, stride in list(zip(config.kernels, config.strides, strict=True))[:0:-1]:
        count = (count - 1) * stride + kernel
    return count


def _folded_dense(dense: Dense) -> Sequence[tuple[Tensor, Tensor]]:
    layers: list[tuple[Any, Any]] = [*zip(dense.layers, dense.norms, strict=True)]
    return [_fold(layer, norm) for layer, norm in layers]


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
