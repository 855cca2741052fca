"""What fraction of each class of stars is called unfamiliar, and what a misfit costs beside a velocity.

Run ``python benchmarks/familiarity.py [--scale 0.5] [--seed 11]``. Real stars, alone, in pairs and disturbed, are made
exposures of by ``../shared/realstars/make.py``, at S/N 10 to 80; synthetic ones, single and double, by a mock release
without defects. All are read, cleaned, measured and judged as a survey's. The value is the fraction by class, per cent,
in the blue arm, in the red one and in either; and the time of a misfit over that of a velocity, on one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from astropy.table import Table

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.lamost.dataset import read_lamost
from twinlines.pipeline.mock.release import TRUTH, MockConfig, MockDefects, make_release
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.spectra import familiarity, preprocess, velocity
from twinlines.pipeline.spectra.familiarity import UNFAMILIAR_ABOVE, Components
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.velocity import Templates

MAKE = Path(__file__).resolve().parents[2] / "shared" / "realstars" / "make.py"
"""What makes exposures of real stars."""

_ROWS = 256
_COOL = ("M dwarf", "T Tauri", "M giant (TiO)")


class Judge:
    """Misfits of exposures, and the time that they and velocities have taken."""

    def __init__(self) -> None:
        self.templates, self.components = Templates.default(), Components.default()
        self.seconds = {"velocity": 0.0, "misfit": 0.0}

    def __call__(self, block: xr.Dataset) -> pd.DataFrame:
        """Keys, and by arm the misfit, NaN where an arm is not judged."""
        columns = {"obsid": block["obsid"].values, "lmjm": block["lmjm"].values.astype(np.int64)}
        for name in ARM_NAMES:
            spectra = ArmSpectra.of(name, block)
            seen = spectra.observe(name)
            start = time.perf_counter()
            measured = velocity.measure(
                name, seen.wavelength, seen.normalised, seen.normalised_sigma, self.templates, seen.bad
            )
            self.seconds["velocity"] += time.perf_counter() - start
            rest = preprocess.to_rest_frame(ARMS[name], seen, torch.from_numpy(measured.velocity))
            start = time.perf_counter()
            misfit = familiarity.measure(name, rest.flux, rest.sigma, seen.noise, self.components)
            self.seconds["misfit"] += time.perf_counter() - start
            columns[f"misfit_{name}"] = np.where(spectra.snr > MINIMUM_SNR, misfit, np.nan)
        return pd.DataFrame(columns)

    def folder(self, path: Path) -> pd.DataFrame:
        """Of all files in a folder, some at a time."""
        files = sorted(path.rglob("med-*.fits*"))
        parts = [self(read_lamost(files[start : start + _ROWS // 8])) for start in range(0, len(files), _ROWS // 8)]
        return pd.concat(parts, ignore_index=True)


def real(judge: Judge, folder: Path, scale: float, seed: int) -> pd.DataFrame:
    """Exposures of real stars, with what they are."""
    sets = "singles,binaries,robust,rotation"
    command = [sys.executable, str(MAKE), str(folder), "--scale", str(scale), "--seed", str(seed), "--sets", sets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    truth = pd.read_csv(folder / "truth.csv", keep_default_na=False)
    rows = truth.merge(judge.folder(folder / "fits"), on=["obsid", "lmjm"], validate="1:1")
    single = rows["star2"] == ""
    cool = rows["label"].str.contains("M ") | rows["label"].str.contains("+M", regex=False)
    rotator = np.where(rows["star"].str.contains("_v"), "rotators", rows["kind"])
    pairs = np.where(cool, "pairs with an M dwarf", "pairs")
    rows["class"] = np.where(single, rotator, pairs)
    disturbed = "disturbed: " + rows["cond"]
    # One of the stars that are disturbed is an M dwarf, which is unfamiliar anyway.
    rows = rows[(rows["set"] != "robust") | ~rows["kind"].isin(_COOL)]
    return rows.assign(**{"class": rows["class"].where(rows["set"] != "robust", disturbed)})


def mock(judge: Judge, folder: Path, seed: int) -> pd.DataFrame:
    """Exposures of synthetic stars."""
    none = MockDefects(**{item.name: 0 for item in fields(MockDefects)})
    make_release(folder, stars=100, seed=seed, config=replace(MockConfig(), defects=none, median_snr=30.0))
    truth = Table.read(folder / TRUTH).to_pandas()
    rows = truth.merge(judge.folder(folder), on=["obsid", "lmjm"])
    return rows.assign(**{"class": "mock: " + rows["kind"].astype(str), "snr": rows["snr_B"]})


def main() -> None:
    """Print a table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.5, help="exposures of real stars, over those of a full set")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    if not MAKE.is_file():
        why = f"no {MAKE}"
        print(json.dumps({"name": "familiarity", "value": None, "unit": "% unfamiliar", "why": why}))
        return
    torch.set_num_threads(1)
    judge = Judge()
    with tempfile.TemporaryDirectory() as scratch:
        stars = real(judge, Path(scratch) / "real", options.scale, options.seed)
        rows = pd.concat([mock(judge, Path(scratch) / "mock", options.seed), stars], ignore_index=True)
    for name in ARM_NAMES:
        rows[f"odd_{name}"] = rows[f"misfit_{name}"] > UNFAMILIAR_ABOVE[name]
    rows["odd"] = rows["odd_B"] | rows["odd_R"]
    rows["S/N"] = pd.cut(rows["snr"], [0, 14, 28, 56, 1000], labels=["10", "20", "40", "80"])
    table = 100 * rows.groupby("class")[["odd_B", "odd_R", "odd"]].mean()
    by_snr = 100 * rows.pivot_table(index="class", columns="S/N", values="odd", aggfunc="mean", observed=True)
    table = table.join(by_snr.add_prefix("S/N "))
    table.insert(0, "n", rows.groupby("class").size())
    print(table.round(1).to_string())
    value = {kind: [round(float(x), 1) for x in table.loc[kind, ["odd_B", "odd_R", "odd"]]] for kind in table.index}
    ratio = judge.seconds["misfit"] / judge.seconds["velocity"]
    each = 1e3 * judge.seconds["misfit"] / (2 * len(rows))
    more = {"misfit_over_velocity": round(ratio, 3), "ms": round(each, 3)}
    print(json.dumps({"name": "familiarity", "value": value, "unit": "% unfamiliar: blue, red, either", **more}))


if __name__ == "__main__":
    main()
