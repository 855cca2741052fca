"""Varying stored spectra while training, so that the network meets what real ones bring and the stored ones lack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_LIGHT = -0.5  # light varies by a tenth between arms; far below, what is left of a star would change its sign


class AugmentationError(ValueError):
    """A variation is asked for that has no meaning."""


@dataclass(frozen=True)
class Augmentation:
    """Fresh variations of a batch of pairs; each of them is off at zero.

    Random numbers come from torch's global generator of the device, which the caller seeds. Each spectrum, single or
    binary, has its own; what is said to be a fraction is one of the spectra. A field out of its range raises
    :class:`AugmentationError`.
    """

    extra_noise: float = 1.0
    """Largest standard deviation of added Gaussian noise, in units of the spectrum's own 1 / (S/N); each spectrum
    draws its fraction. The ensemble adds noise once more to noisy spectra, and the network should know such input."""
    continuum_wiggle: float = 0.01
    """Standard deviation of a slow multiplicative distortion, in units of the continuum: what normalisation
    leaves over."""
    wiggle_terms: int = 4
    """Cosine terms of the distortion; the highest has ``wiggle_terms`` half waves over the spectrum."""
    displaced: float = 0.0
    """Fraction that is moved from rest, as a wrong velocity leaves it: each arm by itself, single stars and binaries
    alike, so that displacement tells nothing."""
    most_pixels: int = 25
    """Pixels by which it is moved at most, either way: 5.2 km/s each."""
    jittered: float = 0.0
    """Fraction of the others that is moved a little, as templates that do not fit and the wavelength scale leave it."""
    jitter_pixels: int = 2
    """Pixels by which it is moved at most, either way."""
    rippled: float = 0.0
    """Fraction whose continuum has a ripple, as fibres and flat fields leave it: a wave, and a step."""
    most_ripple: float = 0.05
    """Largest amplitude of a ripple, in units of the continuum; each spectrum draws its own."""
    ripple_pixels: int = 200
    """Shortest period of a ripple, pixels; the longest is eight times that."""
    diluted: float = 0.0
    """Fraction to which featureless light is added, in both arms: veiling, scattered light, a wrong zero level."""
    least_light: float = -0.05
    """Least featureless light, in units of the continuum; below zero is light that was taken away."""
    most_light: float = 0.6
    """Most featureless light, in units of the continuum."""
    restrengthened: float = 0.0
    """Fraction whose lines are made stronger and weaker, band by band, as in stars that no library describes."""
    relined: float = 0.0
    """Fraction whose lines are made stronger and weaker, line by line."""
    strength: float = 0.25
    """Largest standard deviation of those changes, as a fraction of a line's depth; each spectrum draws its own."""
    band_pixels: int = 300
    """Pixels over which a band's strength changes."""
    line_pixels: int = 12
    """Pixels over which a line's strength changes."""

    def __post_init__(self) -> None:
        for name in ("displaced", "jittered", "rippled", "diluted", "restrengthened", "relined"):
            if not 0.0 <= (value := getattr(self, name)) <= 1.0:
                raise AugmentationError(f"{name} is {value}; give a fraction from 0 to 1")
        for name in ("extra_noise", "continuum_wiggle", "wiggle_terms", "most_ripple", "strength"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise AugmentationError(f"{name} is {value}; give 0 or more")
        for name in ("most_pixels", "jitter_pixels", "ripple_pixels", "band_pixels", "line_pixels"):
            if (value := getattr(self, name)) < 2:
                raise AugmentationError(f"{name} is {value}; give 2 or more")
        if not _LEAST_LIGHT < self.least_light < math.inf:
            raise AugmentationError(
                f"least_light is {self.least_light}; give more than {_LEAST_LIGHT}: that much of a star's light cannot "
                "be missing"
            )
        if not self.least_light <= self.most_light < math.inf:
            raise AugmentationError(f"most_light is {self.most_light}; give {self.least_light} (least_light) or more")

    def __call__(self, flux: Mapping[str, Tensor], snr: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return varied copies of ``flux``, (pair, 2, pixel) by arm, given the pairs' S/N, (pair,) by arm."""
        some = next(iter(flux.values()))
        light = some.new_zeros((*some.shape[:2], 1))
        if self.diluted > 0:
            drawn = self.least_light + (self.most_light - self.least_light) * torch.rand_like(light)
            light = torch.where(torch.rand_like(light) < self.diluted, drawn, light)
        return {arm: self._vary(values, snr[arm][:, None, None], light) for arm, values in flux.items()}

    def _vary(self, flux: Tensor, snr: Tensor, light: Tensor) -> Tensor:
        pairs, kinds, pixels = flux.shape
        deviation = (self._displace(flux) if self.displaced + self.jittered > 0 else flux) - 1.0
        variance = torch.zeros_like(light)
        for fraction, step in ((self.restrengthened, self.band_pixels), (self.relined, self.line_pixels)):
            some = torch.rand((pairs, kinds), device=flux.device) < fraction
            if some.any():
                lines = deviation[some]
                amplitude = self.strength * torch.rand((len(lines), 1), device=flux.device, dtype=flux.dtype)
                knots = torch.randn((len(lines), max(2, pixels // step)), device=flux.device, dtype=flux.dtype)
                field = functional.interpolate(
                    (amplitude * knots)[None], size=pixels, mode="linear", align_corners=True
                )
                deviation[some] = torch.addcmul(lines, lines, field[0].clamp_(-0.8, 0.8))
        if self.diluted > 0:
            # The sum of both lights is what has the S/N, so that what dilution takes from the noise is given back.
            shared = light * (1.0 + 0.1 * torch.randn_like(light))
            share = 1.0 / (1.0 + shared)
            deviation = deviation * share
            variance = (1.0 - share**2).clamp(min=0.0)
        if self.continuum_wiggle > 0 and self.wiggle_terms > 0:
            phase = torch.linspace(0.0, torch.pi, pixels, device=flux.device, dtype=flux.dtype)
            numbers = torch.arange(1, self.wiggle_terms + 1, device=flux.device, dtype=flux.dtype)
            terms = torch.cos(numbers[:, None] * phase)
            # The mean square of a cosine is a half.
            scale = self.continuum_wiggle * (2.0 / self.wiggle_terms) ** 0.5
            weights = torch.randn((pairs, kinds, self.wiggle_terms), device=flux.device, dtype=flux.dtype)
            wiggle = (scale * weights) @ terms
            deviation = torch.addcmul(deviation, deviation + 1.0, wiggle)
        if self.rippled > 0:
            some = torch.rand((pairs, kinds), device=flux.device) < self.rippled
            deviation[some] += (deviation[some] + 1.0) * self._ripple(int(some.sum()), pixels, flux)
        variance = variance + (self.extra_noise * torch.rand_like(light)) ** 2
        if self.extra_noise > 0 or self.diluted > 0:
            deviation = torch.addcmul(deviation, variance.sqrt() / snr, torch.randn_like(flux))
        return deviation.add_(1.0)

    def _ripple(self, spectra: int, pixels: int, like: Tensor) -> Tensor:
        """Ripples of so many spectra, in units of the continuum, (spectrum, pixel)."""
        amplitude, period, phase, start, lot = torch.rand((5, spectra, 1), device=like.device, dtype=like.dtype)
        pixel = torch.arange(pixels, device=like.device, dtype=like.dtype)
        wave = torch.sin(2.0 * torch.pi * (pixel / (self.ripple_pixels * 8.0**period) + phase))
        step = torch.tanh((pixel - pixels * start) / 30.0)
        ripples: Tensor = self.most_ripple * amplitude * (wave + (lot < 0.5) * step)
        return ripples

    def _displace(self, flux: Tensor) -> Tensor:
        """A copy of which some spectra are moved by whole pixels; their ends are continued by the last value."""
        lot = torch.rand(flux.shape[:2], device=flux.device)
        most = torch.where(lot < self.displaced, self.most_pixels, self.jitter_pixels)
        chosen = lot < self.displaced + (1.0 - self.displaced) * self.jittered
        moved = flux.clone()
        spectra, most = flux[chosen], most[chosen]
        shift = (torch.rand(len(spectra), device=flux.device) * (2 * most + 1)).floor().long() - most
        pixel = torch.arange(flux.shape[2], device=flux.device) + shift[:, None]
        moved[chosen] = spectra.gather(1, pixel.clamp(0, flux.shape[2] - 1))
        return moved
