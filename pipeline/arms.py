"""The blue and the red arm: log-wavelength grids, air and vacuum wavelengths, Doppler shifts.

The grids are those on which the networks were defined (the authors' ``m9waveBR``; Zhang et al. 2022, section 2):
vacuum, constant step in log10(wavelength), so that a Doppler shift is a translation by a (fractional) number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

ArmName = Literal["B", "R"]
FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])

SPEED_OF_LIGHT = 299_792.458
"""Speed of light, km/s (exact, SI)."""

STEP_DEX = 7.56e-6
"""Step of both grids in log10(wavelength), dex a pixel."""

STEP_KMS = SPEED_OF_LIGHT * float(np.log(10.0)) * STEP_DEX
"""Step of both grids as a velocity, km/s a pixel (5.21865); to first order in v/c."""

NATIVE_PIXELS = 4136
"""Pixels of one arm of one LAMOST MRS exposure on the detector's own sampling."""

NATIVE_STEPS: dict[ArmName, tuple[float, float, float]] = {"B": (0.1245, 0.1190, 0.1035), "R": (0.1505, 0.1405, 0.1180)}
"""Angstrom a pixel at the first, the middle and the last pixel of an arm's detector, as in real exposures."""


@dataclass(frozen=True)
class Arm:
    """One spectrograph arm and the log-wavelength grids that belong to it."""

    name: ArmName
    """Short name as it stands in HDU and column names."""
    start: float
    """Vacuum wavelength of the first pixel of the grid, Angstrom."""
    n_pixels: int
    """Pixels of the grid that the networks see."""
    library_margin: int
    """Pixels by which the wider library grid begins before the grid; both grids share their pixels."""
    library_pixels: int
    """Pixels of the wider library grid."""

    @property
    def loglam(self) -> NDArray[np.float64]:
        """log10 of the vacuum wavelength in Angstrom of each grid pixel, shape (n_pixels,)."""
        return np.asarray(np.log10(self.start) + STEP_DEX * np.arange(self.n_pixels))

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Vacuum wavelength of each grid pixel, Angstrom, shape (n_pixels,)."""
        return np.asarray(10.0**self.loglam)

    @property
    def library_loglam(self) -> NDArray[np.float64]:
        """log10 of the vacuum wavelength in Angstrom of each library pixel, shape (library_pixels,)."""
        return np.asarray(np.log10(self.start) + STEP_DEX * (np.arange(self.library_pixels) - self.library_margin))

    @property
    def library_wavelength(self) -> NDArray[np.float64]:
        """Vacuum wavelength of each library pixel, Angstrom, shape (library_pixels,)."""
        return np.asarray(10.0**self.library_loglam)

    @property
    def on_library(self) -> slice:
        """The grid's pixels within the library grid."""
        return slice(self.library_margin, self.library_margin + self.n_pixels)


BLUE = Arm("B", start=5000.036675146197, n_pixels=3347, library_margin=868, library_pixels=5023)
RED = Arm("R", start=6350.085035426158, n_pixels=3509, library_margin=866, library_pixels=5178)
ARMS: dict[ArmName, Arm] = {"B": BLUE, "R": RED}
ARM_NAMES: tuple[ArmName, ...] = ("B", "R")


def arm(name: str) -> Arm:
    """Return the arm called ``name`` ("B" or "R").

    Raises
    ------
    ValueError
        If there is no such arm.
    """
    if name == "B":
        return BLUE
    if name == "R":
        return RED
    raise ValueError(f"no arm is called {name!r}; the arms are 'B' and 'R'")


def native_wavelength(name: ArmName, first: float, scale: float = 1.0) -> NDArray[np.float64]:
    """Wavelengths of a detector's pixels, Angstrom, ascending, shape (4136,).

    Parameters
    ----------
    name
        "B" or "R".
    first
        Wavelength of the first pixel, Angstrom.
    scale
        Factor by which steps differ from :data:`NATIVE_STEPS`, between which they follow a parabola.
    """
    begin, middle, end = NATIVE_STEPS[name]
    x = np.linspace(0.0, 1.0, NATIVE_PIXELS)
    curvature = 2.0 * (begin + end - 2.0 * middle)
    step = begin + (end - begin - curvature) * x + curvature * x**2
    step *= scale
    return np.asarray(first + np.concatenate([[0.0], np.cumsum(step[:-1])]))


def doppler_factor(velocity: FloatOrArray) -> FloatOrArray:
    """Observed over emitted wavelength, 1 + v/c, for ``velocity`` in km/s (positive: receding).

    The first-order formula is the field's convention for radial velocities measured from spectra, and the authors';
    at 500 km/s it differs from the relativistic one by 0.4 km/s.
    """
    return 1.0 + velocity / SPEED_OF_LIGHT


def pixel_shift(velocity: FloatOrArray) -> FloatOrArray:
    """Shift in grid pixels of a spectrum that recedes at ``velocity`` km/s: log10(1 + v/c) / step."""
    shift: FloatOrArray = np.log10(doppler_factor(velocity)) / STEP_DEX
    return shift


def velocity_of_shift(pixels: FloatOrArray) -> FloatOrArray:
    """Velocity in km/s of a shift by ``pixels`` grid pixels; the inverse of :func:`pixel_shift`."""
    velocity: FloatOrArray = SPEED_OF_LIGHT * np.expm1(np.log(10.0) * STEP_DEX * pixels)
    return velocity


def refractive_index(vacuum: FloatOrArray) -> FloatOrArray:
    """Refractive index of standard air (15 C, 1 atm, 450 ppm CO2) at vacuum wavelengths in Angstrom.

    Ciddor (1996, Applied Optics 35, 1566), equation 1; valid from 2300 to 16900 Angstrom.
    """
    wavenumber2 = (1.0e4 / vacuum) ** 2  # 1/um^2
    return 1.0 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)


def vacuum_to_air(vacuum: FloatOrArray) -> FloatOrArray:
    """Wavelengths in standard air of vacuum wavelengths, both in Angstrom."""
    return vacuum / refractive_index(vacuum)


def air_to_vacuum(air: FloatOrArray) -> FloatOrArray:
    """Vacuum wavelengths of wavelengths in standard air, both in Angstrom.

    Inverts :func:`vacuum_to_air` by fixed-point iteration; three steps leave less than 1e-9 Angstrom.
    """
    vacuum = air * refractive_index(air)
    for _ in range(3):
        vacuum = air * refractive_index(vacuum)
    return vacuum
