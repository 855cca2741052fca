"""Synthesis per pair against a straightforward per-spectrum version with numpy and scipy; a worker's peak memory.

Run ``python benchmarks/synthesis.py [--sizes 10000 100000]``. Both arms of a pair, four spectra: interpolation in the
library, rotation, Doppler shift, sum, noise, continuum. The reference is what one would write first: a loop over pairs,
sixteen nodes of ln flux weighted by hand, ``numpy.convolve``, ``numpy.interp``, and scipy's smoothing spline. Both run
in turn in this process, on one thread, with a worker's environment. With ``--sizes``, training sets of so many pairs
are made on two workers; their peak memory must not grow with the set.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from preprocess import reference_continuum

from twinlines.cluster.environment import WORKER_ENVIRONMENT
from twinlines.cluster.launch import launch
from twinlines.cluster.profiles import Local
from twinlines.pipeline.arms import ARMS, STEP_KMS, Arm, doppler_factor
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.broadening import LIMB_DARKENING
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import spectra as synthesis
from twinlines.pipeline.synthesis.population import Population, Source
from twinlines.pipeline.synthesis.spectra import Stars, stars_of
from twinlines.pipeline.training.recipe import TrainingSet
from twinlines.pipeline.training.store import synthesize

Array = NDArray[np.float64]

FULL_SET = 380_000
"""Pairs of the paper's training set."""


def restored(library: Library) -> dict[str, NDArray[np.float32]]:
    """Logarithmic flux of all nodes by arm, as a straightforward program would hold it."""
    return {name: library.mean[name] + library.coefficients @ library.components[name] for name in ARMS}


def reference_star(
    arm: Arm, library: Library, lnflux: NDArray[np.float32], labels: Array, radius: float, vsini: float, velocity: float
) -> Array:
    """Light of one star on the arm's grid."""
    places, fractions = [], []
    for axis, value in zip(library.axes, labels, strict=True):
        place = int(np.clip(np.searchsorted(axis, value, side="right") - 1, 0, axis.size - 2))
        places.append(place)
        fractions.append((value - axis[place]) / (axis[place + 1] - axis[place]))
    total = np.zeros(lnflux.shape[1])
    for corner in itertools.product((0, 1), repeat=4):
        weight = np.prod([part if step else 1.0 - part for step, part in zip(corner, fractions, strict=True)])
        if weight > 1e-9:
            total += weight * lnflux[library.index[tuple(np.add(places, corner))]]
    flux = np.exp(total)
    if vsini > STEP_KMS:
        x = np.arange(-int(vsini / STEP_KMS), int(vsini / STEP_KMS) + 1) * STEP_KMS / vsini
        shape = 2.0 * (1.0 - LIMB_DARKENING) * np.sqrt(1.0 - x**2) + np.pi * LIMB_DARKENING / 2.0 * (1.0 - x**2)
        flux = np.convolve(flux, shape / shape.sum(), "same")
    return np.asarray(radius**2 * np.interp(arm.wavelength, arm.library_wavelength * doppler_factor(velocity), flux))


def reference_pair(
    library: Library, lnflux: dict[str, NDArray[np.float32]], stars: tuple[Stars, Stars], row: int, snr: float, rng: Any
) -> dict[str, Array]:
    """Both spectra of one pair in both arms; without noise where ``rng`` is None."""
    made = {}
    for name, arm in ARMS.items():
        first, second = (
            reference_star(
                arm, library, lnflux[name], one.labels[row], one.radius[row], one.vsini[row], one.velocity[row]
            )
            for one in stars
        )
        spectra = []
        for light in (first, first + second):
            sigma = np.sqrt(light * np.median(light)) / snr
            noisy = light if rng is None else light + sigma * rng.standard_normal(light.size)
            spectra.append(noisy / reference_continuum(arm.wavelength, noisy.clip(min=0.0)))
        made[name] = np.stack(spectra)
    return made


def kept_pairs(library: Library, count: int) -> Population:
    """The first pairs of a training set."""
    population = Source(0).realise(np.arange(6 * count), Tracks.load(), library).kept_pairs()
    return population.take(slice(0, count))


def measure(ours: int, theirs: int) -> dict[str, float]:
    """Processor time per pair of both, in turn, and how far apart their noiseless spectra are."""
    torch.set_num_threads(1)
    library = Library.load()
    population, lnflux, rng = kept_pairs(library, ours), restored(library), np.random.default_rng(0)
    stars, snr = stars_of(population), population.draws.snr
    synthesis.pairs(library, population.take(slice(0, 64)))
    fast, slow = [], []
    for part in range(4):
        start = time.process_time()
        synthesis.pairs(library, population.take(slice(part * ours // 4, (part + 1) * ours // 4)))
        fast.append((time.process_time() - start) / (ours // 4))
        start = time.process_time()
        for row in range(part * theirs // 4, (part + 1) * theirs // 4):
            reference_pair(library, lnflux, stars, row, snr[row], rng)
        slow.append((time.process_time() - start) / (theirs // 4))
    few = population.take(slice(0, 8))
    few.draws.snr[:] = 1e9
    made = synthesis.pairs(library, few)
    differences = [
        np.abs(made[f"flux_{name}"][row] - flux).max()
        for row in range(8)
        for name, flux in reference_pair(library, lnflux, stars, row, 1.0, None).items()
    ]
    return {
        "value": 1e3 * float(np.median(fast)),
        "baseline": 1e3 * float(np.median(slow)),
        "largest_difference": float(max(differences)),
    }


def peak_memory() -> int:
    """Largest resident memory that this process ever had, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def make_set(pairs: int, folder: Path, workers: int) -> dict[str, float]:
    """Make a training set on fresh workers: pairs a second, the workers' peak memory, bytes on the disk."""
    store = folder / f"{pairs}.zarr"
    with launch(Local(n_workers=workers)) as client:
        start = time.monotonic()
        synthesize(client, TrainingSet(n_pairs=pairs), store)
        seconds = time.monotonic() - start
        peak = max(client.run(peak_memory).values())
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return {
        "pairs_per_second": round(pairs / seconds, 1),
        "worker_peak_mb": round(peak / 1e6, 1),
        "bytes_per_pair": round(size / pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the sets are made, and kept; by default they are not kept")
    options = parser.parse_args()
    found = measure(512, 16)
    result: dict[str, Any] = {
        "name": "synthesis",
        "value": round(found["value"], 3),
        "unit": "ms of processor time per pair (both arms, one core)",
        "baseline": round(found["baseline"], 1),
        "ratio": round(found["baseline"] / found["value"], 1),
        "pairs_per_second_per_core": round(1e3 / found["value"], 1),
        "largest_difference": float(f"{found['largest_difference']:.1e}"),
        "baseline_is": "a loop over pairs with numpy.convolve, numpy.interp and scipy's make_smoothing_spline",
    }
    with tempfile.TemporaryDirectory() as scratch:
        sets = {size: make_set(size, options.folder or Path(scratch), options.workers) for size in options.sizes}
    for size, one in sets.items():
        result[f"{size}_pairs"] = one
        result["full_set_hours"] = round(FULL_SET / one["pairs_per_second"] / 3600, 2)
        result["workers"] = options.workers
    print(json.dumps(result))


if __name__ == "__main__":
    # The allocator and the thread pools read their environment once, when a process starts.
    wanted = WORKER_ENVIRONMENT
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    main()
