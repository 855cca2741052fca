"""Varying stored spectra while training, so that the network meets what real ones bring and the stored ones lack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Fresh variations of a batch of pairs; each of them is off at zero.

    Random numbers come from torch's global generator of the device, which the caller seeds.
    """

    extra_noise: float = 1.0
    """Largest standard deviation of added Gaussian noise, in units of the spectrum's own 1 / (S/N); each spectrum
    draws its fraction. The ensemble adds noise once more to noisy spectra, and the network should know such input."""
    continuum_wiggle: float = 0.01
    """Standard deviation of a slow multiplicative distortion, in units of the continuum: what normalisation
    leaves over."""
    wiggle_terms: int = 4
    """Cosine terms of the distortion; the highest has ``wiggle_terms`` half waves over the spectrum."""
    gap_pixels: int = 0
    """Longest run of pixels set to the continuum, as repaired bad pixels are; each spectrum draws a
    length from 0."""

    def __call__(self, flux: Tensor, snr: Tensor) -> Tensor:
        """Return varied copies of ``flux`` (pair, 2, pixel), given the pairs' S/N (pair,)."""
        pairs, kinds, pixels = flux.shape
        options = {"device": flux.device, "dtype": flux.dtype}
        if self.continuum_wiggle > 0 and self.wiggle_terms > 0:
            phase = torch.linspace(0.0, torch.pi, pixels, **options)  # type: ignore[call-overload]
            terms = torch.cos(torch.arange(1, self.wiggle_terms + 1, **options)[:, None] * phase)  # type: ignore[call-overload]
            # The mean square of a cosine is a half.
            scale = self.continuum_wiggle * (2.0 / self.wiggle_terms) ** 0.5
            flux = flux * (1.0 + scale * torch.randn(pairs, kinds, self.wiggle_terms, **options) @ terms)  # type: ignore[call-overload]
        if self.extra_noise > 0:
            sigma = self.extra_noise * torch.rand(pairs, kinds, 1, **options) / snr[:, None, None]  # type: ignore[call-overload]
            flux = torch.addcmul(flux, sigma, torch.randn(flux.shape, **options))  # type: ignore[call-overload]
        if self.gap_pixels > 0:
            length = (torch.rand(pairs, kinds, 1, **options) * (self.gap_pixels + 1)).floor()  # type: ignore[call-overload]
            start = (torch.rand(pairs, kinds, 1, **options) * pixels).floor()  # type: ignore[call-overload]
            pixel = torch.arange(pixels, **options)  # type: ignore[call-overload]
            flux = torch.where((pixel >= start) & (pixel < start + length), 1.0, flux)
        return flux
