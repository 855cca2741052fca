"""The disturbances of some pairs in one arm: drawn once, applied to their light however often that is computed.

A spectrum's velocity is measured on its disturbed light, and then the light is computed again, at rest: both times the
disturbances must be the same. Knows which disturbance acts on what, and in which order; not how any of them acts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twinlines.pipeline.arms import RED, Arm
from twinlines.pipeline.spectra.lines import H_ALPHA
from twinlines.pipeline.synthesis import emission, foreign_light, instrument
from twinlines.pipeline.synthesis.beyond_table1 import Extras
from twinlines.pipeline.synthesis.emission import Lines
from twinlines.pipeline.synthesis.foreign_light import Further
from twinlines.pipeline.synthesis.realstars import LightSource

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Disturbances:
    """What disturbs some pairs in one arm; None where nothing of the kind does."""

    activity: Lines | None = None
    """Emission of active primaries, (pair,)."""
    accretion: Lines | None = None
    """Emission of accreting primaries, (pair,)."""
    veil: Array | None = None
    """Featureless light of accreting primaries, in units of their continuum, (pair,)."""
    further: Further | None = None
    """Further stars at the primaries' velocities, (pair,)."""
    nebula: Lines | None = None
    """Lines of nebulae, (pair,)."""
    dilution: Array | None = None
    """Featureless light of both spectra of each pair in turn, in units of the continuum, (2 pair,)."""
    broadening: Array | None = None
    """Standard deviation of the Gaussian by which the stars' lines are broader, km/s, (pair,); below 0: narrower."""
    stretch: Array | None = None
    """Error of the wavelength scale at the red end of both spectra of each pair in turn, km/s, (2 pair,)."""
    sky: Lines | None = None
    """Lines of the sky in both spectra of each pair in turn, (2 pair,)."""

    @classmethod
    def draw(
        cls, arm: Arm, library: LightSource, extras: Extras, primary: Array, serial: NDArray[np.int64], seed: int
    ) -> Disturbances:
        """Draw the disturbances of pairs.

        Parameters
        ----------
        arm, library, extras
            The arm, where further stars come from, and what disturbs.
        primary
            (pair, 4 or 1) labels of the primaries.
        serial, seed
            As in :func:`twinlines.pipeline.synthesis.extra.uniform`.
        """
        red, key = arm is RED, (serial, seed)
        return cls(
            activity=extras.activity.lines(*key) if red and extras.activity.fraction else None,
            accretion=extras.accretion.lines(*key) if red and extras.accretion.fraction else None,
            veil=extras.accretion.veil(arm.name, *key) if extras.accretion.fraction else None,
            further=extras.unresolved.stars(library, primary, *key) if extras.unresolved.fraction else None,
            nebula=extras.nebula.lines(*key) if red and extras.nebula.fraction else None,
            dilution=extras.dilution.amounts(arm.name, *key) if extras.dilution.fraction else None,
            broadening=extras.resolution.broadening(arm.name, *key) if extras.resolution.fraction else None,
            stretch=extras.stretch.amplitudes(arm.name, *key) if extras.stretch.fraction else None,
            sky=extras.sky.lines(*key) if red and extras.sky.fraction else None,
        )

    def change_primaries(self, flux: Tensor, velocity: Array) -> None:
        """Let primaries be active or accrete, in place: ``flux`` (pair, pixel) float32, ``velocity`` (pair,) km/s."""
        if self.veil is not None:
            foreign_light.dilute(flux, self.veil)
        for lines in (self.activity, self.accretion):
            if lines is not None:
                seen = lines._replace(velocity=lines.velocity + velocity)
                emission.add_lines(flux.numpy(), (H_ALPHA,), seen)

    def change_spectra(self, light: Tensor, velocity: Array, frame: Array) -> None:
        """Disturb the light of stars together, in place.

        Parameters
        ----------
        light
            (2 pair, pixel) float32, the first star alone and both in turn.
        velocity
            (2 pair,) velocity of the primary as seen on the grid, km/s.
        frame
            (2 pair,) velocity at which the grid is at rest, km/s.
        """
        if self.nebula is not None:
            both = Lines(*(np.repeat(values, 2, axis=0) for values in self.nebula))
            seen = both._replace(velocity=both.velocity + velocity)
            emission.add_lines(light.numpy(), emission.NEBULAR, seen)
        if self.dilution is not None:
            foreign_light.dilute(light, self.dilution)
        if self.stretch is not None:
            instrument.stretch(light, self.stretch, frame)
        if self.sky is not None:
            seen = self.sky._replace(velocity=self.sky.velocity - frame)
            emission.add_lines(light.numpy(), emission.SKY_LINES, seen)
            light.clamp_min_(0.0)
