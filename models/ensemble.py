"""Members x draws -> probabilities and their percentiles: the hot loop of the whole system.

Each spectrum gets noise once per draw (:mod:`twinlines.models.noise`), which every member shares, and each member
judges each draw of both arms: the values of equation 9, whose percentiles the catalog keeps (Zhang et al. 2022,
section 3.3).

The result of an exposure depends on no other, bit for bit, whatever else the call holds: exposures are judged in tiles
of constant shape (:mod:`twinlines.models.tile`). ``docs/ensemble.md`` says what was measured. Knows no survey and
no cluster; the number of threads is the caller's business, and one a process is best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from twinlines.models import checkpoint
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.inference_member import InferenceMember
from twinlines.models.network import NetworkConfig
from twinlines.models.precision import PrecisionName, missing, resolve
from twinlines.models.tile import DeviceTile, HostTile
from twinlines.models.vocabulary import ARMS, HEADS, PERCENTILES


class EnsembleError(ValueError):
    """An ensemble cannot judge what it is given."""


@dataclass(frozen=True)
class Ensemble:
    """Members ready to judge exposures."""

    members: tuple[InferenceMember, ...]
    """Members, in the order of their numbers."""
    penalties: tuple[int, ...]
    """Penalties of every member's outputs, ascending."""
    pixels: dict[str, int]
    """Pixels of a spectrum, by arm."""
    digest: str
    """Content hash of the folder; see :func:`twinlines.models.checkpoint.digest`."""
    precision: PrecisionName
    """Arithmetic in use: "mixed" (products of bfloat16, sums in float32) or "float32"."""
    device: str
    """Device in use, as torch names it."""
    _device_tiles: dict[int, DeviceTile] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", precision: str = "float32", emulate: bool = False) -> Ensemble:
        """Load the ensemble in a folder.

        Parameters
        ----------
        folder
            Folder of files ``member_<number>.safetensors``.
        device
            Where to judge, as torch names it.
        precision
            "float32", or "mixed": products of bfloat16 where the device has it, else float32.
        emulate
            Whether "mixed" is used also where the device has no bfloat16: the same rounding, slowly.

        Raises
        ------
        CheckpointError
            If there is no such folder, its members do not belong together, or a file is damaged, misnamed or not for
            this code.
        EnsembleError
            If the device is a GPU and there is none.
        """
        if wrong := missing(device):
            raise EnsembleError(wrong)
        folder = Path(folder)
        used = resolve(precision, device, emulate=emulate)
        loaded: dict[int, InferenceMember] = {}
        first: NetworkConfig | None = None
        for path in checkpoint.members(folder):
            network, header = checkpoint.load(path)
            if path.stem != header.stem:
                raise CheckpointError(f"{path} calls itself {header.stem} inside; give it its name back")
            first = first or network.config
            for name in ("pixels", "penalties"):
                mine, others = getattr(network.config, name), getattr(first, name)
                if mine != others:
                    raise CheckpointError(f"{path} has {name} {mine}, other members of {folder} have {others}")
            loaded[header.member] = InferenceMember(network, used, device)
        assert first is not None  # there is a member, or there was an error
        members = tuple(loaded[number] for number in sorted(loaded))
        pixels = {arm: first.pixels_of(arm) for arm in ARMS}
        return cls(members, first.penalties, pixels, checkpoint.digest(folder), used, device)

    def __repr__(self) -> str:
        penalties = ", ".join(map(str, self.penalties))
        return (
            f"<Ensemble: {len(self.members)} members, each for both arms ({', '.join(HEADS)}), penalties {penalties}\n "
            f"{self.precision} on {self.device}; digest {self.digest[:12]}>"
        )

    def values(
        self,
        flux: Mapping[str, ArrayLike],
        sigma: Mapping[str, ArrayLike],
        keys: ArrayLike,
        *,
        seed: int = 0,
        n_draws: int = 20,
    ) -> dict[str, dict[int, NDArray[np.float32]]]:
        """Binary probabilities of every draw by every member: the set in equation 9.

        Parameters
        ----------
        flux
            By arm, (exposure, pixel) flux over continuum. A spectrum with a value that is not finite is not judged, and
            an exposure of which one arm is judged has no verdict of both.
        sigma
            Its standard deviation, of any shape that broadcasts to the flux's: a number will do, and a number for each
            spectrum has shape (exposure, 1). A spectrum with a negative one, or one that is not finite, is not judged;
            zero is a pixel without noise.
        keys
            (exposure, 2) obsid and lmjm.
        seed
            Seed of the noise.
        n_draws
            Draws of each spectrum.

        Returns
        -------
        dict
            By head ("B", "R", and "J" of both arms if both are given) and penalty, (exposure, draw x member) float32,
            member varying fastest; NaN where not judged.

        Raises
        ------
        EnsembleError
            If the ensemble has no such arm, or the shapes do not fit.
        """
        if n_draws < 1:
            raise EnsembleError(f"{n_draws} draws are too few; ask for one or more")
        fluxes, sigmas, serials = self._arrays(flux, sigma, keys)
        # NaN is not above or at zero.
        fit = {arm: np.isfinite(fluxes[arm]) & (sigmas[arm] >= 0.0) & (sigmas[arm] < np.inf) for arm in fluxes}
        usable = {arm: np.asarray(pixels.all(axis=1), bool) for arm, pixels in fit.items()}
        tile = self._tile(n_draws)
        shape = (len(serials), n_draws, len(self.members), len(self.penalties))
        heads = [head for head in HEADS if head in fluxes or len(fluxes) == len(ARMS)]
        out = {head: np.full(shape, np.nan, np.float32) for head in heads}
        with torch.inference_mode():
            for arms, rows in _by_arms(usable):
                for start in range(0, len(rows), tile.exposures):
                    some = rows[start : start + tile.exposures]
                    mine, noise = ({arm: each[arm][some] for arm in arms} for each in (fluxes, sigmas))
                    for head, values in tile(mine, noise, serials[some], seed).items():
                        out[head][some] = values.transpose(1, 2, 0, 3)
        return {
            head: {
                penalty: values[..., place].reshape(len(serials), n_draws * len(self.members))
                for place, penalty in enumerate(self.penalties)
            }
            for head, values in out.items()
        }

    def percentiles(
        self,
        flux: Mapping[str, ArrayLike],
        sigma: Mapping[str, ArrayLike],
        keys: ArrayLike,
        *,
        seed: int = 0,
        n_draws: int = 20,
        percentiles: Sequence[float] = PERCENTILES,
    ) -> dict[str, dict[int, NDArray[np.float32]]]:
        """Percentiles of :meth:`values` (equation 9), interpolated linearly.

        Returns
        -------
        dict
            By head and penalty, (exposure, percentile) float32; NaN where not judged.
        """
        values = self.values(flux, sigma, keys, seed=seed, n_draws=n_draws)
        return {
            head: {
                penalty: np.percentile(each, percentiles, axis=1, method="linear").T.astype(np.float32)
                for penalty, each in by_penalty.items()
            }
            for head, by_penalty in values.items()
        }

    def _arrays(
        self, flux: Mapping[str, ArrayLike], sigma: Mapping[str, ArrayLike], keys: ArrayLike
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]], NDArray[np.int64]]:
        """What is to be judged, as arrays that belong together."""
        serials = np.asarray(keys)
        if serials.ndim != 2 or serials.shape[1] != 2 or serials.dtype.kind not in "iu":
            raise EnsembleError(
                f"keys are {serials.dtype} of shape {serials.shape}; they must be whole numbers of shape "
                "(exposure, 2): obsid and lmjm"
            )
        if not flux or set(flux) != set(sigma) or not set(flux) <= set(self.pixels):
            raise EnsembleError(
                f"there is flux of arms {sorted(flux)} and sigma of {sorted(sigma)}; give both of the same arms, of "
                f"{sorted(self.pixels)}"
            )
        fluxes, sigmas = {}, {}
        for arm in (arm for arm in ARMS if arm in flux):
            values, deviations = (np.asarray(each[arm], np.float32) for each in (flux, sigma))
            pixels, shape = self.pixels[arm], (len(serials), self.pixels[arm])
            if values.shape != shape:
                raise EnsembleError(
                    f"flux of arm {arm} is {values.shape} and sigma {deviations.shape}; for {len(serials)} keys both "
                    f"must be {shape}: the members take {pixels} pixels"
                )
            try:
                sigmas[arm] = np.broadcast_to(deviations, shape)
            except ValueError as error:
                raise EnsembleError(
                    f"flux of arm {arm} is {values.shape} and sigma {deviations.shape}; for {len(serials)} keys both "
                    f"must be {shape}: sigma may be a number, ({pixels},) or ({len(serials)}, 1)"
                ) from error
            fluxes[arm] = values
        return fluxes, sigmas, serials.astype(np.int64, copy=False)

    def _tile(self, n_draws: int) -> HostTile | DeviceTile:
        if torch.device(self.device).type == "cpu":
            # Made for the call: threads may share an ensemble, but no buffer.
            return HostTile(self.members, self.pixels, n_draws)
        if n_draws not in self._device_tiles:
            self._device_tiles[n_draws] = DeviceTile(self.members, self.pixels, n_draws, self.device)
        return self._device_tiles[n_draws]


def _by_arms(usable: Mapping[str, NDArray[np.bool_]]) -> Iterator[tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Exposures by the arms of which they have a usable spectrum; those that have none are left out."""
    arms = tuple(usable)
    patterns = [arms, *((arm,) for arm in arms)] if len(arms) > 1 else [arms]
    for pattern in patterns:
        mine = np.all([usable[arm] == (arm in pattern) for arm in arms], axis=0)
        yield pattern, np.flatnonzero(mine)
