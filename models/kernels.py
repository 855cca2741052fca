"""A trunk's forward and backward pass for training in float32 on one core of a CPU: the same function, faster.

PyTorch's own path spends most of its time outside matrix products: in the backward pass of convolutions, in batch
normalisation, in drawing Bernoulli numbers and in changing layouts. Here

* activations keep channels last, all spectra of a batch one after another in one matrix (row, channel). A convolution
  of stride S over C channels is then one of stride 1 over rows of S C values, whose forward and input gradient are fast
  two-dimensional convolutions of a channels-last image of height 1, and whose weight gradient is a product of two
  views. Each spectrum owns ``period`` rows, of which the first are valid; what a kernel makes of the seam
  between two spectra lands in rows that are not, reaches no logit, and has no gradient;
* the statistics of the first normalisation follow from the second moments of the input's windows, a matrix of kernel
  by kernel: first convolution and normalisation are one convolution, and both gradients are small products;
* normalisation, activation and dropout of a later convolution are one step with a backward pass of its own.

Weights stay in the :class:`~twinlines.models.network.Trunk`, in its own layout, and its running statistics are kept.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models.network import NetworkConfig, Trunk

# Values of both operands of one product for a weight gradient: more than that leave the cache.
_VALUES = 1 << 20


def fits(config: NetworkConfig) -> bool:
    """Whether these kernels can compute a network: every kernel must be a multiple of its stride."""
    return all(kernel % stride == 0 for kernel, stride in zip(config.kernels, config.strides, strict=True))


def features(trunk: Trunk, flux: Tensor, generator: np.random.Generator) -> Tensor:
    """What ``trunk(flux)`` returns in training mode, differentiable by the trunk's parameters.

    Parameters
    ----------
    trunk
        A trunk that :func:`fits`, float32, on a CPU. Its running statistics are updated.
    flux
        (batch, pixel) float32, flux over continuum; needs no gradient.
    generator
        What dropout draws from.

    Returns
    -------
    Tensor
        (batch, feature).
    """
    config = trunk.config
    batch, valid, n_pixels = len(flux), trunk.lengths, flux.shape[1]
    step = math.prod(config.strides)
    period = -(-n_pixels // step) * step
    # Zeros follow the last spectrum, for windows that begin within it.
    pixels = flux.new_zeros(batch * period + config.kernels[0])
    x = pixels[: batch * period].view(batch, period)
    torch.sub(flux, 1.0, out=x[:, :n_pixels])
    pixels.clamp_(-config.clip, config.clip)
    keep = 1.0 - config.dropout
    last = len(valid) - 1
    for index, (convolution, norm) in enumerate(zip(trunk.convolutions, trunk.norms, strict=True)):
        assert isinstance(convolution, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        stride = convolution.stride[0]
        period //= stride
        sizes = _Sizes(batch, period, valid[index])
        rows = x.view(sizes.rows, -1)
        if index == 0:
            weight, bias = _folded(pixels, sizes, convolution, norm)
            x = _Convolution.apply(rows, weight, bias, stride, config.slope, sizes)  # type: ignore[no-untyped-call]
            if index == last:
                x = x.view(batch, period, -1)[:, : sizes.valid]
                x = x if keep == 1.0 else x * _kept(x.shape, keep, generator) / keep
        else:
            x = _Convolution.apply(rows, convolution.weight, None, stride, 1.0, sizes)  # type: ignore[no-untyped-call]
            weight, bias, mask = norm.weight, norm.bias, None
            if index == last and keep < 1.0:
                # What dropout divides by may stand before the activation, which is linear on either side of zero.
                weight, bias = weight / keep, bias / keep
                mask = _kept((batch, sizes.valid, x.shape[1]), keep, generator)
            x, mean, variance = _Normalisation.apply(  # type: ignore[no-untyped-call]
                x, weight, bias, norm.eps, config.slope, mask, sizes
            )
            x = x if index < last or mask is not None else x.view(batch, period, -1)[:, : sizes.valid]
            _remember(norm, mean, variance, sizes.n)
    x = x.reshape(batch, -1)
    for index, (dense, norm) in enumerate(zip(trunk.dense.layers, trunk.dense.norms, strict=True)):
        assert isinstance(dense, nn.Linear)
        weight = dense.weight
        if index == 0:  # the trunk flattens channels first; here they come last
            weight = weight.view(dense.out_features, -1, valid[-1]).transpose(1, 2).flatten(1)
        elif keep < 1.0:
            x = x * _kept(x.shape, keep, generator) / keep
        x = functional.leaky_relu(norm(functional.linear(x, weight)), config.slope)
    return x


class _Sizes(NamedTuple):
    """Where the rows of spectra lie in a matrix (row, channel)."""

    batch: int
    period: int
    valid: int

    @property
    def rows(self) -> int:
        """All rows."""
        return self.batch * self.period

    @property
    def n(self) -> int:
        """Valid rows."""
        return self.batch * self.valid


def _kept(shape: tuple[int, ...], keep: float, generator: np.random.Generator) -> Tensor:
    """1 where dropout keeps a value, which has probability ``keep`` to a part in 65,536, else 0."""
    size = math.prod(shape)
    words = generator.integers(0, 1 << 64, (size + 3) // 4, np.uint64).view(np.uint16)[:size]
    # NumPy compares, and torch converts, several times faster than the other.
    return torch.from_numpy(np.less(words, np.uint16(round(keep * 65536))).view(np.int8)).float().view(shape)


class _Convolution(torch.autograd.Function):
    """Rows (row, stride x channel) -> rows (row, filter): convolution, leaky ReLU; rows that are not valid are zero."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int, slope: float, sizes: _Sizes
    ) -> Tensor:
        filters, channels, kernel = weight.shape
        taps = kernel // stride
        # (filter, channel, tap, place in stride) -> (filter, place, channel), tap last, as the rows are laid out.
        blocks = weight.view(filters, channels, taps, stride).permute(0, 3, 1, 2).reshape(filters, -1, 1, taps)
        blocks = blocks.contiguous(memory_format=torch.channels_last)
        if channels == 1:  # quicker with its stride
            image = _image(rows.view(-1, 1))
            kernels = weight.as_strided((filters, 1, 1, kernel), (kernel, 1, kernel, 1))
            image = functional.conv2d(image, kernels, bias, (1, stride), (0, kernel - stride))
        else:
            image = functional.conv2d(_image(rows), blocks, bias, padding=(0, taps - 1))
        out = _rows(image)[taps - 1 :]
        out.view(sizes.batch, sizes.period, filters)[:, sizes.valid :] = 0.0
        if slope != 1.0:
            functional.leaky_relu_(out, slope)
        ctx.save_for_backward(rows, blocks, out if slope != 1.0 else None)
        ctx.shape, ctx.slope, ctx.has_bias = weight.shape, slope, bias is not None
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, blocks, out = ctx.saved_tensors
        filters, channels, kernel = ctx.shape
        width, taps = blocks.shape[1], blocks.shape[3]
        gradient = gradient.contiguous()
        if out is not None:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, out, ctx.slope, True)
        to_rows = None
        if ctx.needs_input_grad[0]:
            turned = blocks.transpose(0, 1).flip(3).contiguous(memory_format=torch.channels_last)
            to_rows = _rows(functional.conv2d(_image(gradient), turned, padding=(0, taps - 1)))[: len(rows)]
        total = gradient.new_zeros(filters, taps * width)
        end = len(rows) - taps + 1
        chunk = max(_VALUES // (width + filters) // taps, 1) * taps
        for start in range(0, end, chunk):
            for phase in range(start, min(start + taps, end)):
                count = -(-(min(start + chunk, end) - phase) // taps)
                # Windows of every taps-th row do not overlap, so that they are a matrix.
                mine = _windows(gradient, filters, count, phase * filters, taps * filters)
                total.addmm_(mine.t(), _windows(rows, taps * width, count, phase * width, taps * width))
        to_weight = total.view(filters, taps, kernel // taps, channels).permute(0, 3, 1, 2).reshape(ctx.shape)
        return to_rows, to_weight, gradient.sum(0) if ctx.has_bias else None, None, None, None


def _windows(rows: Tensor, width: int, count: int, offset: int, step: int) -> Tensor:
    """View of ``count`` windows of ``width`` consecutive values, ``step`` values apart."""
    return rows.as_strided((count, width), (step, 1), rows.storage_offset() + offset)


def _image(rows: Tensor) -> Tensor:
    """Rows (row, channel) as a channels-last image of height 1."""
    size = rows.numel()
    # Explicit strides, since those of a single channel would pass for another layout.
    return rows.as_strided((1, rows.shape[1], 1, len(rows)), (size, 1, size, rows.shape[1]))


def _rows(image: Tensor) -> Tensor:
    return image[0, :, 0].t().contiguous()


class _Normalisation(torch.autograd.Function):
    """Batch normalisation over valid rows, leaky ReLU, dropout: rows (row, channel) -> the same, mean, variance.

    With a mask (batch, valid row, channel), its shape is that of what is returned. Rows that are not valid are zero.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        slope: float,
        mask: Tensor | None,
        sizes: _Sizes,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.sum(0) / sizes.n
        active = x * x
        variance = (active.sum(0) / sizes.n - mean * mean).clamp_(min=0.0)
        rate = torch.rsqrt(variance + eps)
        scale = weight * rate
        torch.addcmul(bias - mean * scale, x, scale, out=active)
        functional.leaky_relu_(active, slope)
        out = active if mask is None else active.view(sizes.batch, sizes.period, -1)[:, : sizes.valid] * mask
        ctx.save_for_backward(x, active, weight, mean, rate, mask)
        ctx.slope, ctx.sizes = slope, sizes
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, active, weight, mean, rate, mask = ctx.saved_tensors
        sizes: _Sizes = ctx.sizes
        g = torch.empty_like(x)
        by_spectrum = g.view(sizes.batch, sizes.period, -1)
        by_spectrum[:, sizes.valid :] = 0.0
        gradient = gradient.view(sizes.batch, -1, x.shape[1])[:, : sizes.valid]
        if mask is None:
            by_spectrum[:, : sizes.valid] = gradient
        else:
            torch.mul(gradient, mask, out=by_spectrum[:, : sizes.valid])
        torch.ops.aten.leaky_relu_backward.grad_input(g, active, ctx.slope, True, grad_input=g)
        to_bias = g.sum(0)
        to_x = g * x
        to_weight = (to_x.sum(0) - mean * to_bias) * rate
        scale = weight * rate
        by_x = -scale * rate * to_weight / sizes.n
        torch.addcmul(-scale * to_bias / sizes.n - by_x * mean, x, by_x, out=to_x).addcmul_(g, scale)
        to_x.view(sizes.batch, sizes.period, -1)[:, sizes.valid :] = 0.0
        return to_x, to_weight, to_bias, None, None, None, None


def _folded(pixels: Tensor, sizes: _Sizes, convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the first convolution with its normalisation, for these deviations, spectrum by spectrum.

    The mean and variance of w . window over all windows are w . mean and w C w, where C is the windows' covariance.
    """
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    with torch.no_grad():
        step, taps = sizes.period * stride, kernel // stride
        x = pixels[: sizes.batch * step].view(sizes.batch, step)
        centre = x.sum(0)[: (sizes.valid - 1) * stride + kernel]
        centre = centre.as_strided((sizes.valid, kernel), (stride, 1)).sum(0).double() / sizes.n
        products = pixels.new_zeros(kernel, kernel)
        for phase in range(min(taps, sizes.rows)):
            windows = _windows(pixels, kernel, -(-(sizes.rows - phase) // taps), phase * stride, kernel)
            products.addmm_(windows.t(), windows)
        # Less those across the seams.
        seams = pixels.as_strided(
            (sizes.batch, sizes.period - sizes.valid, kernel), (step, stride, 1), sizes.valid * stride
        ).reshape(-1, kernel)
        covariance = products.addmm_(seams.t(), seams, alpha=-1.0).double() / sizes.n - centre[:, None] * centre
    weight = convolution.weight.view(-1, kernel)
    flat = weight.double()
    mean = flat @ centre
    variance = ((flat @ covariance) * flat).sum(1).clamp(min=0.0)
    _remember(norm, mean.detach().float(), variance.detach().float(), sizes.n)
    scale = norm.weight * torch.rsqrt(variance + norm.eps).float()
    return (weight * scale[:, None]).view(-1, 1, kernel), norm.bias - mean.float() * scale


def _remember(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, n: int) -> None:
    """Update running statistics as PyTorch does, with the unbiased variance."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (n / max(n - 1, 1)), norm.momentum)
