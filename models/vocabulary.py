"""Words and numbers that both the networks and the survey's data model use; each is said here, once.

Imports nothing, so that whoever only needs a word does not wait for torch.
"""

from __future__ import annotations

from enum import IntEnum

PERCENTILES = (0, 16, 50, 84, 100)
"""Percentiles of the ensemble's values that are kept (Zhang et al. 2022, section 4.1)."""

SPLITS = ("train", "validation", "test")
"""Parts of a training set; a pair's code is its part's place here."""

TRAIN, VALIDATION, TEST = range(len(SPLITS))
"""Codes of the parts."""

ARMS = ("B", "R")
"""Names of the arms, blue and red."""

JOINT = "J"
"""Name of the verdict of both arms together."""

HEADS = (*ARMS, JOINT)
"""Names of a member's verdicts: on the blue arm, on the red one, on both."""

KINDS = ("single", "binary")
"""The two spectra of a pair: the primary alone, and the sum of both stars."""

SURVEY_STREAMS = {"B": ord("B"), "R": ord("R")}
"""Number of each arm in the streams of noise (:mod:`twinlines.models.noise`) that draws add to a survey's spectra, and
in the seeds of training. Catalogs depend on it: it never changes."""


class SynthesisStream(IntEnum):
    """In place of an arm's number, which stream of random numbers of a synthetic pair. Training sets depend on it."""

    NOISE_BLUE = 0
    NOISE_RED = 1
    ACTIVITY = 2
    """Whether the star is active, and how much."""
    DEFECTIVE = 3
    """Whether the pair has defects."""
    DEFECTS_BLUE = 4
    DEFECTS_RED = 5
    ACCRETION = 6
    """Whether the star accretes, and how much."""
    NEBULA = 7
    """Whether the star stands before a nebula, and of what kind."""
    RESOLUTION = 8
    """Whether the resolving power is another, and what it is in each arm."""
    STRETCH = 9
    """Whether the wavelength scale is wrong, and by how much in each spectrum."""
    DILUTION = 10
    """Whether there is featureless light, and how much in each spectrum."""
    UNRESOLVED = 11
    """Whether there is a second star at the first one's velocity, and which."""
    SKY = 12
    """Whether lines of the sky remain, and what of them in each spectrum."""


SYNTHESIS_STREAMS = {"B": SynthesisStream.NOISE_BLUE, "R": SynthesisStream.NOISE_RED}
"""Number of each arm in the streams of noise of synthetic pairs."""
