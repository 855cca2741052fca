"""The templates against which velocities are measured: which of the library's spectra, and their Fourier transforms.

They are normalised by the same continuum function as observed spectra, and prepared once per worker (about a second)
for :mod:`twinlines.pipeline.spectra.velocity`, the only module that needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, Arm, arm, pixel_shift
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


def _default_templates() -> tuple[tuple[float, float, float, float, float], ...]:
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


@dataclass(frozen=True)
class VelocityConfig:
    """How velocities are measured."""

    limit: float = 1000.0
    """Largest velocity searched, either sign, km/s; a peak beyond it is refused."""
    templates: tuple[tuple[float, float, float, float, float], ...] = field(default_factory=_default_templates)
    """Labels (Teff in K, logg, [Fe/H], [alpha/Fe], vsini in km/s) of the templates; inside the library's domain."""
    components: int = 32
    """Principal components in which the templates are written while every shift is tried. They only find the shift:
    with 32 the same template and velocity come out as with all (with 16, in 99 spectra of 100)."""
    rotation_gain: float = 1.25
    """A rotating template is chosen only if it correlates better than any other by this factor. Broad lines make it the
    best template for two stars' narrow lines (by a factor up to 1.2), and its velocity is then neither star's."""
    minimum_peak: float = 0.13
    """Correlation below which a peak is not significant. Pure noise, searched likewise, reaches 0.076 (B) and 0.068
    (R) in the median, 0.120 and 0.109 in one case of a thousand, 0.122 at most in 3,072, whatever its size."""
    valid_flux: tuple[float, float] = (0.0, 3.0)
    """Normalised flux at or outside these bounds is interpolated over (the authors' bounds)."""
    minimum_pixels: float = 0.5
    """Least fraction of an arm's pixels that must be usable."""


@dataclass(frozen=True)
class ArmTemplates:
    """The templates of one arm, prepared for correlation."""

    arm: Arm
    """The arm."""
    labels: NDArray[np.float64]
    """(template, 5) Teff in K, logg, [Fe/H], [alpha/Fe], vsini in km/s."""
    lags: int
    """Shifts from -lags to +lags grid pixels are tried, in steps of STRIDE."""
    pad: int
    """Template pixels on either side of the grid."""
    size: int
    """Length of the Fourier transforms."""
    rotating: torch.Tensor
    """(template,) bool, whether the template rotates."""
    transform: torch.Tensor
    """(template, frequency) complex128: transforms of the templates, low frequencies only."""
    basis: torch.Tensor
    """(component, frequency) complex64: conjugate transforms of the principal components."""
    weights: torch.Tensor
    """(template, component) float32: the templates in the principal components."""
    log_variance: torch.Tensor
    """(template, 2 lags + 1) float64: logarithm of the template's sum of squares about the mean, within the window that
    the grid cuts out of it at each shift."""
    scale: torch.Tensor
    """(template, lags + 1) float32: one over the square root of that sum, for the shifts that are tried."""


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
            If a template is outside the library's domain, or the search is wider than the library's margins.
        """
        config = config or VelocityConfig()
        labels = np.array(config.templates, dtype=np.float64)
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
    components = min(config.components, len(singular))

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
        rotating=torch.from_numpy(labels[:, 4] > 0.0).to(device),
        transform=transform.contiguous().to(device),
        basis=basis.to(torch.complex64).contiguous().to(device),
        weights=(norm * left[:, :components] * singular[:components]).to(torch.float32).contiguous().to(device),
        log_variance=variance.log().to(device),
        scale=variance[:, ::STRIDE].rsqrt().to(torch.float32).to(device),
    )
