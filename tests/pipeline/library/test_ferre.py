"""FERRE files: every layout that real grids have, and every way in which they can be wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.library.ferre import FerreGrid
from twinlines.pipeline.library.ferre_header import read_header
from twinlines.pipeline.library.source import LibraryImportError, Spectrum, label_name, selected, selection
from twinlines.pipeline.testing.libraries import AXES, flux, wavelengths, write_ferre

FEW = {"TEFF": (5000.0, 5500.0), "LOGG": (4.0, 4.5, 5.0), "METALS": (-0.5, 0.0)}
SHORT = [(5000.0, 5040.0)]


def small(path: Path, **options: object) -> Path:
    """A grid of 12 nodes and few pixels."""
    return write_ferre(path, **({"axes": FEW, "segments": SHORT} | options))  # type: ignore[arg-type]


def read(grid: FerreGrid, number: int) -> Spectrum:
    spectrum = grid.read(grid.index()[number])
    assert spectrum is not None
    return spectrum


@pytest.mark.parametrize("logw", [0, 1, 2])
@pytest.mark.parametrize("irregular", [False, True])
def test_labels_wavelengths_and_fluxes_are_those_written(tmp_path: Path, logw: int, irregular: bool) -> None:
    grid = FerreGrid(small(tmp_path / "grid.dat", logw=logw, irregular=irregular))
    entries = grid.index()
    values = [tuple(entry.labels.values()) for entry in entries]
    assert list(entries[0].labels) == ["teff", "logg", "feh"]
    assert values == list(itertools.product(*FEW.values()))
    assert "line" in entries[4].place
    assert "node 5 of 12" in entries[4].place
    spectrum = read(grid, 7)
    wave = wavelengths(SHORT[0], logw=logw)
    np.testing.assert_allclose(np.concatenate(spectrum.segments), wave, rtol=1e-12)
    labels = dict(zip(FEW, values[7], strict=True))
    np.testing.assert_allclose(spectrum.flux, flux(wave, labels, 20_000.0), rtol=1e-6)
    assert spectrum.resolution == 20_000.0
    assert grid.notes["format"] == f"FERRE, {'irregular' if irregular else 'regular'}"
    assert grid.notes["source_labels"] == list(FEW)


def test_several_segments_follow_each_other_on_a_line(tmp_path: Path) -> None:
    limits = [(5000.0, 5020.0), (6400.0, 6450.0), (8500.0, 8510.0)]
    grid = FerreGrid(small(tmp_path / "grid.dat", segments=limits, resolutions=[2e4] * 3))
    spectrum = read(grid, 0)
    assert [segment.size for segment in spectrum.segments] == [wavelengths(ends).size for ends in limits]
    np.testing.assert_allclose([segment[0] for segment in spectrum.segments], [ends[0] for ends in limits])
    assert spectrum.flux.size == grid.header.pixels
    assert len(grid.index()) == 12


def test_a_keyword_that_a_segment_does_not_repeat_keeps_its_value(tmp_path: Path) -> None:
    path = small(tmp_path / "grid.dat", segments=[*SHORT, (6400.0, 6450.0)], resolutions=[2e4] * 2)
    head, middle, tail = path.read_text().partition(" RESOLUTION = 20000\n /\n &SYNTH")
    path.write_text(head + middle + tail.replace(" RESOLUTION = 20000\n", "", 1).replace(" LOGW = 1\n", "", 1))
    assert [segment.resolution for segment in read_header(path).segments] == [2e4, 2e4]
    assert [segment.logw for segment in read_header(path).segments] == [1, 1]


@pytest.mark.parametrize("irregular", [False, True])
def test_lines_of_nothing_are_missing_nodes(tmp_path: Path, irregular: bool) -> None:
    path = small(tmp_path / "grid.dat", missing=[3, 7], irregular=irregular, extra=[" INVALID_CODE = -99."])
    lines = path.read_text().splitlines()
    first = len(lines) - 12
    words = lines[first + 5].split()
    labels, fluxes = (words[:3], words[3:]) if irregular else ([], words)
    lines[first + 5] = " ".join(labels + ["NaN"] * len(fluxes))
    lines[first + 6] = " ".join(labels and lines[first + 6].split()[:3]) + " -99" * len(fluxes)
    path.write_text("\n".join(lines))
    grid = FerreGrid(path)
    assert [number for number, entry in enumerate(grid.index()) if grid.read(entry) is None] == [3, 5, 6, 7]


def test_headers_as_people_write_them(tmp_path: Path) -> None:
    wave = wavelengths(SHORT[0])
    path = tmp_path / "grid.dat"
    header = f"""
 &synth
 ! made by hand
 COMMENTS1 = 'run in /home/somebody = here'
 n_of_dim = 3,
 N_P = 1, 1,
       1
 label (1) = "T_eff"
 LABEL(2) = logg
 LABEL(3) = '[M/H]'
 LLIMITS = 5.75D3 2*0.0
 STEPS = 3*0.0
 NPIX = {wave.size}
 WAVE = {np.log10(wave[0]):.12f} {np.log10(wave[1] / wave[0]):.12e}
 LOGW = 1
 VACUUM = 1
 &end
"""
    path.write_text(header + "\n" + " ".join(["1.5D+06", *["1.5+006"] * (wave.size - 1)]) + "\n\n")
    grid = FerreGrid(path)
    (entry,) = grid.index()
    assert entry.labels == {"teff": 5750.0, "logg": 0.0, "feh": 0.0}
    spectrum = grid.read(entry)
    assert spectrum is not None
    assert spectrum.resolution is None
    np.testing.assert_array_equal(spectrum.flux, 1.5e6)
    assert grid.notes["header_wavelengths"] == "vacuum"


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(-300, 300), st.integers(1, 100)), min_size=3, max_size=6),
    st.data(),
)
def test_the_last_dimension_varies_fastest(
    tmp_path_factory: pytest.TempPathFactory, axes: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    names = ["TEFF", "LOGG", "FEH", "ALPHA", "VMIC", "[C/Fe]"][: len(axes)]
    path = tmp_path_factory.mktemp("grid") / "grid.dat"
    values = [[(start + place * step) / 20 for place in range(number)] for number, start, step in axes]
    nodes = list(itertools.product(*values))
    header = [" &SYNTH", f" N_OF_DIM = {len(axes)}", f" N_P = {' '.join(str(number) for number, _, _ in axes)}"]
    header += [f" LABEL({number}) = '{name}'" for number, name in enumerate(names, start=1)]
    header += [f" LLIMITS = {' '.join(str(start / 20) for _, start, _ in axes)}"]
    header += [f" STEPS = {' '.join(str(step / 20) for _, _, step in axes)}"]
    header += [" NPIX = 8", " WAVE = 5000. 0.1", " LOGW = 0", " /"]
    path.write_text("\n".join([*header, *(" ".join([str(number + 1)] * 8) for number in range(len(nodes)))]))
    grid = FerreGrid(path)
    number = data.draw(st.integers(0, len(nodes) - 1))
    entry = grid.index()[number]
    assert tuple(entry.labels.values()) == pytest.approx(nodes[number])
    spectrum = grid.read(entry)
    assert spectrum is not None
    assert spectrum.flux[0] == number + 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            " N_P = 2 3 2",
            " N_P = 2 3 3",
            r"promises 18 nodes \(N_P = 2 3 3\), the file holds only 12; it was cut short",
        ),
        (" N_P = 2 3 2", " N_P = 2 3 1", r"promises 6 nodes .* holds more: line 22 is another"),
        (" N_P = 2 3 2", " N_P = 2 3", "N_P = 2 3, expected 3 values"),
        (" N_P = 2 3 2", " N_P = 2 0 2", "N_P = 2 0 2, which makes no node"),
        (" N_P = 2 3 2", " N_P = 2 many 2", "N_P = 2 many 2, which is no list of numbers"),
        (" LOGW = 1", " LOGW = 3", r"LOGW = 3; known are 0 \(linear\), 1 \(log10\) and 2"),
        (" LOGW = 1", "", "its header lacks LOGW"),
        (" LABEL(2) = 'LOGG'", "", r"lacks LABEL\(2\)"),
        (" LABEL(2) = 'LOGG'", " LABEL(2) = 'T_EFF'", "two of its labels .* are the same quantity"),
        (" N_OF_DIM = 3", " N_OF_DIM = 2.5", "N_OF_DIM = 2.5, expected a whole number"),
        (" LLIMITS", " LIMITS", "lacks LLIMITS"),
        (" RESOLUTION = 20000", " TYPE = 'random'", "TYPE = 'random'; known are 'regular' and 'irregular'"),
        (" RESOLUTION = 20000", " NPCA = 30 20", "NPCA = 30 20: it holds principal components"),
        (" RESOLUTION = 20000", " TRANSPOSED = 1", "its lines are pixels"),
        (" RESOLUTION = 20000", " CONSTANT = 1.5", "a constant was subtracted"),
        (" RESOLUTION = 20000", " CONTINUUM = 1. 4. 0. 0.", "continuum-normalised; a library needs absolute flux"),
        (" &SYNTH", " &LISTA", "begins with &SYNTH; found '&LISTA'"),
        (" /\n", "", "ends before its header does|lacks|no list"),
    ],
)
def test_a_header_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = small(tmp_path / "grid.dat")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LibraryImportError, match=said) as caught:
        FerreGrid(path).index()
    assert "grid.dat" in str(caught.value)


def damaged(path: Path, number: int, change: Sequence[str] | str) -> FerreGrid:
    """A small grid, one line of which is replaced."""
    lines = path.read_text().splitlines()
    lines[len(lines) - 12 + number] = change if isinstance(change, str) else " ".join(change)
    path.write_text("\n".join(lines))
    return FerreGrid(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1.0 " * 100, r"line 20 \(node 5 of 12\): holds 100 numbers, expected \d+ \(NPIX = \d+\)"),
        ("1.0 2.0 ******** 3.0", r"line 20 \(node 5 of 12\): holds something that is no number"),
        ("1.0 é", "holds something that is no number"),
    ],
)
def test_a_line_that_is_wrong_is_refused(tmp_path: Path, line: str, said: str) -> None:
    grid = damaged(small(tmp_path / "grid.dat"), 4, line)
    with pytest.raises(LibraryImportError, match=said):
        grid.read(grid.index()[4])


@pytest.mark.parametrize("line", ["5000 4.0", "5000 four 0.0 1.0 1.0", "5000 nan 0.0 1.0 1.0"])
def test_a_line_of_an_irregular_grid_that_lacks_labels_is_refused(tmp_path: Path, line: str) -> None:
    grid = damaged(small(tmp_path / "grid.dat", irregular=True), 4, line)
    with pytest.raises(LibraryImportError, match=r"line 19 \(node 5 of 12\): should begin with"):
        grid.index()


def test_an_irregular_grid_may_say_its_number_of_nodes_by_itself(tmp_path: Path) -> None:
    path = small(tmp_path / "grid.dat", irregular=True, extra=[" NTOT = 11"])
    path.write_text(path.read_text().rstrip().rpartition("\n")[0] + "\n")
    assert len(FerreGrid(path).index()) == 11
    path.write_text(path.read_text().replace(" NTOT = 11\n", "").replace(" N_P = 2 3 2\n", " N_P = 11\n"))
    assert len(FerreGrid(path).index()) == 11


def test_segments_of_different_resolution_or_contradicting_headers_are_refused(tmp_path: Path) -> None:
    limits = [*SHORT, (6400.0, 6450.0)]
    mixed = small(tmp_path / "mixed.dat", segments=limits, resolutions=[2e4, 1e4])
    with pytest.raises(LibraryImportError, match=r"different resolutions \(RESOLUTION = 20000, 10000\)"):
        FerreGrid(mixed)
    path = small(tmp_path / "grid.dat", segments=limits, resolutions=[2e4, 2e4])
    head, _, tail = path.read_text().rpartition(" N_P = 2 3 2")
    path.write_text(head + " N_P = 3 2 2" + tail)
    with pytest.raises(LibraryImportError, match="its headers disagree on N_P: 2 3 2 and 3 2 2"):
        FerreGrid(path)


def test_files_that_are_no_grids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.dat").write_text("")
    with pytest.raises(LibraryImportError, match=r"empty.dat lacks a header"):
        FerreGrid(tmp_path / "empty.dat")
    (tmp_path / "binary.dat").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(LibraryImportError, match="begins with &SYNTH; found"):
        FerreGrid(tmp_path / "binary.dat")
    with pytest.raises(FileNotFoundError):
        FerreGrid(tmp_path / "none.dat")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *(("TEFF", "teff"), ("logg", "logg"), ("METALS", "feh"), ("[M/H]", "feh"), ("FE_H", "feh")),
        *(("ALPHA", "alpha"), ("O Mg Si S Ca Ti", "alpha"), ("[a/M]", "alpha"), ("[alpha/H]", "[ALPHA/H]")),
        *(("LOG10VDOP", "log10vmic"), ("VMIC", "vmic"), ("C", "C"), ("[N/Fe]", "[N/FE]")),
    ],
)
def test_labels_are_known_by_their_usual_names(name: str, ours: str) -> None:
    assert label_name(name) == ours


def test_further_labels_must_be_chosen_if_they_vary(tmp_path: Path) -> None:
    axes = FEW | {"VMIC": (1.0, 2.0, 3.0), "C": (0.25,)}
    entries = FerreGrid(small(tmp_path / "grid.dat", axes=axes)).index()
    with pytest.raises(LibraryImportError, match=r"vmic has 3 values \(1, 2, 3\).*--select 'vmic=1'"):
        selected(entries, {})
    kept, fixed = selected(entries, selection(["VMICRO=2"]))
    assert len(kept) == 12
    assert fixed == {"vmic": 2.0, "C": 0.25}
    with pytest.raises(LibraryImportError, match="no node has vmic = 4; the values are 1, 2, 3"):
        selected(entries, {"vmic": 4.0})
    with pytest.raises(LibraryImportError, match="no label is called 'N'; the labels are teff, logg, feh, vmic, C"):
        selected(entries, {"N": 0.0})
    for argument in ("VMIC", "VMIC=two", "=2"):
        with pytest.raises(LibraryImportError, match="expected NAME=VALUE"):
            selection([argument])


def test_a_needed_label_that_is_not_there_is_refused(tmp_path: Path) -> None:
    axes = {"TEFF": (5000.0, 5500.0), "LOGG": (4.0, 4.5, 5.0), "HELIUM": (0.25, 0.3)}
    entries = FerreGrid(small(tmp_path / "grid.dat", axes=axes)).index()
    with pytest.raises(LibraryImportError, match=r"'feh' \(labels: teff, logg, HELIUM\); it may be called FEH, FE_H"):
        selected(entries, {})


def test_the_default_grid_has_all_four_labels(tmp_path: Path) -> None:
    entries = FerreGrid(write_ferre(tmp_path / "grid.dat", AXES, segments=SHORT)).index()
    assert list(entries[-1].labels) == ["teff", "logg", "feh", "alpha"]
    assert list(entries[-1].labels.values()) == [6000.0, 4.5, 0.0, 0.4]
