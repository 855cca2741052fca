from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from twinlines.pipeline import population
from twinlines.pipeline.library import Library
from twinlines.pipeline.population import KEPT, TABLE1, Priors, Uniform, draw, fate_label, resolve
from twinlines.pipeline.tracks import Tracks

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


def test_parameters_are_independent(draws: population.Draws) -> None:
    names = [item.name for item in fields(Priors)]
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
    kept = resolved.kept()
    np.testing.assert_allclose(kept.primary.age, kept.secondary.age, rtol=2e-3)
    assert (kept.primary.age <= 13.8e9).all()
    library = Library.load()
    assert (library.outside(kept.labels(1)) == 0).all()
    assert (library.outside(kept.labels(2)) == 0).all()
    assert (kept.fate == KEPT).all()


def test_secondaries_are_less_evolved(resolved: population.Population) -> None:
    kept = resolved.kept()
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
