"""How well one star of the library, or two, explain a spectrum: of what no network was shown, its verdict is a guess.

A spectrum at rest is averaged over :data:`BIN` pixels, half of a resolution element, and divided by a polynomial, as
the library's spectra are. What their principal components leave of it is explained, as far as may be, by the same
components at another velocity: at the one, of those tried, at which they gain most. Unlike a best template, components
are fitted by two products of matrices, to two stars as to one, and no velocity need be known.

What is left then is compared with what the library leaves of real F, G and K stars, because its lines are wrong: a
part of the lines' depth, and a little of the continuum (:data:`FLOORS`). At S/N 100 photon noise is less than that, at
S/N 10 far more. So the *misfit* is a difference of variances: what is left less what noise leaves, less two standard
errors of that difference, for which noise itself counts as uncertain; and of this the root, over the floor. It is 0
where noise can explain what is left, tends to one value at every S/N that shows it, and is about 1 for stars that the
library describes badly but knows.

Noise counts as stated, or as measured where that is more. In the survey's blue arms the differences between exposures
of one star are, on the scale of lines, what is stated, although neighbouring pixels differ by a quarter less
(:mod:`~twinlines.pipeline.spectra.noise` measures those): there less noise is no evidence. Knows no star but those of a
library, and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, Arm
from twinlines.pipeline.arms import arm as arm_called
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.spectra.tiles import filled, tiles

UNFAMILIAR_ABOVE: Mapping[str, float] = {"B": 1.33, "R": 1.18}
"""Misfit by arm above which nothing in the library explains a spectrum. Fewer than 2 % of synthetic stars and binaries
lie above, at any S/N, and hardly any exposures of real F, G and K stars, alone and in pairs."""

FLOORS: Mapping[str, tuple[float, float]] = {"B": (0.008, 0.18), "R": (0.006, 0.30)}
"""What the library may be wrong by, rms, by arm: of the continuum, and as a fraction of the rms depth of the lines."""

BIN = 4
"""Grid pixels that are averaged, 21 km/s: what R = 7500 resolves stays, and noise between the pixels goes."""

DEGREE = 20
"""Of the polynomial that stands for the continuum: it takes out what is broader than some 20 Angstrom."""

STARS = 300
"""Spectra of the library, at its nodes, of which the components are made."""

ROTATION = (0.0, 0.0, 0.0, 15.0, 30.0, 50.0, 80.0, 120.0, 200.0, 300.0)
"""Their vsini, in turn, km/s."""

FIRST, SECOND = 12, 10
"""Components of the star at rest and of the second one. More explain more of what is odd, too."""

REACH, NEAREST, STEP = 96, 4, 2
"""Shifts of the second star that are tried: from 21 to 501 km/s to either side by 10 km/s, in grid pixels."""

_SEARCHED = 15.0  # degrees of freedom that choosing the shift takes beside the components
_CLIP = 3.0  # standard deviations (noise and floor) as which a bin counts at most: lines of a nebula, bad columns
_ERRORS = 2.0  # standard errors by which a misfit must exceed nothing
_NOISE_ERROR = 0.1  # relative uncertainty of the noise's variance on the scale of lines, in exposures of the survey
_FAR = 10.0  # medians of what is left, 6.7 standard deviations of noise
_BRIGHTEST = 2.0  # times the continuum: what a bin counts as at most when all is fitted first
_LOWEST = 0.1  # continuum over continuum

_BIN_VARIANCE: Mapping[str, float] = {"B": 1.18, "R": 1.08}
"""Variance of a bin's mean, times its pixels, over that of a native pixel: these are wider than the grid's, which are
interpolated between them (measured on synthetic stars; 1.15 and 1.08 by integration)."""


@dataclass(frozen=True, eq=False)
class ArmComponents:
    """What the spectra of an arm are made of, in bins of :data:`BIN` pixels."""

    arm: Arm
    """The arm."""
    smooth: Tensor
    """(bin, DEGREE + 1) orthonormal polynomials of the continuum."""
    first: Tensor
    """(bin, FIRST) orthonormal components of flux over continuum, less 1, of a star at rest."""
    second: Tensor
    """(shift, bin, SECOND) the same of a second star, as far as ``first`` and ``smooth`` lack it: orthonormal."""
    flat: Tensor
    """(bin, shift * SECOND) ``second``, laid out for one product of matrices."""


@dataclass(frozen=True, eq=False)
class Components:
    """Components of both arms."""

    arms: Mapping[str, ArmComponents]
    """By arm name."""

    @classmethod
    def default(cls) -> Components:
        """Components of the library that ships; made once in a process, on one thread, then shared."""
        return _default()

    @classmethod
    def build(cls, library: Library) -> Components:
        """Make the components of a library's spectra: some 0.1 seconds an arm."""
        return cls({name: _components(ARMS[name], library) for name in ARM_NAMES})


@lru_cache(maxsize=1)
@one_thread()
def _default() -> Components:
    return Components.build(Library.load())


def measure(name: str, flux: Tensor, sigma: Tensor, noise: Tensor, components: Components) -> NDArray[np.float32]:
    """Misfit of spectra of one arm with one star, or two, of the library.

    Parameters
    ----------
    name
        "B" or "R".
    flux
        (spectrum, pixel) flux over continuum at rest on the arm's grid, :attr:`.RestFrame.flux`.
    sigma
        (spectrum, pixel) its stated standard deviation on native pixels, :attr:`.RestFrame.sigma`.
    noise
        (spectrum,) the measured noise over the stated one, :attr:`.Observed.noise`; 1 where it is less, or NaN.
    components
        What stars' spectra are made of.

    Returns
    -------
    (spectrum,) float32
        0 where photon noise explains what is left; :data:`UNFAMILIAR_ABOVE` bounds what is familiar. NaN where a
        spectrum is not finite throughout. A spectrum's value does not depend on the others.

    Raises
    ------
    ValueError
        If there is no such arm, or the shapes do not fit.
    """
    parts = components.arms[arm_called(name).name]
    rows, pixels = len(flux), parts.arm.n_pixels
    if flux.shape != (rows, pixels) or sigma.shape != flux.shape or noise.shape != (rows,):
        shapes = ", ".join(str(tuple(array.shape)) for array in (flux, sigma, noise))
        raise ValueError(
            f"arm {name}: flux, sigma and noise have shapes {shapes}; expected two (spectrum, {pixels}) and (spectrum,)"
        )
    misfit = np.full(rows, np.nan, dtype=np.float32)
    for some in tiles(rows):
        tile = _misfit(parts, *(filled(column[some].to(torch.float32)) for column in (flux, sigma, noise[:, None])))
        misfit[some] = tile[: some.stop - some.start].numpy()
    return misfit


def _misfit(parts: ArmComponents, flux: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Misfit of one full tile."""
    usable = (flux.isfinite() & sigma.isfinite()).all(dim=1)
    flux, sigma = (torch.where(usable[:, None], column, 1.0) for column in (flux, sigma))
    sigma = sigma * torch.where(noise > 1.0, noise, 1.0)
    name = parts.arm.name
    binned, variance = _bins(flux), _bins(sigma.square()) * (_BIN_VARIANCE[name] / BIN)
    # Few bins that are far off, a bad column or a nebula's line, must not bend continuum and model: both are fitted to
    # what is left of them when these are cut down to the others' measure.
    fitted_to = binned.clamp(0.0, _BRIGHTEST)
    for _ in range(2):
        continuum = (fitted_to @ parts.smooth @ parts.smooth.T).clamp_min(_LOWEST)
        pattern = fitted_to / continuum - 1.0
        model = pattern @ parts.first @ parts.first.T
        far = _FAR * (pattern - model).abs().median(dim=1, keepdim=True).values
        fitted_to = continuum * (1.0 + model + (binned / continuum - 1.0 - model).clamp(-far, far))
    gains = ((pattern - model) @ parts.flat).reshape(len(pattern), -1, SECOND)
    shift = gains.square().sum(dim=2).argmax(dim=1)
    amplitudes = gains[torch.arange(len(shift)), shift]
    model = model + torch.bmm(parts.second[shift], amplitudes[:, :, None])[:, :, 0]
    left = binned / continuum - 1.0 - model
    variance = variance / continuum.square()

    of_continuum, of_lines = FLOORS[name]
    floor = of_continuum**2 + of_lines**2 * model.clamp_max(0.0).square().mean(dim=1)
    expected = variance + floor[:, None]
    weight = 1.0 / expected
    weight = weight / weight.sum(dim=1, keepdim=True)
    fitted = (parts.smooth.shape[1] + FIRST + SECOND + _SEARCHED) / pattern.shape[1]
    squares = torch.minimum(left.square(), _CLIP**2 * expected)
    excess = (weight * (squares - (1.0 - fitted) * variance)).sum(dim=1)
    scatter = 2.0 * (weight * (variance + excess.clamp_min(0.0)[:, None])).square().sum(dim=1)
    error = (scatter + (_NOISE_ERROR * (weight * variance).sum(dim=1)).square()).sqrt()
    return torch.where(usable, ((excess - _ERRORS * error).clamp_min(0.0) / floor).sqrt(), torch.nan)


def _bins(values: Tensor) -> Tensor:
    """Means over whole bins, (row, bin); pixels beyond the last whole one are left out."""
    bins = values.shape[1] // BIN
    return values[:, : bins * BIN].reshape(-1, bins, BIN).mean(dim=2)


def _components(arm: Arm, library: Library) -> ArmComponents:
    bins, nodes = arm.n_pixels // BIN, library.nodes()
    chosen = np.unique(np.linspace(0, len(nodes) - 1, STARS).round().astype(np.int64))
    # By the golden ratio, so that no label goes with some vsini.
    turn = (np.arange(len(chosen)) * 0.6180339887498949 % 1.0 * len(ROTATION)).astype(np.int64)
    vsini = torch.tensor(ROTATION)[torch.from_numpy(turn)]
    flux = torch.from_numpy(library.flux(arm.name, nodes[chosen]))
    # With a margin for shifts; their continua are the polynomials' on all of it.
    wide = slice(arm.library_margin - REACH, arm.library_margin + arm.n_pixels + REACH)
    flux = broaden_and_shift(flux / flux.mean(dim=1, keepdim=True), vsini, torch.zeros(len(vsini)), pixels=wide)
    smooth = _polynomials(flux.shape[1])
    pattern = flux / (flux @ smooth @ smooth.T) - 1.0

    smooth = _polynomials(bins)
    at_rest = _bins(pattern[:, REACH : REACH + arm.n_pixels])
    of_continuum, of_lines = FLOORS[arm.name]
    depth = at_rest.clamp_max(0.0).square().mean(dim=1, keepdim=True)
    weight = (of_continuum**2 + of_lines**2 * depth).rsqrt()  # what is left counts in units of the floor
    weighted = (weight * at_rest).double()
    mixtures = torch.linalg.eigh(weighted @ weighted.T).eigenvectors[:, -FIRST:].flip(1).float() * weight
    wide_components = mixtures.T @ pattern

    def shifted(pixels: int) -> Tensor:
        """The components of a star that recedes by so many pixels, (bin, component), without continuum."""
        values = _bins(wide_components[:, REACH - pixels : REACH - pixels + arm.n_pixels]).T
        return values - smooth @ (smooth.T @ values)

    first = torch.linalg.qr(shifted(0)).Q
    shifts = [shift for shift in range(-REACH, REACH + 1, STEP) if abs(shift) >= NEAREST]
    others = torch.stack([shifted(shift)[:, :SECOND] for shift in shifts])
    for _ in range(2):  # the second time for what rounding left
        others = others - first @ (first.T @ others)
    second = torch.linalg.qr(others).Q.contiguous()
    return ArmComponents(arm, smooth, first, second, second.transpose(0, 1).flatten(1).contiguous())


def _polynomials(size: int) -> Tensor:
    """Orthonormal polynomials on so many equidistant points, (point, DEGREE + 1)."""
    basis = np.linalg.qr(legendre.legvander(np.linspace(-1.0, 1.0, size), DEGREE))[0]
    return torch.from_numpy(basis).to(torch.float32)
