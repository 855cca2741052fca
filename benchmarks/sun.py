"""Compare the packaged library's Sun with an ATLAS9 Sun in the paper's library: a figure and the rms in both arms.

Run ``python benchmarks/sun.py [FERRE.fits] [--figure FIGURE.png]``; the FITS file has columns ``wave`` (A, air) and
``flux``, and is looked for in ``../shared/library`` if it is not named.
The library is taken at the spectrum's own parameters (Teff 5750 K, logg 4.5, solar composition) or at ``--labels``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import fitsio
import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from twinlines.pipeline.arms import BLUE, RED, STEP_KMS, Arm, air_to_vacuum
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.continuum import normalise

mpl.use("Agg")
from matplotlib import pyplot as plt

SHARED = Path(__file__).resolve().parents[2] / "shared" / "library"
"""Where the spectrum is looked for."""

EXTRA_BROADENING = 11.2
"""Gaussian sd, km/s, that takes the FERRE spectrum (R about 10000) to R = 7500."""


def normalised(arm: Arm, flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide a spectrum on the library grid by its continuum."""
    scaled = torch.from_numpy(flux / np.median(flux))[None]
    return np.asarray(normalise(torch.from_numpy(arm.library_wavelength), scaled)[0][0].numpy())


def ferre(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vacuum wavelengths and flux of the FITS spectrum."""
    table = fitsio.read(str(path), ext=1)
    return air_to_vacuum(np.asarray(table["wave"], dtype=np.float64)), np.asarray(table["flux"], dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spectrum", type=Path, nargs="?", default=next(SHARED.glob("FERRE*.fits"), None))
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--labels", type=float, nargs=4, default=[5750.0, 4.5, 0.0, 0.0])
    options = parser.parse_args()
    if options.spectrum is None:
        print(json.dumps({"name": "sun", "value": None, "unit": "", "why": f"no FERRE*.fits in {SHARED}"}))
        return

    wave, flux = ferre(options.spectrum)
    library = Library.load()
    figure, axes = plt.subplots(4, 1, figsize=(16, 12), height_ratios=[3, 1, 3, 1], constrained_layout=True)
    value: dict[str, float] = {}
    for arm, (above, below) in zip((BLUE, RED), axes.reshape(2, 2), strict=True):
        reference = np.interp(arm.library_loglam, np.log10(wave), flux)
        reference = gaussian_filter1d(reference, EXTRA_BROADENING / STEP_KMS)
        ours = normalised(arm, library.flux(arm.name, [options.labels])[0].astype(np.float64))[arm.on_library]
        theirs = normalised(arm, reference)[arm.on_library]
        rms = float(np.sqrt(np.mean((ours - theirs) ** 2)))
        value[f"rms_{'blue' if arm is BLUE else 'red'}"] = round(rms, 5)
        above.plot(arm.wavelength, theirs, "k", lw=0.9, label="ATLAS9 (FERRE)")
        above.plot(arm.wavelength, ours, "C3", lw=0.9, label="packaged library")
        above.set(ylabel="flux / continuum", title=f"arm {arm.name}: rms {rms:.4f}")
        above.legend(loc="lower right")
        below.plot(arm.wavelength, ours - theirs, "C0", lw=0.9)
        below.axhline(0, color="0.6", lw=0.8)
        below.set(ylabel="difference", ylim=(-0.15, 0.15), xlabel="vacuum wavelength (Å)")
        for panel in (above, below):
            panel.set_xlim(arm.wavelength[0], arm.wavelength[-1])
    if options.figure:
        figure.savefig(options.figure, dpi=90)
    print(json.dumps({"name": "sun", "value": value, "unit": "", "labels": options.labels}))


if __name__ == "__main__":
    main()
