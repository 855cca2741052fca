import dataclasses
import functools
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.places import ROOT, SHARED
from twinlines.pipeline.schema import EXPOSURES, TRACKS, SchemaError
from twinlines.pipeline.stars import store
from twinlines.pipeline.stars import tracks as module
from twinlines.pipeline.stars.tracks import MAXIMUM_AGE, RGB_TIP, TAMS, ZAMS, TrackReason, Tracks
from twinlines.pipeline.storage import stores
from twinlines.pipeline.storage.stores import StoreError
from twinlines.pipeline.synthesis import population
from twinlines.pipeline.synthesis.population import Uniform
from twinlines.pipeline.testing.tracks import truth

PARSEC = SHARED / "tracks" / "PARSEC_v1.2S_feh_m0.02_afe_p0.0_vvcrit0.0_EEPS.txz"


@pytest.fixture(scope="module")
def tracks():
    return Tracks.load()


def columns_of(tracks):
    """Stored variables of tracks by name."""
    return {name: getattr(tracks, name) for name in ("feh", "alpha", "mass", *module._QUANTITIES)}


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
    for name, values in arrays.items():
        values[:, 1, 3:] = np.nan
        arrays[name] = values.reshape(6, 5)
    axes = {"feh": np.repeat(feh, 3), "alpha": np.zeros(6), "mass": np.tile(mass, 2), "eep": eep}
    return Tracks(**(axes | {"digest": ""} | arrays | changes))


def test_the_packaged_table_is_the_one_described(tracks):
    assert Tracks.load() is tracks
    assert (tracks.mass[0], tracks.mass[-1], tracks.feh[0], tracks.feh[-1]) == (0.1, 2.2, -2.0, 0.3)
    assert (tracks.mass.size, tracks.mesh.feh.size, tracks.mesh.mass.size) == (2040, 24, 85)
    assert {ZAMS, TAMS, RGB_TIP} <= set(tracks.eep.tolist())
    assert (tracks.eep[0], tracks.eep[-1]) == (ZAMS, RGB_TIP)
    assert len(tracks.digest) == 32
    assert (ROOT / "pipeline" / "data" / "tracks.zarr.zip").stat().st_size < 2e6
    # Every star above 0.9 Msun whose main sequence is shorter than the universe's age is stored up to the tip.
    assert np.isfinite(tracks.log_age[tracks.mass >= 1.0]).all()


def test_the_sun(tracks):
    eep, reason = tracks.eep_at_age(1.0, 0.0, 4.6e9)
    sun = tracks.state(1.0, 0.0, eep)
    assert reason[0] == 0
    assert abs(np.log10(sun.luminosity[0])) < 0.03
    assert abs(sun.teff[0] - 5772) < 50
    assert abs(sun.logg[0] - 4.438) < 0.03
    assert abs(sun.radius[0] - 1) < 0.03
    assert sun.mass[0] == 1.0


@pytest.mark.parametrize(
    ("star", "expected"),
    [
        ((1.013, -0.03, 310.5), (4445690192.587342, 5826.22521001346, 4.4343705114747225, 1.0130126953124998)),
        ((0.8771, -1.234, 470.2), (10119508710.964983, 5516.868636703016, 3.627264909499691, 0.877041015625)),
        ((1.913, 0.213, 601.7), (1504304177.9869444, 3161.3253934595887, 0.6721369556441354, 1.9104327075195313)),
        ((0.317, -0.555, 202.9), (1321267146.271829, 3707.0519680504012, 4.958471492083578, 0.31700439453125)),
    ],
)
def test_states_are_those_of_version_0_1(tracks, star, expected):
    # Before tracks were ragged: a training set that was made then is made again.
    state = tracks.state(*star)
    np.testing.assert_allclose([state.age[0], state.teff[0], state.logg[0], state.mass[0]], expected, rtol=1e-12)


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
    row = 20 * 85 + 40
    at_node = tracks.state(tracks.mass[row], tracks.feh[row], tracks.eep[::9])
    np.testing.assert_allclose(at_node.logg, tracks.log_g[row, ::9], rtol=1e-12)
    np.testing.assert_allclose(np.log10(at_node.radius), tracks.log_r[row, ::9], atol=1e-12)


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


def test_tracks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="eep must have at least two values, ascending"):
        small(eep=np.array([202.0, 300, 203, 454, 605]))
    with pytest.raises(ValueError, match=r"log_l has shape \(1, 5\), expected \(6, 5\)"):
        small(log_l=np.zeros((1, 5)))
    with pytest.raises(ValueError, match=r"alpha has shape \(1,\), expected \(6,\)"):
        small(alpha=np.zeros(1))
    with pytest.raises(ValueError, match=r"1 Msun at \(0, 0\) follows 2 Msun at \(0, 0\)"):
        small(mass=np.array([1.0, 2, 3, 2, 1, 3]))
    with pytest.raises(ValueError, match="each there once; 1 Msun at"):
        small(feh=np.zeros(6), mass=np.array([1.0, 1, 2, 3, 4, 5]))
    log_age = small().log_age.copy()
    log_age[5, 3] = log_age[5, 2]
    with pytest.raises(ValueError, match=r"track of 3 Msun, \[Fe/H\] 0 after EEP 300"):
        small(log_age=log_age)
    log_age = small().log_age.copy()
    log_age[0, 1] = np.nan
    with pytest.raises(ValueError, match="values after its end"):
        small(log_age=log_age)
    log_age[0, 1:] = np.nan
    with pytest.raises(ValueError, match=r"1 Msun, \[Fe/H\] -1 has fewer than two EEPs"):
        small(log_age=log_age)
    with pytest.raises(ValueError, match=r"of shape \(n,\)"):
        small().state(np.ones((2, 2)), 0, 300)


def test_tracks_are_stored_and_loaded(tmp_path):
    path = tmp_path / "t.zarr.zip"
    digest = store.write(path, columns_of(small()), small().eep, {"source": "a test"})
    loaded = Tracks.load(path)
    assert loaded.digest == digest
    for name in ("feh", "alpha", "mass", "eep", "log_age"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(small(), name))
    for name in ("log_l", "log_teff", "star_mass"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(small(), name).astype(np.float32))
    stored = store.read(path)
    assert stored.attrs == {"source": "a test"}
    assert stored.columns["n_eeps"].tolist() == [5, 3, 5, 5, 3, 5]
    first = path.read_bytes()
    store.write(path, columns_of(small()), small().eep, {"source": "a test"})
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "t.zarr")
    assert Tracks.load(tmp_path / "t.zarr").digest == digest, "a folder serves as well"


def test_a_store_is_read_once_until_it_changes(tmp_path):
    path = tmp_path / "t.zarr.zip"
    store.write(path, columns_of(small()), small().eep, {})
    first = Tracks.load(path)
    assert Tracks.load(path) is first
    store.write(path, columns_of(small(log_l=small().log_l + 1)), small().eep, {"note": "another"})
    assert Tracks.load(path).digest != first.digest


def test_a_damaged_or_other_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"none\.zarr\.zip does not exist; 'twinlines tracks import'"):
        Tracks.load(tmp_path / "none.zarr.zip")
    path = tmp_path / "t.zarr.zip"
    store.write(path, columns_of(small()), small().eep, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"t\.zarr\.zip"):
        Tracks.load(path)
    at = whole.index(b"log_l/c/0/0") + len("log_l/c/0/0") + 20
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(StoreError, match="is damaged"):
        Tracks.load(path)
    dataset = stores.open_store(write_small(tmp_path), TRACKS).load()
    dataset["mass"][0] = 0.5  # as the attributes do not say
    schema = TRACKS.labelled("eep", dataset["eep"].values.tolist())
    path.write_bytes(stores.pack(schema, dataset))
    with pytest.raises(StoreError, match="content hashes to"):
        Tracks.load(path)
    columns = columns_of(small())
    columns["mass"] = columns["mass"][::-1]
    store.write(path, columns, small().eep, {})
    with pytest.raises(StoreError, match=r"t\.zarr\.zip: tracks must be sorted"):
        Tracks.load(path)
    other = tmp_path / "other.zarr"
    stores.create(other, EXPOSURES, 3)
    with pytest.raises(SchemaError, match="'exposures'"):
        Tracks.load(other)


def write_small(folder):
    path = folder / "small.zarr.zip"
    store.write(path, columns_of(small()), small().eep, {})
    return path


RAGGED = [
    (-0.5, -0.2, [(0.7, 300), (0.9, 605), (1.0, 605), (1.5, 605), (2.0, 500)]),
    (-0.5, 0.4, [(0.8, 605), (1.1, 605), (2.0, 605)]),
    (0.1, -0.2, [(0.7, 605), (0.95, 605), (1.0, 605), (2.1, 605)]),
    (0.1, 0.4, [(0.6, 605), (1.0, 605), (2.0, 605)]),
    (0.4, -0.2, [(0.7, 605), (2.0, 605)]),
]
"""[Fe/H], [alpha/Fe], (mass, last EEP): masses differ, tracks end, and (0.4, 0.4) is a hole."""


@functools.cache
def ragged():
    return linear(RAGGED)


def linear(compositions):
    """Tracks whose quantities are linear in everything, so that the interpolation should be exact."""
    rows = [(feh, alpha, mass, last) for feh, alpha, masses in compositions for mass, last in masses]
    feh, alpha, mass, last = np.array(rows).T
    eep = np.arange(1.0, 606.0)
    values = np.stack(truth(mass[:, None], feh[:, None], eep, alpha[:, None]))
    values[:, eep > last[:, None]] = np.nan
    return Tracks(feh, alpha, mass, eep, *values, digest="")


inside = st.tuples(
    st.floats(0.8, 2.0), st.floats(-0.5, 0.1), st.floats(1, 605), st.floats(-0.2, 0.4)
)  # what all four compositions around have


@settings(deadline=None, max_examples=300)
@given(inside)
def test_each_composition_is_interpolated_between_its_own_masses(star):
    tracks = ragged()
    state = tracks.state(*star)
    if state.reason[0] in (TrackReason.TRACK_ENDS, TrackReason.TOO_OLD):
        return
    assert state.reason[0] == 0
    log_age, log_l, log_teff, star_mass = truth(*(np.array(value) for value in star))
    found = (np.log10(state.age[0]), np.log10(state.luminosity[0]), np.log10(state.teff[0]), state.mass[0])
    np.testing.assert_allclose(found, (log_age, log_l, log_teff, star_mass), atol=1e-11)


@settings(deadline=None, max_examples=300)
@given(inside)
def test_both_directions_are_inverses_on_ragged_tracks(star):
    tracks = ragged()
    mass, feh, eep, alpha = star
    state = tracks.state(mass, feh, eep, alpha)
    assume(state.reason[0] == 0)
    back, reason = tracks.eep_at_age(mass, feh, state.age, alpha)
    assert reason[0] == 0
    assert back[0] == pytest.approx(eep, abs=1e-6)


@settings(deadline=None, max_examples=300)
@given(st.floats(0.4, 2.4), st.floats(-0.7, 0.6), st.floats(-5, 620), st.floats(-0.4, 0.6), st.floats(8, 10.3))
def test_what_is_finite_is_inside(mass, feh, eep, alpha, log_age):
    tracks = ragged()
    state = tracks.state(mass, feh, eep, alpha)
    assert np.isfinite(state.teff[0]) == np.isfinite(state.age[0]) == (state.reason[0] == 0)
    found, reason = tracks.eep_at_age(mass, feh, 10**log_age, alpha)
    assert np.isfinite(found[0]) == (reason[0] == 0)
    surrounded = -0.5 <= feh <= 0.4 and -0.2 <= alpha <= 0.4 and 0.6 <= mass <= 2.1
    if not surrounded or not 1 <= eep <= 605:
        assert state.reason[0] != 0
    if not surrounded:
        assert reason[0] != 0


def test_nodes_are_given_back_exactly_up_to_their_ends():
    tracks = ragged()
    for row in range(tracks.mass.size):
        length = tracks.length[row]
        young = tracks.log_age[row, :length] <= np.log10(MAXIMUM_AGE)
        state = tracks.state(tracks.mass[row], tracks.feh[row], tracks.eep[:length], tracks.alpha[row])
        assert (state.reason == np.where(young, 0, TrackReason.TOO_OLD)).all()
        np.testing.assert_allclose(state.age[young], 10 ** tracks.log_age[row, :length][young], rtol=1e-14)
        np.testing.assert_array_equal(state.mass[young], tracks.star_mass[row, :length][young])


@pytest.mark.parametrize(
    ("star", "reason"),
    [
        ((1.0, -0.2, 300, 0.0), TrackReason.OK),
        ((0.6, 0.1, 300, 0.4), TrackReason.OK),
        ((0.65, 0.1, 300, 0.3), TrackReason.MASS_LOW),
        ((2.05, 0.1, 300, -0.2), TrackReason.OK),
        ((2.05, 0.1, 300, -0.1), TrackReason.MASS_HIGH),
        ((2.05, 0.09, 300, -0.2), TrackReason.MASS_HIGH),
        ((1.0, 0.0, 300, -0.21), TrackReason.ALPHA_LOW),
        ((1.0, 0.0, 300, 0.41), TrackReason.ALPHA_HIGH),
        ((1.0, 0.2, 300, 0.0), TrackReason.HOLE),
        ((2.05, 0.2, 300, 0.0), TrackReason.HOLE),
        ((1.0, 0.2, 300, -0.2), TrackReason.OK),
        ((1.0, 0.4, 300, 0.4), TrackReason.HOLE),
        ((1.0, 0.0, 300, np.nan), TrackReason.NOT_FINITE),
        ((0.8, -0.5, 301, -0.2), TrackReason.TRACK_ENDS),
        ((0.9, -0.5, 301, -0.2), TrackReason.OK),
    ],
)
def test_ragged_tracks_end_with_a_reason(star, reason):
    tracks = ragged()
    state = tracks.state(*star)
    assert state.reason.tolist() == [reason]
    if reason != TrackReason.TRACK_ENDS:
        mass, feh, _, alpha = star
        assert tracks.eep_at_age(mass, feh, 3e9, alpha)[1].tolist() in ([reason], [TrackReason.AGE_OLD])


def test_a_population_has_the_tracks_of_its_alpha():
    class Everything:
        def outside(self, labels):
            return np.zeros(len(labels), dtype=np.int8)

    priors = dataclasses.replace(
        population.TABLE1, mass1=Uniform(1.0, 2.0), mass_ratio=Uniform(0.8, 1.0), feh=Uniform(-0.5, 0.1),
        alpha=Uniform(-0.2, 0.4),
    )  # fmt: skip
    pairs = population.resolve(population.draw(0, 500, 3, priors), ragged(), Everything()).kept_pairs()
    assert len(pairs.fate) > 200
    draws = pairs.draws
    log_age, _, log_teff, _ = truth(draws.mass1, draws.feh, draws.eep1, draws.alpha)
    np.testing.assert_allclose(np.log10(pairs.primary.age), log_age, atol=1e-11)
    np.testing.assert_allclose(np.log10(pairs.primary.teff), log_teff, atol=1e-11)
    secondary_log_age, _, log_teff, _ = truth(draws.mass2, draws.feh, pairs.eep2, draws.alpha)
    np.testing.assert_allclose(secondary_log_age, log_age, atol=1e-9)
    np.testing.assert_allclose(np.log10(pairs.secondary.teff), log_teff, atol=1e-9)


def test_a_removed_mass_is_interpolated_between_its_neighbours():
    with_it = linear([(-0.5, 0.0, [(0.8, 605), (1.0, 605), (1.2, 605)]), (0.1, 0.0, [(0.8, 605), (1.2, 605)])])
    without = linear([(-0.5, 0.0, [(0.8, 605), (1.2, 605)]), (0.1, 0.0, [(0.8, 605), (1.2, 605)])])
    for tracks in (with_it, without):
        state = tracks.state(1.0, [-0.5, -0.2, 0.1], 400)
        np.testing.assert_allclose(state.mass, 1.0 - 400e-5, rtol=1e-13)


def test_one_composition_serves_itself_alone_and_one_alpha_is_no_coordinate():
    tracks = linear([(0.1, 0.3, [(0.8, 605), (1.2, 605)])])
    reasons = tracks.state(1.0, [0.1, 0.1, 0.1, 0.09, 0.11], 300, [0.3, -0.4, np.nan, 0.3, 0.3]).reason
    assert reasons.tolist() == [0, 0, 0, TrackReason.FEH_LOW, TrackReason.FEH_HIGH]
    assert tracks.eep_at_age(1.0, 0.1, 3e9)[1].tolist() == [0]


def test_a_star_past_the_tip_of_the_giant_branch_is_old_whatever_other_tracks_have():
    long = linear([(0.0, 0.0, [(1.5, 605), (2.0, 605)])])
    eep = np.arange(1.0, 711.0)
    values = np.full((4, 2, 710), np.nan)
    for number, name in enumerate(module._QUANTITIES):
        values[number, :, :605] = getattr(long, name)
        values[number, 1] = truth(np.array(2.0), np.array(0.0), eep, np.array(0.0))[number]
    tracks = Tracks(long.feh, long.alpha, long.mass, eep, *values, digest="")
    assert tracks.eep_at_age(1.5, 0.0, 13e9)[1].tolist() == [TrackReason.AGE_OLD]
    assert tracks.state([1.5, 2.0], 0.0, 650).reason.tolist() == [TrackReason.TRACK_ENDS, 0]


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
