"""Verdicts that come back from a report: read as they were said, and refused by line where they cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.report.vetting import VettingError, read_vetted

pytestmark = pytest.mark.filterwarnings(  # untrained networks are not those that evidence was calibrated with
    "ignore:the catalog is of the weights:twinlines.pipeline.binaries.sources.survey.CalibrationWarning"
)


@pytest.fixture
def obsid(survey: Path) -> int:
    return int(catalogs.open(survey)["obsid"].values.min())


def _file(folder: Path, text: str) -> Path:
    path = folder / "vetted.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_verdicts_come_back_as_they_were_said(survey: Path, tmp_path: Path, obsid: int) -> None:
    said = _file(tmp_path, f'obsid,verdict,comment,catalog\n{obsid},accept,"two, ""clear"" lines","other.zarr"\n')
    found = read_vetted(survey, said)
    (star,) = found.stars
    assert (star["obsid"], star["verdict"], star["comment"]) == (obsid, "accept", 'two, "clear" lines')
    assert found.counts == {"accept": 1, "reject": 0, "unsure": 0}
    assert found.other_catalogs == 1
    assert found.with_verdict("reject") == ()
    ran = CliRunner().invoke(cli.app, ["catalog", "vetted", str(said), "--survey", str(survey)])
    assert ran.exit_code == 0, ran.output
    assert str(obsid) in ran.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("obsid,said\n1,accept\n", "has no column verdict; its columns are obsid, said"),
        ("obsid,verdict\n{obsid},yes\n", "line 2: the verdict is 'yes'; give one of accept, reject, unsure"),
        ("obsid,verdict\n7,accept\n", "line 2: obsid 7 is not in the catalog"),
        ("obsid,verdict\nseven,accept\n", "line 2: the obsid is 'seven'"),
        ("obsid,verdict\n{obsid},accept\n{obsid},reject\n", "line 3: obsid {obsid} is reject, and accept"),
        ("obsid,verdict\n²,accept\n", "line 2: the obsid is '²'"),
        ("obsid,verdict\n" + "9" * 5000 + ",accept\n", "line 2: the obsid is '9999"),
        ("obsid,verdict,verdict\n{obsid},accept,reject\n", "has several columns verdict"),
        ("obsid,verdict\n{obsid},accept,3,4\n", "line 2: it has more cells than the 2 columns"),
        ("", "has no column obsid; its columns are none"),
    ],
)
def test_what_cannot_be_meant_is_named(survey: Path, tmp_path: Path, obsid: int, text: str, words: str) -> None:
    with pytest.raises(VettingError, match=words.format(obsid=obsid)):
        read_vetted(survey, _file(tmp_path, text.format(obsid=obsid)))


def test_a_file_that_is_no_text_is_refused(survey: Path, tmp_path: Path) -> None:
    path = tmp_path / "vetted.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(VettingError, match="cannot be read as CSV"):
        read_vetted(survey, path)
