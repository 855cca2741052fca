"""The report's file: whole, self-contained, true to the catalog; refused where it cannot be written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from twinlines.pipeline.binaries.fits.store import join, load_fits, shows_two
from twinlines.pipeline.binaries.sources import survey as sources
from twinlines.pipeline.binaries.twostar.explained import explained
from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.catalog import CatalogError
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.report import document
from twinlines.pipeline.report.document import ReportError, write_report
from twinlines.pipeline.report.stars import listed
from twinlines.pipeline.survey.exposures import exposures_of

pytestmark = pytest.mark.filterwarnings(  # untrained networks are not those that evidence was calibrated with
    "ignore:the catalog is of the weights:twinlines.pipeline.binaries.sources.survey.CalibrationWarning"
)


def test_it_needs_nothing_else_and_tells_every_star(survey: Path, report: Path) -> None:
    text = report.read_text()
    assert not re.search(r'(?:src|<link[^>]*href)="(?!#)', text), "something else would be loaded"
    found = listed(catalogs.open(survey), survey, 2000)
    double = join(catalogs.open(survey)[["obsid", "lmjm", "content_hash", "ra"]].load(), load_fits(survey))
    assert set(double["obsid"].values[shows_two(double)]) <= {
        int(obsid) for rows in found.rows for obsid in catalogs.open(survey)["obsid"].values[rows]
    }
    assert len(found) > 0
    for obsid in found.obsid.tolist():
        assert f'id="star-{obsid}"' in text
    assert f"<b>{catalogs.open(survey).sizes['exposure']:,}</b>exposures" in text


def test_the_fit_is_drawn_as_it_was_made(survey: Path) -> None:
    catalog = catalogs.open(survey)
    rows = join(catalog.load(), load_fits(survey))
    rows = rows.isel(exposure=np.flatnonzero(shows_two(rows))[:4])
    told = explained(exposures_of(survey, rows), rows)
    for row in range(rows.sizes["exposure"]):
        arms = [told[name][row] for name in ("B", "R")]
        chi2 = sum(float(np.nansum(fit.residual**2)) for fit in arms if fit is not None)
        pixels = int(rows["fit_pixels"].values[row])
        # The prior on the arms' offset is no residual; float32 columns are not the fit's last digits.
        assert chi2 / (0.775 * pixels) == pytest.approx(float(rows["chi2"].values[row]), rel=0.01)


def test_stars_beyond_the_number_asked_for_are_counted(survey: Path, tmp_path: Path) -> None:
    whole = listed(catalogs.open(survey), survey, 2000)
    written = write_report(survey, tmp_path / "few.html", best=1, most=len(whole) - 1)
    assert (written.stars, written.pages) == (len(whole) - 1, 1)
    assert "1 more stars are not listed here" in (tmp_path / "few.html").read_text()


def test_a_report_that_would_be_too_large_has_fewer_pages(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "MOST_BYTES", 700_000)
    written = write_report(survey, tmp_path / "small.html")
    assert written.left_out > 0
    assert written.bytes < 700_000
    assert f"{written.left_out} more would have one" in (tmp_path / "small.html").read_text()


def test_what_cannot_be_written_is_refused_before_pages_are_made(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "there.html").touch()
    (tmp_path / "folder.html").mkdir()
    for path, words in (
        (tmp_path / "report.pdf", "does not end in .html"),
        (tmp_path / "there.html", "is there already"),
        (tmp_path / "folder.html", "is a folder"),
        (tmp_path / "none" / "report.html", "there is no folder"),
        (Path("/proc/report.html"), "nothing can be written into /proc"),
    ):
        with pytest.raises(ReportError, match=words):
            write_report(survey, path)
    with pytest.raises(ReportError, match="-1 pages"):
        write_report(survey, tmp_path / "new.html", best=-1)
    with pytest.raises(CatalogError, match="there is no survey"):
        write_report(tmp_path / "no survey", tmp_path / "no survey" / "report.html")


def test_the_command_says_where_it_is(survey: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    ran = CliRunner().invoke(cli.app, ["report", "--survey", str(survey), "--out", str(target), "--best", "1"])
    assert ran.exit_code == 0, ran.output
    assert "1 pages" in ran.output.replace("\n", " ")
    assert target.stat().st_size > 10_000


def test_stars_that_are_older_than_the_catalog_are_told(
    survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_other_catalog", lambda *_: "another catalog than this one")
    written = write_report(survey, tmp_path / "old.html", best=1)
    assert len(written.stale) == 1
    assert "Beware: the stars of" in (tmp_path / "old.html").read_text()
    command = ["report", "--survey", str(survey), "--best", "0", "--out", str(tmp_path / "again.html")]
    said = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert "are of another catalog than this one" in said.stderr
