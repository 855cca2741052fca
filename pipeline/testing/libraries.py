"""Made-up grids of synthetic spectra in the formats that the import reads, for anybody's tests.

The spectra are Gaussian lines on a constant continuum, so that what a Gaussian instrument makes of them is known
exactly. Their flux rises with Teff as surface flux does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import air_to_vacuum

RANGE = (4880.0, 6900.0)
"""Wavelengths in Angstrom that the grids cover by default: both arms with their margins, and some more."""

AXES: dict[str, tuple[float, ...]] = {
    "TEFF": (5000.0, 5500.0, 6000.0),
    "LOGG": (4.0, 4.5),
    "METALS": (-0.5, 0.0),
    "ALPHA": (0.0, 0.4),
}
"""Axes of a small grid, by names as FERRE files have them."""

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
_WIDTH = 4.0 / 299_792.458  # sd of the lines themselves in ln(wavelength): 4 km/s
_FORWARD: dict[int, Callable[[NDArray[Any]], NDArray[np.float64]]] = {0: lambda x: x, 1: np.log10, 2: np.log}
_BACKWARD: dict[int, Callable[[NDArray[Any]], NDArray[np.float64]]] = {0: lambda x: x, 1: lambda x: 10.0**x, 2: np.exp}

Grid = Mapping[str, Sequence[float]]
Flux = Callable[[NDArray[np.float64], Mapping[str, float], float], NDArray[np.float64]]


def flux(wavelength: NDArray[np.float64], labels: Mapping[str, float], resolution: float) -> NDArray[np.float64]:
    """Flux of a star as an instrument of a resolving power sees it, at vacuum wavelengths in Angstrom.

    ``labels`` are named as in :data:`AXES`; those not given are solar, further ones make the lines wider.
    """
    rng = np.random.default_rng(5)
    centres, depths = rng.uniform(np.log(RANGE[0]), np.log(RANGE[1]), 400), rng.uniform(0.1, 0.6, 400)
    kinds = rng.integers(0, 3, 400)
    teff = labels.get("TEFF", 5750.0)
    strengths = [
        1.0 + 0.3 * labels.get("METALS", 0.0) + 0.02 * labels.get("VMIC", 1.0),
        1.0 + 0.5 * labels.get("ALPHA", 0.0) + 0.1 * labels.get("METALS", 0.0),
        1.0 + 0.1 * (labels.get("LOGG", 4.5) - 4.5),
    ]
    sigma = np.hypot(_WIDTH, 1.0 / (_FWHM * resolution))
    x, result = np.log(wavelength), np.ones_like(wavelength)
    for centre, depth, kind in zip(centres, depths, kinds, strict=True):
        near = slice(*np.searchsorted(x, (centre - 9.0 * sigma, centre + 9.0 * sigma)))
        profile = np.exp(-0.5 * ((x[near] - centre) / sigma) ** 2)
        result[near] -= 0.5 * depth * strengths[kind] * (5750.0 / teff) * _WIDTH / sigma * profile
    return np.asarray(result * 1e6 * (teff / 5750.0) ** 4.5)


def wavelengths(limits: tuple[float, float] = RANGE, *, logw: int = 1, step: float = 1.6e-5) -> NDArray[np.float64]:
    """Wavelengths in Angstrom, equidistant in wavelength, log10 or ln (``logw`` 0, 1, 2), about ``step`` in ln."""
    start, end = _FORWARD[logw](np.array(limits))
    number = int(np.log(limits[1] / limits[0]) / step) + 1
    return _BACKWARD[logw](np.linspace(start, end, number))


def write_ferre(
    path: Path,
    axes: Grid = AXES,
    *,
    segments: Sequence[tuple[float, float]] = (RANGE,),
    resolutions: Sequence[float] = (20_000.0,),
    logw: int = 1,
    step: float = 1.6e-5,
    irregular: bool = False,
    in_air: bool = False,
    missing: Collection[int] = (),
    spectrum: Flux = flux,
    extra: Sequence[str] = (),
) -> Path:
    """Write a FERRE grid of all combinations of ``axes``; nodes in ``missing`` are lines of zeros.

    Parameters
    ----------
    segments, resolutions
        Wavelength limits in Angstrom and resolving power of each segment; with several, the header is a MULTI one.
    logw, step
        As for :func:`wavelengths`.
    irregular
        Write the labels on each line instead of LLIMITS and STEPS.
    in_air
        Whether the header's wavelengths, and ``segments``, are in air.
    extra
        Further lines of the main header.
    """
    stored = [wavelengths(limits, logw=logw, step=step) for limits in segments]
    waves = [np.where(wave < 2000.0, wave, air_to_vacuum(wave)) if in_air else wave for wave in stored]
    grids = [_FORWARD[logw](wave) for wave in stored]
    with path.open("w") as file:
        file.write("\n".join(_ferre_header(axes, grids, resolutions, logw, irregular, extra)) + "\n")
        for number, values in enumerate(itertools.product(*axes.values())):
            labels = dict(zip(axes, values, strict=True))
            fluxes = [spectrum(wave, labels, R) for wave, R in zip(waves, resolutions, strict=True)]
            numbers = np.concatenate(fluxes) * (number not in missing)
            if irregular:
                numbers = np.concatenate([values, numbers])
            file.write(" ".join(np.char.mod("%.7e", numbers)) + "\n")
    return path


def _ferre_header(
    axes: Grid,
    grids: Sequence[NDArray[np.float64]],
    resolutions: Sequence[float],
    logw: int,
    irregular: bool,
    extra: Sequence[str],
) -> list[str]:
    values = [np.array(axis) for axis in axes.values()]
    steps = [float(axis[1] - axis[0]) if axis.size > 1 else 0.0 for axis in values]
    common = [
        f" N_OF_DIM = {len(axes)}",
        f" N_P = {' '.join(str(axis.size) for axis in values)}",
        *(f" LABEL({number}) = '{name}'" for number, name in enumerate(axes, start=1)),
        *([" TYPE = 'irregular'"] if irregular else []),
        *([] if irregular else [f" LLIMITS = {' '.join(f'{axis[0]:.5f}' for axis in values)}"]),
        *([] if irregular else [f" STEPS = {' '.join(f'{step:.5f}' for step in steps)}"]),
    ]
    described = [
        [
            f" NPIX = {grid.size}",
            f" WAVE = {grid[0]:.15g} {(grid[-1] - grid[0]) / (grid.size - 1):.15g}",
            f" LOGW = {logw}",
            f" RESOLUTION = {R:g}",
        ]
        for grid, R in zip(grids, resolutions, strict=True)
    ]
    main = [" &SYNTH", " ID = 'made up = for tests'", " DATE = '2022-01-01'"]
    if len(grids) == 1:
        return [*main, *common, *described[0], *extra, " /"]
    blocks = [[" &SYNTH", *common, *segment, " /"] for segment in described]
    return [*main, f" MULTI = {len(grids)}", *common, *extra, " /", *itertools.chain(*blocks)]


def write_folder(
    folder: Path, axes: Grid = AXES, *, resolution: float = 20_000.0, spectrum: Flux = flux, gz: bool = False
) -> list[Path]:
    """Write one FITS table with columns ``wave`` (vacuum, A) and ``flux`` for each combination of ``axes``.

    The header of the table has the labels under the names of the axes, and the resolving power under ``R``.
    """
    folder.mkdir(parents=True)
    wave, paths = wavelengths(), []
    for number, values in enumerate(itertools.product(*axes.values())):
        labels = dict(zip(axes, values, strict=True))
        paths.append(folder / f"star{number:03d}.fits{'.gz' if gz else ''}")
        table = {"wave": wave, "flux": spectrum(wave, labels, resolution)}
        fitsio.write(str(paths[-1]), table, header={**labels, "R": resolution}, clobber=True)
    return paths
