"""What is recovered of simulated double-lined binaries, and how many sources a second, against plain rejection.

    python benchmarks/orbits.py [--sources 60] [--seed 1] [--baseline 6] [--work 8] [--periods 1 100]

Binaries have periods of 1 to 100 days, 6 to 20 exposures over three years (one to three a night, in bright time, in the
months in which a field is up), errors of 1 to 3 km/s, and stars in random order; exposures at which they are less than
40 km/s apart are blends. Kepler's equation is solved here by scipy, one root at a time.

The baseline is dense rejection, as The Joker does it: how long it takes for as many effective samples. Its rate of
orbits is that of the same likelihood in batches (the rate of a plain loop over orbits is printed, too); how many orbits
it needs follows from the evidence, ESS = N Z / <L>, where <L> is the likelihood's mean over the posterior. One line of
JSON is last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

from twinlines.pipeline.binaries.components.assignment import Components, assign
from twinlines.pipeline.binaries.components.epochs import BLEND_REACH, Epochs, blended, double, together
from twinlines.pipeline.binaries.components.pairs import Pairs, pairs
from twinlines.pipeline.binaries.orbits.modes import Target
from twinlines.pipeline.binaries.orbits.periodogram import Periodogram, periodogram
from twinlines.pipeline.binaries.orbits.prior import OrbitPrior
from twinlines.pipeline.binaries.orbits.sampler import Sampling, sample
from twinlines.pipeline.binaries.orbits.solution import Fitting, fit_orbit
from twinlines.pipeline.binaries.orbits.summary import Orbit, OrbitStatus

Array = NDArray[np.float64]

SPAN = 3 * 365.25  # days
LEAST_SEPARATION = 60.0  # km/s; at some epoch


@dataclass(frozen=True)
class Truth:
    """A simulated binary, and what is observed of it."""

    period: float
    eccentricity: float
    omega: float
    periastron: float
    amplitude1: float
    amplitude2: float
    gamma: float
    pairs: Pairs
    """Exposures at which both velocities are measured, the stars in any order."""
    swap: NDArray[np.bool_]
    """Whether they are exchanged there."""
    blends: Epochs | None
    """The other exposures."""

    @property
    def mass_ratio(self) -> float:
        """K1 / K2."""
        return self.amplitude1 / self.amplitude2


def curve(times: Array, period: float, eccentricity: float, omega: float, periastron: float) -> Array:
    """Of star 1 in units of its semi-amplitude, by a root search for each time."""
    values = []
    for moment in times:
        mean = (2.0 * np.pi * (moment - periastron) / period + np.pi) % (2.0 * np.pi) - np.pi
        anomaly = brentq(lambda e, m=mean: e - eccentricity * np.sin(e) - m, -4.2, 4.2, xtol=1e-14)
        true = 2.0 * np.arctan2(
            np.sqrt(1.0 + eccentricity) * np.sin(anomaly / 2.0), np.sqrt(1.0 - eccentricity) * np.cos(anomaly / 2.0)
        )
        values.append(np.cos(omega + true) + eccentricity * np.cos(omega))
    return np.array(values)


def cadence(rng: np.random.Generator, exposures: int) -> Array:
    """Times of exposures, days: one to three a night, within a week of full moon, half of the year."""
    start, season = 2458000.0, rng.uniform(0.0, 365.25)
    times: list[float] = []
    while len(times) < exposures:
        day = rng.uniform(0.0, SPAN)
        bright = abs((day + 14.77) % 29.53 - 14.77) < 7.0
        up = (day - season) % 365.25 < 180.0
        if bright and up:
            night = start + np.floor(day) + rng.uniform(0.1, 0.4)
            number = min(int(rng.integers(1, 4)), exposures - len(times))
            times += [night + 0.017 * step for step in range(number)]
    return np.sort(np.array(times))


def simulate_one(rng: np.random.Generator, number: int) -> Truth:
    """One binary with at least two exposures of two velocities, one of them 60 km/s apart."""
    name = f"binary {number}"
    while True:
        period = float(10.0 ** rng.uniform(0.0, 2.0))
        # Tides make short orbits circular (Meibom & Mathieu 2005: up to 7 to 10 days).
        longest = 1.0 - (period / 2.0) ** (-2.0 / 3.0)
        eccentricity = 0.0 if period < 8.0 else float(min(rng.rayleigh(0.25), 0.95 * longest))
        mass1, ratio = rng.uniform(0.7, 1.8), rng.uniform(0.5, 1.0)
        sine = np.sqrt(1.0 - rng.random() ** 2)
        total = 212.91 * (mass1 * (1.0 + ratio) / period) ** (1.0 / 3.0) * sine / np.sqrt(1.0 - eccentricity**2)
        amplitude1, amplitude2 = total * ratio / (1.0 + ratio), total / (1.0 + ratio)
        omega, periastron = rng.uniform(0.0, 2.0 * np.pi), 2458000.0 + rng.uniform(0.0, period)
        gamma = rng.normal(-20.0, 40.0)
        times = cadence(rng, int(rng.integers(6, 21)))
        shape = curve(times, period, eccentricity, omega, periastron)
        if np.abs(shape * total).max() > LEAST_SEPARATION and (np.abs(shape * total) > BLEND_REACH).sum() >= 2:
            break
    snr = 10.0 ** rng.uniform(1.0, np.log10(60.0), len(times))
    light = ratio**3.5
    error1 = 3.0 * (10.0 / snr) ** 0.613
    error = np.stack([error1, error1 * min(light**-0.5, 1.6)], axis=1)
    true = np.stack([gamma + amplitude1 * shape, gamma - amplitude2 * shape], axis=1)
    velocity = true + error * rng.standard_normal(error.shape)
    flux_error = 1.2 / snr
    flux_ratio = light * np.exp(flux_error * rng.standard_normal(len(times)))
    apart = np.abs(true[:, 0] - true[:, 1]) > BLEND_REACH
    swap = rng.random(len(times)) < 0.5
    velocity, error = (np.where(swap[:, None], values[:, ::-1], values) for values in (velocity, error))
    flux_ratio = np.where(swap, 1.0 / flux_ratio, flux_ratio)
    seen = pairs(
        name,
        times[apart],
        velocity[apart],
        error[apart],
        flux_ratio=flux_ratio[apart],
        flux_ratio_error=(flux_ratio * flux_error)[apart],
    )
    blends = None
    if not apart.all():
        mean = (true[:, 0] + light * true[:, 1]) / (1.0 + light) + np.hypot(error1, 2.0) * rng.standard_normal(
            len(times)
        )
        blends = blended(name, times[~apart], mean[~apart], error1[~apart], float(light))
    return Truth(
        *(period, eccentricity, omega, periastron, amplitude1, amplitude2, gamma),
        *(seen, swap[apart], blends),
    )


def simulate(count: int, seed: int) -> list[Truth]:
    """Binaries, the same for the same seed."""
    return [simulate_one(np.random.default_rng([seed, number]), number) for number in range(count)]


@dataclass(frozen=True)
class Recovery:
    """How well simulated binaries are recovered; fractions, and the numbers they are of."""

    mass_ratio: float
    """Of sources with three or more double exposures: q within 10 %."""
    mass_ratio_of: int
    swap_wrong: float
    """Of double exposures: the stars in the wrong order."""
    swap_of: int
    swap_wrong_after: float
    """Of those of sources with an orbit: in the wrong order after the orbit had its say."""
    best_mode: float
    """Of sources with six or more double exposures, and an orbit: the best mode's period is the true one."""
    inside: float
    """Of them: the true period is among those of one of the posterior's modes."""
    period_of: int
    best_mode_of_confident: float
    """Of those with a best mode of 95 % or more: it is the true one."""
    confident_of: int
    said: float
    """Mean probability of the best modes: how often the true period would be the best mode, if the posterior is right.
    No choice among the periods does better with the same prior."""
    lost_by_search: int
    """Sources whose true period is not the best mode, though its evidence is three times the best mode's or more."""
    lost_of: int
    """Sources whose true period is not the best mode."""


def orbit_of(truth: Truth, components: Components, row: int, fitting: Fitting) -> Orbit:
    """Fit the orbit of a simulated source whose components are assigned."""
    ordered = components.epochs(row, truth.pairs)
    count = len(truth.pairs.time)
    doubt = np.minimum(components.probability[row, :count], 1.0 - components.probability[row, :count])
    parts = [ordered] if truth.blends is None else [ordered, truth.blends]
    whole = together(parts)
    exchange = np.zeros(len(whole))
    exchange[whole.resolved] = doubt[np.argsort(truth.pairs.time, kind="stable")]
    return fit_orbit(whole, fitting, exchange=exchange)


def wrong_swaps(truth: Truth, components: Components, row: int) -> int:
    """Exposures whose stars are in the wrong order, whichever star is called the first."""
    differ = int((components.swap[row, : len(truth.swap)] != truth.swap).sum())
    return min(differ, len(truth.swap) - differ)


def wrong_after(truth: Truth, components: Components, row: int, orbit: Orbit) -> int:
    """The same, after what the likeliest orbit has exchanged."""
    times = np.concatenate([truth.pairs.time, [] if truth.blends is None else truth.blends.time])
    resolved = np.argsort(times, kind="stable") < len(truth.swap)
    differ = int((components.swap[row, : len(truth.swap)] ^ orbit.exchanged[resolved] ^ truth.swap).sum())
    return min(differ, len(truth.swap) - differ)


def is_inside(truth: Truth, orbit: Orbit) -> bool:
    """Whether the true period lies in a mode that has three or more of the posterior's samples."""
    assert orbit.samples is not None
    frequency = np.sort(1.0 / orbit.samples.period)
    times = np.concatenate([truth.pairs.time, [] if truth.blends is None else truth.blends.time])
    mode = np.cumsum(np.diff(frequency, prepend=frequency[0]) > 0.5 / np.ptp(times))
    for number in range(int(mode[-1]) + 1):
        mine = frequency[mode == number]
        reach = 0.1 * np.ptp(mine) + 1e-12
        if len(mine) >= 3 and mine[0] - reach <= 1.0 / truth.period <= mine[-1] + reach:
            return True
    return False


def is_best(truth: Truth, orbit: Orbit) -> bool:
    """Whether the best mode is the true period's: over the epochs it gains or loses less than half a cycle."""
    assert orbit.best is not None
    times = np.concatenate([truth.pairs.time, [] if truth.blends is None else truth.blends.time])
    apart = abs(1.0 / float(orbit.best.period) - 1.0 / truth.period)
    return bool(apart < 0.5 / max(np.ptp(times), 1.0))


def evidence_near(epochs: Epochs, period: float, mass_ratio: float, fitting: Fitting) -> float:
    """Log evidence of the orbits that gain or lose less than half a cycle on a period over the epochs' span.

    They are searched for there alone, with all that is spent on a whole source.
    """
    target, span = Target(epochs, fitting.prior), max(float(np.ptp(epochs.time)), 1.0)
    whole = periodogram(epochs, fitting.prior, mass_ratio, target.velocities.reference)
    near = np.abs(whole.frequency - 1.0 / period) <= 0.5 / span
    if near.sum() < 2:
        return -np.inf
    part = Periodogram(whole.frequency[near], whole.log_posterior[near], whole.phase[near])
    drawn = sample(target, part, replace(fitting.sampling, prior_samples=1, more_prior_samples=1))
    inside = np.abs(drawn.points[:, 0] - 1.0 / period) <= 0.5 / span
    share = drawn.weight[inside].sum() / drawn.weight.sum()
    return drawn.log_evidence + float(np.log(max(share, 1e-300)))


def truth_against_best(truth: Truth, components: Components, row: int, orbit: Orbit, fitting: Fitting) -> float:
    """Log odds of the true period, the stars in their true order, against the best mode's as it has them."""
    assert orbit.best is not None
    blends, seen = [] if truth.blends is None else [truth.blends], truth.pairs
    raw = double(seen.source, seen.time, seen.velocity, seen.error, seen.correlation)
    true = together([raw.swapped(truth.swap), *blends])
    found = together([components.epochs(row, seen), *blends]).swapped(orbit.exchanged)
    jitter = orbit.jitter
    here = evidence_near(found.with_jitter(jitter), float(orbit.best.period), truth.mass_ratio, fitting)
    return evidence_near(true.with_jitter(jitter), truth.period, truth.mass_ratio, fitting) - here


def calibration(orbits: Sequence[Orbit], best: NDArray[np.bool_]) -> list[tuple[float, float, int, float, float]]:
    """Of best modes within ranges of probability: low, high, how many, probability said, fraction that is right."""
    said = np.array([orbit.mode_probability for orbit in orbits])
    rows = []
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.01)):
        mine = (said >= low) & (said < high)
        if mine.any():
            rows.append((low, min(high, 1.0), int(mine.sum()), float(said[mine].mean()), float(best[mine].mean())))
    return rows


def recover(truths: Sequence[Truth], fitting: Fitting) -> tuple[Recovery, list[Orbit], float, float]:
    """Assign and fit all; the seconds that each took, too."""
    began = time.process_time()
    components = assign([truth.pairs for truth in truths])
    assigned = time.process_time()
    orbits = [orbit_of(truth, components, row, fitting) for row, truth in enumerate(truths)]
    ended = time.process_time()
    counts = np.array([len(truth.pairs.time) for truth in truths])
    error = np.abs(components.line.mass_ratio / np.array([truth.mass_ratio for truth in truths]) - 1.0)
    three = counts >= 3
    fits = [row for row, orbit in enumerate(orbits) if orbit.best is not None]
    after = sum(wrong_after(truths[row], components, row, orbits[row]) for row in fits)
    wrong = sum(wrong_swaps(truth, components, row) for row, truth in enumerate(truths))
    rows = [row for row in np.flatnonzero(counts >= 6) if orbits[row].best is not None]
    best = np.array([is_best(truths[row], orbits[row]) for row in rows])
    inside = np.array([is_inside(truths[row], orbits[row]) for row in rows])
    sure = np.array([orbits[row].mode_probability >= 0.95 for row in rows])
    lost = [row for row, right in zip(rows, best, strict=True) if not right]
    odds = [truth_against_best(truths[row], components, row, orbits[row], fitting) for row in lost]
    recovery = Recovery(
        *(float((error[three] < 0.1).mean()), int(three.sum()), wrong / int(counts.sum()), int(counts.sum())),
        after / int(counts[fits].sum()),
        *(float(best.mean()), float(inside.mean()), len(rows)),
        *(float(best[sure].mean()), int(sure.sum())),
        float(np.mean([orbits[row].mode_probability for row in rows])),
        *(int(np.sum(np.array(odds) > np.log(3.0))), len(lost)),
    )
    return recovery, orbits, assigned - began, ended - assigned


def rejection_seconds(truth: Truth, components: Components, row: int, fitting: Fitting) -> tuple[float, float, float]:
    """Of dense rejection and of ours for as many effective samples; and of a plain loop, seconds an orbit."""
    parts = [components.epochs(row, truth.pairs), *([] if truth.blends is None else [truth.blends])]
    epochs = together(parts)
    target = Target(epochs, fitting.prior)
    began = time.process_time()
    screening = periodogram(epochs, fitting.prior, float(truth.mass_ratio), target.velocities.reference)
    drawn = sample(target, screening, fitting.sampling)
    ours = time.process_time() - began
    points = target.prior.draw(fitting.sampling.prior_samples, fitting.sampling.seed)
    began = time.process_time()
    target.velocities.amplitudes(points)
    an_orbit = (time.process_time() - began) / len(points)
    some = drawn.weight > 0.0
    log = target.log_density(drawn.points[some]) - target.prior.log_density(drawn.points[some])
    mean_log = float(logsumexp(log, b=drawn.weight[some]))
    began = time.process_time()
    weight = np.linalg.inv(epochs.covariance)
    for point in points[:20]:
        eccentricity, omega = target.prior.shape(point[None])
        shape = curve(target.velocities.time, 1.0 / point[0], eccentricity[0], omega[0], -point[3] / point[0])
        none, ones = 0.0 * shape, 1.0 + 0.0 * shape
        columns = np.stack([np.stack([shape, none, ones], 1), np.stack([none, -shape, ones], 1)], 1)
        normal = np.einsum("nik,nij,njl->kl", columns, weight, columns) + 1e-6 * np.eye(3)
        np.linalg.solve(normal, np.einsum("nik,nij,nj->k", columns, weight, epochs.velocity))
    loop = (time.process_time() - began) / 20
    return an_orbit * drawn.effective * float(np.exp(mean_log - drawn.log_evidence)), ours, loop


def thorough(work: int) -> Sampling:
    """The default sampling, or one with so many times as much of all that is searched, drawn and kept, and deeper."""
    usual = Sampling()
    names = ("prior_samples", "peaks", "draws", "kernels", "kept")
    more = {name: work * getattr(usual, name) for name in names} | {"enough": work * usual.enough}
    deeper = {"rounds": usual.rounds + 2, "depth": usual.depth + 4.0} if work > 1 else {}
    return replace(usual, **more, **deeper)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--baseline", type=int, default=6, help="sources whose dense rejection is reckoned")
    parser.add_argument("--work", type=int, default=1, help="times as many peaks, draws and samples as by default")
    parser.add_argument(
        "--periods", type=float, nargs=2, help="range of the prior's periods, if not the default's, days"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    truths, fitting = simulate(options.sources, options.seed), Fitting(sampling=thorough(options.work))
    if options.periods:
        fitting = replace(fitting, prior=OrbitPrior(shortest=options.periods[0], longest=options.periods[1]))
    fitting.prior.draw(fitting.sampling.prior_samples, fitting.sampling.seed)  # made once for all sources
    recovery, orbits, assigning, fitted = recover(truths, fitting)
    fits = [orbit for orbit in orbits if orbit.best is not None]
    print(f"q within 10 %: {recovery.mass_ratio:.3f} of {recovery.mass_ratio_of} with 3 or more double exposures")
    print(
        f"stars in the wrong order: {recovery.swap_wrong:.4f} of {recovery.swap_of} double exposures, "
        f"{recovery.swap_wrong_after:.4f} after the orbit"
    )
    print(
        f"true period: best mode {recovery.best_mode:.3f}, in the posterior {recovery.inside:.3f} of "
        f"{recovery.period_of} with 6 or more; best mode, where that has 95 %: "
        f"{recovery.best_mode_of_confident:.3f} of {recovery.confident_of}"
    )
    print(
        f"probability said of the best modes: {recovery.said:.3f} in the mean; of the {recovery.lost_of} that are not "
        f"the true period, {recovery.lost_by_search} have a third of its evidence or less: lost by the search"
    )
    rows = [row for row, orbit in enumerate(orbits) if orbit.best is not None]
    six = [row for row in rows if len(truths[row].pairs.time) >= 6]
    right = np.array([is_best(truths[row], orbits[row]) for row in six])
    for low_, high_, count, said_, hit in calibration([orbits[row] for row in six], right):
        print(f"  best modes of {low_:.2f} to {high_:.2f}: {count}, said {said_:.2f}, right {hit:.2f}")
    for low, high in ((3, 3), (4, 4), (5, 5), (6, 7), (8, 99)):
        those = [row for row in rows if len(truths[row].pairs.time) >= 6 and low <= orbits[row].nights <= high]
        if those:
            hits = np.mean([is_best(truths[row], orbits[row]) for row in those])
            said = np.mean([orbits[row].mode_probability for row in those])
            print(f"  {low} to {high} nights: {hits:.2f} of {len(those)} (probability said: {said:.2f})")
    components = assign([truth.pairs for truth in truths])
    chosen = [row for row in rows if not orbits[row].status & OrbitStatus.EXCHANGED][: options.baseline]
    costs = np.array([rejection_seconds(truths[row], components, row, fitting) for row in chosen])
    ratios = costs[:, 0] / costs[:, 1]
    print(
        f"dense rejection would take {np.median(costs[:, 0]):.3g} s for a source, ours {np.median(costs[:, 1]):.2f} s"
    )
    print(f"a plain loop takes {1e6 * np.median(costs[:, 2]):.0f} us an orbit")
    result = {
        "name": "orbits",
        "value": len(fits) / fitted,
        "unit": "sources/s on one core",
        "baseline": 1.0 / float(np.median(costs[:, 0])),
        "ratio": float(np.median(ratios)),
        "assigned_per_second": len(truths) / assigning,
        **asdict(recovery),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
