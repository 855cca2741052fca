"""The maximum of the correlation between the shifts tried, and the error of its place.

Near a shift tried the correlation is a power series in what is missing to the maximum, whose terms one product of
matrices gives (:attr:`.ArmTemplates.series`). Knows arrays and templates only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from twinlines.pipeline.spectra.correlation import powers, products
from twinlines.pipeline.spectra.gridding import Gridded
from twinlines.pipeline.spectra.templates import NEAR, STRIDE, ArmTemplates, angular_frequency

NEWTON_STEPS = 4
"""Newton steps from the best shift tried to the correlation's maximum; the last moves a clear peak by < 1e-6 px."""


class Peak(NamedTuple):
    """The correlation's maximum of each spectrum; (spectrum,) float64."""

    shift: Tensor
    """Grid pixels."""
    height: Tensor
    """Sum of the products over the template's norm; not yet over the spectrum's."""
    curvature: Tensor
    """Second derivative of the logarithm of the height, 1 / pixel^2."""
    product: Tensor
    """Sum of the products."""
    slope: Tensor
    """Derivative of half the logarithm of the template's sum of squares, 1 / pixel."""


def climb(prepared: ArmTemplates, spectra: Tensor, template: Tensor, place: Tensor) -> Peak:
    """Find the maximum of ln(correlation) near the best shift tried, by Newton's method.

    Parameters
    ----------
    prepared
        The arm's templates.
    spectra
        (spectrum, frequency) complex64, transforms.
    template, place
        (spectrum,) the best template, and the number of the best shift tried.
    """
    terms = products(prepared, spectra, template, place).double() @ prepared.series
    order = torch.arange(NEAR, dtype=torch.float64, device=terms.device)
    by_order = torch.zeros(3, len(terms), NEAR, dtype=torch.float64, device=terms.device)
    by_order[0] = terms
    by_order[1, :, :-1] = (terms * order)[:, 1:]
    by_order[2, :, :-2] = (terms * order * (order - 1.0))[:, 2:]
    # The window's variance changes slowly: a parabola through three lags.
    start = STRIDE * place - prepared.lags
    middle = (start + prepared.lags).clamp(1, 2 * prepared.lags - 1)
    rows = prepared.log_variance[template]
    low, centre, high = (0.5 * rows.gather(1, (middle + step)[:, None])[:, 0] for step in (-1, 0, 1))
    slope, bend = (high - low) / 2.0, high - 2.0 * centre + low
    ahead = (start + prepared.lags - middle).double()  # by which the parabola's middle lies off, at the search's ends
    offset = torch.zeros_like(slope)
    for _ in range(NEWTON_STEPS):
        product, first, second = (by_order * powers(offset)).sum(2)
        gradient = first / product - slope - bend * (offset + ahead)
        hessian = second / product - (first / product).square() - bend
        offset = torch.where(hessian < 0, offset - gradient / hessian, offset).clamp(-STRIDE, STRIDE)
    product, first, second = (by_order * powers(offset)).sum(2)
    off = offset + ahead
    height = product * torch.exp(-(centre + slope * off + 0.5 * bend * off.square()))
    curvature = second / product - (first / product).square() - bend
    return Peak(start + offset, height, curvature, product, slope + bend * off)


def error(
    prepared: ArmTemplates, gridded: Gridded, sigma: Tensor, template: Tensor, place: Tensor, top: Peak
) -> Tensor:
    """Standard error of the shift in grid pixels, to first order in the noise of the native pixels.

    At the maximum the derivative of ln r vanishes; noise n on the flux moves it by (ln r)'' ds = -sum_i g_i (A n)_i,
    where A interpolates native pixels onto the grid and g is the gradient of that derivative with respect to the flux.
    Hence var(s) = sum_j sigma_j^2 (A^T g)_j^2 / (ln r)''^2, with the grid's correlated noise accounted for.

    Parameters
    ----------
    prepared, template, place
        As in :func:`climb`.
    gridded
        The spectra, and how they were interpolated.
    sigma
        (spectrum, native pixel) standard deviation of the noise; 0 where a pixel is not used.
    top
        What :func:`climb` returned.
    """
    first, pixels = prepared.pad, prepared.arm.n_pixels
    frequency = angular_frequency(prepared.size, prepared.transform.shape[1]).to(sigma)
    offset = top.shift - (STRIDE * place - prepared.lags)
    turn = torch.polar(torch.ones((), dtype=sigma.dtype, device=sigma.device), offset.to(sigma)[:, None] * frequency)
    shifted = prepared.transform[template] * (turn * prepared.phase[place]).conj()
    # d/ds of the shifted template, less the part that changes its norm alone; then the mean is projected out.
    gradient = shifted * torch.complex(
        -top.slope.to(sigma)[:, None].expand(-1, len(frequency)), -frequency.expand(len(offset), -1)
    )
    on_grid = torch.fft.irfft(gradient, n=prepared.size)[:, first : first + pixels]
    native = gridded.transposed(on_grid - on_grid.mean(1, keepdim=True), sigma.shape[1])
    return (native * sigma).square().sum(1).sqrt() / (-top.curvature * top.product)
