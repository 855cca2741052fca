"""The light of single stars before anything observes it: out of a library or of real stars, rotated and shifted.

Everything happens on the library's log-wavelength grid (:mod:`twinlines.pipeline.spectra.broadening`). Knows stars one
by one, no pair and no noise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import STEP_KMS, Arm, pixel_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.synthesis.realstars import LightSource, RealStars

_MARGIN = 256  # library pixels on either side of the grid: 500 km/s of shift, 500 km/s of rotation, and the guard
_GUARD = 40  # pixels beyond the reach of shift and rotation: eight standard deviations of the instrument's profile
_FLOOR = 1e-3  # of a real star's median light: noise in a deep line, sharpened, may fall below 0, and has no photons


@dataclass(frozen=True)
class Stars:
    """The parameters that make one component's spectrum; arrays of shape (star,)."""

    labels: NDArray[np.float64]
    """Which stars, in the terms of what their light comes from: of a library Teff (K), log g, [Fe/H], [alpha/Fe], shape
    (star, 4); of real stars their places, shape (star, 1)."""
    radius: NDArray[np.float64]
    """Radii, solar radii: their squares weigh the light."""
    vsini: NDArray[np.float64]
    """Projected rotational velocities, km/s."""
    velocity: NDArray[np.float64]
    """Radial velocities, km/s."""

    def take(self, rows: NDArray[np.bool_]) -> Stars:
        """The stars at ``rows``."""
        return Stars(self.labels[rows], self.radius[rows], self.vsini[rows], self.velocity[rows])

    def seen_from(self, frame: NDArray[np.float64]) -> Stars:
        """The stars from frames that move at ``frame`` km/s, shape (star,): with velocities less by that."""
        return replace(self, velocity=self.velocity - frame)

    def join(self, other: Stars) -> Stars:
        """These stars, then those of ``other``."""
        return Stars(*(np.concatenate([getattr(self, item.name), getattr(other, item.name)]) for item in fields(self)))


def component(
    arm: Arm, source: LightSource, stars: Stars, *, whole: bool = False, broadening: NDArray[np.float64] | None = None
) -> Tensor:
    """Light of single stars as it would be observed without noise: surface flux times R^2, rotated and shifted.

    Parameters
    ----------
    arm, source, stars
        Which arm of which stars, and what their light at rest comes from.
    whole
        Return the whole library grid, whose ends mean nothing (see :func:`.broaden_and_shift`), not the arm's.
    broadening
        (star,) standard deviation of a Gaussian that broadens lines beyond R = 7500, km/s; below 0 sharpens them.

    Returns
    -------
    Tensor, shape (star, arm.n_pixels or arm.library_pixels)
        In erg s-1 cm-2 A-1 at the star's surface times solar radii squared; of real stars in units of their median in
        the arm, times the square of ``radius``.

    Raises
    ------
    OutsideLibraryError
        If a star is outside the library's domain.
    ValueError
        If a star is so fast that what it shows on the grid lies beyond the library's.
    """
    margin = _margin(arm, stars)
    seen = slice(arm.library_margin - margin, arm.library_margin + arm.n_pixels + margin)
    wanted = slice(margin, margin + arm.n_pixels)
    if whole:
        seen = wanted = slice(0, arm.library_pixels)
    flux = _at_rest(arm, source, stars.labels, seen)
    vsini, velocity = torch.from_numpy(stars.vsini), torch.from_numpy(stars.velocity)
    area = torch.from_numpy(stars.radius.astype(np.float32) ** 2)
    more = 0.0 if broadening is None else torch.from_numpy(broadening)
    light = broaden_and_shift(flux, vsini, velocity, broadening=more, pixels=wanted)
    if isinstance(source, RealStars):
        light.clamp_min_(_FLOOR)
    return light.mul_(area[:, None])


def _at_rest(arm: Arm, source: LightSource, labels: NDArray[np.float64], pixels: slice) -> Tensor:
    """Light at rest on some of an arm's library pixels, (star, pixel) float32."""
    if isinstance(source, RealStars):
        return torch.from_numpy(source.light(arm.name, labels)[:, pixels].copy())
    mean, components = _packed_flux(source, arm, pixels.start, pixels.stop)
    # The mean comes last: it is large, and would cost the sum of small terms its last digits.
    return torch.mm(torch.from_numpy(source.interpolate(labels)), components).add_(mean).exp_()


@lru_cache(maxsize=8)
def _packed_flux(library: Library, arm: Arm, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Mean and components of ln flux on some of an arm's library pixels; copied once, for the products to run fast."""
    mean, components = library.mean[arm.name][start:stop], library.components[arm.name][:, start:stop]
    return torch.from_numpy(mean.copy()), torch.from_numpy(components.copy())


def _margin(arm: Arm, stars: Stars) -> int:
    """Library pixels needed on either side of the grid: one number for all stars of Table 1, so that shapes are too."""
    reach = np.max(np.abs(pixel_shift(stars.velocity)) + stars.vsini / STEP_KMS, initial=0.0) + _GUARD
    widest = min(arm.library_margin, arm.library_pixels - arm.n_pixels - arm.library_margin)
    for margin in (_MARGIN, widest):
        if reach <= margin:
            return margin
    fastest = int(np.argmax(np.abs(stars.velocity) + stars.vsini))
    speed = f"velocity {stars.velocity[fastest]:g} km/s and vsini {stars.vsini[fastest]:g} km/s"
    raise ValueError(
        f"a star of {speed} shows on the grid of arm {arm.name} what lies beyond the library; together they may reach "
        f"{(widest - _GUARD) * STEP_KMS:.0f} km/s: narrow the priors"
    )
