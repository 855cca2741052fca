"""How much better a survey's binaries are with zero points: mass ratios and systemic velocities beside the truth.

A mock release whose spectrographs, exposures and arms have zero points (3 km/s, the red arm's 3 more) is ingested and
judged; two stars are fitted to the exposures of its double-lined binaries; stars are made of these fits, first with the
velocities as they are measured, then with zero points by the mock's own table of references. The fits are the same.

    python benchmarks/onescale.py [--stars 240] [--seed 3] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from astropy.table import Table
from distributed import Client, LocalCluster

from twinlines.pipeline.binaries.fits.survey import fit
from twinlines.pipeline.binaries.sources.survey import make_sources
from twinlines.pipeline.binaries.zeropoints.calibrated import ReferenceSource, calibrate
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.mock.epochs import double_and_others
from twinlines.pipeline.mock.release import REFERENCES, MockConfig, MockDefects, make_release
from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
from twinlines.pipeline.survey import compute

LEAST = 3  # double epochs of a star that counts


def made(client: Client, folder: Path, stars: int, seed: int) -> Table:
    """Make a survey and fit its double-lined binaries; returns the truth, a row per exposure."""
    config = MockConfig(
        mixture=double_and_others(0.25, 0.05),
        defects=MockDefects(0, 0, 0, 0, 0),
        stars_per_plate=60,
        nights=(4, 6),
        exposures=(1, 2),
        zero_points=3.0,
    )
    truth = make_release(folder / "files", stars=stars, seed=seed, config=config)
    ingest(client, folder / "files", folder / "survey", "mock", files_per_task=50)
    parameters = InferenceParameters(n_draws=1)
    compute.run(client, folder / "survey", weights=SHIPPED_WEIGHTS, parameters=parameters, shard_rows=256)
    double = truth.exposures[truth.exposures["kind"] == "SB2"]
    fit(client, folder / "survey", obsids=sorted({int(each) for each in double["obsid"]}))
    return truth.exposures


def told(table: xr.Dataset, truth: Table) -> dict[str, Any]:
    """How far stars' mass ratios and systemic velocities are off, and how much by their errors."""
    of_obsid = {int(row["obsid"]): row for row in truth}
    mine = np.flatnonzero((table["epochs_double"].values >= LEAST) & np.isfinite(table["wilson_mass_ratio"].values))
    mine = np.array([row for row in mine if of_obsid[int(table["obsid"].values[row])]["kind"] == "SB2"])
    rows = [of_obsid[int(obsid)] for obsid in table["obsid"].values[mine]]
    ratio, error = (table[f"wilson_mass_ratio{end}"].values[mine] for end in ("", "_error"))
    gamma, gamma_error = (table[f"wilson_velocity{end}"].values[mine] for end in ("", "_error"))
    true = np.array([float(row["q"]) for row in rows])
    true = np.where(np.abs(1.0 / true - ratio) < np.abs(true - ratio), 1.0 / true, true)  # which is the brighter
    off, off_gamma = ratio / true - 1.0, gamma - np.array([float(row["systemic"]) for row in rows])
    return {
        "stars": len(mine),
        "mass_ratio_off_percent": round(100.0 * float(np.median(np.abs(off))), 2),
        "within_10_percent": round(float((np.abs(off) < 0.1).mean()), 3),
        "mass_ratio_error_percent": round(100.0 * float(np.median(error / ratio)), 2),
        "mass_ratio_within_errors": round(float((np.abs(off * true) < error).mean()), 3),
        "velocity_off": round(float(np.median(np.abs(off_gamma))), 3),
        "velocity_error": round(float(np.median(gamma_error)), 3),
        "velocity_within_errors": round(float((np.abs(off_gamma) < gamma_error).mean()), 3),
        "disagree": round(float((table["wilson_p_value"].values[mine] < 1e-3).mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=240)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder that stays")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        cluster = LocalCluster(n_workers=arguments.workers, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            truth = made(client, folder, arguments.stars, arguments.seed)
        measured = told(make_sources(folder / "survey"), truth)
        report = calibrate(folder / "survey", ReferenceSource(folder / "files" / REFERENCES))
        scaled = told(make_sources(folder / "survey"), truth)
    ratio = measured["velocity_off"] / scaled["velocity_off"]
    print(json.dumps({"zero_points": report.zero_points["arms"]["B"]["median_error_kms"]}))
    print(json.dumps({"as_measured": measured, "with_zero_points": scaled, "velocity_ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
