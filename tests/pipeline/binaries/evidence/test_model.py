"""What nights say of a star: against sums by hand, and against stars whose kind is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.pipeline.binaries.evidence.conftest import Draw, Drawn
from twinlines.models import checkpoint
from twinlines.models.evaluation import binned
from twinlines.pipeline.binaries.evidence.evidence import Evidence, Prevalence, evidence_of
from twinlines.pipeline.binaries.evidence.exposures import NO_HEAD, Exposures
from twinlines.pipeline.binaries.evidence.model import (
    SB2,
    SINGLE,
    Calibration,
    log_likelihoods,
    night_log_ratio,
    shipped,
)
from twinlines.pipeline.binaries.evidence.nights import nights_of
from twinlines.pipeline.schema import HEADS, JOINT
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS


def star_of(ratios: list[float], nights: list[int] | None = None, velocity: float = 0.0) -> Exposures:
    """One star, judged by both arms at S/N 20."""
    count = len(ratios)
    return Exposures(
        night=np.array(nights or range(count), np.int32),
        ratio=np.array(ratios, np.float32),
        head=np.full(count, HEADS.index(JOINT), np.int8),
        log_snr=np.full(count, np.log(20.0), np.float32),
        teff=np.full(count, 5800.0, np.float32),
        velocity=np.full(count, velocity, np.float32),
        error=np.full(count, 1.0, np.float32),
    )


def weigh(exposures: Exposures, calibration: Calibration, prevalence: float = 0.01) -> Evidence:
    one = np.zeros(len(exposures.ratio), np.int64)
    return evidence_of(exposures, one, 1, prevalence=Prevalence(prevalence, 0.05), calibration=calibration)


def probability(ratios: list[float], calibration: Calibration, nights: list[int] | None = None) -> float:
    return float(weigh(star_of(ratios, nights), calibration).sb2_probability[0])


def test_the_likelihood_is_the_mean_over_stars_of_products_over_nights(plain: Calibration) -> None:
    ratios = [-6.0, 4.0, 9.0]
    nights = nights_of(star_of(ratios), np.zeros(3, np.int64), len(HEADS))
    log = log_likelihoods(nights, night_log_ratio(nights, plain), np.zeros(1), plain)[0]
    z = np.linspace(-8.0, 8.0, 20_001)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    for kind, logit in ((SB2, z), (SINGLE, -5.3 + 0.5 * z)):
        c = 1.0 / (1.0 + np.exp(-logit))
        product = np.prod([(1.0 - c) + c * np.exp(ratio) for ratio in ratios], axis=0)
        assert log[kind] == pytest.approx(np.log(np.sum(weight * product)), rel=2e-3)


@pytest.mark.parametrize("calibration", ["plain", "ships"])
def test_one_quiet_night_does_not_acquit_and_one_bad_spectrum_does_not_condemn(
    calibration: str, plain: Calibration
) -> None:
    mine = plain if calibration == "plain" else shipped()
    quiet, loud = -20.0, 20.0
    assert probability([loud, loud, quiet], mine) > 0.9
    # However sure the networks are of one night, it says no more than that its chance to be disturbed is small.
    assert probability([loud], mine) == pytest.approx(probability([2.0 * loud], mine), rel=1e-6)
    assert probability([loud, quiet, quiet, quiet], mine) < 0.5 < probability([loud, loud, quiet, quiet], mine)
    # However quiet one night is, it says no more than that the lines may have been together.
    assert probability([quiet], mine) == pytest.approx(probability([2.0 * quiet], mine), rel=1e-6)
    assert 0.01 > probability([quiet], mine) > probability([quiet, quiet], mine) > 0.0


def test_exposures_of_one_night_are_not_independent(plain: Calibration) -> None:
    for calibration in (plain, shipped()):
        two_nights = probability([6.0, 6.0], calibration)
        one_night = probability([6.0, 6.0], calibration, nights=[5, 5])
        assert probability([6.0], calibration) <= one_night + 1e-9 < two_nights


def test_the_prevalence_moves_the_logit_and_nothing_else(plain: Calibration) -> None:
    rare, common = (weigh(star_of([3.0, -2.0]), plain, prevalence) for prevalence in (0.01, 0.2))
    assert rare.sb2_log_evidence == common.sb2_log_evidence

    def logit(p: float) -> float:
        return float(np.log(p) - np.log1p(-p))

    moved = logit(float(common.sb2_probability[0])) - logit(float(rare.sb2_probability[0]))
    assert moved == pytest.approx(logit(0.2) - logit(0.01), rel=1e-9)


def test_a_star_without_a_verdict_is_as_likely_as_any(plain: Calibration) -> None:
    nothing = replace(star_of([0.0, 0.0]), head=np.full(2, NO_HEAD, np.int8))
    found = weigh(nothing, plain)
    assert float(found.sb2_probability[0]) == pytest.approx(0.01, rel=1e-9)
    assert (found.nights[0], found.epochs_judged[0], found.rv_nights[0]) == (0, 0, 0)
    assert np.isnan(found.best_log_ratio[0])


def test_velocities_that_change_say_binary_and_of_quiet_nights_single_lined(plain: Calibration) -> None:
    still, moving = star_of([-8.0] * 5), star_of([-8.0] * 5)
    moving = replace(moving, velocity=np.array([0.0, 60.0, -20.0, 35.0, -50.0], np.float32))
    quiet, changing = weigh(still, plain), weigh(moving, plain)
    assert quiet.rv_p_value[0] > 0.9 > 1e-6 > changing.rv_p_value[0]
    assert quiet.sb1_probability[0] < 0.05 < 0.5 < changing.sb1_probability[0]
    assert changing.rv_excess[0] == pytest.approx(np.std([0.0, 60.0, -20.0, 35.0, -50.0], ddof=1), rel=0.05)
    # A night that looks double has no velocity of one star.
    assert weigh(star_of([8.0, -8.0, -8.0]), plain).rv_nights[0] == 2


def within(drawn: Drawn, plain: Calibration, prevalence: Prevalence) -> None:
    found = evidence_of(
        drawn.exposures, drawn.star, len(drawn.kind), prevalence=prevalence, calibration=plain, block_rows=5000
    )
    edges = (0.0, 0.002, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)
    for kind, told in ((2, found.sb2_probability), (1, found.sb1_probability)):
        for each in binned(told, drawn.kind == kind, edges):
            if each.rate.trials:
                # Of the number expected, within four standard deviations; rounding aside.
                expected = each.mean * each.rate.trials
                spread = np.sqrt(max(expected * (1.0 - each.mean), 1.0))
                assert abs(each.rate.count - expected) < 4.0 * spread, (kind, each)


def test_probabilities_of_stars_of_the_model_hold(draw: Draw, plain: Calibration) -> None:
    within(draw(20_000, sb2=0.1, sb1=0.1), plain, Prevalence(0.1, 0.1))
    within(draw(20_000, sb2=0.02, sb1=0.3, seed=2), plain, Prevalence(0.02, 0.3))


def test_what_ships_is_of_the_ensemble_that_ships() -> None:
    calibration = shipped()
    assert calibration.about["weights"] == checkpoint.digest(SHIPPED_WEIGHTS)
    assert calibration.about["command"].startswith("python benchmarks/evidence.py --stars")
    assert Calibration.from_json(calibration.to_json()) == calibration
    moved = replace(calibration, shared=0.5)
    assert moved.digest != calibration.digest == replace(calibration, about={}).digest
    for head in HEADS:
        # Most double-lined binaries show their lines in a night, and hardly another star does.
        assert calibration.shows.middle[head] > -1.0
        assert calibration.disturbed.middle[head] < -3.0
