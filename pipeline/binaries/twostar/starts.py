"""Where fits of one star and of two begin: what is left of the best single star, correlated with a few stars' lines.

A fit of two stars has many minima, one for each pair of lines that could be two stars'. Which of them are worth a
start, a correlation tells in a fraction of the time of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import STEP_KMS, ArmName
from twinlines.pipeline.binaries.twostar.model import (
    LN_AREA,
    OFFSET,
    PAIR_PARAMETERS,
    RV1,
    RV2,
    TEFF1,
    TEFF2,
    single_light,
)
from twinlines.pipeline.synthesis.fitting import Observation, StarFit, continuum_basis, project
from twinlines.pipeline.synthesis.starlight import PARAMETERS, VELOCITY, VSINI, Light, Starlight

TEMPLATES = np.array(
    [
        [4000.0, 4.7, -0.2, 0.0, 5.0, 0.0],
        [4900.0, 4.5, -0.2, 0.0, 5.0, 0.0],
        [5800.0, 4.4, -0.2, 0.0, 10.0, 0.0],
        [6800.0, 4.3, -0.2, 0.0, 20.0, 0.0],
        [8500.0, 4.2, -0.2, 0.0, 60.0, 0.0],
        [5000.0, 2.8, -0.3, 0.0, 5.0, 0.0],
    ]
)
"""Stars whose lines are looked for, in the order of :data:`.starlight.PARAMETERS`."""

REACH = 500.0
"""Largest velocity relative to the single star's that is looked at, km/s."""

APART = 25.0
"""Least distance between two peaks, km/s."""

_SLOW = 10.0  # km/s, the rotation of a star whose lines the single star's breadth was thought to be
_ORDER = 12  # of the polynomial that templates are rid of
_BRIGHTEST = 2.0  # light of another star over the model's
_TINY = 1e-30


@dataclass(frozen=True)
class Peaks:
    """The two best places of another star's lines in what the best single star leaves."""

    velocity: Tensor
    """(exposure, 2) km/s."""
    template: Tensor
    """(exposure, 2) rows of :data:`TEMPLATES`."""
    strength: Tensor
    """(exposure, 2) light of that star over the single one's, by the depth of its lines."""
    gain: Tensor
    """(exposure, 2) decrease of chi2, about."""


@dataclass(frozen=True)
class Left:
    """What a model leaves of some spectra of one arm."""

    residual: Tensor
    """Flux less the model's, over the standard deviation, (exposure, pixel)."""
    weight: Tensor
    """The model's flux over the standard deviation, (exposure, pixel)."""

    @classmethod
    def of(cls, spectra: Observation, flux: Tensor) -> Left:
        """What light, (exposure, pixel), leaves under the continuum that suits it best."""
        projected = project(spectra, Light(flux, flux.new_zeros((len(flux), 0, flux.shape[1]))))
        return cls(projected.residual, spectra.weight * projected.continuum * flux)


def single_starts(velocity: NDArray[np.float64], teff: NDArray[np.float64]) -> Tensor:
    """Single stars to begin with, (exposure, start, parameter).

    Parameters
    ----------
    velocity
        (exposure,) a velocity, km/s.
    teff
        (exposure,) a temperature, K; NaN is taken for the Sun's.
    """
    warm = torch.from_numpy(np.where(np.isfinite(teff), teff, 5800.0))
    moving = torch.from_numpy(np.nan_to_num(velocity))
    rows = []
    for factor, logg, vsini in ((1.0, 4.4, 10.0), (0.97, 2.4, 5.0), (1.08, 4.2, 80.0)):
        row = torch.zeros((len(warm), len(PARAMETERS)), dtype=torch.float64)
        row[:, 0], row[:, 1], row[:, 2], row[:, VSINI], row[:, VELOCITY] = warm * factor, logg, -0.2, vsini, moving
        rows.append(row)
    return torch.stack(rows, dim=1)


def left_of_single(
    lights: Mapping[ArmName, Starlight], observed: Mapping[ArmName, Observation], single: StarFit
) -> dict[ArmName, Left]:
    """What the best single star of each exposure leaves, by arm."""
    return {
        name: Left.of(spectra, single_light(lights[name], name, single.parameters).flux)
        for name, spectra in observed.items()
    }


def peaks(lights: Mapping[ArmName, Starlight], left: Mapping[ArmName, Left], taken: Tensor | None = None) -> Peaks:
    """Look for another star's lines in what a model leaves.

    Parameters
    ----------
    lights
        The light of stars by arm.
    left
        What is left of the same exposures by arm.
    taken
        Velocities near which nothing is looked for, (exposure, velocity) km/s; none by default.
    """
    above: list[Tensor] = []
    below: list[Tensor] = []
    step = STEP_KMS * next(iter(lights.values())).stride
    most = int(REACH / step)
    lags = torch.arange(-most, most + 1)
    for name, mine in left.items():
        template = _templates(lights[name])
        n_fft = 2 * template.shape[1]
        pattern = torch.fft.rfft(template, n=n_fft).conj()
        power = torch.fft.rfft(template.square(), n=n_fft).conj()
        of_left = torch.fft.rfft(mine.residual * mine.weight, n=n_fft)
        of_weight = torch.fft.rfft(mine.weight.square(), n=n_fft)
        for sums, product in ((above, of_left[:, None] * pattern), (below, of_weight[:, None] * power)):
            sums.append(torch.fft.irfft(product, n=n_fft)[:, :, lags % n_fft])
    projection, norm = (torch.stack(sums).sum(dim=0) for sums in (above, below))
    usable = norm > 1e-3 * norm.amax(dim=(1, 2), keepdim=True)
    strength = torch.where(usable, projection / norm.clamp_min(_TINY), 0.0).clamp(0.0, _BRIGHTEST)
    gain = strength * (2.0 * projection - strength * norm)
    velocity = lags * step
    for places in () if taken is None else taken.unbind(dim=1):
        gain = torch.where(((velocity - places[:, None]).abs() < APART)[:, None], 0.0, gain)
    rows = torch.arange(len(gain))
    columns: list[tuple[Tensor, ...]] = []
    for _ in range(2):
        best = gain.flatten(1).argmax(dim=1)
        template_row, lag = best // len(lags), best % len(lags)
        at = rows, template_row, lag
        columns.append((velocity[lag].double(), template_row, strength[at].double(), gain[at].double()))
        gain = torch.where(((velocity - velocity[lag][:, None]).abs() < APART)[:, None], 0.0, gain)
    return Peaks(*(torch.stack(values, dim=1) for values in zip(*columns, strict=True)))


def _templates(star: Starlight) -> Tensor:
    """Lines of the templates over a smooth continuum, less 1, (template, pixel)."""
    flux = star.flux(torch.from_numpy(TEMPLATES))
    basis = torch.linalg.qr(continuum_basis(flux.shape[1], _ORDER).T).Q
    lines: Tensor = flux / (flux @ basis @ basis.T) - 1.0
    return lines


def pair_starts(single: StarFit, peaks: Peaks) -> Tensor:
    """Pairs to begin with, (exposure, start, parameter).

    The single star with a fainter one at either peak; stars like it at both peaks; and two slow rotators where it is
    broad.
    """
    star = single.parameters
    templates = torch.from_numpy(TEMPLATES)[peaks.template]

    def pair(second: Tensor, velocity: Tensor, area: Tensor) -> Tensor:
        row = torch.zeros((len(star), len(PAIR_PARAMETERS)), dtype=torch.float64)
        row[:, : len(PARAMETERS)] = star[:, : len(PARAMETERS)]
        row[:, TEFF2], row[:, TEFF2 + 1], row[:, RV2 - 1] = second[:, 0], second[:, 1], second[:, VSINI]
        row[:, RV2], row[:, LN_AREA], row[:, OFFSET] = velocity, area, star[:, len(PARAMETERS)]
        return row

    starts = []
    for place in (0, 1):
        second = templates[:, place]
        # Of surfaces: light of a hotter one is more, about as the fourth power of its temperature in the visible.
        area = peaks.strength[:, place].clamp(0.02, 1.0).log() - 4.0 * (second[:, 0] / star[:, TEFF1]).log()
        starts.append(pair(second, peaks.velocity[:, place], area))
    alike = star[:, : len(PARAMETERS)].clone()
    alike[:, VSINI] = _SLOW
    both = pair(
        alike, peaks.velocity[:, 1], (peaks.gain[:, 1] / peaks.gain[:, 0].clamp_min(1e-9)).clamp(0.3, 1.0).log()
    )
    both[:, RV1], both[:, VSINI] = peaks.velocity[:, 0], _SLOW
    half = (0.5 * star[:, VSINI]).clamp_min(15.0)
    blend = pair(alike, star[:, VELOCITY] - half, torch.full_like(half, -0.3))
    blend[:, RV1], blend[:, VSINI] = star[:, VELOCITY] + half, _SLOW
    mirrored = pair(alike, star[:, VELOCITY] + half, torch.full_like(half, -0.6))
    mirrored[:, RV1], mirrored[:, VSINI] = star[:, VELOCITY] - half, _SLOW
    return torch.stack([*starts, both, blend, mirrored], dim=1)
