"""What we take for granted of every spectrum, held against its header: instrument, star, frame of its wavelengths.

A survey's spectra are in vacuum, corrected to the Sun, of resolution 7500, their positions of J2000. Where a header
says otherwise, wavelengths are converted, which is exact, and the file says so; what cannot be converted is refused.
Knows header values and wavelengths; no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlines.pipeline.arms import air_to_vacuum, doppler_factor
from twinlines.pipeline.lamost import times
from twinlines.pipeline.lamost.exposures import ArmExposure, Exposure, LamostError, MrsFile, Reason, mid_exposure_utc

KEYWORDS = {
    *("TELESCOP", "OBS_TYPE", "SLIT_MOD", "EQUINOX", "RADECSYS", "RADESYS", "FIBERTYP", "FIB_TYPE"),
    *("HELIO", "HELIO_RV", "VACUUM", "SPRA", "SPDEC"),
}
"""Keywords that are looked at."""

HELIO_TOLERANCE = 1.0
"""Largest difference between HELIO_RV and the Earth's velocity, km/s. It is of one moment and the mean position of a
spectrograph's fibres: the Earth's rotation, and the star's own place, make 0.7 km/s at most."""

_EXPECTED = {
    "TELESCOP": ({"LAMOST", "GUOSHOUJING TELESCOPE"}, Reason.OTHER_INSTRUMENT, "spectra of LAMOST"),
    "OBS_TYPE": ({"OBJ"}, Reason.OTHER_INSTRUMENT, "OBJ, a star, no lamp"),
    "SLIT_MOD": ({"X2/3"}, Reason.OTHER_INSTRUMENT, "x2/3, which makes the resolution 7500"),
    "RADECSYS": ({"FK5", "ICRS"}, Reason.OTHER_FRAME, "FK5 or ICRS"),
    "RADESYS": ({"FK5", "ICRS"}, Reason.OTHER_FRAME, "FK5 or ICRS"),
}
_NO_STAR = {"SKY", "UNUSED", "POSERR", "DEAD"}
_YES, _NO = {"T", "TRUE", "1", "YES"}, {"F", "FALSE", "0", "NO"}


@dataclass(frozen=True)
class Frame:
    """Frame of an arm's wavelengths, as its header says."""

    vacuum: bool = True
    """In vacuum; else in standard air."""
    heliocentric: bool = True
    """Corrected to the Sun; else as observed."""


STANDARD = Frame()
"""Frame of everything that leaves this package."""


def require_survey(path: object, header: Mapping[str, Any]) -> list[str]:
    """Refuse a file whose header says that it is of another kind; returns what else is odd in it, a line each.

    Raises
    ------
    LamostError
        If telescope, slit, kind of exposure or frame of positions are others than the survey's.
    """
    for key, (expected, reason, words) in _EXPECTED.items():
        value = header.get(key)
        if isinstance(value, str) and value.strip() and value.strip().upper() not in expected:
            raise LamostError(
                reason, f"{path}: the header says {key} = {value.strip()!r}, expected {words}; leave the file out"
            )
    equinox = header.get("EQUINOX")
    if isinstance(equinox, int | float) and not isinstance(equinox, bool) and equinox != 2000:
        raise LamostError(
            Reason.OTHER_FRAME,
            f"{path}: the header says EQUINOX = {equinox}, expected 2000; precess RA and DEC, or leave the file out",
        )
    kinds = {key: str(header.get(key, "")).strip() for key in ("FIBERTYP", "FIB_TYPE")}
    return [f"{key} is {kind!r}: the fibre was on no star" for key, kind in kinds.items() if kind.upper() in _NO_STAR]


def frame_of(path: object, header: Mapping[str, Any]) -> Frame:
    """Frame that a header states; what it does not state is as the survey has it.

    Raises
    ------
    LamostError
        If what it states is neither true nor false.
    """
    return Frame(*(_truth(path, key, header.get(key, True)) for key in ("VACUUM", "HELIO")))


def _truth(path: object, key: str, value: Any) -> bool:
    text = str(value).strip().upper().removesuffix(".0")
    if text in _YES or text in _NO:
        return text in _YES
    raise LamostError(
        Reason.OTHER_FRAME,
        f"{path}: the header says {key} = {text!r}, expected T or F; repair it or leave the file out",
    )


def unstated(header: Mapping[str, Any]) -> list[str]:
    """What a header does not say of the frame, a line each."""
    return [f"the header does not say {key}; taken for T" for key in ("VACUUM", "HELIO") if key not in header]


def standardise(
    path: object, file: MrsFile, frames: Mapping[tuple[str, int], Frame], header: Mapping[str, Any]
) -> MrsFile:
    """Bring all arms to the survey's frame, and say so in ``problems``.

    Air becomes vacuum first, by Ciddor's formula, as the spectrograph is in air; then the Earth's velocity towards the
    star at the middle of the exposure is taken out, for the place where the survey does so (SPRA, SPDEC, the mean of a
    spectrograph's fibres; the star's own if the header has none).

    Parameters
    ----------
    path
        Name of the file, for messages.
    file
        Wavelengths as its header says.
    frames
        Frame of each arm, by its letter and LMJM.
    header
        Of the primary; HELIO_RV, SPRA and SPDEC are looked at.

    Raises
    ------
    LamostError
        If the velocity is not known, or is not what HELIO_RV says.
    """
    if all(frame == STANDARD for frame in frames.values()):
        return file
    place = [header.get(key) for key in ("SPRA", "SPDEC")]
    ra, dec = place if all(isinstance(angle, int | float) for angle in place) else (file.ra, file.dec)
    earth = times.heliocentric_correction(mid_exposure_utc(file), float(ra), float(dec))  # type: ignore[arg-type]
    exposures: list[Exposure] = []
    said: list[str] = []
    for exposure, velocity in zip(file.exposures, earth.tolist(), strict=True):
        arms: dict[str, ArmExposure | None] = {"B": exposure.blue, "R": exposure.red}
        for letter, arm_exposure in exposure.arms.items():
            frame = frames[letter, exposure.lmjm]
            if frame == STANDARD:
                continue
            words = []
            wavelength = 10.0 ** arm_exposure.loglam.astype(np.float64)
            if not frame.vacuum:
                wavelength = air_to_vacuum(wavelength)
                words.append("from air to vacuum (VACUUM = F)")
            if not frame.heliocentric:
                _require_velocity(path, velocity, header)
                wavelength = _to_sun(wavelength, velocity)
                words.append(f"by {velocity:+.2f} km/s to the Sun (HELIO = F)")
            arms[letter] = replace(arm_exposure, loglam=np.log10(wavelength).astype(np.float32))
            said.append(f"{letter}-{exposure.lmjm}: wavelengths converted {' and '.join(words)}")
        exposures.append(Exposure(exposure.lmjm, arms["B"], arms["R"]))
    return replace(file, exposures=tuple(exposures), problems=(*file.problems, *said))


def _to_sun(wavelength: NDArray[np.float64], velocity: float) -> NDArray[np.float64]:
    return wavelength * doppler_factor(velocity)


def _require_velocity(path: object, velocity: float, header: Mapping[str, Any]) -> None:
    if not math.isfinite(velocity):
        raise LamostError(
            Reason.OTHER_FRAME,
            f"{path}: HELIO = F, and the time of an exposure is not known, hence not the Earth's velocity; repair "
            "EXPTIME, or leave the file out",
        )
    stated = header.get("HELIO_RV")
    # The survey's HELIO_RV has the opposite sign of what is added to a velocity.
    if isinstance(stated, int | float) and abs(velocity + stated) > HELIO_TOLERANCE:
        raise LamostError(
            Reason.OTHER_FRAME,
            f"{path}: HELIO = F, and HELIO_RV = {stated} km/s, but it must be {-velocity:.2f} at this time and place; "
            "repair the header or leave the file out",
        )
