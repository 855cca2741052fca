"""A member made ready to judge: its network computes the same function, rewritten for speed.

What training needs and judging does not is gone: batch normalisations are folded into the weights before them, and the
arithmetic is float32 or bfloat16. Convolutions are two-dimensional over images of height 1 with channels last: a window
is then contiguous, and they run at the speed of a matrix product without a copy of the windows. Of the first one, the
pixels of a stride are taken for channels, so that it has as much to sum at once as the others. On a CPU the first dense
layer of a trunk is a convolution, too, whose window is the whole image: in float32 twice as fast as the product of
matrices that it is. A trunk is computed once for all heads and penalties. Knows neither noise nor draws.
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


@dataclass(frozen=True)
class Pixels:
    """Spectra as a first convolution takes them: within the clip, in its precision, in blocks of its stride."""

    clip: float
    """Largest deviation from the continuum that the network sees."""
    dtype: torch.dtype
    """Type of the values."""
    stride: int
    """Pixels of a block: from one window to the next."""
    blocks: int
    """Blocks of a spectrum: those at which later layers look."""

    def empty(self, batch: int, device: torch.device | None = None) -> Tensor:
        """Room for spectra (batch, block, pixel), that are nothing but continuum until they are filled in."""
        return torch.zeros((batch, self.blocks, self.stride), dtype=self.dtype, device=device)

    def fill(self, room: Tensor, deviation: Tensor) -> Tensor:
        """Lay out spectra given as flux - 1, (batch, pixel) float32, in ``room``, and return it."""
        pixels = min(self.blocks * self.stride, deviation.shape[1])
        room.view(len(room), -1)[:, :pixels] = deviation[:, :pixels].clamp(-self.clip, self.clip)
        return room

    def of(self, deviation: Tensor) -> Tensor:
        """Spectra given as flux - 1, (batch, pixel) float32, laid out in room of their own."""
        return self.fill(self.empty(len(deviation), deviation.device), deviation)


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
        channels, length = config.filters[-1], lengths[-1]
        self.activation = dtype.itemsize * max(a * b for a, b in zip(lengths, config.filters, strict=True))
        self.operations = 0

        def ready(images: Tensor) -> Tensor:
            return images.to(device, dtype).contiguous(memory_format=torch.channels_last)

        self.convolutions: list[tuple[Tensor, Tensor, int]] = []
        layers: list[tuple[Any, Any]] = [*zip(trunk.convolutions, trunk.norms, strict=True)]
        for count, (layer, norm) in zip(lengths, layers, strict=True):
            kernel, bias = _fold(layer, norm)
            self.operations += 2 * count * kernel.numel()
            stride = int(layer.stride[0])
            if not self.convolutions:
                kernel, stride = _in_blocks(kernel, stride), 1
                blocks = _needed(config, length) - 1 + kernel.shape[2]
                self.layout = Pixels(config.clip, dtype, kernel.shape[1], blocks)
            self.convolutions.append((ready(kernel.unsqueeze(2)), bias.to(device, dtype), stride))
        (weight, bias), *others = _folded_dense(trunk.dense)
        self.operations += 2 * sum(matrix.numel() for matrix, _ in [(weight, bias), *others])
        self._whole = torch.device(device).type == "cpu"
        if self._whole:
            weight = ready(weight.view(-1, channels, 1, length))
        else:
            weight = weight.view(-1, channels, length).transpose(1, 2).flatten(1).to(device, dtype).contiguous()
        self.dense = weight, bias.to(device, dtype)
        self.others = [(matrix.to(device, dtype).contiguous(), shift.to(device, dtype)) for matrix, shift in others]

    def __call__(self, spectra: Tensor) -> Tensor:
        """Features (batch, unit) of spectra laid out as :attr:`layout` says."""
        x = spectra.permute(0, 2, 1).unsqueeze(2)
        if x.shape[1] == 1:
            # Written out, because torch cannot tell that the layout of a single channel is channels last.
            batch, _, _, length = x.shape
            x = x.as_strided((batch, 1, 1, length), (length, 1, length, 1))
        for kernel, bias, stride in self.convolutions:
            x = functional.conv2d(x, kernel, bias, (1, stride))
            x = functional.leaky_relu_(x.contiguous(memory_format=torch.channels_last), self.slope)
        if self._whole:
            x = functional.conv2d(x, *self.dense).flatten(1)
        else:
            x = functional.linear(x.permute(0, 2, 3, 1).flatten(1), *self.dense)
        x = functional.leaky_relu_(x, self.slope)
        for weight, bias in self.others:
            x = functional.leaky_relu_(functional.linear(x, weight, bias), self.slope)
        return x


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


def _in_blocks(kernel: Tensor, stride: int) -> Tensor:
    """A first convolution's kernel (filter, 1, pixel) over blocks of its stride: (filter, pixel of a block, block).

    Zeros follow it to the end of its last block.
    """
    blocks = -(-kernel.shape[2] // stride)
    padded = functional.pad(kernel, (0, blocks * stride - kernel.shape[2]))
    return padded.view(len(kernel), blocks, stride).transpose(1, 2)


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
