"""FITS tables of single stars, as a folder of real ones has them; made of the library, so that the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.library.library import Library

Array = NDArray[np.float64]

SUN = (5772.0, 4.44, 0.0, 0.0)
"""Library labels of the Sun: Teff (K), log g, [Fe/H], [alpha/Fe]."""


def star_spectrum(labels: tuple[float, ...] = SUN, *, step: float = 0.03) -> tuple[Array, Array]:
    """Wavelengths (vacuum, A) in equal steps, red after blue, and flux at R = 7500 of a star of the library."""
    waves, fluxes = [], []
    for name in ARM_NAMES:
        grid = ARMS[name].library_wavelength
        wave = np.arange(grid[0], grid[-1], step)
        waves.append(wave)
        fluxes.append(CubicSpline(grid, Library.load().flux(name, np.array([labels]))[0].astype(np.float64))(wave))
    return np.concatenate(waves), np.concatenate(fluxes)


def write_star(path: Path, wavelength: Array, flux: Array, /, header: Mapping[str, Any], **columns: Array) -> Path:
    """Write a table with the columns ``wavelength``, ``flux`` and any others, and a header; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fitsio.write(
        str(path),
        {"wavelength": wavelength, "flux": flux, **columns},
        header=dict(header),
        clobber=True,
        extname="STAR",
    )
    return path


def write_stars(folder: Path, stars: Mapping[str, tuple[float, ...]], kinds: Mapping[str, str] | None = None) -> Path:
    """Write a folder of stars of the library, R = 7500, by name and labels, each with its class; returns the folder."""
    for name, labels in stars.items():
        header = {"NAME": name, "R": 7500.0, "CLASS": (kinds or {}).get(name, "star"), "TEFF": labels[0]}
        write_star(folder / f"{name}.fits", *star_spectrum(labels), header=header)
    return folder
