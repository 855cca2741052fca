"""Pictures of what was judged and solved."""

from twinlines.pipeline.figures.binary import binary as binary
from twinlines.pipeline.figures.exposure import exposure as exposure

__all__ = ["binary", "exposure"]
