"""Pictures of what was judged."""

from twinlines.pipeline.figures.exposure import exposure as exposure

__all__ = ["exposure"]
