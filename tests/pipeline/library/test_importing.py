"""From a grid in somebody's format to a library, and everything that stops it."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from typer.testing import CliRunner

from tests.places import SHARED
from twinlines.pipeline.arms import ARM_NAMES, ARMS, BLUE, RED, STEP_KMS, Arm, air_to_vacuum
from twinlines.pipeline.cli import main
from twinlines.pipeline.figures.library import nodes_and_spectra, typical_nodes
from twinlines.pipeline.library import components as librarycomponents
from twinlines.pipeline.library import importing
from twinlines.pipeline.library.ferre import FerreGrid
from twinlines.pipeline.library.fits_folder import FolderConfig, SpectraFolder
from twinlines.pipeline.library.importing import Choices, LibraryImportReport, import_library
from twinlines.pipeline.library.library import Library, Outside, OutsideLibraryError
from twinlines.pipeline.library.source import LibraryImportError
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.testing.libraries import AXES, flux, write_ferre, write_folder

SUN = next((SHARED / "library").glob("FERRE*.fits"), None) if (SHARED / "library").exists() else None
VACUUM = Choices("vacuum")
NODES = list(itertools.product(*AXES.values()))
FEW = {"TEFF": (5000.0, 6000.0), "LOGG": (4.0,), "METALS": (-0.5, 0.0)}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regular grid of 24 nodes in vacuum at R = 20000, without its sixth node: 5000 K, 4.5, -0.5, 0.4."""
    return write_ferre(tmp_path_factory.mktemp("grid") / "grid.dat", missing=[5])


def imported(path: Path, out: Path, choices: Choices = VACUUM) -> tuple[Library, LibraryImportReport]:
    report = import_library(FerreGrid(path), out, choices)
    assert not list(out.parent.glob(".*")), "no scratch file is left"
    return Library.load(out), report


def truth(arm: Arm, labels: tuple[float, ...], **more: float) -> NDArray[np.float64]:
    return flux(arm.library_wavelength, dict(zip(AXES, labels, strict=False)) | more, 7500.0)


def assert_same_stars(library: Library, nodes: list[tuple[float, ...]], tolerance: float = 1e-4) -> None:
    for arm in (BLUE, RED):
        labels = [(*node, 0.0)[:4] for node in nodes]
        got = library.flux(arm.name, labels)
        expected = np.array([truth(arm, node) for node in nodes])
        np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_a_regular_grid_becomes_a_library_of_the_same_stars(grid: Path, tmp_path: Path) -> None:
    library, report = imported(grid, tmp_path / "library.npz")
    assert report.nodes == 23
    assert report.combinations == 24
    assert report.digest == library.digest
    assert report.axes["teff"] == [5000.0, 5500.0, 6000.0]
    notes = report.notes
    assert notes["missing_nodes"] == 1
    assert notes["first_missing"] == [list(NODES[5])]
    assert notes["source"] == "grid.dat"
    assert notes["source_resolution"] == 20_000.0
    assert notes["wavelengths"] == "vacuum"
    assert notes["teff_slope"] == pytest.approx(4.5, abs=0.2)
    assert notes["relative_error"]["max"] < 1e-4
    assert notes["warnings"] == []
    assert library.notes == json.loads(json.dumps(notes))
    assert_same_stars(library, [node for number, node in enumerate(NODES) if number != 5])


def test_a_missing_node_stays_a_hole_and_its_neighbours_do_not(grid: Path, tmp_path: Path) -> None:
    library, _ = imported(grid, tmp_path / "library.npz")
    labels = [NODES[5], (5100.0, 4.4, -0.4, 0.3), (5600.0, 4.4, -0.4, 0.3), (5100.0, 4.5, -0.5, 0.0)]
    assert library.outside(labels).tolist() == [Outside.HOLE, Outside.HOLE, 0, 0]
    with pytest.raises(OutsideLibraryError, match="the library has no nodes around row 0"):
        library.flux("B", [NODES[5]])
    with pytest.raises(OutsideLibraryError, match=r"no library node above Teff 6000 K \(asked in row 1: Teff 6200 K"):
        library.flux("R", [NODES[0], (6200.0, 4.0, 0.0, 0.0)])


@pytest.mark.parametrize(
    "options",
    [
        {"irregular": True},
        {"logw": 0},
        {"logw": 2},
        {"in_air": True},
        {"in_air": True, "segments": [(900.0, 2500.0), (4880.0, 6900.0)], "resolutions": [2e4, 2e4]},
        {"segments": [(4880.0, 5430.0), (6200.0, 6900.0)], "resolutions": [2e4, 2e4]},
        {"segments": [(4880.0, 6900.0)], "resolutions": [1e5], "step": 8e-6},
        {"resolutions": [7500.0]},
    ],
    ids=str,
)
def test_whatever_the_layout_the_stars_are_the_same(tmp_path: Path, options: Mapping[str, Any]) -> None:
    path = write_ferre(tmp_path / "grid.dat", FEW, **options)
    library, _ = imported(path, tmp_path / "library.npz", Choices("air" if options.get("in_air") else "vacuum"))
    assert_same_stars(library, list(itertools.product(*FEW.values())))
    assert library.alpha.tolist() == [0.0]
    assert library.outside([(5500.0, 4.0, -0.2, 0.0), (5500.0, 4.0, -0.2, 0.1)]).tolist() == [0, Outside.ALPHA_HIGH]


def test_wavelengths_in_air_taken_for_vacuum_shift_the_lines(tmp_path: Path) -> None:
    """Why the user must say it: by 83 km/s, some 16 pixels; a warning if the file contradicts."""
    path = write_ferre(tmp_path / "grid.dat", FEW, in_air=True, extra=[" VACUUM = 0"])
    wrong, report = imported(path, tmp_path / "wrong.npz")
    assert report.notes["warnings"] == ["the header says air wavelengths; they were taken as vacuum, as asked"]
    spectrum, right = wrong.flux("R", [(5000, 4, 0, 0)])[0], truth(RED, (5000, 4, 0))
    shifts = np.arange(-30, 31)
    match = [np.corrcoef(spectrum[100:-100], np.roll(right, shift)[100:-100])[0, 1] for shift in shifts]
    assert shifts[int(np.argmax(match))] == -16


def test_a_grid_of_the_packaged_library_s_spectra_gives_the_same_spectra(tmp_path: Path) -> None:
    ours = Library.load()
    axes = {"TEFF": (4000, 4250, 4500), "LOGG": (1, 2), "METALS": (-0.5, 0.0), "O Mg Si S Ca Ti": (0.0, 0.4)}

    def spectrum(wave: NDArray[np.float64], labels: Mapping[str, float], _: float) -> NDArray[np.float64]:
        name = "B" if wave[0] < 6000 else "R"
        np.testing.assert_allclose(wave, ARMS[name].library_wavelength, rtol=1e-9)
        return ours.flux(name, [list(labels.values())])[0].astype(np.float64)

    limits = [(ARMS[name].library_wavelength[0], ARMS[name].library_wavelength[-1]) for name in ARM_NAMES]
    # A step a little smaller than ours, so that rounding down gives our number of pixels.
    step = 7.56e-6 * np.log(10.0) * (1 - 1e-6)
    path = write_ferre(
        *(tmp_path / "grid.dat", axes), segments=limits, resolutions=[7500.0] * 2, step=step, spectrum=spectrum
    )
    library, report = imported(path, tmp_path / "library.npz")
    labels = np.array(list(itertools.product(*axes.values())))
    between = [(4100.0, 1.5, -0.25, 0.3)]
    for name in ARM_NAMES:
        np.testing.assert_allclose(library.flux(name, labels), ours.flux(name, labels), rtol=1e-4)
        np.testing.assert_allclose(library.flux(name, between), ours.flux(name, between), rtol=1e-3)
    assert report.notes["source_labels"] == list(axes)


def test_a_folder_and_a_ferre_file_of_the_same_spectra_give_the_same_library(tmp_path: Path) -> None:
    write_folder(tmp_path / "stars", FEW)
    (tmp_path / "keys.toml").write_text(
        'hdu = 1\nwavelength = "wave"\nflux = "flux"\nresolution = "R"\n'
        '[labels]\nteff = "TEFF"\nlogg = "LOGG"\nfeh = "METALS"\n'
    )
    source = SpectraFolder(tmp_path / "stars", FolderConfig.read(tmp_path / "keys.toml"))
    report = import_library(source, tmp_path / "folder.npz", VACUUM)
    assert report.notes["format"] == "FITS, one spectrum a file"
    assert_same_stars(Library.load(tmp_path / "folder.npz"), list(itertools.product(*FEW.values())))


@pytest.mark.skipif(SUN is None, reason="the FERRE Sun is not in ../shared/library")
def test_the_sun_of_the_paper_s_library(tmp_path: Path) -> None:
    assert SUN is not None
    (tmp_path / "labels.csv").write_text(f"file,teff,logg\n{SUN.name},5750,4.5\n")
    (tmp_path / "keys.toml").write_text(
        'hdu = 1\nwavelength = "wave"\nflux = "flux"\ncsv = "labels.csv"\n'
        '[labels]\nteff = "teff"\nlogg = "logg"\nfeh = 0\nalpha = 0\n'
    )
    source = SpectraFolder(SUN.parent, FolderConfig.read(tmp_path / "keys.toml"))
    report = import_library(source, tmp_path / "sun.npz", Choices("air", resolution=10_000.0))
    assert (report.nodes, report.notes["components"], report.notes["teff_slope"]) == (1, 0, None)
    library, ours = Library.load(tmp_path / "sun.npz"), Library.load()
    labels = [(5750.0, 4.5, 0.0, 0.0)]
    spectrum = source.read(source.index()[0])
    assert spectrum is not None
    spline = CubicSpline(np.log10(air_to_vacuum(spectrum.segments[0])), spectrum.flux)
    for arm, rms in ((BLUE, 0.022), (RED, 0.010)):
        got = library.flux(arm.name, labels)[0].astype(np.float64)
        # Independently: the spline on a grid four times finer, 11.2277 km/s there, every fourth pixel.
        fine = np.arange(-200, 4 * arm.library_pixels + 200) / 4 * 7.56e-6 + arm.library_loglam[0]
        expected = gaussian_filter1d(spline(fine), 4 * 11.2277 / STEP_KMS, truncate=6)[200:-200:4]
        np.testing.assert_allclose(got, expected, rtol=5e-5)
        difference = normalised(arm, got) - normalised(arm, ours.flux(arm.name, labels)[0].astype(np.float64))
        assert np.sqrt(np.mean(difference**2)) == pytest.approx(rms, abs=0.0005)


def normalised(arm: Arm, spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = torch.from_numpy(spectrum / np.median(spectrum))[None]
    return np.asarray(normalise(torch.from_numpy(arm.library_wavelength), scaled)[0][0].numpy())[arm.on_library]


def test_a_further_label_is_chosen_and_recorded(tmp_path: Path) -> None:
    axes = FEW | {"VMIC": (1.0, 3.0), "C": (0.1,)}
    path = write_ferre(tmp_path / "grid.dat", axes)
    with pytest.raises(LibraryImportError, match=r"vmic has 2 values \(1, 3\)"):
        import_library(FerreGrid(path), tmp_path / "library.npz", VACUUM)
    library, report = imported(path, tmp_path / "library.npz", Choices("vacuum", select={"vmic": 3.0}))
    assert report.notes["selected"] == {"vmic": 3.0}
    assert report.notes["fixed_labels"] == {"vmic": 3.0, "C": 0.1}
    assert report.nodes == 4
    got = library.flux("R", [(5000, 4, 0, 0)])[0]
    np.testing.assert_allclose(got, truth(RED, (5000, 4, 0), VMIC=3.0), rtol=1e-4)


def refused(path: Path, out: Path, said: str, choices: Choices = VACUUM) -> str:
    with pytest.raises(LibraryImportError, match=said) as caught:
        import_library(FerreGrid(path), out, choices)
    assert not out.exists()
    assert not list(out.parent.glob(".*")), "no scratch file is left"
    return str(caught.value)


def by_hand(*, factor: Mapping[tuple[float, ...], Any] | None = None, power: float = 1.0) -> Any:
    """Spectra that are multiplied by ``factor`` at some nodes, after being raised to a power."""

    def spectrum(wave: NDArray[np.float64], labels: Mapping[str, float], R: float) -> NDArray[np.float64]:
        values = flux(wave, labels, R) ** power
        return np.asarray(values * (factor or {}).get(tuple(labels.values()), lambda _: 1.0)(wave))

    return spectrum


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "flux is NaN"), (np.inf, "flux is infinite"), (0.0, "flux is 0"), (-1.0, "flux is -")],
)
def test_a_node_with_pixels_that_are_no_flux_is_refused(tmp_path: Path, value: float, said: str) -> None:
    bad = {(6000.0, 4.0, -0.5): lambda wave: np.where((wave > 5200) & (wave < 5201), value, 1.0)}
    path = write_ferre(tmp_path / "grid.dat", FEW, spectrum=by_hand(factor=bad))
    message = refused(path, tmp_path / "library.npz", said)
    assert "grid.dat, line 18 (node 3 of 4)" in message
    assert "teff 6000, logg 4, feh -0.5" in message
    assert "at 5200.0" in message
    assert "12 bad pixels" in message


def test_pixels_that_no_arm_needs_may_be_anything(tmp_path: Path) -> None:
    bad = {(6000.0, 4.0, -0.5): lambda wave: np.where((wave > 5600) & (wave < 5700), np.nan, 1.0)}
    path = write_ferre(tmp_path / "grid.dat", FEW, spectrum=by_hand(factor=bad))
    library, _ = imported(path, tmp_path / "library.npz")
    assert_same_stars(library, list(itertools.product(*FEW.values())))


def test_fluxes_that_do_not_rise_with_teff_are_refused(tmp_path: Path) -> None:
    def shuffled(wave: NDArray[np.float64], labels: Mapping[str, float], R: float) -> NDArray[np.float64]:
        number = NODES.index(tuple(labels.values()))  # lines written with the first dimension fastest
        places = np.unravel_index(number, [len(axis) for axis in AXES.values()][::-1])[::-1]
        names = zip(AXES.items(), places, strict=True)
        return flux(wave, {name: axis[place] for (name, axis), place in names}, R)

    path = write_ferre(tmp_path / "order.dat", spectrum=shuffled)
    refused(path, tmp_path / "library.npz", "another dimension than the last may vary fastest: reorder its lines")
    path = write_ferre(
        tmp_path / "normalised.dat", spectrum=lambda wave, labels, R: flux(wave, labels, R) / labels["TEFF"] ** 4.5
    )
    message = refused(path, tmp_path / "library.npz", "or the flux is continuum-normalised")
    assert "rises between 100 % of the nodes" in message


@pytest.mark.parametrize(
    ("options", "choices", "said"),
    [
        ({"resolutions": [5000.0]}, VACUUM, "spectra of R = 5000 cannot be sharpened to R = 7500"),
        ({"resolutions": [0.0]}, VACUUM, "does not state its resolving power; say it with --resolution"),
        ({}, Choices("vacuum", 10_000.0), r"states R = 20000, and --resolution says 10000"),
        ({"segments": [(4950.0, 6900.0)]}, VACUUM, r"node 1 of 4\): arm B needs vacuum wavelengths 4925.06"),
        ({"extra": [" LOGW = 2"]}, VACUUM, r"node 1 of 4\): arm B needs .* found 39.98 to 46.47 A"),
        ({}, Choices("vacuum", components=0), "0 components asked for; 1 to 1000"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    tmp_path: Path, options: Mapping[str, Any], choices: Choices, said: str
) -> None:
    def sharp(wave: NDArray[np.float64], labels: Mapping[str, float], _: float) -> NDArray[np.float64]:
        return flux(wave, labels, 20_000.0)

    path = write_ferre(tmp_path / "grid.dat", FEW, spectrum=sharp, **options)
    refused(path, tmp_path / "library.npz", said, choices)


def test_files_of_different_resolution_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "stars", FEW)
    write_folder(tmp_path / "others", {"TEFF": (6500.0,), "LOGG": (4.0,), "METALS": (0.0,)}, resolution=30_000.0)
    (tmp_path / "others" / "star000.fits").rename(tmp_path / "stars" / "star009.fits")
    labels = {"teff": "TEFF", "logg": "LOGG", "feh": "METALS"}
    config = FolderConfig(labels, hdu=1, wavelength="wave", flux="flux", resolution="R")
    source = SpectraFolder(tmp_path / "stars", config)
    with pytest.raises(LibraryImportError, match=r"mixed .*star000.fits has R = 20000, .*star009.fits has R = 30000"):
        import_library(source, tmp_path / "library.npz", VACUUM)


def test_labels_that_make_no_grid_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = write_ferre(tmp_path / "twice.dat", FEW, irregular=True, segments=[(5000.0, 5010.0)])
    twice.write_text(twice.read_text().replace("6.0000000e+03", "5.0000000e+03"))
    refused(twice, tmp_path / "library.npz", r"line 17 \(node 3 of 4\) has the same labels as .*line 15 \(node 1")
    cold = write_ferre(tmp_path / "cold.dat", FEW, segments=[(5000.0, 5010.0)])
    cold.write_text(cold.read_text().replace(" LLIMITS = 5000", " LLIMITS = -5000"))
    refused(cold, tmp_path / "library.npz", r"node 1 of 4\): Teff is -5000 K; it must be positive")
    monkeypatch.setattr(importing, "_MOST_CELLS", 3)
    loose = write_ferre(tmp_path / "loose.dat", FEW, segments=[(5000.0, 5010.0)])
    refused(loose, tmp_path / "library.npz", "4 nodes have labels on no grid: their values make 4 combinations")


def test_a_grid_without_a_single_spectrum_is_refused(tmp_path: Path) -> None:
    path = write_ferre(tmp_path / "grid.dat", FEW, missing=range(4))
    refused(path, tmp_path / "library.npz", "all 4 nodes of grid.dat are missing: nothing to import")


def test_an_existing_library_is_replaced_only_if_asked(tmp_path: Path) -> None:
    path, out = write_ferre(tmp_path / "grid.dat", FEW), tmp_path / "library.npz"
    out.write_text("mine")
    with pytest.raises(LibraryImportError, match=r"library.npz exists; name another file, or .* --overwrite"):
        import_library(FerreGrid(path), out, VACUUM)
    assert out.read_text() == "mine"
    first = import_library(FerreGrid(path), out, VACUUM, overwrite=True)
    again = import_library(FerreGrid(path), out, VACUUM, overwrite=True)
    assert first == again, "the same grid gives the same library"
    with pytest.raises(LibraryImportError, match="nowhere is no folder"):
        import_library(FerreGrid(path), tmp_path / "nowhere" / "library.npz", VACUUM)


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ferre(tmp_path / "grid.dat", FEW)

    class Full:
        def tobytes(self) -> bytes:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(importing._Reader, "lnflux", lambda *_: Full())
        with pytest.raises(OSError, match=r"No space left on device: '.*library.npz.*scratch'"):
            import_library(FerreGrid(path), tmp_path / "library.npz", VACUUM)
    assert [one.name for one in tmp_path.iterdir()] == ["grid.dat"]
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    refused(path, tmp_path / "library.npz", r"0.0 GB free, and 4 nodes need 0.0 GB of scratch")


def smooth_rows(nodes: int) -> NDArray[np.float32]:
    """ln flux of nodes that differ in many ways of falling importance."""
    rng = np.random.default_rng(3)
    ways = rng.normal(size=(40, 10_201))
    sizes = 0.3 * 0.7 ** np.arange(40)
    return (14 + (rng.normal(size=(nodes, 40)) * sizes) @ ways).astype(np.float32)


def test_components_are_those_of_an_exact_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librarycomponents, "_BLOCK", 17)  # several blocks, the last one shorter
    monkeypatch.setattr(librarycomponents, "TOLERABLE", 1.0)
    rows = smooth_rows(120)
    mean, reduced, error = librarycomponents.compress(rows, 12)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), atol=1e-6)
    components = reduced.scale[:, None] * reduced.codes
    overlap = np.linalg.svd(components @ directions[:12].T)[1]
    np.testing.assert_allclose(overlap, 1.0, atol=2e-3)
    restored = reduced.coefficients @ components
    assert np.linalg.norm(restored - centred) <= 1.001 * np.linalg.norm(sizes[12:])
    relative = np.abs(np.expm1(restored - centred))
    assert error["median"] == pytest.approx(np.median(relative), rel=0.01)
    assert error["percentile_99.9"] == pytest.approx(np.percentile(relative, 99.9), rel=0.01)
    assert error["max"] == pytest.approx(relative.max(), rel=0.01)
    assert error["rms"] == pytest.approx(np.sqrt(np.mean(relative**2)), rel=0.01)


def test_more_components_are_kept_until_the_error_is_tolerable(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smooth_rows(120)
    compressed = librarycomponents.compress(rows, 6)
    assert compressed.reduced.scale.size in (24, 40)
    assert compressed.relative_error["percentile_99.9"] <= 1e-3
    monkeypatch.setattr(librarycomponents, "MOST_COMPONENTS", 10)
    compressed = librarycomponents.compress(rows, 6)
    assert compressed.reduced.scale.size == 10
    assert compressed.relative_error["percentile_99.9"] > 1e-3


def test_the_report_says_when_more_components_were_kept_or_would_be_needed(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, report = imported(grid, tmp_path / "library.npz", Choices("vacuum", components=1))
    assert report.notes["components"] > 1
    assert "components kept, since 1 left more than 0.001" in report.notes["warnings"][0]
    monkeypatch.setattr(librarycomponents, "MOST_COMPONENTS", 1)
    _, report = imported(grid, tmp_path / "rough.npz", Choices("vacuum", components=1))
    assert "1 components leave a relative error of" in report.notes["warnings"][0]


def test_nodes_and_spectra_are_drawn(grid: Path, tmp_path: Path) -> None:
    library, _ = imported(grid, tmp_path / "library.npz")
    figure = nodes_and_spectra(library, "made up")
    axes = [panel for part in figure.subfigs for panel in part.axes]
    assert "23 of 24 nodes" in axes[0].get_title()
    numbers = sorted(text.get_text() for text in axes[0].texts)
    assert numbers == ["3", *["4"] * 5]
    assert [name for name, _ in typical_nodes(library)] == ["G dwarf", "K dwarf"]
    assert len(axes[1].lines) == len(axes[2].lines) == 4
    packaged = typical_nodes(Library.load())
    assert packaged[3][0] == "K giant"
    assert packaged[3][1].tolist() == [4500.0, 2.0, 0.0, 0.0]


def test_import_and_show_from_the_command_line(tmp_path: Path) -> None:
    path, out, figure = (
        write_ferre(tmp_path / "grid.dat", FEW | {"C": (0.0, 1.0)}),
        tmp_path / "l.npz",
        tmp_path / "l.png",
    )
    command = ["library", "import", str(path), "--format", "ferre", "--out", str(out)]
    assert CliRunner().invoke(main.app, command).exit_code == 2, "--wavelengths has no default"
    command += ["--wavelengths", "vacuum"]
    failed = CliRunner().invoke(main.app, command)
    assert isinstance(failed.exception, LibraryImportError)
    result = CliRunner().invoke(main.app, [*command, "--select", "C=1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["notes"]["selected"] == {"C": 1.0}
    shown = CliRunner().invoke(main.app, ["library", "show", str(out), "--out", str(figure)])
    assert shown.exit_code == 0, shown.output
    assert "nodes: 4 of 4 combinations; 0 holes" in shown.output
    assert "source: grid.dat" in shown.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    packaged = CliRunner().invoke(main.app, ["library", "show", "--json"])
    summary = json.loads(packaged.stdout)
    assert summary["nodes"] == 2184
    assert summary["axes"]["alpha"] == [-0.5, 0.0, 0.4, 0.7]


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--format", "fits"], "needs --config"), (["--format", "ferre", "--config", "k.toml"], "describes itself")],
)
def test_a_configuration_belongs_to_a_folder(tmp_path: Path, options: list[str], said: str) -> None:
    command = ["library", "import", str(tmp_path), "--wavelengths", "air", "--out", str(tmp_path / "l.npz"), *options]
    result = CliRunner().invoke(main.app, command)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"wavelengths": "Air"}, "wavelengths is 'Air'; give one of air, vacuum"),
        ({"resolution": -1.0}, "resolution is -1"),
        ({"resolution": float("nan")}, "resolution is nan"),
    ],
)
def test_choices_that_are_none_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(LibraryImportError, match=said):
        Choices(**{"wavelengths": "air", **wrong})
