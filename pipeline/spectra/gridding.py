"""Normalised spectra from the detector's pixels to an arm's grid, for velocities: which pixels each value came from.

In the observed frame, by linear interpolation between good pixels. Knows wavelengths, no template.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from twinlines.pipeline.arms import STEP_DEX, Arm


class Gridded(NamedTuple):
    """A tile of spectra on the grid, with the native pixels from which each grid pixel was interpolated."""

    flux: Tensor
    """(spectrum, grid pixel) float32, mean-subtracted."""
    below: Tensor
    """(spectrum, grid pixel) int64, the good native pixel below."""
    above: Tensor
    """(spectrum, grid pixel) int64, and the one above."""
    fraction: Tensor
    """(spectrum, grid pixel) float32, weight of the latter."""
    usable: Tensor
    """(spectrum,) bool, whether enough pixels are good and cover the grid."""

    def variance(self, sigma: Tensor) -> Tensor:
        """Sum over the grid of the variance of the noise, after interpolation, (spectrum,).

        Parameters
        ----------
        sigma
            (spectrum, native pixel) standard deviation.
        """
        squares = sigma.square()
        below, above = squares.gather(1, self.below), squares.gather(1, self.above)
        return (below * (1.0 - self.fraction).square() + above * self.fraction.square()).sum(1)

    def transposed(self, on_grid: Tensor, pixels: int) -> Tensor:
        """The transpose of the interpolation: weights on the grid, (spectrum, grid pixel), as weights of the pixels."""
        native = on_grid.new_zeros(len(on_grid), pixels)
        upper = on_grid * self.fraction
        native.scatter_add_(1, self.below, on_grid - upper)
        return native.scatter_add_(1, self.above, upper)


@lru_cache(maxsize=4)
def _grid(arm: Arm, device: torch.device) -> Tensor:
    return torch.from_numpy(arm.wavelength).to(device)


def to_grid(arm: Arm, wavelength: Tensor, flux: Tensor, good: Tensor, minimum: float) -> Gridded:
    """Interpolate linearly between good native pixels; beyond the first and the last of them, repeat these.

    Parameters
    ----------
    arm
        Whose grid.
    wavelength
        (spectrum, pixel) float64, Angstrom, ascending where good.
    flux
        (spectrum, pixel) float32, flux over continuum.
    good
        (spectrum, pixel) bool, pixels to use.
    minimum
        Least fraction of pixels that must be good, and of the grid that must lie between good pixels.
    """
    rows, pixels = wavelength.shape
    grid = _grid(arm, wavelength.device)
    # The first grid pixel at or above each good pixel: the nearest one, by the logarithm, or the next.
    place = (wavelength.log10() - float(arm.loglam[0])).mul_(1.0 / STEP_DEX)
    nearest = place.round_().clamp_(-1.0, float(arm.n_pixels)).nan_to_num_(0.0).to(torch.int64)
    inside = nearest.clamp(0, arm.n_pixels - 1)
    nearest += ((grid[inside] < wavelength) & (nearest == inside)) | (nearest < 0)
    nearest.masked_fill_(~good, arm.n_pixels)
    # How many good pixels there are at or below each grid pixel; those that are not good count beyond the last.
    ones = nearest.new_ones(()).to(torch.int32).expand(rows, pixels)
    count = ones.new_zeros(rows, arm.n_pixels + 1).scatter_add_(1, nearest, ones)[:, :-1].cumsum(1)
    # Good pixels side by side.
    rank = good.cumsum(1)
    total = rank[:, -1:]
    places = torch.where(good, rank - 1, pixels)
    index = torch.arange(pixels, device=good.device).expand(rows, -1)
    side_by_side = index.new_zeros(rows, pixels + 1).scatter_(1, places, index)
    covered = (count > 0) & (count < total)
    upper = torch.minimum(count.clamp_(min=1), (total - 1).clamp(min=0))
    below = side_by_side.gather(1, (upper - 1).clamp_(min=0))
    above = side_by_side.gather(1, upper)
    start, stop = wavelength.gather(1, below), wavelength.gather(1, above)
    width = (stop - start).to(torch.float32)
    fraction = torch.where(width > 0.0, (grid - start).to(torch.float32) / width, 0.0).clamp_(0.0, 1.0)
    filled = torch.where(good, flux, 1.0)
    values = torch.lerp(filled.gather(1, below), filled.gather(1, above), fraction)
    usable = (total[:, 0] >= minimum * pixels) & (covered.sum(1) >= minimum * arm.n_pixels)
    return Gridded(values - values.mean(1, keepdim=True), below, above, fraction, usable)
