from __future__ import annotations

import gzip
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Literal

import fitsio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.places import SHARED
from twinlines.pipeline.arms import ARM_NAMES, BLUE, NATIVE_PIXELS, RED
from twinlines.pipeline.lamost import layout as lamost_layout
from twinlines.pipeline.lamost import reader, times, unpacking
from twinlines.pipeline.lamost.content_hash import content_hash
from twinlines.pipeline.lamost.exposures import ArmExposure, MrsFile
from twinlines.pipeline.lamost.reader import LamostError, Reason
from twinlines.pipeline.testing.exposures import random_arm, random_file, with_arm

REAL = sorted((SHARED / "lamost").glob("*.fits*")) if SHARED.is_dir() else []
NEW = SHARED / "lamost-new"
needs_new = pytest.mark.skipif(not NEW.is_dir(), reason="the real files of the new layout are not here")
needs_real = pytest.mark.skipif(not REAL, reason="the real LAMOST files are not here")
LAYOUTS: tuple[Literal["rows", "vectors"], ...] = ("rows", "vectors")


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def raw(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def same(one: ArmExposure, other: ArmExposure) -> bool:
    arrays = all(
        getattr(one, key).tobytes() == getattr(other, key).tobytes() for key in ("flux", "ivar", "loglam", "mask")
    )
    return arrays and (one.snr, one.exptime) == (other.snr, other.exptime)


def refusal(path: Path) -> LamostError:
    with pytest.raises(LamostError) as caught:
        reader.read(path)
    assert str(path) in str(caught.value)
    return caught.value


# -- real files ------------------------------------------------------------------------------------------------------


@needs_real
def test_real_files_have_22_exposures_of_both_arms() -> None:
    files = [reader.read(path) for path in REAL]
    assert sum(len(file.exposures) for file in files) == 22
    assert all(set(exposure.arms) == set(ARM_NAMES) for file in files for exposure in file.exposures)
    assert all(file.problems == () for file in files)
    for path, file in zip(REAL, files, strict=True):
        assert path.name.removesuffix(".gz") == reader.file_name(file)
        minutes = [exposure.lmjm for exposure in file.exposures]
        assert minutes == sorted(set(minutes))


@needs_real
def test_real_values_come_back_as_stored() -> None:
    path = next(path for path in REAL if "58625" in path.name)
    file = reader.read(path)
    assert (file.obsid, file.lmjd, file.spid, file.fiberid) == (744812076, 58625, 12, 76)
    assert (file.ra, file.dec) == (292.058716, 43.925304)
    found = {exposure.lmjm: tuple(arm.snr for arm in exposure.arms.values()) for exposure in file.exposures}
    assert found == {84420148: (12.88, 23.31), 84420171: (16.27, 28.45), 84420195: (3.52, 4.18)}
    for exposure in file.exposures:
        for name, arm in exposure.arms.items():
            rows = fitsio.read(str(path), ext=f"{name}-{exposure.lmjm}")
            assert np.array_equal(rows["FLUX"], arm.flux)
            assert np.array_equal(rows["IVAR"], arm.ivar)
            assert np.array_equal(rows["LOGLAM"], arm.loglam)
            assert np.array_equal(rows["PIXMASK"], arm.mask)
            assert arm.flux.dtype == arm.ivar.dtype == arm.loglam.dtype == np.float32
            steps = np.diff(arm.loglam)
            assert np.all(steps > 0) if name == "B" else np.all(steps < 0)
            assert arm.exptime == 1200.0


@needs_real
def test_ruined_night_stays() -> None:
    """All-negative spectra with S/N 0.00 are rows; the catalog flags them."""
    file = reader.read(next(path for path in REAL if "58269" in path.name))
    assert min(arm.snr for exposure in file.exposures for arm in exposure.arms.values()) == 0.0
    assert len(file.exposures) == 5


@needs_real
def test_bjd_of_a_real_exposure() -> None:
    """LAMOST.md 1.8: the first exposure of 58408 from its date, to 1e-5 d; the others from LMJM."""
    file = reader.read(next(path for path in REAL if "58408" in path.name))
    bjd = reader.mid_exposure_bjd(file)
    assert bjd[0] == pytest.approx(2458408.034170, abs=1e-5)
    without = reader.mid_exposure_bjd(replace(file, date_beg=None))
    assert without[0] == pytest.approx(bjd[0], abs=5e-4)
    assert without[0] != bjd[0]
    assert np.array_equal(without[1:], bjd[1:])


@needs_real
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_written_headers_equal_real_ones_byte_by_byte(path: Path) -> None:
    """Given a real file's values, the primary header is the real one, but for blanks that a reader drops."""
    content = raw(path)
    header = fitsio.read_header(str(path), 0)
    values = {card.key: header[card.key] for card in lamost_layout.PRIMARY if not isinstance(card, str)}
    written = lamost_layout.primary(values)
    cards = [(written[i : i + 80], content[i : i + 80]) for i in range(0, len(written), 80)]
    assert all(b"".join(mine.split()) == b"".join(real.split()) for mine, real in cards)
    assert sum(mine != real for mine, real in cards) <= 1


@needs_real
def test_layout_of_a_written_file_is_that_of_a_real_one(tmp_path: Path) -> None:
    path = next(path for path in REAL if "58408" in path.name)
    copy = tmp_path / path.name
    reader.write(copy, reader.read(path))
    with fitsio.FITS(str(path)) as real, fitsio.FITS(str(copy)) as mine:
        assert [hdu.get_extname() for hdu in mine] == [hdu.get_extname() for hdu in real]
        for ours, theirs in zip(mine, real, strict=True):
            names = [[record["name"] for record in hdu.read_header().records()] for hdu in (ours, theirs)]
            assert names[0] == names[1]
        for ours, theirs in zip(mine[1:], real[1:], strict=True):
            assert ours.read().dtype == theirs.read().dtype
            comments = [[record.get("comment") for record in hdu.read_header().records()] for hdu in (ours, theirs)]
            assert comments[0] == comments[1]
        for index in range(3, len(real)):
            assert np.array_equal(mine[index].read(), real[index].read())
    # The exposures stand at the end of both files, of equal length, and are the same bytes, headers included.
    exposures = 14 * (2880 + 60480)
    assert raw(copy)[-exposures:] == raw(path)[-exposures:]


# -- real files of the new layout --------------------------------------------------------------------------------------


def cards(header: bytes) -> list[bytes]:
    return [header[i : i + 80] for i in range(0, len(header), 80)]


@needs_new
def test_a_real_file_of_the_new_layout() -> None:
    file = reader.read(NEW / "med-58859-NT054013S012745S01_sp12-013.fits.gz")
    assert (file.obsid, file.lmjd, file.spid, file.fiberid) == (787612013, 58859, 12, 13)
    assert (file.ra, file.dec, file.problems) == (86.510250, 0.090685, ())
    found = {exposure.lmjm: tuple(arm.snr for arm in exposure.arms.values()) for exposure in file.exposures}
    assert found == {84756889: (1.15, 4.33), 84756912: (0.60, 2.93)}
    assert reader.mid_exposure_bjd(file)[0] == pytest.approx(2458859.13011844, abs=1e-7)
    for exposure in file.exposures:
        for name, arm in exposure.arms.items():
            (rows,) = fitsio.read(str(NEW / f"{reader.file_name(file)}.gz"), ext=f"{name}-{exposure.lmjm}")
            assert np.array_equal(rows["FLUX"], arm.flux)
            assert np.array_equal(rows["IVAR"], arm.ivar)
            assert np.allclose(rows["WAVELENGTH"], 10.0 ** arm.loglam.astype(float), rtol=6e-7, atol=0)
            assert np.all(np.diff(arm.loglam) >= 0)
            assert np.array_equal(rows["PIXMASK"], arm.mask)
            assert arm.exptime == 1200.0


@needs_new
def test_a_dead_fibre_stays_and_a_broken_file_does_not() -> None:
    dead = reader.read(NEW / "med-58859-NT054013S012745S01_sp15-092.fits.gz")
    assert [arm.snr for exposure in dead.exposures for arm in exposure.arms.values()] == [0.0] * 4
    error = refusal(NEW / "med-59151-TD054232S000057S01_sp09-008.fits.gz")
    assert error.reason is Reason.TRUNCATED
    assert "breaks off in extension 2" in str(error)


@needs_new
@pytest.mark.parametrize("name", ["sp12-013", "sp15-092"])
def test_what_is_written_in_the_new_layout_looks_like_it(tmp_path: Path, name: str) -> None:
    """Names, order, comments and types of everything; values where they are of the exposures."""
    path = NEW / f"med-58859-NT054013S012745S01_{name}.fits.gz"
    content, header = raw(path), fitsio.read_header(str(path), 0)
    values = {card.key: header[card.key] for card in lamost_layout.PRIMARY_DR9 if not isinstance(card, str)}
    written = lamost_layout.primary(values, lamost_layout.PRIMARY_DR9)
    assert len(written) == 2 * 2880 + 2880
    pairs = list(zip(cards(written), cards(content), strict=False))
    assert all(b"".join(mine.split()) == b"".join(real.split()) for mine, real in pairs)
    assert sum(mine != real for mine, real in pairs) <= 2  # blanks that a reader drops

    copy = tmp_path / path.name
    reader.write(copy, reader.read(path), "vectors")
    with fitsio.FITS(str(path)) as real, fitsio.FITS(str(copy)) as mine:
        assert [hdu.get_extname() for hdu in mine] == [hdu.get_extname() for hdu in real]
        for ours, theirs in zip(mine, real, strict=True):
            one, other = (list(hdu.read_header().records()) for hdu in (ours, theirs))
            for key in ("name", "comment"):
                assert [record.get(key) for record in one] == [record.get(key) for record in other]
            dates = ("DATE-OBS", "DATE-BEG", "DATE-END", "LMJM", "LMJMLIST", "EXPTIME", "NORM", "NEXP_B", "MJD")
            for record, wanted in zip(one, other, strict=True):
                if record["name"] in dates:
                    assert record["value"] == wanted["value"]
        for ours, theirs in zip(mine[3:], real[3:], strict=True):
            assert ours.read().dtype == theirs.read().dtype
            for column in ("FLUX", "IVAR", "PIXMASK", "NORMALIZATION"):
                assert np.array_equal(ours.read()[column], theirs.read()[column])


# -- writing and reading back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_round_trip_bit_for_bit(tmp_path: Path, layout: Literal["rows", "vectors"], suffix: str) -> None:
    file = with_arm(random_file(1, exposures=4), 2, "R", None)
    path = tmp_path / f"x{suffix}"
    reader.write(path, file, layout, header={"OBJNAME": "it's a star"})
    back = reader.read(path)
    assert back.problems == ()
    assert replace(back, exposures=(), date_beg=None) == replace(file, exposures=())
    assert [e.lmjm for e in back.exposures] == [e.lmjm for e in file.exposures]
    assert back.exposures[2].red is None
    for one, other in zip(back.exposures, file.exposures, strict=True):
        assert set(one.arms) == set(other.arms)
        turned = slice(None, None, -1) if layout == "vectors" else slice(None)
        for name, arm in other.arms.items():
            pixels = {key: getattr(arm, key) for key in ("flux", "ivar", "loglam", "mask")}
            if name == "R":  # by ascending wavelength from DR9 on
                pixels = {key: value[turned] for key, value in pixels.items()}
            assert same(one.arms[name], replace(arm, **pixels))
    assert fitsio.read_header(str(path), 0)["OBJNAME"] == "it's a star"
    again = tmp_path / "again" / path.name
    again.parent.mkdir()
    reader.write(again, file, layout, header={"OBJNAME": "it's a star"})
    assert again.read_bytes() == path.read_bytes()


def test_new_layout_has_vectors_and_dates(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(2), "vectors")
    rows = fitsio.read(str(path), ext="R-84107336")
    assert rows.shape == (1,)
    assert rows["WAVELENGTH"].shape == (1, NATIVE_PIXELS)
    assert rows["WAVELENGTH"][0, -1] > rows["WAVELENGTH"][0, 0] > 6000.0
    header = fitsio.read_header(str(path), "R-84107336")
    assert (header["DATE-BEG"], header["DATE-END"]) == ("2018-10-16T20:56:30.0", "2018-10-16T21:16:30.0")
    assert fitsio.read_header(str(path), 0)["DATE-END"] == "2018-10-16T21:41:30.0"


def test_refuses_to_write_nonsense(tmp_path: Path) -> None:
    file = random_file(0, 1)
    with pytest.raises(ValueError, match="no exposure"):
        reader.write(tmp_path / "x.fits", replace(file, exposures=()))
    with pytest.raises(ValueError, match="NOSUCH"):
        reader.write(tmp_path / "x.fits", file, header={"NOSUCH": 1})
    with pytest.raises(ValueError, match="too long"):
        reader.write(tmp_path / "x.fits", file, header={"OBJNAME": "x" * 90})
    assert list(tmp_path.iterdir()) == []


# -- times -----------------------------------------------------------------------------------------------------------


def worked_example() -> MrsFile:
    """LAMOST.md 1.8: file 58644, exposure 84447441."""
    file = replace(random_file(0, exposures=2, lmjm=84447441), ra=292.058716, dec=43.925304)
    return replace(file, date_beg="2019-06-10T01:21:18.0")


def test_bjd_worked_example() -> None:
    file = worked_example()
    assert reader.mid_exposure_bjd(file)[0] == pytest.approx(2458644.232464, abs=1e-5)
    from_minute = reader.mid_exposure_bjd(replace(file, date_beg=None))[0]
    assert from_minute == pytest.approx(2458644.23260, abs=1e-5)
    assert from_minute == pytest.approx(2458644.232464, abs=5e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_times_survive_writing(tmp_path: Path, layout: Literal["rows", "vectors"]) -> None:
    reader.write(tmp_path / "x.fits", worked_example(), layout)
    back = reader.mid_exposure_utc(reader.read(tmp_path / "x.fits"))
    assert back == pytest.approx(reader.mid_exposure_utc(worked_example()), abs=1e-7)


def test_primary_date_is_of_the_first_exposure_only() -> None:
    file = worked_example()
    assert reader.mid_exposure_utc(file)[1] == pytest.approx((84447441 + 25.5 + 10.0) / 1440 - 8 / 24, abs=1e-9)
    stray = replace(file, date_beg="2019-06-10T02:21:18.0")
    assert np.array_equal(reader.mid_exposure_utc(stray), reader.mid_exposure_utc(replace(file, date_beg=None)))
    assert np.isfinite(reader.mid_exposure_utc(replace(file, date_beg="not a date"))).all()


def test_dates_of_the_exposure_itself_come_first(tmp_path: Path) -> None:
    file = worked_example()
    arm = replace(random_arm(0), date_beg="2019-06-10T01:21:00", date_end="2019-06-10T01:41:40")
    file = with_arm(file, 0, "B", arm)
    expected = times.mjd_of_date("2019-06-10T01:31:20") - 8 / 24
    assert reader.mid_exposure_utc(file)[0] == pytest.approx(expected, abs=1e-9)
    path = tmp_path / "x.fits"
    reader.write(path, file, "vectors")
    assert reader.mid_exposure_utc(reader.read(path))[0] == pytest.approx(expected, abs=1e-9)
    astray = with_arm(file, 0, "B", replace(arm, date_beg="2019-06-09T17:21:00"))
    assert reader.mid_exposure_utc(astray)[0] == pytest.approx(reader.mid_exposure_utc(worked_example())[0], abs=1e-9)


def test_unknown_times_are_nan_and_odd_years_do_not_complain() -> None:
    bjd = times.bjd_tdb(np.array([np.nan, 10_000.0, 69_000.0]), 10.0, np.array([0.0, 10.0, 20.0]))
    assert np.isnan(bjd[0])
    assert bjd[1:] == pytest.approx([2410000.5, 2469000.5], abs=0.01)


@given(st.integers(0, 86_400_000 * 100_000))
def test_dates_and_days_invert_each_other(milliseconds: int) -> None:
    mjd = milliseconds / 86_400_000
    assert abs(times.mjd_of_date(times.date_of_mjd(mjd)) - mjd) < 1e-8


# -- traps and damage ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_no_bit_of_the_mask_is_lost(values: list[int]) -> None:
    mask = np.array(values, ">i2")
    folded = reader.fold_mask(mask)
    assert np.array_equal(folded > 0, mask != 0)
    assert np.array_equal(folded & 0x7F, mask & 0x7F)


@pytest.mark.parametrize("kind", ["?", "i1", "u1", ">i2", ">u2", "<i4", ">u4", ">i8", ">f4"])
def test_masks_of_any_width_fold_alike(kind: str) -> None:
    values = [0, 1, 5, 127, 128, 255, 256, 257, 32767, 2**31 - 1, -1, -128, -256, -32768]
    mask = np.array(values).astype(kind)
    if kind == ">f4":
        mask[9] = 2.0**30
    bits = mask.astype(np.int64)
    assert reader.fold_mask(mask).tolist() == [(b & 0xFF) | (0x80 if b & ~0xFF else 0) for b in bits.tolist()]


def test_mask_bits_above_255_survive(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 1))
    with fitsio.FITS(str(path), "rw") as hdus:
        rows = hdus["B-84107311"].read()
        rows["PIXMASK"][:4] = [0, 256, 257, -32768]
        hdus["B-84107311"].write(rows)
    blue = reader.read(path).exposures[0].blue
    assert blue is not None
    assert blue.mask[:4].tolist() == [0, 128, 129, 128]


def rename(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert len(old) == len(new)
    assert old in content
    return content.replace(old, new, count)


def test_other_names_and_text_keywords(tmp_path: Path) -> None:
    """Primary called PRIMARY, empty dates, blanks behind PLANID, unknown extensions, brackets in the path."""
    folder = tmp_path / "plate [1](2)"
    folder.mkdir()
    path = folder / "x.fits"
    file = random_file(0)
    reader.write(path, file)
    content = rename(raw(path), b"'Information'", b"'PRIMARY'    ")
    content = rename(content, b"'TD230151N343645T01'", b"'TD230151N343645   '")
    content = rename(content, b"EXTNAME = 'COADD_R '", b"EXTNAME = 'EXTRAS  '")
    date = content.index(b"DATE-BEG= '")
    content = content[: date + 11] + b"'".ljust(24) + content[date + 35 :]
    back = reader.read(write_bytes(path, content))
    assert back.planid == "TD230151N343645"
    assert back.date_beg is None
    assert len(back.exposures) == 3


def test_metadata_from_the_name_where_the_header_has_none(tmp_path: Path) -> None:
    file = random_file(3)
    path = tmp_path / reader.file_name(file)
    reader.write(path, file)
    content = raw(path)
    for key in (b"LMJD    ", b"PLANID  ", b"SPID    ", b"FIBERID "):
        content = rename(content, key + b"=", b"XX" + key[:4] + b"  =")
    back = reader.read(write_bytes(path, content))
    assert (back.lmjd, back.planid, back.spid, back.fiberid) == (file.lmjd, file.planid, file.spid, file.fiberid)
    error = refusal(write_bytes(tmp_path / "nameless.fits", content))
    assert error.reason is Reason.NO_METADATA
    assert "LMJD" in str(error)


@pytest.mark.parametrize("value", ["'none'", "400.0", "T"])
def test_position_must_be_one(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 1))
    content = raw(path)
    at = content.index(b"RA      = ") + 10
    error = refusal(write_bytes(path, content[:at] + value.rjust(20).encode() + content[at + 20 :]))
    assert error.reason is Reason.NO_METADATA


def test_header_without_snr_or_length(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 1))
    content = rename(raw(path), b"SNR     =", b"XSNR    =")
    content = rename(content, b"EXPTIME =", b"XXPTIME =")
    file = reader.read(write_bytes(path, content))
    blue = file.exposures[0].blue
    assert blue is not None
    assert blue.snr == pytest.approx(10.0, rel=0.1)
    assert np.isnan(blue.exptime)
    assert np.isnan(reader.mid_exposure_bjd(file)).all()
    assert len(file.problems) == 4


@pytest.mark.parametrize(
    ("key", "value"), [("SNR", "1E40"), ("SNR", "-5E38"), ("EXPTIME", "1E60"), ("EXPTIME", "1E15")]
)
def test_absurd_numbers_count_as_none(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 1))
    content = raw(path)
    card = f"{key:8}= ".encode()
    at = content.index(card, content.index(b"B-84107311")) + 10
    file = reader.read(write_bytes(path, content[:at] + value.rjust(20).encode() + content[at + 20 :]))
    (problem,) = file.problems
    assert problem.startswith("B-84107311: ")
    assert f"{float(value)!r}" in problem
    (when,) = reader.mid_exposure_utc(file)
    assert isinstance(content_hash(file, file.exposures[0], when), int)
    assert np.isfinite(reader.mid_exposure_bjd(file)).all()


def test_plan_of_a_name_that_is_no_utf8_can_be_stored(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"med-58408-T\xff_sp01-015.fits")
    reader.write(path, replace(random_file(0, 1), planid=""))
    assert reader.read(path).planid == r"T\udcff"


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.fits")
    error = refusal(tmp_path / "x.fits")
    assert error.reason is Reason.UNREADABLE
    assert "not an ordinary file" in str(error)


def test_not_fits_at_all(tmp_path: Path) -> None:
    assert refusal(write_bytes(tmp_path / "a.fits", b"just a text\n")).reason is Reason.WRONG_FORMAT
    assert refusal(write_bytes(tmp_path / "b.fits", b"")).reason is Reason.EMPTY
    assert refusal(write_bytes(tmp_path / "c.fits.gz", gzip.compress(b""))).reason is Reason.EMPTY
    assert refusal(write_bytes(tmp_path / "d.fits", b"SIMPLE  = but then no more")).reason in (
        Reason.UNREADABLE,
        Reason.TRUNCATED,
    )
    assert refusal(tmp_path / "missing.fits").reason is Reason.UNREADABLE
    assert refusal(tmp_path).reason is Reason.UNREADABLE
    fitsio.write(str(tmp_path / "e.fits"), np.zeros((3, 4)))
    assert refusal(tmp_path / "e.fits").reason is Reason.WRONG_FORMAT


def test_truncated_gzip(tmp_path: Path) -> None:
    path = tmp_path / "x.fits.gz"
    reader.write(path, random_file(0))
    content = path.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.99999):
        path.write_bytes(content[: int(part * len(content))])
        assert refusal(path).reason is Reason.TRUNCATED
    path.write_bytes(content[:5000] + bytes(100) + content[5100:])
    assert refusal(path).reason is Reason.UNREADABLE


def test_gzip_members_follow_each_other_and_end_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.fits.gz"
    reader.write(path, random_file(0))
    whole = reader.read(path)
    content = gzip.decompress(path.read_bytes())
    members = [gzip.compress(part, mtime=0) for part in (content[:70_000], content[70_000:], b"")]
    path.write_bytes(b"".join(members) + bytes(700))
    assert content_hash(reader.read(path), reader.read(path).exposures[0], 0.0) == content_hash(
        whole, whole.exposures[0], 0.0
    )
    path.write_bytes(b"".join(members) + b"more")
    assert refusal(path).reason is Reason.UNREADABLE
    monkeypatch.setattr(unpacking, "MAXIMUM_BYTES", len(content))
    path.write_bytes(b"".join(members))
    assert reader.read(path).obsid == whole.obsid
    for some in (members, [gzip.compress(content)]):
        monkeypatch.setattr(unpacking, "MAXIMUM_BYTES", len(content) - 1)
        path.write_bytes(b"".join(some))
        assert "an MRS file has about a million" in str(refusal(path))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_a_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever is cut off or overwritten, what comes out is a LamostError or exposures of the right shape."""
    path = tmp_path_factory.mktemp("damage") / "x.fits"
    reader.write(path, random_file(0, 1))
    content = bytearray(raw(path))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        file = reader.read(path)
    except LamostError:
        return
    assert all(arm.flux.shape == (NATIVE_PIXELS,) for e in file.exposures for arm in e.arms.values())


def test_damage_does_not_spread_to_the_next_file(tmp_path: Path) -> None:
    """Messages of cfitsio outlive their file, and fitsio chokes on those that quote damaged bytes."""
    good, bad = tmp_path / "good.fits", tmp_path / "bad.fits"
    reader.write(good, random_file(0, 1))
    bad.write_bytes(rename(raw(good), b"OBJTYPE = 'Star    '", b"OBJTYPE = 'Star   \xf2;"))
    expected = reader.read(bad).obsid
    assert reader.read(good).obsid == expected


BROKEN = {
    Reason.NO_FLUX: {"flux": np.full(NATIVE_PIXELS, np.nan, np.float32)},
    Reason.NO_IVAR: {"ivar": np.zeros(NATIVE_PIXELS, np.float32)},
    Reason.OFF_GRID: {"loglam": np.linspace(3.75, 3.77, NATIVE_PIXELS, dtype=np.float32)},
    Reason.WRONG_SIZE: {
        key: np.ones(4000, np.uint8 if key == "mask" else np.float32) for key in ("flux", "ivar", "loglam", "mask")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reason", BROKEN)
def test_unusable_arm_counts_as_absent(tmp_path: Path, reason: Reason, layout: Literal["rows", "vectors"]) -> None:
    assert not BLUE.loglam[0] < 3.75 < BLUE.loglam[-1]
    assert not RED.loglam[0] < 3.77 < RED.loglam[-1]
    file = random_file(0, exposures=2)
    broken = with_arm(file, 1, "B", replace(random_arm(7), **BROKEN[reason]))  # type: ignore[arg-type]
    path = tmp_path / "x.fits"
    reader.write(path, broken, layout)
    back = reader.read(path)
    assert [sorted(exposure.arms) for exposure in back.exposures] == [["B", "R"], ["R"]]
    assert len(back.problems) == 1
    assert back.problems[0].startswith("B-84107336: ")

    alone = with_arm(with_arm(broken, 1, "R", None), 0, "R", None)
    alone = replace(alone, exposures=alone.exposures[1:])
    reader.write(path, alone, layout)
    assert refusal(path).reason is reason


def test_only_coadds(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 1))
    content = raw(path)
    assert refusal(write_bytes(path, content[: content.index(b"EXTNAME = 'B-") // 2880 * 2880])).reason is (
        Reason.NO_EXPOSURE
    )


def test_missing_extensions_are_noticed(tmp_path: Path) -> None:
    """A plain file cut at an extension's end looks whole; the header's counts tell."""
    path = tmp_path / "x.fits"
    reader.write(path, random_file(0, 2))
    content = raw(path)
    file = reader.read(write_bytes(path, content[: content.index(b"EXTNAME = 'R-") // 2880 * 2880]))
    assert [sorted(exposure.arms) for exposure in file.exposures] == [["B"], ["B"]]
    assert file.problems == ("the header says NEXP_R = 2, the file has 0",)


def test_error_travels_between_processes() -> None:
    error = LamostError(Reason.EMPTY, "x.fits: nothing")
    back = pickle.loads(pickle.dumps(error))
    assert (back.reason, str(back)) == (error.reason, str(error))
