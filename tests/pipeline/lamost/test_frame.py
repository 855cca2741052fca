"""Headers that contradict what is taken for granted: converted and said, or refused; never read as if they agreed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from tests.places import SHARED
from twinlines.pipeline.arms import SPEED_OF_LIGHT, vacuum_to_air
from twinlines.pipeline.lamost import reader, times
from twinlines.pipeline.lamost.exposures import ArmExposure, Exposure, MrsFile
from twinlines.pipeline.lamost.reader import LamostError, Reason
from twinlines.pipeline.testing.exposures import random_file

REAL = sorted((SHARED / "lamost").glob("*.fits*")) if SHARED.is_dir() else []
PLACE = {"SPRA": 343.4567, "SPDEC": 34.3}


def as_observed(file: MrsFile, velocities: list[float], *, air: bool) -> MrsFile:
    """The file before its wavelengths were corrected to the Sun, and in air."""

    def undone(arm: ArmExposure | None, velocity: float) -> ArmExposure | None:
        if arm is None:
            return None
        wavelength = 10.0 ** arm.loglam.astype(np.float64) / (1.0 + velocity / SPEED_OF_LIGHT)
        wavelength = vacuum_to_air(wavelength) if air else wavelength
        return replace(arm, loglam=np.log10(wavelength).astype(np.float32))

    exposures = tuple(
        Exposure(e.lmjm, undone(e.blue, v), undone(e.red, v)) for e, v in zip(file.exposures, velocities, strict=True)
    )
    return replace(file, exposures=exposures)


def worst_difference(one: MrsFile, other: MrsFile) -> float:
    """Largest difference of their wavelengths, km/s; 32 bits of their logarithms leave 0.17."""
    return max(
        float(np.abs(a.loglam.astype(float) - b.loglam.astype(float)).max()) * np.log(10.0) * SPEED_OF_LIGHT
        for x, y in zip(one.exposures, other.exposures, strict=True)
        for a, b in zip(x.arms.values(), y.arms.values(), strict=True)
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"VACUUM": False}, "from air to vacuum (VACUUM = F)"),
        ({"HELIO": False}, "by -9.27 km/s to the Sun (HELIO = F)"),
        ({"HELIO": False, "VACUUM": False}, "from air to vacuum (VACUUM = F) and by -9.27 km/s to the Sun (HELIO = F)"),
    ],
    ids=["air", "as observed", "both"],
)
def test_another_frame_is_converted_and_said(tmp_path: Path, header: dict[str, Any], words: str) -> None:
    file = random_file(1, exposures=3)
    earth = times.heliocentric_correction(reader.mid_exposure_utc(file), PLACE["SPRA"], PLACE["SPDEC"])
    stated = {**header, **PLACE, "HELIO_RV": -float(earth[0])}
    velocities = earth.tolist() if "HELIO" in header else [0.0] * 3
    reader.write(tmp_path / "x.fits", as_observed(file, velocities, air="VACUUM" in header), header=stated)
    back = reader.read(tmp_path / "x.fits")
    assert worst_difference(back, file) < 0.35  # km/s; read as they stand, 83 and 9
    assert len(back.problems) == 6
    assert back.problems[0] == f"B-84107311: wavelengths converted {words}"


@pytest.mark.skipif(not REAL, reason="the real LAMOST files are not here")
def test_the_survey_s_own_correction_is_ours() -> None:
    """LAMOST.md 1.5: HELIO_RV is the negative of what is added, at the moment of DATE-OBS."""
    path = next(path for path in REAL if "58408" in path.name)
    file = reader.read(path)
    assert file.problems == ()
    header = fitsio.read_header(str(path), 0)
    moment = np.array([times.mjd_of_date(header["DATE-OBS"])])
    (velocity,) = times.heliocentric_correction(moment, header["SPRA"], header["SPDEC"])
    assert velocity == pytest.approx(-header["HELIO_RV"], abs=0.02)
    # Between first and last exposure, the Earth's velocity changes by -0.238 km/s, and so do their wavelengths.
    earth = times.heliocentric_correction(reader.mid_exposure_utc(file), header["SPRA"], header["SPDEC"])
    assert earth[-1] - earth[0] == pytest.approx(-0.238, abs=0.003)


@pytest.mark.parametrize(
    ("header", "reason", "words"),
    [
        ({"HELIO": False, "HELIO_RV": 25.0}, Reason.OTHER_FRAME, "HELIO_RV = 25.0 km/s, but it must be"),
        ({"HELIO": "perhaps"}, Reason.OTHER_FRAME, "HELIO = 'PERHAPS', expected T or F"),
        ({"VACUUM": 2}, Reason.OTHER_FRAME, "VACUUM = '2', expected T or F"),
        ({"EQUINOX": 1950.0}, Reason.OTHER_FRAME, "EQUINOX = 1950"),
        ({"RADECSYS": "FK4"}, Reason.OTHER_FRAME, "RADECSYS = 'FK4'"),
        ({"TELESCOP": "HET"}, Reason.OTHER_INSTRUMENT, "TELESCOP = 'HET'"),
        ({"SLIT_MOD": "x1"}, Reason.OTHER_INSTRUMENT, "the resolution 7500"),
        ({"OBS_TYPE": "ARC"}, Reason.OTHER_INSTRUMENT, "OBS_TYPE = 'ARC'"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, header: dict[str, Any], reason: Reason, words: str
) -> None:
    reader.write(tmp_path / "x.fits", random_file(0, 1), header=header)
    with pytest.raises(LamostError, match=words) as caught:
        reader.read(tmp_path / "x.fits")
    assert caught.value.reason is reason
    assert "leave the file out" in str(caught.value)


def test_a_time_that_is_not_known_has_no_velocity(tmp_path: Path) -> None:
    reader.write(tmp_path / "x.fits", random_file(0, 1), header={"HELIO": False})
    content = (tmp_path / "x.fits").read_bytes().replace(b"EXPTIME =", b"XXPTIME =")
    (tmp_path / "x.fits").write_bytes(content)
    with pytest.raises(LamostError, match="the time of an exposure is not known"):
        reader.read(tmp_path / "x.fits")


def test_an_extension_may_say_its_own_frame(tmp_path: Path) -> None:
    reader.write(tmp_path / "x.fits", random_file(0, 2))
    content = (tmp_path / "x.fits").read_bytes()
    at = content.index(b"LAMPLIST", content.index(b"EXTNAME = 'R-84107336'"))
    card = b"VACUUM  =                    F / ".ljust(80)
    (tmp_path / "x.fits").write_bytes(content[:at] + card + content[at + 80 :])
    file = reader.read(tmp_path / "x.fits")
    assert file.problems == ("R-84107336: wavelengths converted from air to vacuum (VACUUM = F)",)


def test_what_the_header_leaves_open_is_said(tmp_path: Path) -> None:
    reader.write(tmp_path / "x.fits", random_file(0, 1), header={"FIBERTYP": "Sky"})
    content = (tmp_path / "x.fits").read_bytes().replace(b"VACUUM  =", b"XACUUM  =").replace(b"HELIO   =", b"XELIO   =")
    (tmp_path / "x.fits").write_bytes(content)
    assert reader.read(tmp_path / "x.fits").problems == (
        "FIBERTYP is 'Sky': the fibre was on no star",
        "the header does not say VACUUM; taken for T",
        "the header does not say HELIO; taken for T",
    )
