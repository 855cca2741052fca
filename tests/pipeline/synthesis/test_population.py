from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from twinlines.pipeline.library.library import Library
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import population
from twinlines.pipeline.synthesis.population import KEPT, TABLE1, Companion, Priors, Source, draw, fate_label, resolve
from twinlines.pipeline.synthesis.priors import Constant, Uniform

N = 20_000


@pytest.fixture(scope="module")
def draws() -> population.Draws:
    return draw(0, N, seed=11)


@pytest.fixture(scope="module")
def resolved(draws: population.Draws) -> population.Population:
    return resolve(draws, Tracks.load(), Library.load())


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("mass_ratio", stats.uniform(0.01, 0.99)),
        ("feh", stats.uniform(-2.0, 2.5)),
        ("alpha", stats.uniform(-0.5, 1.2)),
        ("eep1", stats.uniform(202, 403)),
        ("vsini1", stats.uniform(0, 500)),
        ("vsini2", stats.uniform(0, 500)),
        ("velocity1", stats.norm(0, 5)),
        ("separation", stats.uniform(-500, 1000)),
        ("snr", stats.uniform(5, 95)),
        ("lot", stats.uniform(0, 1)),
    ],
)
def test_marginals_are_table_1(draws: population.Draws, name: str, distribution: stats.rv_continuous) -> None:
    assert stats.kstest(getattr(draws, name), distribution.cdf).pvalue > 1e-3


def test_primary_mass_is_flat_then_salpeter(draws: population.Draws) -> None:
    def cdf(mass: np.ndarray) -> np.ndarray:
        # Numerical integral of the density in Table 1, not its closed inverse.
        grid = np.linspace(0.1, 2.0, 20_001)
        density = np.where(grid < 1.0, 1.0, grid**-2.35)
        total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        return np.interp(mass, grid, total / total[-1])

    assert stats.kstest(draws.mass1, cdf).pvalue > 1e-3
    assert draws.mass1.min() > 0.1
    assert draws.mass1.max() < 2.0


def test_a_draws_words_keep_their_meaning() -> None:
    # The S/N of the red arm came later: its word is the last, and the lot kept its own.
    plain = draw(0, 50, 3)
    other = draw(0, 50, 3, replace(Priors(), red_snr=Uniform(0.0, 1.0)))
    for item in fields(plain):
        if item.name != "red_snr":
            np.testing.assert_array_equal(getattr(plain, item.name), getattr(other, item.name))
    np.testing.assert_array_equal(plain.snr_of("R"), plain.snr)
    np.testing.assert_array_equal(other.snr_of("R"), plain.snr * other.red_snr)
    np.testing.assert_array_equal(other.snr_of("B"), plain.snr)
    assert other.red_snr.std() > 0.2
    assert np.abs(other.red_snr - plain.lot).max() > 0.5


def test_parameters_are_independent(draws: population.Draws) -> None:
    names = [item.name for item in fields(Priors) if item.name != "red_snr"]  # Table 1 has one value of it
    matrix = np.corrcoef(np.stack([getattr(draws, name) for name in names]))
    assert np.abs(matrix - np.eye(len(names))).max() < 5 / np.sqrt(N)


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 5000), count=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_a_draw_does_not_depend_on_its_block(start: int, count: int, seed: int) -> None:
    block = draw(start, count, seed)
    middle = count // 2
    one = draw(start + middle, 1, seed)
    for item in fields(block):
        assert getattr(one, item.name)[0] == getattr(block, item.name)[middle]


def test_seeds_differ() -> None:
    assert not np.any(draw(0, 100, 1).mass1 == draw(0, 100, 2).mass1)


def test_every_draw_has_a_fate(resolved: population.Population) -> None:
    counts = resolved.counts()
    assert sum(counts.values()) == N
    assert 0.1 < counts["kept"] / N < 0.5
    assert all(label == "kept" or label.startswith(("primary", "secondary")) for label in counts)


def test_kept_pairs_are_coeval_and_inside_the_library(resolved: population.Population) -> None:
    kept = resolved.kept_pairs()
    np.testing.assert_allclose(kept.primary.age, kept.secondary.age, rtol=2e-3)
    assert (kept.primary.age <= 13.8e9).all()
    library = Library.load()
    assert (library.outside(kept.labels(1)) == 0).all()
    assert (library.outside(kept.labels(2)) == 0).all()
    assert (kept.fate == KEPT).all()


@pytest.mark.parametrize("name", ["vsini1", "vsini2", "velocity1", "separation", "snr"])
def test_what_the_domain_does_not_decide_is_of_table_1_among_the_kept_too(
    resolved: population.Population, name: str
) -> None:
    distribution = stats.norm(0, 5) if name == "velocity1" else None
    limits = {"separation": (-500, 1000), "snr": (5, 95)}.get(name, (0, 500))
    values = getattr(resolved.kept_pairs().draws, name)
    assert stats.kstest(values, (distribution or stats.uniform(*limits)).cdf).pvalue > 1e-3


def test_secondaries_are_less_evolved(resolved: population.Population) -> None:
    kept = resolved.kept_pairs()
    lighter = kept.draws.mass_ratio < 0.98
    # A hair's breadth of tolerance for the interpolation between metallicities.
    assert (kept.eep2[lighter] <= kept.draws.eep1[lighter] + 0.5).all()


def test_fates_name_star_and_reason() -> None:
    assert fate_label(KEPT) == "kept"
    assert fate_label(301) == "primary outside the library: teff_low"
    assert fate_label(401) == "secondary outside the library: teff_low"


def test_priors_can_be_replaced() -> None:
    narrow = Priors(mass_ratio=Uniform(0.9, 1.0))
    twins = draw(0, 500, 3, narrow)
    assert twins.mass_ratio.min() >= 0.9
    np.testing.assert_array_equal(twins.mass1, draw(0, 500, 3, TABLE1).mass1)


def test_a_source_makes_its_draws_whatever_the_block() -> None:
    source = Source(11, code=2, companion=Companion.UNRELATED, condition=("feh",))
    tracks, library = Tracks.load(), Library.load()
    whole = source.realise(np.arange(500), tracks, library)
    for numbers in (np.arange(120, 260), np.array([3, 77, 400])):
        part = source.realise(numbers, tracks, library)
        for name in ("fate", "redraws", "mass2", "feh2", "dilution", "eep2"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[numbers])
        for item in fields(population.Draws):
            np.testing.assert_array_equal(getattr(part.draws, item.name), getattr(whole.draws, item.name)[numbers])


def test_populations_have_draws_of_their_own() -> None:
    first, second = (Source(11, code).draw(np.arange(100)) for code in (0, 1))
    assert not np.any(first.mass1 == second.mass1)
    np.testing.assert_array_equal(first.mass1, draw(0, 100, 11).mass1)


def test_a_condition_redraws_what_it_names_and_nothing_else() -> None:
    tracks, library = Tracks.load(), Library.load()
    numbers = np.arange(4000)
    plain = Source(11).realise(numbers, tracks, library)
    conditioned = Source(11, condition=("feh",)).realise(numbers, tracks, library)
    high = plain.draws.feh > tracks.feh[-1]
    assert 0.05 < high.mean() < 0.1
    assert (conditioned.draws.feh[conditioned.fate == KEPT] <= tracks.feh[-1]).all()
    saved = (plain.fate != KEPT) & (conditioned.fate == KEPT)
    assert saved.sum() > 0.15 * high.sum()
    assert (conditioned.redraws[saved] > 0).all()
    same = plain.fate == KEPT
    np.testing.assert_array_equal(conditioned.draws.feh[same], plain.draws.feh[same])
    assert (conditioned.redraws[same] == 0).all()
    for name in ("mass1", "mass_ratio", "eep1", "snr"):
        np.testing.assert_array_equal(getattr(conditioned.draws, name), getattr(plain.draws, name))


def test_conditioned_values_have_the_priors_distribution_within_the_domain() -> None:
    # Sun-like stars are inside the library at any metallicity up to the tracks' limit.
    sun_like = Priors(mass1=Constant(1.1), mass_ratio=Constant(0.9), eep1=Constant(300.0), alpha=Constant(0.0))
    found = Source(3, priors=sun_like, condition=("feh",)).realise(np.arange(5000), Tracks.load(), Library.load())
    assert (found.fate == KEPT).all()
    assert stats.kstest(found.draws.feh, stats.uniform(-2.0, 2.3).cdf).pvalue > 1e-3


def test_giants_alone_have_no_secondary_and_are_not_dropped_for_one() -> None:
    priors = replace(TABLE1, mass1=Uniform(0.8, 2.0), eep1=Uniform(490.0, 605.0))
    alone = Source(11, 1, priors, Companion.NONE).realise(np.arange(3000), Tracks.load(), Library.load())
    kept = alone.kept_pairs()
    assert np.isnan(kept.secondary.teff).all()
    assert np.isnan(kept.mass2).all()
    assert not any(label.startswith("secondary") for label in alone.counts())
    assert (kept.primary.logg < 3.9).all()
    assert kept.primary.teff.min() < 3900


def test_unrelated_stars_differ_in_all_but_the_line_of_sight() -> None:
    source = Source(11, 2, companion=Companion.UNRELATED, magnitude_difference=Uniform(0.5, 1.0))
    kept = source.realise(np.arange(3000), Tracks.load(), Library.load()).kept_pairs()
    assert np.abs(np.corrcoef(kept.draws.feh, kept.feh2)[0, 1]) < 0.15
    assert not np.any(np.isclose(kept.primary.age, kept.secondary.age, rtol=1e-6))
    ratio = kept.secondary.luminosity * kept.dilution / kept.primary.luminosity
    magnitudes = -2.5 * np.log10(ratio)
    assert 0.5 <= magnitudes.min() < magnitudes.max() <= 1.0
