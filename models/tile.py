"""One tile of spectra judged by all members of an arm: what the hot loop repeats.

A tile has a constant shape whatever a call holds, because kernels choose their order of summation by the shape of their
operands; a tile that is not full is judged whole, and what is in its empty places is thrown away.

* On a CPU (:class:`HostTile`) a member judges the tile at once: its weights, a megabyte or more, are then read once for
  a tile and not once for a spectrum, and so is what a call itself costs. That a spectrum's bits do not depend on its
  place is checked at run time (:func:`tile_size`), and the tile is one spectrum where it does not hold.
* On CUDA (:class:`DeviceTile`) noise, networks and sigmoid are one captured graph with static inputs and outputs. No
  GPU was at hand: its arithmetic is tested on a CPU, its capture and its speed are not measured.

Knows neither penalties nor percentiles nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from twinlines.models import philox
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import Network, NetworkConfig
from twinlines.models.noise import normal
from twinlines.models.precision import PrecisionName

_MOST_SPECTRA = 8
# Activations of a tile, bytes. A call has a cost of its own, so that many spectra at once are better; but what a layer
# leaves should be in the cache that a core shares with others when the next one reads it.
_ACTIVATION_BYTES = 9 << 19
# Draws in one tile on a GPU: enough to fill it; a stride-1 network's activations are then some gigabytes.
_DEVICE_ROWS = 1280


def tile_size(members: Sequence[InferenceMember], n_draws: int) -> int:
    """Spectra in a tile on a CPU: as many as the cache holds, or one where a spectrum's place would change its bits."""
    widest = max(member.activation for member in members)
    spectra = max(1, min(_MOST_SPECTRA, _ACTIVATION_BYTES // (widest * n_draws)))
    kinds = {(member.config, member.precision) for member in members}
    return spectra if all(_places_are_alike(*kind, spectra, n_draws) for kind in kinds) else 1


@lru_cache
def _places_are_alike(config: NetworkConfig, precision: PrecisionName, spectra: int, n_draws: int) -> bool:
    """Whether a network of these sizes gives a spectrum the same bits at every place in a tile.

    Which kernel computes which row is a matter of shapes and not of values: random weights and numbers, summed over
    hundreds of products, show it. Libraries for matrix products do not promise it, and some break it for small shapes.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        member = InferenceMember(Network(config).eval(), precision, "cpu")
        logits = member((0.3 * torch.randn(n_draws, config.n_pixels)).repeat(spectra, 1)).view(spectra, n_draws)
    return bool((logits == logits[0]).all())


class HostTile:
    """Tiles on a CPU. Its buffers live as long as it does; one serves one thread."""

    def __init__(self, members: Sequence[InferenceMember], arm: int, n_pixels: int, n_draws: int) -> None:
        self.members = members
        self.arm = arm
        self.n_draws = n_draws
        self.spectra = tile_size(members, n_draws)
        # Spectra are laid out once for all members that want them so. What stands in empty places must only be finite.
        self._rooms = {
            layout: layout.empty(self.spectra * n_draws, n_pixels) for layout in {member.layout for member in members}
        }
        self._logits = np.empty((len(members), self.spectra, n_draws), np.float32)

    def __call__(
        self, flux: NDArray[np.float32], sigma: NDArray[np.float32], keys: NDArray[np.int64], seed: int
    ) -> NDArray[np.float32]:
        """Probabilities (member, spectrum, draw) float32 of up to :attr:`spectra` spectra, (spectrum, pixel) each."""
        for place in range(len(flux)):
            noisy = normal(keys[place : place + 1], self.arm, seed, self.n_draws, flux.shape[1])[0]
            noisy *= sigma[place]
            noisy += flux[place] - np.float32(1.0)
            for layout, room in self._rooms.items():
                layout.fill(room[place * self.n_draws : (place + 1) * self.n_draws], torch.from_numpy(noisy))
        for logits, member in zip(self._logits, self.members, strict=True):
            features = member.features(self._rooms[member.layout])
            logits[:] = member.logits(features).view(self.spectra, self.n_draws).numpy()
        # SciPy's, because torch's sigmoid gives other bits to the few elements that do not fill a vector register.
        probabilities: NDArray[np.float32] = expit(self._logits[:, : len(flux)])
        return probabilities


class DeviceTile:
    """Tiles on a device that makes its own noise; on CUDA a captured graph, elsewhere the same steps one by one."""

    def __init__(
        self,
        members: Sequence[InferenceMember],
        arm: int,
        n_pixels: int,
        n_draws: int,
        device: str | torch.device,
        spectra: int | None = None,
    ) -> None:
        self.members = members
        self.arm = arm
        self.n_draws = n_draws
        self.spectra = spectra or max(1, _DEVICE_ROWS // n_draws)
        self._flux = torch.ones((self.spectra, n_pixels), device=device)
        self._sigma = torch.zeros((self.spectra, n_pixels), device=device)
        self._keys = torch.zeros((self.spectra, 2), dtype=torch.int64, device=device)
        self._seed = torch.zeros((), dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if torch.device(device).type == "cuda":
            self._capture()

    def __call__(
        self, flux: NDArray[np.float32], sigma: NDArray[np.float32], keys: NDArray[np.int64], seed: int
    ) -> NDArray[np.float32]:
        """Probabilities (member, spectrum, draw) float32 of up to :attr:`spectra` spectra, (spectrum, pixel) each."""
        for static, array in ((self._flux, flux), (self._sigma, sigma), (self._keys, keys)):
            static[: len(array)].copy_(torch.from_numpy(np.ascontiguousarray(array)))
        self._seed.fill_(philox.signed(seed))
        if self._graph is None:
            self._out = self._compute()
        else:
            self._graph.replay()
        return self._out[:, : len(flux)].cpu().numpy()

    def _compute(self) -> Tensor:
        noise = philox.normal(self._keys, self.arm, self._seed, self.n_draws, self._flux.shape[1])
        noisy = (noise * self._sigma[:, None] + (self._flux - 1.0)[:, None]).flatten(0, 1)
        spectra = {layout: layout.of(noisy) for layout in {member.layout for member in self.members}}
        logits = torch.stack([member.logits(member.features(spectra[member.layout])) for member in self.members])
        return torch.sigmoid(logits).view(-1, self.spectra, self.n_draws)

    def _capture(self) -> None:
        # TF32 would make the float32 reference mode something else.
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._compute()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self._compute()
