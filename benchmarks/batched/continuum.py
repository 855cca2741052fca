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

A spectrum's continuum does not depend, in any bit, on the other spectra of the batch: kernels choose their order of
summation by the shape of their operands, so batches are cut into tiles of one constant size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from twinlines.pipeline.spectra.continuum import (
    _DEGREE,
    CLIP_HIGH,
    CLIP_LOW,
    MAXIMUM_SPAN,
    MINIMUM_PIXELS,
    SMOOTHING,
    WINDOW,
)
from twinlines.pipeline.spectra.interpolate import between
from twinlines.pipeline.spectra.tiles import filled, tiles

_NODES = 4


class _Basis(NamedTuple):
    """What is the same for every spectrum of so many pixels."""

    interval: int
    """Pixels between knots, m."""
    intervals: int
    """Number of intervals, K; there are K + 3 coefficients."""
    values: Tensor
    """The four B-splines on the pixels of an interval, (m, 4)."""
    products: Tensor
    """Their ten distinct products, (m, 10), in the order of ``_PAIRS``."""
    fit: Tensor
    """Wavelengths of the pixels -> coefficients of the polynomial wavelength(index), (pixel, coefficient)."""
    derivatives: Tensor
    """Those coefficients -> first and second derivative by index at the nodes, (coefficient, 2 * K * nodes)."""
    slope: Tensor
    """First derivative of the B-splines by index at an interval's nodes, (nodes, 4)."""
    curvature: Tensor
    """Second derivative of the B-splines by index at an interval's nodes, (nodes, 4)."""
    quadrature: Tensor
    """Weights of the nodes, in pixels, (nodes,)."""


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
    if pixels < 8:
        return torch.full((rows, pixels), torch.nan, dtype=torch.float64, device=flux.device)
    basis = _basis(pixels, str(flux.device))
    wavelength = wavelength.to(device=flux.device, dtype=torch.float64)
    result = torch.empty((rows, pixels), dtype=torch.float64, device=flux.device)
    for some in tiles(rows):
        tile = filled(flux[some].to(torch.float64))
        usable = tile.isfinite() & (tile > 0.0)
        if good is not None:
            usable &= filled(good[some])
        x = wavelength[None].contiguous() if wavelength.ndim == 1 else filled(wavelength[some])
        result[some] = _tile(basis, x, tile, usable, iterations)[: some.stop - some.start]
    return result


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


def _tile(basis: _Basis, wavelength: Tensor, flux: Tensor, usable: Tensor, iterations: int) -> Tensor:
    """Continuum of one full tile; ``wavelength`` (1 or TILE, pixel), the others (TILE, pixel)."""
    span = wavelength[:, -1] - wavelength[:, 0]
    known = wavelength.isfinite().all(dim=1) & (span > 0.0) & (span < MAXIMUM_SPAN)
    wavelength = torch.where(known[:, None], wavelength, torch.arange(wavelength.shape[1], device=flux.device) * 0.1)
    usable = usable & known[:, None]
    flux = torch.where(usable, flux, 0.0)
    penalty = _penalty(basis, wavelength)
    windows = _windows(wavelength)
    kept = usable
    for _ in range(iterations):
        residual = flux - _fit(basis, penalty, flux, kept)
        sigma = _scatter(windows, wavelength, residual, kept)
        centre = torch.where(usable, residual, torch.nan).nanmedian(dim=1, keepdim=True).values
        ratio = (residual - centre) / sigma
        kept = kept & (ratio > CLIP_LOW) & (ratio < CLIP_HIGH)
    fitted = _fit(basis, penalty, flux, kept)
    enough = (usable.sum(dim=1) > MINIMUM_PIXELS) & (kept.sum(dim=1) > MINIMUM_PIXELS)
    return torch.where(enough[:, None], fitted, torch.nan)


def _fit(basis: _Basis, penalty: Tensor, flux: Tensor, kept: Tensor) -> Tensor:
    """Penalised least squares on the kept pixels, evaluated on all of them."""
    rows, pixels = flux.shape
    m, count = basis.interval, basis.intervals
    weight = torch.nn.functional.pad(kept.to(torch.float64), (0, m * count - pixels))
    weighted = torch.nn.functional.pad(flux * kept, (0, m * count - pixels))
    local = (weight.reshape(-1, m) @ basis.products).reshape(rows, count, len(_PAIRS)) + penalty
    vector = (weighted.reshape(-1, m) @ basis.values).reshape(rows, count, 4)

    size = count + 3
    matrix = torch.zeros((rows, size, size), dtype=torch.float64, device=flux.device)
    for pair, (i, j) in enumerate(_PAIRS):
        matrix.diagonal(i - j, dim1=1, dim2=2)[:, i : i + count] += local[:, :, pair]
    right = torch.zeros((rows, size), dtype=torch.float64, device=flux.device)
    for i in range(4):
        right[:, i : i + count] += vector[:, :, i]
    # A spectrum without pixels has a singular matrix; cholesky_ex reports it and goes on, and the caller masks it.
    lower, _ = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(right[:, :, None], lower)[:, :, 0]
    fitted = solution.unfold(1, 4, 1).reshape(-1, 4) @ basis.values.T
    return fitted.reshape(rows, m * count)[:, :pixels]


def _penalty(basis: _Basis, wavelength: Tensor) -> Tensor:
    """SMOOTHING * integral of B_i'' B_j'' over each interval, derivatives by wavelength, (row, interval, pair)."""
    origin = wavelength[:, :1]
    coefficients = (wavelength - origin) @ basis.fit
    first, second = (coefficients @ basis.derivatives).reshape(-1, 2, basis.intervals, _NODES).unbind(1)
    # d2f/dx2 = (f_uu - f_u x_uu / x_u) / x_u^2 with x the wavelength and u the index; dx = x_u du.
    curve = (basis.curvature - (second / first)[..., None] * basis.slope) / first[..., None] ** 2
    curve = curve * (SMOOTHING * basis.quadrature * first).sqrt()[..., None]
    return (curve[..., _FIRST] * curve[..., _SECOND]).sum(dim=2)


class _Windows(NamedTuple):
    """Where the local scatter is measured, and how it is interpolated."""

    low: Tensor
    """First pixel of each window, (row, window)."""
    high: Tensor
    """One past the last pixel of each window, (row, window)."""
    left: Tensor
    """Window on the left of each pixel, (row, pixel)."""
    fraction: Tensor
    """Distance from it, in spacings, (row, pixel)."""


def _windows(wavelength: Tensor) -> _Windows:
    first, last = wavelength[:, :1], wavelength[:, -1:]
    number = torch.ceil((last - first) / WINDOW).clamp(min=1.0)  # of spacings: one less than of centres
    serial = torch.arange(int(number.max()) + 1, device=wavelength.device, dtype=torch.float64)
    centres = first + (last - first) * torch.minimum(serial / number, torch.ones_like(number))
    low = torch.searchsorted(wavelength, centres - WINDOW)
    high = torch.searchsorted(wavelength, centres + WINDOW, right=True)
    place = (wavelength - first) / (last - first) * number
    left = torch.minimum(place.floor().clamp(min=0.0), number - 1.0)
    return _Windows(low, high, left.to(torch.int64), place - left)


def _scatter(windows: _Windows, wavelength: Tensor, residual: Tensor, kept: Tensor) -> Tensor:
    """Standard deviation of the kept residuals in the windows, interpolated linearly, (spectrum, pixel)."""
    rows = residual.shape[0]
    weight = kept.to(torch.float64)
    weighted = residual * weight
    sums = torch.stack([weight, weighted, weighted * residual]).cumsum(dim=2)
    sums = torch.nn.functional.pad(sums, (1, 0))
    low, high = windows.low.expand(rows, -1), windows.high.expand(rows, -1)
    number, total, squares = sums.gather(2, high.expand(3, -1, -1)) - sums.gather(2, low.expand(3, -1, -1))
    mean = total / number
    sigma: Tensor = (squares / number - mean * mean).clamp(min=0.0).sqrt()
    left = windows.left.expand(rows, -1)
    start, end = sigma.gather(1, left), sigma.gather(1, left + 1)
    return between(start, end, windows.fraction)


@lru_cache(maxsize=32)
def _basis(pixels: int, device: str) -> _Basis:
    """Everything that depends on the number of pixels only."""
    # Some 50 knots at least, however few the pixels; 64 pixels are 6 to 9 Angstrom on the survey's detectors.
    m = max(1, min(64, pixels // 48))
    count = -(-pixels // m)
    inside = (np.arange(m) + 0.5) / m
    values = _cubic(inside)[0]
    products = values[:, _FIRST] * values[:, _SECOND]

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    _, slope, curvature = _cubic((nodes + 1.0) / 2.0)
    # Legendre polynomials of the index, scaled to -1..1, keep the fit of wavelength(index) well conditioned.
    scale = 2.0 / pixels
    centred = (np.arange(pixels) + 0.5) * scale - 1.0
    at_nodes = ((np.arange(count)[:, None] + (nodes + 1.0) / 2.0) * m).ravel() * scale - 1.0
    identity = np.eye(_DEGREE + 1)
    derivatives = [legendre.legval(at_nodes, legendre.legder(identity, order)) * scale**order for order in (1, 2)]

    def tensor(array: np.typing.NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return _Basis(
        interval=m,
        intervals=count,
        values=tensor(values),
        products=tensor(products),
        fit=tensor(np.linalg.pinv(legendre.legvander(centred, _DEGREE)).T),
        derivatives=tensor(np.concatenate(derivatives, axis=1)),
        slope=tensor(slope / m),
        curvature=tensor(curvature / m**2),
        quadrature=tensor(weights * m / 2.0),
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
