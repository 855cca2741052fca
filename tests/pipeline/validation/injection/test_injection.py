"""Known binaries of real single stars: what is drawn, what the chain says of them, and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.figures.injection import completeness_figure
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.testing.realstars import write_stars
from twinlines.pipeline.validation.injection.completeness import measure, of_stars
from twinlines.pipeline.validation.injection.draws import InjectionConfig, Injections, draw
from twinlines.pipeline.validation.injection.judging import verdict
from twinlines.pipeline.validation.injection.mainsequence import MainSequence
from twinlines.pipeline.validation.schema import INJECTIONS
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.scores import Exposures

STARS = {
    "sun": (5772.0, 4.44, 0.0, 0.0),
    "warm": (6300.0, 4.3, -0.2, 0.0),
    "cool": (5100.0, 4.55, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> RealStars:
    return RealStars.load(write_stars(tmp_path_factory.mktemp("stars"), STARS))


def test_the_main_sequence_s_companions() -> None:
    sequence = MainSequence.load()
    sun = np.array([5770.0])
    assert sequence.mass_of(sun) == pytest.approx(1.0, abs=0.1)
    assert sequence.companion(sun, np.array([1.0])) == pytest.approx(5770.0, abs=1.0)
    ratio = sequence.flux_ratio("B", np.full(3, 5770.0), np.array([0.6, 0.8, 1.0]))
    assert ratio[2] == pytest.approx(1.0)
    assert 0.02 < ratio[0] < 0.15 < ratio[1] < 0.6
    # A cooler companion shows more in the red arm.
    assert (sequence.flux_ratio("R", np.full(1, 5770.0), np.array([0.8])) > ratio[1]).all()
    assert np.isnan(sequence.mass_of(np.array([20000.0, 2000.0]))).all()


def test_a_longer_list_begins_as_a_shorter_one(stars: RealStars) -> None:
    config = InjectionConfig(mass_ratio=(0.8, 1.0))
    short, long = draw(stars, 50, config), draw(stars, 1500, config)
    for name in Injections.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(long, name)[:50], getattr(short, name))
    assert len(np.unique(long.number)) == 1500
    assert (
        np.abs(stars.teff[long.star2] - MainSequence.load().companion(stars.teff[long.star1], long.mass_ratio)) <= 400
    ).all()
    assert long.separation.std() == pytest.approx(130.0, rel=0.1)
    assert ((long.mass_ratio >= 0.8) & (long.ratio_blue <= 1.001)).all()
    # The centre of mass moves as was asked.
    systemic = long.velocity + long.separation * long.mass_ratio / (1.0 + long.mass_ratio)
    assert systemic.std() == pytest.approx(30.0, rel=0.1)


def test_stars_that_make_no_binaries_are_refused(stars: RealStars) -> None:
    with pytest.raises(TrustError, match=r"make no binaries of mass ratio 0\.3 to 0\.4"):
        draw(stars, 10, InjectionConfig(mass_ratio=(0.3, 0.4)))
    with pytest.raises(TrustError, match="rising ones of"):
        InjectionConfig(mass_ratio=(0.9, 0.5))
    with pytest.raises(TrustError, match="above 5"):
        InjectionConfig(snr=(4.0, 10.0))


def test_wide_binaries_are_found_and_narrow_ones_are_not(stars: RealStars) -> None:
    """By the ensemble that ships, through velocities, rest frame and verdict."""
    many = 8
    made = draw(stars, 2 * many, InjectionConfig(mass_ratio=(0.85, 1.0), snr=(40.0, 60.0)))
    separation = np.where(np.arange(2 * many) < many, 150.0, 2.0)
    made = Injections(
        **{**{name: getattr(made, name) for name in Injections.__dataclass_fields__}, "separation": separation}
    )
    infer = Inference.load(SHIPPED_WEIGHTS, None, InferenceParameters(n_draws=2))
    said = verdict(infer, stars, made, seed=0)
    assert said["candidate"][:many].mean() > 0.8
    assert said["candidate"][many:].mean() < 0.2
    # What is injected is measured: of pairs that are one star's lines, the velocity is that of both.
    assert np.abs(said["rv_B"][many:] - made.velocity[many:]).max() < 5.0
    # No answer depends on the binaries beside it.
    again = verdict(infer, stars, made.take(slice(many, many + 3)), seed=0)
    np.testing.assert_array_equal(again["probability"], said["probability"][many : many + 3])


def test_completeness_is_counted_with_its_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    count = 2000
    separation, snr = rng.uniform(-300.0, 300.0, count), rng.uniform(6.0, 60.0, count)
    columns = {
        "number": np.arange(count),
        "star1": np.array([f"star {number % 40}" for number in range(count)], dtype=object),
        "teff1": np.where(np.arange(count) % 40 < 20, 5000.0, 6500.0),
        "flux_ratio_B": rng.uniform(0.02, 0.9, count),
        "separation": separation,
        "snr_B": snr,
        "candidate": rng.random(count) < np.where(np.abs(separation) > 50.0, 0.9, 0.1),
    }
    classes = Classes((20.0,), (6000.0, 8000.0))
    found = measure(INJECTIONS.dataset(columns, count), classes)
    for one in found.by["separation"]:
        assert one.found.low <= (0.9 if one.low >= 50.0 else 0.1) <= one.found.high
    assert [one.label for one in found.by["type"]] == ["0 to 6000 K", "6000 to 8000 K"]
    assert sum(one.found.trials for row in found.grid for one in row) == count
    assert found.to_json()["all"]["trials"] == count
    assert completeness_figure(found, tmp_path / "found.png").stat().st_size > 10_000

    exposures = Exposures.of(
        np.full(4, 0.5), np.array([0, 0, 1, 2]), np.arange(4.0), np.array([11, 10, 12, 13]),
        np.array([8.0, 30.0, 30.0, 30.0]), np.array([5000.0, 5000.0, 9000.0, np.nan]), np.ones(4, bool),
    )  # fmt: skip
    own = of_stars(exposures, found)
    assert own["obsid"].tolist() == [10, 12, 13]
    bright, faint = (next(one.found for one in found.cells if one.label == f"below 6000 K, S/N {label}")
                     for label in ("from 20 on", "below 20"))  # fmt: skip
    best = max(bright, faint, key=lambda rate: rate.value)
    assert own["completeness"][0] == best.value
    assert own["completeness_low"][0] == best.low
    assert np.isnan(own["completeness"][1:]).all()
    assert own["injections"].tolist() == [best.trials, 0, 0]
