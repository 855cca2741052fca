"""Whether the probability that a star is a double-lined binary holds, and how fast a survey's stars get theirs.

Mock stars of S/N 10 to 60 are observed in one to five nights, once or twice in each, with zero points of 3 km/s and
the Moon's light in a hundredth of the nights; binaries have periods of 1 to 100 days, mass ratios of 0.5 to 1, and
lines that come 50 km/s apart. Their spectra are judged as a survey's are. Printed: the fraction of binaries by
probability, at the prevalence that the stars have; completeness and purity at a prevalence of 1 %, where false
positives count as many times as there would be other stars. Other stars than the calibration's.

    python benchmarks/evidence.py [--stars 300] [--seed 13] [--sb2 0.1] [--figure evidence.png] [--keep FOLDER]
    python benchmarks/evidence.py --stars 2400 --seed 11 --sb2 0.3 --also 3000 12 0.1 --calibrate FILE

The last makes the calibration that ships, pipeline/data/evidence.json, of ``--weights``, and ends there. Then a
catalog of ``--rows`` exposures of a third as many stars is made up and weighed; the baseline weighs some of these
stars one by one with the same functions.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from twinlines.models import checkpoint
from twinlines.models.evaluation import Bin, Rate, binned, rate
from twinlines.pipeline.binaries.evidence.evidence import Evidence, Prevalence, evidence_of, read_exposures
from twinlines.pipeline.binaries.evidence.exposures import COLUMNS, Exposures
from twinlines.pipeline.binaries.evidence.fitting import calibrate
from twinlines.pipeline.binaries.evidence.model import SB1, SB2, SINGLE, Calibration, shipped
from twinlines.pipeline.figures.evidence import evidence_figure
from twinlines.pipeline.mock.epochs import EpochsConfig, double_and_others, observe_stars
from twinlines.pipeline.schema import RESULTS
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters

EDGES = (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 1.0)
SB1_FRACTION = 0.1
BLOCK = 256
ONE_BY_ONE = 1000


class Judged(NamedTuple):
    """Exposures of stars that are known, and what was found of them."""

    catalog: xr.Dataset
    """What evidence reads of a catalog."""
    star: NDArray[np.int64]
    """(exposure,)"""
    kind: NDArray[np.int64]
    """(star,)"""


def judge(stars: int, seed: int, sb2: float, weights: Path, keep: Path | None) -> Judged:
    """Make the stars and judge their spectra; what is kept from an earlier call is not made again."""
    file = None if keep is None else keep / f"evidence-{stars}-{seed}-{sb2}-{checkpoint.digest(weights)[:8]}.npz"
    if file is None or not file.exists():
        columns = _judge(stars, seed, sb2, weights)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(file, **columns)
    else:
        columns = dict(np.load(file))
    catalog = xr.Dataset({name: (RESULTS.variables[name].dims, columns[name]) for name in COLUMNS})
    kinds = {"SB1": SB1, "SB2": SB2}
    kind = np.array([kinds.get(str(text), SINGLE) for text in columns["kind"]])
    _, first, star = np.unique(columns["star"], return_index=True, return_inverse=True)
    return Judged(catalog, star.ravel(), kind[first])


def _judge(stars: int, seed: int, sb2: float, weights: Path) -> dict[str, NDArray[np.generic]]:
    inference = Inference.load(weights, None, InferenceParameters())
    parts: list[dict[str, NDArray[np.generic]]] = []
    done, began = 0, time.monotonic()
    for truth, exposures in observe_stars(stars, seed, EpochsConfig(mixture=double_and_others(sb2, SB1_FRACTION))):
        rows = len(truth)
        results = [inference(exposures.isel(exposure=slice(at, at + BLOCK))) for at in range(0, rows, BLOCK)]
        columns = {name: np.concatenate([part[name].values for part in results]) for name in COLUMNS}
        columns |= {name: np.asarray(truth[name]) for name in ("star", "kind")}
        parts.append(columns)
        done += len(np.unique(columns["star"]))
        print(f"{done} of {stars} stars, {time.monotonic() - began:.0f} s", flush=True)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def together(parts: list[Judged]) -> Judged:
    """Stars of several samples."""
    begins = np.cumsum([0, *(len(part.kind) for part in parts)])
    return Judged(
        xr.concat([part.catalog for part in parts], "exposure", data_vars="all"),
        np.concatenate([part.star + begin for part, begin in zip(parts, begins, strict=False)]),
        np.concatenate([part.kind for part in parts]),
    )


def weigh(judged: Judged, prevalence: Prevalence, calibration: Calibration) -> Evidence:
    """Evidence of the stars."""
    exposures = read_exposures(judged.catalog)
    return evidence_of(exposures, judged.star, len(judged.kind), prevalence=prevalence, calibration=calibration)


def by_night(evidence: Evidence, judged: Judged) -> Iterator[tuple[int, Rate]]:
    """Completeness at a probability of 0.5, by number of nights."""
    double = judged.kind == SB2
    for nights in np.unique(evidence.nights[double]).tolist():
        mine = evidence.sb2_probability[double & (evidence.nights == nights)]
        yield nights, rate(float((mine > 0.5).sum()), len(mine))


def at_one_per_cent(judged: Judged, calibration: Calibration, threshold: float) -> dict[str, float]:
    """Completeness, false positive rate and purity of stars above a probability, at a prevalence of 1 %."""
    prevalence = Prevalence(0.01, 0.05)
    above = weigh(judged, prevalence, calibration).sb2_probability > threshold
    of = {kind: above[judged.kind == kind] for kind in (SINGLE, SB1, SB2)}
    false = (1.0 - prevalence.sb1) * of[SINGLE].mean() + prevalence.sb1 * of[SB1].mean()
    complete, others = of[SB2].mean(), len(of[SINGLE]) + len(of[SB1])
    count = int(of[SINGLE].sum() + of[SB1].sum())
    most = rate(float(count), others).high
    found = prevalence.sb2 * complete
    return {
        "threshold": threshold,
        "completeness": round(float(complete), 4),
        "false_positives": count,
        "others": others,
        "purity": round(float(found / max(found + (1.0 - prevalence.sb2) * false, 1e-12)), 4),
        "purity_at_least": round(float(found / (found + (1.0 - prevalence.sb2) * most)), 4),
    }


def reliability(judged: Judged, calibration: Calibration) -> tuple[tuple[Bin, ...], float, Evidence]:
    """Fractions of binaries by probability, at the stars' own prevalence, which is returned, too."""
    counts = np.bincount(judged.kind, minlength=3)
    own = Prevalence(float(counts[SB2] / counts.sum()), float(counts[SB1] / (counts[SINGLE] + counts[SB1])))
    evidence = weigh(judged, own, calibration)
    return binned(evidence.sb2_probability, judged.kind == SB2, EDGES), own.sb2, evidence


def made_up(rows: int) -> tuple[Exposures, NDArray[np.int64], int]:
    """Exposures of a third as many stars, in no order."""
    rng = np.random.default_rng(1)
    stars = max(rows // 3, 1)
    star = rng.permutation(np.r_[np.arange(stars), rng.integers(0, stars, rows - stars)])
    exposures = Exposures(
        night=rng.integers(58000, 60000, rows).astype(np.int32),
        ratio=rng.normal(-4.0, 2.0, rows).astype(np.float32),
        head=rng.choice(np.array([-1, 0, 1, 2], np.int8), rows, p=(0.1, 0.1, 0.1, 0.7)),
        log_snr=rng.normal(3.0, 0.6, rows).astype(np.float32),
        teff=rng.normal(5800.0, 800.0, rows).astype(np.float32),
        velocity=rng.normal(0.0, 5.0, rows).astype(np.float32),
        error=np.full(rows, 4.0, np.float32),
    )
    return exposures, star, stars


def speed(rows: int) -> dict[str, float]:
    """Seconds for made-up exposures, and for their stars one by one; how much memory it took beyond the exposures."""
    exposures, star, stars = made_up(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    evidence_of(exposures, star, stars)
    ours = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    some = min(ONE_BY_ONE, stars)
    mine = [np.flatnonzero(star == number) for number in range(some)]
    began = time.process_time()
    for of in mine:
        evidence_of(exposures.take(of), np.zeros(len(of), np.int64), 1)
    baseline = (time.process_time() - began) * stars / some
    return {"rows": rows, "seconds": ours, "baseline_seconds": baseline, "more_mb": peak // 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=300)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--sb2", type=float, default=0.1, help="fraction of double-lined binaries")
    parser.add_argument("--rows", type=int, default=600_000, help="exposures of the catalog that is made up")
    parser.add_argument("--keep", type=Path, help="folder that keeps what was judged")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    more = parser.add_argument("--also", nargs=3, action="append", default=[], metavar=("STARS", "SEED", "SB2"))
    more.help = "further stars, together with the others"
    parser.add_argument("--calibrate", type=Path, help="JSON to write: fit the constants to these stars")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = [(options.stars, options.seed, options.sb2), *((int(a), int(b), float(c)) for a, b, c in options.also)]
    judged = together([judge(*each, options.weights, options.keep) for each in asked])
    if options.calibrate:
        command = f"python benchmarks/evidence.py --stars {options.stars} --seed {options.seed} --sb2 {options.sb2}"
        command += "".join(f" --also {' '.join(map(str, each))}" for each in asked[1:]) + " --calibrate FILE"
        about = {"weights": checkpoint.digest(options.weights), "command": command}
        fitted = calibrate(judged.catalog, judged.star, judged.kind, about)
        options.calibrate.write_text(json.dumps(fitted.to_json(), indent=2) + "\n")
        print(json.dumps({"name": "evidence", "calibration": fitted.to_json()}))
        return
    calibration = shipped()
    bins, prevalence, evidence = reliability(judged, calibration)
    print(f"{len(judged.star)} exposures of {len(judged.kind)} stars, of which a fraction {prevalence:.3f} are SB2s")
    print("probability told   stars   mean told   are SB2s, with the binomial interval of 95 %")
    for each in bins:
        told = f"{each.start:5.2f} to {each.stop:4.2f}     {each.rate.trials:6d}   {each.mean:9.3f}"
        print(f"{told}   {each.rate.value:.3f} ({each.rate.low:.3f} to {each.rate.high:.3f})")
    filled = [each for each in bins if each.rate.trials]
    holds = sum(each.rate.low <= each.mean <= each.rate.high for each in filled)
    print(f"the mean lies within the interval in {holds} of {len(filled)} bins")
    at = [at_one_per_cent(judged, calibration, threshold) for threshold in (0.5, 0.9)]
    for row in at:
        print(
            f"prevalence 1 %, probability above {row['threshold']}: completeness {row['completeness']:.3f}, purity "
            f"{row['purity']:.3f} ({row['false_positives']} of {row['others']} other stars; at least "
            f"{row['purity_at_least']:.3f})"
        )
    rare = weigh(judged, Prevalence(0.01, 0.05), calibration)
    found = list(by_night(rare, judged))
    for nights, complete in found:
        print(f"  {nights} nights: {complete.value:.3f} of {complete.trials} binaries")
    moving = [float((evidence.sb1_probability[judged.kind == kind] > 0.5).mean()) for kind in (SINGLE, SB1, SB2)]
    print(f"single-lined with a probability above 0.5: of single stars, SB1s, SB2s {np.round(moving, 4).tolist()}")
    if options.figure:
        table = np.array([(nights, each.value, each.low, each.high) for nights, each in found])
        print(f"figure: {evidence_figure(bins, table, prevalence, options.figure)}")
    measured = speed(options.rows)
    result = {
        "name": "evidence",
        "value": round(measured["rows"] / measured["seconds"]),
        "unit": "exposures/s on one core",
        "baseline": round(measured["rows"] / measured["baseline_seconds"]),
        "ratio": round(measured["baseline_seconds"] / measured["seconds"], 1),
        **{name: round(number, 3) for name, number in measured.items()},
        "bins_within_interval": [holds, len(filled)],
        "at_one_per_cent": at,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
