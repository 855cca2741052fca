"""How many pixels despiking repairs in real exposures, and how often columns are bad: the rates of added defects.

Run ``python benchmarks/defects.py [FOLDER]``; real LAMOST MRS files are looked for in ``../shared/lamost`` if none is
named. Counts runs of repaired pixels on the networks' grid, in arms with S/N above 5.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, Arm
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.spectra.preprocess import CUSHION, observe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "lamost"
"""Where real files are looked for."""


def run_lengths(flags: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def defects(arm: Arm, exposure: reader.ArmExposure) -> tuple[list[int], int]:
    """Lengths of repaired runs on the grid, and how many masked pixels there are."""
    columns = [np.asarray(one)[None] for one in (exposure.flux, exposure.ivar, exposure.loglam, exposure.mask)]
    observed = observe(arm, *columns)
    wavelength, bad = observed.wavelength[0].numpy(), observed.bad[0].numpy()
    order = np.argsort(exposure.loglam, kind="stable")
    masked = (np.asarray(exposure.mask)[order] > 0)[CUSHION:-CUSHION]
    on_grid = (wavelength > arm.wavelength[0]) & (wavelength < arm.wavelength[-1])
    return run_lengths((bad & ~masked)[on_grid]), int(masked[on_grid].sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHARED)
    folder = parser.parse_args().folder
    value: dict[str, float] = {}
    lengths: list[int] = []
    masked: list[int] = []
    for name in ARM_NAMES:
        runs = []
        for path in sorted(folder.glob("*.fits*")):
            for exposure in reader.read(path).exposures:
                one = exposure.arms.get(name)
                if one is not None and one.snr > MINIMUM_SNR:
                    found, n_masked = defects(ARMS[name], one)
                    runs.append(len(found))
                    lengths += found
                    masked.append(n_masked)
        if runs:
            value[f"runs_{name}"] = round(float(np.mean(runs)), 2)
    if lengths:
        value["length_10_50_90"] = np.percentile(lengths, [10, 50, 90]).tolist()
        value["with_masked_pixels"] = round(float(np.mean(np.array(masked) > 0)), 2)
    print(json.dumps({"name": "defects", "value": value or None, "unit": "", "spectra": len(masked)}))


if __name__ == "__main__":
    main()
