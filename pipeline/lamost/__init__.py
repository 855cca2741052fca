"""LAMOST's medium-resolution files: read, written, dated; the only room that knows their layout."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
