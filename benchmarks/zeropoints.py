"""How fast a survey gets its zero points, and whether their errors hold, against the paper's way: a simplex per unit.

Units of a made-up survey have stars with reference velocities, a tenth of them binaries. Ours is one sort for all; the
baseline minimises the same sum by Nelder-Mead, unit by unit (``scipy.optimize.minimize``), as the public script
does, measured on some units. The error that this script states, the half-width of residuals over 1.178 sqrt(n), is
measured on the way. Zero points by repeated stars alone follow, which the script has not.

    python benchmarks/zeropoints.py [--units 20000] [--stars 60]
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.grouping import group
from twinlines.pipeline.binaries.zeropoints.units import Velocities, ZeroPoints, against_references, zero_points
from twinlines.pipeline.testing.velocities import MadeVelocities, VelocityConfig, make_velocities

BASELINE_UNITS = 300
Array = NDArray[np.float64]


def references(units: int, stars: int) -> tuple[Array, Array, NDArray[np.int64], Array]:
    """Residuals of references, their errors and units, and true zero points."""
    rng = np.random.default_rng(1)
    unit, truth = np.repeat(np.arange(units), stars), rng.normal(0.0, 3.0, units)
    stated = rng.uniform(0.4, 3.0, len(unit))
    residual = truth[unit] + np.hypot(stated, 0.7) * rng.standard_normal(len(unit))
    residual += np.where(rng.random(len(unit)) < 0.1, rng.normal(0.0, 40.0, len(unit)), 0.0)
    return residual, stated, unit, truth


def simplex(residual: Array, stated: Array) -> tuple[float, float]:
    """One unit's zero point and error as the public script has them."""
    sigma = np.hypot(stated, 1.0)
    start = float(np.median(residual))
    best = minimize(lambda z: np.sum(np.abs(residual - z[0]) / sigma), start, method="Nelder-Mead").x[0]
    low, high = np.percentile(residual - best, (16.0, 84.0))
    return float(best), float(high - low) / 2.0 / 1.178 / np.sqrt(len(residual))


def arrays(made: MadeVelocities) -> Velocities:
    """A made-up catalog without references."""
    rows = made.catalog
    return Velocities(
        spid=rows["spid"].values,
        lmjm=rows["lmjm"].values,
        star=group(rows["ra"].values, rows["dec"].values),
        velocity=np.stack([rows[f"rv_obs_{arm}"].values for arm in ARM_NAMES], axis=1),
        error=np.stack([rows[f"rv_obs_err_{arm}"].values for arm in ARM_NAMES], axis=1),
    )


def within(deviation: Array, error: Array) -> list[float]:
    """Fractions within one and two errors."""
    return [round(float(np.mean(np.abs(deviation) < times * error)), 3) for times in (1.0, 2.0)]


def self_consistent(made: MadeVelocities) -> tuple[float, ZeroPoints]:
    """Processor seconds and result, grouping of exposures into stars included."""
    start = time.process_time()
    result = zero_points(arrays(made))
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--stars", type=int, default=60)
    options = parser.parse_args()

    residual, stated, unit, truth = references(options.units, options.stars)
    start = time.process_time()
    zero, error = against_references(residual, stated, unit, options.units)
    ours = time.process_time() - start
    few = min(BASELINE_UNITS, options.units)
    start = time.process_time()
    theirs = np.array([simplex(residual[unit == number], stated[unit == number]) for number in range(few)])
    baseline = (time.process_time() - start) * options.units / few
    print(f"{options.units} units of {options.stars} references, a tenth binaries, of one core: {ours:.2f} s")
    print(f"by a simplex for each: {baseline:.1f} s, from {few} of them; largest difference of zero points", end=" ")
    print(f"{np.abs(theirs[:, 0] - zero[:few]).max():.4f} km/s")
    covered = {"ours": within(zero - truth, error), "script": within(theirs[:, 0] - truth[:few], theirs[:, 1])}
    print(f"within 1 and 2 stated errors: ours {covered['ours']}, the script's {covered['script']}")

    config = VelocityConfig(plates=options.units // 10, stars=options.stars, exposures=10, binaries=0.1)
    made = make_velocities(1, config)
    seconds, result = self_consistent(made)
    deviation = (result.zero_point - made.zero_points).ravel()
    of = result.group.ravel()
    deviation -= (np.bincount(of, deviation) / np.bincount(of))[of]
    covered["repeated stars"] = within(deviation, result.error.ravel())
    exposures = len(made.velocity)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    print(
        f"by repeated stars, {exposures} exposures, {result.zero_point.size} zero points: {seconds:.1f} s of one core,"
    )
    print(f"within 1 and 2 stated errors: {covered['repeated stars']}; peak memory of this process {peak:.0f} MB")
    print(
        json.dumps(
            {
                "name": "zeropoints",
                "value": round(ours, 3),
                "unit": "s",
                "baseline": round(baseline, 2),
                "ratio": round(baseline / ours, 1),
                "within_errors": covered,
                "repeated_stars_s": round(seconds, 2),
                "repeated_stars_exposures": exposures,
                "peak_mb": round(peak),
            }
        )
    )


if __name__ == "__main__":
    main()
