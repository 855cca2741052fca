"""The catalog, with the accessor by which its stars are asked: ``catalog.binaries.sources()``."""

from __future__ import annotations

import twinlines.pipeline.binaries.sources.questions  # noqa: F401 (gives Datasets their accessor)
from twinlines.pipeline.binaries.sources.survey import open_sources
from twinlines.pipeline.catalog.catalog import open as open_catalog

__all__ = ["open_catalog", "open_sources"]
