"""The published catalog: opened, asked, exported, compared with another."""

from twinlines.pipeline import lazy
from twinlines.pipeline.catalog import catalog as catalog  # at once: it gives Datasets their accessor ``sb2``

__getattr__, __dir__ = lazy.attach(__name__, __file__)
