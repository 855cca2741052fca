"""Where tests find the repository, and the data of others beside it; tests that need those skip where they are not."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

SHARED = ROOT.parent / "shared"
"""Real spectra, libraries, tracks and catalogs: other people's, and so not in the repository."""
