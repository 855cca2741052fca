"""The published catalog: opened, asked, exported, compared with another."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
