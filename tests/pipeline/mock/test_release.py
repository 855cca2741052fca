"""The mock release: what is written can be read, is what the truth says, and is the same every time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.arms import ARM_NAMES, ARMS, BLUE, NATIVE_PIXELS, SPEED_OF_LIGHT
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.mock.plates import draw_plates
from twinlines.pipeline.mock.release import (
    DUPLICATE,
    NO_ARM,
    RUINED,
    TEXT,
    TRUNCATED,
    MockConfig,
    MockDefects,
    MockError,
    MockTruth,
    make_release,
)
from twinlines.pipeline.mock.spectra import SNR_PER_MEDIAN, detector, expose, sample
from twinlines.pipeline.mock.stars import SB2, Mixture, draw_stars
from twinlines.pipeline.stars.tracks import Tracks

SMALL = MockConfig(
    mixture=Mixture(sb2=0.34, sb1=0.17, giant=0.17),
    defects=MockDefects(missing_arms=2),
    stars_per_plate=3,
    nights=(2, 2),
    exposures=(2, 2),
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> MockTruth:
    return make_release(tmp_path_factory.mktemp("mock") / "release", stars=6, seed=3, config=SMALL)


def good(truth: MockTruth) -> np.ndarray:
    return np.asarray(truth.exposures["defect"]) == ""


def test_every_sound_file_holds_what_the_truth_says(truth: MockTruth) -> None:
    table = truth.exposures
    for path in np.unique(table["file"][good(truth)]):
        rows = table[table["file"] == path]
        file = reader.read(truth.folder / path)
        assert file.problems == ()
        assert [exposure.lmjm for exposure in file.exposures] == rows["lmjm"].tolist()
        assert (file.obsid, file.lmjd, file.spid) == (rows["obsid"][0], rows["lmjd"][0], rows["spid"][0])
        assert path.endswith(f"/{file.planid}/{reader.file_name(file)}.gz")
        # Later exposures have no date in this format: their times are good to the half minute.
        error = np.abs(reader.mid_exposure_bjd(file) - rows["bjdmid"])
        assert error[0] < 1e-5
        assert error.max() < 5e-4
        for exposure, row in zip(file.exposures, rows, strict=True):
            for name, arm in exposure.arms.items():
                assert arm.snr == pytest.approx(row[f"snr_{name}"], abs=1e-6)
                assert np.all(np.diff(arm.loglam) > 0 if name == "B" else np.diff(arm.loglam) < 0)
                assert 0.85 < arm.snr / np.median(arm.flux * np.sqrt(arm.ivar)) < 1.0


def test_each_defect_is_in_the_files_and_in_the_truth(truth: MockTruth) -> None:
    files = truth.files
    asked = {TRUNCATED: 1, DUPLICATE: 1, TEXT: 1, NO_ARM["B"]: 1, NO_ARM["R"]: 1, RUINED: 3}
    assert truth.summary()["defects"] == asked
    for path, defect, _ in files:
        if defect in (TRUNCATED, TEXT):
            with pytest.raises(reader.LamostError) as caught:
                reader.read(truth.folder / path)
            expected = reader.Reason.TRUNCATED if defect == TRUNCATED else reader.Reason.WRONG_FORMAT
            assert caught.value.reason == expected
        elif defect in NO_ARM.values():
            left = {name for exposure in reader.read(truth.folder / path).exposures for name in exposure.arms}
            assert left == {name for name in ARM_NAMES if NO_ARM[name] != defect}
            lost = next(name for name in ARM_NAMES if NO_ARM[name] == defect)
            assert np.isnan(truth.exposures[f"snr_{lost}"][truth.exposures["file"] == path]).all()
        elif defect == DUPLICATE:
            assert (truth.folder / path).read_bytes() == (truth.folder / path.removeprefix("again/")).read_bytes()
        elif defect == RUINED:
            for exposure in reader.read(truth.folder / path).exposures:
                assert all(arm.snr < 1.0 and (arm.flux < 0).mean() > 0.2 for arm in exposure.arms.values())


def test_the_truth_is_consistent_and_survives_the_disk(truth: MockTruth) -> None:
    again = MockTruth.read(truth.folder)
    assert again.summary() == truth.summary()
    table = again.exposures
    assert again.exposures.colnames == truth.exposures.colnames
    double = np.asarray(table["kind"]) == SB2
    assert np.array_equal(np.isfinite(table["v2"]), double)
    assert np.allclose(table["delta_v"][double], (table["v2"] - table["v1"])[double])
    # The centre of mass stands still: m1 (v1 - gamma) + m2 (v2 - gamma) = 0.
    first, second = (np.asarray(table[name] - table["systemic"])[double] for name in ("v1", "v2"))
    assert np.allclose(first + np.asarray(table["q"])[double] * second, 0.0, atol=1e-9)
    assert np.all((table["light_ratio_B"][double] > 0) & (table["light_ratio_B"][double] <= 1.05))
    assert np.all(table["light_ratio_B"][~double] == 0)
    assert np.all(np.abs(table["correction"]) < 31.0)


def test_the_same_seed_gives_the_same_bytes(truth: MockTruth, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    make_release(tmp_path / "again", stars=6, seed=3, config=SMALL)
    assert digests(tmp_path / "again") == digests(truth.folder)
    other = make_release(tmp_path / "other", stars=1, seed=4, config=replace(SMALL, defects=MockDefects(0, 0, 0, 0, 0)))
    assert set(digests(other.folder)).isdisjoint(set(digests(truth.folder)) - {"truth.ecsv", "files.ecsv"})


def test_the_new_format_holds_the_same_pixels_and_every_date(tmp_path: Path) -> None:
    config = replace(SMALL, defects=MockDefects(0, 0, 0, 0, 0))
    rows = make_release(tmp_path / "rows", stars=1, seed=5, config=config, layout="rows")
    vectors = make_release(tmp_path / "vectors", stars=1, seed=5, config=config, layout="vectors")
    path = rows.files["file"][0]
    one, other = (reader.read(truth.folder / path) for truth in (rows, vectors))
    for left, right in zip(one.exposures, other.exposures, strict=True):
        for name in ARM_NAMES:
            for field in ("flux", "ivar", "loglam", "mask"):
                turned = slice(None, None, -1 if name == "R" else 1)  # the new layout ascends in both arms
                assert np.array_equal(getattr(left.arms[name], field)[turned], getattr(right.arms[name], field))
    table = vectors.exposures[vectors.exposures["file"] == path]
    assert np.allclose(reader.mid_exposure_bjd(other), table["bjdmid"], atol=1e-5, rtol=0)


def test_lines_stand_where_the_velocity_puts_them() -> None:
    library = Library.load()
    labels = np.array([[5800.0, 4.4, 0.0, 0.0]] * 2)
    flux = library.flux("R", labels)
    hardware = detector("R", 3, seed=1)
    correction = np.array([25.0, -25.0])
    rng = np.random.default_rng(1)
    frames = expose("R", {3: hardware}, np.array([3, 3]), flux, correction, np.array([80.0, 80.0]), 0.0, rng)
    for row in range(2):
        # The detector moves with the Earth, the corrected wavelengths do not: H-alpha stays where the star has it.
        near = np.abs(frames.loglam[row] - np.log10(6564.6)) < 2e-4
        depth = np.maximum(0.0, np.percentile(frames.flux[row][near], 90) - frames.flux[row][near])
        centre = np.average(10.0 ** frames.loglam[row][near].astype(float), weights=depth**3)
        assert abs(centre / 6564.6 - 1.0) * SPEED_OF_LIGHT < 5.0
        shift = (10.0 ** frames.loglam[row].astype(float) / hardware.wavelength - 1.0) * SPEED_OF_LIGHT
        assert np.allclose(shift, correction[row], atol=0.1)


def test_sampling_is_exact_at_the_librarys_pixels_and_finite_beyond_them() -> None:
    flux = Library.load().flux("B", np.array([[5000.0, 3.0, -0.5, 0.1]]))
    inner = slice(400, -400)
    there = sample(BLUE, flux, BLUE.library_wavelength[None, inner])
    assert np.allclose(there, flux[:, inner], rtol=1e-5)
    for name in ARM_NAMES:
        wavelength = detector(name, 1, seed=0).wavelength[None] * np.array([[0.999], [1.001]])
        light = Library.load().flux(name, np.array([[5000.0, 3.0, -0.5, 0.1]] * 2))
        assert np.all(sample(ARMS[name], light, wavelength) > 0)


@settings(deadline=None, max_examples=40)  # a busy machine is no failure
@given(snr=st.floats(5.0, 80.0), seed=st.integers(0, 1000))
def test_the_header_has_the_asked_signal_to_noise_and_errors_are_true(snr: float, seed: int) -> None:
    light = np.ones((1, BLUE.library_pixels), dtype=np.float32)
    rng = np.random.default_rng(seed)
    frames = expose("B", {1: detector("B", 1, seed)}, np.array([1]), light, np.zeros(1), np.array([snr]), 0.0, rng)
    assert frames.snr[0] == pytest.approx(snr, rel=0.05)
    inner = slice(60, None)
    flux, sigma = frames.flux[0].astype(float), 1.0 / np.sqrt(frames.ivar[0].astype(float))
    fit = np.polynomial.Polynomial.fit(np.arange(NATIVE_PIXELS)[inner], flux[inner], 4, w=1.0 / sigma[inner])
    residual = (flux[inner] - fit(np.arange(NATIVE_PIXELS)[inner])) / sigma[inner]
    assert 0.93 < np.std(residual[frames.mask[0][inner] == 0]) < 1.07
    assert frames.snr[0] == pytest.approx(SNR_PER_MEDIAN * np.median(flux / sigma), abs=0.01)


def test_cosmic_rays_are_as_many_and_as_high_as_said() -> None:
    light = np.ones((40, BLUE.library_pixels), dtype=np.float32)
    hardware = {1: detector("B", 1, 0)}
    bare, spid, snr = np.zeros(40), np.ones(40, dtype=np.int64), np.full(40, 60.0)
    frames = expose("B", hardware, spid, light, bare, snr, 4.0, np.random.default_rng(2))
    smooth = hardware[1].throughput * np.median(frames.flux / hardware[1].throughput, axis=1, keepdims=True)
    high = (frames.flux / smooth)[:, 60:] > 4.5
    starts = high & ~np.pad(high, ((0, 0), (1, 0)))[:, :-1]
    assert frames.cosmic_rays.sum() == pytest.approx(160, abs=40)
    assert starts.sum() == pytest.approx(frames.cosmic_rays.sum(), rel=0.1)
    assert (frames.flux / smooth)[:, 60:].max() < 130.0


def test_stars_are_where_the_library_is_good_and_orbits_obey_kepler() -> None:
    stars = draw_stars(60, np.random.default_rng(0), Mixture(), Tracks.load(), Library.load())
    kinds, counts = np.unique(stars.kind, return_counts=True)
    assert dict(zip(kinds.tolist(), counts.tolist(), strict=True)) == {"SB1": 5, "SB2": 15, "giant": 10, "single": 30}
    assert (stars.teff1 > 4200).all()
    assert (stars.teff1 < 8000).all()
    assert (stars.logg1[stars.kind == "giant"] < 3.6).all()
    assert (stars.logg1[stars.kind == "single"] > 3.4).all()
    double = stars.take(np.flatnonzero(stars.kind == SB2))
    assert ((double.mass_ratio >= 0.7) & (double.mass_ratio <= 1.0)).all()
    assert np.allclose(double.amplitude1 / double.amplitude2, double.mass_ratio)
    period, mass = double.period * 86400.0, double.mass1 * (1.0 + double.mass_ratio)
    edge_on = (2.0 * np.pi * 6.674e-11 * 1.98841e30 * mass / period) ** (1.0 / 3.0) / 1000.0
    sine = (double.amplitude1 + double.amplitude2) / edge_on
    assert ((sine > 0.43) & (sine < 1.0001)).all()
    quarter = 2458000.0 + double.period * (0.25 - double.phase0)
    first, second = double.velocities(quarter)
    assert np.allclose(first, double.systemic - double.amplitude1)
    assert np.allclose(second - first, double.amplitude1 + double.amplitude2)
    assert np.allclose(double.velocities(quarter + double.period)[0], first)


@settings(deadline=None, max_examples=40)
@given(stars=st.integers(1, 400), seed=st.integers(0, 100), ruined=st.integers(0, 5))
def test_plates_hold_every_star_once_and_no_fibre_twice(stars: int, seed: int, ruined: int) -> None:
    plates = draw_plates(stars, 12, (2, 4), (2, 4), ruined, np.random.default_rng(seed))
    assert np.array_equal(np.concatenate([plate.star for plate in plates]), np.arange(stars))
    assert sum(night.ruined for plate in plates for night in plate.nights) == ruined
    obsids = np.concatenate([plate.obsid(night) for plate in plates for night in plate.nights])
    assert len(np.unique(obsids)) == len(obsids)
    for plate in plates:
        assert ((plate.ra >= 0) & (plate.ra < 360) & (np.abs(plate.dec) < 60)).all()
        assert ((plate.spid >= 1) & (plate.spid <= 16) & (plate.fiberid >= 1) & (plate.fiberid <= 250)).all()
        for night in plate.nights:
            # In the dark, in the right night, and one after the other.
            assert np.all(np.abs(night.start - night.lmjd) < 0.3)
            assert np.all(np.diff(night.start) * 86400.0 > plate.exptime)


def test_a_release_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    few = replace(MockConfig(), defects=MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0)))
    with pytest.raises(KeyboardInterrupt):
        make_release(tmp_path / "mock", stars=2, seed=0, config=few, progress=stop)
    assert not (tmp_path / "mock").exists()


def test_a_layout_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MockError, match="layout is 'columns'; give one of rows, vectors"):
        make_release(tmp_path / "none", stars=1, seed=0, layout="columns")  # type: ignore[arg-type]


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        make_release(tmp_path / "full", stars=3, seed=0)
    with pytest.raises(ValueError, match="one star or more"):
        make_release(tmp_path / "none", stars=0, seed=0)
    with pytest.raises(ValueError, match="add stars"):
        make_release(tmp_path / "few", stars=1, seed=0, config=MockConfig(defects=MockDefects(truncated_files=50)))
    with pytest.raises(ValueError, match="cannot be negative"):
        MockDefects(duplicates=-1)
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture(sb2=0.9, giant=0.3).kinds(10)
    with pytest.raises(FileNotFoundError, match=r"no truth\.ecsv"):
        MockTruth.read(tmp_path / "full")
