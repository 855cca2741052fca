"""What a LAMOST MRS file says: its exposures, its metadata, when each was taken, and what can be wrong with it.

Plain values without a file behind them: :mod:`twinlines.pipeline.lamost.reader` reads them, and
:mod:`twinlines.pipeline.lamost.writer` writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.lamost import times

SAME_START = 2.0 / times.MINUTES_PER_DAY
"""A date and an LMJM closer than this are of one exposure, d."""


class Reason(StrEnum):
    """Why a file, or one arm of an exposure, cannot be used."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    WRONG_FORMAT = "wrong format"
    NO_METADATA = "no metadata"
    NO_EXPOSURE = "no exposure"
    WRONG_SIZE = "wrong number of pixels"
    NO_FLUX = "no flux"
    NO_IVAR = "no ivar"
    OFF_GRID = "off grid"
    CRASHED = "crashes the reader"
    STALLED = "stalls the reader"
    OTHER_FRAME = "another frame"
    OTHER_INSTRUMENT = "another instrument"
    OTHER_STAR = "another star's identifier"
    OUT_OF_REACH = "out of reach"


class LamostError(ValueError):
    """A file gives no exposure. The message names the file, the value and what to do; ``reason`` is its category."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class OutOfReachError(OSError):
    """The system does not let us read a file (no permission, a server that does not answer, no memory, ...).

    That says nothing about the file, which may be read another time.
    """


@dataclass(frozen=True)
class ArmExposure:
    """One arm of one exposure, pixels in the file's order: blue ascends in wavelength, red descends."""

    flux: NDArray[np.float32]
    """Counts, not flux-calibrated, shape (NATIVE_PIXELS,), adu."""
    ivar: NDArray[np.float32]
    """Inverse variance of the flux, shape (NATIVE_PIXELS,), adu-2."""
    loglam: NDArray[np.float32]
    """log10 of the vacuum, heliocentric wavelength in Angstrom, shape (NATIVE_PIXELS,)."""
    mask: NDArray[np.uint8]
    """PIXMASK, shape (NATIVE_PIXELS,); above 0 is bad; bit 7 stands for every higher bit of the file's 16."""
    snr: float
    """Signal-to-noise ratio of the header."""
    exptime: float
    """Exposure time, s; NaN if the header has none."""
    date_beg: str | None = None
    """Start in Beijing time, ISO, where this extension says so; DR6 to DR8 do not."""
    date_end: str | None = None
    """End in Beijing time, ISO, where this extension says so."""


@dataclass(frozen=True)
class Exposure:
    """Both arms of one exposure; one may be absent."""

    lmjm: int
    """Local modified Julian minute of the start, floor(1440 (MJD_UTC + 8/24))."""
    blue: ArmExposure | None
    """The blue arm."""
    red: ArmExposure | None
    """The red arm."""

    @property
    def arms(self) -> dict[ArmName, ArmExposure]:
        """The arms that are present, blue first."""
        both = {"B": self.blue, "R": self.red}
        return {name: exposure for name in ARM_NAMES if (exposure := both[name]) is not None}


@dataclass(frozen=True)
class MrsFile:
    """What Twinlines keeps of one file."""

    obsid: int
    """Observation identifier."""
    lmjd: int
    """Local modified Julian day, as in the file's name."""
    planid: str
    """Plan identifier, without trailing blanks."""
    spid: int
    """Spectrograph, 1 to 16."""
    fiberid: int
    """Fibre, 1 to 250."""
    ra: float
    """Right ascension of the star, J2000, degrees."""
    dec: float
    """Declination of the star, J2000, degrees."""
    exposures: tuple[Exposure, ...]
    """Exposures with at least one usable arm, ascending in ``lmjm``."""
    date_beg: str | None = None
    """Start in Beijing time, ISO, from the primary header: of the file's first exposure only."""
    problems: tuple[str, ...] = ()
    """What was wrong in a file that is usable nevertheless."""


def file_name(file: MrsFile) -> str:
    """Name by which the survey would file it, without ``.gz``."""
    return name_of(file.lmjd, file.planid, file.spid, file.fiberid)


def name_of(lmjd: int, planid: str, spid: int, fiberid: int) -> str:
    """Name by which the survey files what a fibre saw in a night, without ``.gz``."""
    return f"med-{lmjd}-{planid}_sp{spid:02d}-{fiberid:03d}.fits"


def mid_exposure_utc(file: MrsFile) -> NDArray[np.float64]:
    """Middle of each exposure, modified Julian days in UTC, shape (exposure,); NaN if its length is unknown.

    The mean of DATE-BEG and DATE-END where the exposure has them; else its start plus half of EXPTIME (the blue arm's
    where the arms differ). The start is a DATE-BEG that agrees with LMJM, the exposure's own or the primary's (which
    describes the first exposure alone), else LMJM plus the half minute by which LMJM is early on average.
    """
    return np.array([_mid_utc(exposure, file.date_beg) for exposure in file.exposures], dtype=np.float64)


def mid_exposure_bjd(file: MrsFile) -> NDArray[np.float64]:
    """BJD_TDB of the middle of each exposure at the star's own position, d, shape (exposure,).

    To 1e-5 d where a date is known, else to some 20 s, the uncertainty of LMJM.
    """
    return times.bjd_tdb(mid_exposure_utc(file), file.ra, file.dec)


def _mid_utc(exposure: Exposure, primary_date: str | None) -> float:
    minute = exposure.lmjm / times.MINUTES_PER_DAY
    begins = [arm_exposure.date_beg for arm_exposure in exposure.arms.values()]
    length = next((a.exptime for a in exposure.arms.values() if a.exptime > 0), math.nan) / 86_400.0
    for begin, end in zip(begins, (a.date_end for a in exposure.arms.values()), strict=True):
        if begin and end and starts_at(begin, minute) and times.mjd_of_date(end) >= times.mjd_of_date(begin):
            return (times.mjd_of_date(begin) + times.mjd_of_date(end)) / 2 - times.LOCAL_MINUS_UTC
    dates = (date for date in (*begins, primary_date) if date and starts_at(date, minute))
    start = next(map(times.mjd_of_date, dates), minute + 0.5 / times.MINUTES_PER_DAY)
    return start + length / 2 - times.LOCAL_MINUS_UTC


def starts_at(date: str, minute: float) -> bool:
    """Whether an ISO date in local time is of the exposure that starts at ``minute``, a local modified Julian day."""
    return abs(times.mjd_of_date(date) - minute) < SAME_START
