"""Members x draws -> probabilities and their percentiles: the hot loop of the whole system.

Each spectrum gets noise once per draw (:mod:`twinlines.models.noise`), which every member and penalty shares, and each
member judges each draw: the values of equation 9, whose percentiles the catalog keeps (Zhang et al. 2022, section 3.3).

The result of a spectrum depends on no other spectrum, bit for bit: one tile is the draws of one spectrum, whatever else
the call holds, because libraries choose their summation order by shape. On a CPU core that is also the fastest tile:
its activations stay in the cache (0.19 ms a spectrum for a first convolution, 1.1 ms in tiles of sixteen spectra).
Knows no survey and no cluster; the number of threads is the caller's business, and one a process is best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twinlines.models import checkpoint
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.network import Network
from twinlines.models.noise import normal
from twinlines.models.precision import PrecisionName, resolve

PERCENTILES = (0, 16, 50, 84, 100)
"""Percentiles of the values that the paper keeps (section 4.1)."""


class EnsembleError(ValueError):
    """An ensemble cannot judge what it is given."""


@dataclass(frozen=True)
class _Affine:
    """A convolution or dense layer with its normalisation folded in."""

    weight: Tensor
    bias: Tensor
    stride: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.stride:
            return functional.conv1d(x, self.weight, self.bias, self.stride)
        return functional.linear(x, self.weight, self.bias)


def _fold(layer: nn.Conv1d | nn.Linear, norm: nn.BatchNorm1d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a layer followed by its normalisation in evaluation mode."""
    weight = layer.weight.detach().double()
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    if norm is None:
        return weight, bias
    state = {name: tensor.detach().double() for name, tensor in norm.state_dict().items()}
    scale = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    shifted = state["bias"] + (bias - state["running_mean"]) * scale
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shifted


class FoldedNetwork:
    """A member for inference: normalisations folded, the rest after the first convolution in the precision."""

    def __init__(self, network: Network, precision: PrecisionName, device: str | torch.device) -> None:
        self.clip = network.config.clip
        self.slope = network.config.slope
        self.dtype = torch.bfloat16 if precision == "mixed" else torch.float32
        pairs: list[tuple[Any, Any]] = [
            *zip(network.convolutions, network.convolution_norms, strict=True),
            *zip(network.dense, network.dense_norms, strict=True),
            (network.last, None),
        ]
        layers = []
        for index, (layer, norm) in enumerate(pairs):
            dtype = self.dtype if index else torch.float32
            weight, bias = (tensor.to(device, dtype).contiguous() for tensor in _fold(layer, norm))
            layers.append(_Affine(weight, bias, layer.stride[0] if isinstance(layer, nn.Conv1d) else 0))
        self.first, *self.convolutions = (layer for layer in layers if layer.stride)
        *self.dense, self.last = (layer for layer in layers if not layer.stride)

    def __call__(self, deviation: Tensor) -> Tensor:
        """Logits (batch,) float32 of spectra given as flux - 1, (batch, pixel)."""
        x = deviation.clamp(-self.clip, self.clip).unsqueeze(1)
        x = functional.leaky_relu_(self.first(x), self.slope).to(self.dtype)
        for layer in self.convolutions:
            x = functional.leaky_relu_(layer(x), self.slope)
        x = x.flatten(1)
        for layer in self.dense:
            x = functional.leaky_relu_(layer(x), self.slope)
        return self.last(x).squeeze(1).float()


@dataclass(frozen=True)
class Ensemble:
    """The members of all arms and penalties, ready to judge spectra."""

    members: dict[str, dict[int, tuple[FoldedNetwork, ...]]]
    """Members by arm and penalty, in the order of their numbers."""
    pixels: dict[str, int]
    """Pixels of a spectrum, by arm."""
    digest: str
    """Content hash of the folder; see :func:`twinlines.models.checkpoint.digest`."""
    precision: PrecisionName
    """Arithmetic in use: "mixed" (bfloat16 after the first convolution) or "float32"."""
    device: str
    """Device in use, as torch names it."""

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", precision: str = "float32", arms: Sequence[str] = ("B", "R")
    ) -> Ensemble:
        """Load the ensemble in a folder.

        Parameters
        ----------
        folder
            Folder of files ``<arm>_p<penalty>_m<member>.safetensors``.
        device
            Where to judge, as torch names it.
        precision
            "float32", or "mixed": bfloat16 after the first convolution where the device has it, else float32.
        arms
            Arms that must be there.

        Raises
        ------
        CheckpointError
            If there is no such folder, it lacks an arm, or a file is damaged, misnamed or not for this code.
        """
        folder = Path(folder)
        used = resolve(precision, device)
        found: dict[str, dict[int, dict[int, FoldedNetwork]]] = {}
        pixels: dict[str, int] = {}
        for path in checkpoint.members(folder):
            network, header = checkpoint.load(path)
            if path.stem != header.stem:
                raise CheckpointError(f"{path} calls itself {header.stem} inside; give it its name back")
            wanted = pixels.setdefault(header.arm, network.config.n_pixels)
            if wanted != network.config.n_pixels:
                raise CheckpointError(
                    f"{path} takes {network.config.n_pixels} pixels, other members of arm {header.arm} take {wanted}"
                )
            group = found.setdefault(header.arm, {}).setdefault(header.penalty, {})
            group[header.member] = FoldedNetwork(network, used, device)
        lacking = [arm for arm in arms if arm not in found]
        if lacking:
            raise CheckpointError(f"{folder} has no member for arm {', '.join(lacking)}; it has {sorted(found)}")
        members = {
            arm: {penalty: tuple(group[m] for m in sorted(group)) for penalty, group in sorted(penalties.items())}
            for arm, penalties in found.items()
        }
        return cls(members, pixels, checkpoint.digest(folder), used, device)

    def penalties(self, arm: str) -> tuple[int, ...]:
        """Penalties of an arm's members, ascending."""
        return tuple(self._of(arm))

    def values(
        self,
        arm: str,
        flux: NDArray[np.float32],
        sigma: NDArray[np.float32],
        keys: NDArray[np.int64],
        *,
        seed: int = 0,
        n_draws: int = 20,
    ) -> dict[int, NDArray[np.float32]]:
        """Binary probabilities of every draw by every member: the set in equation 9.

        Parameters
        ----------
        arm
            Arm of the spectra.
        flux, sigma
            (spectrum, pixel) flux over continuum and its standard deviation; a spectrum with a value that is not
            finite is not judged.
        keys
            (spectrum, 2) obsid and lmjm.
        seed
            Seed of the noise.
        n_draws
            Draws of each spectrum.

        Returns
        -------
        dict
            By penalty, (spectrum, draw x member) float32, member varying fastest; NaN where not judged.

        Raises
        ------
        EnsembleError
            If the ensemble has no such arm, or the shapes do not fit.
        """
        members = self._of(arm)
        if n_draws < 1:
            raise EnsembleError(f"{n_draws} draws are too few; ask for one or more")
        out = {
            penalty: np.full((len(flux), n_draws * len(group)), np.nan, np.float32)
            for penalty, group in members.items()
        }
        with torch.inference_mode():
            for row, noisy in self._draws(arm, flux, sigma, keys, seed, n_draws):
                for penalty, group in members.items():
                    logits = torch.stack([member(noisy) for member in group], dim=1)
                    out[penalty][row] = torch.sigmoid(logits).flatten().cpu().numpy()
        return out

    def percentiles(
        self,
        arm: str,
        flux: NDArray[np.float32],
        sigma: NDArray[np.float32],
        keys: NDArray[np.int64],
        *,
        seed: int = 0,
        n_draws: int = 20,
        percentiles: Sequence[float] = PERCENTILES,
    ) -> dict[int, NDArray[np.float32]]:
        """Percentiles of :meth:`values` (equation 9), interpolated linearly.

        Returns
        -------
        dict
            By penalty, (spectrum, percentile) float32; NaN where not judged.
        """
        values = self.values(arm, flux, sigma, keys, seed=seed, n_draws=n_draws)
        return {
            penalty: np.percentile(each, percentiles, axis=1, method="linear").T.astype(np.float32)
            for penalty, each in values.items()
        }

    def _of(self, arm: str) -> dict[int, tuple[FoldedNetwork, ...]]:
        if arm not in self.members:
            raise EnsembleError(f"the ensemble has no member for arm {arm!r}; it has {sorted(self.members)}")
        return self.members[arm]

    def _draws(
        self,
        arm: str,
        flux: NDArray[np.float32],
        sigma: NDArray[np.float32],
        keys: NDArray[np.int64],
        seed: int,
        n_draws: int,
    ) -> Iterator[tuple[int, Tensor]]:
        """Rows that can be judged, each with its noisy copies as deviations from the continuum (draw, pixel)."""
        shape = (len(keys), self.pixels[arm])
        if flux.shape != shape or sigma.shape != shape:
            raise EnsembleError(f"flux is {flux.shape} and sigma {sigma.shape}; both must be {shape} for arm {arm}")
        finite = np.isfinite(flux).all(axis=1) & np.isfinite(sigma).all(axis=1)
        for row in np.flatnonzero(finite):
            noise = normal(keys[row : row + 1], ord(arm[0]), seed, n_draws, shape[1])[0]
            noise *= sigma[row]
            noise += flux[row] - np.float32(1.0)
            yield int(row), torch.from_numpy(noise).to(self.device)
