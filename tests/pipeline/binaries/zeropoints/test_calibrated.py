"""A survey's catalog gets zero points: what is published, when again, and what a later run makes of it."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.binaries.zeropoints import calibrated
from twinlines.pipeline.binaries.zeropoints.calibrated import (
    CalibrationReport,
    ReferenceSource,
    calibrate,
    command_again,
    open_zero_points,
)
from twinlines.pipeline.binaries.zeropoints.references import ReferenceTableError
from twinlines.pipeline.binaries.zeropoints.units import ZeroPointError
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.cli import main
from twinlines.pipeline.cli.survey import show_run
from twinlines.pipeline.figures.canvas import FigureError
from twinlines.pipeline.jobs.locks import LockedError
from twinlines.pipeline.schema import CATALOG, EXPOSURES, Quality, ZeroPointReason
from twinlines.pipeline.storage import stores
from twinlines.pipeline.survey import plan, publication
from twinlines.pipeline.survey.compute import RunReport
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.runs import Recipe
from twinlines.pipeline.survey.status import status
from twinlines.pipeline.testing.survey import ToyInference, ToyParameters, write_release, write_weights
from twinlines.pipeline.testing.velocities import MadeVelocities, VelocityConfig, make_velocities, write_catalog


@pytest.fixture(scope="module")
def made() -> MadeVelocities:
    made = make_velocities(3, VelocityConfig(plates=5, stars=12, exposures=3, binaries=0.1))
    made.catalog["rv_obs_R"][7] = np.nan
    made.catalog["rv_obs_err_R"][7] = np.nan
    made.catalog["rv_obs_B"][9] = 400.0
    made.catalog["quality_B"][9] = Quality.AMBIGUOUS_VELOCITY
    return made


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time of a publication goes into making it outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, made: MadeVelocities) -> tuple[Path, Path, CalibrationReport]:
    """A survey, its copy with zero points, and the report of these; only to be copied. References lie beside them."""
    folder = tmp_path_factory.mktemp("fresh")
    write_catalog(folder / "s", "dr-1.zarr", made.catalog)
    made.references.write(folder / "gaia.fits")
    shutil.copytree(folder / "s", folder / "with")
    return folder / "s", folder / "with", calibrate(folder / "with", ReferenceSource(folder / "gaia.fits"))


@pytest.fixture
def survey(fresh: tuple[Path, Path, CalibrationReport], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh[0], tmp_path / "s"))


@pytest.fixture
def done(fresh: tuple[Path, Path, CalibrationReport], tmp_path: Path) -> Path:
    """A survey that has zero points."""
    return Path(shutil.copytree(fresh[1], tmp_path / "done"))


@pytest.fixture
def gaia(fresh: tuple[Path, Path, CalibrationReport], tmp_path: Path) -> ReferenceSource:
    return ReferenceSource(Path(shutil.copy(fresh[0].with_name("gaia.fits"), tmp_path)))


def asked(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_velocities_on_the_references_scale(fresh: tuple[Path, Path, CalibrationReport], made: MadeVelocities) -> None:
    untouched, survey, report = fresh
    assert report.new
    assert (report.rows, report.calibrated) == (180, {"B": 180, "R": 179})
    assert report.reference is not None
    assert (report.reference["stars_matched"], report.reference["exposures_matched"]) == (60, 180)
    # What was there stays as it was; what is new is current, whole, and of the same rows.
    for path in (untouched / "catalogs").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (survey / path.relative_to(untouched)).read_bytes()
    assert Survey.at(survey).current == report.catalog
    assert stores.damaged(report.catalog) == stores.damaged(report.table) == []
    opened, old = catalog.open(survey), catalog.open(survey, "dr-1.zarr")
    for name in CATALOG.variables:
        if not name.startswith("rv_abs"):
            np.testing.assert_array_equal(opened[name].values, old[name].values)
    table = open_zero_points(survey)
    # The table's rows are found by time and spectrograph, as a user would.
    unit = np.searchsorted(table["lmjm"].values, opened["lmjm"].values)
    assert np.array_equal(table["spid"].values[unit], opened["spid"].values)
    for at, arm in enumerate(ARM_NAMES):
        zero, error = (table[name].sel(arm=arm).values[unit] for name in ("zero_point", "error"))
        np.testing.assert_allclose(opened[f"rv_abs_{arm}"], opened[f"rv_obs_{arm}"] + zero, rtol=1e-5)
        total = np.hypot(opened[f"rv_obs_err_{arm}"], error)
        np.testing.assert_allclose(opened[f"rv_abs_err_{arm}"], total, rtol=1e-5)
        residual = (opened[f"rv_abs_{arm}"].values - made.velocity)[~made.binary]
        good = np.isfinite(residual) & (np.abs(residual) < 100.0)
        assert np.std(residual[good]) < 1.6  # of which 1.2 is the measurement's
        assert np.all(table["reason"].values == ZeroPointReason.REFERENCE)
        assert np.abs(table["zero_point"].values[:, at] - made.zero_points[:, at]).max() < 3.0
    assert table["n_stars"].values[0].tolist() == [11, 11]  # without the doubtful and the missing velocity
    assert opened["rv_abs_B"].values[9] > 390.0  # which gets its unit's zero point all the same
    about = json.loads(opened.attrs["zero_points"])
    assert about["reference"]["file"] == "gaia.fits"
    assert about["made_of"] == opened.attrs["made_of"] == "dr-1.zarr"
    assert about["results"]["arms"]["B"]["reasons"] == {"REFERENCE": 15}
    assert status(survey, verify=True).damaged == ()


def test_again_there_is_nothing_to_do(done: Path, gaia: ReferenceSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrated, "_make", None)
    again = calibrate(done, gaia)
    assert not again.new
    assert again.zero_points["arms"]["B"]["zero_points"] == 15
    # Where the table lies, and how it is called, does not count.
    moved = gaia.path.rename(gaia.path.with_name("copy.fits"))
    assert calibrate(done, ReferenceSource(moved)) == again


def test_other_wishes_make_other_catalogs_of_the_same_one(done: Path, gaia: ReferenceSource) -> None:
    first, alone = calibrate(done, gaia), calibrate(done)
    assert alone.catalog != first.catalog
    assert first.made_of == alone.made_of == "dr-1.zarr"
    assert alone.reference is None
    assert alone.zero_points["scale"] == "survey"
    groups = open_zero_points(done, alone.catalog.name)["group"].values
    assert len(np.unique(groups)) == 5
    assert Survey.at(done).current == alone.catalog
    assert Survey.at(done).made_of("dr-1.zarr") == (alone.catalog.name, first.catalog.name)
    assert Survey.at(done).catalog_of_release("dr") == alone.catalog.name
    assert not calibrate(done, gaia).new
    assert Survey.at(done).current == first.catalog
    # What is current counts before what was made last, as a run with nothing to do must leave it.
    assert Survey.at(done).made_of("dr-1.zarr") == (first.catalog.name, alone.catalog.name)
    assert Survey.at(done).catalog_of_release("dr") == first.catalog.name
    # All but the current one can go, the one that it was made of, too.
    for name in ("dr-1.zarr", alone.catalog.name):
        shutil.rmtree(done / "catalogs" / name)
    assert not calibrate(done, gaia).new
    assert calibrate(done).catalog == alone.catalog


def test_what_is_damaged_is_made_again(done: Path, gaia: ReferenceSource) -> None:
    first = calibrate(done, gaia)
    (first.table / "zero_point" / "c" / "0" / "0").unlink()
    stale = done / "catalogs" / ".dr-1-zp.zarr.1-a.tmp"
    stale.mkdir()
    assert calibrate(done, gaia).new
    assert not stale.exists()
    assert stores.damaged(first.table) == []
    Survey.at(done).make_current("dr-1.zarr")
    path = first.catalog / "rv_abs_B" / "c" / "0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert calibrate(done, gaia).new
    assert stores.damaged(first.catalog) == []
    path.unlink()
    with pytest.raises(ZeroPointError, match=r"is damaged: 'rv_abs_B' has .*twinlines run --survey .* publishes it"):
        calibrate(done)


def test_a_failure_leaves_nothing_behind(survey: Path, gaia: ReferenceSource, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(survey.rglob("*"))

    def fail(*_: object) -> None:
        raise OSError("no room on this disk")

    for point in ("_write_catalog", "_write_table", "zero_points"):
        with monkeypatch.context() as patched:
            patched.setattr(calibrated, point, fail)
            with pytest.raises(OSError, match="no room on this disk"):
                calibrate(survey, gaia)
        assert Survey.at(survey).current == survey / "catalogs" / "dr-1.zarr"
        left = {path for path in survey.rglob("*") if "zeropoints" not in path.parts and "lock" not in path.name}
        assert left == set(before)


def test_what_cannot_be_done_is_said(survey: Path, gaia: ReferenceSource, made: MadeVelocities, tmp_path: Path) -> None:
    with pytest.raises(ZeroPointError, match="there is no survey at"):
        calibrate(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ZeroPointError, match="has no catalog; 'twinlines run --survey"):
        calibrate(tmp_path / "bare")
    write_catalog(tmp_path / "none", "dr-1.zarr", CATALOG.dataset({}, 0))
    with pytest.raises(ZeroPointError, match="has no exposure; there is nothing to calibrate"):
        calibrate(tmp_path / "none")
    with pytest.raises(ReferenceTableError, match="there is no table of references"):
        calibrate(survey, ReferenceSource(tmp_path / "gone.fits"))
    write_catalog(tmp_path / "silent", "dr-1.zarr", made.catalog.assign(rv_obs_B=made.catalog["rv_obs_B"] * np.nan))
    assert calibrate(tmp_path / "silent", gaia).zero_points["arms"]["B"]["reasons"] == {"NO_VELOCITIES": 15}
    with pytest.raises(ZeroPointError, match=r"dr-1.zarr of .* has no zero points; 'twinlines zeropoints"):
        open_zero_points(survey)
    with Survey.at(survey).run_lock("twinlines run"), pytest.raises(LockedError, match="twinlines run"):
        calibrate(survey, gaia)


def test_the_command_says_what_it_took_and_what_came_of_it(done: Path, gaia: ReferenceSource, tmp_path: Path) -> None:
    figure = tmp_path / "zero.png"
    command = ["zeropoints", "--survey", done, "--reference", gaia.path]
    shown = asked(*command, "--figure", figure)
    assert "gaia.fits, 60 of 60 rows; ra from 'ra', dec from 'dec', velocity from 'radial_velocity'" in shown
    assert "60 stars are in the catalog, in 180 of 180 exposures; 0 are not" in shown
    assert "B: 15 zero points of 15 units: 15 REFERENCE" in shown
    assert "rv_abs_R of 179 exposures" in shown
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "nothing to do" in asked(*command)
    said = json.loads(asked(*command, "--match", "obsid", "--error-column", "radial_velocity_error", "--json"))
    assert said["reference"]["by"] == "obsid"
    assert (said["new"], said["figure"], said["rows"]) == (True, None, 180)
    assert "no references: zero points come from repeated stars" in asked("zeropoints", "--survey", done)
    rows = json.loads(asked("catalog", "source", "700000000", "--survey", done, "--json"))["exposures"]
    assert all(row["rv_abs_B"] is not None for row in rows)
    with pytest.raises(ZeroPointError, match="give --reference, too"):
        asked("zeropoints", "--survey", done, "--velocity-column", "v")
    with pytest.raises(FigureError, match=r"zero.pdf is not named .png"):
        asked("zeropoints", "--survey", done, "--figure", tmp_path / "zero.pdf")
    with pytest.raises(ReferenceTableError, match="no column of velocity: 'v', as was asked for"):
        asked(*command, "--velocity-column", "v")


def publish(survey: Path, weights: Path) -> tuple[Path, bool]:
    """Compute what is missing of a toy survey in this process, and publish, as a run does over a cluster."""
    place, recipe = Survey.at(survey), Recipe(weights, "toy", {}, 1)
    work = place.run(recipe.key)
    work.begin(recipe, 50, place.next_start_number)
    for task in plan.make(place, work, shard_rows=50).missing:
        store = next(release.store for release in place.releases if release.name == task.release)
        block = stores.open_store(store, EXPOSURES).isel(exposure=slice(task.start, task.stop)).load()
        work.record(task.key, ToyInference("toy", ToyParameters())(block))
    return publication.publish(place, plan.make(place, work, shard_rows=50), recipe)


def test_runs_after_zero_points(tmp_path: Path) -> None:
    """A run with nothing to do leaves them; a new release has none until the command is given again, and says so."""
    survey, weights = tmp_path / "my survey", write_weights(tmp_path / "weights")
    write_release(survey, "dr1", np.arange(1, 61), minutes=4)
    base, _ = publish(survey, weights)
    assert command_again(survey) is None
    rows = catalog.open(survey)
    table = {"obsid": rows["obsid"].values, "rv": rows["rv_obs_B"].values + 7.0}
    (tmp_path / "refs.csv").write_text(
        "obsid,rv\n" + "\n".join(f"{o},{v}" for o, v in zip(*table.values(), strict=True))
    )
    source = ReferenceSource(tmp_path / "refs.csv")
    first = calibrate(survey, source)
    np.testing.assert_allclose(open_zero_points(survey)["zero_point"].sel(arm="B"), 7.0, atol=1e-4)
    assert publish(survey, weights) == (first.catalog, False)
    assert Survey.at(survey).current == first.catalog
    assert catalog.open(survey, release="dr1").attrs["name"] == first.catalog.name
    assert command_again(survey) is None

    # A damaged one is passed over for what the run itself made, and can be made again.
    (first.catalog / "rv_abs_B" / "c" / "0").unlink()
    assert "such as 'twinlines zeropoints', makes it again" in " ".join(status(survey, verify=True).damaged or ())
    assert publish(survey, weights) == (base, False)
    assert calibrate(survey, source).new
    assert Survey.at(survey).current == first.catalog

    write_release(survey, "dr2", np.arange(51, 81), seed=5, day=1, minutes=4)
    newer, new = publish(survey, weights)
    assert new
    assert Survey.at(survey).current == newer != first.catalog
    assert np.isnan(catalog.open(survey)["rv_abs_B"].values).all()
    report = RunReport("k", ("dr1", "dr2"), 2, 1, 1, 90, 30, (), newer, True, 1.0, {"precision": "mixed"})
    out = io.StringIO()
    show_run(report, Console(file=out, width=300), command_again(survey))
    assert 'rv_abs_* have no values in this catalog yet, as the one before had; "twinlines' in out.getvalue()
    assert command_again(survey) == f"twinlines zeropoints --survey '{survey}' --reference {source.path} --match obsid"
    assert np.isfinite(catalog.open(survey, release="dr1")["rv_abs_B"].values).all()
    second = calibrate(survey, source)
    assert second.new
    assert second.made_of != first.made_of
    assert command_again(survey) is None
