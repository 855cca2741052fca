"""Orbits of double-lined binaries from their velocities: posterior samples, a summary, or limits if epochs are few."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from twinlines.pipeline.binaries.components.epochs import Epochs
from twinlines.pipeline.binaries.components.wilson import fit_line, halves_of
from twinlines.pipeline.binaries.orbits.modes import Target
from twinlines.pipeline.binaries.orbits.periodogram import periodogram
from twinlines.pipeline.binaries.orbits.prior import TWO_PI, Ephemeris, OrbitPrior
from twinlines.pipeline.binaries.orbits.sampler import Sampling, Weighted, resampled, sample
from twinlines.pipeline.binaries.orbits.summary import (
    Elements,
    Orbit,
    OrbitStatus,
    Solution,
    errors,
    velocity_limits,
)
from twinlines.pipeline.binaries.orbits.ways import Ways, nights_of, ways_of

Array = NDArray[np.float64]

_PARAMETERS = 7
_GAP = 0.5  # in units of one over the span: frequencies farther apart than this are two modes
_SURE = 0.95
_ROUGH = 64.0  # effective samples
_LEAST_PROBABILITY = 0.01  # of a solution
_MOST_SOLUTIONS = 32


@dataclass(frozen=True)
class Fitting:
    """How orbits are fitted."""

    prior: OrbitPrior = field(default_factory=OrbitPrior)
    """Of orbits."""
    sampling: Sampling = field(default_factory=Sampling)
    """How much is sampled."""
    least_epochs: int = 4
    """Fewer epochs with two velocities give limits only; 2 are enough with an ephemeris."""
    least_nights: int = 3
    """Fewer nights with such epochs give limits only; 1 is enough with an ephemeris."""
    night: float = 0.1
    """Epochs closer than this are of one night, days."""
    jitters: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    """Tried in this order until the best orbit fits, km/s."""
    p_value: float = 1e-3
    """Of chi2; below, an orbit does not fit."""
    ways: int = 12
    """Most ways of exchanging unclear epochs that are followed."""
    most_mass: float = 10.0
    """Largest m1 + m2 that limits allow for, solar masses."""

    def __post_init__(self) -> None:
        if not self.jitters or min(self.jitters) < 0.0:
            raise ValueError(f"jitters are {self.jitters} km/s; give at least one, none negative")
        if self.ways < 1:
            raise ValueError(f"ways is {self.ways}; at least one way has to be followed")

    def to_json(self) -> dict[str, Any]:
        """The settings, for JSON."""
        return asdict(self)


def fit_orbit(
    epochs: Epochs,
    fitting: Fitting | None = None,
    ephemeris: Ephemeris | None = None,
    exchange: Array | None = None,
) -> Orbit:
    """Sample the orbit of one source.

    Parameters
    ----------
    epochs
        Its velocities, blends included.
    fitting
        Settings.
    ephemeris
        What eclipses say, if there are any.
    exchange
        Probability that the two velocities of an epoch are exchanged, (epoch,); those of a night belong together. Where
        it is neither 0 nor 1, both ways are followed and weighed by what the orbit makes of them.

    Raises
    ------
    ValueError
        If the ephemeris' period lies outside the prior, or ``exchange`` is no probability for each epoch.
    """
    fitting = fitting or Fitting()
    exchange = np.zeros(len(epochs)) if exchange is None else np.asarray(exchange, dtype=np.float64)
    if exchange.shape != epochs.time.shape:
        raise ValueError(
            f"{epochs.source}: exchange has the shape {exchange.shape}, but there are {len(epochs)} epochs"
        )
    bad = np.flatnonzero(~((exchange >= 0.0) & (exchange <= 1.0)))
    if len(bad):
        raise ValueError(f"{epochs.source}: epoch {bad[0]}: exchange is {exchange[bad[0]]}; probabilities are 0 to 1")
    nights = nights_of(epochs.time, fitting.night)
    double_nights = len(np.unique(nights[epochs.resolved]))
    count = int(epochs.resolved.sum())
    limits = velocity_limits(epochs, fitting.prior, fitting.most_mass)
    least = (fitting.least_epochs, fitting.least_nights) if ephemeris is None else (2, 1)
    nan = float("nan")
    if count < least[0] or double_nights < least[1]:
        nothing = np.zeros(len(epochs), dtype=np.bool_)
        status = OrbitStatus.TOO_FEW_EPOCHS
        return Orbit(
            *(epochs.source, status, count, double_nights, None, {}, None, None, (), 0, nan, nan),
            *(2 * len(epochs) - _PARAMETERS, 0.0, 0.0, nothing, limits),
        )
    ways = ways_of(epochs, exchange, nights, fitting.prior, fitting.ways)
    for jitter in fitting.jitters:
        posterior = _posterior(epochs.with_jitter(jitter), fitting, ephemeris, ways)
        freedom = 2 * len(epochs) - _PARAMETERS
        if freedom <= 0 or chi2_distribution.sf(posterior.chi2, freedom) >= fitting.p_value:
            break
    fits = freedom <= 0 or chi2_distribution.sf(posterior.chi2, freedom) >= fitting.p_value
    samples, best = posterior.samples, posterior.solutions[0]
    period, span = float(best.best.period), max(float(np.ptp(epochs.time)), 1.0)
    edges = np.array([fitting.prior.shortest, fitting.prior.longest])
    near = (np.abs(np.log(samples.period[:, None] / edges)) < 0.02).any(axis=1).mean() > 0.02
    bits = {
        OrbitStatus.SEVERAL_PERIODS: best.probability < _SURE,
        OrbitStatus.FEW_SAMPLES: posterior.effective < _ROUGH,
        OrbitStatus.AT_LIMIT: bool(near),
        OrbitStatus.LONGER_THAN_SPAN: period > span,
        OrbitStatus.JITTER: jitter > 0.0,
        OrbitStatus.POOR_FIT: not fits,
        OrbitStatus.EXCHANGED: len(ways.chance) > 1,
        OrbitStatus.EPHEMERIS: ephemeris is not None,
    }
    status = OrbitStatus(sum(bit for bit, flag in bits.items() if flag))
    return Orbit(
        source=epochs.source,
        status=status,
        epochs=count,
        nights=double_nights,
        best=best.best,
        error=best.error,
        samples=samples,
        solution=posterior.number,
        solutions=posterior.solutions,
        modes=posterior.modes,
        mode_probability=best.probability,
        chi2=posterior.chi2,
        freedom=freedom,
        jitter=jitter,
        effective=posterior.effective,
        exchanged=ways.exchanged[posterior.way],
        limits=limits,
    )


@dataclass(frozen=True)
class _Posterior:
    samples: Elements
    number: NDArray[np.int64]
    """Which solution each sample is of, or -1; (sample,)."""
    solutions: tuple[Solution, ...]
    """The likeliest first."""
    modes: int
    """Periods that are told apart."""
    way: int
    """The way of exchanging that the best orbit belongs to."""
    effective: float

    @property
    def chi2(self) -> float:
        """Of the best orbit."""
        return self.solutions[0].chi2


def _posterior(epochs: Epochs, fitting: Fitting, ephemeris: Ephemeris | None, ways: Ways) -> _Posterior:
    """Samples over all ways of exchanging, weighed by their evidence."""
    targets = [Target(epochs.swapped(way), fitting.prior, ephemeris) for way in ways.exchanged]
    drawn: list[Weighted] = []
    for target, way in zip(targets, ways.exchanged, strict=True):
        ordered = epochs.swapped(way)
        screening = periodogram(ordered, fitting.prior, _mass_ratio(ordered), target.velocities.reference, ephemeris)
        drawn.append(sample(target, screening, fitting.sampling))
    log = np.log(ways.chance) + np.array([weighted.log_evidence for weighted in drawn])
    log = np.where(np.isfinite(log), log, -np.inf)
    share = np.exp(log - log.max()) if np.isfinite(log).any() else np.ones(len(log))
    counts = np.round(fitting.sampling.kept * share / share.sum()).astype(int)
    counts[counts.argmax()] += fitting.sampling.kept - counts.sum()
    rng = np.random.default_rng([fitting.sampling.seed, 2])
    points = [resampled(weighted, count, rng) for weighted, count in zip(drawn, counts, strict=True)]
    number = np.repeat(np.arange(len(targets)), counts)
    parts = [_elements(target, part, rng) for target, part in zip(targets, points, strict=True) if len(part)]
    names = Elements.__dataclass_fields__
    samples = Elements(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    mode = _modes(1.0 / samples.period, max(float(np.ptp(epochs.time)), 1.0))
    density = np.concatenate(
        [targets[way].log_density(points[way]) + np.log(ways.chance[way]) for way in range(len(targets)) if counts[way]]
    )
    sizes = np.bincount(mode)
    order = np.argsort(-sizes, kind="stable")
    likely = order[: max(int((sizes[order] >= _LEAST_PROBABILITY * len(mode)).sum()), 1)][:_MOST_SOLUTIONS]
    every, solutions, bests = np.concatenate(points), [], []
    for place in likely:
        here = mode == place
        best = int(np.where(here, density, -np.inf).argmax())
        way = int(number[best])
        # The likeliest orbit has the likeliest amplitudes, too.
        chosen = every[best : best + 1]
        amplitudes = targets[way].velocities.amplitudes(chosen)
        at_best = _with_amplitudes(targets[way], chosen, amplitudes.mean)
        for name in names:
            getattr(samples, name)[best] = getattr(at_best, name)[0]
        elements, chi2 = samples.take(best), float(amplitudes.chi2[0])
        solutions.append(Solution(elements, errors(samples.take(here), elements), float(here.mean()), chi2))
        bests.append(way)
    of_mode = np.full(len(sizes), -1, dtype=np.int64)
    of_mode[likely] = np.arange(len(likely))
    return _Posterior(samples, of_mode[mode], tuple(solutions), len(sizes), bests[0], drawn[bests[0]].effective)


def _mass_ratio(epochs: Epochs) -> float:
    """By the Wilson line, for the screening alone; 1 where it is not known well."""
    pairs = epochs.take(epochs.resolved)
    line = fit_line(halves_of(pairs.velocity, pairs.covariance))
    known = bool(line.kappa_error[0] < 0.3)
    return float(np.clip(line.mass_ratio[0], 0.2, 5.0)) if known else 1.0


def _elements(target: Target, points: Array, rng: np.random.Generator) -> Elements:
    """Elements of orbits, with amplitudes drawn from their Gaussian."""
    amplitudes = target.velocities.amplitudes(points)
    factor = np.linalg.cholesky(amplitudes.covariance)
    mean = amplitudes.mean
    drawn = mean.copy()
    wanted = np.ones(len(mean), dtype=np.bool_)
    # Both semi-amplitudes are positive: what has one that is not is drawn again.
    for _ in range(20):
        normal = rng.standard_normal(mean.shape)
        drawn[wanted] = (mean + np.einsum("nij,nj->ni", factor, normal))[wanted]
        wanted = np.asarray((drawn[:, :2] <= 0.0).any(axis=1))
    drawn[:, :2] = np.maximum(drawn[:, :2], 1e-3)
    return _with_amplitudes(target, points, drawn)


def _with_amplitudes(target: Target, points: Array, amplitudes: Array) -> Elements:
    eccentricity, omega = target.prior.shape(points)
    anomaly = points[:, 3] - omega
    anomaly = anomaly - TWO_PI * np.round(anomaly / TWO_PI)
    return Elements(
        period=1.0 / points[:, 0],
        t_periastron=target.velocities.reference - anomaly / (TWO_PI * points[:, 0]),
        eccentricity=eccentricity,
        arg_periastron=np.degrees(omega) % 360.0,
        center_of_mass_velocity=amplitudes[:, 2].copy(),
        semi_amplitude_primary=amplitudes[:, 0].copy(),
        semi_amplitude_secondary=amplitudes[:, 1].copy(),
    )


def _modes(frequency: Array, span: float) -> NDArray[np.int64]:
    """Number of the mode of each sample: frequencies without a gap are one."""
    order = np.argsort(frequency, kind="stable")
    number = np.empty(len(frequency), dtype=np.int64)
    number[order] = np.cumsum(np.diff(frequency[order], prepend=frequency[order[0]]) > _GAP / span)
    return number
