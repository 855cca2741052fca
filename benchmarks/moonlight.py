"""Two-star fits and the Moon's light: how many of the doubles that it makes are said to be so, and how many real ones.

Run ``python benchmarks/moonlight.py [--stars 120] [--seed 3]``. Mock single stars and double-lined binaries of 1 to 100
days, three nights each, zero points of 3 km/s; single stars have the Moon's light in all nights in which it is up, with
0.05 to 0.5 of their own. ``value`` is the fraction that is flagged as ``MOONLIGHT`` of the single stars' exposures that
fits call double because of it, ``baseline`` that of the binaries' double exposures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np

from twinlines.pipeline.binaries.fits.store import shows_two
from twinlines.pipeline.binaries.schema import FitQuality
from twinlines.pipeline.binaries.twostar.fit import Fitter
from twinlines.pipeline.mock.epochs import EpochsConfig, double_and_others, observe_stars
from twinlines.pipeline.mock.stars import SB2

_BASE = EpochsConfig(nights=(3, 3), exposures=(1, 1))


def flags(stars: int, seed: int, config: EpochsConfig, double: bool) -> dict[str, int | float]:
    """Exposures in moonlight (or, of binaries, while the Moon was up), those that are called double, those flagged."""
    fitter, seen, called, flagged, stars_all = Fitter.default(), 0, 0, 0, []
    for truth, exposures in observe_stars(stars, seed, config):
        rows = np.asarray(truth["kind"] == SB2) if double else np.asarray(truth["moonlight"]) > 0.0
        if not rows.any():
            continue
        fits = fitter(exposures.isel(exposure=rows))
        two = shows_two(fits)
        moon = (fits["fit_quality"].values & FitQuality.MOONLIGHT) > 0
        seen, called, flagged = seen + len(two), called + int(two.sum()), flagged + int(moon.sum())
        star = np.asarray(truth["star"])[rows]
        stars_all += [moon[two & (star == one)].all() for one in np.unique(star[two])]
    return {
        "exposures": seen,
        "double": called,
        "flagged": flagged,
        "flagged_of_double": flagged / max(called, 1),
        "stars": len(stars_all),
        "stars_flagged_in_all_double_exposures": float(np.mean(stars_all)) if stars_all else 0.0,
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stars", type=int, default=120, help="single stars, and as many binaries")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    single = replace(_BASE, mixture=double_and_others(0.0, 0.0), moonlight=1.0)
    binary = replace(_BASE, mixture=double_and_others(0.8, 0.0), moonlight=0.0)
    lit = flags(options.stars, options.seed, single, double=False)
    real = flags(options.stars, options.seed + 1, binary, double=True)
    ratio = lit["flagged_of_double"] / max(real["flagged_of_double"], 1e-9)
    about = {"unit": "of double exposures", "baseline": real["flagged_of_double"], "ratio": ratio}
    value = lit["flagged_of_double"]
    print(json.dumps({"name": "moonlight", "value": value, **about, "moonlit_singles": lit, "binaries": real}))


if __name__ == "__main__":
    main()
