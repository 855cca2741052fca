"""The zero-age main sequence: how bright, and how warm, the companion of a star is at a mass ratio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARMS, ArmName
from twinlines.pipeline.stars.tracks import ZAMS, Tracks

Array = NDArray[np.float64]

_LOWEST, _HIGHEST, _STEP = 0.3, 2.4, 0.02  # solar masses


@dataclass(frozen=True)
class MainSequence:
    """Stars of solar composition at zero age, by rising mass; arrays of shape (star,)."""

    mass: Array
    """Mass, solar masses."""
    teff: Array
    """Effective temperature, K, rising."""
    radius: Array
    """Radius, solar radii."""

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> MainSequence:
        """That of the tracks that ship."""
        mass = np.arange(_LOWEST, _HIGHEST, _STEP)
        state = Tracks.load().state(mass, 0.0, float(ZAMS))
        known = (state.reason == 0) & np.isfinite(state.teff)
        mass, teff, radius = mass[known], state.teff[known], state.radius[known]
        rising = teff > np.maximum.accumulate(np.r_[0.0, teff[:-1]])
        return cls(mass[rising], teff[rising], radius[rising])

    def mass_of(self, teff: Array) -> Array:
        """Mass of a star of this temperature; NaN beyond the sequence's ends."""
        return np.interp(teff, self.teff, self.mass, left=np.nan, right=np.nan)

    def companion(self, teff: Array, mass_ratio: Array) -> Array:
        """Temperature, K, of the companion of a star of this temperature; NaN beyond the sequence's ends."""
        return np.interp(self.mass_of(teff) * mass_ratio, self.mass, self.teff, left=np.nan, right=np.nan)

    def flux_ratio(self, arm: ArmName, teff: Array, mass_ratio: Array) -> Array:
        """Flux of the companion over the star's in the middle of an arm: radii squared times black bodies."""
        mass = self.mass_of(teff)
        first, second = (np.interp(m, self.mass, self.radius) for m in (mass, mass * mass_ratio))
        wavelength = float(ARMS[arm].wavelength.mean())
        return np.asarray(
            (second / first) ** 2 * planck(wavelength, self.companion(teff, mass_ratio)) / planck(wavelength, teff)
        )


def planck(wavelength: float, teff: Array) -> Array:
    """Black body per unit wavelength (A), in a unit of its own; c2 = 1.438777e8 A K."""
    return np.asarray(wavelength**-5.0 / np.expm1(1.438777e8 / (wavelength * teff)))
