"""Real stars as a source of light: what files may hold, what is refused, and that their light is the stars'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twinlines.pipeline.arms import ARMS, BLUE, RED, doppler_factor, vacuum_to_air
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.synthesis.real_light import RealStarError, reflect_into
from twinlines.pipeline.synthesis.realstars import RealStars
from twinlines.pipeline.testing import star_spectrum, write_star, write_stars
from twinlines.pipeline.testing.realstars import SUN

K_DWARF = (4800.0, 4.6, -0.2, 0.1)
WAVE, FLUX = star_spectrum()


def expected(arm: str, labels: tuple[float, ...] = SUN) -> np.ndarray:
    light = Library.load().flux(arm, np.array([labels]))[0]
    return light / np.median(light[ARMS[arm].on_library])


def off(stars: RealStars, arm: str = "B", labels: tuple[float, ...] = SUN, edge: int = 60) -> float:
    """Largest difference of the first star's light from the library's, some pixels from the ends."""
    return float(np.abs(stars.flux[arm][0] - expected(arm, labels))[edge:-edge].max())


def test_a_star_of_the_library_comes_back(tmp_path: Path) -> None:
    stars = RealStars.load(write_stars(tmp_path, {"sun": SUN, "dwarf": K_DWARF}, {"dwarf": "K dwarf"}))
    assert stars.name == ("dwarf", "sun")
    assert stars.kind == ("K dwarf", "star")
    assert stars.teff.tolist() == [4800.0, 5772.0]
    assert np.isnan(stars.logg).all()
    assert np.isinf(stars.snr["R"]).all()
    for arm in ARMS:
        assert off(stars, arm, K_DWARF, edge=2) < 2e-5
        np.testing.assert_array_equal(stars.light(arm, np.array([[1.0], [0.0]])), stars.flux[arm][::-1])
    assert stars.called("K dwarf").tolist() == [[0.0]]
    assert stars.called("sun").tolist() == [[1.0]]
    assert "2 stars (1 K dwarf, 1 star)" in repr(stars)
    assert RealStars.load(tmp_path) is RealStars.load(str(tmp_path))
    with pytest.raises(
        RealStarError, match=r"no star has the class or the name 'K dwarfs' \(did you mean 'K dwarf'\?\)"
    ):
        stars.called("K dwarfs")
    with pytest.raises(RealStarError, match="there are 2 stars"):
        stars.light("B", np.array([[2.0]]))


def test_wavelengths_in_air_and_velocities_are_undone(tmp_path: Path) -> None:
    moved = vacuum_to_air(WAVE * doppler_factor(80.0))
    header = {"R": 7500.0, "AIR": True, "VELOCITY": 80.0}
    write_star(tmp_path / "moved.fits", moved, FLUX, header=header)
    stars = RealStars.load(tmp_path)
    assert stars.name == ("moved",)
    assert off(stars) < 1e-4
    assert off(stars, "R") < 1e-4


def test_the_table_counts_before_the_header(tmp_path: Path) -> None:
    write_star(tmp_path / "a.fits", WAVE * doppler_factor(-30.0), FLUX, header={"R": 3000.0, "OBJECT": "x"})
    (tmp_path / "stars.csv").write_text(
        "file,name,resolution,velocity,class,teff,snr,remark\na.fits,b,7500,-30,G,5800,99,\n"
    )
    stars = RealStars.load(tmp_path)
    assert (stars.name, stars.kind, stars.teff.tolist()) == (("b",), ("G",), [5800.0])
    assert off(stars) < 1e-4
    # White noise of 99 a pixel of 0.03 A is more in one of 5.2 km/s.
    assert stars.snr["B"][0] == pytest.approx(99.0 * np.sqrt(5.21865 / (0.03 / 5150.0 * 299_792.458)), rel=0.01)


def test_a_sharper_spectrum_is_brought_to_7500(tmp_path: Path) -> None:
    wave = np.arange(4900.0, 6900.0, 0.02)

    def lines(resolution: float) -> np.ndarray:
        flux = np.ones(wave.size)
        for centre in (*np.arange(5010.0, 5300.0, 9.7), *np.arange(6360.0, 6740.0, 9.3)):
            own = 5.0 / 299_792.458
            sigma = centre * np.hypot(own, 1.0 / resolution / 2.3548)
            flux -= 0.05 / (sigma / centre * 7500.0) * np.exp(-0.5 * ((wave - centre) / sigma) ** 2)
        return flux

    write_star(tmp_path / "sharp.fits", wave, lines(60_000.0), header={"R": 60_000.0})
    write_star(tmp_path / "soft.fits", wave, lines(7500.0), header={"R": 7500.0})
    stars = RealStars.load(tmp_path)
    for arm in ARMS:
        assert np.abs(np.diff(stars.flux[arm], axis=0)).max() < 2e-4
        assert np.ptp(stars.flux[arm][0]) > 0.04


def test_gaps_are_filled_without_an_edge(tmp_path: Path) -> None:
    holes = FLUX.copy()
    holes[(WAVE > 5100.0) & (WAVE < 5104.0)] = np.nan
    holes[(WAVE > 5200.0) & (WAVE < 5205.0)] = 0.0
    holes[np.abs(WAVE - 6500.0).argmin()] = np.inf
    sigma = FLUX / 500.0
    sigma[(WAVE > 5250.0) & (WAVE < 5252.0)] = 0.0
    write_star(tmp_path / "a.fits", WAVE, holes, header={"R": 7500.0}, sigma=sigma)
    stars = RealStars.load(tmp_path)
    grid = BLUE.library_wavelength
    change = np.abs(stars.flux["B"][0] - expected("B"))
    hole = np.zeros(grid.size, dtype=bool)
    for low, high in ((5100.0, 5104.0), (5200.0, 5205.0), (5250.0, 5252.0)):
        hole |= (grid > low - 0.3) & (grid < high + 0.3)
    assert change[~hole][60:-60].max() < 3e-3  # the median itself moves
    assert 0.01 < change[hole].max() < 0.7
    assert np.isfinite(stars.flux["B"]).all()
    # One lost pixel is bridged.
    assert off(stars, "R") < 1e-4


def test_ends_go_on_by_reflection(tmp_path: Path) -> None:
    kept = (WAVE > 4998.0) & (WAVE < 6753.0)
    write_star(tmp_path / "a.fits", WAVE[kept], FLUX[kept], header={"R": 7500.0})
    stars = RealStars.load(tmp_path)
    for arm in (BLUE, RED):
        np.testing.assert_allclose(
            stars.flux[arm.name][0][arm.on_library], expected(arm.name)[arm.on_library], atol=1e-3
        )
    # Mirrored about the first pixel that there is, in ln(wavelength).
    grid, light = BLUE.library_wavelength, stars.flux["B"][0]
    first = grid[grid > 4998.0][0]
    mirrored = np.interp(first**2 / grid[600:800], grid, light)
    np.testing.assert_allclose(light[600:800], mirrored, atol=0.01)


def test_reflection_by_hand() -> None:
    values = np.array([0.0, 0.0, 3.0, 4.0, 9.0, 9.0, 6.0, 8.0, 0.0])
    missing = np.array([1, 1, 0, 0, 1, 1, 0, 0, 1], dtype=bool)
    reflect_into(values, missing)
    # The gap has 3 and, for want of more, 4 from its left, 6 and 8 from its right, and fades by thirds.
    np.testing.assert_allclose(values, [3.0, 4.0, 3.0, 4.0, 4.0, 20.0 / 3.0, 6.0, 8.0, 6.0])
    whole = np.arange(4.0)
    reflect_into(whole, np.zeros(4, dtype=bool))
    np.testing.assert_array_equal(whole, np.arange(4.0))


def test_classes_and_names_are_left_out_unread(tmp_path: Path) -> None:
    write_stars(tmp_path, {"a": SUN, "b": K_DWARF, "c": SUN}, {"a": "G", "b": "K", "c": "T Tauri"})
    half = WAVE < 6000.0
    write_star(tmp_path / "d.fits", WAVE[half], FLUX[half], header={"R": 7500.0, "NAME": "half"})
    stars = RealStars.load(tmp_path, without=("T Tauri", "half", "a"))
    assert stars.name == ("b",)
    with pytest.raises(
        RealStarError, match=r"the name 'T Tauris' \(did you mean 'T Tauri'\?\); there are G, K, T Tauri, a"
    ):
        RealStars.load(tmp_path, without=("half", "T Tauris"))
    with pytest.raises(RealStarError, match="no star is left"):
        RealStars.load(tmp_path, without=("G", "K", "c", "half"))


def test_the_digest_follows_the_stars_and_not_their_place(tmp_path: Path) -> None:
    one, other = (write_stars(tmp_path / name, {"a": SUN, "b": K_DWARF}) for name in ("one", "other"))
    before = RealStars.load(one)
    assert before.digest == RealStars.load(other).digest
    assert RealStars.load(one, without=("b",)).digest != before.digest
    changed = FLUX.copy()
    changed[1000] *= 1.001
    write_star(one / "a.fits", WAVE, changed, header={"NAME": "a", "R": 7500.0, "CLASS": "star", "TEFF": SUN[0]})
    after = RealStars.load(one)
    assert after.digest != before.digest
    (one / "stars.csv").write_text("file,class\nb.fits,K\n")
    assert RealStars.load(one).digest not in (before.digest, after.digest)


def _broken(**more: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_star(folder / "a.fits", WAVE, FLUX, header={"R": 7500.0, **more})

    return write


def _part(low: float, high: float) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        kept = (low < WAVE) & (high > WAVE)
        write_star(folder / "a.fits", WAVE[kept], FLUX[kept], header={"R": 7500.0})

    return write


def _hole(folder: Path) -> None:
    flux = np.where((WAVE > 5100.0) & (WAVE < 5160.0), np.nan, FLUX)
    write_star(folder / "a.fits", WAVE, flux, header={"R": 7500.0})


def _noisy(folder: Path) -> None:
    write_star(folder / "a.fits", WAVE, FLUX, header={"R": 7500.0}, ivar=(1.0 / FLUX) ** 2)


def _twice(folder: Path) -> None:
    write_star(folder / "a.fits", np.concatenate([WAVE, WAVE]), np.concatenate([FLUX, FLUX]), header={"R": 7500.0})


def _table(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        _broken()(folder)
        (folder / "stars.csv").write_text(text)

    return write


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda _: None, "holds no file"),
        (
            _part(4000.0, 6000.0),
            r"a.fits: does not cover arm R, which needs 6350.1 to 6749.9 A in vacuum at rest; its .* to 5375.\d A",
        ),
        (_part(5010.0, 9000.0), r"does not cover arm B.*5010.\d to 6844.\d A \(5010.\d to 5375.\d A near the arm\)"),
        (_hole, r"a.fits: lacks 20 % of arm B .* at most 10 % are filled; remove it, or name 'a' in `without`"),
        (_broken(R=5000.0), "a.fits: spectra of R = 5000 cannot be sharpened to R = 7500"),
        (_broken(R=-1.0), "a.fits: resolution is -1.0; give a number above 0"),
        (_broken(VELOCITY="fast"), "a.fits: velocity is 'fast'; give a number"),
        (_broken(AIR="maybe"), "a.fits: air is 'maybe'; give true or false"),
        (_noisy, r"a.fits: S/N 1.\d in arm B .* is below 10, so that"),
        (_twice, "wavelengths are not finite and all different"),
        (_table("file,velocty\na.fits,3\n"), r"has a column 'velocty' \(did you mean 'velocity'\?\)"),
        (_table("name,class\na,b\n"), r"has no column 'file' \(columns: name, class\)"),
        (_table("file,class\nb.fits,K\n"), "lists b.fits, which is not in"),
        (_table("file,class\na.fits,K\na.fits,G\n"), "'a.fits' stands there twice"),
        (lambda folder: (folder / "a.fits").write_bytes(b"SIMPLE = no"), "a.fits cannot be read as FITS"),
        (lambda folder: write_star(folder / "a.fits", WAVE, FLUX, header={}), "nothing says its resolving power"),
        (lambda folder: write_star(folder / "a.fits", WAVE, -FLUX, header={"R": 8e3}), "the median flux of arm B is -"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, write: Callable[[Path], object], said: str) -> None:
    write(tmp_path)
    with pytest.raises(RealStarError, match=said):
        RealStars.load(tmp_path)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RealStarError, match="is no folder"):
        RealStars.load(tmp_path / "none")
    (tmp_path / "exposures.zarr").mkdir()
    with pytest.raises(RealStarError, match="is a release: give a CSV file"):
        RealStars.load(tmp_path)
