"""Two-star fits: how many a core makes beside scipy's least squares, and how good they are on real stars.

Run ``python benchmarks/twostar.py [--exposures 64] [--literal 2] [--real 0.5] [--seed 12]``. Mock exposures of binaries
and single stars are fitted as a survey's are; and a few of them one by one by ``scipy.optimize.least_squares``, of the
same model, from the same starts and with derivatives by differences: the value is the ratio of the times for an
exposure, on one thread, in this process. With ``--real``, exposures of real stars, alone and in pairs, are made by
``../shared/realstars/make.py``, of that fraction of its number: then velocities and flux ratios of pairs whose lines
are 60 km/s apart and more, and the fraction, by separation and by class, of exposures that show two stars.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import least_squares

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.fits.store import shows_two
from twinlines.pipeline.binaries.twostar import model, starts
from twinlines.pipeline.binaries.twostar.fit import Fitter
from twinlines.pipeline.binaries.twostar.observing import observe
from twinlines.pipeline.lamost.dataset import read_lamost
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.synthesis.fitting import Observation, project
from twinlines.pipeline.testing.binaries import mock_exposures

MAKE = Path(__file__).resolve().parents[2] / "shared" / "realstars" / "make.py"
"""What makes exposures of real stars."""

_FILES = 32  # that are read together


def literal(fitter: Fitter, seen: dict[str, Observation], begin: torch.Tensor) -> float:
    """chi2 of the best pair of one exposure, by scipy, from each start."""
    limits = model.pair_limits(fitter.lights["B"])
    row = torch.tensor([0])

    def residuals(parameters: np.ndarray) -> np.ndarray:
        here = torch.from_numpy(parameters)[None]
        left = [
            project(seen[name].take(row), model.pair_light(fitter.lights[name], name, here).light).residual[0]
            for name in ARM_NAMES
        ]
        prior = here[0, model.OFFSET : model.OFFSET + 1] / model.OFFSET_SIGMA
        return torch.cat([*left, prior.float()]).double().numpy()

    found = []
    for start in begin:
        inside = torch.minimum(torch.maximum(start, limits.lower + 1e-3), limits.upper - 1e-3).numpy()
        bounds = limits.lower.numpy(), limits.upper.numpy()
        # Steps of single precision's size: smaller ones would see rounding only.
        solved = least_squares(
            residuals, inside, bounds=bounds, x_scale=limits.reach.numpy(), diff_step=1e-4, xtol=1e-5
        )
        found.append(2.0 * solved.cost)
    return min(found)


def speed(exposures: int, few: int, seed: int) -> dict[str, Any]:
    """Times of both, for an exposure."""
    rng = np.random.default_rng(seed)
    apart = np.where(rng.uniform(size=exposures) < 0.25, 0.0, rng.uniform(30.0, 200.0, exposures))
    block = mock_exposures(apart, snr=30.0, seed=seed)
    fitter = Fitter.default()
    fitter(block.isel(exposure=slice(0, 4)))
    began = time.perf_counter()
    fits = fitter(block)
    ours = (time.perf_counter() - began) / exposures
    chosen = block.isel(exposure=np.flatnonzero(apart > 60.0)[:few])
    spectra = {name: ArmSpectra.of(name, chosen).observe(name) for name in ARM_NAMES}
    frame = fits["rv_single"].values[np.flatnonzero(apart > 60.0)[:few]].astype(np.float64)
    seen = {name: each.clean() for name, each in observe(spectra, frame).items()}
    single = model.fit_single(fitter.lights, seen, starts.single_starts(0.0 * frame, np.full(few, np.nan)))
    peaks = starts.peaks(fitter.lights, starts.left_of_single(fitter.lights, seen, single))
    begin = starts.pair_starts(single, peaks)
    quick = model.fit_pairs(fitter.lights, seen, single, begin)
    began = time.perf_counter()
    chi2 = [
        literal(fitter, {name: each.take(torch.tensor([row])) for name, each in seen.items()}, begin[row])
        for row in range(few)
    ]
    theirs = (time.perf_counter() - began) / few
    return {
        "ratio": round(theirs / ours, 1),
        "ms": round(1e3 * ours, 1),
        "literal_ms": round(1e3 * theirs, 1),
        "chi2_over_literal": [round(float(mine) / other, 4) for mine, other in zip(quick.chi2, chi2, strict=True)],
    }


def real(scale: float, seed: int) -> dict[str, Any]:
    """How good fits are on real stars."""
    with tempfile.TemporaryDirectory() as folder:
        sets = "singles,binaries"
        command = [sys.executable, str(MAKE), folder, "--scale", str(scale), "--seed", str(seed), "--sets", sets]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        truth = pd.read_csv(Path(folder) / "truth.csv", keep_default_na=False)
        files = sorted(Path(folder).rglob("med-*.fits*"))
        fitter, parts = Fitter.default(), []
        for start in range(0, len(files), _FILES):
            fits = fitter(read_lamost(files[start : start + _FILES]))
            parts.append(fits.to_dataframe().assign(two=shows_two(fits)).reset_index(drop=True))
    rows = truth.merge(pd.concat(parts, ignore_index=True), on=["obsid", "lmjm"], validate="1:1")
    for name in ("v1", "v2"):
        rows[name] = pd.to_numeric(rows[name], errors="coerce")
    pairs, singles = rows[rows.set == "binaries"], rows[rows.set == "singles"]
    return {"pairs": _velocities(pairs), **_rates(pairs, singles)}


def _velocities(pairs: pd.DataFrame) -> dict[str, Any]:
    """Errors and pulls of velocities 60 km/s apart and more, S/N 20, of slow rotators; and of flux ratios."""
    wide = pairs[(pairs.sep >= 60) & (pairs.snr == 20) & ~pairs.label.str.contains("vsini 60")]
    straight = np.abs(wide.rv1 - wide.v1) + np.abs(wide.rv2 - wide.v2)
    crossed = np.abs(wide.rv1 - wide.v2) + np.abs(wide.rv2 - wide.v1)
    turned = crossed < straight
    told: dict[str, Any] = {"exposures": len(wide)}
    for name, true in (("rv1", np.where(turned, wide.v2, wide.v1)), ("rv2", np.where(turned, wide.v1, wide.v2))):
        error = wide[name] - true
        pull = error / wide[f"{name}_err"]
        told[name] = {
            "median": round(float(error.median()), 2),
            "scatter": round(float(_spread(error)), 2),
            "pulls": round(float(_spread(pull)), 2),
            "beyond_10": round(float((error.abs() > 10.0).mean()), 3),
        }
    warm = wide[~wide.label.str.contains("M")]
    for arm in ARM_NAMES:
        told[f"flux_ratio_{arm}"] = round(float((warm[f"flux_ratio_{arm}"] / warm[f"ratio_{arm}"]).median()), 2)
    return told


def _spread(values: pd.Series) -> float:
    return 1.4826 * float((values - values.median()).abs().median())


def _rates(pairs: pd.DataFrame, singles: pd.DataFrame) -> dict[str, Any]:
    """Per cent that show two stars: of pairs by S/N and separation, of single stars by class."""
    of_pairs = pairs[~pairs.label.str.contains("vsini 60")].pivot_table(index="snr", columns="sep", values="two")
    kind = np.where(singles.star.str.contains("_v"), "rotator", singles.kind)
    of_singles = singles.two.groupby(kind).mean()
    return {
        "found": {str(snr): (100 * row).round(0).astype(int).to_dict() for snr, row in of_pairs.iterrows()},
        "false": (100 * of_singles).round(1).to_dict(),
    }


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exposures", type=int, default=64)
    parser.add_argument("--literal", type=int, default=2, help="exposures that scipy fits")
    parser.add_argument("--real", type=float, default=0.0, help="fraction of the real stars' exposures; 0: none")
    parser.add_argument("--seed", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"benchmark": "twostar", **speed(options.exposures, options.literal, options.seed)}
    if options.real > 0:
        result["real"] = real(options.real, options.seed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
