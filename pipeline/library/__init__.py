"""The spectral library: interpolation, how it is packed, and how the grids of others become one."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
