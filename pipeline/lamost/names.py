"""Which files of a folder are spectra, by their names alone. Knows names; no file's content."""

from __future__ import annotations

import re

PATTERNS = "*.fits, *.fit, *.fts, also with .gz, .bz2, .xz or .fz"
"""Names of spectra, in words."""

_SPECTRUM = re.compile(r".*\.(fits|fit|fts)(\.(gz|bz2|xz|fz|z|zst|zip))?", re.IGNORECASE | re.DOTALL)
_RESEMBLES = re.compile(r".*\.(fits|fit|fts)([^a-z].*)?|med-\d{5}-.*", re.IGNORECASE | re.DOTALL)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden: what was thrown away, another system's notes (``._x.fits``), half a copy."""
    return name.startswith(".")


def is_spectrum(name: str) -> bool:
    """Whether a file's name is a spectrum's, whatever the case. How it is compressed, its content says."""
    return _SPECTRUM.fullmatch(name) is not None


def resembles_spectrum(name: str) -> bool:
    """Whether a file that is none by its name may hold one nevertheless, such as ``x.fits.gz.1`` and ``x.fits~``."""
    return not is_spectrum(name) and _RESEMBLES.fullmatch(name) is not None
