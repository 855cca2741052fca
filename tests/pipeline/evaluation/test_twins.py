"""Twin binaries and stars off rest: that curves are of the stars they say, in both arms at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from twinlines.models import evaluation
from twinlines.models.ensemble import Ensemble
from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.evaluation import twins
from twinlines.pipeline.evaluation.twins import DISPLACED, RATIOS, TWINS, Twin
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.synthesis.spectra import Stars, component

AT_16 = 1  # place of the penalty


@pytest.fixture(scope="module")
def ensemble(weights: Path) -> Ensemble:
    return Ensemble.load(weights)


def test_more_twins_begin_with_the_same(ensemble: Ensemble) -> None:
    library = Library.load()
    one, again = (twins.probabilities(ensemble, library, TWINS[2], 5.0, 1, 0) for _ in range(2))
    two = twins.probabilities(ensemble, library, TWINS[2], 5.0, 2, 0)
    other = twins.probabilities(ensemble, library, TWINS[2], 5.0, 1, 1)
    assert set(one) == set(HEADS)
    for head in HEADS:
        single = one[head][AT_16]
        np.testing.assert_array_equal(single, again[head][AT_16])
        assert np.ptp(single, axis=2).max() == 0.0  # percentiles of one spectrum
        # Of two values, the 16th and 84th percentiles lie 0.16 of their distance inside.
        low, _, high = np.moveaxis(two[head][AT_16], 2, 0)
        inset = 0.16 * (high - low) / 0.68
        distance = np.minimum(np.abs(single[..., 0] - (low - inset)), np.abs(single[..., 0] - (high + inset)))
        assert distance.max() < 1e-3
        assert not np.array_equal(other[head], one[head])


def test_displacement_is_of_the_star_and_of_both_about_their_mean_in_both_arms(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without noise, which untrained members make much of, values are those of the light that is meant.
    monkeypatch.setattr(twins, "add_noise", lambda light, *_: (light, None))
    library, twin = Library.load(), TWINS[2]
    curves = twins.displacement(ensemble, library, twin, 1, 0)
    still = twins.probabilities(ensemble, library, twin, 5.0, 1, 0)
    stars = Stars(np.tile(twin.labels, (3, 1)), np.ones(3), np.full(3, 5.0), np.array([50.0, -30.0, 30.0]))
    light = {name: component(ARMS[name], library, stars) for name in ARM_NAMES}
    clean = []
    for rows in ([0], [1, 2]):
        flux = {
            name: normalise(torch.from_numpy(ARMS[name].wavelength), light[name][rows].sum(dim=0).double()[None])[0]
            for name in ARM_NAMES
        }
        clean.append(evaluation.judge(ensemble, {name: values.float().numpy() for name, values in flux.items()}))
    for head in HEADS:
        displaced, centred = (values[AT_16] for values in curves[head])
        # At no velocity both are one star at rest, the second twice as bright.
        at_rest = still[head][AT_16, 0, RATIOS.index(40.0), 1]
        assert displaced[0] == pytest.approx(at_rest, abs=1e-3)
        assert centred[0] == pytest.approx(at_rest, abs=1e-3)
        for found, judged in ((displaced[DISPLACED.index(50.0)], clean[0]), (centred[1], clean[1])):
            assert found == pytest.approx(expit(judged[head][..., AT_16]).mean(), abs=1e-3)


def test_single_stars_are_shown_where_the_report_wants_them() -> None:
    assert {0.0, 30.0, 50.0, 100.0} <= set(DISPLACED)


def test_a_star_that_the_library_lacks_says_why() -> None:
    assert "above Teff 10000 K" in (Twin("O dwarf", 40_000.0, 4.0).outside(Library.load()) or "")
    assert TWINS[0].outside(Library.load()) is None
