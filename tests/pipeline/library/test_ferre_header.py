"""Namelists as FERRE's own tools and people write them, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinlines.pipeline.library.ferre_header import Header, read_header
from twinlines.pipeline.library.source import LibraryImportError

KEYWORDS = """ ID = 'made up = for tests'
 N_OF_DIM = 3
 N_P = 2 3 2
 LABEL(1) = 'TEFF'
 LABEL(2) = 'LOGG'
 LABEL(3) = '[M/H]'
 LLIMITS = 5000. 4.0 -0.5
 STEPS = 500. 0.5 0.5
 NPIX = 8
 WAVE = 3.7 1.e-05
 LOGW = 1
"""


def read(folder: Path, text: str) -> Header:
    path = folder / "grid.dat"
    path.write_bytes(text.encode("latin-1"))
    return read_header(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", " ! a comment, isn't it / or not\n"),
        (" N_OF_DIM", " ! a line of comment: &SYNTH / 'open\n\n N_OF_DIM"),
        (" N_P = 2 3 2", " N_P = 2, 3,\n      2,"),
        (" N_P = 2 3 2\n LABEL(1)", " n_p = 2 3 2, label (1)"),
        (" LLIMITS = 5000. 4.0 -0.5", " LLIMITS = 5.D3 +4 -.5E+00"),
        (" STEPS = 500. 0.5 0.5", " STEPS = 500.0 2*5-1"),
        ("'LOGG'", '"LOGG"'),
        (" ID", " COMMENTS1 = 'Carlos'' grid # 3, in /home/somebody: a = b & c \xe9'\n ID"),
        (" ID", " COMMENTS1 = \n DATE = 'Thu Jan  6 12:03:04 2022'\n ID"),  # as IDL writes them
        (" ID", " COMMENTS1 = 'two\n lines / of it'\n ID"),
        (" ID", " TINY = 1.23-101 HUGE = 1.D300 ORIGINAL_SAMPLING=  7.1e-06\n ID"),
        (" LOGW = 1\n", " LOGW = 1"),
    ],
)
def test_one_grid_written_in_many_ways(tmp_path: Path, old: str, new: str) -> None:
    assert old in KEYWORDS
    plain = read(tmp_path, f" &SYNTH\n{KEYWORDS} /\n")
    for end in (" /\n", " / the fluxes\n", " &END\n"):
        header = read(tmp_path, f"\n &SYNTH\n{KEYWORDS.replace(old, new)}{end}1. 2. 3.\n")
        assert header.labels == ("TEFF", "LOGG", "[M/H]")
        assert (header.n_p, header.llimits) == ((2, 3, 2), (5000.0, 4.0, -0.5))
        assert (header.steps, header.segments) == (plain.steps, plain.segments)
        text = (tmp_path / "grid.dat").read_bytes()
        assert text[header.offset :] == b"1. 2. 3.\n"
        assert header.lines == text.count(b"\n") - 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("'made up", "made up", "no Fortran namelist .*; put text in quotes"),
        ("'[M/H]'", "'[M/H]", "ends before its header does.*; quotes are open that are not closed"),
        ("'TEFF'", "T", r"LABEL\(1\) = True, which is no text; put it in quotes"),
        ("'[M/H]'", "[M/H]", r"lacks|no Fortran namelist"),
        (" LOGW = 1", " LOGW = 1 (log10)", "no Fortran namelist .*; put text in quotes"),
        (" LOGW = 1", " LOGW = T", "LOGW = True, which is no list of numbers"),
        (" N_P = 2 3 2", " N_P = 2,,2", "N_P = 2 None 2, which is no list of numbers"),
        (" N_OF_DIM", " &SYNTH\n N_OF_DIM", "does not end before the next & begins; end it with /"),
        (" N_OF_DIM", " COMMENTS1 = a & b\n N_OF_DIM", "does not end before the next & begins; .* put text in quotes"),
    ],
)
def test_what_is_no_namelist_is_refused_with_a_cure(
    tmp_path: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LibraryImportError, match=said) as caught:
        read(tmp_path, f" &SYNTH\n{KEYWORDS.replace(old, new)} /\n1. 2. 3.\n")
    assert "grid.dat" in str(caught.value)
    assert capsys.readouterr().out == ""  # f90nml prints its table of states about quotes that are open
