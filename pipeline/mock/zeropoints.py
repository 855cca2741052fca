"""Zero points of a mock release: wavelength scales that are off, and the reference velocities that would tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from twinlines.pipeline.arms import ARM_NAMES, ArmName, doppler_factor
from twinlines.pipeline.mock.spectra import Frames

_REFERENCE_ERRORS = (0.2, 1.5)  # of reference velocities, km/s, as Gaia's of such stars


def misplace(
    table: Table, frames: dict[ArmName, Frames], scatter: float, rng: np.random.Generator
) -> dict[ArmName, Frames]:
    """Let the wavelengths of each spectrograph, exposure and arm be off by one velocity.

    Parameters
    ----------
    table
        The truth of the exposures; gets the columns ``zero_point_B`` and ``zero_point_R``: what is to be added to
        measured velocities, km/s.
    frames
        The exposures by arm.
    scatter
        Standard deviation of zero points, km/s; those of the red arm are larger by as much.
    rng
        Source of randomness.
    """
    unit = np.stack([table["lmjm"].data, table["spid"].data], axis=-1)
    _, of = np.unique(unit, axis=0, return_inverse=True)
    of = of.ravel()
    off: dict[ArmName, Frames] = {}
    for at, name in enumerate(ARM_NAMES):
        zero = rng.normal(at * scatter, scatter, of.max() + 1)[of]
        loglam = frames[name].loglam + np.log10(doppler_factor(-zero))[:, None]
        # What is rounded twice to 0.16 km/s is off by up to half of that in all pixels alike, unless it is dithered.
        loglam += np.spacing(frames[name].loglam) * rng.uniform(-0.5, 0.5, loglam.shape)
        off[name] = replace(frames[name], loglam=loglam.astype(np.float32))
        table[f"zero_point_{name}"] = zero * u.km / u.s
    return off


def references(table: Table, rng: np.random.Generator) -> Table:
    """Reference velocities of the stars of a truth's table, with the names and units of Gaia's: of binaries, systemic.

    Parameters
    ----------
    table
        The truth of the exposures.
    rng
        Source of randomness.
    """
    _, first = np.unique(table["star"].data, return_index=True)
    stars = table[first]
    error = rng.uniform(*_REFERENCE_ERRORS, len(stars))
    velocity = np.where(np.isfinite(stars["systemic"].data), stars["systemic"].data, stars["v1"].data)
    return Table(
        QTable(
            {
                "source_id": 1 + stars["star"].data.astype(np.int64),
                "ra": stars["ra"].data * u.deg,
                "dec": stars["dec"].data * u.deg,
                "radial_velocity": np.round(velocity + error * rng.standard_normal(len(stars)), 4) * u.km / u.s,
                "radial_velocity_error": np.round(error, 4) * u.km / u.s,
            }
        )
    )
