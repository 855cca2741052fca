"""How fast a million stars get their states and their EEPs at an age, against scipy's interpolator on the same table.

The packaged tracks fill a rectangle, so ``scipy.interpolate.RegularGridInterpolator`` can do the first half, the states
at (mass, [Fe/H], EEP); ragged tracks and ages it cannot.

    python benchmarks/tracks.py [--stars 1000000] [--tracks STORE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from twinlines.pipeline.stars.tracks import RGB_TIP, ZAMS, Tracks


def seconds(job: Callable[[], object]) -> float:
    """Shortest processor time of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=1_000_000)
    parser.add_argument("--tracks", type=Path, help="store of tracks; the packaged one by default")
    options = parser.parse_args()

    tracks = Tracks.load(options.tracks)
    mesh, random = tracks.mesh, np.random.default_rng(1)
    mass = random.uniform(mesh.mass[0], mesh.mass[-1], options.stars)
    feh = random.uniform(mesh.feh[0], mesh.feh[-1], options.stars)
    alpha = random.uniform(mesh.alpha[0], mesh.alpha[-1], options.stars)
    eep, age = random.uniform(ZAMS, RGB_TIP, options.stars), 10.0 ** random.uniform(8.0, 10.1, options.stars)
    state = seconds(lambda: tracks.state(mass, feh, eep, alpha))
    inverse = seconds(lambda: tracks.eep_at_age(mass, feh, age, alpha))
    print(f"{options.stars} stars: states {state:.2f} s, EEPs at an age {inverse:.2f} s of one core")

    packaged = Tracks.load()
    axes = packaged.mesh.feh, packaged.mesh.mass, packaged.eep
    values = np.stack([packaged.log_age, packaged.log_l, packaged.log_teff, packaged.star_mass], axis=-1)
    scipy = RegularGridInterpolator(axes, values.reshape(*(axis.size for axis in axes), 4))
    points = np.stack([feh.clip(-2.0, 0.3), mass.clip(0.1, 2.2), eep], axis=-1)
    baseline = seconds(lambda: scipy(points))
    print(f"scipy's RegularGridInterpolator, states of the packaged tracks alone: {baseline:.2f} s")
    print(
        json.dumps(
            {
                "name": "tracks",
                "value": round(state, 3),
                "unit": "s per million states" if options.stars == 1_000_000 else "s",
                "baseline": round(baseline, 3),
                "ratio": round(baseline / state, 2),
                "eep_at_age": round(inverse, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
