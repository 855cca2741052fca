"""Radial velocities of the (primary) star from one arm, by cross-correlation with templates of the spectral library.

The correlation is the authors' (Zhang et al. 2021, section 3): Pearson's coefficient between the normalised observed
spectrum and a normalised template, without weights or apodisation, over +-1000 km/s, maximised over templates and
velocities. On the arms' log-wavelength grids a Doppler shift is a translation, so that one Fourier transform of a
spectrum gives its correlation with every template at every velocity. The template of the highest peak is then shifted
by fractions of a pixel in Fourier space until the correlation is at its maximum, and the error follows in closed form
from the noise of the native pixels. This module knows arrays and templates; no file, no survey.
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
from twinlines.pipeline.spectra import ambiguity
from twinlines.pipeline.spectra.templates import STRIDE, ArmTemplates, Templates, VelocityConfig
from twinlines.pipeline.spectra.tiles import filled, tiles

__all__ = ["Correlation", "Templates", "Velocity", "VelocityConfig", "correlate", "measure"]

NEWTON_STEPS = 4
"""Newton steps from the best shift tried to the correlation's maximum; the last moves a clear peak by < 1e-6 px."""


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


class _Gridded(NamedTuple):
    """A tile of spectra on the grid, with the native pixels from which each grid pixel was interpolated."""

    flux: torch.Tensor  # (spectrum, grid pixel), mean-subtracted
    below: torch.Tensor  # (spectrum, grid pixel), index of the native pixel below
    above: torch.Tensor  # and of the one above
    fraction: torch.Tensor  # weight of the latter
    usable: torch.Tensor  # (spectrum,) whether enough pixels are usable and cover the grid


def _to_grid(
    prepared: ArmTemplates, wavelength: torch.Tensor, flux: torch.Tensor, good: torch.Tensor, minimum: float
) -> _Gridded:
    """Interpolate linearly between good native pixels, in the observed frame."""
    pixels = wavelength.shape[1]
    grid = torch.from_numpy(prepared.arm.wavelength).to(wavelength).expand(len(wavelength), -1).contiguous()
    index = torch.arange(pixels, device=wavelength.device).expand_as(wavelength)
    # Nearest good pixel at or below, and at or above, every native pixel.
    below = torch.where(good, index, -1).cummax(1).values
    above = torch.where(good, index, pixels).flip(1).cummin(1).values.flip(1)
    right = torch.searchsorted(wavelength, grid, right=True)
    covered = (right > 0) & (right < pixels)
    right = right.clamp(1, pixels - 1)
    below, above = below.gather(1, right - 1), above.gather(1, right)
    covered &= (below >= 0) & (above < pixels)
    # One-sided ends repeat the last good pixel.
    below = torch.where(below < 0, above, below).clamp(0, pixels - 1)
    above = torch.where(above >= pixels, below, above).clamp(0, pixels - 1)
    start, stop = wavelength.gather(1, below), wavelength.gather(1, above)
    width = stop - start
    fraction = torch.where(width > 0, (grid - start) / torch.where(width > 0, width, 1.0), 0.0).clamp(0.0, 1.0)
    filled = torch.where(good, flux, 1.0)
    values = torch.lerp(filled.gather(1, below), filled.gather(1, above), fraction)
    usable = (good.double().mean(1) >= minimum) & (covered.double().mean(1) >= minimum)
    return _Gridded(values - values.mean(1, keepdim=True), below, above, fraction, usable)


def _search(
    prepared: ArmTemplates, transform: torch.Tensor, gain: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Best template, the best for it of the shifts tried (grid pixels), and the highest correlation at each of these.

    The last is any template's, not the best one's, and times the spectrum's norm.
    The principal components find the shift; the templates themselves, at that shift and its neighbours, are ranked.
    """
    coarse = _correlate(prepared, transform)
    handicap = torch.where(prepared.rotating, gain, 1.0).to(coarse)
    flat = (coarse / handicap[:, None]).flatten(1).argmax(1)
    place = flat % coarse.shape[-1]
    middle = place.clamp(1, coarse.shape[-1] - 2)

    places = middle[:, None] + torch.arange(-1, 2, device=place.device)
    shifts = STRIDE * places - prepared.lags
    turned = transform[:, None, :] * torch.exp(1j * _frequency(prepared) * shifts[..., None])
    exact = _real(turned.flatten(0, 1)) @ _real(prepared.transform).T  # the real part of turned * conj(template)
    exact = exact.reshape(len(places), 3, -1).transpose(1, 2) * prepared.scale[:, places].transpose(0, 1)
    # Between two shifts tried a peak falls by up to 2 %, more than good templates differ by: compare vertices.
    before, centre, after = exact.unbind(-1)
    curvature = 2.0 * centre - before - after
    vertex = centre + (after - before) ** 2 / (8.0 * curvature.clamp_min(1e-30))
    inner = (centre >= before) & (centre >= after) & (curvature > 0)
    template = (torch.where(inner, vertex, exact.amax(-1)) / handicap).argmax(-1)
    best = exact[torch.arange(len(template), device=place.device), template].argmax(-1)
    return template, shifts.gather(1, best[:, None])[:, 0], coarse.amax(1)


def _correlate(prepared: ArmTemplates, transform: torch.Tensor) -> torch.Tensor:
    """Pearson's coefficient times the spectrum's norm, for each template and shift: (spectrum, template, shift)."""
    product = transform.to(torch.complex64)[:, None, :] * prepared.basis
    # A shorter transform than the spectrum's: it gives every STRIDE-th shift, STRIDE times too large.
    correlation = torch.fft.irfft(product, n=prepared.size // STRIDE) / STRIDE
    side = prepared.lags // STRIDE
    correlation = torch.cat([correlation[..., -side:], correlation[..., : side + 1]], -1)
    return torch.matmul(prepared.weights, correlation) * prepared.scale


def _frequency(prepared: ArmTemplates) -> torch.Tensor:
    """Angular frequencies of the transforms that are kept, 1 / pixel, float64."""
    band, device = prepared.transform.shape[1], prepared.transform.device
    return 2.0 * torch.pi / prepared.size * torch.arange(band, dtype=torch.float64, device=device)


def _real(values: torch.Tensor) -> torch.Tensor:
    """Real and imaginary parts side by side, float32: (row, 2 frequency)."""
    return torch.view_as_real(values.to(torch.complex64)).flatten(1)


class _Peak(NamedTuple):
    """The correlation's maximum of each spectrum."""

    shift: torch.Tensor  # (spectrum,) grid pixels
    height: torch.Tensor  # sum of the products over the template's norm; not yet over the spectrum's
    curvature: torch.Tensor  # second derivative of the logarithm of the height, 1 / pixel^2
    product: torch.Tensor  # sum of the products
    slope: torch.Tensor  # derivative of half the logarithm of the template's sum of squares, 1 / pixel


def _climb(prepared: ArmTemplates, transform: torch.Tensor, template: torch.Tensor, lag: torch.Tensor) -> _Peak:
    """Find the maximum of ln(correlation) near the best shift tried by Newton's method, exact in Fourier space."""
    frequency = _frequency(prepared)
    # Both signs of each frequency; at frequency zero the spectrum, free of its mean, has nothing.
    cross = transform * prepared.transform[template].conj() * (2.0 / prepared.size)
    # The window's variance changes slowly: a parabola through three lags.
    middle = (lag + prepared.lags).clamp(1, 2 * prepared.lags - 1)
    rows = prepared.log_variance[template]
    low, centre, high = (0.5 * rows.gather(1, (middle + step)[:, None])[:, 0] for step in (-1, 0, 1))
    start = (middle - prepared.lags).to(torch.float64)
    slope0, bend = (high - low) / 2.0, high - 2.0 * centre + low

    def evaluate(shift: torch.Tensor) -> tuple[torch.Tensor, ...]:
        turned = cross * torch.exp(1j * frequency * shift[:, None])
        product = turned.real.sum(1)
        first = -(turned.imag * frequency).sum(1)
        second = -(turned.real * frequency**2).sum(1)
        return product, first, second

    shift = start
    for _ in range(NEWTON_STEPS):
        product, first, second = evaluate(shift)
        gradient = first / product - slope0 - bend * (shift - start)
        hessian = second / product - (first / product) ** 2 - bend
        shift = torch.where(hessian < 0, shift - gradient / hessian, shift)
        shift = torch.minimum(torch.maximum(shift, start - STRIDE), start + STRIDE)
    product, first, second = evaluate(shift)
    offset = shift - start
    height = product * torch.exp(-(centre + slope0 * offset + 0.5 * bend * offset**2))
    curvature = second / product - (first / product) ** 2 - bend
    return _Peak(shift, height, curvature, product, slope0 + bend * offset)


def _error(
    prepared: ArmTemplates, gridded: _Gridded, sigma: torch.Tensor, template: torch.Tensor, peak: _Peak
) -> torch.Tensor:
    """Standard error of the shift in grid pixels, to first order in the noise of the native pixels.

    At the maximum the derivative of ln r vanishes; noise n on the flux moves it by (ln r)'' ds = -sum_i g_i (A n)_i,
    where A interpolates native pixels onto the grid and g is the gradient of that derivative with respect to the flux.
    Hence var(s) = sum_j sigma_j^2 (A^T g)_j^2 / (ln r)''^2, with the grid's correlated noise accounted for.
    """
    first, pixels = prepared.pad, prepared.arm.n_pixels
    frequency = _frequency(prepared)
    shifted = prepared.transform[template] * torch.exp(-1j * frequency * peak.shift[:, None])
    # d/ds of the shifted template, less the part that changes its norm alone; then the mean is projected out.
    gradient = shifted * (-1j * frequency - peak.slope[:, None])
    on_grid = torch.fft.irfft(gradient, n=prepared.size)[:, first : first + pixels]
    on_grid = (on_grid - on_grid.mean(1, keepdim=True)) / peak.product[:, None]
    native = torch.zeros_like(sigma)
    native.scatter_add_(1, gridded.below, on_grid * (1.0 - gridded.fraction))
    native.scatter_add_(1, gridded.above, on_grid * gridded.fraction)
    return (native * sigma).square().sum(1).sqrt() / -peak.curvature


class _Tile(NamedTuple):
    """A tile of spectra, ready for correlation."""

    gridded: _Gridded
    transform: torch.Tensor  # (spectrum, frequency) complex128, low frequencies only
    sigma: torch.Tensor  # (spectrum, native pixel), zero where a pixel is not used


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
    gridded = _to_grid(prepared, torch.nan_to_num(wavelength), flux, good, config.minimum_pixels)
    after = prepared.size - prepared.pad - prepared.arm.n_pixels
    transform = torch.fft.rfft(torch.nn.functional.pad(gridded.flux, (prepared.pad, after)))
    transform = transform[:, : prepared.transform.shape[1]].contiguous()
    return _Tile(gridded, transform, torch.where(good, sigma, 0.0))


def _measure_tile(prepared: ArmTemplates, config: VelocityConfig, tile: _Tile) -> tuple[torch.Tensor, ...]:
    """Shift and its error in pixels, template, correlation, whether there is a velocity, and two; one full tile."""
    template, lag, heights = _search(prepared, tile.transform, config.rotation_gain)
    peak = _climb(prepared, tile.transform, template, lag)
    norm = tile.gridded.flux.square().sum(1).sqrt()
    ccfmax = torch.where(tile.gridded.usable, peak.height / norm, torch.nan)
    error = _error(prepared, tile.gridded, tile.sigma, template, peak)
    significant = (lag.abs() < prepared.lags) & (ccfmax >= config.minimum_peak) & (peak.curvature < 0)
    significant &= torch.isfinite(peak.shift) & torch.isfinite(error)
    tried = STRIDE * torch.arange(heights.shape[1], dtype=torch.float64, device=lag.device) - prepared.lags
    rivals = ambiguity.judge(
        heights, tried, peak.shift, peak.height, norm.square(), _expected(tile), prepared.arm.n_pixels
    )
    error = torch.maximum(error, rivals.distance)
    return peak.shift, error, template, ccfmax, significant, rivals.ambiguous


def _expected(tile: _Tile) -> torch.Tensor:
    """Sum over the grid of the variance of the noise, after interpolation."""
    below, above, fraction = tile.gridded.below, tile.gridded.above, tile.gridded.fraction
    variance = tile.sigma.square()
    return (variance.gather(1, below) * (1.0 - fraction) ** 2 + variance.gather(1, above) * fraction**2).sum(1)


def _correlate_tile(prepared: ArmTemplates, config: VelocityConfig, tile: _Tile) -> tuple[torch.Tensor, ...]:
    """Pearson's coefficient with the best template at every shift, and that template; one full tile."""
    template, _, _ = _search(prepared, tile.transform, config.rotation_gain)
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
    kinds = (wavelength, torch.float64), (normalised, torch.float64), (sigma, torch.float64), (bad, torch.bool)
    for tile in tiles(len(wavelength)):
        columns = [filled(array[tile].to(prepared.transform.device, dtype)) for array, dtype in kinds]
        yield tile, _prepare(prepared, config, *columns)
