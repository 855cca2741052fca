"""Velocities as they were measured before templates rotated: the kernel that ``velocity.py`` here compares with.

A Fourier transform of a spectrum, 32 transforms of its whole length back, one for each principal component, and 130
templates, of which 16 of A and F stars rotate. As it stood, but for configurations, checks of shapes and the
correlation that figures show.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from twinlines.pipeline.arms import ARM_NAMES, Arm, arm, pixel_shift, velocity_of_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra import ambiguity, continuum
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.spectra.tiles import filled, tiles

STRIDE, GUARD, TAPER, NEWTON_STEPS = 2, 64, 128, 4
LIMIT, COMPONENTS, ROTATION_GAIN, MINIMUM_PEAK, MINIMUM_PIXELS = 1000.0, 32, 1.25, 0.13, 0.5


def default_templates() -> tuple[tuple[float, float, float, float, float], ...]:
    """Labels of the default templates: dwarfs and giants, alpha-enhanced where metal-poor; rotating A and F stars."""
    metals = ((-2.0, 0.4), (-1.0, 0.4), (-0.5, 0.0), (0.0, 0.0), (0.5, 0.0))
    cool = (4000.0, 4250.0, 4500.0, 4750.0, 5000.0, 5250.0, 5500.0, 5750.0, 6000.0, 6250.0, 6500.0, 7000.0)
    sequences = (
        (4.5, cool),
        (4.0, (7500.0, 8000.0, 9000.0, 10000.0)),
        (3.0, (4500.0, 5000.0, 5500.0, 6000.0)),
        (1.0, (4000.0, 4500.0)),
    )
    slow = [(teff, logg, feh, alpha, 0.0) for logg, teffs in sequences for teff in teffs for feh, alpha in metals]
    slow += [(3500.0, logg, feh, 0.0, 0.0) for logg in (1.0, 5.0) for feh in (-1.0, 0.0)]
    fast = [
        (teff, 4.0, feh, 0.0, vsini)
        for teff in (7000.0, 7500.0, 8000.0, 9000.0)
        for feh in (-0.5, 0.0)
        for vsini in (100.0, 200.0)
    ]
    return tuple(slow + fast)


class ArmTemplates(NamedTuple):
    """The templates of one arm, prepared for correlation."""

    arm: Arm
    labels: NDArray[np.float64]
    lags: int
    pad: int
    size: int
    rotating: torch.Tensor
    transform: torch.Tensor
    basis: torch.Tensor
    weights: torch.Tensor
    log_variance: torch.Tensor
    scale: torch.Tensor


def prepare(library: Library) -> dict[str, ArmTemplates]:
    """Templates by arm."""
    labels = np.array(default_templates(), dtype=np.float64)
    return {name: _prepare_templates(library, arm(name), labels) for name in ARM_NAMES}


def _prepare_templates(library: Library, which: Arm, labels: NDArray[np.float64]) -> ArmTemplates:
    lags = STRIDE * (int(np.ceil(-pixel_shift(-LIMIT) / STRIDE)) + 1)
    pad = lags + GUARD + TAPER
    flux = torch.from_numpy(library.flux(which.name, labels[:, :4])).double()
    flux /= flux.mean(1, keepdim=True)
    flux = broaden_and_shift(flux, torch.from_numpy(labels[:, 4]), torch.zeros(len(labels)))
    normalised, _ = continuum.normalise(torch.from_numpy(which.library_wavelength), flux)
    spectra = normalised[:, which.library_margin - pad : which.library_margin + which.n_pixels + pad]
    spectra = spectra - spectra.mean(1, keepdim=True)

    # The exact window sums: of pixels lag-shifted against the grid, before the taper.
    sums, squares = (
        torch.cat([torch.zeros(len(values), 1, dtype=values.dtype), values.cumsum(1)], 1)
        for values in (spectra, spectra**2)
    )
    first = pad - torch.arange(-lags, lags + 1)
    window_sum = sums[:, first + which.n_pixels] - sums[:, first]
    variance = squares[:, first + which.n_pixels] - squares[:, first] - window_sum**2 / which.n_pixels

    ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(TAPER, dtype=torch.float64) + 0.5) / TAPER)
    taper = torch.ones(spectra.shape[1], dtype=torch.float64)
    taper[:TAPER], taper[-TAPER:] = ramp, ramp.flip(0)
    spectra = spectra * taper
    norm = spectra.norm(dim=1, keepdim=True)
    left, singular, right = torch.linalg.svd(spectra / norm, full_matrices=False)  # so that all are equally exact
    components = min(COMPONENTS, len(singular))

    # A multiple of 32 keeps the rows of every array aligned; what a spectrograph of R = 7500 leaves beyond a quarter of
    # the sampling frequency is 2e-6 of the amplitude.
    size = 32 * next_fast_len(-(-spectra.shape[1] // 32))
    band = size // (2 * STRIDE)
    transform = torch.fft.rfft(spectra, n=size)[:, :band]
    basis = torch.fft.rfft(right[:components], n=size)[:, :band].conj().resolve_conj()
    return ArmTemplates(
        arm=which,
        labels=labels,
        lags=lags,
        pad=pad,
        size=size,
        rotating=torch.from_numpy(labels[:, 4] > 0.0),
        transform=transform.contiguous(),
        basis=basis.to(torch.complex64).contiguous(),
        weights=(norm * left[:, :components] * singular[:components]).to(torch.float32).contiguous(),
        log_variance=variance.log(),
        scale=variance[:, ::STRIDE].rsqrt().to(torch.float32),
    )


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
    wavelength: torch.Tensor,
    flux: torch.Tensor,
    sigma: torch.Tensor,
    bad: torch.Tensor,
) -> _Tile:
    lowest, highest = 0.0, 3.0
    good = ~bad & torch.isfinite(sigma) & torch.isfinite(wavelength) & (flux > lowest) & (flux < highest)
    gridded = _to_grid(prepared, torch.nan_to_num(wavelength), flux, good, MINIMUM_PIXELS)
    after = prepared.size - prepared.pad - prepared.arm.n_pixels
    transform = torch.fft.rfft(torch.nn.functional.pad(gridded.flux, (prepared.pad, after)))
    transform = transform[:, : prepared.transform.shape[1]].contiguous()
    return _Tile(gridded, transform, torch.where(good, sigma, 0.0))


def _measure_tile(prepared: ArmTemplates, tile: _Tile) -> tuple[torch.Tensor, ...]:
    """Shift and its error in pixels, template, correlation, whether there is a velocity, and two; one full tile."""
    template, lag, heights = _search(prepared, tile.transform, ROTATION_GAIN)
    peak = _climb(prepared, tile.transform, template, lag)
    norm = tile.gridded.flux.square().sum(1).sqrt()
    ccfmax = torch.where(tile.gridded.usable, peak.height / norm, torch.nan)
    error = _error(prepared, tile.gridded, tile.sigma, template, peak)
    significant = (lag.abs() < prepared.lags) & (ccfmax >= MINIMUM_PEAK) & (peak.curvature < 0)
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


def measure(
    prepared: ArmTemplates,
    wavelength: torch.Tensor,
    normalised: torch.Tensor,
    sigma: torch.Tensor,
    bad: torch.Tensor,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Velocities, km/s, NaN where there is none, and numbers of the best templates."""
    rows = len(wavelength)
    columns: list[NDArray[Any]] = [np.zeros(rows) for _ in range(6)]
    kinds = (wavelength, torch.float64), (normalised, torch.float64), (sigma, torch.float64), (bad, torch.bool)
    for some in tiles(rows):
        tile = _prepare(prepared, *(filled(array[some].to(dtype)) for array, dtype in kinds))
        for column, values in zip(columns, _measure_tile(prepared, tile), strict=True):
            column[some] = values[: some.stop - some.start].numpy()
    shift, _, template, _, significant, _ = columns
    velocity = velocity_of_shift(shift)
    return np.where((significant > 0) & (np.abs(velocity) <= LIMIT), velocity, np.nan), template.astype(np.int64)
