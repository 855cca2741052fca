"""One tile of exposures judged by all members: what the hot loop repeats.

A tile has a constant shape whatever a call holds, because kernels choose their order of summation by the shape of their
operands; a tile that is not full is judged whole, and what is in its empty places is thrown away.

* On a CPU (:class:`HostTile`) a member judges the tile at once: its weights, some megabytes, are then read once for a
  tile and not once for an exposure, and so is what a call itself costs. That an exposure's bits do not depend on its
  place is checked at run time (:func:`tile_size`), and the tile is one exposure where it does not hold.
* On CUDA (:class:`DeviceTile`) noise, networks and sigmoid are one captured graph with static inputs and outputs. No
  GPU was at hand: its arithmetic is tested on a CPU; ``benchmarks/gpu.py`` checks capture and speed where there is one.

Knows no percentiles and no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from twinlines.models.vocabulary import ARMS, JOINT, SURVEY_STREAMS

_MOST_EXPOSURES = 8
# Activations of a tile, bytes. A call has a cost of its own, so that many spectra at once are better; but what a layer
# leaves should be in the cache that a core shares with others when the next one reads it, and the last tile of a block
# is judged whole, however few stand in it (docs/ensemble.md).
_ACTIVATION_BYTES = 9 << 19
# Draws in one tile on a GPU: enough to fill it; a stride-1 network's activations are then some gigabytes.
_DEVICE_ROWS = 1280


Arrays = Mapping[str, NDArray[np.float32]]
"""Values by arm, (exposure, pixel)."""

Verdicts = dict[str, NDArray[np.float32]]
"""Probabilities by head, (member, exposure, draw, penalty) float32."""


def tile_size(members: Sequence[InferenceMember], n_draws: int) -> int:
    """Exposures in a tile on a CPU: as many as the cache holds, or one where a place in it would change bits."""
    widest = max(member.activation for member in members)
    exposures = max(1, min(_MOST_EXPOSURES, _ACTIVATION_BYTES // (widest * n_draws)))
    kinds = {(member.config, member.precision) for member in members}
    return exposures if all(_places_are_alike(*kind, exposures, n_draws) for kind in kinds) else 1


@lru_cache
def _places_are_alike(config: NetworkConfig, precision: PrecisionName, exposures: int, n_draws: int) -> bool:
    """Whether a network of these sizes gives an exposure the same bits at every place in a tile.

    Which kernel computes which row is a matter of shapes and not of values: random weights and numbers, summed over
    hundreds of products, show it. Libraries for matrix products do not promise it, and some break it for small shapes.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        member = InferenceMember(Network(config).eval(), precision, "cpu")
        drawn = {arm: (0.3 * torch.randn(n_draws, config.pixels_of(arm))).repeat(exposures, 1) for arm in ARMS}
        logits = [values.view(exposures, -1) for values in member(drawn).values()]
    return all(bool((values == values[0]).all()) for values in logits)


class HostTile:
    """Tiles on a CPU. Its buffers live as long as it does; one serves one thread."""

    def __init__(self, members: Sequence[InferenceMember], pixels: Mapping[str, int], n_draws: int) -> None:
        self.members = members
        self.n_draws = n_draws
        self.exposures = tile_size(members, n_draws)
        # Spectra are laid out once for all members that want them so. What stands in empty places must only be finite.
        self._rooms = {
            arm: {
                layout: layout.empty(self.exposures * n_draws)
                for layout in {member.trunks[arm].layout for member in members}
            }
            for arm in pixels
        }

    def __call__(self, flux: Arrays, sigma: Arrays, keys: NDArray[np.int64], seed: int) -> Verdicts:
        """Judge up to :attr:`exposures` exposures by the arms that are there."""
        for arm in flux:
            self._lay_out(arm, flux[arm], sigma[arm], keys, seed)
        logits = [
            member.verdicts({arm: member.trunks[arm](self._rooms[arm][member.trunks[arm].layout]) for arm in flux})
            for member in self.members
        ]
        shape = (len(self.members), self.exposures, self.n_draws, -1)
        # SciPy's, because torch's sigmoid gives other bits to the few elements that do not fill a vector register.
        return {
            head: expit(torch.stack([each[head] for each in logits]).view(shape).numpy()[:, : len(keys)])
            for head in logits[0]
        }

    def _lay_out(
        self, arm: str, flux: NDArray[np.float32], sigma: NDArray[np.float32], keys: NDArray[np.int64], seed: int
    ) -> None:
        """Put the draws of spectra into the rooms of their arm."""
        for place in range(len(flux)):
            noisy = normal(keys[place : place + 1], SURVEY_STREAMS[arm], seed, self.n_draws, flux.shape[1])[0]
            noisy *= sigma[place]
            noisy += flux[place] - np.float32(1.0)
            for layout, room in self._rooms[arm].items():
                layout.fill(room[place * self.n_draws : (place + 1) * self.n_draws], torch.from_numpy(noisy))


class DeviceTile:
    """Tiles on a device that makes its own noise; on CUDA a captured graph, elsewhere the same steps one by one.

    Both arms are always computed; of an exposure that lacks one, what concerns it is thrown away.
    """

    def __init__(
        self,
        members: Sequence[InferenceMember],
        pixels: Mapping[str, int],
        n_draws: int,
        device: str | torch.device,
        exposures: int | None = None,
        *,
        capture: bool = True,
    ) -> None:
        """Make a tile of so many exposures, as many as fill a GPU if it is not said; ``capture``: as one graph."""
        self.members = members
        self.n_draws = n_draws
        self.exposures = exposures or max(1, _DEVICE_ROWS // n_draws)
        self._flux = {arm: torch.ones((self.exposures, count), device=device) for arm, count in pixels.items()}
        self._sigma = {arm: torch.zeros((self.exposures, count), device=device) for arm, count in pixels.items()}
        self._keys = torch.zeros((self.exposures, 2), dtype=torch.int64, device=device)
        self._seed = torch.zeros((), dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if capture and torch.device(device).type == "cuda":
            self._capture()

    def __call__(self, flux: Arrays, sigma: Arrays, keys: NDArray[np.int64], seed: int) -> Verdicts:
        """Judge up to :attr:`exposures` exposures by the arms that are there."""
        for static, arrays in ((self._flux, flux), (self._sigma, sigma)):
            for arm, array in arrays.items():
                static[arm][: len(array)].copy_(torch.from_numpy(np.ascontiguousarray(array)))
        self._keys[: len(keys)].copy_(torch.from_numpy(np.ascontiguousarray(keys)))
        self._seed.fill_(philox.signed(seed))
        if self._graph is None:
            self._out = self._compute()
        else:
            self._graph.replay()
        heads = [head for head in self._out if head in flux or (head == JOINT and len(flux) == len(ARMS))]
        return {head: self._out[head][:, : len(keys)].cpu().numpy() for head in heads}

    def _compute(self) -> dict[str, Tensor]:
        # TF32 would make the float32 reference mode something else.
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return self._probabilities()

    def _probabilities(self) -> dict[str, Tensor]:
        noisy = {}
        for arm, flux in self._flux.items():
            noise = philox.normal(self._keys, SURVEY_STREAMS[arm], self._seed, self.n_draws, flux.shape[1])
            noisy[arm] = (noise * self._sigma[arm][:, None] + (flux - 1.0)[:, None]).flatten(0, 1)
        rooms = {
            arm: {layout: layout.of(values) for layout in {member.trunks[arm].layout for member in self.members}}
            for arm, values in noisy.items()
        }
        logits = [
            member.verdicts({arm: trunk(rooms[arm][trunk.layout]) for arm, trunk in member.trunks.items()})
            for member in self.members
        ]
        shape = (len(self.members), self.exposures, self.n_draws, -1)
        return {head: torch.sigmoid(torch.stack([each[head] for each in logits])).view(shape) for head in logits[0]}

    def _capture(self) -> None:
        with torch.inference_mode():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._compute()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._out = self._compute()
