"""Linear interpolation of many spectra at once, each on its own abscissae, on any device.

Velocities, the detector's pixels and the kernel of rotation take ``torch.lerp`` instead, and keep it: it rounds
otherwise, in the last bits of one value in three, and stored velocities and training pairs would change.
"""

from __future__ import annotations

import torch
from torch import Tensor


def between(left: Tensor, right: Tensor, fraction: Tensor) -> Tensor:
    """Values at a fraction of the way from ``left`` to ``right``; all of one shape."""
    return left + (right - left) * fraction


class Places:
    """Where new abscissae lie among old ones; looked up once, used for every quantity that shares the abscissae.

    Parameters
    ----------
    x
        (spectrum, n) abscissae, ascending in each row; equal neighbours (LAMOST stores log10 of wavelength as float32)
        are allowed, and the value at such a point is that of one of them.
    x_new
        (m,) or (spectrum, m) abscissae asked for, in any order.
    """

    def __init__(self, x: Tensor, x_new: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] < 2:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (spectrum, n) with n of 2 at least")
        if x_new.ndim == 1:
            x_new = x_new.expand(x.shape[0], -1)
        x, x_new = x.contiguous(), x_new.to(x).contiguous()
        right = torch.searchsorted(x, x_new).clamp(1, x.shape[1] - 1)
        self.left = right - 1
        """Index of the old abscissa on the left of each new one, (spectrum, m)."""
        low = x.gather(1, self.left)
        width = x.gather(1, right) - low
        fraction = torch.where(width > 0.0, (x_new - low) / width, 0.0)
        inside = (x_new >= x[:, :1]) & (x_new <= x[:, -1:])
        self.fraction = torch.where(inside, fraction, torch.nan)
        """Distance from it in units of the step, (spectrum, m); NaN outside the old abscissae."""

    def __call__(self, y: Tensor) -> Tensor:
        """Interpolate ``y`` (spectrum, n) to the new abscissae, (spectrum, m); NaN outside."""
        left, right = y.gather(1, self.left), y.gather(1, self.left + 1)
        # A new abscissa that meets an old one takes its value, even next to a NaN.
        inner = between(left, right, self.fraction)
        return torch.where(self.fraction == 0.0, left, torch.where(self.fraction == 1.0, right, inner))
