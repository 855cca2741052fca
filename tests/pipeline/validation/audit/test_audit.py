"""An audit finds every exposure that is lost, whoever lost it, and nothing where none is."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client
from rich.console import Console
from typer.testing import CliRunner

from tests.places import SHARED
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.cli.audit import show_audit
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.lamost import headers, reader
from twinlines.pipeline.lamost.exposures import MrsFile
from twinlines.pipeline.schema import CATALOG, EXPOSURES
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import compute
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.testing.exposures import random_arm, random_file, with_arm
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_weights
from twinlines.pipeline.validation.audit import audit as auditing
from twinlines.pipeline.validation.audit.audit import AuditError, audit
from twinlines.pipeline.validation.audit.report import AuditReport


def write(folder: Path, name: str, file: MrsFile) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reader.write(folder / name, file)


def dead(file: MrsFile, index: int) -> MrsFile:
    """The file with an exposure of which no arm is usable."""
    for name in ("B", "R"):
        arm = random_arm(1, name)  # type: ignore[arg-type]
        file = with_arm(file, index, name, replace(arm, flux=arm.flux * 0))  # type: ignore[arg-type]
    return file


def published(client: Client, survey: Path, weights: Path) -> None:
    compute.run(client, survey, weights=weights, parameters=ToyParameters(), loader=ToyInference.load)


@pytest.fixture(scope="module")
def made(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases with all that can become of an exposure, and a catalog of both."""
    folder = tmp_path_factory.mktemp("audited")
    first, second, survey = folder / "first", folder / "second", folder / "survey"
    files = [random_file(seed, exposures=1 + seed % 3) for seed in range(6)]
    for number, file in enumerate(files[:5]):
        write(first / f"plan{number % 2}", f"{number}.fits.gz", file)
    write(first, "copy of 0.fits", files[0])  # a duplicate
    write(first, "other 1.fits", replace(files[1], exposures=random_file(99, exposures=2).exposures))  # a conflict
    write(first, "half dead.fits", dead(files[5], 1))
    (first / "broken.fits").write_bytes((first / "copy of 0.fits").read_bytes()[:20_000])
    (first / "none.fits.gz").write_bytes(gzip.compress(b"no FITS"))
    (first / ".hidden.fits").write_bytes(b"")
    (first / "x.fits.1").write_bytes(b"")
    (first / "loop").symlink_to(first, target_is_directory=True)
    ingest(client, first, survey, "dr1")
    write(second, "0.fits.gz", files[0])  # as it was
    changed = with_arm(files[2], 0, "B", random_arm(77, "B"))
    write(second, "2.fits.gz", changed)  # one exposure changed, two as they were
    write(second, "new.fits.gz", random_file(50, exposures=2))
    (second / "empty.fits").write_bytes(b"")
    ingest(client, second, survey, "dr2")
    published(client, survey, write_weights(folder / "weights"))
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; its releases' files are where they were."""
    return Path(shutil.copytree(made / "survey", tmp_path / "survey"))


def balanced(report: AuditReport) -> None:
    """What files have is what became of it."""
    for release in report.releases:
        ended = ("in_rows", "duplicates", "unchanged", "unusable", "quarantined", "later", "lost")
        assert release.exposures == sum(getattr(release, name) for name in ended)


@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("portion", [7, 2_000_000])
def test_nothing_is_lost_where_nothing_is(
    client: Client, made: Path, monkeypatch: pytest.MonkeyPatch, compare: bool, portion: int
) -> None:
    monkeypatch.setattr(auditing, "PORTION_ROWS", portion)
    report = audit(client, made / "survey", compare=compare)
    assert report.lost == ()
    assert report.complete
    balanced(report)
    first, second = report.releases
    stored = [json.loads((made / f"survey/releases/{name}/report.json").read_text()) for name in ("dr1", "dr2")]
    assert (first.in_rows, second.in_rows) == (stored[0]["rows"], stored[1]["rows"])
    assert (first.files, second.files) == (stored[0]["files_seen"], stored[1]["files_seen"])
    assert first.duplicates == stored[0]["duplicates"] + len(stored[0]["conflicts"]) == 3
    assert (second.unchanged, second.duplicates, first.unchanged) == (stored[1]["unchanged"], 0, 0)
    assert stored[1]["unchanged"] == 3
    assert first.unusable == 1
    assert first.quarantined == 0  # what is left of the broken file ends in its first extension
    assert (report.superseded, report.rows_in - report.superseded) == (1, report.rows_out)
    assert report.waiting == ()


def test_a_row_that_is_taken_from_the_catalog_is_named(client: Client, copied: Path) -> None:
    path = Survey.at(copied).current
    assert path is not None
    columns = stores.read_columns(path, CATALOG.variables)
    kept = np.arange(len(columns["obsid"])) != 4
    lost = int(columns["obsid"][4]), int(columns["lmjm"][4]), str(columns["release"][4])
    about = dict(zarr.open_group(path, mode="r").attrs)
    shutil.rmtree(path)
    stores.create(path, CATALOG, int(kept.sum()), {name: about[name] for name in ("releases", "name", "run", "number")})
    for name, values in columns.items():
        stores.write_column(path, CATALOG, name, values[kept])
    report = audit(client, copied)
    assert (report.problems, report.complete) == (1, False)
    assert (report.lost[0].obsid, report.lost[0].lmjm, report.lost[0].release) == lost
    assert "the catalog does not" in report.lost[0].why
    shown = CliRunner().invoke(cli.app, ["audit", "--survey", str(copied), "--workers", "1"])
    assert shown.exit_code == 1
    assert f"lost: obsid {lost[0]}, LMJM {lost[1]} ({lost[2]})" in shown.output


def test_a_catalog_that_says_something_else_is_named(client: Client, copied: Path) -> None:
    path = Survey.at(copied).current
    assert path is not None
    for name, row, value in (("content_hash", 0, 5), ("release", 1, "dr9"), ("obsid", 2, 1234)):
        array = zarr.open_array(path, path=name, mode="r+")
        values = array[:]
        values[row] = value
        array[:] = values
    (path / "zarr.json").write_text((path / "zarr.json").read_text())  # the inventory's own notes stay
    about = zarr.open_group(path, mode="r+").attrs
    for name in ("inventory", "checksum"):
        about.pop(name, None)
    report = audit(client, copied)
    said = sorted(lost.why.partition(" of it")[0] for lost in report.lost)
    assert report.problems == 4
    assert sum("another content" in why for why in said) == 2
    assert sum("does not" in why for why in said) == 1
    assert sum("no release that it covers" in why for why in said) == 1


def test_an_exposure_that_ingestion_lost_is_named(client: Client, copied: Path, made: Path, tmp_path: Path) -> None:
    """As of an ingestion that overlooks a file, or drops an exposure: rows and reports without them."""
    release = copied / "releases/dr2"
    store = release / "exposures.zarr"
    columns = stores.read_columns(store, EXPOSURES.variables)
    kept = columns["source_file"] != "new.fits.gz"
    shutil.rmtree(store)
    stores.create(store, EXPOSURES, int(kept.sum()), {"release": "dr2"})
    block = EXPOSURES.dataset({name: values[kept] for name, values in columns.items()}, int(kept.sum()))
    stores.write_shard(store, EXPOSURES, 0, block)
    about = json.loads((release / "release.json").read_text())
    about.pop("sha256")
    (release / "release.json").write_text(json.dumps({**about, "rows": int(kept.sum())}))
    told = json.loads((release / "report.json").read_text())
    told["quarantined"] = []
    (release / "report.json").write_text(json.dumps(told))
    report = audit(client, copied, release="dr2")
    lost = {(each.file, each.lmjm) for each in report.lost if each.release == "dr2" and each.file}
    minutes = columns["lmjm"][~kept].tolist()
    assert lost == {("empty.fits", -1), *(("new.fits.gz", minute) for minute in minutes)}
    balanced(report)
    # A file that came since is no loss.
    told["files_seen"] -= 1
    (release / "report.json").write_text(json.dumps(told))
    later = Path(shutil.copytree(made / "second", tmp_path / "later", copy_function=shutil.copyfile))
    report = audit(client, copied, release="dr2", folder=later)
    assert report.releases[0].later == 2
    assert not [each for each in report.lost if each.file]


def test_contents_are_compared_if_asked_for(client: Client, copied: Path, made: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(made / "second", tmp_path / "moved"))
    other = with_arm(random_file(50, exposures=2), 1, "R", random_arm(3, "R"))
    write(moved, "new.fits.gz", other)
    assert audit(client, copied, release="dr2", folder=moved).complete
    report = audit(client, copied, release="dr2", folder=moved, compare=True)
    assert [(lost.file, lost.lmjm) for lost in report.lost] == [("new.fits.gz", other.exposures[1].lmjm)]
    assert "changed after the release was made" in report.lost[0].why


def test_files_that_are_gone_are_said_to_be_gone(client: Client, copied: Path, made: Path, tmp_path: Path) -> None:
    told = json.loads((copied / "releases/dr1/report.json").read_text())
    (copied / "releases/dr1/report.json").write_text(json.dumps({**told, "folder": str(tmp_path / "gone")}))
    report = audit(client, copied)
    assert (report.releases[0].there, report.releases[1].there, report.complete) == (False, True, True)
    shown = io.StringIO()
    show_audit(report, Console(file=shown, width=500))
    assert "its files are not at" in shown.getvalue()
    assert "nothing is lost" in shown.getvalue()
    some = Path(shutil.copytree(made / "first", tmp_path / "some", symlinks=True))
    (some / "plan0/2.fits.gz").unlink()
    (some / "loop").unlink()
    report = audit(client, copied, release="dr1", folder=some)
    assert (report.releases[0].files_gone, report.complete) == (1, False)
    shown = io.StringIO()
    show_audit(report, Console(file=shown, width=500))
    assert "nothing is lost of the files that are there; 1 could not be checked" in shown.getvalue()


def test_what_cannot_be_audited_is_refused(client: Client, copied: Path) -> None:
    with pytest.raises(AuditError, match="say which with --release"):
        audit(client, copied, folder=copied)
    (copied / "releases/dr1/report.json").write_text("{")
    with pytest.raises(AuditError, match=r"report\.json is damaged, and with it the reasons of release dr1"):
        audit(client, copied)


def test_headers_alone_say_what_a_file_has(tmp_path: Path) -> None:
    file = with_arm(random_file(3, exposures=3), 1, "B", None)
    reader.write(tmp_path / "a.fits", file)
    content = (tmp_path / "a.fits").read_bytes()
    packed = {"a.fits": content, "b.gz": gzip.compress(gzip.compress(content)), "c.bz2": bz2.compress(content)}
    packed["d.xz"] = lzma.compress(content)
    minutes = [exposure.lmjm for exposure in file.exposures]
    for name, data in packed.items():
        (tmp_path / name).write_bytes(data)
        said = headers.claims(tmp_path / name)
        assert (said.obsid, said.whole) == (file.obsid, True)
        assert said.arms == {minutes[0]: 3, minutes[1]: 2, minutes[2]: 3}
    for data in (b"", content[:5000], gzip.compress(content)[:3000], b"SIMPLE  =" * 400, bytes(9000)):
        (tmp_path / "x").write_bytes(data)
        said = headers.claims(tmp_path / "x")
        assert not said.arms or not said.whole


@pytest.mark.skipif(not (SHARED / "lamost").is_dir(), reason="the real LAMOST files are not here")
def test_headers_of_real_files() -> None:
    for path in sorted((SHARED / "lamost").glob("*.fits*")):
        said, read = headers.claims(path), reader.read(path)
        assert said.whole
        assert (said.obsid, sorted(said.arms)) == (read.obsid, [exposure.lmjm for exposure in read.exposures])
