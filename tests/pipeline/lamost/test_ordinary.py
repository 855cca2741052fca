"""Files read from their bytes: what comes out is what cfitsio reads, bit for bit, or nothing."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.places import SHARED
from twinlines.pipeline.lamost import layout, ordinary, reader, unpacking
from twinlines.pipeline.lamost.extensions import KEYWORDS, Extension, by_cfitsio
from twinlines.pipeline.lamost.layout import BLOCK, CARD, Card
from twinlines.pipeline.lamost.writer import Layout
from twinlines.pipeline.testing.exposures import random_file, with_arm

REAL = sorted(SHARED.glob("lamost*/*.fits*")) if SHARED.is_dir() else []
LAYOUTS: tuple[Layout, ...] = ("rows", "vectors")
NAME = "med-58408-TD230151N343645T01_sp01-015.fits"

EXPOSURE = (Card("EXTNAME", "B-84107311"), Card("LMJM", "84107311"), Card("EXPTIME", 1200), Card("SNR", 12.5, "", 2))


def described(extensions: Sequence[Extension]) -> list[Any]:
    """All that a reader can learn of extensions."""
    said: list[Any] = []
    for extension in extensions:
        header = {key: (type(value), value) for key, value in extension.header.items()}
        said.append((extension.name.strip().upper(), extension.kind, header))
        if extension.kind == "BINARY_TBL":
            columns = extension.read(list(extension.columns))
            said += [(name, v.dtype.str, v.shape, v.tobytes()) for name, v in columns.items()]
    return said


def as_cfitsio_has_it(content: bytes) -> list[Any]:
    with unpacking.scratch_copy(content) as scratch, by_cfitsio(Path("x.fits"), content, scratch) as extensions:
        return described(extensions)


def outcome(path: Path) -> list[Any]:
    """What reading a file gives: all that is kept of it, or why it gives nothing."""
    try:
        file = reader.read(path)
    except reader.LamostError as error:
        return [error.reason, str(error)]
    said: list[Any] = [file.obsid, file.lmjd, file.planid, file.spid, file.fiberid, file.ra, file.dec]
    said += [file.date_beg, file.problems]
    for exposure in file.exposures:
        for name, arm in exposure.arms.items():
            pixels = [getattr(arm, key) for key in ("flux", "ivar", "loglam", "mask")]
            said += [exposure.lmjm, name, *((values.dtype.str, values.tobytes()) for values in pixels)]
            said += [arm.snr, repr(arm.exptime), arm.date_beg, arm.date_end]
    return said


def both_outcomes(path: Path, content: bytes) -> tuple[list[Any], list[Any]]:
    """What reading gives as it is, and with cfitsio alone."""
    path.write_bytes(content)
    with mock.patch.object(ordinary, "extensions", return_value=None):
        old = outcome(path)
    return outcome(path), old


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, bytes]:
    """A file of two exposures, one of them without its red arm, in either layout."""
    path = tmp_path_factory.mktemp("made") / NAME
    files: dict[Layout, bytes] = {}
    for kind in LAYOUTS:
        reader.write(path, with_arm(random_file(3, 2), 1, "R", None), kind)
        files[kind] = path.read_bytes()
    return files


def headers(content: bytes) -> list[tuple[int, int]]:
    """Where each header begins, and where its END stands."""
    starts = [0] + [at for at in range(0, len(content), BLOCK) if content.startswith(b"XTENSION=", at)]
    return [(at, content.index(b"END".ljust(CARD), at)) for at in starts]


def replaced(content: bytes, at: int, card: bytes) -> bytes:
    return content[:at] + card.ljust(CARD)[:CARD] + content[at + CARD :]


# -- ordinary files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_are_ordinary_unless_they_are_damaged(path: Path) -> None:
    content = unpacking.content_of(path)
    found = ordinary.extensions(content, KEYWORDS)
    if "59151" in path.name:
        assert found is None
        return
    assert found is not None
    assert described(found) == as_cfitsio_has_it(content)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_written_files_are_ordinary(made: dict[Layout, bytes], kind: Layout) -> None:
    found = ordinary.extensions(made[kind], KEYWORDS)
    assert found is not None
    assert [extension.name for extension in found[1:]] == [
        *("COADD_B", "COADD_R", "B-84107311", "B-84107336", "R-84107311")
    ]


NAMES = st.lists(
    st.sampled_from(["FLUX", "IVAR", "LOGLAM", "WAVELENGTH", "PIXMASK", "X_2", "A"]), min_size=1, unique=True
)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'"), max_size=40)
NUMBERS = st.integers(-(10**14), 10**14) | st.decimals(-(10**6), 10**6, places=3).map(float) | st.booleans()


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table of any numbers in any layout, with any keywords of ours."""
    names = draw(NAMES)
    width = draw(st.sampled_from([1, 1, 2, 7]))
    kinds = [draw(st.sampled_from(["f4", "i2"])) for _ in names]
    dtype = np.dtype(
        [(name, f">{kind}", () if width == 1 else (width,)) for name, kind in zip(names, kinds, strict=True)]
    )
    rows = draw(st.integers(1, 9))
    content = draw(st.binary(min_size=rows * dtype.itemsize, max_size=rows * dtype.itemsize))
    keys = draw(st.lists(st.sampled_from([key for key in KEYWORDS if key != "ZTABLE"]), unique=True, max_size=6))
    cards = [Card("EXTNAME", draw(st.sampled_from(["B-84107311", "R-84107311", "COADD_B", "b-1", "X Y"])))]
    cards += [Card(key, draw(TEXT | NUMBERS), draw(TEXT)) for key in keys]
    return layout.table(cards, np.frombuffer(content, dtype))


@settings(max_examples=100, deadline=None)
@given(st.lists(tables(), max_size=3), TEXT, NUMBERS)
def test_what_is_ordinary_is_as_cfitsio_has_it(parts: list[bytes], text: str, number: float) -> None:
    content = layout.primary({"OBJNAME": text, "RA": float(number), "PLANID": text[:8]}) + b"".join(parts)
    found = ordinary.extensions(content, KEYWORDS)
    assume(found is not None)  # a number may need an exponent
    assert found is not None
    assert described(found) == as_cfitsio_has_it(content)


# -- whatever is not ---------------------------------------------------------------------------------------------------


UNUSUAL = [
    *(b"TSCAL1  =                  2.0", b"TZERO4  =                32768", b"TNULL4  =                    4"),
    *(b"TDIM1   = '(2,2068)'", b"TUNIT1  = 'adu     '", b"TDISP1  = 'F8.3    '", b"THEAP   =               100000"),
    *(b"CONTINUE  'more'", b"LONGSTRN= 'OGIP 1.0'", b"HIERARCH ESO A = 1", b"EXTVER  =                    2"),
    *(b"HDUNAME = 'B-84107311'", b"EXTNAME = 'it''s   '", b"EXTNAME =                    5", b"INHERIT = T"),
    *(b"ZIMAGE  =                    T", b"ZTABLE  =                    T", b"ZCMPTYPE= 'RICE_1  '"),
    *(b"BSCALE  =                  2.0", b"BLANK   =                    0", b"CHECKSUM= 'abc     '"),
    *(b"NAXIS3  =                    2", b"NAXIS2  =                    1", b"PCOUNT  =                    0"),
    *(b"TTYPE5  = 'MORE    '", b"TTYPE01 = 'FLUX    '", b"TFORM5  = 'E       '", b"GROUPS  =                    T"),
    *(b"SIMPLE  =                    T", b"END     x", b"SNR     = 'not closed", b"SNR     = (1, 2)", b"SNR       12"),
    *(
        b"snr     = 3",
        b"SNR     = 1.5E1",
        b"SNR     = .5",
        b"SNR     =",
        b"OBJNAME = 'caf\xe9'",
        b"A\tB     = 1",
        b"=",
        b"A B     = 1",
    ),
]


@pytest.mark.parametrize("card", UNUSUAL)
def test_unusual_cards_are_left_to_cfitsio(made: dict[Layout, bytes], card: bytes) -> None:
    content = made["rows"]
    start, _ = headers(content)[3]
    changed = replaced(content, content.index(b"LAMPLIST", start), card)
    assert ordinary.extensions(changed, KEYWORDS) is None


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "TFORM1",
            [b"'D'", b"'e'", b"'2E'", b"'01E'", b"'0E'", b"'1PE(4)'", b"'4A'", b"'32X'", b"'4B'", b"'4L'", b"'E x'"],
        ),
        ("TTYPE1", [b"'flux'", b"'IVAR'", b"' FLUX'", b"''", b"'FLUX/2'", b"5"]),
        ("BITPIX", [b"16", b"08", b"+8", b"8.0", b"T", b"'8'"]),
        ("NAXIS", [b"1", b"T", b"2."]),
        ("NAXIS1", [b"15", b"14.", b"0", b"-14", b"99999999999999"]),
        ("NAXIS2", [b"0", b"-1", b"4137000"]),
        ("PCOUNT", [b"8", b"F"]),
        ("GCOUNT", [b"2", b"T"]),
        ("TFIELDS", [b"3", b"5", b"0", b"1000"]),
        ("XTENSION", [b"'IMAGE   '", b"'TABLE   '", b"'A3DTABLE'", b"T"]),
    ],
)
def test_unusual_tables_are_left_to_cfitsio(made: dict[Layout, bytes], key: str, values: list[bytes]) -> None:
    content = made["rows"]
    start, _ = headers(content)[3]
    for value in values:
        changed = replaced(content, content.index(f"{key:8}=".encode(), start), f"{key:8}= ".encode() + value.rjust(20))
        assert changed != content
        assert ordinary.extensions(changed, KEYWORDS) is None


def test_unusual_places_are_left_to_cfitsio(made: dict[Layout, bytes]) -> None:
    content = made["rows"]
    (_, primary_end), (start, end), *_ = headers(content)
    first, second = content[start + CARD : start + 2 * CARD], content[start + 2 * CARD : start + 3 * CARD]
    for changed in (
        replaced(replaced(content, start + CARD, second), start + 2 * CARD, first),  # another order
        replaced(content, end + CARD, b"AFTER   = 1"),
        content + bytes(BLOCK),
        content + b"more",
        content[:-1] + b"x",  # within the padding
        content[:-BLOCK],
        content[:-1],
        content[BLOCK:],
        replaced(content, primary_end, b""),
        replaced(content, 0, b"SIMPLE  =                    F"),
        replaced(content, 2 * CARD, b"NAXIS   =                    1"),
        replaced(content, 3 * CARD, b"EXTEND  =                    F"),
    ):
        assert ordinary.extensions(changed, KEYWORDS) is None


def test_a_header_that_begins_with_a_comment_is_left_to_cfitsio(made: dict[Layout, bytes]) -> None:
    content = made["rows"]
    (start, end), *_ = headers(content)[1:]
    shifted = content[: start + CARD] + b"COMMENT".ljust(CARD) + content[start + CARD : end] + content[end + CARD :]
    assert len(shifted) == len(content)
    assert ordinary.extensions(replaced(shifted, end + CARD, b"END"), KEYWORDS) is None


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LAYOUTS)
def test_files_cut_anywhere_give_what_they_gave(tmp_path: Path, made: dict[Layout, bytes], kind: Layout) -> None:
    content = made[kind]
    random = np.random.default_rng(5)
    # All blocks of what follows the coadds of the rows' layout; of the other one, those at which extensions begin.
    blocks = range(headers(content)[3][0], len(content), BLOCK)
    starts = [start for start, _ in headers(content)[1:]]
    cuts = [
        *(blocks if kind == "rows" else ()),
        *starts,
        *(start + step for start in starts for step in (-1, BLOCK, 80)),
    ]
    cuts += random.integers(9, len(content), 20).tolist()
    for cut in cuts:
        ours, theirs = both_outcomes(tmp_path / NAME, content[:cut])
        assert ours == theirs
    # Cut between extensions, a file looks whole.
    assert {cut for cut in cuts if ordinary.extensions(content[:cut], KEYWORDS) is not None} == set(starts)


CARDS = st.sampled_from(
    [
        *UNUSUAL,
        *(b"SNR     =                 12.5 / more", b"SNR     = '12.5    '", b"SNR     = T", b"LMJM    = 84107311"),
        *(
            b"EXPTIME = -1",
            b"EXPTIME = '1200'",
            b"VACUUM  = F",
            b"HELIO   = 'maybe'",
            b"OBSID   = 1.5",
            b"RA      = 400.",
        ),
        *(
            b"OBSID   = 123456789012345",
            b"EXTNAME = 'B-84107311'",
            b"EXTNAME = 'b-84107336  '",
            b"EXTNAME = ' R-84107311'",
        ),
        *(
            b"NEXP_B  = 7",
            b"DATE-BEG= '2018-10-16T20:56:30'",
            b"DATE-BEG= 'when?   '",
            b"COMMENT = 5",
            b"HISTORY x",
            b"",
        ),
        *(b"TELESCOP= 'other   '", b"EQUINOX = 1950.", b"TTYPE3  = 'WAVELENGTH'", b"TFORM4  = '1I      '"),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_headers_give_what_they_gave(
    tmp_path_factory: pytest.TempPathFactory, made: dict[Layout, bytes], data: st.DataObject
) -> None:
    content = made[data.draw(st.sampled_from(LAYOUTS))]
    places = headers(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = data.draw(st.sampled_from(places))
        byte = data.draw(st.integers(start, end + 2))
        here, there = (start + CARD * data.draw(st.integers(0, (end - start) // CARD - 1)) for _ in range(2))
        match data.draw(st.sampled_from(["bit", "letter", "card", "copy", "swap"])):
            case "bit":
                flipped = content[byte] ^ 1 << data.draw(st.integers(0, 7))
                content = content[:byte] + bytes([flipped]) + content[byte + 1 :]
            case "letter":
                content = content[:byte] + bytes([data.draw(st.integers(32, 126))]) + content[byte + 1 :]
            case "card":
                content = replaced(content, here, data.draw(CARDS))
            case "copy":
                content = replaced(content, here, content[there : there + CARD])
            case _:
                one, other = content[here : here + CARD], content[there : there + CARD]
                content = replaced(replaced(content, here, other), there, one)
    ours, theirs = both_outcomes(tmp_path_factory.mktemp("damage") / NAME, content)
    assert ours == theirs


def test_a_compressed_file_is_read_from_its_bytes(tmp_path: Path, made: dict[Layout, bytes]) -> None:
    path = tmp_path / f"{NAME}.gz"
    ours, theirs = both_outcomes(path, gzip.compress(made["rows"]))
    assert ours == theirs
    with mock.patch.object(reader, "scratch_copy", side_effect=AssertionError("no copy is needed")):
        assert outcome(path) == ours
