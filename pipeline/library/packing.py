"""Packs a grid of synthetic spectra into the compact form that :mod:`twinlines.pipeline.library.library` interpolates.

The grid's ln flux, both arms together, is reduced to principal components: multilinear interpolation of ln flux is
then the same interpolation of a few hundred coefficients, followed by one matrix product. It must know no survey.

Run it as ``python -m twinlines.pipeline.library.packing GRID.npz OUT.npz``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, BLUE, RED
from twinlines.pipeline.library.components import Reduced, compress
from twinlines.pipeline.storage import hashed_npz

KIND = "spectral library"
VERSION = 1

AXES = ("teff", "logg", "feh", "alpha")
"""Names of the labels, in their order: K, dex of cm s-2, dex, dex."""

COMPONENTS = 250
"""Principal components kept; the error that they leave is measured whenever a grid is packed."""

_COLOURS = {"B": "blue", "R": "red"}


def pack(grid: str | Path, out: str | Path, components: int = COMPONENTS) -> dict[str, Any]:
    """Pack a grid of synthetic surface fluxes and return the header's notes, with the measured errors.

    Parameters
    ----------
    grid
        ``.npz`` with ``labels`` (node, 4) in the order of :data:`AXES`, and for blue and red ``wave_*`` (pixel,) in
        Angstrom (vacuum), ``lnflux_code_*`` (node, pixel) and ``lnflux_offset_*`` (node,), and ``lnflux_scale``:
        flux = exp(offset + scale * code), erg s-1 cm-2 A-1.
    out
        Packed library to write.
    components
        Principal components to keep.

    Raises
    ------
    ValueError
        If the file is no such grid, its wavelengths are not the arms' library grids, or two nodes share their labels.
    """
    labels, lnflux = _read_grid(Path(grid))
    axes, index = place_nodes(labels)
    if np.count_nonzero(index >= 0) != labels.shape[0]:
        raise ValueError(f"{grid}: two nodes have the same labels; keep one of them")
    compressed = compress(lnflux, components, most=components)
    attrs: dict[str, Any] = {
        "source": Path(grid).name,
        "nodes": int(labels.shape[0]),
        "components": compressed.reduced.scale.size,
        "relative_error": compressed.relative_error,
    }
    write(out, axes, index, compressed.mean, compressed.reduced, attrs)
    return attrs


def place_nodes(labels: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], NDArray[np.int32]]:
    """Axes of a grid, and the row of ``labels`` (node, 4) at each combination of their values, -1 where there is none.

    Where two nodes have the same labels, the index holds the later one, and so fewer rows than there are nodes.
    """
    axes = [np.unique(labels[:, column]) for column in range(len(AXES))]
    places = tuple(np.searchsorted(axis, labels[:, column]) for column, axis in enumerate(axes))
    index = np.full(tuple(axis.size for axis in axes), -1, dtype=np.int32)
    index[places] = np.arange(labels.shape[0])
    return axes, index


def write(
    out: str | Path,
    axes: Sequence[NDArray[np.float64]],
    index: NDArray[np.int32],
    mean: NDArray[np.float64],
    reduced: Reduced,
    attrs: Mapping[str, Any],
) -> str:
    """Write a library's file and return its digest.

    Parameters
    ----------
    axes, index
        As from :func:`place_nodes`.
    mean
        Mean ln flux, (pixel,): blue pixels, then red ones.
    reduced
        What the spectra differ from it.
    attrs
        Notes for the header, JSON-serialisable.
    """
    arrays: dict[str, NDArray[Any]] = dict(zip(AXES, axes, strict=True))
    split = BLUE.library_pixels
    for name, part in (("B", slice(None, split)), ("R", slice(split, None))):
        arrays[f"mean_{name}"] = mean[part].astype(np.float32)
        arrays[f"components_{name}"] = reduced.codes[:, part]
    arrays |= {"index": index, "coefficients": reduced.coefficients, "scale": reduced.scale}
    return hashed_npz.write(out, KIND, VERSION, arrays, attrs)


def _read_grid(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return labels (node, 4) and ln flux (node, blue pixels then red pixels)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            # Labels are stored in float32; rounding makes 0.4 of 0.4000000059.
            labels = np.round(stored["labels"].astype(np.float64), 5)
            parts, waves = [], {}
            for name in ARM_NAMES:
                colour = _COLOURS[name]
                waves[name] = stored[f"wave_{colour}"]
                offset = stored[f"lnflux_offset_{colour}"][:, None]
                lnflux = offset + float(stored["lnflux_scale"]) * stored[f"lnflux_code_{colour}"]
                parts.append(lnflux.astype(np.float32))
    except hashed_npz.DAMAGE as error:
        raise ValueError(f"{path} is not a grid of spectra in the layout that pack() reads: {error}") from error
    for arm in (BLUE, RED):
        wave = waves[arm.name]
        if wave.shape != (arm.library_pixels,) or not np.allclose(wave, arm.library_wavelength, rtol=1e-9, atol=0):
            raise ValueError(
                f"{path}: the {_COLOURS[arm.name]} wavelengths ({wave.size} pixels, {wave[0]:.4f} to {wave[-1]:.4f} A) "
                f"are not the library grid of arm {arm.name} ({arm.library_pixels} pixels, "
                f"{arm.library_wavelength[0]:.4f} to {arm.library_wavelength[-1]:.4f} A); resample the grid first"
            )
    return labels, np.concatenate(parts, axis=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Pack a grid from the command line and print the header's notes as JSON."""
    parser = argparse.ArgumentParser(description="Pack a grid of synthetic spectra into the form that is interpolated.")
    parser.add_argument("grid", type=Path, help="grid of synthetic spectra (.npz)")
    parser.add_argument("out", type=Path, help="packed library to write (.npz)")
    parser.add_argument("--components", type=int, default=COMPONENTS, help="principal components to keep")
    options = parser.parse_args(argv)
    print(json.dumps(pack(options.grid, options.out, options.components)))


if __name__ == "__main__":
    main()
