"""Known stars, alone or two together, as a survey's detector exposes them: what is injected to see whether it is found.

The light is that of training pairs, out of a library or of real stars; what comes out is exposures in the observed
frame, on native pixels, for :mod:`twinlines.pipeline.spectra.inference` to clean, measure and judge as any others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from twinlines.pipeline.arms import Arm
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.synthesis import observing
from twinlines.pipeline.synthesis.light import Stars, component
from twinlines.pipeline.synthesis.realstars import LightSource


def expose(
    arm: Arm,
    source: LightSource,
    components: Sequence[Stars],
    snr: NDArray[np.float64],
    keys: NDArray[np.int64],
    seed: int = 0,
) -> ArmSpectra:
    """Exposures of single stars, or of two or more on one fibre, in one arm.

    Parameters
    ----------
    arm
        The arm.
    source
        What the stars' light at rest comes from: a library, or :class:`.RealStars`.
    components
        The first stars of all exposures, then the second ones, and so on; each has one star an exposure. Of real stars
        the square of ``radius`` is the weight of their light in the arm. Velocities are heliocentric, km/s, and with
        the rotation should stay below some 800 km/s.
    snr
        (exposure,) median over the detector's pixels of flux over sigma.
    keys
        (exposure, 2) two whole numbers that no other exposure has.
    seed
        Seed of the noise, which depends on (seed, keys, arm) alone.

    Returns
    -------
    ArmSpectra
        4136 pixels an exposure; flux in units of its median, nothing masked.

    Raises
    ------
    ValueError
        If there are no stars, or not one of each component for each exposure.
    """
    rows = [len(stars.radius) for stars in components]
    if not rows or set(rows) != {len(snr)} or keys.shape != (len(snr), 2):
        raise ValueError(
            f"{len(snr)} exposures need as many stars of each component, of which there are {rows}, and keys of shape "
            f"({len(snr)}, 2), not {keys.shape}"
        )
    light = sum(component(arm, source, stars, whole=True).numpy() for stars in components)
    native = torch.from_numpy(observing.native_light(arm, np.asarray(light)))
    native /= native.median(dim=1, keepdim=True).values
    normal = torch.from_numpy(observing.detector_noise(arm, keys, seed)).double()
    flux, sigma = observing.expose(native, torch.from_numpy(snr), normal)
    return ArmSpectra(
        flux=flux.float().numpy(),
        ivar=sigma.pow(-2).float().numpy(),
        loglam=np.broadcast_to(observing.native_loglam(arm), native.shape).copy(),
        mask=np.zeros(native.shape, dtype=np.uint8),
        snr=snr.astype(np.float32),
    )
