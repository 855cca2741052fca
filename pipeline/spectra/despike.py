"""Removes cosmic rays from single exposures.

LAMOST's pipeline removes no cosmic rays, and in a single exposure there is no second opinion. Two tests find them:

* *Sharpness*, ours. The spectrograph's optics blur light, not charge that a particle leaves in the detector. An edge
  sharper than the instrument's profile allows is therefore no star's, be it a spike of one pixel or a track of twenty
  along the dispersion. Emission lines, however bright or narrow at their source, arrive blurred.
* *Height*, the authors' (the toolkit of Zhang et al. 2022): a pixel far above, or very far below, a running median
  against the mean absolute deviation around it. It finds the low and isolated spikes; long tracks raise its scale and
  escape it.

Here is what the tests go by; the work is done in ``compiled/spikes.py``, one spectrum after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.spectra.compiled import repairing, spikes

PASSES = 5
"""Passes of the height test; the last one only looks, so that at most four repairs are made (the authors' maxiter)."""

HIGH, LOW = 4.0, -8.0
"""Bounds of the height test, in mean absolute deviations (the authors' nsigma)."""

WIDEN = 3
"""Pixels on each side of a flagged one that the height test repairs too (the authors' box of 7)."""

SHARP_PASSES = 6
"""Most passes of the sharpness test; most spectra need one or two."""

SHARP = 5.0
"""Significance at which an edge pair counts as sharp; one in fifty spectra of pure noise has one."""

SHARP_BESIDE = 3.5
"""The same within :data:`REACH` pixels of a repair of the pass before: tracks come in pieces."""

REACH = 24
"""Pixels on each side among which edge pairs compete; the best is repaired first."""

NARROWEST_PROFILE = 1.9
"""Standard deviation, in pixels, of a profile narrower than the instrument's anywhere (2.2 at R = 7500, 0.124 A)."""

_WIDTHS = (1, 2, 3, *range(5, 21))
_HALF = 5
_FINE = (2, 0.5)
_SCALE = (25, 9.0)
_FOOT, _LEVEL = 6, 8  # pixels beside a spike: where it may have feet, and beyond them
_WINGS = 0.03
_FLANKS = ((2, 0.55), (3, 0.30))  # at 2 and 3 pixels the profile gives 0.66 and 0.39 at least; noise takes some


class Repaired(NamedTuple):
    """Fluxes without spikes."""

    flux: Tensor
    """(spectrum, pixel), repaired; as given where ``failed``."""
    repaired: Tensor
    """(spectrum, pixel) bool, True where the value was replaced."""
    failed: Tensor
    """(spectrum,) bool, True where more than half of the pixels were flagged."""


def despike(wavelength: Tensor, flux: Tensor, sigma: Tensor) -> Repaired:
    """Replace spikes by linear interpolation between the pixels beside them.

    Parameters
    ----------
    wavelength
        (spectrum, pixel) on native pixels, Angstrom, ascending.
    flux
        (spectrum, pixel), any unit; the whole arm, wild ends included. Values that are not finite are replaced too.
    sigma
        (spectrum, pixel) its standard deviation; where it is not finite and positive nothing is called sharp.

    Returns
    -------
    Repaired
        With ``flux`` in its own dtype.
    """
    flux = flux.cpu().clone(memory_format=torch.contiguous_format)
    repaired, failed = torch.empty(flux.shape, dtype=torch.bool), torch.empty(flux.shape[0], dtype=torch.bool)
    spikes.despike(
        wavelength.to(torch.float64).cpu().contiguous().numpy(),
        flux.numpy(),
        sigma.to(dtype=flux.dtype).cpu().contiguous().numpy(),
        repaired.numpy(),
        failed.numpy(),
        _sharpness(flux.numpy().dtype),
        _height(flux.numpy().dtype),
    )
    return Repaired(flux, repaired, failed)


def fill(wavelength: Tensor, flux: Tensor, flagged: Tensor) -> None:
    """Interpolate in place over flagged pixels, linearly in wavelength; constant beyond the last good ones.

    Parameters
    ----------
    wavelength
        (spectrum, pixel), Angstrom, ascending; equal neighbours are allowed.
    flux
        (spectrum, pixel), any unit; changed where ``flagged``. A row without a good pixel becomes its last value.
    flagged
        (spectrum, pixel) bool.
    """
    repairing.fill_rows(wavelength.numpy(), flux.numpy(), flagged.numpy())


class _Edges(NamedTuple):
    taps: tuple[float, ...]
    """Weights of flux[j + k] - flux[j - 1 - k]: the part of a step that no blurred spectrum resembles."""
    scales: tuple[float, ...]
    """For each width, what makes a difference of two edges one standard deviation of white noise of sigma 1."""
    leak: float
    """Five times the largest response to a line of unit height of the narrowest profile: lines come in crowds, and
    with half of it one cool star in five has a continuum between lines that is taken for a track."""


@lru_cache(maxsize=1)
def _edges() -> _Edges:
    """Project a step on the complement of what the instrument's profile lets pass."""
    u = np.arange(2 * _HALF) - _HALF + 0.5
    # Covariance of a spectrum of white intrinsic structure seen through the profile, and of a free level.
    covariance = np.exp(-0.25 * (u[:, None] - u) ** 2 / NARROWEST_PROFILE**2) + 10.0
    values, vectors = np.linalg.eigh(covariance)
    passed = vectors[:, values > 0.03 * values[-2]]
    step = (u > 0).astype(np.float64)
    kernel = step - passed @ (passed.T @ step)

    def pairs(signal: np.typing.NDArray[np.float64], w: int) -> np.typing.NDArray[np.float64]:
        edge = np.correlate(signal, kernel, "valid")
        return edge[:-w] - edge[w:]

    x = np.arange(-60, 61).astype(np.float64)
    impulse = (x == 0).astype(np.float64)
    scales = [1.0 / float(np.linalg.norm(pairs(impulse, w))) for w in _WIDTHS]
    lines = [
        sign * np.exp(-0.5 * ((x - offset) / (NARROWEST_PROFILE * broader)) ** 2)
        for sign in (1.0, -1.0)
        for offset in (0.0, 0.25, 0.5)
        for broader in (1.05, 1.2, 1.4, 1.7, 2.2)
    ]
    leak = 5.0 * max(
        scale * float(pairs(line, w).max()) for w, scale in zip(_WIDTHS, scales, strict=True) for line in lines
    )
    return _Edges(tuple(float(tap) for tap in kernel[_HALF:]), tuple(scales), leak)


def _sharpness(kind: np.dtype[Any], passes: int = SHARP_PASSES) -> spikes.Sharpness:
    """The test of sharpness for fluxes of a dtype."""
    design, far = _edges(), _WIDTHS.index(2 * _HALF)
    return spikes.Sharpness(
        passes,
        np.array(design.taps, kind),
        np.array(_WIDTHS),
        np.array(design.scales, kind),
        far,
        kind.type(design.leak),
        kind.type(SHARP),
        kind.type(SHARP_BESIDE),
        REACH,
        _FOOT,
        _LEVEL,
        kind.type(_WINGS),
    )


def _height(kind: np.dtype[Any], passes: int = PASSES) -> spikes.Height:
    """The test of height for fluxes of a dtype."""
    distances, fractions = zip(*_FLANKS, strict=True)
    return spikes.Height(
        passes,
        kind.type(HIGH),
        kind.type(LOW),
        WIDEN,
        _gaussian(*_FINE).astype(kind),
        _gaussian(*_SCALE).astype(kind),
        np.array(distances),
        np.array(fractions, kind),
    )


def _gaussian(half: int, deviation: float) -> NDArray[np.float64]:
    """Half of the weights of a Gaussian of 2 * half + 1 taps, the middle first."""
    weights = np.exp(-0.5 * (np.arange(half + 1) / deviation) ** 2)
    return np.asarray(weights / (weights[0] + 2.0 * weights[1:].sum()))
