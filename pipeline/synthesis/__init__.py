"""Synthetic pairs of a single star and a binary: priors, populations, light, and what a survey does to it."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
