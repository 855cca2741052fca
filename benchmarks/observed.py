"""What real stars in training do for a class of stars: false alarms on it, by a member that saw it and by another.

Run ``python benchmarks/observed.py``; some ten minutes of one core. Needs spectra of real stars, with the script that
makes exposures of them, in ``../shared/realstars``. Two small training sets differ in nothing but one class of observed
stars (``--kind``); on each a small member is trained; both judge exposures of single stars of that class, which are the
script's own work. The members are far too small for a survey: only their difference counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import torch

import twinlines as tw
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.models.network import PRESETS
from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.spectra.inference import InferenceParameters
from twinlines.pipeline.synthesis.beyond_table1 import Extras, Field
from twinlines.pipeline.synthesis.observed import Observed
from twinlines.pipeline.training.members import Training, train
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

SHARED = Path(__file__).resolve().parents[2] / "shared" / "realstars"
"""Where the stars, and the script that exposes them, are looked for."""

TEFF = {
    "A star": 9600,
    "B star": 21000,
    "F dwarf": 6500,
    "G dwarf": 5772,
    "K dwarf": 5000,
    "M dwarf": 3600,
    "K giant": 4700,
    "M giant (TiO)": 3700,
    "metal-poor dwarf": 5900,
    "metal-poor giant": 4700,
    "T Tauri": 3900,
}
"""Temperatures of the classes, K, near enough for the colour of a pair."""


def write_folder(stars: Path, folder: Path) -> list[str]:
    """Write each star as a FITS table; returns the classes. Their noise is not stated, and taken to be none.

    The S/N that the file has is the scatter from pixel to pixel, lines included: of cool stars it says little.
    """
    with np.load(stars) as stored:
        about = json.loads(str(stored["info"]))
        wavelength = np.concatenate([stored["waveB"], stored["waveR"]])
        folder.mkdir()
        for star in about:
            flux = np.concatenate([stored[f"{star['name']}/{arm}"] for arm in "BR"])
            header = {"NAME": star["name"], "CLASS": star["kind"], "R": star["R"], "TEFF": TEFF[star["kind"]]}
            path = folder / f"{star['name']}.fits"
            fitsio.write(str(path), {"wavelength": wavelength, "flux": flux}, header=header)
    return sorted({star["kind"] for star in about})


def singles(stars: Path, kind: str, folder: Path, scale: float, seed: int) -> Path:
    """Exposures of the single stars of a class, without rotators; returns their folder."""
    with np.load(stars) as stored:
        about = [star for star in json.loads(str(stored["info"])) if star["kind"] == kind]
        names = {star["name"] for star in about}
        arrays: dict[str, Any] = {key: stored[key] for key in stored.files if key.partition("/")[0] in names}
        arrays |= {key: stored[key] for key in ("waveB", "waveR")}
        plan = json.loads(str(stored["pairs"])) | {"rotators": []}
    np.savez(folder / "class.npz", info=json.dumps(about), pairs=json.dumps(plan), **arrays)
    out = folder / "exposures"
    command = [sys.executable, str(SHARED / "make.py"), str(out), "--stars", str(folder / "class.npz"), "--sets"]
    subprocess.run([*command, "singles", "--scale", str(scale), "--seed", str(seed)], check=True, stdout=sys.stderr)
    return out / "fits"


def judged(weights: Path, files: Path) -> dict[str, float]:
    """Fraction of exposures that each head calls binary: median probability above 0.5, of those that it judges."""
    verdict = tw.judge(tw.read_lamost(files), weights=weights, parameters=InferenceParameters(n_draws=10))
    made = {}
    for head in HEADS:
        probability = verdict[f"pb_pct_{head}_16"].sel(percentile=50).values
        made[head] = float(np.mean(probability[np.isfinite(probability)] > 0.5))
        made[f"judged_{head}"] = float(np.isfinite(probability).mean())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="M dwarf", help="class of stars")
    parser.add_argument("--pairs", type=int, default=7600)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--scale", type=float, default=1.0, help="exposures, over eight of each star and S/N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    line: dict[str, Any] = {"name": "observed", "value": None, "unit": "fraction of single stars called binary"}
    stars = SHARED / "stars.npz"
    if not stars.is_file() or not (SHARED / "make.py").is_file():
        line["needs"] = "stars.npz and make.py in ../shared/realstars: spectra of real stars, and what exposes them"
        print(json.dumps(line))
        return
    torch.set_num_threads(1)
    value: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, launch(Local(n_workers=1)) as client:
        folder = Path(scratch)
        kinds = write_folder(stars, folder / "stars")
        if options.kind not in kinds:
            parser.error(f"no star is a {options.kind!r}; there are {', '.join(kinds)}")
        exposures = singles(stars, options.kind, folder, options.scale, options.seed)
        for name, without in (("without", (options.kind,)), ("with", ())):
            observed = Observed(0.4, folder / "stars", without=without)
            recipe = TrainingSet(options.pairs, options.seed, extras=Extras(field=Field(0.5), observed=observed))
            synthesize(client, recipe, folder / f"{name}.zarr")
            training = Training(members=1, epochs=options.epochs, schedule="linear", sizes=PRESETS["small"])
            (metrics,) = train(client, folder / f"{name}.zarr", folder / name, training).values()
            found = {f"tpr_{head}": metrics[f"test_tpr_{head}_at_paper_fpr"] for head in HEADS}
            value[name] = judged(folder / name, exposures) | found
            print(name, json.dumps(value[name]), file=sys.stderr, flush=True)
    print(json.dumps({**line, "value": value, "kind": options.kind, "pairs": options.pairs, "epochs": options.epochs}))


if __name__ == "__main__":
    main()
