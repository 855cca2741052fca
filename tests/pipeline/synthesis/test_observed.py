"""Pairs of real stars: that they are what pairs of the library's stars are, and how they are drawn."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twinlines.pipeline.arms import ARMS, BLUE, Arm
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import DISTURBANCES, EXPOSURES, NATIVE_PIXELS, PAIRS, POPULATIONS
from twinlines.pipeline.spectra import preprocess
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis import observing, spectra
from twinlines.pipeline.synthesis.beyond_table1 import OBSERVED, Extras, Field
from twinlines.pipeline.synthesis.extra import ExtrasError
from twinlines.pipeline.synthesis.injection import expose
from twinlines.pipeline.synthesis.light import Stars
from twinlines.pipeline.synthesis.observed import REFERENCE, Observed, ObservedPairs, ObservedSource
from twinlines.pipeline.synthesis.population import TABLE1, Population
from twinlines.pipeline.synthesis.priors import Constant, LogUniform
from twinlines.pipeline.synthesis.real_light import RealStarError
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.synthesis.spectra import Scene
from twinlines.pipeline.testing import star_spectrum, write_star, write_stars
from twinlines.pipeline.training import config
from twinlines.pipeline.training.recipe import TrainingSet, draw_fates, select
from twinlines.pipeline.training.sample import synthesize

LABELS = {
    "dwarf": (4800.0, 4.6, -0.2, 0.1),
    "giant": (4600.0, 2.2, -0.4, 0.2),
    "hot": (7500.0, 4.0, 0.1, 0.0),
    "sun": (5772.0, 4.44, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stars(tmp_path_factory.mktemp("stars"), LABELS, {name: f"class {name}" for name in LABELS})


def source_of(observed: Observed, seed: int = 3) -> ObservedSource:
    source = Extras(observed=observed).sources(seed, TABLE1, ())[OBSERVED]
    assert isinstance(source, ObservedSource)
    return source


def drawn_from(source: ObservedSource, start: int, stop: int) -> ObservedPairs:
    return source.realise(np.arange(start, stop), Tracks.load(), Library.load())


def in_the_library(pairs: ObservedPairs, stars: RealStars, arm: str) -> Population:
    """The same pairs as stars of the library, weighed as the real ones are."""
    labels = np.array([LABELS[name] for name in stars.name])
    first, second = labels[pairs.star1], labels[pairs.star2]
    light = np.median(Library.load().flux(arm, labels)[:, ARMS[arm].on_library], axis=1)
    ones = np.ones(len(first))
    states = [
        replace(pairs.primary, teff=one[:, 0], logg=one[:, 1], radius=ones, luminosity=ones) for one in (first, second)
    ]
    _, root = pairs.radii(arm)
    known = {item.name: getattr(pairs, item.name) for item in fields(Population)}
    known |= {"primary": states[0], "secondary": states[1], "feh2": second[:, 2], "alpha2": second[:, 3]}
    known["draws"] = replace(pairs.draws, feh=first[:, 2], alpha=first[:, 3])
    known["dilution"] = root**2 * light[pairs.star1] / light[pairs.star2]
    return Population(**known)


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_stars_of_the_library_make_the_librarys_pairs(folder: Path, arm: Arm) -> None:
    source = source_of(Observed(0.5, folder, snr=LogUniform(20.0, 100.0)))
    pairs, stars = drawn_from(source, 0, 32), source.light(Library.load())
    scene = Scene(3, OBSERVED)
    ours = spectra.pair_spectra(arm, stars, pairs, scene)
    theirs = spectra.pair_spectra(arm, Library.load(), in_the_library(pairs, stars, arm.name), scene)
    np.testing.assert_allclose(ours.frame, theirs.frame, atol=0.05)
    np.testing.assert_allclose(ours.flux_ratio, theirs.flux_ratio, rtol=1e-4)
    assert np.abs(ours.flux - theirs.flux).max() < 2e-3
    assert np.sqrt(np.mean((ours.flux - theirs.flux) ** 2)) < 2e-4


def test_what_is_stored_of_a_pair(folder: Path) -> None:
    assert POPULATIONS[OBSERVED] == "observed"
    source = source_of(Observed(0.5, folder))
    pairs = drawn_from(source, 0, 40)
    made = spectra.pairs(source.light(Library.load()), pairs, Scene(3, OBSERVED))
    assert set(made) == set(PAIRS.variables) - {"split"}
    assert set(made["population"].tolist()) == {OBSERVED}
    np.testing.assert_array_equal(made["label"], [[0, 1]] * 40)
    for name in ("flux_B", "flux_R", "separation", "vsini1", "vsini2", "velocity2", "teff2", "snr_B", "flux_ratio_R"):
        assert np.isfinite(made[name]).all(), name
    for name in ("mass_ratio", "luminosity_ratio", "dilution", "mass1", "eep1", "radius2", "log_age1", "logg1", "feh2"):
        assert np.isnan(made[name]).all(), name
    assert np.isfinite(made["frame_B"]).mean() > 0.85
    # Half have no rotation beyond their own.
    assert 0.3 < (made["vsini1"] < 0.01).mean() < 0.7
    drawn = spectra.pairs(source.light(Library.load()), pairs, Scene(3, OBSERVED, frame="drawn"))
    np.testing.assert_array_equal(drawn["flux_B"], made["flux_B"])


def test_a_pair_does_not_depend_on_its_block(folder: Path) -> None:
    standard = Extras()
    disturbed = {name: replace(getattr(standard, name), fraction=0.5) for name in DISTURBANCES}
    extras = replace(standard, observed=Observed(0.5, folder), **disturbed)
    source = extras.sources(3, TABLE1, ())[OBSERVED]
    stars, scene = source.light(Library.load()), Scene(3, OBSERVED, extras)
    numbers = np.array([100, 101, 105, 130])
    some = source.realise(numbers, Tracks.load(), Library.load())
    many = source.realise(np.arange(90, 140), Tracks.load(), Library.load())
    part, whole = spectra.pairs(stars, some, scene), spectra.pairs(stars, many, scene)
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][numbers - 90], err_msg=name)
    assert np.isfinite(whole["flux_B"]).all()
    assert np.isfinite(whole["flux_R"]).all()
    assert (whole["disturbed"] & (1 << DISTURBANCES.index("unresolved"))).any()


def test_stars_ratios_and_colours_are_drawn(folder: Path) -> None:
    source = source_of(Observed(0.5, folder))
    pairs, stars = drawn_from(source, 0, 4000), source.light(Library.load())
    for places in (pairs.star1, pairs.star2):
        np.testing.assert_allclose(np.bincount(places) / 4000, 0.25, atol=0.03)
    assert np.corrcoef(pairs.star1, pairs.star2)[0, 1] == pytest.approx(0.0, abs=0.05)
    same = pairs.star1 == pairs.star2
    np.testing.assert_allclose(pairs.ratio_blue[same], pairs.ratio_red[same])
    assert np.log(pairs.ratio_blue[same]).mean() == pytest.approx(np.log(0.03) / 2, abs=0.1)
    assert (pairs.ratio_blue[same].min(), pairs.ratio_blue[same].max()) == pytest.approx((0.03, 1.0), rel=0.02)
    cooler = stars.teff[pairs.star2] < stars.teff[pairs.star1]
    assert (pairs.ratio_red[cooler] > pairs.ratio_blue[cooler]).all()
    shade = stars.shade("B", REFERENCE)
    wave, teff = float(BLUE.wavelength.mean()), np.array([4800.0, 4600.0, 7500.0, 5772.0])
    planck = [w**-5 / np.expm1(1.438777e8 / w / teff) for w in (wave, REFERENCE)]
    np.testing.assert_allclose(shade, planck[0] / planck[1])


def test_stars_of_unknown_temperature_have_no_colour(tmp_path: Path) -> None:
    wave, flux = star_spectrum()
    write_stars(tmp_path, {"sun": LABELS["sun"]})
    write_star(tmp_path / "a.fits", wave, flux, header={"R": 7500.0})
    pairs = drawn_from(source_of(Observed(0.5, tmp_path)), 0, 50)
    np.testing.assert_array_equal(pairs.ratio_blue, pairs.ratio_red)
    source = source_of(Observed(0.5, tmp_path))
    made = spectra.pairs(source.light(Library.load()), pairs.take(slice(0, 8)), Scene(3, OBSERVED))
    assert set(np.isnan(made["teff1"]).tolist()) == {True, False}
    assert np.isfinite(made["flux_ratio_B"]).all()
    assert np.isfinite(made["separation"]).all()


def test_a_stars_own_noise_limits_the_snr(tmp_path: Path) -> None:
    wave, flux = star_spectrum()
    step = np.sqrt(5.21865 / (0.03 / 6550.0 * 299_792.458))
    write_star(tmp_path / "a.fits", wave, flux, header={"R": 7500.0}, sigma=flux / 40.0 * step)
    alone = drawn_from(source_of(Observed(0.5, tmp_path, snr=LogUniform(5.0, 500.0))), 0, 2000)
    red = alone.draws.snr_of("R")
    assert red.max() == pytest.approx(20.0, rel=0.01)
    assert red.min() < 6.0
    blue = alone.draws.snr
    # In the blue arm a pixel of the file is more of one of the grid, and its noise more.
    assert blue.max() == pytest.approx(20.0 * np.sqrt(5150.0 / 6550.0), rel=0.01)
    write_star(tmp_path / "b.fits", wave, flux, header={"R": 7500.0})
    mixed = drawn_from(source_of(Observed(0.5, tmp_path, snr=Constant(500.0), red_snr=Constant(1.0))), 0, 400)
    clean = (mixed.star1 == 1) & (mixed.star2 == 1)
    assert (mixed.draws.snr[clean] == 500.0).all()
    behind = (mixed.star1 == 1) & (mixed.star2 == 0)
    ratio = mixed.ratio_red[behind]
    np.testing.assert_allclose(
        mixed.draws.snr_of("R")[behind], np.minimum(500.0, 20.0 * (1 + ratio) / ratio), rtol=0.01
    )


def test_a_recipe_with_observed_stars(folder: Path) -> None:
    extras = Extras(field=Field(0.3), observed=Observed(0.4, folder, without=("hot", "class giant")))
    recipe = TrainingSet(40, 3, extras=extras)
    chosen = select(recipe)
    np.testing.assert_allclose(np.bincount(chosen.population, minlength=5), [12, 0, 0, 12, 16], atol=1)
    # Those that were there before keep their pairs.
    before = Extras(field=Field(0.3)).assign(40)
    np.testing.assert_array_equal((chosen.population == 3), before == 3)
    made = synthesize(recipe)
    mine = made.population.values == OBSERVED
    assert set(made.teff1.values[mine].tolist()) == {4800.0, 5772.0}
    assert np.isfinite(made.flux_B.values).all()
    assert draw_fates(recipe, 20)["observed"] == {"kept": 20}
    about = recipe.provenance()
    assert about["observed"] == extras.observed.load().digest
    assert about["extras"]["observed"]["without"] == ["hot", "class giant"]
    assert str(folder) not in str(about)
    assert "observed" not in TrainingSet(40, 3).provenance()["extras"]
    with pytest.raises(ExtrasError, match=r"cool_giants, blends, field and observed together are 1.1 of the pairs"):
        Extras(field=Field(0.5), observed=Observed(0.6, folder))
    with pytest.raises(ExtrasError, match=r"observed: there is no folder"):
        Observed(0.1)


def test_the_digest_follows_the_files(tmp_path: Path) -> None:
    one, other = (write_stars(tmp_path / name, {"sun": LABELS["sun"]}) for name in ("one", "other"))
    recipes = [TrainingSet(10, extras=Extras(observed=Observed(0.1, where))) for where in (one, other)]
    assert recipes[0].digest == recipes[1].digest
    wave, flux = star_spectrum(LABELS["sun"])
    write_star(other / "sun.fits", wave, flux * 2.0, header={"NAME": "sun", "R": 7500.0})
    assert recipes[0].digest != recipes[1].digest


def test_a_file_says_it(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text(
        f"""
        [extras.observed]
        fraction = 0.2
        folder = "../{folder.name}"
        stars = "list.csv"
        minimum_snr = 50
        without = ["hot", "T Tauri"]
        ratio = 0.5
        """
    )
    made = config.read(path)["extras"].observed
    assert made.folder == (tmp_path / ".." / folder.name).resolve()
    assert made.stars == tmp_path.resolve() / "list.csv"
    assert (made.minimum_snr, made.without, made.ratio) == (50.0, ("hot", "T Tauri"), Constant(0.5))
    path.write_text('[extras.observed]\nfraction = 0.2\nfolder = "x"\nwithout = "hot"')
    with pytest.raises(config.ConfigError, match=r"observed.without is 'hot'; give a list of classes or names"):
        config.read(path)
    path.write_text("[extras.observed]\nfolder = 3")
    with pytest.raises(config.ConfigError, match=r"observed.folder is 3; give text"):
        config.read(path)


@pytest.mark.parametrize("arm", list(ARMS.values()), ids=list(ARMS))
def test_an_injected_exposure_is_cleaned_to_the_light_of_pairs(folder: Path, arm: Arm) -> None:
    stars = RealStars.load(folder)
    place = np.array([[3.0], [1.0], [0.0]])
    velocity = np.array([20.0, -60.0, 100.0])
    first = Stars(place, np.ones(3), np.zeros(3), velocity)
    second = Stars(place[::-1], np.full(3, np.sqrt(0.4)), np.full(3, 30.0), velocity - 110.0)
    keys = np.stack([np.arange(3), np.zeros(3, dtype=np.int64)], axis=1)
    seen = expose(arm, stars, [first, second], np.full(3, 1e4), keys)
    assert seen.flux.shape == (3, NATIVE_PIXELS)
    np.testing.assert_allclose(np.median(seen.flux * np.sqrt(seen.ivar), axis=1), 1e4, rtol=1e-3)
    rest = preprocess.to_rest_frame(arm, seen.observe(arm.name), velocity)
    light = sum(spectra.component(arm, stars, one.seen_from(velocity)) for one in (first, second))
    assert isinstance(light, torch.Tensor)
    expected, _ = normalise(torch.from_numpy(arm.wavelength), light.double())
    # The grid's pixels lie between the detector's, from which survey spectra are interpolated linearly.
    assert float((rest.flux - expected).abs().max()) < 0.02
    assert float((rest.flux - expected).std()) < 3e-3
    with pytest.raises(ValueError, match="3 exposures need as many stars of each component"):
        expose(BLUE, stars, [first, second.take(np.array([True, False, True]))], np.full(3, 50.0), keys)


def release_of(folder: Path, velocity: np.ndarray, snr: np.ndarray) -> Path:
    """A release of exposures of four stars of the library, obsid 1 to 4, alternately."""
    rows = len(velocity)
    labels = np.array(list(LABELS.values()))[np.arange(rows) % 4]
    keys = np.stack([np.arange(rows), np.full(rows, 7)], axis=1)
    arms = [
        expose(arm, Library.load(), [Stars(labels, np.ones(rows), np.zeros(rows), velocity)], snr, keys)
        for arm in ARMS.values()
    ]
    columns: dict[str, np.ndarray] = {
        name: np.stack([getattr(one, name) for one in arms], axis=1)
        for name in ("flux", "ivar", "loglam", "mask", "snr")
    }
    columns |= {"obsid": np.arange(rows) % 4 + 1, "lmjm": 84_000_000 + np.arange(rows), "content_hash": np.arange(rows)}
    stores.create(folder / "exposures.zarr", EXPOSURES, rows)
    stores.write_shard(folder / "exposures.zarr", EXPOSURES, 0, EXPOSURES.dataset(columns, rows))
    return folder


def test_well_exposed_stars_of_a_release(tmp_path: Path) -> None:
    velocity = np.array([-40.0, 25.0, 60.0, -5.0, 70.0, 0.0, 10.0, 33.0])
    snr = np.array([200.0, 200.0, 200.0, 40.0, 30.0, 150.0, 200.0, 40.0])
    release_of(tmp_path, velocity, snr)
    table = tmp_path / "list.csv"
    table.write_text("obsid,name,class,teff\n1,dwarf,K,4800\n2,,G,\n4,sun,G,\n")
    stars = RealStars.load(tmp_path, table)
    assert stars.name == ("dwarf", "2", "2")
    assert stars.kind == ("K", "G", "G")
    assert stars.teff[0] == 4800.0
    assert stars.left_out == ("obsid 4: no exposure has S/N above 100 in both arms",)
    for arm in ARMS.values():
        expected = Library.load().flux(arm.name, np.array([LABELS["dwarf"], LABELS["giant"], LABELS["giant"]]))
        expected = expected[:, arm.on_library]
        ours, _ = normalise(
            torch.from_numpy(arm.wavelength), torch.from_numpy(stars.flux[arm.name][:, arm.on_library].copy()).double()
        )
        theirs, _ = normalise(torch.from_numpy(arm.wavelength), torch.from_numpy(expected).double())
        assert float((ours - theirs).std()) < 1.3 / 150.0
        assert stars.snr[arm.name][0] == pytest.approx(200.0 * np.sqrt(5.21865 / 6.7), rel=0.2)
    assert RealStars.load(tmp_path, table, minimum_snr=180.0).name == ("dwarf", "2")
    assert RealStars.load(tmp_path, table, without=("G",)).name == ("dwarf",)
    with pytest.raises(
        RealStarError, match="no star is left to make spectra of: 3 could not be used; the first: obsid 1"
    ):
        RealStars.load(tmp_path, table, minimum_snr=500.0)
    table.write_text("obsid\n17\n")
    with pytest.raises(RealStarError, match=r"lists obsid 17, of which .* has no exposure"):
        RealStars.load(tmp_path, table)
    source = source_of(Observed(0.5, tmp_path, table, minimum_snr=100.0))
    table.write_text("obsid\n1\n2\n")
    pairs = drawn_from(source, 0, 300)
    assert pairs.draws.snr.max() < 100.0
    made = spectra.pairs(source.light(Library.load()), pairs.take(slice(0, 8)), Scene(3, OBSERVED))
    assert np.isfinite(made["flux_R"]).all()


def test_light_on_the_detector_is_mirrored_beyond_the_library() -> None:
    light = Library.load().flux("B", np.array([LABELS["sun"]]))
    native = observing.native_light(BLUE, light)
    wave = 10.0 ** observing.native_loglam(BLUE)
    inside = (wave > 5000.0) & (wave < 5300.0)
    np.testing.assert_allclose(native[0, inside], np.interp(wave[inside], BLUE.library_wavelength, light[0]), rtol=0.03)
    assert (native > 0).all()


def test_exposures_are_rows_for_inference() -> None:
    assert [item.name for item in fields(ArmSpectra)] == ["flux", "ivar", "loglam", "mask", "snr"]
