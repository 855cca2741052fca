"""Made-up LAMOST files for tests: random numbers in the survey's shape, no astrophysics. Same seed, same file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinlines.pipeline.arms import NATIVE_PIXELS, ArmName
from twinlines.pipeline.lamost.exposures import ArmExposure, Exposure, MrsFile

_RANGES: dict[ArmName, tuple[float, float]] = {"B": (4894.0, 5397.0), "R": (6270.0, 6850.0)}


def random_arm(seed: int, name: ArmName = "B", snr: float = 20.0) -> ArmExposure:
    """Return one arm: a blaze with noise at ``snr``, native wavelengths (red descending), a few masked pixels."""
    random = np.random.default_rng([seed, ord(name)])
    low, high = np.log10(_RANGES[name])
    position = np.linspace(0.0, 1.0, NATIVE_PIXELS)
    # As on the detector, the step shrinks towards the red by about a quarter.
    loglam = low + (high - low) * (1.14 * position - 0.14 * position**2)
    blaze = 1000.0 * (1.0 - 0.8 * (position - 0.5) ** 2)
    flux = blaze * (1.0 + random.normal(size=NATIVE_PIXELS) / snr)
    ivar = (snr / blaze) ** 2
    mask = np.zeros(NATIVE_PIXELS, np.uint8)
    mask[random.choice(NATIVE_PIXELS, 8, replace=False)] = random.choice([1, 4, 128], 8)
    order = slice(None, None, -1 if name == "R" else 1)
    return ArmExposure(
        flux=flux[order].astype(np.float32),
        ivar=ivar[order].astype(np.float32),
        loglam=loglam[order].astype(np.float32),
        mask=mask,
        snr=round(snr, 2),
        exptime=1200.0,
    )


def random_file(seed: int = 0, exposures: int = 3, lmjm: int = 84_107_311) -> MrsFile:
    """Return a file with ``exposures`` exposures of both arms, 25 minutes apart from ``lmjm`` on."""
    random = np.random.default_rng(seed)
    return MrsFile(
        obsid=700_000_000 + seed,
        lmjd=58408,
        planid="TD230151N343645T01",
        spid=int(random.integers(1, 17)),
        fiberid=1 + seed % 250,
        ra=round(float(random.uniform(0.0, 360.0)), 6),
        dec=round(float(random.uniform(-10.0, 60.0)), 6),
        exposures=tuple(
            Exposure(
                lmjm + 25 * i,
                random_arm(1000 * seed + i, "B", 10.0 + i),
                random_arm(1000 * seed + i, "R", 20.0 + i),
            )
            for i in range(exposures)
        ),
    )


def with_arm(file: MrsFile, index: int, name: ArmName, arm: ArmExposure | None) -> MrsFile:
    """Return ``file`` with another arm, or none, in its exposure number ``index``."""
    exposures = list(file.exposures)
    old = exposures[index]
    exposures[index] = replace(old, blue=arm) if name == "B" else replace(old, red=arm)
    return replace(file, exposures=tuple(exposures))
