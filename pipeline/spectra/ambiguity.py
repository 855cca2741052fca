"""Whether a velocity could as well be another: rivals of the highest correlation peak, and templates that say little.

Pearson's coefficient r of a spectrum of N pixels, with sum of squares S about its mean, leaves S (1 - r^2) unexplained.
Between two velocities chi2 therefore differs by S (r1^2 - r2^2) over the variance that a template feels in a pixel:
that of the noise, and, where more is left than noise explains, that of the mismatch, whose neighbouring pixels are
alike. For each velocity the best of all templates counts, rotating ones without their handicap: for a star that
rotates fast, a template of narrow lines peaks anywhere within the broad ones.

The numbers below were chosen on real stars at high resolution that were made exposures of (17 stars, and rotators made
of them): of velocities wrong by more than 15 km/s (a B2 star in the blue, A and F stars at 120 to 200 km/s, H-alpha in
emission) they flag all, and of 384 arms of F, G and K stars none. Knows arrays only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from twinlines.pipeline.arms import STEP_KMS

APART = 12.0
"""Distance from which another velocity is a rival, km/s: nearer, it is what the error from the noise speaks of."""

AS_GOOD = 16.0
"""Difference of chi2 up to which a rival is nearly as good: 4 standard deviations."""

ALIKE = 16.0
"""Pixels over which mismatch is alike: what a template lacks comes in lines, twice as wide as the profile of a star's
line at R = 7500 with its flanks."""

FELT = 1.8
"""Variance that a template feels over that of a pixel of the grid. Interpolation between native pixels takes a third of
the noise's variance and makes neighbours alike, which gives it back; and native pixels are fewer than the grid's."""

EXPLAINED = 0.15
"""A template that explains less than this fraction of the spectrum's structure, noise apart, is no such star's."""


class Ambiguity(NamedTuple):
    """Which velocities are ambiguous, and how far away their rivals are."""

    ambiguous: Tensor
    """(spectrum,) bool."""
    distance: Tensor
    """(spectrum,) distance to the farthest rival, grid pixels; where there is none but the template explains too
    little, :data:`APART`; 0 where the velocity is not ambiguous."""


def judge(
    heights: Tensor, shifts: Tensor, shift: Tensor, peak: Tensor, power: Tensor, noise: Tensor, pixels: int
) -> Ambiguity:
    """Look for rivals of measured velocities.

    Parameters
    ----------
    heights
        (spectrum, tried shift) the highest correlation of all templates at each shift, times the spectrum's norm.
    shifts
        (tried shift,) the shifts, grid pixels.
    shift
        (spectrum,) the measured one, grid pixels.
    peak
        (spectrum,) the correlation there, times the norm.
    power
        (spectrum,) sum of squares of the spectrum about its mean.
    noise
        (spectrum,) the part of it that is expected from noise.
    pixels
        Pixels of the grid.
    """
    far = (shifts - shift[:, None]).abs() * STEP_KMS > APART
    squares = heights.to(torch.float64).clamp_min(0.0).square()
    # The best velocity near the measured one, by whatever template: what rivals are compared with.
    best = torch.maximum(peak.square(), torch.where(far, 0.0, squares).amax(1))
    mismatch = (power - best - noise).clamp_min(0.0)
    variance = (FELT * noise + ALIKE * mismatch) / pixels
    rivals = far & (best[:, None] - squares < AS_GOOD * variance[:, None])
    poor = peak.square() < EXPLAINED * (power - noise)
    ambiguous = rivals.any(1) | poor
    distance = torch.where(rivals, (shifts - shift[:, None]).abs(), 0.0).amax(1)
    return Ambiguity(ambiguous, torch.where(ambiguous, distance.clamp_min(APART / STEP_KMS), 0.0))
