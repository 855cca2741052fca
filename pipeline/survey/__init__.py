"""A survey on disk: releases, runs, catalogs; what is to do, doing it, publishing it."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
