"""The published catalog: opened, asked, exported, compared with another."""

from twinlines.pipeline import lazy
from twinlines.pipeline.catalog import questions as questions  # at once: they are the accessor ``sb2``

__getattr__, __dir__ = lazy.attach(__name__, __file__)
