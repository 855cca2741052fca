"""Which template fits a spectrum best, and at which shift: every shift is tried with every template, cheaply.

How. Smoothed to the band in which there is anything (R = 7500), spectra and templates have a sample every STRIDE
pixels, and a shift tried moves one against the other by whole samples. The spectrum is cut into blocks. The transform
of a block need only be as long as the block and all shifts together, and the products of a block's transform with those
of the same stretch of the template are summed over the blocks before one transform leads back, to the shifts that are
tried and no others. All of it is products of matrices. Templates are written in a few principal components meanwhile,
which find the shift; the templates themselves are ranked there.

A template that does not rotate fits a star that does anywhere within its broad lines; one that rotates fits two stars'
narrow lines between them. So both kinds are ranked apart, and :func:`best` decides. Knows arrays and templates only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from twinlines.pipeline.spectra.ambiguity import FELT
from twinlines.pipeline.spectra.templates import BLOCK, NEAR, STRIDE, ArmTemplates, VelocityConfig

_SHIFTS = 15
"""Shifts whose correlations with all templates are held at once: they stay in a core's cache."""


class Best(NamedTuple):
    """The best template of each spectrum of a tile, and the shift tried that suits it best."""

    template: Tensor
    """(spectrum,) int64."""
    place: Tensor
    """(spectrum,) int64, number of the shift tried."""
    heights: Tensor
    """(spectrum, tried shift) the highest correlation of all templates at each shift, times the spectrum's norm."""


class _Ranked(NamedTuple):
    """The best template of one kind."""

    template: Tensor  # (spectrum,)
    place: Tensor  # (spectrum,) the best for it of the shifts tried
    offset: Tensor  # (spectrum,) of the correlation's vertex from there, pixels
    height: Tensor  # (spectrum,) there, times the spectrum's norm


def transform(prepared: ArmTemplates, flux: Tensor) -> Tensor:
    """Transforms of a tile of spectra, (spectrum, frequency) complex64, low frequencies only.

    Parameters
    ----------
    prepared
        The arm's templates.
    flux
        (spectrum, grid pixel) float32, mean-subtracted.
    """
    after = prepared.size - prepared.pad - prepared.arm.n_pixels
    whole = torch.fft.rfft(torch.nn.functional.pad(flux, (prepared.pad, after)))
    kept: Tensor = whole[:, : prepared.transform.shape[1]].contiguous()
    return kept


def products(prepared: ArmTemplates, spectra: Tensor, template: Tensor, place: Tensor) -> Tensor:
    """Products of spectra's transforms and templates', at shifts tried: real and imaginary parts in turn, float32.

    Parameters
    ----------
    prepared
        The arm's templates.
    spectra
        (spectrum, frequency) what :func:`transform` returned.
    template, place
        (spectrum,) which template, and the number of the shift.
    """
    turned = spectra * prepared.transform[template].conj() * prepared.phase[place]
    return torch.view_as_real(turned).flatten(1)


def powers(offset: Tensor) -> Tensor:
    """Powers 0 to NEAR - 1 of each offset, (spectrum, NEAR)."""
    factors = offset[:, None].repeat(1, NEAR)
    factors[:, 0] = 1.0
    return factors.cumprod(1)


def samples(prepared: ArmTemplates, spectra: Tensor) -> Tensor:
    """Spectra smoothed to the band that is kept, a sample every STRIDE pixels: (spectrum, blocks of samples) float32.

    Parameters
    ----------
    prepared
        The arm's templates.
    spectra
        (spectrum, frequency) what :func:`transform` returned.
    """
    window = slice(prepared.first, prepared.first + prepared.blocks * BLOCK)
    smoothed: Tensor = torch.fft.irfft(spectra, n=prepared.size // STRIDE)[:, window]
    return smoothed


def tried(prepared: ArmTemplates, smoothed: Tensor) -> Tensor:
    """Pearson's coefficient times the spectrum's norm, (shift tried, spectrum, component) of the principal components.

    Times `weights` and `scale` of the templates, it is theirs.

    Parameters
    ----------
    prepared
        The arm's templates.
    smoothed
        (spectrum, blocks of samples) what :func:`samples` returned.
    """
    rows, blocks = len(smoothed), prepared.blocks
    parts = smoothed.reshape(rows * blocks, BLOCK) @ prepared.forward
    # (frequency, spectrum, real parts of all blocks and imaginary ones)
    parts = parts.reshape(rows, blocks, 2, -1).permute(3, 0, 2, 1).reshape(-1, rows, 2 * blocks)
    frequencies, components = len(parts), prepared.basis.shape[-1]
    product = parts.new_empty(2, frequencies, rows, components)
    for part, basis in zip(product, prepared.basis, strict=True):
        torch.bmm(parts, basis, out=part)
    return (prepared.backward @ product.reshape(2 * frequencies, -1)).reshape(-1, rows, components)


def best(prepared: ArmTemplates, config: VelocityConfig, spectra: Tensor, noise: Tensor) -> Best:
    """Find the best template, and the best of the shifts tried, of each spectrum of a tile.

    Parameters
    ----------
    prepared
        The arm's templates.
    config
        Decides between templates that rotate and those that do not.
    spectra
        (spectrum, frequency) what :func:`transform` returned.
    noise
        (spectrum,) the noise's part of the spectrum's sum of squares.
    """
    smoothed = samples(prepared, spectra)
    kinds = [
        kind for kind in (slice(0, prepared.slow), slice(prepared.slow, len(prepared.labels))) if kind.start < kind.stop
    ]
    heights = _highest(prepared, tried(prepared, smoothed), kinds)
    ranked = [_rank(prepared, smoothed, high, kind) for high, kind in zip(heights, kinds, strict=True)]
    if len(ranked) == 1:
        return Best(ranked[0].template, ranked[0].place, heights[0].T)
    slow, fast = ranked
    rotates = _rotates(prepared, config, spectra, noise, slow, fast)
    return Best(
        torch.where(rotates, fast.template, slow.template),
        torch.where(rotates, fast.place, slow.place),
        heights.amax(0).T,
    )


def _highest(prepared: ArmTemplates, found: Tensor, kinds: list[slice]) -> Tensor:
    """The highest correlation of all templates of each kind, (kind, shift tried, spectrum)."""
    highest = found.new_empty(len(kinds), *found.shape[:2])
    for start in range(0, len(found), _SHIFTS):
        some = slice(start, min(start + _SHIFTS, len(found)))
        coefficient = torch.matmul(found[some], prepared.weights).mul_(prepared.scale[some])
        for number, kind in enumerate(kinds):
            torch.amax(coefficient[..., kind], -1, out=highest[number, some])
    return highest


def _rank(prepared: ArmTemplates, smoothed: Tensor, heights: Tensor, kind: slice) -> _Ranked:
    """The best template of a kind near the highest correlation."""
    middle = heights.argmax(0).clamp(1, len(heights) - 2)
    rows = torch.arange(len(middle), device=middle.device)
    # Where the spectrum lies under the templates at the three shifts around.
    width, side = prepared.samples.shape[0], len(heights) + 1
    padded = torch.nn.functional.pad(smoothed, (side, side))
    offset = middle - 1 - len(heights) // 2
    start = side - len(heights) // 2 - 1 + offset
    around = padded.gather(1, start[:, None] + torch.arange(width + 2, device=middle.device))
    exact = around.unfold(1, width, 1).reshape(-1, width) @ prepared.samples[:, kind]
    places = middle[:, None] + torch.arange(-1, 2, device=middle.device)
    exact = exact.reshape(len(middle), 3, -1) * prepared.scale[:, 0, kind][places]
    # Between two shifts tried a peak falls by up to 2 %, more than good templates differ by: compare vertices.
    before, centre, after = exact.unbind(1)
    curvature = 2.0 * centre - before - after
    vertex = centre + (after - before).square() / (8.0 * curvature.clamp_min(1e-30))
    inner = (centre >= before) & (centre >= after) & (curvature > 0)
    height, template = torch.where(inner, vertex, exact.amax(1)).max(1)
    step = exact[rows, :, template].argmax(1)
    bend = curvature[rows, template]
    lean = (after - before)[rows, template] / (2.0 * bend.clamp_min(1e-30))
    offset = torch.where(inner[rows, template], STRIDE * lean, 0.0)
    return _Ranked(template + kind.start, places.gather(1, step[:, None])[:, 0], offset, height)


def _rotates(
    prepared: ArmTemplates, config: VelocityConfig, spectra: Tensor, noise: Tensor, slow: _Ranked, fast: _Ranked
) -> Tensor:
    """Whether the template that rotates is the one to take, (spectrum,) bool.

    The best template that does not is scaled to the spectrum at its own peak, its coarse and its sharp structure apart.
    In a single star's spectrum of narrow lines both scales are alike; in that of two stars at least the brighter one's
    part of the light is left of the sharp one; and rotation leaves none.
    """
    near = powers(slow.offset)
    moments = products(prepared, spectra, slow.template, slow.place) @ prepared.sharpness
    power = prepared.power[slow.template]
    coarse, sharp = (torch.stack([(part * near).sum(1) for part in moments.chunk(2, 1)], 1) / power).unbind(1)
    # White noise moves the sharp scale by the root of its power at each frequency over the template's.
    deviation = (noise / prepared.size / power[:, 1]).sqrt()
    rounded = sharp < config.sharp_lines * coarse + config.sharp_noise * deviation
    better = fast.height.square() - slow.height.square() > config.rotation_chi2 * FELT * noise / prepared.arm.n_pixels
    return (fast.height > config.rotation_gain * slow.height) | (better & rounded)
