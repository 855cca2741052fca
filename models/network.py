"""The network, whole: normalised flux of one arm goes in, the logit of the binary probability comes out.

LeNet-5 without pooling (Zhang et al. 2022, section 3.1): convolutions, then dense layers, leaky ReLU of slope 0.01,
batch normalisation and dropout, a sigmoid at the end. The paper gives no sizes; ours are configuration. Strided
convolutions do the work of pooling without throwing values away. Knows neither wavelengths nor noise nor files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ARCHITECTURE = "strided-lenet-1"
"""Name of the architecture in this file; changed with every change that old weights would not survive."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of one network."""

    n_pixels: int
    """Pixels of one spectrum on the arm's grid."""
    filters: tuple[int, ...] = (16, 32, 64)
    """Filters of each convolution."""
    kernels: tuple[int, ...] = (16, 8, 4)
    """Kernel length of each convolution, pixels of its input."""
    strides: tuple[int, ...] = (4, 4, 4)
    """Stride of each convolution, pixels of its input."""
    dense: tuple[int, ...] = (128, 64)
    """Units of each dense layer before the last, which has one."""
    dropout: float = 0.0
    """Fraction of values dropped before each dense layer but the last, while training. None, since no training set so
    far was learned by heart: what is dropped then only slows learning (``docs/training.md``)."""
    slope: float = 0.01
    """Slope of the leaky ReLU below zero (equation 5)."""
    clip: float = 2.0
    """Largest deviation from the continuum that the network sees, in units of the continuum; no absorption line comes
    near it, so it only tames cosmic rays and emission that no synthetic spectrum has taught the network."""
    architecture: str = ARCHITECTURE
    """Name of the architecture that these sizes belong to."""

    def lengths(self) -> tuple[int, ...]:
        """Pixels that come out of each convolution.

        Raises
        ------
        ValueError
            If the sizes do not fit together or the spectrum is too short for them.
        """
        if not len(self.filters) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError(
                f"filters {self.filters}, kernels {self.kernels} and strides {self.strides} must be equally many, "
                "one or more"
            )
        lengths, length = [], self.n_pixels
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length - kernel) // stride + 1
            if length < 1:
                raise ValueError(
                    f"{self.n_pixels} pixels are too few for kernels {self.kernels} at strides {self.strides}"
                )
            lengths.append(length)
        return tuple(lengths)


PRESETS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "default": {},
    "first": {"filters": (16, 32), "kernels": (16, 16), "strides": (4, 4), "dense": (128, 64)},
    "small": {"filters": (8, 16), "kernels": (16, 8), "strides": (8, 4), "dense": (64, 32)},
    "wide": {"filters": (32, 64, 128), "kernels": (16, 8, 4), "strides": (4, 4, 4), "dense": (128, 64)},
    "lenet5": {"filters": (6, 16), "kernels": (5, 5), "strides": (1, 1), "dense": (120, 84)},
}
"""Sizes by name, where they are not the default ones; "lenet5" has stride 1, as the paper describes."""


class Network(nn.Module):
    """One member: (batch, pixel) normalised flux -> (batch,) logit.

    Every normalisation stands between a linear operation and its activation, where it can be folded into the former.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        lengths = config.lengths()
        self.convolutions = nn.ModuleList()
        self.convolution_norms = nn.ModuleList()
        channels = 1
        for filters, kernel, stride in zip(config.filters, config.kernels, config.strides, strict=True):
            # The bias would be undone by the normalisation.
            self.convolutions.append(nn.Conv1d(channels, filters, kernel, stride, bias=False))
            self.convolution_norms.append(nn.BatchNorm1d(filters))
            channels = filters
        self.dense = nn.ModuleList()
        self.dense_norms = nn.ModuleList()
        units = channels * lengths[-1]
        for size in config.dense:
            self.dense.append(nn.Linear(units, size, bias=False))
            self.dense_norms.append(nn.BatchNorm1d(size))
            units = size
        self.last = nn.Linear(units, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = nn.LeakyReLU(config.slope)

    def forward(self, flux: Tensor) -> Tensor:
        """Logits of spectra.

        Parameters
        ----------
        flux
            (batch, pixel), flux over continuum. The network works on flux - 1: the continuum is then zero, and low-
            precision numbers are finest where most pixels are.

        Returns
        -------
        Tensor
            (batch,) logits; NaN where a spectrum has a NaN.
        """
        x = (flux - 1.0).clamp(-self.config.clip, self.config.clip).unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.convolution_norms, strict=True):
            x = self.activation(norm(convolution(x)))
        x = x.flatten(1)
        for dense, norm in zip(self.dense, self.dense_norms, strict=True):
            x = self.activation(norm(dense(self.dropout(x))))
        logit: Tensor = self.last(x).squeeze(1)
        return logit

    def probability(self, flux: Tensor) -> Tensor:
        """Binary probabilities of spectra, (batch, pixel) -> (batch,), in [0, 1] (equation 6)."""
        return torch.sigmoid(self(flux).float())
