"""The science and the batch job, in the order in which data flows."""

from twinlines.pipeline import moved

moved.install()
