"""A survey's calibration: kept beside its catalog, opened with that one alone, asked by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from twinlines.pipeline.catalog import catalog as catalogs
from twinlines.pipeline.catalog.catalog import CatalogError
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.cli.console import plain
from twinlines.pipeline.testing.trust import MadeVerdicts, VerdictConfig, make_verdicts
from twinlines.pipeline.testing.velocities import write_catalog
from twinlines.pipeline.validation.false_positives import false_positives
from twinlines.pipeline.validation.schema import CALIBRATION
from twinlines.pipeline.validation.trust.classes import Classes, TrustError
from twinlines.pipeline.validation.trust.survey import calibrate, open_calibrated, stars_of

NAME = "dr-0123456789abcdef.zarr"


@pytest.fixture(scope="module")
def made() -> MadeVerdicts:
    return make_verdicts(2, VerdictConfig(singles=400, binaries=150, repeated=800, exposures=(1, 3)))


@pytest.fixture(scope="module")
def calibrated(made: MadeVerdicts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey whose catalog is calibrated; only to be copied."""
    folder = tmp_path_factory.mktemp("trust") / "survey"
    folder.mkdir()
    write_catalog(folder, NAME, made.catalog)
    report = calibrate(folder)
    assert report.counts is not None
    assert report.counts.narrow == report.calibration.null.sum() > 500
    assert json.dumps(plain(report.to_json()))
    return folder


@pytest.fixture
def survey(calibrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calibrated, tmp_path / "survey"))


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_presumed_single_stars_stay_so_where_some_exposures_have_no_zero_point(tmp_path: Path) -> None:
    """Zero points are far from 0; a velocity without one must not look like a star that has moved."""
    made = make_verdicts(2, VerdictConfig(singles=40, binaries=10, repeated=60, exposures=(1, 3)))
    rows = made.catalog.sizes["exposure"]
    without = np.random.default_rng(3).random(rows) < 0.3
    scaled = {
        f"rv_abs_{arm}": ("exposure", np.where(without, np.nan, made.catalog[f"rv_obs_{arm}"].values + zero))
        for arm, zero in (("B", 25.0), ("R", -40.0))
    }
    found = {}
    for name, catalog in {"plain": made.catalog, "scaled": made.catalog.assign(scaled)}.items():
        (tmp_path / name).mkdir()
        write_catalog(tmp_path / name, NAME, catalog)
        found[name] = stars_of(tmp_path / name).nulls
    assert len(np.intersect1d(*found.values())) > 0.8 * len(found["plain"]) > 30


def test_candidates_at_a_false_discovery_rate(survey: Path, made: MadeVerdicts) -> None:
    rows = open_calibrated(survey)
    assert set(CALIBRATION.variables) <= set(rows.variables)
    for fdr in (0.15, 0.25):
        chosen = rows.sb2.candidates(fdr=fdr)
        stars = np.unique(chosen["star"].values)
        assert np.mean(~np.isin(stars, made.binaries)) <= fdr
        assert len(stars) > 40
        # All exposures of these stars, and nothing of others.
        assert chosen.sizes["exposure"] == np.isin(rows["obsid"].values, stars).sum()
    more = rows.sb2.candidates(fdr=0.15, in_the_mean=True)
    assert more.sizes["exposure"] >= rows.sb2.candidates(fdr=0.15).sizes["exposure"]


def test_what_the_nulls_do_not_warrant_is_refused(survey: Path) -> None:
    rows = open_calibrated(survey)
    with pytest.raises(CatalogError, match=r"too few nulls for a false discovery rate of 0\.0001.* at best"):
        rows.sb2.candidates(fdr=0.0001)
    with pytest.raises(CatalogError, match="above 0 and below 1"):
        rows.sb2.candidates(fdr=5.0)
    with pytest.raises(CatalogError, match="leave the other arguments out"):
        rows.sb2.candidates(fdr=0.1, threshold=0.9)
    with pytest.raises(CatalogError, match="not calibrated"):
        catalogs.open(survey).sb2.candidates(fdr=0.1)


def test_a_calibration_is_never_another_catalog_s(survey: Path, made: MadeVerdicts) -> None:
    write_catalog(survey, "dr2-0123456789abcdef.zarr", made.catalog, number=2)
    with pytest.raises(
        TrustError, match=r"dr2-\w+\.zarr of .* is not calibrated \(calibrated are dr-0123456789abcdef\)"
    ):
        open_calibrated(survey)
    # One of the same name with other rows.
    shutil.rmtree(survey / "catalogs" / NAME)
    changed = made.catalog.assign(content_hash=made.catalog["content_hash"] + np.uint64(1))
    write_catalog(survey, NAME, changed)
    with pytest.raises(TrustError, match="is of other rows than the catalog"):
        open_calibrated(survey)


def test_a_calibration_that_fails_leaves_the_last_one(survey: Path, tmp_path: Path) -> None:
    before = open_calibrated(survey).attrs["calibrated_by"]
    Table({"obsid": [700_000_001]}).write(tmp_path / "few.csv")
    with pytest.raises(TrustError, match="too few nulls: there are 1 presumed single stars"):
        calibrate(survey, nulls=tmp_path / "few.csv")
    assert open_calibrated(survey).attrs["calibrated_by"] == before
    calibrate(survey)
    assert open_calibrated(survey).attrs["calibrated_by"] > before
    store = next(survey.glob("validation/*/calibration-000002.zarr"))
    shutil.rmtree(store / "star_p_value")
    with pytest.raises(TrustError, match=r"is not whole.* calibrates it again"):
        open_calibrated(survey)


def test_a_list_of_single_stars_is_used_instead(survey: Path, made: MadeVerdicts, tmp_path: Path) -> None:
    Table({"obsid": made.repeated[:400]}).write(tmp_path / "nulls.csv")
    report = calibrate(survey, nulls=tmp_path / "nulls.csv")
    assert report.counts is None
    assert report.to_json()["list"]["rows"] == report.calibration.null.sum() == 400


def test_false_positives_of_single_stars_by_class(survey: Path, made: MadeVerdicts) -> None:
    report = false_positives(survey, classes=Classes((20.0,), (5000.0,)))
    rows = open_calibrated(survey)
    mine = rows["presumed_single"].values
    flagged = rows.sb2.is_candidate()[mine]
    assert (report.whole.exposures.count, report.whole.exposures.trials) == (flagged.sum(), mine.sum())
    assert sum(one.exposures.count for one in report.classes) == flagged.sum()
    assert report.worst == "below 5000 K, S/N below 20"  # as it was made
    for one in report.classes:
        assert one.exposures.low <= one.exposures.value <= one.exposures.high
        assert one.any_exposure.trials == one.stars


def test_the_command_line(survey: Path) -> None:
    status, output = run("calibrate", "--survey", survey, "--fdr", 0.2, "--json")
    assert status == 0
    told = json.loads(output)
    assert told["candidates"] > 40
    assert told["refused"] is None
    status, output = run("calibrate", "--survey", survey, "--fdr", 0.001)
    assert status == 1
    assert "prevalence: 0." in output
    status, output = run("catalog", "candidates", "--survey", survey, "--fdr", 0.2, "--limit", 2)
    assert status == 0
    assert f"of {told['candidates']} stars" in output
    assert run("catalog", "candidates", "--survey", survey, "--fdr", 0.2, "--threshold", 0.5)[0] == 2
    assert run("catalog", "candidates", "--survey", survey, "--in-the-mean")[0] == 2
    assert run("calibrate", "--survey", survey, "--snr-edges", "ten")[0] == 2
    status, output = run("validate", "nulls", "--survey", survey)
    assert status == 0
    assert "worst: below 4750 K" in output
    assert json.loads(run("validate", "nulls", "--survey", survey, "--json", "--rule", "paper")[1])["rule"] == "paper"
    status, message = run("calibrate", "--survey", survey / "nowhere")
    assert (status, "there is no survey at" in message) == (1, True)


def test_a_survey_without_repeated_stars_says_so(tmp_path: Path) -> None:
    made = make_verdicts(1, VerdictConfig(singles=40, binaries=5, repeated=0, exposures=(1, 2)))
    write_catalog(tmp_path, NAME, made.catalog)
    with pytest.raises(TrustError, match=r"too few nulls: there are 0 presumed single stars"):
        calibrate(tmp_path)
    with pytest.raises(TrustError, match=r"no star that can be presumed single .*of 45 stars 0 have nights enough"):
        false_positives(tmp_path)
