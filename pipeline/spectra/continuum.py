"""The continuum: a clipped cubic smoothing spline, the same for observed and for synthetic spectra.

It is the authors' "spline" normalisation (production settings of their toolkit; Zhang et al. 2021, ApJS 256, 14): the
function f that minimises the sum of (flux - f)^2 over the kept pixels + 999999 Angstrom^3 times the integral of f''^2,
fitted three times with two rounds of asymmetric clipping in between. It equals
``scipy.interpolate.make_smoothing_spline(lam=999999)`` on the kept pixels, for whole batches at once: on real exposures
within 4e-5 of the flux on the networks' grid, and on the detector's sampling within 1.2e-5 in the median over pixels
and 3e-4 at most. It must never know an arm, an instrument or a star.

How. Such a spline is smooth over some 50 Angstrom, so that a knot every few Angstrom represents it as well as a knot
on every pixel. Our knots stand every ``m`` pixels, uniform in *pixel index*, not in wavelength. Then the four cubic
B-splines that overlap an interval have the same values on its pixels in every interval of every spectrum, and the
normal equations are products of small constant matrices with the reshaped weights and fluxes. Wavelength enters only
through the roughness penalty, by the chain rule on a polynomial wavelength(index), by Gauss-Legendre quadrature.

The normal equations have three diagonals beside the main one; they are made and solved by ``compiled/spline.py``, one
spectrum after the other, so that a continuum does not depend, in any bit, on the other spectra of the batch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from twinlines.pipeline.spectra.compiled.spline import NODES, Basis, Clipping, continua

SMOOTHING = 999_999.0
"""Weight of the integral of f''^2, Angstrom^3: (1 - p) / p with the authors' p = 1e-6."""

CLIP_LOW, CLIP_HIGH = -1.0, 4.0
"""Pixels are kept while their residual lies between these multiples of its local standard deviation."""

WINDOW = 100.0
"""Half width of the windows in which the standard deviation is measured, and the spacing of their centres, Angstrom."""

MAXIMUM_SPAN = 20_000.0
"""A spectrum that spans more Angstrom, or none, has no wavelengths worth the name, and no continuum."""

MINIMUM_PIXELS = 10
"""A spectrum of no more usable (finite, positive) pixels has no continuum."""

_DEGREE = 5


_PAIRS = tuple((i, j) for i in range(4) for j in range(i, 4))
_FIRST = [i for i, _ in _PAIRS]
_SECOND = [j for _, j in _PAIRS]


def continuum(wavelength: Tensor, flux: Tensor, good: Tensor | None = None, *, iterations: int = 2) -> Tensor:
    """Fit the continuum of each spectrum.

    Parameters
    ----------
    wavelength
        (pixel,) or (spectrum, pixel), Angstrom, ascending. It must be a smooth function of the pixel index, as on
        a detector or a log-wavelength grid, with intervals of 64 pixels not much above 10 Angstrom.
    flux
        (spectrum, pixel), any unit. Pixels that are not finite and positive take no part.
    good
        (spectrum, pixel) bool; pixels that may take part, by default all.
    iterations
        Rounds of clipping.

    Returns
    -------
    Tensor
        (spectrum, pixel) float64, in the unit of ``flux``; NaN throughout where 10 pixels or fewer are usable, or
        the wavelengths are not finite or span nothing. Outside the kept pixels it continues as a straight line.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if flux.ndim != 2:
        raise ValueError(f"flux has shape {tuple(flux.shape)}; expected (spectrum, pixel)")
    rows, pixels = flux.shape
    if wavelength.shape not in ((pixels,), (rows, pixels)):
        raise ValueError(f"wavelength has shape {tuple(wavelength.shape)}, which does not fit flux {rows, pixels}")
    if good is not None and good.shape != flux.shape:
        raise ValueError(f"good has shape {tuple(good.shape)}, flux has {rows, pixels}")
    device = flux.device
    result = torch.full((rows, pixels), torch.nan, dtype=torch.float64)
    if pixels >= 8:
        x = wavelength.to(torch.float64).cpu().reshape(-1, pixels).contiguous()
        allowed = torch.ones((1, pixels), dtype=torch.bool) if good is None else good.cpu()
        how = Clipping(iterations, CLIP_LOW, CLIP_HIGH, WINDOW, MAXIMUM_SPAN, MINIMUM_PIXELS)
        if flux.dtype not in (torch.float32, torch.float64):
            flux = flux.to(torch.float64)
        arrays = (x.numpy(), flux.detach().cpu().contiguous().numpy(), allowed.contiguous().numpy())
        continua(*arrays, _basis(pixels), how, result.numpy())
    return result.to(device)


def normalise(wavelength: Tensor, flux: Tensor, good: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Divide each spectrum by its continuum.

    Parameters
    ----------
    wavelength, flux, good
        As for :func:`continuum`.

    Returns
    -------
    normalised, continuum
        (spectrum, pixel) float64 each; the first is a pure number, the second in the unit of ``flux``. Where a
        continuum is not positive, ``normalised`` is NaN.
    """
    fitted = continuum(wavelength, flux, good)
    normalised = torch.where(fitted > 0.0, flux.to(torch.float64) / fitted, torch.nan)
    return normalised, fitted


@lru_cache(maxsize=32)
def _basis(pixels: int) -> Basis:
    """Everything that depends on the number of pixels only."""
    # Some 50 knots at least, however few the pixels; 64 pixels are 6 to 9 Angstrom on the survey's detectors.
    m = max(1, min(64, pixels // 48))
    count = -(-pixels // m)
    inside = (np.arange(m) + 0.5) / m
    values = _cubic(inside)[0]
    products = values[:, _FIRST] * values[:, _SECOND]

    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    _, slope, curvature = _cubic((nodes + 1.0) / 2.0)
    # Legendre polynomials of the index, scaled to -1..1, keep the fit of wavelength(index) well conditioned.
    scale = 2.0 / pixels
    centred = (np.arange(pixels) + 0.5) * scale - 1.0
    at_nodes = ((np.arange(count)[:, None] + (nodes + 1.0) / 2.0) * m).ravel() * scale - 1.0
    identity = np.eye(_DEGREE + 1)
    derivatives = [legendre.legval(at_nodes, legendre.legder(identity, order)) * scale**order for order in (1, 2)]

    return Basis(
        interval=m,
        intervals=count,
        values=np.ascontiguousarray(values.T),
        products=np.ascontiguousarray(np.concatenate([products, values], axis=1)),
        fit=np.ascontiguousarray(np.linalg.pinv(legendre.legvander(centred, _DEGREE)).T),
        derivatives=np.ascontiguousarray(np.stack(derivatives, axis=1)),
        slope=np.ascontiguousarray(slope / m),
        curvature=np.ascontiguousarray(curvature / m**2),
        quadrature=SMOOTHING * weights * m / 2.0,
    )


def _cubic(
    t: np.typing.NDArray[np.float64],
) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.float64], np.typing.NDArray[np.float64]]:
    """The four uniform cubic B-splines on an interval at 0 <= t <= 1, and two derivatives by t; (t, 4) each."""
    s = 1.0 - t
    values = np.stack([s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3], axis=-1) / 6.0
    first = np.stack([-(s**2), 3 * t**2 - 4 * t, -(3 * s**2 - 4 * s), t**2], axis=-1) / 2.0
    second = np.stack([s, 3 * t - 2, 3 * s - 2, t], axis=-1)
    return values, first, second
