"""Fits the light of a star of the library to spectra, many at once: labels, rotation, velocity and a smooth continuum.

The continuum of each arm is a polynomial that multiplies the light. It is solved for within each step (variable
projection, Golub & Pereyra 1973; with Kaufman's approximation of the derivatives), so that the search is one in the
parameters of stars alone, and arms share those by the sum of their terms. It must never know a survey or a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from twinlines.pipeline.arms import ArmName
from twinlines.pipeline.synthesis.leastsquares import Limits, Terms, minimise_from
from twinlines.pipeline.synthesis.starlight import Light, Starlight

CONTINUUM_ORDER = 5
"""Order of the polynomial that multiplies the light in an arm; over an arm of 300 A it follows what
:mod:`twinlines.pipeline.spectra.continuum` leaves."""

STAR_REACH = torch.tensor([1000.0, 1.0, 0.5, 0.4, 100.0, 60.0], dtype=torch.float64)
"""Longest steps of a star's parameters."""


@dataclass(frozen=True)
class Observation:
    """Spectra of one arm that are fitted."""

    flux: Tensor
    """Any unit; (spectrum, pixel of the light's)."""
    weight: Tensor
    """One over the standard deviation of ``flux``, 0 where a pixel takes no part; (spectrum, pixel)."""

    def clean(self) -> Observation:
        """The same, with nothing where a pixel takes no part, or has no finite flux or weight."""
        usable = (self.weight > 0.0) & self.weight.isfinite() & self.flux.isfinite()
        return Observation(torch.where(usable, self.flux, 0.0), torch.where(usable, self.weight, 0.0))

    def take(self, rows: Tensor) -> Observation:
        """The spectra at ``rows``."""
        return Observation(self.flux[rows], self.weight[rows])


@lru_cache(maxsize=8)
def continuum_basis(pixels: int, order: int = CONTINUUM_ORDER, kind: torch.dtype = torch.float32) -> Tensor:
    """Legendre polynomials up to an order over so many pixels, (order + 1, pixel)."""
    x = np.linspace(-1.0, 1.0, pixels)
    return torch.from_numpy(np.polynomial.legendre.legvander(x, order).T.copy()).to(kind)


@dataclass(frozen=True)
class Projected:
    """Light under the continuum that suits it best."""

    terms: Terms
    """Of the parameters by which the light was differentiated."""
    continuum: Tensor
    """(spectrum, pixel)."""
    residual: Tensor
    """(flux - light * continuum) * weight, (spectrum, pixel)."""


def project(observed: Observation, light: Light) -> Projected:
    """Solve for the continua, and form the terms of the parameters with the continua's freedom taken out of them.

    Parameters
    ----------
    observed
        The spectra.
    light
        A model of each, of one star or of several, and its derivatives by any number of parameters.
    """
    basis = continuum_basis(light.flux.shape[1], kind=light.flux.dtype)
    count = len(basis)
    first, second = np.triu_indices(count)
    products = basis[first] * basis[second]
    # Of one over flux, so that single precision serves whatever the unit.
    level = light.flux.mean(dim=1, keepdim=True)
    shape, weighted = light.flux / level, observed.weight * observed.weight
    seen = weighted * shape
    gram = torch.empty((len(shape), count, count), dtype=torch.float64)
    gram[:, first, second] = ((seen * shape) @ products.T).double()
    gram[:, second, first] = gram[:, first, second]
    # A spectrum without a usable pixel has a continuum of zero.
    spread = gram.diagonal(dim1=1, dim2=2).mean(dim=1, keepdim=True)
    gram.diagonal(dim1=1, dim2=2).add_(torch.where(spread > 0.0, 1e-10 * spread, 1.0))
    lower, _ = torch.linalg.cholesky_ex(gram)
    wanted = ((seen * observed.flux) @ basis.T).double()
    solution = torch.cholesky_solve(wanted[:, :, None], lower)[:, :, 0].to(basis.dtype)
    continuum = solution @ basis
    residual = observed.weight * (observed.flux - continuum * shape)
    slopes = light.slopes * (observed.weight * continuum / level)[:, None]
    mixed = torch.matmul(slopes * (observed.weight * shape)[:, None], basis.T).double()
    curvature = torch.bmm(slopes, slopes.mT).double()
    curvature -= mixed @ torch.cholesky_solve(mixed.mT, lower)
    gradient = torch.bmm(slopes, residual[:, :, None])[:, :, 0].double()
    terms = Terms(residual.square().sum(dim=1, dtype=torch.float64), gradient, curvature)
    return Projected(terms, continuum / level, residual)


@dataclass(frozen=True)
class StarFit:
    """The star that fits each spectrum best."""

    parameters: Tensor
    """In the order of :data:`.starlight.PARAMETERS`; (spectrum, parameter) float64."""
    chi2: Tensor
    """Sum over all arms, (spectrum,) float64."""
    covariance: Tensor
    """Of the parameters, the continua's freedom included, (spectrum, parameter, parameter) float64; infinite where the
    spectrum says nothing of one. Parameters at a limit count as free."""
    converged: Tensor
    """(spectrum,) bool."""
    from_start: Tensor
    """Which of the starts led there, (spectrum,) int64."""


def fit_star(
    lights: Mapping[ArmName, Starlight],
    observed: Mapping[ArmName, Observation],
    starts: Tensor,
    *,
    trial_steps: int = 4,
    finalists: int = 2,
    most_steps: int = 40,
    tolerance: float = 1e-3,
    relative: float = 1e-5,
) -> StarFit:
    """Fit one star of the library to spectra of one arm or several, which share labels, vsini and velocity.

    Parameters
    ----------
    lights
        The light of stars, for each arm of ``observed``.
    observed
        Spectra of the same objects, by arm.
    starts
        Parameters to begin with, (spectrum, start, parameter) float64; brought within the limits.
    trial_steps, finalists
        Each start goes so many steps; the best so many of them go on to the minimum.
    most_steps, tolerance, relative
        As of :func:`.leastsquares.minimise`.

    Returns
    -------
    StarFit
        The best of the minima; its chi2 is at most that of the best start.

    Raises
    ------
    ValueError
        If there is no arm to fit.
    """
    if not observed:
        raise ValueError("there is no arm to fit")
    some = lights[next(iter(observed))]
    limits = Limits(some.lower, some.upper, STAR_REACH)
    observed = {name: spectra_of_arm.clean() for name, spectra_of_arm in observed.items()}
    best = minimise_from(
        lambda parameters, rows: star_terms(lights, observed, parameters, rows),
        starts,
        limits,
        trial_steps=trial_steps,
        finalists=finalists,
        most_steps=most_steps,
        tolerance=tolerance,
        relative=relative,
    )
    covariance = inverse(best.terms.curvature)
    return StarFit(best.parameters, best.terms.chi2, covariance, best.converged, best.from_start)


def star_terms(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], parameters: Tensor, rows: Tensor
) -> Terms:
    """Terms of one star in the spectra ``rows`` of all arms together; parameters are (row, parameter)."""
    mine = (project(spectra.take(rows), lights[name].light(parameters)).terms for name, spectra in observed.items())
    return reduce(Terms.plus, mine)


_LEAST_EIGENVALUE = 1e-7  # of a matrix with ones on its diagonal; less is rounding of single precision


def inverse(curvature: Tensor) -> Tensor:
    """Inverse of each matrix, (problem, parameter, parameter).

    The variance is infinite where a parameter changes nothing, and very large, not small, where some of them can stand
    in for one another.
    """
    scale = curvature.diagonal(dim1=1, dim2=2).sqrt()
    known = (scale > 0.0) & scale.isfinite()
    safe = torch.where(known, scale, 1.0)
    curvature = torch.where(curvature.isfinite(), curvature, 0.0)
    matrix = curvature / (safe[:, :, None] * safe[:, None, :])
    matrix.diagonal(dim1=1, dim2=2).copy_(torch.ones_like(scale))
    values, vectors = torch.linalg.eigh(matrix)
    inverse: Tensor = (vectors / values.clamp_min(_LEAST_EIGENVALUE)[:, None, :]) @ vectors.mT
    inverse /= safe[:, :, None] * safe[:, None, :]
    inverse.diagonal(dim1=1, dim2=2)[~known] = torch.inf
    return inverse
