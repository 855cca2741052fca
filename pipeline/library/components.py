"""Principal components of spectra, also of more than fit into memory: how every library is packed.

The spectra lie in a file and are read block by block. Block power iteration (Halko, Martinsson and Tropp 2011, SIAM
Review 53, 217, algorithm 4.4) finds the leading components over all of them: ten readings of the file, and beyond a
block no more memory than for the components themselves and their coefficients. It knows no labels and no grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.progress import Progress, silent

TOLERABLE = 1e-3
"""Relative error of the flux at the 99.9th percentile over nodes and pixels, above which more components are taken."""

MOST_COMPONENTS = 1000
"""So many, but not more, are taken to reach it: the time that a spectrum takes grows with them."""

_BLOCK = 512  # spectra read at once: 21 MB
_ITERATIONS = 3
_OVERSAMPLING = 16  # directions beyond the wanted ones, which sharpen the last of those
_NEGLIGIBLE = 1e-7  # rms in ln flux; a component that contributes less is rounding

_DECADES = (-9.0, 1.0)
_PER_DECADE = 1000


class Reduced(NamedTuple):
    """Spectra as principal components: ln flux - mean = coefficients @ (scale[:, None] * codes)."""

    coefficients: NDArray[np.float32]
    """(node, component)."""
    codes: NDArray[np.int16]
    """Components in steps of ``scale``, (component, pixel); blue pixels, then red ones."""
    scale: NDArray[np.float32]
    """(component,)."""


class Compressed(NamedTuple):
    """Spectra as a mean and principal components, with what that loses."""

    mean: NDArray[np.float64]
    """Mean ln flux, (pixel,)."""
    reduced: Reduced
    """Components and coefficients."""
    relative_error: dict[str, float]
    """Relative error of the restored flux: median, 99.9th percentile, maximum, rms, worst node's rms."""


def compress(
    rows: NDArray[np.float32], components: int, progress: Progress = silent, *, most: int | None = None
) -> Compressed:
    """Find the mean and at least so many components of spectra, as far as there are any.

    Parameters
    ----------
    rows
        ln flux, (node, pixel); may be a memory map of any length.
    components
        Components to keep. While the error at the 99.9th percentile exceeds :data:`TOLERABLE`, twice as many are
        taken, up to :data:`MOST_COMPONENTS`.
    progress
        Told of stages.
    most
        Components that are not exceeded whatever the error, instead.
    """
    most = MOST_COMPONENTS if most is None else most
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in _blocks(rows)) / rows.shape[0]
    mean = np.asarray(mean.astype(np.float32), dtype=np.float64)  # as it will be stored
    while True:
        reduced = _reduce(rows, mean, components, progress)
        error = _relative_error(rows, mean, reduced)
        enough = error["percentile_99.9"] <= TOLERABLE or reduced.scale.size < components
        if enough or components >= most:
            return Compressed(mean, reduced, error)
        components = min(2 * components, most)


def _blocks(rows: NDArray[np.float32], mean: NDArray[np.float64] | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the spectra, minus the mean if there is one, some at a time."""
    for start in range(0, rows.shape[0], _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK])
        yield block if mean is None else (block - mean).astype(np.float32)


def _reduce(rows: NDArray[np.float32], mean: NDArray[np.float64], components: int, progress: Progress) -> Reduced:
    leading = _leading(rows, mean, components, progress)
    codes, scale = _encode(leading)
    rounded = scale[:, None].astype(np.float64) * codes
    # Fitted to the rounded components, the coefficients absorb most of the rounding.
    project = np.linalg.solve(rounded @ rounded.T, rounded).T
    coefficients = np.concatenate([block @ project for block in _blocks(rows, mean)])
    return Reduced(coefficients.astype(np.float32), codes, scale)


def _leading(
    rows: NDArray[np.float32], mean: NDArray[np.float64], components: int, progress: Progress
) -> NDArray[np.float64]:
    """Leading components, (component, pixel), the most important first; fewer than asked for if there are no more.

    Both halves of an iteration are orthonormalised, so that float32 products suffice: rounding is then weighed against
    the components' sizes, not against their squares, which span eight decades and more.
    """
    width = min(components + _OVERSAMPLING, *rows.shape)
    basis = np.random.default_rng(0).standard_normal((rows.shape[1], width))
    for iteration in range(_ITERATIONS):
        scores = np.linalg.qr(_scores(rows, mean, basis)).Q
        image = np.zeros((rows.shape[1], scores.shape[1]))
        for start, block in zip(range(0, rows.shape[0], _BLOCK), _blocks(rows, mean), strict=True):
            image += block.T @ scores[start : start + _BLOCK].astype(np.float32)
        basis = np.linalg.qr(image).Q
        progress("finding components", iteration + 1, _ITERATIONS)
    _, sizes, directions = np.linalg.svd(_scores(rows, mean, basis), full_matrices=False)
    most = min(components, rows.shape[0] - 1)  # a mean of n spectra leaves n - 1 directions
    count = int(np.count_nonzero(sizes[:most] > _NEGLIGIBLE * np.sqrt(rows.size)))
    leading = directions[:count] @ basis.T
    # The sign of a component is arbitrary; ours sums to a positive number.
    return np.asarray(leading * np.where(leading.sum(axis=1, keepdims=True) < 0, -1.0, 1.0))


def _encode(basis: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Round components (component, pixel) to 16-bit codes, with the step of each that gives it the norm 1.

    Each is scaled to its own largest element, so that no step is wasted.
    """
    peak = np.abs(basis).max(axis=1)
    codes = np.round(basis / peak[:, None] * np.iinfo(np.int16).max).astype(np.int16)
    scale = (peak / np.iinfo(np.int16).max / np.linalg.norm(basis, axis=1)).astype(np.float32)
    return codes, scale


def _scores(rows: NDArray[np.float32], mean: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    single = basis.astype(np.float32)
    return np.concatenate([(block @ single).astype(np.float64) for block in _blocks(rows, mean)])


def _relative_error(rows: NDArray[np.float32], mean: NDArray[np.float64], reduced: Reduced) -> dict[str, float]:
    """Measure over all nodes and pixels; percentiles from a histogram whose bins are 0.2 % wide."""
    components = reduced.scale[:, None] * reduced.codes
    bins = int(_PER_DECADE * (_DECADES[1] - _DECADES[0]))
    counts, squares = np.zeros(bins, dtype=np.int64), []
    largest = 0.0
    for start, block in zip(range(0, rows.shape[0], _BLOCK), _blocks(rows, mean), strict=True):
        error = np.abs(np.expm1(reduced.coefficients[start : start + _BLOCK] @ components - block))
        largest = max(largest, float(error.max()))
        squares.append(np.mean(error.astype(np.float64) ** 2, axis=1))
        decade = np.log10(np.maximum(error, 10.0 ** _DECADES[0]))
        place = ((decade - _DECADES[0]) * _PER_DECADE).astype(np.int64)
        counts += np.bincount(np.clip(place, 0, bins - 1).ravel(), minlength=bins)
    per_node = np.concatenate(squares)
    reached = np.searchsorted(np.cumsum(counts), np.array([0.5, 0.999]) * counts.sum())
    median, percentile = 10.0 ** (_DECADES[0] + (reached + 0.5) / _PER_DECADE)
    values = {
        "median": min(median, largest),
        "percentile_99.9": min(percentile, largest),
        "max": largest,
        "rms": np.sqrt(per_node.mean()),
        "worst_node_rms": np.sqrt(per_node.max()),
    }
    return {name: float(f"{value:.3g}") for name, value in values.items()}
