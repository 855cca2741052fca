import dataclasses
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinlines.pipeline import tracks as module
from twinlines.pipeline.packed import PackedError
from twinlines.pipeline.tracks import MAXIMUM_AGE, RGB_TIP, TAMS, ZAMS, TrackReason, Tracks

SHARED = Path(__file__).resolve().parents[3] / "shared"
PARSEC = SHARED / "tracks" / "PARSEC_v1.2S_feh_m0.02_afe_p0.0_vvcrit0.0_EEPS.txz"


@pytest.fixture(scope="module")
def tracks():
    return Tracks.load()


def small(**changes):
    """Two compositions, three masses, five EEPs; the track of 2 solar masses ends after three EEPs, 8 Gyr old."""
    feh, mass, eep = np.array([-1.0, 0.0]), np.array([1.0, 2.0, 3.0]), np.array([202.0, 203, 300, 454, 605])
    x = feh[:, None, None] + 0 * mass[:, None] + 0 * eep
    log_age = 9.0 + 0.1 * x + 0.0 * mass[:, None] + (eep - 202) / 400
    arrays = {
        "log_age": log_age,
        "log_l": 0.2 * mass[:, None] - 0.1 * x + (eep - 202) / 300,
        "log_teff": 3.75 - 0.02 * x - (eep - 202) / 4000,
        "star_mass": mass[:, None] - (eep - 202) / 4000 + 0 * x,
    }
    for values in arrays.values():
        values[:, 1, 3:] = np.nan
    return Tracks(**({"mass": mass, "feh": feh, "eep": eep, "digest": ""} | arrays | changes))


def test_the_packaged_table_is_the_one_described(tracks):
    assert Tracks.load() is tracks
    assert (tracks.mass[0], tracks.mass[-1], tracks.feh[0], tracks.feh[-1]) == (0.1, 2.2, -2.0, 0.3)
    assert {ZAMS, TAMS, RGB_TIP} <= set(tracks.eep.tolist())
    assert (tracks.eep[0], tracks.eep[-1]) == (ZAMS, RGB_TIP)
    assert len(tracks.digest) == 32
    assert (Path(module.__file__).parent / "data" / "tracks.npz").stat().st_size < 2e6
    # Every star above 0.9 Msun whose main sequence is shorter than the universe's age is stored up to the tip.
    assert np.isfinite(tracks.log_age[:, tracks.mass >= 1.0]).all()


def test_the_sun(tracks):
    eep, reason = tracks.eep_at_age(1.0, 0.0, 4.6e9)
    sun = tracks.state(1.0, 0.0, eep)
    assert reason[0] == 0
    assert abs(np.log10(sun.luminosity[0])) < 0.03
    assert abs(sun.teff[0] - 5772) < 50
    assert abs(sun.logg[0] - 4.438) < 0.03
    assert abs(sun.radius[0] - 1) < 0.03
    assert sun.mass[0] == 1.0


def test_luminosity_radius_and_temperature_agree_with_each_other(tracks):
    rng = np.random.default_rng(1)
    state = tracks.state(rng.uniform(0.8, 2.2, 2000), rng.uniform(-2, 0.3, 2000), rng.uniform(ZAMS, RGB_TIP, 2000))
    good = state.reason == 0
    np.testing.assert_allclose(
        state.luminosity[good], state.radius[good] ** 2 * (state.teff[good] / 5772) ** 4, rtol=1e-12
    )
    np.testing.assert_allclose(
        state.logg[good], 4.438 + np.log10(state.mass[good]) - 2 * np.log10(state.radius[good]), rtol=1e-12
    )
    at_node = tracks.state(tracks.mass[40], tracks.feh[20], tracks.eep[::9])
    np.testing.assert_allclose(at_node.logg, tracks.log_g[20, 40, ::9], rtol=1e-12)
    np.testing.assert_allclose(np.log10(at_node.radius), tracks.log_r[20, 40, ::9], atol=1e-12)


@settings(deadline=None)
@given(st.floats(0.1, 2.2), st.floats(-2, 0.3))
def test_age_rises_along_any_interpolated_track(mass, feh):
    state = Tracks.load().state(mass, feh, np.linspace(ZAMS, RGB_TIP, 1613))
    age = state.age[state.reason == 0]
    assert age.size > 0
    assert (np.diff(age) > 0).all()
    # No gaps: what is missing is missing from some EEP on.
    assert (state.reason[: age.size] == 0).all()
    assert set(state.reason[age.size :].tolist()) <= {TrackReason.TOO_OLD}


@settings(deadline=None, max_examples=300)
@given(st.floats(0.1, 2.2), st.floats(-2, 0.3), st.floats(ZAMS, RGB_TIP))
def test_the_eep_at_a_states_age_is_the_states(mass, feh, eep):
    tracks = Tracks.load()
    state = tracks.state(mass, feh, eep)
    assume(state.reason[0] == 0)
    back, reason = tracks.eep_at_age(mass, feh, state.age)
    assert reason[0] == 0
    assert back[0] == pytest.approx(eep, abs=1e-6)


def test_many_stars_are_the_same_as_one_by_one(tracks, monkeypatch):
    rng = np.random.default_rng(2)
    mass, feh, eep = rng.uniform(0.05, 2.3, 500), rng.uniform(-2.1, 0.4, 500), rng.uniform(200, 610, 500)
    age = 10 ** rng.uniform(6, 10.3, 500)
    monkeypatch.setattr(module, "_CHUNK", 64)
    chunked, found = tracks.state(mass, feh, eep), tracks.eep_at_age(mass, feh, age)
    monkeypatch.undo()
    for i in range(0, 500, 9):
        one = tracks.state(mass[i], feh[i], eep[i])
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name)[0], getattr(chunked, field.name)[i])
        single = tracks.eep_at_age(mass[i], feh[i], age[i])
        np.testing.assert_array_equal([single[0][0], single[1][0]], [found[0][i], found[1][i]])
    assert (np.isnan(chunked.teff) == (chunked.reason != 0)).all()
    assert (np.isnan(found[0]) == (found[1] != 0)).all()


def test_no_stars(tracks):
    assert tracks.state([], [], []).teff.shape == (0,)
    assert tracks.eep_at_age([], 0.0, 1e9)[0].shape == (0,)


@pytest.mark.parametrize(
    ("star", "reason"),
    [
        ((1, 0, 300), TrackReason.OK),
        ((0.09, 0, 300), TrackReason.MASS_LOW),
        ((2.3, 0, 300), TrackReason.MASS_HIGH),
        ((1, -2.1, 300), TrackReason.FEH_LOW),
        ((1, 0.4, 300), TrackReason.FEH_HIGH),
        ((1, 0, 201.9), TrackReason.EEP_LOW),
        ((1, 0, 605.1), TrackReason.EEP_HIGH),
        ((0.5, 0, 454), TrackReason.TOO_OLD),
        ((0.87, 0, 440), TrackReason.TOO_OLD),
        ((0.1, 0.3, 500), TrackReason.TOO_OLD),
        ((0.01, 9, np.nan), TrackReason.NOT_FINITE),
        ((np.inf, 0, 300), TrackReason.NOT_FINITE),
    ],
)
def test_states_outside_carry_a_reason(tracks, star, reason):
    state = tracks.state(*star)
    assert state.reason.tolist() == [reason]
    for field in dataclasses.fields(state):
        if field.name != "reason":
            assert np.isnan(getattr(state, field.name)[0]) == (reason != 0)


@pytest.mark.parametrize(
    ("star", "reason"),
    [
        ((1, 0, 4.6e9), TrackReason.OK),
        ((0.1, 0, 5e9), TrackReason.OK),
        ((0.09, 0, 1e9), TrackReason.MASS_LOW),
        ((2.3, 0, 1e9), TrackReason.MASS_HIGH),
        ((1, -2.1, 1e9), TrackReason.FEH_LOW),
        ((1, 0.4, 1e9), TrackReason.FEH_HIGH),
        ((0.3, 0, 1e8), TrackReason.AGE_YOUNG),
        ((1, 0, 0.0), TrackReason.AGE_YOUNG),
        ((1, 0, -1e9), TrackReason.AGE_YOUNG),
        ((2, 0, 5e9), TrackReason.AGE_OLD),
        ((0.3, 0, 13.9e9), TrackReason.TOO_OLD),
        ((1, 0, np.nan), TrackReason.NOT_FINITE),
        ((np.nan, 0, 1e9), TrackReason.NOT_FINITE),
    ],
)
def test_ages_outside_carry_a_reason(tracks, star, reason):
    eep, codes = tracks.eep_at_age(*star)
    assert codes.tolist() == [reason]
    assert np.isnan(eep[0]) == (reason != 0)


def test_every_star_of_the_universe_is_stored(tracks):
    # At 13.8 Gyr the stored neighbours suffice for any mass and composition, wherever tracks were cut.
    mass, feh = np.meshgrid(np.linspace(0.1, 2.2, 800), np.linspace(-2, 0.3, 47))
    _, reason = tracks.eep_at_age(mass.ravel(), feh.ravel(), MAXIMUM_AGE)
    assert set(np.unique(reason)) == {TrackReason.OK, TrackReason.AGE_OLD}


def test_a_ragged_table_ends_where_its_tracks_end():
    tracks = small()
    assert tracks.state([2, 2, 1.5, 1.5], -0.5, [300, 301, 300, 300.1]).reason.tolist() == [0, 7, 0, 7]
    assert tracks.state([1, 3], [-1, 0], [605, 605]).reason.tolist() == [0, 0], "the neighbour's end does not matter"
    last = float(tracks.state(2, 0, 300).age[0])
    assert tracks.eep_at_age(2, 0, [last, last * 1.01])[1].tolist() == [0, TrackReason.TRACK_ENDS]
    end = float(tracks.state(1, 0, 605).age[0])
    assert tracks.eep_at_age(1, 0, [end, min(end * 1.01, MAXIMUM_AGE)])[1].tolist() == [0, TrackReason.AGE_OLD]


def test_interpolation_is_linear_in_mass_feh_and_eep():
    state = small().state(1.25, -0.6, 202.25)
    assert np.log10(state.age[0]) == pytest.approx(9 - 0.06 + 0.25 / 400, abs=1e-12)
    assert np.log10(state.luminosity[0]) == pytest.approx(0.25 + 0.06 + 0.25 / 300, abs=1e-12)
    assert np.log10(state.teff[0]) == pytest.approx(3.75 + 0.012 - 0.25 / 4000, abs=1e-12)


def test_a_table_that_is_not_one_is_refused():
    with pytest.raises(ValueError, match="feh must have at least two values, ascending"):
        small(feh=np.array([0.0, -1.0]))
    with pytest.raises(ValueError, match=r"log_l has shape \(1, 3, 5\), expected \(2, 3, 5\)"):
        small(log_l=np.zeros((1, 3, 5)))
    log_age = small().log_age.copy()
    log_age[1, 2, 3] = log_age[1, 2, 2]
    with pytest.raises(ValueError, match=r"track of 3 Msun, \[Fe/H\] 0, at EEP 300"):
        small(log_age=log_age)
    log_age = small().log_age.copy()
    log_age[0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="values after its end"):
        small(log_age=log_age)
    with pytest.raises(ValueError, match=r"of shape \(n,\)"):
        small().state(np.ones((2, 2)), 0, 300)


def test_a_table_is_saved_and_loaded(tmp_path):
    digest = module.save(tmp_path / "t.npz", small(), {"source": "a test"})
    loaded = Tracks.load(tmp_path / "t.npz")
    assert loaded.digest == digest
    np.testing.assert_allclose(loaded.log_age, small().log_age, rtol=1e-7)
    np.testing.assert_allclose(loaded.log_l, small().log_l, atol=1e-4)
    np.testing.assert_allclose(loaded.log_teff, small().log_teff, atol=1e-5)
    with pytest.raises(PackedError, match="does not exist"):
        Tracks.load(tmp_path / "none.npz")


def parsec_track(mass):
    """Columns of one PARSEC track of solar composition."""
    with tarfile.open(PARSEC) as archive:
        member = next(item for item in archive if item.name.endswith(f"/{round(mass * 100):05d}M.track.eep"))
        lines = archive.extractfile(member).read().decode().splitlines()
    rows = np.array([line.split() for line in lines[12:]], dtype=float)
    return dict(zip(lines[11].split()[1:], rows.T, strict=True))


@pytest.mark.skipif(not PARSEC.exists(), reason="the PARSEC tracks are not in ../shared")
@pytest.mark.parametrize("mass", [1.0, 1.5, 2.0])
def test_the_formulae_resemble_parsec_models(tracks, mass):
    parsec = parsec_track(mass)
    ends = tracks.state(mass, -0.02, [TAMS, RGB_TIP])
    assert ends.age[0] == pytest.approx(parsec["star_age"][TAMS - 1], rel=0.2)
    assert ends.age[1] == pytest.approx(parsec["star_age"][RGB_TIP - 1], rel=0.12)
    assert np.log10(ends.luminosity[1]) == pytest.approx(parsec["log_L"][RGB_TIP - 1], abs=0.1)
    age = parsec["star_age"][TAMS - 1] * np.array([0.1, 0.5, 0.9])
    state = tracks.state(mass, -0.02, tracks.eep_at_age(mass, -0.02, age)[0])
    for name, values, limit in (
        ("log_L", np.log10(state.luminosity), 0.10),
        ("log_Teff", np.log10(state.teff), 0.03),
        ("log_g", state.logg, 0.10),
    ):
        np.testing.assert_allclose(values, np.interp(age, parsec["star_age"], parsec[name]), atol=limit)
    giants = tracks.state(mass, -0.02, np.linspace(500, 600, 101))
    at = np.array([2.0, 2.3])  # log L, above the bump
    bright = slice(520, RGB_TIP)
    expected = np.interp(at, parsec["log_L"][bright], parsec["log_Teff"][bright])
    np.testing.assert_allclose(np.interp(at, np.log10(giants.luminosity), np.log10(giants.teff)), expected, atol=0.012)
