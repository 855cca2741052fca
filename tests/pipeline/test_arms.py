from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline import arms
from twinlines.pipeline.arms import BLUE, RED, STEP_DEX


@pytest.mark.parametrize(
    ("arm", "n_pixels", "first", "last"),
    [
        # The authors' m9waveBR file: first and last values of its two parts.
        (BLUE, 3347, 5000.036675146197, 5299.9155283254495),
        (RED, 3509, 6350.085035426158, 6749.941653619982),
    ],
)
def test_grids_are_the_authors(arm: arms.Arm, n_pixels: int, first: float, last: float) -> None:
    assert arm.wavelength.shape == (n_pixels,)
    assert arm.wavelength[0] == pytest.approx(first, abs=1e-9)
    assert arm.wavelength[-1] == pytest.approx(last, abs=1e-4)
    np.testing.assert_allclose(np.diff(arm.loglam), STEP_DEX, rtol=1e-8)


@pytest.mark.parametrize("arm", [BLUE, RED])
def test_library_grid_contains_the_grid(arm: arms.Arm) -> None:
    assert arm.library_wavelength.shape == (arm.library_pixels,)
    np.testing.assert_allclose(arm.library_wavelength[arm.on_library], arm.wavelength, rtol=1e-14)


def test_step_in_velocity() -> None:
    assert pytest.approx(5.21865, abs=1e-5) == arms.STEP_KMS


@pytest.mark.parametrize(
    ("air", "vacuum"),
    # H-alpha, H-beta and the sodium D lines: air and vacuum wavelengths of the NIST Atomic Spectra Database.
    [(6562.79, 6564.60), (4861.35, 4862.71), (5889.951, 5891.583), (5895.924, 5897.558)],
)
def test_air_and_vacuum_of_known_lines(air: float, vacuum: float) -> None:
    assert arms.air_to_vacuum(air) == pytest.approx(vacuum, abs=0.01)


@given(st.floats(3000.0, 10_000.0))
def test_air_to_vacuum_inverts_vacuum_to_air(vacuum: float) -> None:
    assert arms.air_to_vacuum(arms.vacuum_to_air(vacuum)) == pytest.approx(vacuum, abs=1e-9)


@given(st.floats(-1500.0, 1500.0))
def test_shift_and_velocity_are_inverse(velocity: float) -> None:
    assert arms.velocity_of_shift(arms.pixel_shift(velocity)) == pytest.approx(velocity, abs=1e-7)


def test_a_receding_star_is_shifted_to_the_red() -> None:
    assert arms.doppler_factor(299_792.458) == 2.0
    assert arms.pixel_shift(5.2187) == pytest.approx(1.0, abs=1e-3)


def test_unknown_arm() -> None:
    with pytest.raises(ValueError, match="no arm is called 'G'"):
        arms.arm("G")
