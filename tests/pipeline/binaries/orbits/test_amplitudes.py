"""The integral over semi-amplitudes and systemic velocity, against one written out; the priors; epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from twinlines.pipeline.binaries.components.epochs import Epochs, blended, double, together
from twinlines.pipeline.binaries.orbits.amplitudes import Velocities
from twinlines.pipeline.binaries.orbits.prior import Ephemeris, OrbitPrior

Maker = Callable[..., Epochs]


def _any_epochs(seed: int) -> Epochs:
    rng = np.random.default_rng(seed)
    time, velocity = rng.uniform(2458000.0, 2459000.0, 7), rng.normal(30.0, 60.0, (7, 2))
    pairs = double("S", time, velocity, rng.uniform(1.0, 3.0, (7, 2)), rng.uniform(-0.5, 0.5, 7))
    return together([pairs, blended("S", [2458500.0], [20.0], [2.0], 0.6)])


def test_the_integral_is_that_of_a_gaussian() -> None:
    epochs, prior = _any_epochs(0), OrbitPrior()
    velocities = Velocities(epochs, prior)
    points = prior.draw(6, 1)
    ours, curve = velocities.amplitudes(points), velocities.curve(points)
    eccentricity, _ = prior.shape(points)
    size = 2 * len(epochs)
    noise = np.zeros((size, size))
    for row, covariance in enumerate(epochs.covariance):
        noise[2 * row : 2 * row + 2, 2 * row : 2 * row + 2] = covariance
    observed = epochs.velocity.ravel()
    logs = []
    for row in range(len(points)):
        design = np.zeros((size, 3))
        design[0::2, 0], design[1::2, 1], design[:, 2] = curve[row], -curve[row], 1.0
        spread = prior.amplitude * (1.0 / points[row, 0] / 365.25) ** (-1 / 3) / np.sqrt(1.0 - eccentricity[row] ** 2)
        before = np.zeros((3, 3))
        before[:2, :2] = spread**2 * np.array([[1.0, 0.9], [0.9, 1.0]])
        before[2, 2] = 1e8  # as good as flat
        logs.append(multivariate_normal(np.zeros(size), noise + design @ before @ design.T).logpdf(observed))
        covariance = np.linalg.inv(design.T @ np.linalg.inv(noise) @ design + np.linalg.inv(before))
        mean = covariance @ design.T @ np.linalg.inv(noise) @ observed
        np.testing.assert_allclose(ours.mean[row], mean, atol=1e-5)
        np.testing.assert_allclose(ours.covariance[row], covariance, atol=1e-5)
        miss = observed - design @ mean
        assert abs(ours.chi2[row] - miss @ np.linalg.inv(noise) @ miss) < 1e-5
    np.testing.assert_allclose(np.diff(ours.log_evidence), np.diff(logs), atol=2e-4)


def test_a_constant_velocity_changes_gamma_alone() -> None:
    epochs, prior = _any_epochs(1), OrbitPrior()
    moved = Epochs("S", epochs.time, epochs.velocity + 500.0, epochs.covariance, epochs.resolved)
    points = prior.draw(50, 2)
    here, there = Velocities(epochs, prior).amplitudes(points), Velocities(moved, prior).amplitudes(points)
    np.testing.assert_allclose(there.log_evidence, here.log_evidence, rtol=1e-9)
    np.testing.assert_allclose(there.mean - here.mean, np.tile([0.0, 0.0, 500.0], (50, 1)), atol=1e-8)


def test_the_prior_s_density_is_that_of_its_draws() -> None:
    prior = OrbitPrior()
    rng = np.random.default_rng(3)
    count = 400_000
    radius, omega = np.sqrt(rng.random(count)), rng.uniform(-np.pi, np.pi, count)
    period = np.exp(rng.uniform(np.log(prior.shortest), np.log(prior.longest), count))
    points = np.stack([1.0 / period, radius * np.cos(omega), radius * np.sin(omega), omega], axis=1)
    # Uniform on the disc and in longitude, log-uniform in period.
    drawn_from = period / np.log(prior.longest / prior.shortest) / np.pi / (2.0 * np.pi)
    weight = np.exp(prior.log_density(points)) / drawn_from
    assert abs(weight.mean() - 1.0) < 0.02
    draws = prior.draw(100_000, 1)
    eccentricity, of_draws = prior.shape(points)[0], prior.shape(draws)[0]
    for low, high in ((3.0, 6.0), (10.0, 20.0), (50.0, 500.0)):
        mine, theirs = (period > low) & (period < high), (draws[:, 0] < 1.0 / low) & (draws[:, 0] > 1.0 / high)
        for limit in (0.01, 0.1, 0.3):
            share = np.average(eccentricity[mine] < limit, weights=weight[mine])
            assert abs(share - (of_draws[theirs] < limit).mean()) < 0.02
    assert (of_draws < prior.envelope(1.0 / draws[:, 0])).all()
    assert prior.draw(100_000, 1) is draws
    assert not draws.flags.writeable


def test_orbits_outside_the_prior_are_impossible() -> None:
    points = np.array([[0.1, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [1e-4, 0.0, 0.0, 0.0], [0.1, 0.9, 0.9, 0.0]])
    assert np.isfinite(OrbitPrior().log_density(points)).tolist() == [True, False, False, False]


def test_an_eclipse_is_where_the_eclipsed_star_is_behind() -> None:
    # Just after it was behind, star 1 approaches: its velocity goes from above gamma to below.
    prior = OrbitPrior()
    rng = np.random.default_rng(4)
    for star, sign in ((1, -1.0), (2, 1.0)):
        for _ in range(20):
            period, e_share, omega = rng.uniform(5.0, 30.0), rng.uniform(0.0, 0.7), rng.uniform(-3.0, 3.0)
            point = np.array([[1.0 / period, e_share * np.cos(omega), e_share * np.sin(omega), rng.uniform(-3.0, 3.0)]])
            times = np.linspace(100.0, 100.0 + period, 20001)
            ephemeris = [Ephemeris(period, 1e-3, float(moment), 0.01, star) for moment in times[::100]]
            pulls = [one.pulls(prior, point, 90.0)[0, 1] for one in ephemeris]
            eclipse = times[::100][int(np.argmin(np.abs(pulls)))]
            near = double("S", eclipse + period * np.array([-0.02, 0.0, 0.02]), np.zeros((3, 2)), np.ones((3, 2)))
            velocities = Velocities(near, prior)
            velocities.time = near.time - 90.0
            shape = velocities.curve(point)[0]
            eccentricity, angle = prior.shape(point)
            # At conjunction cos(omega + nu) = 0.
            assert abs(shape[1] - eccentricity[0] * np.cos(angle[0])) < 0.15
            assert np.sign(shape[2] - shape[0]) == sign


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"period": -4.0}, r"an ephemeris has the period -4.0 days; give one above 0"),
        ({"period": 4.0, "period_error": 0.0}, r"period_error = 0.0 days; it must be above 0"),
        ({"period": 4.0, "eclipse": float("nan")}, r"its eclipse at nan; leave it out"),
        ({"period": 4.0, "eclipse": 1.0, "eclipse_error": -1.0}, r"eclipse_error = -1.0 days"),
        ({"period": 4.0, "eclipsed": 3}, r"eclipsed is 3; say which star is behind"),
    ],
)
def test_a_bad_ephemeris_is_refused(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ephemeris(**{"period_error": 0.1, **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"shortest": 5.0, "longest": 2.0}, "shortest = 5.0, longest = 2.0 days"),
        ({"alpha": 0.0}, "alpha is 0.0; it must be above 0"),
        ({"alike": 1.0}, "alike is 1.0; a correlation lies between -1 and 1"),
    ],
)
def test_a_bad_prior_is_refused(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OrbitPrior(**bad)


def test_a_blend_has_the_mean_of_both_velocities() -> None:
    epochs = blended("S", [1.0], [20.0], [2.0], flux_ratio=0.5, reach=30.0)
    light = np.array([2.0, 1.0]) / 3.0
    apart = np.array([1.0, -1.0])
    assert abs(light @ epochs.covariance[0] @ light - (2.0**2 + 3.0**2)) < 1e-9
    assert abs(apart @ epochs.covariance[0] @ apart - 30.0**2 / 3.0) < 1e-9
    assert abs(light @ epochs.covariance[0] @ apart) < 1e-9
    assert not epochs.resolved.any()


def test_bad_epochs_are_refused_by_name() -> None:
    time, velocity, error = np.arange(3.0), np.zeros((3, 2)), np.ones((3, 2))
    with pytest.raises(ValueError, match=r"S: epoch 1: velocity is \[nan, 0.0\]; drop epochs without numbers"):
        double("S", time, [[0.0, 0.0], [np.nan, 0.0], [0.0, 0.0]], error)
    with pytest.raises(ValueError, match=r"S: epoch 2: the errors are \[1.0, 0.0\] km/s; make them positive"):
        double("S", time, velocity, [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"S: velocity has the shape \(2, 2\), but there are 3 times"):
        double("S", time, velocity[:2], error)
    with pytest.raises(ValueError, match=r"S: error has the shape \(2, 2\), but there are 3 times"):
        double("S", time, velocity, error[:2])
    with pytest.raises(ValueError, match=r"S: epoch 0: the covariance .* is none"):
        double("S", time, velocity, error, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"S: epoch 0: the error is -1.0 km/s"):
        blended("S", [1.0], [0.0], [-1.0])
    with pytest.raises(ValueError, match=r"S: velocity of blends has the shape \(2,\), but there are 1 times"):
        blended("S", [1.0], [0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match=r"S: the flux ratio is -0.1"):
        blended("S", [1.0], [0.0], [1.0], -0.1)
    with pytest.raises(ValueError, match=r"S: reach is 0.0 km/s"):
        blended("S", [1.0], [0.0], [1.0], reach=0.0)
    with pytest.raises(ValueError, match="there are no epochs to put together"):
        together([])


def test_swapping_twice_changes_nothing(observe: Maker) -> None:
    epochs = observe(5.0)
    swap = np.arange(len(epochs)) % 3 == 0
    np.testing.assert_array_equal(epochs.swapped(swap).swapped(swap).velocity, epochs.velocity)
    np.testing.assert_array_equal(epochs.swapped().velocity, epochs.velocity[:, ::-1])
