"""Made-up files, releases, libraries and tracks, for anybody's tests."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
