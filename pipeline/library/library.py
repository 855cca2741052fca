"""The synthetic spectral library: surface flux for any (Teff, logg, [Fe/H], [alpha/Fe]) inside its domain.

ln F_lambda is interpolated multilinearly between the grid's nodes. The packed library keeps ln F_lambda as principal
components, and interpolating their coefficients is the same thing: one small gather, one matrix product and one
exponential for each batch of spectra. The packaged library holds 2,184 nodes (Teff 3500-10000 K, logg 0-5, [Fe/H]
-2..+0.5, [alpha/Fe] -0.5..+0.7; not every combination) at R = 7500 without rotation. At the nodes the relative error of
the packed flux is 8.2e-5 in the median, 1.3e-3 at the 99.9th percentile, 1.0e-2 at most, 2.1e-4 rms. What the spectra
themselves are good for stands in ``data/README.md``.

This module knows stars' labels and wavelengths in the rest frame; it must never know velocities, noise or a survey.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.arms import arm as arm_called
from twinlines.pipeline.library.packing import AXES, KIND, VERSION
from twinlines.pipeline.storage import hashed_npz

_BATCH = 2048
"""Spectra of one matrix product; bounds the memory beyond the result to about 20 MB."""

_SNAP = 1e-6
"""Fraction of a grid step within which a label counts as being on the node (float32 labels: 0.4 is 0.4000000059)."""

_NAMES = {"teff": "Teff", "logg": "logg", "feh": "[Fe/H]", "alpha": "[alpha/Fe]"}
_UNITS = {"teff": " K", "logg": "", "feh": "", "alpha": ""}


class Outside(IntEnum):
    """Why labels lie outside the library; the first that applies, in this order after NOT_FINITE."""

    INSIDE = 0
    """They do not: the library can be interpolated there."""
    TEFF_LOW = 1
    TEFF_HIGH = 2
    LOGG_LOW = 3
    LOGG_HIGH = 4
    FEH_LOW = 5
    FEH_HIGH = 6
    ALPHA_LOW = 7
    ALPHA_HIGH = 8
    HOLE = 9
    """Within the limits, but the grid lacks a node that interpolation needs there."""
    NOT_FINITE = 10
    """A label is NaN or infinite."""


class OutsideLibraryError(ValueError):
    """Labels lie outside the library's domain."""


@dataclass(frozen=True, eq=False)
class Library:
    """A grid of synthetic surface fluxes in packed form."""

    teff: NDArray[np.float64]
    """Node values of effective temperature, K, ascending."""
    logg: NDArray[np.float64]
    """Node values of log10 surface gravity, cm s-2, ascending."""
    feh: NDArray[np.float64]
    """Node values of [Fe/H], dex, ascending."""
    alpha: NDArray[np.float64]
    """Node values of [alpha/Fe], dex, ascending."""
    index: NDArray[np.int32]
    """Row of the coefficients for each combination of node values, -1 where the grid has no node; (teff, logg, feh,
    alpha)."""
    coefficients: NDArray[np.float32]
    """Coefficients of the principal components, (node, component)."""
    mean: Mapping[str, NDArray[np.float32]]
    """Mean ln flux over the nodes by arm, (pixel,); flux in erg s-1 cm-2 A-1."""
    components: Mapping[str, NDArray[np.float32]]
    """Principal components of ln flux by arm, (component, pixel)."""
    digest: str
    """Content hash of the packed library; goes into the provenance of what is computed with it."""
    notes: Mapping[str, Any]
    """What its maker noted: where it comes from, number of nodes, measured errors."""

    @classmethod
    def load(cls, path: str | Path | None = None) -> Library:
        """Load a packed library; without ``path``, the packaged one.

        Each file is read once as long as it does not change, then shared; arrays are read-only.

        Raises
        ------
        twinlines.pipeline.storage.hashed_npz.PackedError
            If the file is missing, damaged, or of another format or version.
        """
        if path is None:
            return _packaged()
        try:
            status = Path(path).stat()
        except OSError:
            return _read(Path(path))  # says what is wrong
        return _cached(Path(path).resolve(), status.st_mtime_ns, status.st_size)

    def __repr__(self) -> str:
        limits = ", ".join(
            f"{_NAMES[name]} {axis[0]:g} to {axis[-1]:g}{_UNITS[name]}"
            for name, axis in zip(_NAMES, self.axes, strict=True)
        )
        return (
            f"<Library: {len(self.coefficients)} nodes, {limits}\n"
            f" {self.coefficients.shape[1]} components, arms {', '.join(self.mean)}; digest {self.digest[:12]}>"
        )

    @property
    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """The four axes in the order of the labels: Teff, logg, [Fe/H], [alpha/Fe]."""
        return self.teff, self.logg, self.feh, self.alpha

    def nodes(self) -> NDArray[np.float64]:
        """Labels of the nodes that exist, shape (node, 4): Teff in K, logg, [Fe/H], [alpha/Fe]."""
        places = np.nonzero(self.index >= 0)
        return np.stack([axis[place] for axis, place in zip(self.axes, places, strict=True)], axis=1)

    def outside(self, labels: ArrayLike) -> NDArray[np.int8]:
        """Say for each row of labels whether, and by which limit, it lies outside the library.

        Parameters
        ----------
        labels
            Teff in K, logg, [Fe/H], [alpha/Fe]; shape (n, 4).

        Returns
        -------
        codes : (n,) int8
            Values of :class:`Outside`; 0 is inside.
        """
        labels = _as_labels(labels)
        codes = np.zeros(labels.shape[0], dtype=np.int8)
        for column, axis in enumerate(self.axes):
            tolerance = _tolerance(axis)
            undecided = codes == 0
            codes[undecided & (labels[:, column] < axis[0] - tolerance)] = 2 * column + 1
            codes[undecided & (labels[:, column] > axis[-1] + tolerance)] = 2 * column + 2
        codes[~np.isfinite(labels).all(axis=1)] = Outside.NOT_FINITE
        inside = np.flatnonzero(codes == 0)
        hole = np.zeros(inside.size, dtype=bool)
        for rows, weight in self._corners(labels[inside]):
            hole |= (weight > 0) & (rows < 0)
        codes[inside[hole]] = Outside.HOLE
        return codes

    def flux(self, arm: str, labels: ArrayLike) -> NDArray[np.float32]:
        """Interpolate surface fluxes at R = 7500, at rest and without rotation.

        Parameters
        ----------
        arm
            "B" or "R".
        labels
            Teff in K, logg, [Fe/H], [alpha/Fe]; shape (n, 4).

        Returns
        -------
        flux : (n, arm.library_pixels) float32
            Astrophysical surface flux F_lambda, erg s-1 cm-2 A-1, on ``arm.library_wavelength`` (vacuum). The last
            bits (1e-6) may depend on how spectra are batched, as those of any matrix product.

        Raises
        ------
        OutsideLibraryError
            If a row lies outside the library; the message names the first, its labels and the limit.
        ValueError
            If there is no such arm, or the labels are not of shape (n, 4).
        """
        name = arm_called(arm).name
        coefficients = self.interpolate(labels)
        mean, components = self.mean[name], self.components[name]
        flux = np.empty((coefficients.shape[0], mean.size), dtype=np.float32)
        for start in range(0, coefficients.shape[0], _BATCH):
            batch = flux[start : start + _BATCH]
            np.matmul(coefficients[start : start + _BATCH], components, out=batch)
            batch += mean
            np.exp(batch, out=batch)
        return flux

    def interpolate(self, labels: ArrayLike) -> NDArray[np.float32]:
        """Interpolate the coefficients: ln flux = mean + coefficients @ components.

        Parameters
        ----------
        labels
            Teff in K, logg, [Fe/H], [alpha/Fe]; shape (n, 4).

        Returns
        -------
        coefficients : (n, component) float32
            A row does not depend on the others.

        Raises
        ------
        OutsideLibraryError, ValueError
            As :meth:`flux`.
        """
        labels = _as_labels(labels)
        codes = self.outside(labels)
        if codes.any():
            row = int(np.flatnonzero(codes)[0])
            raise OutsideLibraryError(self._complaint(row, labels[row], Outside(int(codes[row]))))
        result = np.zeros((labels.shape[0], self.coefficients.shape[1]), dtype=np.float32)
        for rows, weight in self._corners(labels):
            # A corner that does not exist has weight zero here, so it does not matter which row stands in for it.
            result += weight[:, None].astype(np.float32) * self.coefficients[np.maximum(rows, 0)]
        return result

    def _corners(self, labels: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
        """Yield, for each corner of the cells around ``labels``, its rows (-1: no node) and weights.

        There are 16, or half as many for each axis that has a single value: there, no cell has an extent.
        """
        lower, fractions = [], []
        for column, axis in enumerate(self.axes):
            values = labels[:, column]
            if axis.size == 1:
                lower.append(np.zeros(values.size, dtype=np.intp))
                fractions.append(np.zeros(values.size))
                continue
            place = np.clip(np.searchsorted(axis, values, side="right") - 1, 0, axis.size - 2)
            fraction = (values - axis[place]) / (axis[place + 1] - axis[place])
            fraction[np.abs(fraction) < _SNAP] = 0.0
            fraction[np.abs(fraction - 1.0) < _SNAP] = 1.0
            lower.append(place)
            fractions.append(fraction)
        for corner in itertools.product(*((0, 1)[: axis.size] for axis in self.axes)):
            weight = np.ones(labels.shape[0])
            for step, fraction in zip(corner, fractions, strict=True):
                weight *= fraction if step else 1.0 - fraction
            yield self.index[tuple(place + step for place, step in zip(lower, corner, strict=True))], weight

    def _complaint(self, row: int, labels: NDArray[np.float64], code: Outside) -> str:
        shown = ", ".join(
            f"{_NAMES[name]} {value:g}{_UNITS[name]}" for name, value in zip(AXES, labels.tolist(), strict=True)
        )
        if code is Outside.NOT_FINITE:
            return f"row {row} ({shown}) has a label that is not a finite number; drop the row"
        cure = "drop the row or import a wider library"
        if code is Outside.HOLE:
            return f"the library has no nodes around row {row} ({shown}), although each label is in range; {cure}"
        name = AXES[(code - 1) // 2]
        axis = self.axes[(code - 1) // 2]
        side, limit = ("above", axis[-1]) if code % 2 == 0 else ("below", axis[0])
        return f"no library node {side} {_NAMES[name]} {limit:g}{_UNITS[name]} (asked in row {row}: {shown}); {cure}"


def _tolerance(axis: NDArray[np.float64]) -> float:
    """How far beyond the ends of an axis a label counts as being on the end."""
    if axis.size == 1:
        return _SNAP * max(1.0, abs(float(axis[0])))
    return _SNAP * float(np.diff(axis).min())


def _as_labels(labels: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(labels, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(AXES):
        raise ValueError(f"labels must have shape (n, 4): Teff, logg, [Fe/H], [alpha/Fe]; got {array.shape}")
    return array


@lru_cache(maxsize=1)
def _packaged() -> Library:
    with resources.as_file(resources.files("twinlines.pipeline") / "data" / "library.npz") as path:
        return _read(path)


@lru_cache(maxsize=4)
def _cached(path: Path, _mtime_ns: int, _size: int) -> Library:
    """A library by what tells whether its file has changed: a worker asks for it with every task."""
    return _read(path)


def _read(path: Path) -> Library:
    content = hashed_npz.read(path, KIND, VERSION)
    arrays = dict(content.arrays)
    scale = arrays["scale"][:, None]
    for name in ARM_NAMES:
        arrays[f"components_{name}"] = scale * arrays[f"components_{name}"]
    for values in arrays.values():
        values.setflags(write=False)
    return Library(
        teff=arrays["teff"],
        logg=arrays["logg"],
        feh=arrays["feh"],
        alpha=arrays["alpha"],
        index=arrays["index"],
        coefficients=arrays["coefficients"],
        mean={name: arrays[f"mean_{name}"] for name in ARM_NAMES},
        components={name: arrays[f"components_{name}"] for name in ARM_NAMES},
        digest=content.digest,
        notes=content.attrs,
    )
