"""Classes of like S/N and type: stars are compared with nulls of their own class alone (Mondrian p-values, Vovk 2005).

What no null resembles gets no p-value: classes are never thrown together behind anybody's back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NO_CLASS = -1
"""Class of what has no S/N or no temperature."""


class TrustError(RuntimeError):
    """A catalog cannot be calibrated as asked, or is not."""


@dataclass(frozen=True)
class Classes:
    """Where classes end."""

    snr: tuple[float, ...] = (10.0, 20.0, 40.0)
    """S/N of the blue arm that divide classes, ascending."""
    teff: tuple[float, ...] = (4750.0, 6000.0, 7250.0)
    """Temperatures of the best template that divide classes, K, ascending: about K, G, F and hotter stars."""

    def __post_init__(self) -> None:
        for name in ("snr", "teff"):
            edges = getattr(self, name)
            if not all(np.isfinite(edges)) or list(edges) != sorted(set(edges)) or any(edge <= 0.0 for edge in edges):
                raise TrustError(f"the {name} edges are {', '.join(map(str, edges))}; give rising numbers above 0")

    def __len__(self) -> int:
        return (len(self.snr) + 1) * (len(self.teff) + 1)

    def of(self, snr: Array, teff: Array) -> NDArray[np.int64]:
        """Class of each S/N and temperature, shape (n,); :data:`NO_CLASS` where one is missing."""
        known = np.isfinite(snr) & (np.isfinite(teff) | (len(self.teff) == 0))
        inside = np.searchsorted(self.teff, teff, side="right") * (len(self.snr) + 1)
        inside = inside + np.searchsorted(self.snr, snr, side="right")
        return np.where(known, inside, NO_CLASS).astype(np.int64)

    def label(self, number: int) -> str:
        """A class in words."""
        warm, bright = divmod(number, len(self.snr) + 1)
        parts = [_range(self.teff, warm, "", " K"), _range(self.snr, bright, "S/N ", "")]
        return ", ".join(part for part in parts if part) or "all"

    def teff_label(self, teff: float) -> str:
        """The type of a temperature, in words."""
        return _range(self.teff, int(np.searchsorted(self.teff, teff, side="right")), "", " K") or "all"

    def to_json(self) -> dict[str, Any]:
        """Make a JSON object."""
        return asdict(self)


def _range(edges: tuple[float, ...], number: int, before: str, after: str) -> str:
    if not edges:
        return ""
    if number == 0:
        return f"{before}below {edges[0]:g}{after}"
    if number == len(edges):
        return f"{before}from {edges[-1]:g}{after} on"
    return f"{before}{edges[number - 1]:g} to {edges[number]:g}{after}"
