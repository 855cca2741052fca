"""Members x draws -> probabilities and their percentiles: the hot loop of the whole system.

Each spectrum gets noise once per draw (:mod:`twinlines.models.noise`), which every member and penalty shares, and each
member judges each draw: the values of equation 9, whose percentiles the catalog keeps (Zhang et al. 2022, section 3.3).

The result of a spectrum depends on no other spectrum, bit for bit, whatever else the call holds: spectra are judged in
tiles of constant shape (:mod:`twinlines.models.tile`). ``docs/ensemble.md`` says what was measured. Knows no survey and
no cluster; the number of threads is the caller's business, and one a process is best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from twinlines.models import checkpoint
from twinlines.models.checkpoint import CheckpointError
from twinlines.models.inference_member import InferenceMember
from twinlines.models.precision import PrecisionName, missing, resolve
from twinlines.models.tile import DeviceTile, HostTile
from twinlines.models.vocabulary import PERCENTILES, SURVEY_STREAMS


class EnsembleError(ValueError):
    """An ensemble cannot judge what it is given."""


@dataclass(frozen=True)
class Ensemble:
    """The members of all arms and penalties, ready to judge spectra."""

    members: dict[str, dict[int, tuple[InferenceMember, ...]]]
    """Members by arm and penalty, in the order of their numbers."""
    pixels: dict[str, int]
    """Pixels of a spectrum, by arm."""
    digest: str
    """Content hash of the folder; see :func:`twinlines.models.checkpoint.digest`."""
    precision: PrecisionName
    """Arithmetic in use: "mixed" (products of bfloat16, sums in float32) or "float32"."""
    device: str
    """Device in use, as torch names it."""
    _device_tiles: dict[tuple[str, int], DeviceTile] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        precision: str = "float32",
        arms: Sequence[str] = ("B", "R"),
        emulate: bool = False,
    ) -> Ensemble:
        """Load the ensemble in a folder.

        Parameters
        ----------
        folder
            Folder of files ``<arm>_p<penalty>_m<member>.safetensors``.
        device
            Where to judge, as torch names it.
        precision
            "float32", or "mixed": products of bfloat16 where the device has it, else float32.
        arms
            Arms that must be there.
        emulate
            Whether "mixed" is used also where the device has no bfloat16: the same rounding, slowly.

        Raises
        ------
        CheckpointError
            If there is no such folder, it lacks an arm, or a file is damaged, misnamed or not for this code.
        EnsembleError
            If the device is a GPU and there is none.
        """
        if wrong := missing(device):
            raise EnsembleError(wrong)
        folder = Path(folder)
        used = resolve(precision, device, emulate=emulate)
        loaded: dict[str, dict[int, dict[int, InferenceMember]]] = {}
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
            group = loaded.setdefault(header.arm, {}).setdefault(header.penalty, {})
            group[header.member] = InferenceMember(network, used, device)
        lacking = [arm for arm in arms if arm not in loaded]
        if lacking:
            raise CheckpointError(f"{folder} has no member for arm {', '.join(lacking)}; it has {sorted(loaded)}")
        members = {
            arm: {penalty: tuple(group[m] for m in sorted(group)) for penalty, group in sorted(penalties.items())}
            for arm, penalties in loaded.items()
        }
        return cls(members, pixels, checkpoint.digest(folder), used, device)

    def __repr__(self) -> str:
        arms = "; ".join(
            f"{arm} {'+'.join(str(len(group)) for group in groups.values())} members at penalties "
            f"{', '.join(map(str, groups))}"
            for arm, groups in self.members.items()
        )
        return f"<Ensemble: {arms}\n {self.precision} on {self.device}; digest {self.digest[:12]}>"

    def penalties(self, arm: str) -> tuple[int, ...]:
        """Penalties of an arm's members, ascending."""
        return tuple(self._of(arm))

    def values(
        self,
        arm: str,
        flux: ArrayLike,
        sigma: ArrayLike,
        keys: ArrayLike,
        *,
        seed: int = 0,
        n_draws: int = 20,
    ) -> dict[int, NDArray[np.float32]]:
        """Binary probabilities of every draw by every member: the set in equation 9.

        Parameters
        ----------
        arm
            Arm of the spectra.
        flux
            (spectrum, pixel) flux over continuum. A spectrum with a value that is not finite is not judged.
        sigma
            Its standard deviation, of any shape that broadcasts to the flux's: a number will do, and a number for each
            spectrum has shape (spectrum, 1). A spectrum with a negative one, or one that is not finite, is not judged;
            zero is a pixel without noise.
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
        groups = self._of(arm)
        if n_draws < 1:
            raise EnsembleError(f"{n_draws} draws are too few; ask for one or more")
        flux, sigma, keys = self._arrays(arm, flux, sigma, keys)
        # NaN is not above or at zero.
        rows = np.flatnonzero(np.isfinite(flux).all(axis=1) & ((sigma >= 0.0) & (sigma < np.inf)).all(axis=1))
        tile = self._tile(arm, n_draws)
        out = {
            penalty: np.full((len(flux), n_draws, len(group)), np.nan, np.float32) for penalty, group in groups.items()
        }
        with torch.inference_mode():
            for start in range(0, len(rows), tile.spectra):
                some = rows[start : start + tile.spectra]
                values = tile(flux[some], sigma[some], keys[some], seed).transpose(1, 2, 0)
                first = 0
                for penalty, group in groups.items():
                    out[penalty][some] = values[:, :, first : first + len(group)]
                    first += len(group)
        return {penalty: each.reshape(len(flux), n_draws * each.shape[2]) for penalty, each in out.items()}

    def percentiles(
        self,
        arm: str,
        flux: ArrayLike,
        sigma: ArrayLike,
        keys: ArrayLike,
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

    def _of(self, arm: str) -> dict[int, tuple[InferenceMember, ...]]:
        if arm not in self.members:
            raise EnsembleError(f"the ensemble has no member for arm {arm!r}; it has {sorted(self.members)}")
        return self.members[arm]

    def _arrays(
        self, arm: str, flux: ArrayLike, sigma: ArrayLike, keys: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """What is to be judged, as arrays that belong together."""
        pixels = self.pixels[arm]
        fluxes, deviations, serials = np.asarray(flux, np.float32), np.asarray(sigma, np.float32), np.asarray(keys)
        if serials.ndim != 2 or serials.shape[1] != 2 or serials.dtype.kind not in "iu":
            raise EnsembleError(
                f"keys are {serials.dtype} of shape {serials.shape}; they must be whole numbers of shape "
                "(spectrum, 2): obsid and lmjm"
            )
        shape = (len(serials), pixels)
        if fluxes.shape != shape:
            raise EnsembleError(
                f"flux is {fluxes.shape} and sigma {deviations.shape}; for {len(serials)} keys both must be {shape}: "
                f"the members of arm {arm} take {pixels} pixels"
            )
        try:
            return fluxes, np.broadcast_to(deviations, shape), serials.astype(np.int64, copy=False)
        except ValueError as error:
            raise EnsembleError(
                f"flux is {fluxes.shape} and sigma {deviations.shape}; for {len(serials)} keys both must be {shape}: "
                f"sigma may be a number, ({pixels},) or ({len(serials)}, 1)"
            ) from error

    def _tile(self, arm: str, n_draws: int) -> HostTile | DeviceTile:
        members = [member for group in self._of(arm).values() for member in group]
        if torch.device(self.device).type == "cpu":
            # Made for the call: threads may share an ensemble, but no buffer.
            return HostTile(members, SURVEY_STREAMS[arm], self.pixels[arm], n_draws)
        if (arm, n_draws) not in self._device_tiles:
            self._device_tiles[arm, n_draws] = DeviceTile(
                members, SURVEY_STREAMS[arm], self.pixels[arm], n_draws, self.device
            )
        return self._device_tiles[arm, n_draws]
