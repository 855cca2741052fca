"""Double lines or a displaced star: what an ensemble makes of single stars off rest, and of twins about their mean.

Run ``python benchmarks/frame.py [--weights W]``. Training sets by Table 1 of Zhang et al. (2022) hold every primary at
rest within 5 km/s, so that displacement alone betrays a binary of like stars. A survey's velocity is measured, and of
blended twins it is their mean. A network that has learnt double lines gives the first a low probability, and the second
a high one. Medians over noisy spectra of S/N 40, vsini 5 km/s, at the penalty nearest to 16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from twinlines.models.ensemble import Ensemble
from twinlines.models.evaluation import judge
from twinlines.pipeline.arms import ARMS, Arm
from twinlines.pipeline.continuum import normalise
from twinlines.pipeline.inference import SHIPPED_WEIGHTS
from twinlines.pipeline.library import Library
from twinlines.pipeline.synthesis import Stars, add_noise, component

SPECTRA, SNR, VSINI = 20, 40.0, 5.0
DISPLACED = np.array([0.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0])
"""Velocities of single stars, km/s."""
APART = np.array([0.0, 60.0, 100.0, 140.0, 200.0])
"""Velocity separations of twins whose mean is at rest, km/s."""
DWARFS = {"K dwarf": (4500.0, 4.8), "G dwarf": (6000.0, 4.5), "F dwarf": (7000.0, 4.5)}
"""Teff (K) and log g of dwarfs of solar composition."""


def light(arm: Arm, library: Library, dwarf: str, velocity: NDArray[np.float64]) -> Tensor:
    """Light of a dwarf at velocities, (velocity, pixel)."""
    labels = np.tile([*DWARFS[dwarf], 0.0, 0.0], (len(velocity), 1))
    ones = np.ones(len(velocity))
    return component(arm, library, Stars(labels, ones, VSINI * ones, velocity))


def probability(ensemble: Ensemble, arm: Arm, flux: Tensor) -> list[float]:
    """Median over noise of the members' mean probability for each spectrum."""
    many = flux.repeat_interleave(SPECTRA, 0)
    keys = np.stack([np.arange(len(many)), np.zeros(len(many), dtype=np.int64)], axis=1)
    noisy, _ = add_noise(many, torch.full((len(many),), SNR), keys, arm, seed=0)
    normalised, _ = normalise(torch.from_numpy(arm.wavelength), noisy.double().clamp_min_(0.0))
    logits = judge(ensemble, arm.name, normalised.float().numpy())
    penalty = min(logits, key=lambda one: abs(one - 16))
    median = np.median(expit(logits[penalty]).mean(axis=0).reshape(-1, SPECTRA), axis=1)
    return [round(float(one), 3) for one in median]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    ensemble, library = Ensemble.load(parser.parse_args().weights), Library.load()
    torch.set_num_threads(1)
    value = {}
    for dwarf in DWARFS:
        for name, arm in ARMS.items():
            single = probability(ensemble, arm, light(arm, library, dwarf, DISPLACED))
            both = light(arm, library, dwarf, -APART / 2.0) + light(arm, library, dwarf, APART / 2.0)
            value[f"{dwarf}, {name}"] = {
                "single_displaced": dict(zip(DISPLACED.tolist(), single, strict=True)),
                "twins_centred": dict(zip(APART.tolist(), probability(ensemble, arm, both), strict=True)),
            }
    print(json.dumps({"name": "frame", "value": value, "unit": "binary probability by km/s"}))


if __name__ == "__main__":
    main()
