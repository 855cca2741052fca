"""Orbits: true periods, honest posteriors, invariances, limits where epochs are few."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from astropy.timeseries import LombScargle

from benchmarks.orbits import curve, is_best, is_inside, recover, simulate
from twinlines.pipeline.binaries.components.assignment import assign
from twinlines.pipeline.binaries.components.epochs import Epochs, blended, double, together
from twinlines.pipeline.binaries.components.pairs import pairs
from twinlines.pipeline.binaries.orbits.modes import Target
from twinlines.pipeline.binaries.orbits.periodogram import periodogram
from twinlines.pipeline.binaries.orbits.prior import Ephemeris, OrbitPrior
from twinlines.pipeline.binaries.orbits.sampler import Sampling, rejection, sample
from twinlines.pipeline.binaries.orbits.solution import Fitting, fit_orbit
from twinlines.pipeline.binaries.orbits.summary import ELEMENTS, Elements, OrbitStatus, velocity_limits

Maker = Callable[..., Epochs]

QUICK = Fitting(sampling=Sampling(prior_samples=8192, more_prior_samples=65536, peaks=96, draws=2048))
"""Enough for orbits that are observed well."""


@pytest.mark.parametrize(("period", "eccentricity"), [(4.3, 0.0), (17.0, 0.35)])
def test_a_well_observed_orbit_is_found(observe: Maker, period: float, eccentricity: float) -> None:
    orbit = fit_orbit(observe(period, eccentricity, epochs=18), QUICK)
    assert orbit.best is not None
    assert orbit.samples is not None
    assert orbit.mode_probability > 0.99
    assert not orbit.status
    truths = {
        "period": period,
        "eccentricity": eccentricity,
        "center_of_mass_velocity": -15.0,
        "semi_amplitude_primary": 64.0,
        "semi_amplitude_secondary": 80.0,
        "mass_ratio": 0.8,
        "projected_axis_primary": 64.0 * 86400 * period * np.sqrt(1 - eccentricity**2) / (2 * np.pi * 695700.0),
    }
    for name, truth in truths.items():
        assert abs(float(getattr(orbit.best, name)) - truth) < 4.0 * orbit.error[name], name
        assert orbit.error[name] > 0.0
    if eccentricity:
        assert abs(float(orbit.best.arg_periastron) - np.degrees(2.0)) < 4.0 * orbit.error["arg_periastron"]
        late = (float(orbit.best.t_periastron) - 2458000.7) / period
        assert (
            abs(late - round(late)) * period < 4.0 * orbit.error["t_periastron"] + 450 / period * orbit.error["period"]
        )


def test_the_period_is_that_of_astropy_for_a_single_star_well_sampled() -> None:
    rng = np.random.default_rng(8)
    time = np.sort(rng.uniform(0.0, 200.0, 60))
    first = 20.0 + 50.0 * curve(time, 6.7, 0.0, 0.0, 1.0) + rng.normal(0.0, 3.0, 60)
    # The second star is not measured: it has an error beyond all amplitudes.
    epochs = double("S", time, np.stack([first, np.zeros(60)], 1), np.tile([3.0, 1e5], (60, 1)))
    prior = OrbitPrior(shortest=1.5, longest=100.0)
    screening = periodogram(epochs, prior, 1.0, 100.0)
    power = LombScargle(time, first, 3.0).power(screening.frequency)
    ours = screening.frequency[screening.log_posterior.argmax()]
    assert abs(ours - screening.frequency[power.argmax()]) < 0.1 / 200.0
    orbit = fit_orbit(epochs, replace(QUICK, prior=prior))
    assert orbit.best is not None
    assert abs(float(orbit.best.period) - 6.7) < 4.0 * orbit.error["period"]
    assert abs(float(orbit.best.semi_amplitude_primary) - 50.0) < 4.0 * orbit.error["semi_amplitude_primary"]


def test_both_samplers_agree(observe: Maker) -> None:
    epochs, prior = observe(6.0, epochs=8, seed=3, error=10.0, span=60.0), OrbitPrior(shortest=4.0, longest=9.0)
    target = Target(epochs, prior)
    many = rejection(target, 2**18, 5)
    assert many.effective > 250
    screening = periodogram(epochs, prior, 0.8, target.velocities.reference)
    sampling = Sampling(prior_samples=1, more_prior_samples=1, enough=500.0, draws=8192, depth=15.0)
    modes = sample(target, screening, sampling)
    assert not modes.by_rejection
    assert modes.effective > 300
    assert abs(modes.log_evidence - many.log_evidence) < 0.15
    edges = np.log([4.0, 5.9, 6.0, 6.1, 9.0])
    shares = [np.histogram(-np.log(one.points[:, 0]), edges, weights=one.weight)[0] for one in (many, modes)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.1)


def test_a_shift_in_time_and_a_constant_velocity_shift_the_orbit(observe: Maker) -> None:
    epochs = observe(9.0, 0.3)
    moved = Epochs("moved", epochs.time - 2400000.0, epochs.velocity + 70.0, epochs.covariance, epochs.resolved)
    here, there = fit_orbit(epochs, QUICK), fit_orbit(moved, QUICK)
    assert here.best is not None
    assert there.best is not None
    shifts = {"t_periastron": -2400000.0, "center_of_mass_velocity": 70.0}
    for name in ELEMENTS:
        change = float(getattr(there.best, name) - getattr(here.best, name)) - shifts.get(name, 0.0)
        assert abs(change) < 0.5 * here.error[name], name


def test_renaming_the_stars_inverts_the_mass_ratio(observe: Maker) -> None:
    epochs = observe(9.0, 0.3)
    here, there = fit_orbit(epochs, QUICK), fit_orbit(epochs.swapped(), QUICK)
    assert here.best is not None
    assert there.best is not None
    assert abs(float(there.best.mass_ratio * here.best.mass_ratio) - 1.0) < 0.03
    assert abs(float(there.best.period - here.best.period)) < here.error["period"]
    turn = float(there.best.arg_periastron - here.best.arg_periastron)
    assert abs(abs(turn) - 180.0) < 2.0 * here.error["arg_periastron"]


def test_the_order_of_epochs_does_not_count(observe: Maker) -> None:
    epochs = observe(9.0)
    order = np.random.default_rng(1).permutation(len(epochs))
    here, there = fit_orbit(epochs, QUICK), fit_orbit(epochs.take(order), QUICK)
    assert here.best is not None
    assert there.best is not None
    assert abs(float(there.best.period - here.best.period)) < 0.5 * here.error["period"]


def test_the_orbit_decides_which_star_is_which(observe: Maker) -> None:
    epochs = observe(7.0, epochs=16, mass_ratio=0.99, span=300.0)
    wrong = np.zeros(16, dtype=np.bool_)
    wrong[[2, 3, 8, 9]] = True
    exchange = np.where(wrong, 0.3, 0.1)
    orbit = fit_orbit(
        epochs.swapped(wrong), replace(QUICK, prior=OrbitPrior(shortest=3.0, longest=50.0)), exchange=exchange
    )
    assert orbit.best is not None
    assert orbit.exchanged.tolist() in (wrong.tolist(), (~wrong).tolist())
    assert orbit.status == OrbitStatus.EXCHANGED
    assert abs(float(orbit.best.period) - 7.0) < 4.0 * orbit.error["period"]


def test_an_ephemeris_chooses_the_period_and_the_phase(observe: Maker) -> None:
    epochs = observe(4.3, epochs=4, seed=2)
    # omega + nu = 90 degrees, the orbit being circular and omega being 2: a fraction of a turn after 2458000.7.
    eclipse = 2458000.7 + 4.3 * (0.5 * np.pi - 2.0) / (2.0 * np.pi) + 50 * 4.3
    free = fit_orbit(epochs, QUICK)
    assert free.status & OrbitStatus.TOO_FEW_EPOCHS
    orbit = fit_orbit(epochs, QUICK, ephemeris=Ephemeris(4.3, 1e-4, eclipse, 0.01, eclipsed=1))
    assert orbit.best is not None
    assert orbit.status & OrbitStatus.EPHEMERIS
    assert abs(float(orbit.best.period) - 4.3) < 5e-4
    assert abs(float(orbit.best.semi_amplitude_primary) - 64.0) < 4.0 * orbit.error["semi_amplitude_primary"]
    assert abs(float(orbit.best.mass_ratio) - 0.8) < 4.0 * orbit.error["mass_ratio"]
    # The other star cannot be the one behind.
    wrong = fit_orbit(epochs, QUICK, ephemeris=Ephemeris(4.3, 1e-4, eclipse, 0.01, eclipsed=2))
    assert wrong.chi2 > orbit.chi2 + 20.0 or wrong.jitter > orbit.jitter
    with pytest.raises(ValueError, match=r"a binary: the ephemeris' period 900.0 d lies outside the prior's"):
        fit_orbit(epochs, QUICK, ephemeris=Ephemeris(900.0, 0.1))


def test_a_real_eclipsing_binary() -> None:
    # KIC 8098300: blue arms of LAMOST exposures of two nights, each fitted by two library stars of 6300 K with the
    # velocities and the light ratio free; period and eclipse as in the Kepler Eclipsing Binary Catalog (version 3).
    rows = np.array(
        [
            [2458646.25211, -79.80, 58.58, 1.15, 0.50, 2.32],
            [2458646.26809, -84.40, 57.34, 1.08, 0.49, 2.42],
            [2458646.29100, -80.09, 54.92, 1.17, 0.51, 2.42],
            [2458649.23901, -43.23, 5.88, 0.72, 0.24, 3.14],
            [2458649.27096, -46.05, 10.11, 0.61, 0.25, 2.58],
            [2458649.28693, -48.05, 12.27, 0.59, 0.23, 2.65],
            [2458649.30290, -48.48, 14.56, 0.58, 0.25, 2.41],
        ]
    )
    error = np.hypot(rows[:, 3:5], 1.0)
    source = pairs(
        "KIC 8098300", rows[:, 0], rows[:, 1:3], error, flux_ratio=rows[:, 5], flux_ratio_error=0.1 * rows[:, 5]
    )
    components = assign([source])
    epochs = components.epochs(0, source)
    blends = blended("KIC 8098300", [2458625.27844, 2458625.29441], [-5.7, -11.4], [1.5, 1.5], 0.5)
    epochs = together([epochs, blends])
    assert fit_orbit(epochs).status == OrbitStatus.TOO_FEW_EPOCHS
    orbit = fit_orbit(epochs, QUICK, ephemeris=Ephemeris(4.3059177, 8.6e-6))
    assert orbit.best is not None
    assert orbit.status == OrbitStatus.EPHEMERIS
    assert orbit.chi2 < 30.0
    assert float(orbit.best.eccentricity) < 0.05
    # The catalog's eclipse, unknown to the fit, is where one star is behind the other.
    eclipse = 2454956.737583 + 857 * 4.3059177
    late = (eclipse - float(orbit.best.t_periastron)) / 4.3059177 + float(orbit.best.arg_periastron) / 360.0 - 0.25
    assert abs(late - round(late)) < 0.02
    # Known from elsewhere: 0.82; these velocities are rough.
    ratio = float(orbit.best.mass_ratio)
    assert 0.72 < min(ratio, 1.0 / ratio) < 0.88
    assert abs(components.line.mass_ratio[0] - ratio) < 3.0 * orbit.error["mass_ratio"]
    # Stars of 6275 and 6514 K, eclipsing.
    assert 2.0 < float(orbit.best.minimum_mass_primary + orbit.best.minimum_mass_secondary) < 3.0


def test_jitter_is_added_where_errors_are_too_small(observe: Maker) -> None:
    epochs = observe(5.0, epochs=16, error=4.0)
    small = Epochs("S", epochs.time, epochs.velocity, epochs.covariance / 16.0, epochs.resolved)
    orbit = fit_orbit(small, QUICK)
    assert orbit.best is not None
    assert orbit.status & OrbitStatus.JITTER
    assert 1.0 <= orbit.jitter <= 8.0
    assert abs(float(orbit.best.period) - 5.0) < 4.0 * orbit.error["period"]


def test_what_is_no_orbit_does_not_fit() -> None:
    rng = np.random.default_rng(5)
    time = np.sort(rng.uniform(0.0, 500.0, 14))
    velocity = rng.normal(0.0, 60.0, (14, 2))
    orbit = fit_orbit(double("S", time, velocity, np.ones((14, 2))), replace(QUICK, jitters=(0.0, 1.0)))
    assert orbit.status & OrbitStatus.POOR_FIT


def test_blends_constrain_the_period(observe: Maker) -> None:
    epochs = observe(6.5, epochs=10, seed=4)
    apart = np.abs(epochs.velocity[:, 0] - epochs.velocity[:, 1]) > 40.0
    apart_ones = epochs.take(apart)
    times = 2458000.7 + 6.5 * (0.5 * np.pi - 2.0) / (2.0 * np.pi) + 6.5 * np.array([3.0, 40.5, 77.0, 101.5])
    blends = blended("a binary", times, np.full(4, -15.0), np.full(4, 2.0), 0.5)
    with_blends = fit_orbit(together([apart_ones, blends]), QUICK)
    without = fit_orbit(apart_ones, QUICK)
    assert with_blends.best is not None
    assert abs(float(with_blends.best.period) - 6.5) < 4.0 * with_blends.error["period"]
    assert with_blends.modes <= without.modes
    assert with_blends.epochs == int(apart.sum())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_epochs_give_limits(observe: Maker, count: int) -> None:
    epochs = observe(5.0, epochs=12).take(np.arange(count))
    orbit = fit_orbit(epochs, QUICK)
    assert orbit.status == OrbitStatus.TOO_FEW_EPOCHS
    assert orbit.best is None
    assert orbit.samples is None
    entry = json.loads(json.dumps(orbit.to_json(), allow_nan=False))
    assert entry["period"] is None
    assert entry["epochs"] == count
    if count:
        largest = np.abs(epochs.velocity[:, 0] - epochs.velocity[:, 1]).max()
        assert abs(orbit.limits.separation - largest) < 1e-9
        assert largest - 8.0 < orbit.limits.amplitude_sum < largest
    else:
        assert entry["limit_separation"] is None


def test_epochs_of_one_moment_give_limits_and_two_alike_do_no_harm(observe: Maker) -> None:
    epochs = observe(5.0, epochs=12)
    alike = Epochs("S", np.full(12, 7.0), epochs.velocity, epochs.covariance, epochs.resolved)
    assert fit_orbit(alike).status == OrbitStatus.TOO_FEW_EPOCHS
    orbit = fit_orbit(together([epochs, epochs.take(np.arange(1))]), QUICK)
    assert orbit.best is not None
    assert abs(float(orbit.best.period) - 5.0) < 4.0 * orbit.error["period"]


def test_limits_are_those_of_kepler_s_third_law() -> None:
    # Two suns at 10 days seen edge-on: K1 + K2 = (2 pi G 2 M_sun / P)^(1/3).
    total = (2.0 * np.pi * 1.32712440e11 * 2.0 / (10.0 * 86400.0)) ** (1.0 / 3.0)
    epochs = double("S", [0.0], [[0.5 * total, -0.5 * total]], [[1e-4, 1e-4]])
    limits = velocity_limits(epochs, OrbitPrior(shortest=0.5), most_mass=2.0)
    assert abs(limits.longest_period - 10.0) < 1e-3
    assert abs(limits.total_mass - 2.0 * 0.5 / 10.0) < 1e-5
    orbit = Elements(*(np.array(value) for value in (10.0, 0.0, 0.0, 0.0, 0.0, 0.5 * total, 0.5 * total)))
    np.testing.assert_allclose([orbit.minimum_mass_primary, orbit.minimum_mass_secondary], 1.0, rtol=1e-5)


def test_elements_give_back_velocities(observe: Maker) -> None:
    epochs = observe(17.0, 0.35, epochs=18)
    orbit = fit_orbit(epochs, QUICK)
    assert orbit.best is not None
    assert orbit.samples is not None
    one = Elements(*(np.array([getattr(orbit.best, item.name)]) for item in fields(Elements)))
    first, second = one.velocities(epochs.time)
    miss = np.stack([first[0], second[0]], axis=1) - epochs.velocity
    assert abs((miss**2).sum() / 4.0 - orbit.chi2) < 1e-4


def test_bad_options_are_refused(observe: Maker) -> None:
    epochs = observe(5.0)
    with pytest.raises(ValueError, match=r"a binary: exchange has the shape \(3,\), but there are 12 epochs"):
        fit_orbit(epochs, exchange=np.zeros(3))
    with pytest.raises(ValueError, match=r"a binary: epoch 4: exchange is 1.5; probabilities are 0 to 1"):
        fit_orbit(epochs, exchange=np.where(np.arange(12) == 4, 1.5, 0.0))
    with pytest.raises(ValueError, match=r"jitters are \(\) km/s"):
        Fitting(jitters=())
    with pytest.raises(ValueError, match=r"ways is 0"):
        Fitting(ways=0)
    with pytest.raises(ValueError, match=r"kept is 0; sampling needs at least 1"):
        Sampling(kept=0)


def test_settings_and_orbits_are_json(observe: Maker) -> None:
    json.dumps(Fitting().to_json(), allow_nan=False)
    entry = json.loads(json.dumps(fit_orbit(observe(5.0), QUICK).to_json(), allow_nan=False))
    for name in ELEMENTS:
        assert entry[name] is not None
        assert entry[f"{name}_error"] >= 0.0


def test_a_few_simulated_binaries() -> None:
    truths = simulate(6, 7)
    recovery, orbits, _, _ = recover(truths, Fitting())
    assert recovery.mass_ratio == 1.0
    assert recovery.swap_wrong_after == 0.0
    # Nothing is said with confidence that is not so.
    for truth, orbit in zip(truths, orbits, strict=True):
        if orbit.mode_probability > 0.95:
            assert is_best(truth, orbit)
            assert is_inside(truth, orbit)


@pytest.mark.slow
def test_two_hundred_simulated_binaries() -> None:
    recovery, _, _, _ = recover(simulate(200, 1), Fitting())
    assert recovery.mass_ratio > 0.9
    assert recovery.swap_wrong < 0.02
    assert recovery.best_mode > 0.72
    assert recovery.inside > 0.94
    assert recovery.best_mode_of_confident > 0.95
