"""Radial velocities of the (primary) star from one arm, by cross-correlation with templates of the spectral library.

The correlation is the authors' (Zhang et al. 2021, section 3): Pearson's coefficient between the normalised observed
spectrum and a normalised template, without weights or apodisation, over +-1000 km/s, maximised over templates and
velocities. On the arms' log-wavelength grids a Doppler shift is a translation, and every shift is tried with every
template (:mod:`twinlines.pipeline.spectra.correlation`). The best is then shifted by fractions of a pixel in Fourier
space until the correlation is at its maximum, and the error follows in closed form from the noise of the native pixels
(:mod:`twinlines.pipeline.spectra.peak`). This module knows arrays and templates; no file, no survey.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from twinlines.pipeline.arms import STEP_KMS, arm, doppler_factor, velocity_of_shift
from twinlines.pipeline.schema import Quality
from twinlines.pipeline.spectra import ambiguity, correlation, peak
from twinlines.pipeline.spectra.gridding import Gridded, to_grid
from twinlines.pipeline.spectra.templates import STRIDE, ArmTemplates, Templates, VelocityConfig
from twinlines.pipeline.spectra.tiles import filled, tiles

__all__ = ["Correlation", "Templates", "Velocity", "VelocityConfig", "correlate", "measure"]


@dataclass(frozen=True)
class Velocity:
    """Velocities of a batch of spectra of one arm; NaN where there is none."""

    velocity: NDArray[np.float64]
    """(spectrum,) radial velocity, km/s, positive when receding."""
    error: NDArray[np.float64]
    """(spectrum,) standard error of the velocity from photon noise, km/s; of an ambiguous one at least the distance to
    the farthest velocity that explains the spectrum nearly as well."""
    teff: NDArray[np.float64]
    """(spectrum,) effective temperature of the best template, K."""
    ccfmax: NDArray[np.float64]
    """(spectrum,) maximum of the correlation; kept where the peak is refused."""
    quality: NDArray[np.uint16]
    """(spectrum,) :class:`~twinlines.pipeline.schema.Quality` bits: GOOD, AMBIGUOUS_VELOCITY or NO_VELOCITY."""


@dataclass(frozen=True)
class Correlation:
    """Cross-correlation functions of a batch of spectra of one arm, each with its best template."""

    velocity: NDArray[np.float64]
    """(shift,) velocities tried, km/s, ascending: one for each pixel of the grid by which the template is shifted."""
    coefficient: NDArray[np.float32]
    """(spectrum, shift) Pearson's coefficient; NaN where too little of the spectrum is usable."""
    labels: NDArray[np.float64]
    """(spectrum, 5) the template's Teff in K, logg, [Fe/H], [alpha/Fe] and vsini in km/s; NaN likewise."""


class _Tile(NamedTuple):
    """A tile of spectra, ready for correlation."""

    gridded: Gridded
    transform: torch.Tensor  # (spectrum, frequency) complex64, low frequencies only
    sigma: torch.Tensor  # (spectrum, native pixel) float32, zero where a pixel is not used
    noise: torch.Tensor  # (spectrum,) the noise's part of the sum of squares over the grid


def _prepare(
    prepared: ArmTemplates,
    config: VelocityConfig,
    wavelength: torch.Tensor,
    flux: torch.Tensor,
    sigma: torch.Tensor,
    bad: torch.Tensor,
) -> _Tile:
    lowest, highest = config.valid_flux
    good = ~bad & torch.isfinite(sigma) & torch.isfinite(wavelength) & (flux > lowest) & (flux < highest)
    gridded = to_grid(prepared.arm, torch.nan_to_num(wavelength), flux, good, config.minimum_pixels)
    used = torch.where(good, sigma, 0.0)
    return _Tile(gridded, correlation.transform(prepared, gridded.flux), used, gridded.variance(used))


def _measure_tile(prepared: ArmTemplates, config: VelocityConfig, tile: _Tile) -> tuple[torch.Tensor, ...]:
    """Shift and its error in pixels, template, correlation, whether there is a velocity, and two; one full tile."""
    best = correlation.best(prepared, config, tile.transform, tile.noise)
    top = peak.climb(prepared, tile.transform, best.template, best.place)
    power = tile.gridded.flux.square().sum(1).double()
    ccfmax = torch.where(tile.gridded.usable, top.height / power.sqrt(), torch.nan)
    error = peak.error(prepared, tile.gridded, tile.sigma, best.template, best.place, top)
    tried = STRIDE * torch.arange(best.heights.shape[1], dtype=torch.float64, device=error.device) - prepared.lags
    significant = (tried[best.place].abs() < prepared.lags) & (ccfmax >= config.minimum_peak) & (top.curvature < 0)
    significant &= torch.isfinite(top.shift) & torch.isfinite(error)
    rivals = ambiguity.judge(
        best.heights, tried, top.shift, top.height, power, tile.noise.double(), prepared.arm.n_pixels
    )
    error = torch.maximum(error, rivals.distance)
    return top.shift, error, best.template, ccfmax, significant, rivals.ambiguous


def _correlate_tile(prepared: ArmTemplates, config: VelocityConfig, tile: _Tile) -> tuple[torch.Tensor, ...]:
    """Pearson's coefficient with the best template at every shift, and that template; one full tile."""
    template = correlation.best(prepared, config, tile.transform, tile.noise).template
    product = torch.fft.irfft(tile.transform * prepared.transform[template].conj(), n=prepared.size)
    product = torch.cat([product[:, -prepared.lags :], product[:, : prepared.lags + 1]], 1)
    norm = tile.gridded.flux.square().sum(1, keepdim=True).sqrt()
    coefficient = product * torch.exp(-0.5 * prepared.log_variance[template]) / norm
    usable = tile.gridded.usable
    return torch.where(usable[:, None], coefficient, torch.nan), torch.where(usable, template, -1)


def measure(
    name: str,
    wavelength: torch.Tensor,
    normalised: torch.Tensor,
    sigma: torch.Tensor,
    templates: Templates,
    bad: torch.Tensor | None = None,
) -> Velocity:
    """Measure the velocity of each spectrum of one arm; of a double-lined one, that of the stronger peak.

    A spectrum has no velocity (quality ``NO_VELOCITY``; velocity, error and Teff NaN) where less than half of its
    pixels are usable or less than half of the grid is covered, where the highest peak is at the search's limit, or
    where it is below ``VelocityConfig.minimum_peak``. Its velocity is ambiguous (``AMBIGUOUS_VELOCITY``) where another
    is nearly as good, or the template explains little of it (:mod:`twinlines.pipeline.spectra.ambiguity`). Bad pixels,
    and those with a normalised flux outside ``VelocityConfig.valid_flux``, are replaced by linear interpolation
    between their neighbours.

    Parameters
    ----------
    name
        "B" or "R".
    wavelength
        (spectrum, pixel) float64, Angstrom, vacuum, observed frame, ascending.
    normalised
        (spectrum, pixel) flux over continuum.
    sigma
        (spectrum, pixel) its standard error, independent from pixel to pixel; a pixel without a finite one is bad.
    templates
        Prepared templates; they decide on which device the work is done.
    bad
        (spectrum, pixel) bool, pixels not to be used; by default none.

    Returns
    -------
    Velocity
        Velocities in km/s by the first-order formula (:func:`~twinlines.pipeline.arms.doppler_factor`). A spectrum's
        values do not depend on the other spectra of the batch.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no such arm.
    """
    rows = len(wavelength)
    shift, error, ccfmax = (np.full(rows, np.nan) for _ in range(3))
    template = np.zeros(rows, dtype=np.int64)
    significant, ambiguous = (np.zeros(rows, dtype=bool) for _ in range(2))
    prepared = templates.arms[arm(name).name]
    for some, tile in _tiles(prepared, templates.config, wavelength, normalised, sigma, bad):
        outputs = _measure_tile(prepared, templates.config, tile)
        for column, values in zip((shift, error, template, ccfmax, significant, ambiguous), outputs, strict=True):
            column[some] = values[: some.stop - some.start].cpu().numpy()

    velocity = velocity_of_shift(shift)
    # dv/ds of v = c (10^(step s) - 1)
    error = error * STEP_KMS * doppler_factor(velocity)
    significant &= np.abs(velocity) <= templates.config.limit
    return Velocity(
        velocity=np.where(significant, velocity, np.nan),
        error=np.where(significant, error, np.nan),
        teff=np.where(significant, prepared.labels[template, 0], np.nan),
        ccfmax=ccfmax,
        quality=np.select(
            [~significant, ambiguous], [Quality.NO_VELOCITY, Quality.AMBIGUOUS_VELOCITY], Quality.GOOD
        ).astype(np.uint16),
    )


def correlate(
    name: str,
    wavelength: torch.Tensor,
    normalised: torch.Tensor,
    sigma: torch.Tensor,
    templates: Templates,
    bad: torch.Tensor | None = None,
) -> Correlation:
    """Correlate each spectrum of one arm with its best template, at every shift that :func:`measure` tries.

    Parameters, and errors, are those of :func:`measure`.
    """
    prepared = templates.arms[arm(name).name]
    coefficient = np.full((len(wavelength), 2 * prepared.lags + 1), np.nan, dtype=np.float32)
    template = np.full(len(wavelength), -1)
    for some, tile in _tiles(prepared, templates.config, wavelength, normalised, sigma, bad):
        outputs = _correlate_tile(prepared, templates.config, tile)
        for column, values in zip((coefficient, template), outputs, strict=True):
            column[some] = values[: some.stop - some.start].cpu().numpy()
    return Correlation(
        velocity=velocity_of_shift(np.arange(-prepared.lags, prepared.lags + 1.0)),
        coefficient=coefficient,
        labels=np.where((template >= 0)[:, None], prepared.labels[template], np.nan),
    )


def _tiles(
    prepared: ArmTemplates,
    config: VelocityConfig,
    wavelength: torch.Tensor,
    normalised: torch.Tensor,
    sigma: torch.Tensor,
    bad: torch.Tensor | None,
) -> Iterator[tuple[slice, _Tile]]:
    """Spectra in full tiles, with the rows that each stands for."""
    if wavelength.ndim != 2 or wavelength.shape[1] < 2:
        raise ValueError(
            f"wavelength has shape {tuple(wavelength.shape)}; expected (spectrum, pixel), 2 pixels or more"
        )
    bad = torch.zeros_like(normalised, dtype=torch.bool) if bad is None else bad
    for what, array in (("normalised", normalised), ("sigma", sigma), ("bad", bad)):
        if array.shape != wavelength.shape:
            raise ValueError(f"{what} has shape {tuple(array.shape)}, wavelength has {tuple(wavelength.shape)}")
    kinds = (wavelength, torch.float64), (normalised, torch.float32), (sigma, torch.float32), (bad, torch.bool)
    for tile in tiles(len(wavelength)):
        columns = [filled(array[tile].to(prepared.transform.device, dtype)) for array, dtype in kinds]
        yield tile, _prepare(prepared, config, *columns)
