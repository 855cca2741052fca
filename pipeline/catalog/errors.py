"""What goes wrong with a catalog, and with questions to it."""

from __future__ import annotations


class CatalogError(RuntimeError):
    """There is no catalog, or it cannot answer."""
