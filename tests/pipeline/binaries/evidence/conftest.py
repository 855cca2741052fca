"""Stars that are drawn from the evidence's own model, for tests of what weighs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from twinlines.pipeline.binaries.evidence.exposures import Exposures
from twinlines.pipeline.binaries.evidence.model import SB1, SB2, SINGLE, Calibration, Chance
from twinlines.pipeline.schema import HEADS, JOINT

APART = 8.0  # mean ln R of an exposure that shows two sets of lines; of one that does not, the negative


class Drawn(NamedTuple):
    """Stars, and what they are."""

    exposures: Exposures
    star: NDArray[np.int64]
    kind: NDArray[np.int64]


Draw = Callable[..., Drawn]


@pytest.fixture
def plain() -> Calibration:
    """Ratios as they are; every other night shows two sets of lines, one in 200 is disturbed."""
    return Calibration(
        offset=dict.fromkeys(HEADS, 0.0),
        slope=dict.fromkeys(HEADS, 1.0),
        shared=1.0,
        shows=Chance(dict.fromkeys(HEADS, 0.0), dict.fromkeys(HEADS, 1.0), snr=0.5, cool=0.0, hot=0.0),
        disturbed=Chance(dict.fromkeys(HEADS, -5.3), dict.fromkeys(HEADS, 0.5), snr=0.0, cool=0.0, hot=0.0),
        varies=(-4.0, 3.0, 0.0),
    )


@pytest.fixture
def draw(plain: Calibration) -> Draw:
    """Makes stars of the plain model, of one exposure a night."""

    def make(
        stars: int, *, sb2: float = 0.1, sb1: float = 0.1, nights: tuple[int, int] = (1, 5), seed: int = 1
    ) -> Drawn:
        rng = np.random.default_rng(seed)
        kind = np.where(rng.uniform(size=stars) < sb1, SB1, SINGLE)
        kind = np.where(rng.uniform(size=stars) < sb2, SB2, kind)
        count = rng.integers(nights[0], nights[1] + 1, stars)
        star = np.repeat(np.arange(stars), count)
        log_snr = np.log(rng.uniform(10.0, 60.0, len(star)))
        node = rng.standard_normal(stars)[star]
        double = kind[star] == SB2
        logit = np.where(double, node + 0.5 * (log_snr - np.log(20.0)), -5.3 + 0.5 * node)
        shown = rng.uniform(size=len(star)) < 1.0 / (1.0 + np.exp(-logit))
        # Gaussians of which the ratio of densities is e to the number itself.
        ratio = np.where(shown, APART, -APART) + np.sqrt(2.0 * APART) * rng.standard_normal(len(star))
        moves = rng.uniform(size=stars) < 1.0 / (1.0 + np.exp(-np.array(plain.varies)))[kind]
        scatter = rng.choice(np.array([3.0, 6.0, 12.0, 24.0, 48.0, 96.0]), stars) * moves
        velocity = (scatter[star] + 0.0) * rng.standard_normal(len(star)) + 2.0 * rng.standard_normal(len(star))
        exposures = Exposures(
            night=(58_000 + np.concatenate([np.arange(each) for each in count])).astype(np.int32),
            ratio=ratio.astype(np.float32),
            head=np.full(len(star), HEADS.index(JOINT), np.int8),
            log_snr=log_snr.astype(np.float32),
            teff=np.full(len(star), 5800.0, np.float32),
            velocity=velocity.astype(np.float32),
            error=np.full(len(star), 2.0, np.float32),
        )
        return Drawn(exposures, star, kind)

    return make
