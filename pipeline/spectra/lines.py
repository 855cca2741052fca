"""Lines by which a reader knows a star, in both arms: rest wavelengths in vacuum (NIST), Angstrom, and their names."""

from __future__ import annotations

from collections.abc import Mapping

from twinlines.pipeline.arms import ArmName

H_ALPHA = 6564.61
"""Vacuum wavelength of H-alpha, Angstrom (NIST)."""

LINES: Mapping[ArmName, tuple[tuple[float, str], ...]] = {
    "B": ((5168.76, "Mg b₃"), (5174.12, "Mg b₂"), (5185.05, "Mg b₁")),
    "R": ((H_ALPHA, "Hα"),),
}
"""Lines by arm, the bluest first."""

WAVELENGTHS: Mapping[ArmName, tuple[float, ...]] = {
    name: tuple(wavelength for wavelength, _ in lines) for name, lines in LINES.items()
}
"""Their wavelengths alone."""

TITLES: Mapping[ArmName, str] = {"B": "Mg b", "R": "Hα"}
"""What they are called together."""
