"""Real stars out of a survey's release: well exposed spectra of listed stars, at rest by our own velocities.

Each arm is brought to rest by the velocity that is measured on it, as the survey does: scales of the arms differ. What
the survey's cleaning repaired counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, doppler_factor
from twinlines.pipeline.library.resample import RESOLUTION
from twinlines.pipeline.schema import EXPOSURES, FATAL, Quality
from twinlines.pipeline.spectra import velocity
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.tiles import TILE
from twinlines.pipeline.spectra.velocity import Templates
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis.real_light import RealStarError, Record, Spectrum
from twinlines.pipeline.synthesis.starfolder import digest_of, read_table

STORE = "exposures.zarr"
"""Store of a release's exposures."""

_UNUSABLE = int(FATAL | Quality.AMBIGUOUS_VELOCITY)
_LABELS = "teff", "logg", "feh"


def read_release(folder: Path, table: Path, minimum_snr: float) -> Iterator[Record | str]:
    """Read the exposures of listed stars that are good enough, by obsid and time.

    Parameters
    ----------
    folder
        Folder of the release.
    table
        CSV file with a column ``obsid``, and perhaps ``name``, ``class``, ``teff``, ``logg``, ``feh``.
    minimum_snr
        S/N that an exposure must have in both arms.

    Yields
    ------
    Record or str
        A star; or, of an exposure that cannot be used, why.

    Raises
    ------
    RealStarError
        If the table cannot be read, or lists a star that is not in the release.
    """
    rows = {_obsid(table, obsid): row for obsid, row in read_table(table, "obsid").items()}
    release = stores.open_store(folder / STORE, EXPOSURES)
    obsid, lmjm, snr = (release[name].values for name in ("obsid", "lmjm", "snr"))
    for listed in rows:
        if not (obsid == listed).any():
            raise RealStarError(f"{table} lists obsid {listed}, of which {folder} has no exposure; remove its row")
    with np.errstate(invalid="ignore"):
        bright = (snr > minimum_snr).all(axis=1)
    chosen = np.flatnonzero(np.isin(obsid, list(rows)) & bright)
    chosen = chosen[np.lexsort((lmjm[chosen], obsid[chosen]))]
    faint = sorted(set(rows) - set(obsid[chosen].tolist()))
    yield from (f"obsid {one}: no exposure has S/N above {minimum_snr:g} in both arms" for one in faint)
    for start in range(0, len(chosen), TILE):
        block = release.isel(exposure=chosen[start : start + TILE]).load()
        arms = {name: _arm(name, block) for name in ARM_NAMES}
        for row, one in enumerate(block["obsid"].values.tolist()):
            place = f"{folder}: obsid {one}, lmjm {int(block['lmjm'][row])}"
            lost = [name for name in ARM_NAMES if arms[name][row] is None]
            if lost:
                yield f"{place}: no certain velocity in arm {' and '.join(lost)}"
                continue
            said = rows[one]
            labels = [_number(table, one, name, said.get(name)) for name in _LABELS]
            about = repr((one, said, minimum_snr))
            yield Record(
                place=place,
                name=said.get("name", str(one)),
                kind=said.get("class", ""),
                resolution=RESOLUTION,
                labels=(labels[0], labels[1], labels[2]),
                spectra={name: spectrum for name in ARM_NAMES if (spectrum := arms[name][row]) is not None},
                content=digest_of(about, [block[name].values[row] for name in ("lmjm", "content_hash")]),
            )


def _arm(name: Any, block: Any) -> list[Spectrum | None]:
    """One arm of some exposures, at rest; None where no velocity is certain."""
    observed = ArmSpectra.of(name, block).observe(name)
    measured = velocity.measure(
        name,
        observed.wavelength,
        observed.normalised,
        observed.normalised_sigma,
        Templates.default(),
        observed.bad,
    )
    quality = observed.quality.numpy() | measured.quality
    wavelength, flux, sigma = (
        observed.wavelength.numpy(),
        observed.flux.double().numpy(),
        observed.sigma.double().numpy(),
    )
    flux = np.where(observed.bad.numpy(), np.nan, flux)
    made: list[Spectrum | None] = []
    for row, speed in enumerate(measured.velocity.tolist()):
        usable = math.isfinite(speed) and not quality[row] & _UNUSABLE
        rest: NDArray[np.float64] = wavelength[row] / doppler_factor(speed) if usable else wavelength[row]
        made.append(Spectrum(rest, flux[row], sigma[row]) if usable else None)
    return made


def _obsid(table: Path, written: str) -> int:
    try:
        return int(written)
    except ValueError:
        raise RealStarError(f"{table}: obsid {written!r} is no whole number") from None


def _number(table: Path, obsid: int, name: str, written: str | None) -> float:
    try:
        return math.nan if written is None else float(written)
    except ValueError:
        raise RealStarError(f"{table}: {name} of obsid {obsid} is {written!r}; give a number") from None
