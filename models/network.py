"""The network, whole: normalised flux of both arms goes in, logits of the binary probability come out.

LeNet-5 without pooling (Zhang et al. 2022, section 3.1) for each arm: convolutions, then dense layers, leaky ReLU of
slope 0.01, batch normalisation and dropout, a sigmoid at the end. The paper trains one such network for an arm and a
penalty. Ours is one for all of them: a *trunk* for each arm, and *heads* on what the trunks see, one for the blue arm,
one for the red and one for both (J), each with an output for every penalty. By equation 7 the outputs of a head differ
by a constant only, so that they cost next to nothing. The paper gives no sizes; ours are configuration. Strided
convolutions do the work of pooling without throwing values away. Knows neither wavelengths nor noise nor files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from twinlines.models.vocabulary import ARMS, JOINT

ARCHITECTURE = "two-arm-lenet-1"
"""Name of the architecture in this file; changed with every change that old weights would not survive."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of one network."""

    pixels: tuple[int, int]
    """Pixels of one spectrum on the blue arm's grid and on the red one's."""
    penalties: tuple[int, ...] = (8, 16, 32)
    """Penalties (Lambda of equation 7) for which every head has an output."""
    filters: tuple[int, ...] = (16, 32, 64)
    """Filters of each convolution of a trunk."""
    kernels: tuple[int, ...] = (16, 8, 4)
    """Kernel length of each convolution, pixels of its input."""
    strides: tuple[int, ...] = (4, 4, 4)
    """Stride of each convolution, pixels of its input."""
    dense: tuple[int, ...] = ()
    """Units of each dense layer of a trunk before the last. With one, what is looked for may depend on the star that is
    seen, arm by arm (``docs/training.md`` has what that buys)."""
    features: int = 128
    """Units of the dense layer that ends a trunk: what heads see of an arm."""
    head: tuple[int, ...] = (64,)
    """Units of each dense layer of an arm's head before the last, which has one for each penalty."""
    joint: tuple[int, ...] = (128, 64)
    """The same of the head of both arms."""
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

    def pixels_of(self, arm: str) -> int:
        """Pixels of a spectrum of an arm."""
        return self.pixels[ARMS.index(arm)]

    def lengths(self, arm: str) -> tuple[int, ...]:
        """Pixels that come out of each convolution of an arm's trunk.

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
        lengths, length = [], self.pixels_of(arm)
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = (length - kernel) // stride + 1
            if length < 1:
                raise ValueError(
                    f"{self.pixels_of(arm)} pixels are too few for kernels {self.kernels} at strides {self.strides}"
                )
            lengths.append(length)
        return tuple(lengths)


PRESETS: Mapping[str, Mapping[str, int | tuple[int, ...]]] = {
    "default": {},
    "small": {"filters": (8, 16), "kernels": (16, 8), "strides": (8, 4), "features": 64, "head": (32,), "joint": (64,)},
    "wide": {"filters": (32, 64, 128), "features": 256},
}
"""Sizes by name, where they are not the default ones."""


class Dense(nn.Module):
    """Dense layers, each with normalisation, activation, and dropout before it: (batch, unit) -> (batch, unit)."""

    def __init__(self, units: int, sizes: Sequence[int], config: NetworkConfig) -> None:
        super().__init__()
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for size in sizes:
            # The bias would be undone by the normalisation.
            self.layers.append(nn.Linear(units, size, bias=False))
            self.norms.append(nn.BatchNorm1d(size))
            units = size
        self.units = units
        self.dropout, self.activation = nn.Dropout(config.dropout), nn.LeakyReLU(config.slope)

    def forward(self, x: Tensor) -> Tensor:
        """Values of the last layer, (batch, unit) -> (batch, unit)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(self.dropout(x))))
        return x


class Trunk(nn.Module):
    """What an arm shows: (batch, pixel) normalised flux -> (batch, feature).

    Every normalisation stands between a linear operation and its activation, where it can be folded into the former.
    """

    def __init__(self, arm: str, config: NetworkConfig) -> None:
        super().__init__()
        self.config, self.lengths = config, config.lengths(arm)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        channels = 1
        for filters, kernel, stride in zip(config.filters, config.kernels, config.strides, strict=True):
            self.convolutions.append(nn.Conv1d(channels, filters, kernel, stride, bias=False))
            self.norms.append(nn.BatchNorm1d(filters))
            channels = filters
        self.dense = Dense(channels * self.lengths[-1], (*config.dense, config.features), config)
        self.activation = nn.LeakyReLU(config.slope)

    def forward(self, flux: Tensor) -> Tensor:
        """Features of spectra.

        Parameters
        ----------
        flux
            (batch, pixel), flux over continuum. The network works on flux - 1: the continuum is then zero, and low-
            precision numbers are finest where most pixels are.

        Returns
        -------
        Tensor
            (batch, feature); NaN where a spectrum has a NaN.
        """
        x = (flux - 1.0).clamp(-self.config.clip, self.config.clip).unsqueeze(1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.activation(norm(convolution(x)))
        features: Tensor = self.dense(x.flatten(1))
        return features


class Head(nn.Module):
    """What features mean: (batch, feature) -> (batch, penalty) logits."""

    def __init__(self, features: int, sizes: Sequence[int], config: NetworkConfig) -> None:
        super().__init__()
        self.dense = Dense(features, sizes, config)
        self.last = nn.Linear(self.dense.units, len(config.penalties))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, penalty)."""
        logits: Tensor = self.last(self.dense(features))
        return logits


class Network(nn.Module):
    """One member: flux of either arm, (batch, pixel) -> logits of each head, (batch, penalty)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunks = nn.ModuleDict({arm: Trunk(arm, config) for arm in ARMS})
        self.heads = nn.ModuleDict({arm: Head(config.features, config.head, config) for arm in ARMS})
        self.heads[JOINT] = Head(len(ARMS) * config.features, config.joint, config)

    def forward(self, flux: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of spectra.

        Parameters
        ----------
        flux
            By arm, (batch, pixel) flux over continuum of the same exposures.

        Returns
        -------
        dict
            By head, (batch, penalty) logits; the head of both arms only if both are there.
        """
        return self.verdicts({arm: self.trunks[arm](flux[arm]) for arm in ARMS if arm in flux})

    def trunk(self, arm: str) -> Trunk:
        """The trunk of an arm."""
        trunk = self.trunks[arm]
        assert isinstance(trunk, Trunk)
        return trunk

    def verdicts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of each head, (batch, penalty), by what trunks see of the same exposures, (batch, feature) by arm."""
        logits = {arm: self.heads[arm](seen) for arm, seen in features.items()}
        if all(arm in features for arm in ARMS):
            logits[JOINT] = self.heads[JOINT](torch.cat([features[arm] for arm in ARMS], dim=1))
        return logits
