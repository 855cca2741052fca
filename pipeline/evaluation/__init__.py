"""How good an ensemble is, on pairs that training never saw."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
