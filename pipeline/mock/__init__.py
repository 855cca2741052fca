"""Mock releases of which every star is known, and a catalog held against that truth."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
