"""The templates against which velocities are measured: which of the library's spectra, and how they are prepared.

They are normalised by the same continuum function as observed spectra, and prepared once per worker (about a second)
for :mod:`twinlines.pipeline.spectra.correlation` and :mod:`twinlines.pipeline.spectra.peak`, which explain the forms in
which they are kept. Templates that rotate stand behind those that do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, STEP_KMS, Arm, arm, pixel_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra import continuum
from twinlines.pipeline.spectra.broadening import broaden_and_shift

STRIDE = 2
"""Grid pixels between the shifts that are tried with every template. At R = 7500 nothing in a spectrum, nor in its
correlation, is narrower than 7.7 pixels, so that every second value holds all of it."""

GUARD = 64
"""Untouched template pixels beyond the outermost shift, so that the taper is out of reach of interpolation."""

TAPER = 128
"""Pixels over which a template's ends go to zero, so that its periodic continuation is smooth."""

BLOCK = 130
"""Samples (of STRIDE pixels) of the blocks into which a spectrum is cut while every shift is tried."""

EDGE = 8
"""Samples beyond either end of the grid that its spectrum, smoothed to the band that is kept, still reaches."""

SHARP = 180.0
"""Scale below which structure is sharp, km/s: stars of vsini of 100 km/s and more have next to none."""

SMOOTH = 8
"""Lowest frequency of a transform that counts as a spectrum's lines: what is below is the continuum's."""

NEAR = 16
"""Terms of the power series that moves a correlation by up to STRIDE pixels; the next is 1e-7 of what matters."""


def _default_templates() -> tuple[tuple[float, float, float, float, float], ...]:
    """Labels of the default templates: dwarfs and giants, alpha-enhanced where metal-poor; then rotating stars."""
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
    rotating = (
        (4.5, (4000.0, 4500.0, 5000.0, 5500.0, 6000.0, 6500.0, 7000.0)),
        (4.0, (7500.0, 8000.0, 9000.0, 10000.0)),
        (2.0, (4000.0, 4750.0)),
    )
    fast = [
        (teff, logg, feh, alpha, vsini)
        for logg, teffs in rotating
        for teff in teffs
        for feh, alpha in ((-1.0, 0.4), (0.0, 0.0))
        for vsini in (300.0, 430.0)  # slower ones fit two stars, 60 km/s apart, as well as one that rotates
    ]
    return tuple(slow + fast)


@dataclass(frozen=True)
class VelocityConfig:
    """How velocities are measured."""

    limit: float = 1000.0
    """Largest velocity searched, either sign, km/s; a peak beyond it is refused."""
    templates: tuple[tuple[float, float, float, float, float], ...] = field(default_factory=_default_templates)
    """Labels (Teff in K, logg, [Fe/H], [alpha/Fe], vsini in km/s) of the templates; inside the library's domain, and at
    least one without rotation."""
    components: int = 32
    """Principal components in which the templates are written while every shift is tried. They only find the shift:
    the templates themselves are ranked there."""
    rotation_gain: float = 1.25
    """A rotating template that correlates better than any other by this factor is chosen. Broad lines make it the best
    template for two stars' narrow lines, too (by a factor up to 1.2), and its velocity is then neither star's."""
    sharp_lines: float = 0.12
    """Below that factor it is chosen if the spectrum has next to no sharp lines: at the best peak of the others,
    structure below :data:`SHARP` is at most this fraction of what the coarser structure asks for, ..."""
    sharp_noise: float = 2.5
    """... plus this many standard deviations of it by noise, ..."""
    rotation_chi2: float = 20.0
    """... and if chi2 falls by at least this much. Two stars' narrow lines are sharp; so are those of a star at vsini
    below 60 km/s."""
    minimum_peak: float = 0.13
    """Correlation below which a peak is not significant. Pure noise, searched likewise, reaches 0.076 (B) and 0.068
    (R) in the median, 0.120 and 0.109 in one case of a thousand, 0.122 at most in 3,072, whatever its size."""
    valid_flux: tuple[float, float] = (0.0, 3.0)
    """Normalised flux at or outside these bounds is interpolated over (the authors' bounds)."""
    minimum_pixels: float = 0.5
    """Least fraction of an arm's pixels that must be usable."""


@dataclass(frozen=True)
class ArmTemplates:
    """The templates of one arm, prepared for correlation; those that rotate last."""

    arm: Arm
    """The arm."""
    labels: NDArray[np.float64]
    """(template, 5) Teff in K, logg, [Fe/H], [alpha/Fe], vsini in km/s."""
    slow: int
    """How many do not rotate."""
    lags: int
    """Shifts from -lags to +lags grid pixels are tried, in steps of STRIDE."""
    pad: int
    """Template pixels on either side of the grid."""
    size: int
    """Length of the Fourier transforms."""
    transform: Tensor
    """(template, frequency) complex64: transforms of the templates, low frequencies only."""
    phase: Tensor
    """(tried shift, frequency) complex64: what each shift multiplies a product of transforms by."""
    samples: Tensor
    """(sample, template) float32: the templates, every STRIDE-th pixel from :attr:`first` - shifts - 1 on."""
    first: int
    """First sample of a spectrum that is used."""
    blocks: int
    """Into how many blocks of BLOCK samples it is cut."""
    forward: Tensor
    """(sample of a block, 2 frequency) float32: Fourier transform of a block, cosines then sines."""
    backward: Tensor
    """(tried shift, 2 frequency) float32: from products of transforms to correlations."""
    basis: Tensor
    """(2, frequency, 2 block, component) float32: transforms of the principal components, by which those of a
    spectrum's blocks are multiplied for the real and for the imaginary part of the product."""
    weights: Tensor
    """(component, template) float32: the templates in the principal components."""
    log_variance: Tensor
    """(template, 2 lags + 1) float64: logarithm of the template's sum of squares about the mean, within the window that
    the grid cuts out of it at each shift."""
    scale: Tensor
    """(tried shift, 1, template) float32: one over the square root of that sum."""
    series: Tensor
    """(2 frequency, term) float64: from a product of transforms, real and imaginary parts in turn, to the power series
    of the correlation in the shift."""
    sharpness: Tensor
    """(2 frequency, 2 term) float32: the same of its coarse and of its sharp structure alone."""
    power: Tensor
    """(template, 2) float32: the templates' own coarse and sharp structure, in that unit."""

    @property
    def sharp_frequency(self) -> int:
        """First frequency that is sharp structure's."""
        return sharp_frequency(self.size)


def sharp_frequency(size: int) -> int:
    """First frequency of a transform of this length that belongs to structure below :data:`SHARP`."""
    return int(size * STEP_KMS / SHARP)


@dataclass(frozen=True)
class Templates:
    """Templates of both arms."""

    config: VelocityConfig
    """The configuration that chose them."""
    arms: Mapping[str, ArmTemplates]
    """Prepared templates by arm name."""

    @classmethod
    def default(cls) -> Templates:
        """Templates of the library that ships, on the CPU; prepared once in a process, on one thread, then shared."""
        return _default()

    @classmethod
    def build(
        cls, library: Library, config: VelocityConfig | None = None, device: torch.device | str = "cpu"
    ) -> Templates:
        """Interpolate, normalise and transform the templates of both arms.

        Parameters
        ----------
        library
            The spectral library.
        config
            Velocity configuration; the default if None.
        device
            Where correlations will be computed.

        Raises
        ------
        ValueError
            If a template is outside the library's domain, if all rotate, or if the search is wider than the library's
            margins.
        """
        config = config or VelocityConfig()
        labels = np.array(config.templates, dtype=np.float64)
        labels = labels[np.argsort(labels[:, 4] > 0.0, kind="stable")]
        if labels[0, 4] > 0.0:
            raise ValueError(
                f"all {len(labels)} templates rotate (vsini {labels[:, 4].min():g} km/s or more); "
                "give VelocityConfig.templates one with vsini 0 at least"
            )
        return cls(config, {name: _prepare(library, arm(name), labels, config, device) for name in ARM_NAMES})


@lru_cache(maxsize=1)
@one_thread()
def _default() -> Templates:
    return Templates.build(Library.load())


def _prepare(
    library: Library, which: Arm, labels: NDArray[np.float64], config: VelocityConfig, device: torch.device | str
) -> ArmTemplates:
    lags = STRIDE * (int(np.ceil(-pixel_shift(-config.limit) / STRIDE)) + 1)
    pad = lags + GUARD + TAPER
    if pad > which.library_margin:
        raise ValueError(
            f"velocities up to {config.limit} km/s need {pad} template pixels beside the {which.name} grid, "
            f"the library has {which.library_margin}; lower VelocityConfig.limit"
        )
    spectra = _spectra(library, which, labels, pad)
    variance = _window_variance(spectra, which.n_pixels, pad, lags)
    ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(TAPER, dtype=torch.float64) + 0.5) / TAPER)
    taper = torch.ones(spectra.shape[1], dtype=torch.float64)
    taper[:TAPER], taper[-TAPER:] = ramp, ramp.flip(0)
    spectra = spectra * taper
    norm = spectra.norm(dim=1, keepdim=True)
    left, singular, right = torch.linalg.svd(spectra / norm, full_matrices=False)  # so that all are equally exact
    components = min(config.components, len(singular))

    # A multiple of 32 keeps the rows of every array aligned; what a spectrograph of R = 7500 leaves beyond a quarter of
    # the sampling frequency is 2e-6 of the amplitude. The last frequency stays empty: it is its own conjugate.
    size = 32 * next_fast_len(-(-spectra.shape[1] // 32))
    band = size // (2 * STRIDE) + 1
    transform, basis = (torch.fft.rfft(rows, n=size)[:, :band] for rows in (spectra, right[:components]))
    transform[:, -1] = basis[:, -1] = 0.0
    samples, parts = (torch.fft.irfft(rows, n=size // STRIDE) / STRIDE for rows in (transform, basis))

    tried = lags // STRIDE
    first = pad // STRIDE - EDGE
    blocks = -(-(which.n_pixels // STRIDE + 2 * EDGE) // BLOCK)
    forward, backward = _block_transforms(tried)
    frequency = angular_frequency(size, band)
    shifts = STRIDE * torch.arange(-tried, tried + 1, dtype=torch.float64)
    series = _series(frequency, size)
    sharp = sharp_frequency(size)
    apart = torch.zeros(2, band, dtype=torch.float64)
    apart[0, SMOOTH:sharp] = apart[1, sharp:] = 1.0
    power = (2.0 / size) * transform.abs().square() @ apart.T
    apart = apart.repeat_interleave(2, dim=1)  # real and imaginary parts
    kept = slice(first - tried - 1, first + blocks * BLOCK + tried + 1)
    return ArmTemplates(
        arm=which,
        labels=labels,
        slow=int((labels[:, 4] == 0.0).sum()),
        lags=lags,
        pad=pad,
        size=size,
        transform=transform.to(torch.complex64).contiguous().to(device),
        phase=torch.exp(1j * frequency * shifts[:, None]).to(torch.complex64).to(device),
        samples=samples[:, kept].T.contiguous().to(device, torch.float32),
        first=first,
        blocks=blocks,
        forward=forward[:BLOCK].contiguous().to(device, torch.float32),
        backward=backward.to(device, torch.float32),
        basis=_block_basis(parts, forward, first, blocks, tried).to(device, torch.float32),
        weights=(norm * left[:, :components] * singular[:components]).T.contiguous().to(device, torch.float32),
        log_variance=variance.log().to(device),
        scale=variance[:, ::STRIDE].rsqrt().T[:, None, :].contiguous().to(device, torch.float32),
        series=series.to(device),
        sharpness=torch.cat([series * rows[:, None] for rows in apart], 1).to(device, torch.float32),
        power=power.to(device, torch.float32),
    )


def _spectra(library: Library, which: Arm, labels: NDArray[np.float64], pad: int) -> Tensor:
    """Normalised templates on the grid and ``pad`` pixels beside it, less their means, (template, pixel) float64."""
    flux = torch.from_numpy(library.flux(which.name, labels[:, :4])).double()
    flux /= flux.mean(1, keepdim=True)
    flux = broaden_and_shift(flux, torch.from_numpy(labels[:, 4]), torch.zeros(len(labels)))
    normalised, _ = continuum.normalise(torch.from_numpy(which.library_wavelength), flux)
    spectra = normalised[:, which.library_margin - pad : which.library_margin + which.n_pixels + pad]
    return spectra - spectra.mean(1, keepdim=True)


def _window_variance(spectra: Tensor, pixels: int, pad: int, lags: int) -> Tensor:
    """Sums of squares about the mean within the grid's window at each shift, before the taper: (template, shift)."""
    sums, squares = (
        torch.cat([torch.zeros(len(values), 1, dtype=values.dtype), values.cumsum(1)], 1)
        for values in (spectra, spectra**2)
    )
    first = pad - torch.arange(-lags, lags + 1)
    window_sum = sums[:, first + pixels] - sums[:, first]
    return squares[:, first + pixels] - squares[:, first] - window_sum**2 / pixels


def angular_frequency(size: int, band: int) -> Tensor:
    """Angular frequencies of the transforms that are kept, 1 / pixel, float64."""
    return 2.0 * torch.pi / size * torch.arange(band, dtype=torch.float64)


def _block_transforms(tried: int) -> tuple[Tensor, Tensor]:
    """Fourier transform of a block, and that from products of transforms to correlations at -tried to +tried samples.

    They are as long as a block of a template with all its shifts; those of real values need half of the frequencies.
    """
    length = BLOCK + 2 * tried
    frequencies = torch.arange(length // 2 + 1, dtype=torch.float64)
    angle = 2.0 * torch.pi / length * frequencies
    inside = torch.arange(length, dtype=torch.float64)[:, None] * angle
    forward = torch.cat([torch.cos(inside), -torch.sin(inside)], 1)
    ahead = (tried - torch.arange(-tried, tried + 1, dtype=torch.float64))[:, None] * angle
    both = torch.where((frequencies == 0) | (2 * frequencies == length), 1.0, 2.0) / length
    backward = torch.cat([both * torch.cos(ahead), -both * torch.sin(ahead)], 1)
    return forward, backward


def _block_basis(parts: Tensor, forward: Tensor, first: int, blocks: int, tried: int) -> Tensor:
    """Transforms of the principal components' blocks, as :attr:`ArmTemplates.basis` has them."""
    starts = first - tried + BLOCK * torch.arange(blocks)
    pieces = parts[:, starts[:, None] + torch.arange(len(forward))]  # (component, block, sample)
    real, imaginary = (pieces @ forward).permute(2, 1, 0).chunk(2)  # each (frequency, block, component)
    return torch.stack([torch.cat([real, imaginary], 1), torch.cat([imaginary, -real], 1)])


def _series(frequency: Tensor, size: int) -> Tensor:
    """From a product of transforms to the power series of the correlation in the shift, (2 frequency, term).

    The correlation at a shift d is 2 / size times the sum over frequencies w of the real part of p exp(i w d), and so
    its term of order j that of p (i w)^j / j!: w^j / j! times the real part of p, less the imaginary one, and so on.
    (Both signs of each frequency count; at frequency zero the spectrum, free of its mean, has nothing.)
    """
    series = torch.zeros(len(frequency), 2, NEAR, dtype=torch.float64)
    term = torch.full_like(frequency, 2.0 / size)
    for order in range(NEAR):
        series[:, order % 2, order] = term * (1.0, -1.0, -1.0, 1.0)[order % 4]
        term = term * frequency / (order + 1)
    return series.flatten(0, 1)
