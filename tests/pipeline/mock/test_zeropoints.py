"""Zero points of mock releases: wavelengths are off by what the truth says, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from twinlines.pipeline.arms import ARM_NAMES, SPEED_OF_LIGHT
from twinlines.pipeline.binaries.zeropoints.references import read
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.mock.release import REFERENCES, MockConfig, MockDefects, MockTruth, make_release
from twinlines.pipeline.mock.stars import Mixture

PLAIN = MockConfig(
    mixture=Mixture(sb2=0.5, sb1=0.0, giant=0.0),
    defects=MockDefects(0, 0, 0, 0, 0),
    stars_per_plate=2,
    nights=(1, 1),
    exposures=(2, 2),
)


def velocity_off(plain: reader.ArmExposure, off: reader.ArmExposure) -> float:
    """By how much wavelengths are off, as a velocity, km/s."""
    assert np.array_equal(plain.flux, off.flux)
    ratio = 10.0 ** (off.loglam.astype(np.float64) - plain.loglam)
    return float(SPEED_OF_LIGHT * (np.mean(ratio) - 1.0))


def test_wavelengths_are_off_by_the_zero_points(tmp_path: Path) -> None:
    plain = make_release(tmp_path / "plain", stars=2, seed=5, config=PLAIN)
    off = make_release(tmp_path / "off", stars=2, seed=5, config=replace(PLAIN, zero_points=3.0))
    assert set(off.exposures.colnames) - set(plain.exposures.colnames) == {"zero_point_B", "zero_point_R"}
    assert not (plain.folder / REFERENCES).exists()
    table = MockTruth.read(off.folder).exposures
    for path in np.unique(table["file"]):
        rows = table[table["file"] == path]
        files = [reader.read(truth.folder / path) for truth in (plain, off)]
        for row, *both in zip(rows, *(file.exposures for file in files), strict=True):
            for arm in ARM_NAMES:
                # Measured velocities are lower by what is to be added; a file keeps wavelengths to 0.16 km/s.
                apart = velocity_off(both[0].arms[arm], both[1].arms[arm])
                assert abs(apart + row[f"zero_point_{arm}"]) < 0.02
    # One for each exposure of a spectrograph.
    units = np.unique(np.stack([table["spid"], table["lmjm"]], axis=-1), axis=0)
    assert len(np.unique(table["zero_point_B"])) == len(np.unique(table["zero_point_R"])) == len(units)

    stars = read(off.folder / REFERENCES)
    assert len(stars.velocity) == 2
    row = stars.match(table["obsid"].data, table["ra"].data, table["dec"].data)
    assert np.array_equal(row, table["star"].data)
    truth = np.where(np.isfinite(table["systemic"]), table["systemic"], table["v1"])
    assert np.all(np.abs(stars.velocity[row] - truth) < 5.0 * stars.error[row])
