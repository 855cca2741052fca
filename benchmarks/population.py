"""Which fraction of Table 1's draws is kept, by tracks, library and age limit, beside the paper's 38 %.

Run ``python benchmarks/population.py [--draws 20000] [--tracks TRACKS.zarr.zip ...]``. Each table of tracks is drawn
from with three domains: the library that ships; a box, as if it had no holes and about the paper's limits (3500 K to
12,000 K, log g 0 to 5, all of Table 1's compositions); and the same box when states older than the universe count, as
far as the tracks go. The last is got by shortening all ages alike, which changes no pair of coeval stars.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.library.library import Library, Outside
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import population

PAPER = 0.38
"""Kept fraction that Zhang et al. (2022, section 2) report."""

SHORTER = 1.0
"""dex by which all ages are shortened for the domain without an age limit."""


class Box:
    """A library without holes; knows only what lies outside."""

    def outside(self, labels: NDArray[np.float64]) -> NDArray[np.int8]:
        """Codes of :class:`twinlines.pipeline.library.library.Outside`."""
        teff, logg = labels[:, 0], labels[:, 1]
        limits = (
            (teff < 3500.0, Outside.TEFF_LOW),
            (teff > 12_000.0, Outside.TEFF_HIGH),
            (logg < 0.0, Outside.LOGG_LOW),
            (logg > 5.0, Outside.LOGG_HIGH),
            (~np.isfinite(teff), Outside.NOT_FINITE),
        )
        return np.select([one for one, _ in limits], [code for _, code in limits], 0).astype(np.int8)


def fates(draws: int, tracks: Tracks, library: Library) -> dict[str, float]:
    """Fraction of the draws that met each fate, the commonest first."""
    counts = population.resolve(population.draw(0, draws, 0), tracks, library).counts()
    return {name: round(number / draws, 4) for name, number in sorted(counts.items(), key=lambda one: -one[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--tracks", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    box = cast("Library", Box())
    value: dict[str, Any] = {}
    for path in (None, *options.tracks):
        tracks = Tracks.load(path)
        ageless = replace(tracks, log_age=tracks.log_age - SHORTER)
        value[path.name if path else "shipped"] = {
            "library": fates(options.draws, tracks, Library.load()),
            "box": fates(options.draws, tracks, box),
            "box_any_age": fates(options.draws, ageless, box),
        }
    print(json.dumps({"name": "population", "value": value, "unit": "of the draws", "baseline": PAPER}))


if __name__ == "__main__":
    main()
