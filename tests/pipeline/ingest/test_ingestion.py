from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pytest
import xarray as xr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.places import SHARED
from twinlines.pipeline.arms import NATIVE_PIXELS
from twinlines.pipeline.cli.survey import show_ingestion
from twinlines.pipeline.ingest import ingestion as ingesting
from twinlines.pipeline.ingest import rows as ingest_rows
from twinlines.pipeline.ingest.index import Index
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.ingest.reader import ReaderError, Reading, close_idle, read_all
from twinlines.pipeline.ingest.report import Conflict, IngestReport, Quarantined
from twinlines.pipeline.ingest.rows import ROW
from twinlines.pipeline.ingest.tasks import IngestError
from twinlines.pipeline.jobs import sizing
from twinlines.pipeline.jobs.locks import LockedError
from twinlines.pipeline.lamost import reader
from twinlines.pipeline.lamost.content_hash import content_hash
from twinlines.pipeline.lamost.exposures import MrsFile
from twinlines.pipeline.schema import EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.releases import SurveyError
from twinlines.pipeline.testing.exposures import random_arm, random_file, with_arm

needs_real = pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="the real LAMOST files are not here")

SMALL = replace(EXPOSURES, chunk_rows=2, shard_rows=4)
"""The exposures store with shards so small that a few files fill several."""


class StoppedError(Exception):
    """Raised by a test to break an ingestion off."""


def release_of(survey: Path, name: str = "r") -> xr.Dataset:
    return stores.open_store(survey / "releases" / name / "exposures.zarr", EXPOSURES).load()


def write_files(folder: Path, count: int = 5) -> list[MrsFile]:
    files = [random_file(seed, exposures=1 + seed % 3) for seed in range(count)]
    for file in files:
        (folder / file.planid).mkdir(parents=True, exist_ok=True)
        reader.write(folder / file.planid / (reader.file_name(file) + ".gz"), file)
    return files


def write(path: Path, file: MrsFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    reader.write(path, file)


# -- the store -------------------------------------------------------------------------------------------------------


@needs_real
def test_real_files(client: Client, tmp_path: Path) -> None:
    report = ingest(client, SHARED / "lamost", tmp_path, "dr7")
    assert (report.files_seen, report.rows, report.duplicates) == (5, 22, 0)
    assert report.quarantined == report.conflicts == report.warnings == ()
    stored = release_of(tmp_path, "dr7")
    assert stored.sizes["exposure"] == 22
    places = list(zip(stored["source_file"].values.tolist(), stored["lmjm"].values.tolist(), strict=True))
    assert places == sorted(places)
    row = places.index(("med-58625-TD192102N424113K01_sp12-076.fits.gz", 84420195))
    assert stored["snr"].values[row].tolist() == pytest.approx([3.52, 4.18], abs=1e-6)
    first = places.index(("med-58408-TD230151N343645T01_sp01-015.fits", 84107311))
    assert stored["bjdmid"].values[first] == pytest.approx(2458408.034170, abs=1e-5)
    assert len(set(stored["content_hash"].values.tolist())) == 22
    about = json.loads((tmp_path / "releases" / "dr7" / "release.json").read_text())
    assert (about["name"], about["rows"], about["quarantined"]) == ("dr7", 22, 0)
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["dr7"]


@pytest.mark.skipif(not (SHARED / "lamost-new").is_dir(), reason="the real files of the new layout are not here")
def test_real_files_of_the_new_layout(client: Client, tmp_path: Path) -> None:
    report = ingest(client, SHARED / "lamost-new", tmp_path, "dr9")
    assert (report.files_seen, report.files_used, report.rows) == (3, 2, 4)
    assert [(file.path, file.reason) for file in report.quarantined] == [
        ("med-59151-TD054232S000057S01_sp09-008.fits.gz", "truncated")
    ]
    assert report.conflicts == report.warnings == ()
    assert release_of(tmp_path, "dr9")["bjdmid"].values[0] == pytest.approx(2458859.13011844, abs=1e-7)


def test_rows_are_the_files_content(client: Client, tmp_path: Path) -> None:
    folder, survey = tmp_path / "in", tmp_path / "survey"
    files = write_files(folder)
    files[1] = with_arm(files[1], 1, "B", None)
    write(folder / files[1].planid / (reader.file_name(files[1]) + ".gz"), files[1])
    seen: list[tuple[str, int, int]] = []
    report = ingest(client, folder, survey, "r", schema=SMALL, files_per_task=2, progress=lambda *a: seen.append(a))
    stored = release_of(survey)
    expected = {(file.obsid, exposure.lmjm): (file, n) for file in files for n, exposure in enumerate(file.exposures)}
    assert report.rows == stored.sizes["exposure"] == len(expected) == 9
    for row in range(9):
        one = stored.isel(exposure=row)
        file, n = expected.pop((int(one["obsid"]), int(one["lmjm"])))
        exposure = file.exposures[n]
        assert str(one["source_file"].values) == f"{file.planid}/{reader.file_name(file)}.gz"
        for name in ("lmjd", "planid", "spid", "fiberid", "ra", "dec"):
            assert one[name].item() == getattr(file, name)
        assert float(one["bjdmid"]) == pytest.approx(reader.mid_exposure_bjd(file)[n], abs=1e-9)
        for place, arm in enumerate((exposure.blue, exposure.red)):
            if arm is None:
                assert np.isnan(one["snr"].values[place])
                assert np.isnan(one["flux"].values[place]).all()
                assert not one["mask"].values[place].any()
                continue
            for name in ("flux", "ivar", "loglam", "mask"):
                assert one[name].values[place].tobytes() == getattr(arm, name).tobytes()
            assert one["snr"].values[place] == np.float32(arm.snr)
            assert one["exptime"].values[place] == 1200.0
    assert seen[0] == ("scan", 0, 5)
    assert ("scan", 5, 5) in seen
    assert seen[-1] == ("write", 9, 9)


def test_same_store_whatever_the_batches(client: Client, tmp_path: Path) -> None:
    write_files(tmp_path / "in")
    ingest(client, tmp_path / "in", tmp_path / "one", "r", schema=SMALL, files_per_task=1)
    ingest(client, tmp_path / "in", tmp_path / "two", "r")
    one, two = release_of(tmp_path / "one"), release_of(tmp_path / "two")
    for name in EXPOSURES.variables:
        if name != "bjdmid":
            assert np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f")
    assert one["bjdmid"].values == pytest.approx(two["bjdmid"].values, abs=1e-9)
    digests = {json.loads((tmp_path / s / "releases/r/release.json").read_text())["digest"] for s in ("one", "two")}
    assert len(digests) == 1


def damage(path: Path) -> None:
    """Spoil one byte in the middle of a file of kept rows: in the pixels of a row, which its index cannot tell."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


@pytest.mark.parametrize("what", ["whole", "damaged", "cut", "lost", "no room"])
def test_rows_that_a_scan_has_kept_are_the_files(
    client: Client, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_files(tmp_path / "in")
    write(tmp_path / "in" / "long.fits", replace(random_file(20, 2), planid="P" * 68))
    ingest(client, tmp_path / "in", tmp_path / "again", "r", schema=SMALL)
    work = tmp_path / "s" / "releases" / ".r.work"
    spoil = {"damaged": damage, "cut": cut, "lost": Path.unlink}.get(what)
    found = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == 0:
            found.extend(work.glob("scan/rows/*.rows"))
            for path in found if spoil else ():
                spoil(path)
            if what == "whole":  # nothing is read twice
                shutil.rmtree(tmp_path / "in")

    monkeypatch.setattr(ingesting, "KEPT_SHARE", 0.0 if what == "no room" else 0.25)
    ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL, files_per_task=2, progress=meanwhile)
    assert len(found) == (0 if what == "no room" else 3)
    assert release_of(tmp_path / "s").identical(release_of(tmp_path / "again"))
    assert {file.planid for file in files} | {"P" * 68} == set(release_of(tmp_path / "s")["planid"].values.tolist())


def test_kept_rows_give_way_to_the_release(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "in")
    work = tmp_path / "s" / "releases" / ".r.work"
    need = sizing.Need("writing", 1, 2 * shutil.disk_usage(tmp_path).free)
    monkeypatch.setattr(sizing, "of_ingest", lambda rows, schema: need)
    with pytest.raises(sizing.SizingError):
        ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL)
    assert list(work.glob("scan/index/*.npz"))
    assert not list(work.glob("scan/rows/*.rows"))
    monkeypatch.undo()
    assert ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL).rows == 9


def test_what_cannot_be_kept_is_read_again(tmp_path: Path) -> None:
    rows = ingest_rows.records(random_file(0, 2))
    assert ingest_rows.append(str(tmp_path / "none" / "x"), rows) == [-1, -1]
    assert ingest_rows.append("/dev/full", rows) == [-1, -1]
    path = tmp_path / "x"
    assert ingest_rows.append(str(path), rows[:1]) == [0]
    first = path.stat().st_size
    places = tuple(ingest_rows.append(str(path), rows))
    assert places[0] == first
    assert path.stat().st_size < 3 * ROW.itemsize
    expected = tuple(zip(rows["lmjm"].tolist(), rows["content_hash"].tolist(), strict=True))
    back = ingest_rows.read_back(path, places, expected)
    assert back is not None
    assert back.tobytes() == rows.tobytes()
    assert ingest_rows.read_back(path, (0, -1), expected) is None
    assert ingest_rows.read_back(path, places[::-1], expected) is None  # whole, and others
    longer = ingest_rows.records(replace(random_file(0, 1), planid="P" * 100))
    assert ingest_rows.append(str(path), longer) == [-1]
    whole = path.read_bytes()
    for place in (first, first + 3, first + 5, first + 8, first + 30, places[1] - 1, -1):
        content = bytearray(whole)
        content[place] ^= 0x40
        path.write_bytes(content)
        assert ingest_rows.read_back(path, places, expected) is None
    path.write_bytes(whole[: places[1] + 4])
    assert ingest_rows.read_back(path, places, expected) is None


# -- bad input -------------------------------------------------------------------------------------------------------


def bad_folder(folder: Path) -> None:
    """One good file, and one of each kind of bad ones."""
    nan, zero = np.full(NATIVE_PIXELS, np.nan, np.float32), np.zeros(NATIVE_PIXELS, np.float32)
    away = np.linspace(3.75, 3.77, NATIVE_PIXELS, dtype=np.float32)
    folder.mkdir()
    write(folder / "good.fits", random_file(0, 2))
    (folder / "text.fits").write_text("no FITS file\n")
    (folder / "empty.fits").write_bytes(b"")
    content = io.BytesIO()
    write(folder / "whole.fits.gz", random_file(1, 2))
    content.write((folder / "whole.fits.gz").read_bytes())
    (folder / "truncated.fits.gz").write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    (folder / "whole.fits.gz").unlink()
    for seed, name, broken in (
        (2, "nan", {"flux": nan}),
        (3, "noivar", {"ivar": zero}),
        (4, "offgrid", {"loglam": away}),
    ):
        file = random_file(seed, 1)
        for letter in ("B", "R"):
            file = with_arm(file, 0, letter, replace(random_arm(seed, letter), **broken))  # type: ignore[arg-type]
        write(folder / f"{name}.fits", file)
    write(folder / "onearm.fits", with_arm(random_file(5, 1), 0, "B", None))
    write(folder / "nanarm.fits", with_arm(random_file(6, 1), 0, "R", replace(random_arm(6, "R"), flux=nan)))
    write(folder / "unknown.fits", random_file(7, 1))
    with fitsio.FITS(str(folder / "unknown.fits"), "rw") as hdus:
        hdus.write({"EXTRA": np.arange(3)}, extname="UNHEARD-OF")
    (folder / "other.fits").write_bytes((folder / "good.fits").read_bytes())
    (folder / os.fsdecode(b"not-\xff-utf8.fits")).write_text("nothing")
    (folder / "notes.txt").write_text("not looked at")
    (folder / "dangling.fits").symlink_to(folder / "nowhere")


def test_bad_files_are_rows_of_the_report(client: Client, tmp_path: Path) -> None:
    bad_folder(tmp_path / "in")
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r", files_per_task=3)
    assert {one.path: one.reason for one in report.quarantined} == {
        "text.fits": "wrong format",
        "empty.fits": "empty",
        "truncated.fits.gz": "truncated",
        "nan.fits": "no flux",
        "noivar.fits": "no ivar",
        "offgrid.fits": "off grid",
        os.fsdecode(b"not-\xff-utf8.fits"): "wrong format",
        "dangling.fits": "unreadable",
    }
    assert all(one.path in one.message for one in report.quarantined)
    assert [one.path for one in report.warnings] == ["nanarm.fits"]
    assert report.warnings[0].message.startswith("R-84107311: flux is NaN")
    assert (report.rows, report.duplicates, report.conflicts) == (5, 2, ())
    stored = release_of(tmp_path / "s")
    assert sorted(stored["source_file"].values.tolist()) == [
        "good.fits",
        "good.fits",
        "nanarm.fits",
        "onearm.fits",
        "unknown.fits",
    ]
    with_red = {name: np.isfinite(snr) for name, snr in zip(stored["source_file"].values, stored["snr"], strict=True)}
    assert with_red["nanarm.fits"].values.tolist() == [True, False]
    assert with_red["onearm.fits"].values.tolist() == [False, True]
    kept = json.loads((tmp_path / "s" / "releases" / "r" / "report.json").read_text())
    assert kept == json.loads(json.dumps(report.to_json()))
    shown = io.StringIO()
    show_ingestion(report, Console(file=shown, width=300))
    assert "5 exposures, 4 of 13 files" in shown.getvalue()
    assert "truncated.fits.gz (truncated)" in shown.getvalue()


def test_one_exposure_in_two_files_with_other_content(client: Client, tmp_path: Path) -> None:
    """The first path wins, whatever order files are read in; the loser is in the report."""
    file = random_file(0, 2)
    other = with_arm(file, 1, "B", random_arm(99))
    write(tmp_path / "in" / "b.fits", file)
    write(tmp_path / "in" / "a" / "z.fits", other)
    write(tmp_path / "in" / "c.fits", other)
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r", files_per_task=1)
    minute = file.exposures[1].lmjm
    assert report.conflicts == (Conflict(file.obsid, minute, kept="a/z.fits", dropped="b.fits"),)
    assert (report.rows, report.duplicates) == (2, 3)
    stored = release_of(tmp_path / "s")
    assert set(stored["source_file"].values) == {"a/z.fits"}
    assert np.array_equal(stored["flux"].values[1, 0], random_arm(99).flux)


def test_another_star_under_a_star_s_identifier_is_quarantined(client: Client, tmp_path: Path) -> None:
    """From DR11 on, one obsid may have several stars: the first path has it, and the others are said."""
    file = random_file(0, 2)
    others = {
        "b.fits": replace(file, spid=file.spid % 16 + 1),
        "c.fits": replace(file, fiberid=file.fiberid + 1),
        "d.fits": replace(file, dec=file.dec + 12 / 3600),
        "e.fits": replace(file, dec=file.dec + 8 / 3600),
    }
    for name, each in {"a.fits": file, **others}.items():
        write(tmp_path / "in" / name, each)
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r", files_per_task=1)
    assert {one.path: one.reason for one in report.quarantined} == dict.fromkeys(
        ("b.fits", "c.fits", "d.fits"), "another star's identifier"
    )
    assert f"in a.fits, it is of spectrograph {file.spid}, fibre {file.fiberid}" in report.quarantined[0].message
    assert [(one.kept, one.dropped) for one in report.conflicts] == [("a.fits", "e.fits")] * 2
    assert (report.rows, report.duplicates, report.files_used, report.unused) == (2, 0, 1, ("e.fits",))
    # Nor does it take the place of the star that an earlier release has.
    write(tmp_path / "next" / "b.fits", others["b.fits"])
    write(tmp_path / "next" / "new.fits", random_file(1, 1))
    second = ingest(client, tmp_path / "next", tmp_path / "s", "r2")
    assert (second.new, second.changed, second.reasons) == (1, 0, {"another star's identifier": 1})
    assert "in an earlier release, it is of" in second.quarantined[0].message


@pytest.mark.parametrize("name", ["x.fit", "x.fts", "X.FITS", "x.fits.bz2", "x.fits.xz", "x.fits.fz", "x.FIT.GZ"])
def test_spectra_have_many_suffixes(client: Client, tmp_path: Path, name: str) -> None:
    write(tmp_path / "plain.fits", random_file(0, 1))
    content = (tmp_path / "plain.fits").read_bytes()
    packed = {"bz2": bz2.compress, "xz": lzma.compress, "GZ": gzip.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(packed(content))
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r")
    assert (report.rows, report.files_used, report.named_otherwise) == (1, 1, 0)


def test_what_is_hidden_or_named_otherwise_is_passed_over_and_said(client: Client, tmp_path: Path) -> None:
    file = random_file(0, 1)
    write(tmp_path / "in" / "night" / "x.fits", file)
    for name in (".Trash-1000/files/x.fits", "._x.fits", "night/x.fits.gz.1", "night/x.fits~"):
        write(tmp_path / "in" / name, with_arm(file, 0, "B", random_arm(99)))
    (tmp_path / "in" / "fitness.txt").touch()
    (tmp_path / "in" / ".notes").touch()
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r")
    assert release_of(tmp_path / "s")["source_file"].values.tolist() == ["night/x.fits"]
    assert (report.hidden, report.named_otherwise, report.conflicts) == (2, 2, ())
    assert report.passed_over == (".Trash-1000/", "._x.fits", "night/x.fits.gz.1", "night/x.fits~")
    shown = io.StringIO()
    show_ingestion(report, Console(file=shown, width=300))
    assert "2 hidden folders or files were passed over" in shown.getvalue()
    assert "passed over: night/x.fits.gz.1" in shown.getvalue()
    (tmp_path / "in" / "night" / "x.fits").unlink()
    with pytest.raises(IngestError, match=r"2 hidden, 2 not named like spectra .*; the first is \.Trash-1000/"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r3")


def test_no_usable_row_leaves_a_report(client: Client, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.fits").write_text("text")
    with pytest.raises(IngestError, match="usable exposure") as caught:
        ingest(client, tmp_path / "in", tmp_path / "s", "r")
    path = tmp_path / "s" / "releases" / ".r.work" / "report.json"
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text())["quarantined"][0]["reason"] == "wrong format"
    assert not (tmp_path / "s" / "releases" / "r").exists()
    write(tmp_path / "in" / "y.fits", random_file(0))
    assert ingest(client, tmp_path / "in", tmp_path / "s", "r").rows == 3


def test_refusals_before_any_work(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "in" / "x.fits", random_file(0, 1))
    (tmp_path / "bare").mkdir()
    with pytest.raises(SurveyError, match="'a/b' cannot name"):
        ingest(client, tmp_path / "in", tmp_path / "s", "a/b")
    with pytest.raises(IngestError, match="files_per_task is 0"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r", files_per_task=0)
    with pytest.raises(IngestError, match="not a folder"):
        ingest(client, tmp_path / "nowhere", tmp_path / "s", "r")
    with pytest.raises(IngestError, match="named like a spectrum"):
        ingest(client, tmp_path / "bare", tmp_path / "s", "r")
    assert not (tmp_path / "s").exists()


def test_a_release_never_changes(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "in" / "x.fits", random_file(0, 1))
    ingest(client, tmp_path / "in", tmp_path / "s", "r")
    before = (tmp_path / "s" / "releases" / "r" / "release.json").read_bytes()
    with pytest.raises(IngestError, match="never changes"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r")
    assert (tmp_path / "s" / "releases" / "r" / "release.json").read_bytes() == before


# -- files that bring the reader down ----------------------------------------------------------------------------------

TRAPS = Reading(patience=2, module="twinlines.pipeline.testing.reader")
WAITS = Reading(waiting=3, module="twinlines.pipeline.testing.reader")


def test_files_on_which_the_reader_crashes_or_stalls_cost_themselves_alone(client: Client, tmp_path: Path) -> None:
    names = ["a.fits", "once.fits", "segfault.fits", "stall.fits", "stumble.fits", "z.fits"]
    for seed, name in enumerate(names):
        write(tmp_path / "in" / name, random_file(seed, 1))
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r", reading=TRAPS)
    assert report.reasons == {"crashes the reader": 2, "stalls the reader": 1}
    said = {one.path: one.message for one in report.quarantined}
    assert "2 times (SIGSEGV" in said["segfault.fits"]
    assert "not read after 2 s, 2 times" in said["stall.fits"]
    assert "ZeroDivisionError: nobody thought of this (reader.py" in said["stumble.fits"]
    # What dies once only, by the hand of an operator perhaps, is not to blame.
    assert release_of(tmp_path / "s")["source_file"].values.tolist() == ["a.fits", "once.fits", "z.fits"]
    shown = io.StringIO()
    show_ingestion(report, Console(file=shown, width=300))
    assert "quarantined: 2 crashes the reader, 1 stalls the reader" in shown.getvalue()


@pytest.mark.parametrize("trouble", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_what_the_system_does_not_let_us_read_is_tried_again(client: Client, tmp_path: Path, trouble: int) -> None:
    write(tmp_path / "in" / f"errno{trouble}-x.fits", random_file(0, 1))
    report = ingest(client, tmp_path / "in", tmp_path / "s", "r", reading=TRAPS)
    assert (report.rows, report.quarantined) == (1, ())


@pytest.mark.parametrize(
    ("name", "said"),
    [("errno13always.fits", "Permission denied"), ("killed.fits", "SIGKILL"), ("hang.fits", "nothing came for 3 s")],
)
def test_the_system_s_troubles_are_never_stored(client: Client, tmp_path: Path, name: str, said: str) -> None:
    """The same command finds the file when the cause is mended; without it, the next release does."""
    write(tmp_path / "in" / name, random_file(0, 1))
    write(tmp_path / "in" / "y.fits", random_file(1, 1))
    with pytest.raises(IngestError, match=f"1 of the 2 files .* out of reach.*{name}.*{said}"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r", reading=WAITS)
    assert not (tmp_path / "s" / "releases" / "r").exists()
    kept = json.loads((tmp_path / "s" / "releases" / ".r.work" / "report.json").read_text())
    assert [(one["path"], one["reason"]) for one in kept["quarantined"]] == [(name, "out of reach")]
    less = ingest(client, tmp_path / "in", tmp_path / "less", "r", reading=WAITS, without_unreadable=True)
    assert (less.rows, less.reasons) == (1, {"out of reach": 1})
    assert ingest(client, tmp_path / "in", tmp_path / "s", "r").rows == 2
    assert ingest(client, tmp_path / "in", tmp_path / "less", "r2").new == 1


def test_a_disk_that_hangs_ends_the_ingestion(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"hang{n}.fits") for n in range(5)]
    with pytest.raises(ReaderError, match=r"hang2\.fits: nothing came for 1 s; .* as for 2 files before it"):
        list(read_all(iter(paths), Reading(waiting=1, module="twinlines.pipeline.testing.reader")))


def test_the_working_folder_holds_no_module_of_a_child_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python puts the working folder first on the path of what it is told to run by -m."""
    close_idle()
    write(tmp_path / "x.fits", random_file(0, 1))
    for name in ("random.py", "signal.py", "fitsio/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('run, and ought not to be')")
    monkeypatch.chdir(tmp_path)
    (answer,) = read_all(iter([str(tmp_path / "x.fits")]), Reading())
    close_idle()
    assert len(answer.rows) == 1


def test_a_full_disk_is_not_the_file_s_fault(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "in" / "full.fits", random_file(0, 1))
    with pytest.raises(IngestError, match=r"full\.fits.*No space left"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r", reading=TRAPS)


# -- what earlier releases have --------------------------------------------------------------------------------------


def test_a_release_holds_what_is_new_or_changed(client: Client, tmp_path: Path) -> None:
    files = [random_file(seed, 2) for seed in range(4)]
    for file in files[:3]:
        write(tmp_path / "one" / reader.file_name(file), file)
    first = ingest(client, tmp_path / "one", tmp_path / "s", "zeta", schema=SMALL)
    assert (first.follows, first.new, first.changed, first.unchanged) == (None, 6, 0, 0)
    changed = with_arm(files[1], 0, "B", random_arm(77))
    for file in (files[0], changed, files[3]):
        write(tmp_path / "two" / "elsewhere" / reader.file_name(file), file)
    second = ingest(client, tmp_path / "two", tmp_path / "s", "alpha", schema=SMALL)
    assert (second.follows, second.rows, second.new, second.changed, second.unchanged) == ("zeta", 3, 2, 1, 3)
    stored = release_of(tmp_path / "s", "alpha")
    assert stored["obsid"].values.tolist() == [changed.obsid, files[3].obsid, files[3].obsid]
    assert np.array_equal(stored["flux"].values[0, 0], random_arm(77).flux)
    # The older content again: it differs from the newest row, so it is a change, too; and nothing new is no error.
    for name, folder, expected in (("back", "one", (0, 1, 5)), ("again", "one", (0, 0, 6))):
        third = ingest(client, tmp_path / folder, tmp_path / "s", name, schema=SMALL)
        assert (third.new, third.changed, third.unchanged) == expected
    assert release_of(tmp_path / "s", "again").sizes["exposure"] == 0
    assert [(one.name, one.number, one.rows) for one in Survey(tmp_path / "s").releases] == [
        ("zeta", 1, 6),
        ("alpha", 2, 3),
        ("back", 3, 1),
        ("again", 4, 0),
    ]


def test_two_ingestions_of_one_survey_at_once_are_refused(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "in" / "x.fits", random_file(0, 1))
    (tmp_path / "s").mkdir()
    with (
        Survey(tmp_path / "s").ingest_lock("ingest dr8"),
        pytest.raises(LockedError, match=f"in use by 'ingest dr8', process {os.getpid()}"),
    ):
        ingest(client, tmp_path / "in", tmp_path / "s", "r")


# -- broken off, and taken up again ------------------------------------------------------------------------------------


def stop_at(stage: str, least: int):  # type: ignore[no-untyped-def]
    def progress(now: str, done: int, total: int) -> None:
        if now == stage and done >= least:
            raise StoppedError

    return progress


@pytest.mark.parametrize(("stage", "least"), [("scan", 2), ("write", 0), ("write", 4)])
def test_goes_on_where_it_was(client: Client, tmp_path: Path, stage: str, least: int) -> None:
    folder, survey = tmp_path / "in", tmp_path / "s"
    write_files(folder)
    ingest(client, folder, tmp_path / "whole", "r", schema=SMALL)
    with pytest.raises(StoppedError):
        ingest(client, folder, survey, "r", schema=SMALL, files_per_task=1, progress=stop_at(stage, least))
    assert not (survey / "releases" / "r").exists()
    work = survey / "releases" / ".r.work"
    done = list(work.glob("*/done/*.json"))
    assert done
    seen: list[tuple[str, int, int]] = []
    ingest(client, folder, survey, "r", schema=SMALL, files_per_task=1, progress=lambda *a: seen.append(a))
    assert next(one for one in seen if one[0] == "scan")[1] >= (least if stage == "scan" else 5)
    assert next(one for one in seen if one[0] == "write")[1] >= (least if stage == "write" else 0)
    assert release_of(survey).identical(release_of(tmp_path / "whole"))
    assert [path.name for path in (survey / "releases").iterdir()] == ["r"]


def test_other_files_meanwhile_are_scanned_again(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    files = write_files(folder, 3)
    with pytest.raises(StoppedError):
        ingest(client, folder, tmp_path / "s", "r", schema=SMALL, files_per_task=1, progress=stop_at("write", 4))
    new = with_arm(files[0], 0, "B", random_arm(1234))
    write(folder / new.planid / (reader.file_name(new) + ".gz"), new)
    write(folder / "added.fits", random_file(50, 3))
    ingest(client, folder, tmp_path / "s", "r", schema=SMALL, files_per_task=1)
    ingest(client, folder, tmp_path / "whole", "r", schema=SMALL)
    assert release_of(tmp_path / "s").identical(release_of(tmp_path / "whole"))
    stored = release_of(tmp_path / "s")
    row = stored["obsid"].values.tolist().index(new.obsid)
    assert np.array_equal(stored["flux"].values[row, 0], random_arm(1234).flux)


@pytest.mark.parametrize("spoilt", [1, 2])
def test_a_scan_that_a_disk_spoils_loses_no_row(client: Client, tmp_path: Path, spoilt: int) -> None:
    write_files(tmp_path / "in", 3)
    indexes = tmp_path / "s" / "releases" / ".r.work" / "scan" / "index"
    rounds = []

    def spoil(stage: str, done: int, total: int) -> None:
        if stage == "scan" and done == total and len(rounds) < spoilt:
            rounds.append(done)
            damage(sorted(indexes.iterdir())[0])

    if spoilt < 2:
        ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL, files_per_task=2, progress=spoil)
    else:
        with pytest.raises(IngestError, match=r"/scan/index/\w+\.npz: what was scanned cannot be read back"):
            ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL, files_per_task=2, progress=spoil)
        ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL, files_per_task=2)
    ingest(client, tmp_path / "in", tmp_path / "whole", "r", schema=SMALL)
    assert release_of(tmp_path / "s").identical(release_of(tmp_path / "whole"))


def test_a_file_that_changes_between_the_passes_is_an_error(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "in" / "x.fits"
    write(path, random_file(0, 1))

    def change(stage: str, done: int, total: int) -> None:
        if stage == "write":
            for kept in (tmp_path / "s/releases/.r.work").glob("scan/rows/*.rows"):
                kept.unlink()
            write(path, with_arm(random_file(0, 1), 0, "B", random_arm(5)))

    with pytest.raises(IngestError, match=r"x\.fits: exposure 84107311 changed"):
        ingest(client, tmp_path / "in", tmp_path / "s", "r", progress=change)
    assert ingest(client, tmp_path / "in", tmp_path / "s", "r").rows == 1


_SCRIPT = """
import sys
from pathlib import Path
from dataclasses import replace
from distributed import Client, LocalCluster
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.schema import EXPOSURES
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        schema = replace(EXPOSURES, chunk_rows=2, shard_rows=4)
        ingest(client, Path(sys.argv[1]), Path(sys.argv[2]), "r", schema=schema, files_per_task=1)
"""


@pytest.mark.slow
def test_killed_outright(client: Client, tmp_path: Path) -> None:
    """SIGKILL at several moments: the next run completes, and the store is that of an undisturbed one."""
    write_files(tmp_path / "in", 60)
    script = tmp_path / "run.py"
    script.write_text(_SCRIPT)
    ingest(client, tmp_path / "in", tmp_path / "whole", "r", schema=SMALL)
    work, target = tmp_path / "s" / "releases" / ".r.work", tmp_path / "s" / "releases" / "r"
    for pattern, count in (("scan/done/*", 20), ("write/done/*", 5), ("write/done/*", 15)):
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "in"), str(tmp_path / "s")], start_new_session=True
        )
        deadline = time.monotonic() + 60
        while len(list(work.glob(pattern))) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not target.exists()
    ingest(client, tmp_path / "in", tmp_path / "s", "r", schema=SMALL, files_per_task=1)
    assert release_of(tmp_path / "s").identical(release_of(tmp_path / "whole"))


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_a_report_with_any_name_can_be_printed() -> None:
    name = os.fsdecode(b"\xff.fits")
    report = IngestReport(
        "r", None, "f", 1, 0, 0, 0, 0, 0, 0, (), (), (Quarantined(name, "empty", f"{name}: nothing"),), (), 0, 0, ()
    )
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    show_ingestion(report, Console(file=out))
    out.seek(0)
    assert r"\udcff.fits" in out.read()


def an_index(rows: list[tuple[int, int, int]]) -> Index:
    """An index of one row per file, with the given (obsid, lmjm, content)."""
    every = [(number, *row, 5, 10.0, 20.0, number - 1) for number, row in enumerate(rows)]
    return Index.of(every, ((0, "empty", "nothing"),), ((1, "odd"),))


some_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), max_size=30)


@given(some_rows)
def test_index_survives_its_file(rows: list[tuple[int, int, int]]) -> None:
    index = an_index(rows)
    back = Index.from_bytes(index.to_bytes())
    for name in ("file", "obsid", "lmjm", "content_hash", "kept"):
        assert np.array_equal(getattr(back, name), getattr(index, name))
    assert (back.quarantined, back.warnings) == (index.quarantined, index.warnings)


def test_indexes_of_other_rows_than_were_scanned_are_an_error() -> None:
    parts = [(0, an_index([(1, 2, 3), (4, 5, 6)])), (2, an_index([(7, 8, 9)]))]
    whole = Index.concatenate(parts, 3)
    assert (whole.file.tolist(), whole.obsid.tolist()) == ([0, 1, 2], [1, 4, 7])
    assert [number for number, *_ in whole.quarantined] == [0, 2]
    for rows in (2, 4):
        with pytest.raises(ValueError, match=rf"indexes of 3 rows where {rows} were scanned"):
            Index.concatenate(parts, rows)


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"x", mtime=0)], ids=["empty", "text", "gzip"])
def test_a_damaged_index_is_none(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"index|pickle|magic|data"):
        Index.from_bytes(content)


def test_a_flipped_bit_is_seen_or_harmless() -> None:
    index = an_index([(1, 2, 3), (4, 5, 6)])
    stored = index.to_bytes()
    for byte in range(len(stored)):
        damaged = bytearray(stored)
        damaged[byte] ^= 1
        try:
            back = Index.from_bytes(bytes(damaged))
        except ValueError:
            continue
        assert back.to_bytes() == stored, byte


def test_content_hash_sees_what_results_depend_on() -> None:
    file = random_file(0, 1)
    exposure = file.exposures[0]
    blue = exposure.blue
    assert blue is not None
    flux, mask = blue.flux.copy(), blue.mask.copy()
    flux[2000] = np.nextafter(flux[2000], np.inf)
    mask[3] ^= 128
    variants = [
        content_hash(file, exposure, 58407.0),
        content_hash(file, exposure, 58407.5),
        content_hash(replace(file, planid="other"), exposure, 58407.0),
        content_hash(replace(file, ra=1.0), exposure, 58407.0),
        content_hash(file, replace(exposure, red=None), 58407.0),
        content_hash(file, replace(exposure, blue=replace(blue, flux=flux)), 58407.0),
        content_hash(file, replace(exposure, blue=replace(blue, mask=mask)), 58407.0),
        content_hash(file, replace(exposure, blue=replace(blue, snr=5.0)), 58407.0),
        content_hash(file, replace(exposure, blue=exposure.red, red=blue), 58407.0),
    ]
    assert len(set(variants)) == len(variants)
    assert content_hash(replace(file, problems=("x",), date_beg="y"), exposure, 58407.0) == variants[0]
    big_endian = replace(blue, flux=blue.flux.astype(">f4"))
    assert content_hash(file, replace(exposure, blue=big_endian), 58407.0) == variants[0]
