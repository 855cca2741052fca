"""The light of a star as a function of its parameters that can be differentiated: what fits of spectra are made of.

The same light as :func:`twinlines.pipeline.synthesis.light.component` makes, with its derivatives by every parameter.
Labels enter through the weights of the library's nodes, rotation and velocity through factors in Fourier space, so
that each derivative is one more row of the same matrix product, or of the same transform. It must never know a
spectrum that was observed, nor its noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from twinlines.pipeline.arms import ARMS, SPEED_OF_LIGHT, STEP_DEX, STEP_KMS, Arm, ArmName, pixel_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.broadening import rotation_slope, rotation_transfer

PARAMETERS = ("teff", "logg", "feh", "alpha", "vsini", "velocity")
"""Parameters of a star's light, in the order of every array of them; K, dex and km/s."""

VSINI, VELOCITY = 4, 5
"""Places of the projected rotational velocity and of the radial velocity among the parameters."""

SLOWEST, FASTEST = 1.0, 500.0
"""Limits of vsini, km/s. Below the first nothing changes at R = 7500, and the derivative vanishes."""

FARTHEST = 560.0
"""Limit of radial velocities to either side, km/s: Table 1's secondaries reach 520."""

_MARGIN = 256  # library pixels on either side of the grid: what the fastest and farthest star shows there, and a guard
_KERNEL_STEP = 0.01  # of the tabulated kernel's argument; linear interpolation errs by less than 4e-6


@dataclass(frozen=True)
class Light:
    """Light of some stars in one arm, and how it changes with their parameters."""

    flux: Tensor
    """Surface flux rotated and shifted, erg s-1 cm-2 A-1; (star, pixel)."""
    slopes: Tensor
    """Derivatives of ``flux`` by the parameters, in their order; (star, parameter, pixel)."""


@dataclass(frozen=True, eq=False)
class Starlight:
    """The light of any star of a library in one arm, on every so many pixels of the arm's grid."""

    arm: Arm
    """The arm."""
    stride: int
    """Every how many pixels of the arm's grid the light is computed. At R = 7500 the light on every second pixel
    determines that on all: its power at the period of four pixels is 1e-11 of that at long ones."""
    axes: tuple[Tensor, ...]
    """Node values of the four labels, float64, ascending."""
    coefficients: Tensor
    """Coefficients of the principal components at each node, (teff, logg, feh, alpha, component). A node that the
    library lacks has those of its neighbour, so that light never ends: there it is the nearest star's."""
    mean: Tensor
    """Mean ln flux on the pixels that are needed, (pixel,)."""
    components: Tensor
    """Principal components of ln flux there, (component, pixel)."""
    kernel: Tensor
    """The rotation kernel's transform and its derivative, tabulated; (argument, 2)."""

    @property
    def pixels(self) -> slice:
        """The pixels of the arm's grid on which the light is computed."""
        return slice(0, self.arm.n_pixels, self.stride)

    @property
    def lower(self) -> Tensor:
        """Lower limits of the parameters, (parameter,) float64."""
        return torch.tensor([*(float(axis[0]) for axis in self.axes), SLOWEST, -FARTHEST], dtype=torch.float64)

    @property
    def upper(self) -> Tensor:
        """Upper limits of the parameters, (parameter,) float64."""
        return torch.tensor([*(float(axis[-1]) for axis in self.axes), FASTEST, FARTHEST], dtype=torch.float64)

    def light(self, parameters: Tensor) -> Light:
        """Light of stars, and its derivatives.

        Parameters
        ----------
        parameters : Tensor, shape (star, parameter) float64
            In the order of :data:`PARAMETERS`, within :attr:`lower` and :attr:`upper`.

        Returns
        -------
        Light
            On :attr:`pixels`. At a node of the library, where light has a kink, derivatives are those towards larger
            labels.
        """
        stars = len(parameters)
        logs = torch.mm(self._nodes(parameters).flatten(0, 1), self.components).view(stars, 5, -1)
        flux = logs[:, 0].add_(self.mean).exp_()
        logs[:, 1:].mul_(flux[:, None])
        return self._observed(logs, parameters[:, VSINI], parameters[:, VELOCITY])

    def flux(self, parameters: Tensor) -> Tensor:
        """The flux of :meth:`light` alone, (star, pixel)."""
        logs = torch.mm(self._nodes(parameters)[:, 0], self.components).add_(self.mean).exp_()
        return self._observed(logs[:, None], parameters[:, VSINI], parameters[:, VELOCITY], slopes=False).flux

    def _nodes(self, parameters: Tensor) -> Tensor:
        """Interpolated coefficients, then their derivatives by the four labels; (star, 5, component)."""
        places, fractions, steps = [], [], []
        for column, axis in enumerate(self.axes):
            values = parameters[:, column].contiguous()
            place = (torch.searchsorted(axis, values, right=True) - 1).clamp_(0, max(len(axis) - 2, 0))
            step = axis[(place + 1).clamp_max(len(axis) - 1)] - axis[place]
            flat = len(axis) == 1  # no cell has an extent there, and nothing changes
            places.append(place)
            steps.append(torch.ones_like(step) if flat else step)
            fractions.append(torch.zeros_like(values) if flat else (values - axis[place]) / step)
        rows, weights = [], []
        for corner in itertools.product(*((0, 1)[: len(axis)] for axis in self.axes)):
            rows.append(self._row([place + side for place, side in zip(places, corner, strict=True)]))
            factors = [x if side else 1.0 - x for x, side in zip(fractions, corner, strict=True)]
            weight = [factors[0] * factors[1] * factors[2] * factors[3]]
            for column, side in enumerate(corner):
                others = [factor for other, factor in enumerate(factors) if other != column]
                slope = others[0] * others[1] * others[2] / steps[column]
                flat = len(self.axes[column]) == 1
                weight.append(torch.zeros_like(slope) if flat else slope if side else -slope)
            weights.append(torch.stack(weight, dim=1))
        corners = self.coefficients.flatten(0, 3)[torch.stack(rows, dim=1)]
        return torch.bmm(torch.stack(weights, dim=2).to(corners.dtype), corners)

    def _row(self, places: Sequence[Tensor]) -> Tensor:
        row = places[0]
        for place, size in zip(places[1:], self.coefficients.shape[1:4], strict=True):
            row = row * size + place
        return row

    def _observed(self, light: Tensor, vsini: Tensor, velocity: Tensor, *, slopes: bool = True) -> Light:
        """Rotate and shift light at rest, (star, row, pixel), of which the first row is flux and the others slopes.

        As :func:`twinlines.pipeline.spectra.broadening.broaden_and_shift` does, whose straight line from end to end is
        explained there.
        """
        n_pixels = light.shape[2]
        n_fft = next_fast_len(n_pixels + 1, real=True)
        kind = light.dtype
        ramp = torch.linspace(0.0, 1.0, n_pixels, dtype=kind)
        first, rise = light[:, :, :1], light[:, :, -1:] - light[:, :, :1]
        frequency = torch.fft.rfftfreq(n_fft, dtype=torch.float64)
        shift = torch.as_tensor(pixel_shift(velocity.numpy())) / self.stride
        # d shift / d velocity, of shift = log10(1 + v/c) / step.
        pace = 1.0 / (np.log(10.0) * STEP_DEX * self.stride * (SPEED_OF_LIGHT + velocity))
        argument = (2.0 * np.pi / (STEP_KMS * self.stride)) * frequency
        transfer, transfer_slope = self._rotation(vsini, argument)
        phase = (-2.0 * np.pi * shift[:, None] * frequency).to(kind)
        turn = torch.polar(torch.ones_like(phase), phase)
        transform = torch.fft.rfft(light - (first + rise * ramp), n=n_fft)
        bare = transform[:, 0] * turn
        transform = transform.mul_((turn * transfer)[:, None])
        moved = ramp - (shift / (n_pixels - 1)).to(kind)[:, None]
        begin = _MARGIN // self.stride
        wanted = slice(begin, begin + len(range(0, self.arm.n_pixels, self.stride)))
        if slopes:
            drift = torch.complex(torch.zeros_like(phase), (-2.0 * np.pi * pace[:, None] * frequency).to(kind))
            more = torch.stack([bare * transfer_slope, transform[:, 0] * drift], dim=1)
            transform = torch.cat([transform, more], dim=1)
        observed = torch.fft.irfft(transform, n=n_fft)[:, :, wanted]
        rows = light.shape[1]
        observed[:, :rows] += first + rise * moved[:, None, wanted]
        if slopes:
            observed[:, -1] -= rise[:, 0] * (pace / (n_pixels - 1)).to(kind)[:, None]
        return Light(observed[:, 0], observed[:, 1:])

    def _rotation(self, vsini: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The rotation kernel's transform and its derivative by vsini, (star, frequency); argument is per km/s."""
        position = vsini[:, None] * argument / _KERNEL_STEP
        below = position.to(torch.int64)
        fraction = (position - below).to(self.kernel.dtype)
        value, slope = torch.lerp(self.kernel[below], self.kernel[below + 1], fraction[:, :, None]).unbind(2)
        return value, slope * argument.to(slope.dtype)


@lru_cache(maxsize=4)
def starlight(library: Library, name: ArmName, stride: int = 1, *, double: bool = False) -> Starlight:
    """The light of a library's stars in one arm; made once, then shared.

    Parameters
    ----------
    library
        The spectral library.
    name
        "B" or "R".
    stride
        Every how many pixels: 1 for spectra with noise on every pixel, 2 where there is none, or it has been averaged.
    double
        Compute in double precision, for tests of derivatives.

    Raises
    ------
    ValueError
        If the stride is neither 1 nor 2.
    """
    if stride not in (1, 2):
        raise ValueError(f"the stride is {stride}; give 1, or 2: on fewer pixels the light is not determined")
    arm, kind = ARMS[name], torch.float64 if double else torch.float32
    seen = slice(arm.library_margin - _MARGIN, arm.library_margin + arm.n_pixels + _MARGIN, stride)
    largest = 2.0 * np.pi * 0.5 * FASTEST / (STEP_KMS * stride)
    argument = _KERNEL_STEP * np.arange(int(largest / _KERNEL_STEP) + 3)
    table = np.stack([rotation_transfer(argument), rotation_slope(argument)], axis=1)
    filled = library.coefficients[_nearest_nodes(library.index)]
    return Starlight(
        arm=arm,
        stride=stride,
        axes=tuple(torch.from_numpy(axis.copy()) for axis in library.axes),
        coefficients=torch.from_numpy(filled).to(kind),
        mean=torch.from_numpy(library.mean[name][seen].copy()).to(kind),
        components=torch.from_numpy(np.ascontiguousarray(library.components[name][:, seen])).to(kind),
        kernel=torch.from_numpy(table).to(kind),
    )


def _nearest_nodes(index: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rows of the nodes' coefficients, those of the nearest node where there is none, by preference along log g."""
    here = np.argwhere(index >= 0)
    # Missing are hot giants: the nearest star of the same temperature and composition stands in for them.
    weight = np.array([100, 1, 100, 100])
    rows = index.copy()
    for place in np.argwhere(index < 0):
        nearest = here[np.argmin(np.abs(here - place) @ weight)]
        rows[tuple(place)] = index[tuple(nearest)]
    return rows
