"""Tasks over a Dask client: one engine, done-markers, locks, and what a job will need of memory and disk."""

from twinlines.pipeline import lazy

__getattr__, __dir__ = lazy.attach(__name__, __file__)
