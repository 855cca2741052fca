"""What a training set is made of: its recipe, which draws make its pairs, and how pairs are split.

Knows no spectrum and no Dask; :mod:`twinlines.pipeline.training.store` makes the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.models.vocabulary import TEST, TRAIN, VALIDATION
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.progress import Progress, silent
from twinlines.pipeline.schema import DRAWS, PAIRS, POPULATIONS
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import spectra
from twinlines.pipeline.synthesis.beyond_table1 import Extras
from twinlines.pipeline.synthesis.observed import ObservedSource
from twinlines.pipeline.synthesis.population import KEPT, PARAMETERS, TABLE1, Population, Priors, Source, count_fates

PERIOD, TEST_PAIRS, VALIDATION_PAIRS = 190, 20, 17
"""Of so many consecutive pairs, so many are for the test and for validation: of 380,000 pairs 40,000 and 34,000, as in
Table 2 of Zhang et al. (2022)."""

_DRAW_BLOCK = 16384
_MOST_DRAWS_PER_PAIR = 200
_SPLIT_STREAM = 2**63  # second word of the key; draws and noise have others


class SynthesisError(ValueError):
    """A training set cannot be made as asked."""


@dataclass(frozen=True)
class TrainingSet:
    """What a training set is made of; its digest identifies the pairs' content."""

    n_pairs: int
    """Pairs wanted."""
    seed: int = 0
    """Seed of the draws, the noise, the extras and the splits."""
    priors: Priors = TABLE1
    """Distributions of the free parameters."""
    condition: tuple[str, ...] = ()
    """Parameters whose priors are conditioned on the domain of tracks and library; see
    :attr:`twinlines.pipeline.synthesis.population.Source.condition`."""
    extras: Extras = field(default_factory=Extras)
    """What Table 1 lacks."""
    frame: str = "measured"
    """Where spectra are at rest, one of :data:`twinlines.pipeline.synthesis.spectra.FRAMES`: "measured" at velocities
    that are measured on them, as in a survey; "drawn" as in Table 1, where field stars alone are at measured ones."""
    tracks: Path | None = None
    """Track table; None is the one that ships."""
    library: Path | None = None
    """Spectral library; None is the one that ships."""

    def __post_init__(self) -> None:
        if self.n_pairs < 1:
            raise SynthesisError(f"at least one pair must be asked for (asked: {self.n_pairs})")
        unknown = [name for name in self.condition if name not in PARAMETERS]
        if unknown:
            raise SynthesisError(
                f"condition: there is no parameter {unknown[0]!r}; the parameters are {', '.join(PARAMETERS)}"
            )

        if self.frame not in spectra.FRAMES:
            raise SynthesisError(f"frame is {self.frame!r}; give one of {', '.join(spectra.FRAMES)}")

    def provenance(self) -> dict[str, Any]:
        """Everything that decides the pairs' values, for people and for the digest."""
        observed = self.extras.observed
        measured = self.frame == "measured" or self.extras.field.fraction or observed.fraction
        return {
            "n_pairs": self.n_pairs,
            "seed": self.seed,
            "priors": self.priors.describe(),
            "condition": list(self.condition),
            "extras": self.extras.describe(),
            "frame": self.frame,
            "tracks": Tracks.load(self.tracks).digest,
            "library": Library.load(self.library).digest,
            # Velocities are measured against the library that ships, as a survey's are.
            **({"templates": Library.load().digest} if self.library and measured else {}),
            # The stars, wherever they lie.
            **({"observed": observed.load().digest} if observed.fraction else {}),
            "numerics": spectra.NUMERICS,
            "store_version": PAIRS.version,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the provenance, hexadecimal."""
        return hashlib.sha256(json.dumps(self.provenance(), sort_keys=True).encode()).hexdigest()

    def sources(self) -> dict[int, Source | ObservedSource]:
        """The populations that take part, by number."""
        return self.extras.sources(self.seed, self.priors, self.condition)


@dataclass(frozen=True)
class Fates:
    """What became of draws; arrays of shape (draw,)."""

    number: NDArray[np.int64]
    """Serial number within the population."""
    population: NDArray[np.int8]
    """Number of the population."""
    fate: NDArray[np.int16]
    """0, or why the draw was dropped."""
    redraws: NDArray[np.int8]
    """How often conditioned parameters were drawn again."""

    @classmethod
    def of(cls, code: int, population: Population) -> Fates:
        """Fates of resolved draws."""
        number = population.draws.number
        codes = np.full(len(number), code, dtype=np.int8)
        return cls(number, codes, population.fate, population.redraws)

    @classmethod
    def join(cls, parts: Sequence[Fates]) -> Fates:
        """Fates one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in DRAWS.variables))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Columns of :data:`twinlines.pipeline.schema.DRAWS`."""
        return {name: getattr(self, name) for name in DRAWS.variables}

    def counts(self) -> dict[str, int]:
        """How many draws met which fate."""
        return count_fates(self.fate)


@dataclass(frozen=True)
class Selection:
    """Which draws make the pairs; arrays of shape (pair,)."""

    population: NDArray[np.int8]
    """Number of each pair's population."""
    number: NDArray[np.int64]
    """Serial number of each pair's draw, within its population."""
    fates: Fates
    """What became of all draws that were made."""


def select(training_set: TrainingSet, progress: Progress = silent) -> Selection:
    """Find the draws that make the pairs: of each population the first that are kept.

    A larger set of the same recipe begins with the pairs of a smaller one.

    Raises
    ------
    SynthesisError
        If fewer than one in 200 draws is kept: the priors and the library's domain hardly overlap.
    """
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    population = training_set.extras.assign(training_set.n_pairs)
    number = np.zeros(training_set.n_pairs, dtype=np.int64)
    fates: list[Fates] = []
    done = 0
    for code, source in training_set.sources().items():
        wanted = int(np.count_nonzero(population == code))
        if not wanted:
            continue  # a small set may have no place for a rare population

        def tell(pairs_kept: int, before: int = done) -> None:
            progress("draw", before + pairs_kept, training_set.n_pairs)

        fates_drawn = _first_kept(source, wanted, tracks, library, tell)
        number[population == code] = fates_drawn.number[fates_drawn.fate == KEPT]
        fates.append(fates_drawn)
        done += wanted
    return Selection(population, number, Fates.join(fates))


def draw_fates(training_set: TrainingSet, draws: int) -> dict[str, dict[str, int]]:
    """What becomes of the first ``draws`` draws of each population: numbers by the population's name and by fate."""
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    counts: dict[str, dict[str, int]] = {}
    for code, source in training_set.sources().items():
        blocks = [np.arange(start, min(start + _DRAW_BLOCK, draws)) for start in range(0, draws, _DRAW_BLOCK)]
        fates = Fates.join([Fates.of(code, source.realise(block, tracks, library)) for block in blocks])
        counts[POPULATIONS[code]] = fates.counts()
    return counts


def _first_kept(
    source: Source | ObservedSource, wanted: int, tracks: Tracks, library: Library, tell: Callable[[int], None]
) -> Fates:
    """Fates of a population's draws, as many as are needed for ``wanted`` kept ones."""
    parts: list[Fates] = []
    pairs_kept = made = 0
    while pairs_kept < wanted:
        numbers = np.arange(made, made + _DRAW_BLOCK)
        fates = Fates.of(source.code, source.realise(numbers, tracks, library))
        alive = np.flatnonzero(fates.fate == KEPT)
        if len(alive) >= wanted - pairs_kept:
            # The last block ends with the last wanted pair, so that the fates count just the draws that were needed.
            alive = alive[: wanted - pairs_kept]
            used = int(alive[-1]) + 1
            fates = Fates(*(getattr(fates, name)[:used] for name in DRAWS.variables))
        parts.append(fates)
        pairs_kept += len(alive)
        made += len(fates.fate)
        tell(pairs_kept)
        if made > _MOST_DRAWS_PER_PAIR * max(pairs_kept, 1000):
            raise SynthesisError(
                f"only {pairs_kept} of {made} draws became pairs; the fates are {Fates.join(parts).counts()}. "
                "Narrow the priors, or give a wider library or wider tracks"
            )
    return Fates.join(parts)


def splits(start: int, stop: int, seed: int) -> NDArray[np.int8]:
    """Split of the pairs from ``start`` to ``stop``: codes of :data:`twinlines.models.vocabulary.SPLITS`.

    Of every :data:`PERIOD` pairs, 20 are for the test and 17 for validation, in an order that depends on the seed and
    the period alone: the paper's proportions, exactly, and a pair's split does not change when the set grows.
    """
    first, last = start // PERIOD, -(-stop // PERIOD)
    pattern = np.repeat(
        [TEST, VALIDATION, TRAIN], [TEST_PAIRS, VALIDATION_PAIRS, PERIOD - TEST_PAIRS - VALIDATION_PAIRS]
    )
    key = np.array([seed, _SPLIT_STREAM], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=np.array([PERIOD * first, 0, 0, 0], dtype=np.uint64))
    # One counter, four words, for each pair; the first of them ranks it within its period.
    lots = bits.random_raw(4 * PERIOD * (last - first)).reshape(-1, PERIOD, 4)[:, :, 0]
    codes = pattern[np.argsort(np.argsort(lots, axis=1), axis=1)].ravel()
    return codes[start - PERIOD * first : stop - PERIOD * first].astype(np.int8)
