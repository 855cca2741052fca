"""Reading of track files: layouts of all versions, and what is refused with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinlines.pipeline.stars.mist_files import TrackFile, TrackFileError, find, parse, read
from twinlines.pipeline.testing.tracks import track_name, track_text, truth, write_archive

N_HEADER = 12


def only(path: Path) -> list[TrackFile]:
    """All tracks of a file or archive, none of which may be an error."""
    tracks = list(read(path))
    assert all(isinstance(track, TrackFile) for track in tracks), tracks
    return tracks  # type: ignore[return-value]


def with_cell(text: str, eep: int, name: str, value: str) -> str:
    """The text with another value of one column at one EEP."""
    lines = text.splitlines()
    place = lines[N_HEADER - 1].lstrip("#").split().index(name)
    cells = lines[N_HEADER + eep - 1].split()
    cells[place] = value
    lines[N_HEADER + eep - 1] = "".join(f"{cell:>32}" for cell in cells)
    return "\n".join(lines) + "\n"


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.1, 30.0),
    st.floats(-4.0, 0.5).map(lambda feh: round(feh, 2)),
    st.sampled_from([-0.2, 0.0, 0.6]),
    st.integers(2, 700),
    st.sampled_from([7, 77]),
    st.integers(0, 1000),
)
def test_values_and_columns_are_found_by_name(
    mass: float, feh: float, alpha: float, n_eeps: int, n_columns: int, seed: int
) -> None:
    text = track_text(mass, feh, alpha, n_eeps, version="2.5", n_columns=n_columns, seed=seed)
    track = parse(text.encode(), "a file")
    assert (track.feh, track.alpha, track.mass) == (feh, alpha, pytest.approx(mass, rel=1e-9))
    assert (track.helium, track.rotation) == (0.2703, 0.4)
    assert track.metals == pytest.approx(0.0142 * 10**feh, rel=1e-5)
    assert track.models == "MIST version number  = 2.5"
    log_age, log_l, log_teff, star_mass = truth(
        np.array(mass), np.array(feh), np.arange(1.0, n_eeps + 1), np.array(alpha)
    )
    expected = np.broadcast_arrays(log_age, log_l, log_teff, star_mass)
    np.testing.assert_allclose(track.table.T, expected, rtol=1e-12, atol=1e-13)
    assert track.moved == 0


def test_a_header_of_another_order_and_another_name_for_alpha_is_read() -> None:
    text = track_text(1.0, -0.5, 0.4).replace("\n", "\r\n")
    text = text.replace("#  Yinit        Zinit   [Fe/H]   [a/Fe]  v/vcrit", "# v/vcrit [alpha/Fe] [Fe/H]")
    lines = text.splitlines()
    lines[4] = "# 0.10 -0.20 -0.00"
    track = parse("\r\n".join(lines).encode() + b"\r\n\r\n", "a file")
    assert (track.feh, track.alpha, track.rotation) == (0.0, -0.2, 0.1)
    assert np.copysign(1.0, track.feh) == 1.0
    assert np.isnan(track.helium)
    assert np.isnan(track.metals)


@pytest.mark.parametrize("suffix", [".txz", ".tar.xz", ".tgz", ".tar.gz"])
@pytest.mark.parametrize("digits", [5, 7])
def test_archives_are_read_in_memory(tmp_path: Path, suffix: str, digits: int) -> None:
    folder = "MIST_v2.5_feh_m0.50_afe_p0.4_vvcrit0.4_EEPS"
    members = {f"{folder}/{track_name(mass, digits)}": track_text(mass, -0.5, 0.4, 300) for mass in (0.1, 1.0, 12.5)}
    others = {f"{folder}/README": "words", f"{folder}/._{track_name(1.0)}": "a shadow"}
    path = write_archive(tmp_path / f"a{suffix}", members | others)
    tracks = only(path)
    assert [track.mass for track in tracks] == [0.1, 1.0, 12.5]
    assert tracks[0].source == f"{path}: {folder}/{'00010M' if digits == 5 else '0001000M'}.track.eep"
    assert list(tmp_path.iterdir()) == [path], "nothing is unpacked to disk"


def test_folders_are_searched_with_their_subfolders(tmp_path: Path) -> None:
    deep = tmp_path / "set" / "m0.50"
    deep.mkdir(parents=True)
    loose = deep / track_name(1.0)
    loose.write_text(track_text(1.0, -0.5))
    (deep / "._00100M.track.eep").write_text("a shadow")
    (deep / "notes.txt").write_text("words")
    archive = write_archive(tmp_path / "set" / "b.txz", {"00200M.track.eep": track_text(2.0, -0.5)})
    assert find([tmp_path]) == [archive, loose]
    assert find([loose, archive]) == [loose, archive]
    assert [track.mass for track in only(loose)] == [1.0]


def test_sources_that_hold_no_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackFileError, match=r"no \*\.track\.eep file or archive \(\*\.txz.*in this folder or below"):
        find([tmp_path])
    with pytest.raises(TrackFileError, match="nowhere does not exist"):
        find([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(TrackFileError, match=r"notes\.txt is neither a folder nor a"):
        find([tmp_path / "notes.txt"])
    empty = write_archive(tmp_path / "empty.txz", {"README": "words"})
    (error,) = read(empty)
    assert str(error) == f"{empty}: no *.track.eep file in this archive"


GOOD = track_text(1.0, -0.5, n_eeps=40)
LINES = GOOD.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: "", "is empty"),
        (lambda: "SIMPLE  =  T", "no line with the name [Fe/H] among the 0 lines"),
        (lambda: "".join(LINES[:6]), "no line with the name initial_mass among the 6 lines"),
        (lambda: "".join(LINES[:12]), "is truncated: a header and no row, N_pts says 40"),
        (lambda: "".join(LINES[:30]), "is truncated: 18 rows, the header's N_pts says 40"),
        (lambda: "".join(LINES) + LINES[-1], "has too many rows: 41 rows, the header's N_pts says 40"),
        (lambda: "".join(LINES)[:-10], "is truncated: row 40, the last, ends in the middle"),
        (lambda: "".join(LINES[:-1]) + LINES[-1][:70] + "\n", "line 52 (EEP 40) has 2 values for 7 columns"),
        (lambda: "".join(LINES[:20]) + "  \n" + "".join(LINES[21:]), "line 21 (EEP 9) has 0 values for 7 columns"),
        (lambda: GOOD.replace("log_Teff", "log_Tc"), "no column log_Teff among the 7 of line 12"),
        (lambda: GOOD.replace("log_L", "L").replace("star_age", "age"), "no column star_age, log_L among"),
        (lambda: with_cell(GOOD, 7, "log_L", "********"), "log_L at EEP 7 is '********', no number"),
        (lambda: with_cell(GOOD, 7, "log_Teff", "NaN"), "log_Teff at EEP 7 is nan, expected a finite number"),
        (lambda: with_cell(GOOD, 1, "star_age", "0.0"), "star_age at EEP 1 is 0, expected a number above 0"),
        (lambda: with_cell(GOOD, 3, "star_mass", "-1"), "star_mass at EEP 3 is -1, expected a number above 0"),
        (lambda: with_cell(GOOD, 9, "star_age", "1.5E2"), "age does not rise from EEP 8 to 9"),
        (lambda: GOOD.replace("-0.50 ", "   x  "), "the header gives [Fe/H] as 'x', expected a number"),
        (lambda: GOOD.replace("     0.40\n", "\n"), "the header names Yinit Zinit [Fe/H] [a/Fe] v/vcrit and gives"),
        (lambda: GOOD.replace("[a/Fe]", "[b/Fe]"), "the header gives [a/Fe] as None, expected a number"),
        (lambda: GOOD.replace("# 1.0000000000E+00", "# 0.0000000000E+00"), "initial_mass as 0, expected above 0"),
        (lambda: track_text(1.0, 0.0, n_eeps=1), "1 EEP; a track needs two at least"),
    ],
)  # fmt: skip
def test_a_bad_file_is_a_clear_error(spoil: Callable[[], str], message: str) -> None:
    with pytest.raises(TrackFileError) as caught:
        parse(spoil().encode(), "set.txz: m/00100M.track.eep")
    assert str(caught.value).startswith("set.txz: m/00100M.track.eep: ")
    assert message in str(caught.value)


def test_ages_that_do_not_rise_by_rounding_are_moved() -> None:
    # Official files are reported to have such places.
    whole = parse(GOOD.encode(), "a file")
    age = 10 ** whole.table[:, 0]
    text = with_cell(with_cell(GOOD, 9, "star_age", f"{age[7] * (1 - 1e-12):.17E}"), 10, "star_age", f"{age[7]:.17E}")
    track = parse(text.encode(), "a file")
    assert track.moved == 2
    assert (np.diff(track.table[:, 0]) > 0).all()
    np.testing.assert_allclose(track.table[8:10, 0], whole.table[7, 0], rtol=1e-12)
    np.testing.assert_array_equal(np.delete(track.table, [8, 9], 0), np.delete(whole.table, [8, 9], 0))
    for eep in range(2, 20):
        text = with_cell(text, eep, "star_age", f"{age[0]:.17E}")
    with pytest.raises(TrackFileError, match="age does not rise from EEP 1 to 2"):
        parse(text.encode(), "a file")


def test_every_cut_of_a_file_is_noticed() -> None:
    whole = GOOD.encode()
    for size in range(0, len(whole) - 1, 7):
        with pytest.raises(TrackFileError):
            parse(whole[:size], "a file")
    assert len(parse(whole.rstrip(b"\n"), "a file").table) == 40, "a missing last newline loses nothing"


def test_nonsense_is_an_error_too() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        with pytest.raises(TrackFileError):
            parse(random.bytes(400), "a file")


@pytest.mark.parametrize("suffix", [".txz", ".tar.gz"])
def test_every_cut_of_an_archive_is_noticed(tmp_path: Path, suffix: str) -> None:
    members = {track_name(mass): track_text(mass, 0.0, n_eeps=60) for mass in (0.5, 1.0, 1.5)}
    whole = write_archive(tmp_path / f"whole{suffix}", members).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for size in range(0, int(0.98 * len(whole)), max(len(whole) // 40, 1)):
        cut.write_bytes(whole[:size])
        found = list(read(cut))
        errors = [one for one in found if isinstance(one, TrackFileError)]
        assert len(errors) == 1
        assert "the archive is damaged or cut short after" in str(errors[0])
        assert str(errors[0]).startswith(f"{cut}: ")
        assert len(found) - len(errors) <= 3
    cut.write_bytes(whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :])
    assert any(isinstance(one, TrackFileError) for one in read(cut))


def test_a_bad_member_does_not_hide_the_others(tmp_path: Path) -> None:
    members = {"00050M.track.eep": "words", "00100M.track.eep": GOOD, "00200M.track.eep": GOOD[:-100]}
    first, second, third = read(write_archive(tmp_path / "a.txz", members))
    assert isinstance(first, TrackFileError)
    assert isinstance(second, TrackFile)
    assert isinstance(third, TrackFileError)


def test_a_file_that_the_system_does_not_give_is_an_error(tmp_path: Path) -> None:
    (error,) = read(tmp_path / "00100M.track.eep")
    assert "00100M.track.eep: cannot be read: " in str(error)
