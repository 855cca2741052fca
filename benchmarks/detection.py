"""Two-star fits as a detector: what delta chi2 finds of a population's binaries, beside the networks and the limit.

Run ``python benchmarks/detection.py PAIRS [--population field] [--singles 4000] [--binaries 1000] [--seed 3]``. PAIRS
is a training store; of its first pairs the stars are taken, not the spectra: they are exposed on a detector anew, as a
survey stores them, so that fits see counts and all witnesses see the same noise. Thresholds are what the paper's false
positive rate of the single stars exceed. ``value`` is the fraction that ``delta_chi2`` finds over that of the
information limit (docs/evaluation.md) of the same binaries. What is finished is kept in ``--keep FOLDER``, and gone on
from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.binaries.twostar.fit import DOUBLE, Fitter
from twinlines.pipeline.evaluation.limit import COMPANIONS, FPR, REALISATIONS, STARS, detected, nearest
from twinlines.pipeline.evaluation.noncentrality import (
    ARM_SETS,
    Binaries,
    lights_of,
    noise_maxima,
    noncentrality,
    read_binaries,
)
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.spectra import SNR_PER_MEDIAN, detector, expose
from twinlines.pipeline.schema import EXPOSURES, POPULATIONS
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, Inference, InferenceParameters
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis.light import Stars, component

_BLOCK = 128  # exposures that are made and judged together


def stars_of(parameters: torch.Tensor) -> Stars:
    """Stars of the parameters of :class:`.Binaries`, of one solar radius."""
    values = parameters.numpy()
    return Stars(values[:, :4], np.ones(len(values)), values[:, 4], values[:, 5])


def exposures(binaries: Binaries, double: bool, seed: int) -> xr.Dataset:
    """Exposures of the binaries, or of their primaries alone."""
    rows = len(binaries.serial)
    columns = {name: EXPOSURES.variables[name].empty(EXPOSURES.shape(name, rows)) for name in EXPOSURES.variables}
    columns["obsid"] = binaries.serial * 2 + int(double) + 1
    columns["lmjm"] = np.full(rows, 84_000_000, np.int32)
    library = Library.load()
    for place, name in enumerate(ARM_NAMES):
        light = component(ARMS[name], library, stars_of(binaries.first), whole=True).numpy()
        if double:
            second = component(ARMS[name], library, stars_of(binaries.second), whole=True).numpy()
            light = light + second * binaries.area.numpy()[:, None]
        frames = expose(
            name,
            {1: detector(name, 1, seed)},
            np.ones(rows, np.int64),
            light,
            np.zeros(rows),
            binaries.snr[name].numpy().astype(np.float64) * SNR_PER_MEDIAN,
            0.0,
            np.random.default_rng([seed, place, int(double), int(binaries.serial[0])]),
        )
        columns["snr"][:, place] = frames.snr
        for column in ("flux", "ivar", "loglam", "mask"):
            columns[column][:, place] = getattr(frames, column)
    return EXPOSURES.dataset(columns, rows)


def witnesses(binaries: Binaries, double: bool, seed: int, keep: Path) -> dict[str, NDArray[np.float64]]:
    """What each witness says of every exposure, larger for a binary."""
    fitter = Fitter.default()
    judge = Inference.load(SHIPPED_WEIGHTS, None, InferenceParameters())
    parts = []
    for start in range(0, len(binaries.serial), _BLOCK):
        path = keep / f"{'binaries' if double else 'singles'}-{seed}-{start}-{len(binaries.serial)}.npz"
        if not path.exists():
            rows = torch.arange(start, min(start + _BLOCK, len(binaries.serial)))
            block = exposures(binaries.take(rows), double, seed)
            fits, verdict = fitter(block), judge(block)
            said = {name: fits[name].values for name in ("delta_chi2", "delta_chi2_diluted")}
            for head in ("B", "R", "J"):
                said[head] = verdict[f"pb_pct_{head}_16"].sel(percentile=50).values
            np.savez(path, **said)
        with np.load(path) as stored:
            parts.append({name: stored[name].astype(np.float64) for name in stored.files})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def limit(binaries: Binaries, everyone: Binaries, seed: int) -> dict[str, float]:
    """The fraction that a likelihood-ratio test finds that knows the library, by arms."""
    lights = lights_of(Library.load())
    fitted = noncentrality(lights, binaries).fitted
    maxima = []
    for place in range(min(STARS, len(binaries.serial))):
        star = binaries.take(torch.tensor([place]))
        companions = everyone.take(nearest(star, everyone, COMPANIONS))
        maxima.append(noise_maxima(lights, star, companions, REALISATIONS, seed))
    decrease = np.stack(maxima).astype(np.float64) ** 2
    return {
        arms: float(detected(fitted[:, place], float(np.quantile(decrease[:, place], 1.0 - FPR))).mean())
        for place, arms in enumerate(ARM_SETS)
    }


def asked(
    alone: dict[str, NDArray[np.float64]], double: dict[str, NDArray[np.float64]], least: float
) -> dict[str, float]:
    """What is fitted of single stars, and found of binaries, if exposures of so low a probability are fitted."""
    fitted, there = (np.nan_to_num(said["J"], nan=-1.0) >= least for said in (alone, double))
    threshold = float(np.quantile(np.where(fitted, alone["delta_chi2"], 0.0), 1.0 - FPR, method="higher"))
    found = there & (double["delta_chi2"] > threshold)
    return {"singles_fitted": round(float(fitted.mean()), 3), "found": round(float(found.mean()), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs")
    parser.add_argument("--population", choices=POPULATIONS, default="field")
    parser.add_argument("--singles", type=int, default=4000)
    parser.add_argument("--binaries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = stores.read_columns(options.pairs, ["label", "disturbed", "population"])
    chosen = columns["population"] == POPULATIONS.index(options.population)
    whole = np.flatnonzero(chosen & (columns["label"][:, 1] > 0) & (columns["disturbed"] == 0))
    everyone = read_binaries(options.pairs, whole)
    binaries = everyone.take(torch.arange(min(options.binaries, len(whole))))
    singles = everyone.take(torch.arange(min(options.singles, len(whole))))
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        alone = witnesses(singles, False, options.seed, keep)
        double = witnesses(binaries, True, options.seed, keep)
    told: dict[str, Any] = {"limit": {arms: round(each, 3) for arms, each in limit(binaries, everyone, 0).items()}}
    for name, values in alone.items():
        said = np.nan_to_num(values, nan=-np.inf)
        threshold = float(np.quantile(said, 1.0 - FPR, method="higher"))
        found = np.nan_to_num(double[name], nan=-np.inf) > threshold
        told[name] = {"found": round(float(found.mean()), 3), "threshold": round(threshold, 3)}
    told["fitted_from"] = {str(least): asked(alone, double, least) for least in (0.001, 0.003, 0.01)}
    told["shows_two"] = [round(float((said["delta_chi2_diluted"] >= DOUBLE).mean()), 4) for said in (alone, double)]
    told |= {"singles": len(singles.serial), "binaries": len(binaries.serial), "fpr": FPR}
    print(json.dumps({"value": round(told["delta_chi2"]["found"] / told["limit"]["J"], 3), **told}))


if __name__ == "__main__":
    main()
