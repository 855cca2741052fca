"""Folders of FITS spectra: where wavelengths, fluxes and labels may stand, and what is refused."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest
from numpy.typing import NDArray

from twinlines.pipeline.library.fits_folder import FolderConfig, SpectraFolder
from twinlines.pipeline.library.source import LibraryImportError, Spectrum
from twinlines.pipeline.testing.libraries import flux, wavelengths, write_folder

FEW = {"TEFF": (5000.0, 5500.0), "LOGG": (4.0, 4.5), "METALS": (-0.5,)}
TABLE = """
hdu = 1
wavelength = "wave"
flux = "flux"
resolution = "R"
[labels]
Teff = "TEFF"
logg = "LOGG"
METALS = "METALS"
alpha = 0
"""
WAVE = wavelengths((5000.0, 5100.0))


def folder_of(tmp_path: Path, toml: str, name: str = "stars") -> SpectraFolder:
    (tmp_path / "keys.toml").write_text(toml)
    return SpectraFolder(tmp_path / name, FolderConfig.read(tmp_path / "keys.toml"))


def read(source: SpectraFolder, number: int = 0) -> Spectrum:
    spectrum = source.read(source.index()[number])
    assert spectrum is not None
    return spectrum


@pytest.mark.parametrize("gz", [False, True])
def test_tables_with_labels_in_their_headers(tmp_path: Path, gz: bool) -> None:
    paths = write_folder(tmp_path / "stars", FEW, gz=gz)
    source = folder_of(tmp_path, TABLE)
    entries = source.index()
    assert [entry.place for entry in entries] == [str(path) for path in paths]
    assert [tuple(entry.labels.values())[:3] for entry in entries] == list(itertools.product(*FEW.values()))
    assert entries[0].labels == {"teff": 5000.0, "logg": 4.0, "feh": -0.5, "alpha": 0.0}
    spectrum = read(source, 3)
    labels = {"TEFF": 5500.0, "LOGG": 4.5, "METALS": -0.5}
    np.testing.assert_allclose(spectrum.flux, flux(wavelengths(), labels, 20_000.0))
    np.testing.assert_array_equal(spectrum.segments[0], wavelengths())
    assert spectrum.resolution == 20_000.0


def write_image(path: Path, header: dict[str, object], values: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fitsio.write(str(path), np.arange(1.0, 1.0 + WAVE.size) if values is None else values, header=header, clobber=True)


@pytest.mark.parametrize(
    ("scale", "unit", "header"),
    [
        ("linear", "angstrom", {"CRVAL1": 5000.0, "CDELT1": 0.02}),
        ("linear", "nm", {"CRVAL1": 500.2, "CD1_1": 0.002, "CRPIX1": 101.0}),
        ("linear", "micron", {"CRVAL1": 0.5, "CDELT1": 2e-6, "CRPIX1": 1.0}),
        ("log10", "angstrom", {"CRVAL1": np.log10(5000.0), "CDELT1": np.log10(5000.02 / 5000.0), "CRPIX1": 1}),
        ("ln", "angstrom", {"CRVAL1": np.log(5000.0), "CDELT1": np.log(5000.02 / 5000.0)}),
    ],
)
def test_images_with_wavelengths_in_their_headers(
    tmp_path: Path, scale: str, unit: str, header: dict[str, object]
) -> None:
    write_image(tmp_path / "stars" / "deep" / "sun.fit", header | {"T": 5772, "G": 4.44})
    toml = f'scale = "{scale}"\nunit = "{unit}"\n[labels]\nteff = "T"\nlogg = "G"\nfeh = 0.0\n'
    spectrum = read(folder_of(tmp_path, toml))
    (wave,) = spectrum.segments
    np.testing.assert_allclose(wave[:2], [5000.0, 5000.02], atol=1e-6)
    assert wave.size == spectrum.flux.size == WAVE.size
    np.testing.assert_array_equal(spectrum.flux[:2], [1.0, 2.0])
    assert spectrum.resolution is None


def test_labels_from_a_csv_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "stars", FEW)
    (tmp_path / "labels.csv").write_text(
        "file, Teff, logg, note\nstar002.fits, 5500, 4.0, b\nstar000.fits, 5000, 4.0, a\n"
    )
    toml = TABLE.replace("resolution", 'csv = "labels.csv"\nresolution').replace('"TEFF"', '"Teff"')
    toml = toml.replace('"LOGG"', '"logg"').replace('METALS = "METALS"', "METALS = -0.5")
    source = folder_of(tmp_path, toml)
    entries = source.index()
    assert [Path(entry.place).name for entry in entries] == ["star002.fits", "star000.fits"]
    assert [entry.labels["teff"] for entry in entries] == [5500.0, 5000.0]
    labels = {"TEFF": 5500.0, "LOGG": 4.0, "METALS": -0.5}
    np.testing.assert_allclose(read(source).flux, flux(wavelengths(), labels, 20_000.0))

    (tmp_path / "labels.csv").write_text("file,Teff,logg\nstar002.fits,5500,4.0\nstar009.fits,5000,4.0\n")
    with pytest.raises(LibraryImportError, match=r"csv lists star009.fits, which is not in .*stars; add it or"):
        folder_of(tmp_path, toml)
    (tmp_path / "labels.csv").write_text("name,Teff,logg\nstar002.fits,5500,4.0\n")
    with pytest.raises(LibraryImportError, match=r"no column 'file' \(columns: name, Teff, logg\)"):
        folder_of(tmp_path, toml)
    (tmp_path / "labels.csv").write_text("file,Teff,logg\nstar002.fits,5500,\n")
    with pytest.raises(LibraryImportError, match=r"star002.fits: label logg \(logg\) is ''; a finite number"):
        folder_of(tmp_path, toml).index()


def test_spectra_of_nothing_are_missing_nodes(tmp_path: Path) -> None:
    for number, value in enumerate((0.0, np.nan, 1.0)):
        write_image(tmp_path / "stars" / f"{number}.fits", {"CRVAL1": 5000, "CDELT1": 1}, np.full(WAVE.size, value))
    source = folder_of(tmp_path, "[labels]\nteff = 5000\nlogg = 4\nfeh = 0\n")
    assert [source.read(entry) is None for entry in source.index()] == [True, True, False]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("hdu = 1", r"lacks a table \[labels\]"),
        ("labels = 3", "labels is 3; give a table that says where teff"),
        ("hdu = [", "cannot be read as TOML"),
        (
            "fluxes = 'f'\n[labels]\nteff = 'T'",
            "there is no 'fluxes' \\(did you mean 'flux'\\?\\); there are labels, hdu, wavelength, flux, scale",
        ),
        ("hdu = 'one'\n[labels]\nteff = 'T'", "hdu is 'one'; give a whole number"),
        ("flux = 3\n[labels]\nteff = 'T'", "flux is 3; give text"),
        ("scale = 'log'\n[labels]\nteff = 'T'", "scale is 'log'; give one of linear, log10, ln"),
        ("unit = 'A'\n[labels]\nteff = 'T'", "unit is 'A'; give one of angstrom, nm, micron"),
        ("[labels]\nteff = true", "labels.teff is True; give a keyword, a column or a number"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_by_name(tmp_path: Path, toml: str, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(toml)
    with pytest.raises(LibraryImportError, match=said) as caught:
        FolderConfig.read(path)
    assert "keys.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"TEFF"', '"TEMP"', r"star000.fits: label teff \(TEMP\) is missing"),
        ('"wave"', '"lambda"', r"star000.fits: HDU 1 has no column 'lambda'; it has wave, flux"),
        ("hdu = 1", "hdu = 5", r"star000.fits"),
        ('flux = "flux"\n', "", r"HDU 1 is a table; name its columns"),
        ('resolution = "R"', 'resolution = "RES"', r"star000.fits: keyword RES \(resolution\) is missing"),
        ('wavelength = "wave"\n', "", r"star000.fits: keyword CRVAL1 \(first wavelength\) is missing"),
    ],
)
def test_files_that_are_not_as_described_are_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    write_folder(tmp_path / "stars", FEW)
    with pytest.raises(LibraryImportError, match=said):
        read(folder_of(tmp_path, TABLE.replace(old, new)))


def test_a_table_is_no_image(tmp_path: Path) -> None:
    write_folder(tmp_path / "stars", FEW)
    fixed = "[labels]\nteff = 5000\nlogg = 4\nfeh = 0\n"
    with pytest.raises(LibraryImportError, match="HDU 0 is an image; leave the columns' names out"):
        read(folder_of(tmp_path, 'hdu = 0\nwavelength = "wave"\nflux = "flux"\n' + fixed))
    with pytest.raises(LibraryImportError, match="HDU 1 is a table; name its columns"):
        read(folder_of(tmp_path, "hdu = 1\n" + fixed))


def test_damaged_files_and_folders_without_files_are_refused(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "stars", FEW)
    source = folder_of(tmp_path, TABLE)
    entries = source.index()
    paths[1].write_bytes(paths[1].read_bytes()[:20_000])
    with pytest.raises(LibraryImportError, match=r"star001.fits cannot be read as FITS"):
        source.read(entries[1])
    paths[2].write_text("no FITS at all")
    with pytest.raises(LibraryImportError, match=r"star002.fits cannot be read as FITS"):
        source.index()
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryImportError, match=r"empty holds no file"):
        folder_of(tmp_path, TABLE, "empty")
    with pytest.raises(LibraryImportError, match="is no folder"):
        folder_of(tmp_path, TABLE, "nowhere")
    with pytest.raises(LibraryImportError, match=r"none\.toml cannot be read as TOML"):
        FolderConfig.read(tmp_path / "none.toml")


def test_names_that_cfitsio_would_take_for_its_syntax(tmp_path: Path) -> None:
    write_folder(tmp_path / "plain", FEW)
    folder = tmp_path / "grid[M_H](2)"
    shutil.copytree(tmp_path / "plain", folder)
    (folder / "star000.fits").rename(folder / "$HOME~star[1].fits")
    (tmp_path / "grid.toml").write_text(TABLE)
    config = FolderConfig.read(tmp_path / "grid.toml")
    named, plain = SpectraFolder(folder, config), SpectraFolder(tmp_path / "plain", config)
    assert [entry.labels for entry in named.index()] == [entry.labels for entry in plain.index()]
    np.testing.assert_array_equal(read(named).flux, read(plain).flux)


def test_hidden_files_are_no_spectra(tmp_path: Path) -> None:
    write_folder(tmp_path / "stars", FEW)
    (tmp_path / "stars" / "._star000.fits").write_bytes(b"\0\5\26\7")  # as macOS leaves them
    shutil.copytree(tmp_path / "stars", tmp_path / "stars" / ".trash")
    assert all(".trash" not in entry.place and "._" not in entry.place for entry in folder_of(tmp_path, TABLE).index())
