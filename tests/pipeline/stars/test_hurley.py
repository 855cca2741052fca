import importlib.util
import sys

import numpy as np
import pytest

from twinlines.pipeline.stars import hurley
from twinlines.pipeline.stars.hurley import MissingCosmicError, contraction_age, evolve, main, make
from twinlines.pipeline.stars.tracks import RGB_TIP, TAMS, ZAMS, Tracks

needs_cosmic = pytest.mark.skipif(
    importlib.util.find_spec("cosmic") is None,
    reason='cosmic-popsynth is not installed (pip install "twinlines[tracks]")',
)


def test_without_cosmic_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cosmic", None)
    monkeypatch.setitem(sys.modules, "cosmic.evolve", None)
    with pytest.raises(MissingCosmicError, match=r'pip install "twinlines\[tracks\]"'):
        make(tmp_path / "t.zarr.zip")
    with pytest.raises(SystemExit, match=r'pip install "twinlines\[tracks\]"'):
        main([str(tmp_path / "t.zarr.zip")])
    assert not (tmp_path / "t.zarr.zip").exists()


@pytest.mark.parametrize("feh", [-2.2, 0.4])
def test_compositions_beyond_the_formulae_are_refused(feh):
    with pytest.raises(ValueError, match=r"hold from 1e-4 to 0.03"):
        evolve(np.array([1.0]), feh)


def test_contraction_takes_longer_for_lighter_stars():
    assert contraction_age(1.0) == pytest.approx(4e7)
    assert (np.diff([contraction_age(mass) for mass in np.linspace(0.1, 2.2, 50)]) < 0).all()


def test_the_axes_are_those_of_the_packaged_table():
    tracks = Tracks.load()
    np.testing.assert_array_equal(tracks.mesh.mass, hurley.MASSES)
    np.testing.assert_array_equal(tracks.mesh.feh, hurley.FEHS)
    np.testing.assert_array_equal(tracks.eep, hurley.EEPS)
    assert {ZAMS, TAMS, RGB_TIP} <= set(hurley.EEPS)


def a_history():
    """A made-up star of 1 solar mass: 10 Gyr of main sequence, 1 Gyr of gap, 1 Gyr of giant branch, then helium."""
    age = np.concatenate([np.linspace(0, 9.99e9, 400), np.linspace(10e9, 10.99e9, 50), np.linspace(11e9, 12e9, 90)])
    kind = np.repeat([1.0, 2.0, 3.0], [400, 50, 90])
    log_l = np.interp(age, [0, 10e9, 11e9, 12e9], [0, 0.3, 0.5, 3.4])
    log_r = np.interp(age, [0, 10e9, 11e9, 12e9], [0, 0.2, 0.4, 2.2])
    rows = np.column_stack([age, kind, np.where(kind < 3, 1.0, 0.9), 10**log_l, 10**log_r])
    return np.vstack([rows, [12.01e9, 4.0, 0.9, 50.0, 10.0]])


def test_a_history_is_resampled_phase_by_phase():
    log_age, log_l, log_teff, star_mass = hurley._at_eeps(a_history(), "a star")
    at = {eep: index for index, eep in enumerate(hurley.EEPS.tolist())}
    ages = 10**log_age
    assert ages[at[ZAMS]] == pytest.approx(4e7)
    assert ages[at[TAMS]] == pytest.approx(10e9)
    assert ages[at[490]] == pytest.approx(11e9)
    assert ages[at[RGB_TIP]] == pytest.approx(12e9)
    middle = at[302]
    assert ages[middle] == pytest.approx(4e7 + 100 / 252 * (10e9 - 4e7))
    assert log_l[middle] == pytest.approx(0.3 * ages[middle] / 10e9, abs=1e-9)
    assert log_l[at[RGB_TIP]] == pytest.approx(3.4)
    assert log_l[at[550]] == pytest.approx(0.5 + 60 / 115 * 2.9)
    np.testing.assert_allclose(log_teff[at[TAMS]], np.log10(5772) + 0.25 * 0.3 - 0.5 * 0.2)
    assert star_mass[middle] == 1.0
    assert star_mass[at[550]] == pytest.approx(0.9)


def test_a_history_is_cut_one_model_after_the_cut():
    history = a_history()
    history[:, 0] *= 10
    log_age = hurley._at_eeps(history, "a star")[0]
    last = np.flatnonzero(np.isfinite(log_age))[-1]
    assert 10 ** log_age[last] > hurley.CUT_AGE > 10 ** log_age[last - 1]
    assert np.isnan(log_age[last + 1 :]).all()


def test_a_star_that_does_not_reach_the_tip_is_refused():
    with pytest.raises(ValueError, match="a star lose its envelope before helium ignites"):
        hurley._at_eeps(a_history()[:-1], "a star")
    with pytest.raises(ValueError, match="do not bring a star to the giant branch"):
        hurley._at_eeps(a_history()[:420], "a star")


@needs_cosmic
@pytest.mark.filterwarnings("default")
def test_the_formulae_give_the_packaged_table(tmp_path):
    packaged = Tracks.load()
    masses, fehs = packaged.mesh.mass[[0, 36, 60, 84]], packaged.mesh.feh[[0, 20]]
    made = make(tmp_path / "t.zarr.zip", masses, fehs)
    rows = np.isin(packaged.mass, masses) & np.isin(packaged.feh, fehs)
    for name in ("log_age", "log_l", "log_teff", "star_mass"):
        np.testing.assert_allclose(getattr(made, name), getattr(packaged, name)[rows], atol=2e-4)
    assert Tracks.load(tmp_path / "t.zarr.zip") is made
