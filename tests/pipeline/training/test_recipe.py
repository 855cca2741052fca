"""Which draws make a training set, and how its pairs are split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.library.library import Library
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis.beyond_table1 import BLEND, COOL_GIANT, Blends, CoolGiants, Extras
from twinlines.pipeline.synthesis.population import KEPT, Priors, resolve
from twinlines.pipeline.synthesis.population import draw as draw_systems
from twinlines.pipeline.synthesis.priors import Uniform
from twinlines.pipeline.training import recipe
from twinlines.pipeline.training.recipe import PERIOD, SynthesisError, TrainingSet, draw_fates, select, splits

SMALL = TrainingSet(n_pairs=300, seed=3)
MIXED = replace(SMALL, extras=Extras(CoolGiants(0.2), Blends(0.1)))


def test_the_pairs_are_the_first_draws_that_are_kept() -> None:
    chosen = select(SMALL)
    made = len(chosen.fates.fate)
    resolved = resolve(draw_systems(0, made, seed=3), Tracks.load(), Library.load())
    np.testing.assert_array_equal(chosen.number, np.flatnonzero(resolved.fate == KEPT))
    np.testing.assert_array_equal(chosen.fates.fate, resolved.fate)
    assert chosen.number[-1] == made - 1
    assert sum(chosen.fates.counts().values()) == made


def test_the_block_of_draws_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = select(MIXED)
    monkeypatch.setattr(recipe, "_DRAW_BLOCK", 77)
    parts = select(MIXED)
    for name in ("population", "number"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_array_equal(parts.fates.fate, whole.fates.fate)


def test_a_longer_set_begins_with_the_shorter() -> None:
    shorter, longer = select(MIXED), select(replace(MIXED, n_pairs=500))
    np.testing.assert_array_equal(longer.population[:300], shorter.population)
    np.testing.assert_array_equal(longer.number[:300], shorter.number)


def test_every_population_has_its_share_and_its_fates() -> None:
    chosen = select(MIXED)
    counts = np.bincount(chosen.population, minlength=3)
    np.testing.assert_allclose(counts, [210, 60, 30], atol=3)
    for code in (COOL_GIANT, BLEND):
        mine = chosen.fates.population == code
        kept = chosen.fates.number[mine & (chosen.fates.fate == KEPT)]
        np.testing.assert_array_equal(kept, chosen.number[chosen.population == code])
    assert set(draw_fates(MIXED, 100)) == {"table1", "cool_giant", "blend"}


def test_a_population_that_is_too_rare_for_a_small_set_is_left_out() -> None:
    rare = TrainingSet(n_pairs=3, extras=Extras(CoolGiants(1e-4)))
    assert set(select(rare).fates.population.tolist()) == {0}


def test_fates_of_draws_are_counted_without_pairs() -> None:
    counts = draw_fates(SMALL, 20_000)["table1"]
    assert sum(counts.values()) == 20_000
    assert 0.31 < counts["kept"] / 20_000 < 0.33


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    select(MIXED, lambda *step: told.append(step))
    assert told[-1] == ("draw", 300, 300)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_priors_that_give_no_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_MOST_DRAWS_PER_PAIR", 10)
    with pytest.raises(SynthesisError, match="only 0 of 16384 draws became pairs"):
        select(TrainingSet(n_pairs=5, priors=Priors(feh=Uniform(0.4, 0.5))))
    with pytest.raises(SynthesisError, match="at least one pair"):
        TrainingSet(n_pairs=0)


def test_the_digest_follows_the_recipe() -> None:
    others = [
        replace(SMALL, n_pairs=301),
        replace(SMALL, seed=4),
        replace(SMALL, priors=Priors(mass_ratio=Uniform(0.5, 1.0))),
        replace(SMALL, condition=("feh",)),
        replace(SMALL, frame="drawn"),
        MIXED,
    ]
    assert len({SMALL.digest, *(other.digest for other in others)}) == 7
    assert TrainingSet(n_pairs=300, seed=3).digest == SMALL.digest


def test_the_frame_is_measured_unless_said_otherwise() -> None:
    assert SMALL.provenance()["frame"] == "measured"
    assert replace(SMALL, frame="drawn").provenance()["frame"] == "drawn"
    with pytest.raises(SynthesisError, match="frame is 'rest'; give one of measured, drawn"):
        replace(SMALL, frame="rest")


def test_splits_have_the_papers_proportions_exactly() -> None:
    codes = splits(0, 380_000, seed=0)
    assert np.bincount(codes).tolist() == [306_000, 34_000, 40_000]
    # Not the same order in every period, and no two seeds alike.
    assert len({codes[start : start + PERIOD].tobytes() for start in range(0, 19_000, PERIOD)}) == 100
    assert (splits(0, 1900, seed=1) != codes[:1900]).any()


@given(st.integers(0, 5000), st.integers(1, 700), st.integers(0, 2**40))
def test_the_split_of_a_pair_does_not_depend_on_its_block(start: int, count: int, seed: int) -> None:
    np.testing.assert_array_equal(splits(start, start + count, seed), splits(0, start + count, seed)[start:])
