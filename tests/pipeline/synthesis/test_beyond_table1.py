from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlines.pipeline.arms import ARMS, BLUE, RED, Arm, doppler_factor, velocity_of_shift
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import POPULATIONS
from twinlines.pipeline.spectra.lines import H_ALPHA
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.synthesis import observing, population, spectra
from twinlines.pipeline.synthesis.beyond_table1 import (
    BLEND,
    COOL_GIANT,
    FIELD,
    Blends,
    CoolGiants,
    Extras,
    Field,
)
from twinlines.pipeline.synthesis.beyond_table1 import TABLE1 as TABLE1_CODE
from twinlines.pipeline.synthesis.emission import Activity, Lines, add_lines
from twinlines.pipeline.synthesis.extra import ExtrasError
from twinlines.pipeline.synthesis.instrument import Defects, spoil
from twinlines.pipeline.synthesis.population import TABLE1
from twinlines.pipeline.synthesis.priors import Constant, Normal
from twinlines.pipeline.synthesis.spectra import Scene


@pytest.fixture(scope="module")
def kept() -> population.Population:
    return population.resolve(population.draw(0, 300, 5), Tracks.load(), Library.load()).kept_pairs()


def _made(mixture: Extras, code: int, count: int = 600) -> dict[str, np.ndarray]:
    source = mixture.sources(1, TABLE1, ())[code]
    drawn = source.realise(np.arange(count), Tracks.load(), Library.load()).kept_pairs()
    return spectra.pairs(Library.load(), drawn.take(slice(0, 40)), Scene(1, code, mixture))


def test_nothing_extra_is_the_default(kept: population.Population) -> None:
    assert set(Extras().assign(500).tolist()) == {TABLE1_CODE}
    assert list(Extras().sources(0, TABLE1, ())) == [TABLE1_CODE]
    made = spectra.pairs(Library.load(), kept.take(slice(0, 64)), Scene(1))
    assert not made["emission"].any()
    assert not made["n_defects_B"].any()
    assert (made["label"] == [0, 1]).all()


def test_codes_are_the_stores() -> None:
    assert POPULATIONS[TABLE1_CODE] == "table1"
    assert POPULATIONS[COOL_GIANT] == "cool_giant"
    assert POPULATIONS[BLEND] == "blend"
    assert POPULATIONS[FIELD] == "field"


@given(st.floats(0.0, 0.3), st.floats(0.0, 0.3), st.floats(0.0, 0.39), st.integers(1, 3000))
def test_fractions_are_met_in_every_stretch(giants: float, blends: float, field: float, pairs: int) -> None:
    mixture = Extras(CoolGiants(giants), Blends(blends), field=Field(field))
    codes = mixture.assign(pairs)
    # The discrepancy of the golden ratio's multiples grows with the logarithm of their number.
    for code, fraction in ((COOL_GIANT, giants), (BLEND, blends), (FIELD, field)):
        assert abs(np.count_nonzero(codes == code) - fraction * pairs) < 6
    np.testing.assert_array_equal(mixture.assign(pairs + 50)[:pairs], codes)


def test_cool_giants_are_two_single_spectra_with_their_own_noise() -> None:
    made = _made(Extras(CoolGiants(0.2)), COOL_GIANT)
    assert not made["label"].any()
    assert np.isnan(made["teff2"]).all()
    assert np.isnan(made["velocity2"]).all()
    assert np.isnan(made["separation"]).all()
    assert np.isnan(made["flux_ratio_B"]).all()
    assert (made["eep1"] >= 490).all()
    assert np.median(made["vsini1"]) < 15
    difference = made["flux_B"][:, 1] - made["flux_B"][:, 0]
    # Twice the noise's variance, and nothing else. The median over pixels of flux over sigma is the S/N.
    scaled = np.median(np.abs(difference), axis=1) / 0.6745 / np.sqrt(2) * made["snr_B"]
    np.testing.assert_allclose(np.median(scaled), 1.0, atol=0.1)


def test_blends_are_binaries_to_the_eye_unless_said_otherwise() -> None:
    double = _made(Extras(blends=Blends(0.2)), BLEND)
    assert (double["label"] == [0, 1]).all()
    assert np.abs(double["feh1"] - double["feh2"]).max() > 0.5
    assert ((double["luminosity_ratio"] >= 10**-1.2 - 1e-6) & (double["luminosity_ratio"] <= 1.0)).all()
    ratio = double["luminosity2"] / double["luminosity1"] * double["dilution"]
    np.testing.assert_allclose(ratio, double["luminosity_ratio"], rtol=1e-6)
    assert double["flux_ratio_B"].min() > 0.005
    single = _made(Extras(blends=Blends(0.2, double_lined=False)), BLEND)
    assert not single["label"].any()
    np.testing.assert_array_equal(single["flux_R"], double["flux_R"])


def test_field_stars_are_brought_to_rest_by_their_measured_velocity() -> None:
    # Narrow-lined equal stars of high S/N: cross-correlation finds one of the two, or the middle where they blend.
    one = Field(0.5, Constant(5.0), Constant(5.0), Normal(0.0, 150.0), Constant(1.0), Constant(100.0), Constant(1.0))
    mixture = Extras(field=one)
    drawn = mixture.sources(1, TABLE1, ())[FIELD].realise(np.arange(300), Tracks.load(), Library.load()).kept_pairs()
    drawn = drawn.take(slice(0, 40))
    made = spectra.pairs(Library.load(), drawn, Scene(1, FIELD, mixture))
    assert (made["label"] == [0, 1]).all()
    first, second = made["velocity1"], made["velocity2"]
    for name, arm in ARMS.items():
        frame = made[f"frame_{name}"]
        found = np.isfinite(frame).all(axis=1)
        assert found.mean() > 0.9
        assert np.median(np.abs(frame[:, 0] - first)[found]) < 1.0
        nearest = np.minimum(np.abs(frame[:, 1] - first), np.abs(frame[:, 1] - second))
        # In hot stars the red arm's velocity is that of the broad H-alpha, which both share.
        apart = found & (np.abs(second - first) > 100.0) & (made["teff1"] < 6300.0)
        assert apart.sum() >= 5
        assert np.median(nearest[apart]) < 6.0
        close = found & (np.abs(second - first) < 30.0)
        assert np.median(np.abs(frame[:, 1] - (first + second) / 2.0)[close]) < 2.0
        # At rest, a spectrum is the one that Table 1 would show of a primary without velocity.
        still = replace(drawn, draws=replace(drawn.draws, velocity1=np.zeros(40), snr=np.full(40, 1e6)))
        expected = spectra.pair_spectra(arm, Library.load(), still.take(slice(0, 32))).flux[:, 0]
        residual = made[f"flux_{name}"][:32, 0] - expected
        assert np.median(np.std(residual, axis=1)) < 0.015


def test_noise_of_field_stars_is_that_of_interpolated_pixels() -> None:
    keys = np.stack([np.arange(64), np.zeros(64, dtype=np.int64)], axis=1)
    for arm in ARMS.values():
        native = observing.detector_noise(arm, keys, seed=3)
        assert native.std() == pytest.approx(1.0, abs=0.01)
        noise = observing.on_grid(arm, native, np.linspace(-300.0, 300.0, 64)).numpy()
        # Linear interpolation at random places leaves two thirds of the variance, and correlates neighbours.
        assert noise.var() == pytest.approx(2.0 / 3.0, abs=0.02)
        assert 0.2 < (noise[:, 1:] * noise[:, :-1]).mean() / noise.var() < 0.6
        # The detector does not move with the star: the same pixel is seen at a shifted wavelength.
        shifted = observing.on_grid(arm, native, np.full(64, velocity_of_shift(3.0))).numpy()
        unshifted = observing.on_grid(arm, native, np.zeros(64)).numpy()
        np.testing.assert_allclose(shifted[:, :-3], unshifted[:, 3:], atol=1e-3)


def test_a_field_star_does_not_depend_on_its_block() -> None:
    mixture = Extras(field=Field(0.5))
    drawn = mixture.sources(1, TABLE1, ())[FIELD].realise(np.arange(200), Tracks.load(), Library.load()).kept_pairs()
    scene = Scene(1, FIELD, mixture)
    whole = spectra.pairs(Library.load(), drawn.take(slice(0, 40)), scene)
    part = spectra.pairs(Library.load(), drawn.take(slice(33, 38)), scene)
    for column in ("flux_B", "flux_R", "frame_B", "frame_R"):
        np.testing.assert_array_equal(part[column], whole[column][33:38])


def test_emission_fills_h_alpha_of_the_chosen_and_leaves_the_others(kept: population.Population) -> None:
    part = kept.take(slice(0, 64))
    plain = spectra.pairs(Library.load(), part, Scene(1))
    made = spectra.pairs(Library.load(), part, Scene(1, extras=Extras(activity=Activity(0.5))))
    active = made["emission"] > 0
    assert 0.3 < active.mean() < 0.7
    np.testing.assert_array_equal(made["flux_B"], plain["flux_B"])
    np.testing.assert_array_equal(made["flux_R"][~active], plain["flux_R"][~active])
    for row in np.flatnonzero(active & (part.draws.snr > 20)):
        centre = np.searchsorted(RED.wavelength, H_ALPHA * doppler_factor(part.draws.velocity1[row]))
        window = slice(centre - 3, centre + 4)
        gain = made["flux_R"][row, 0, window].mean() - plain["flux_R"][row, 0, window].mean()
        assert gain == pytest.approx(made["emission"][row], rel=0.35)


def test_emission_is_a_gaussian_of_the_asked_height_and_width() -> None:
    flux = np.full((1, RED.n_pixels), 3.0, dtype=np.float32)
    add_lines(flux, (H_ALPHA,), Lines(np.array([100.0]), np.array([[0.5]]), np.array([40.0])))
    velocity = (RED.wavelength / H_ALPHA - 1) * 299_792.458 - 100.0
    expected = 3.0 * (1 + 0.5 * np.exp(-0.5 * (velocity / 40.0) ** 2))
    np.testing.assert_allclose(flux[0], expected, rtol=2e-3)


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_defects_have_the_asked_rates(arm: Arm) -> None:
    rows = 2000
    keys = np.stack([np.repeat(np.arange(rows // 2), 2), np.tile(np.arange(2), rows // 2)], axis=1)
    rng = np.random.default_rng(0)
    clean = rng.normal(1.0, 0.02, (rows, 500)).astype(np.float32)
    flux = clean.copy()
    defects = Defects(0.5, bad_columns=0.0, spikes=0.0)
    changed = spoil(arm, defects, flux, np.full_like(flux, 0.02), keys, seed=1)
    # All spectra of a pair are spoilt, or none: the fraction is of pairs.
    touched = (flux != clean).any(axis=1)
    rate = defects.repaired_blue if arm is BLUE else defects.repaired_red
    assert touched.mean() == pytest.approx(0.5 * (1 - np.exp(-rate)), abs=0.05)
    # Runs of 4 to 11 pixels, 7.5 in the mean; of pixels hit twice only one counts.
    assert changed.mean() == pytest.approx(0.5 * rate * 7.5, rel=0.1)
    assert (flux[touched] != clean[touched]).sum(axis=1).max() <= changed.max()


def test_a_repaired_run_is_a_straight_line() -> None:
    clean = np.random.default_rng(0).normal(1.0, 0.02, (200, 500)).astype(np.float32)
    flux, keys = clean.copy(), np.stack([np.arange(200), np.zeros(200, dtype=np.int64)], axis=1)
    spoil(BLUE, Defects(1.0, repaired_blue=1.0, bad_columns=0.0, spikes=0.0), flux, np.ones_like(flux), keys, 1)
    runs = [np.flatnonzero(row) for row in flux != clean]
    single = [(row, run) for row, run in enumerate(runs) if 4 <= run.size <= 11 and np.ptp(run) == run.size - 1]
    assert len(single) > 40
    for row, run in single:
        around = flux[row, run[0] - 1 : run[-1] + 2]
        np.testing.assert_allclose(np.diff(around, 2), 0.0, atol=1e-6)


def test_spikes_and_bad_columns() -> None:
    keys = np.stack([np.arange(400), np.zeros(400, dtype=np.int64)], axis=1)
    flux = np.ones((400, 300), dtype=np.float32)
    spoil(BLUE, Defects(1.0, repaired_blue=0.0, bad_columns=0.0, spikes=1.0), flux, 0.1 * np.ones_like(flux), keys, 1)
    height = (flux[flux != 1.0] - 1.0) / 0.1
    assert len(height) == pytest.approx(400, rel=0.15)
    assert height.min() >= 3.999
    flux = np.ones((400, 300), dtype=np.float32)
    spoil(BLUE, Defects(1.0, repaired_blue=0.0, bad_columns=0.5, spikes=0.0), flux, 0.1 * np.ones_like(flux), keys, 1)
    columns = (flux != 1.0).sum(axis=1)
    assert (columns > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert columns.max() <= 8


def test_defects_do_not_depend_on_the_batch(kept: population.Population) -> None:
    scene = Scene(1, extras=Extras(defects=Defects(1.0)))
    whole = spectra.pairs(Library.load(), kept.take(slice(0, 30)), scene)
    part = spectra.pairs(Library.load(), kept.take(slice(10, 20)), scene)
    np.testing.assert_array_equal(part["n_defects_R"], whole["n_defects_R"][10:20])
    np.testing.assert_allclose(part["flux_R"], whole["flux_R"][10:20], atol=spectra.FLUX_STEP)
    assert (whole["n_defects_R"][:, 0] != whole["n_defects_R"][:, 1]).any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CoolGiants(1.5), "cool_giants: fraction is 1.5; give a number from 0 to 1"),
        (lambda: Blends(-0.1), "blends: fraction is -0.1"),
        (lambda: Activity(float("nan")), "activity: fraction is nan"),
        (lambda: Defects(0.1, spikes=-1.0), "spikes is -1.0; give a number from 0 to 100"),
        (lambda: Field(2.0), "field: fraction is 2.0"),
        (lambda: Extras(CoolGiants(0.3), Blends(0.3), field=Field(0.5)), "together are 1.1 of the pairs; leave some"),
    ],
)
def test_impossible_mixtures_are_refused(make: object, said: str) -> None:
    with pytest.raises(ExtrasError, match=said):
        make()  # type: ignore[operator]


def test_extras_are_described_in_full() -> None:
    described = replace(Extras(), defects=Defects(0.3)).describe()
    assert described["defects"] == {
        "fraction": 0.3,
        "repaired_blue": 1.4,
        "repaired_red": 3.5,
        "bad_columns": 0.5,
        "spikes": 0.3,
    }
    assert described["blends"]["double_lined"] is True
    assert described["cool_giants"]["eep1"] == {"kind": "uniform", "low": 490.0, "high": 605.0}
