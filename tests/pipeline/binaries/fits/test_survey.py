"""Fits of a survey: nothing is fitted twice, nothing is lost, and what they are joined to is the same exposure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table
from distributed import Client
from typer.testing import CliRunner

from twinlines.pipeline.binaries.export import export_fits
from twinlines.pipeline.binaries.fits import store, survey
from twinlines.pipeline.binaries.fits.store import FitsError, join, open_fits, shows_two
from twinlines.pipeline.binaries.schema import FITS, SOURCES, FitQuality
from twinlines.pipeline.binaries.sources import survey as stars
from twinlines.pipeline.binaries.sources.binary import open_binary
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.catalog import CatalogError
from twinlines.pipeline.cli import main as cli
from twinlines.pipeline.ingest.ingestion import ingest
from twinlines.pipeline.jobs import locks
from twinlines.pipeline.jobs.locks import LockedError
from twinlines.pipeline.mock.release import MockConfig, MockDefects, make_release
from twinlines.pipeline.spectra.inference import InferenceParameters
from twinlines.pipeline.survey import compute

pytestmark = pytest.mark.filterwarnings(  # untrained networks are not those that evidence was calibrated with
    "ignore:the catalog is of the weights:twinlines.pipeline.binaries.sources.survey.CalibrationWarning"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of a mock release, each of two exposures."""
    folder = tmp_path_factory.mktemp("mock") / "fits"
    none = MockDefects(**dict.fromkeys(MockDefects.__dataclass_fields__, 0))
    config = replace(MockConfig(), defects=none, nights=(1, 1), exposures=(2, 2), median_snr=40.0)
    make_release(folder, stars=5, seed=4, config=config)
    return sorted(folder.rglob("med-*.fits.gz"))


def add_release(client: Client, folder: Path, files: list[Path], name: str, weights: Path) -> None:
    """Ingest files into a release, and publish its catalog."""
    place = folder.with_name(f"{folder.name}-{name}")
    place.mkdir()
    for file in files:
        shutil.copy(file, place)
    ingest(client, place, folder, name)
    compute.run(client, folder, weights=weights, parameters=InferenceParameters(n_draws=1))


@pytest.fixture(scope="module")
def fitted(
    client: Client, files: list[Path], untrained_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A survey of four files whose exposures are all fitted; only to be copied."""
    folder = tmp_path_factory.mktemp("fits") / "survey"
    add_release(client, folder, files[:4], "dr1", untrained_weights)
    report = survey.fit(client, folder, everything=True)
    assert report.complete
    assert report.fitted == report.asked == open_fits(folder).sizes["exposure"] > 4
    return folder


@pytest.fixture
def folder(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "survey"))


def test_what_is_fitted_is_not_fitted_again(client: Client, folder: Path) -> None:
    before = open_fits(folder).load()
    FITS.validate(before)
    order = np.lexsort((before.lmjm, before.obsid))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    report = survey.fit(client, folder, everything=True)
    assert (report.fitted, report.before) == (0, before.sizes["exposure"])
    assert report.double == int(shows_two(before).sum())
    xr.testing.assert_identical(open_fits(folder).load(), before)
    # Those of one star were asked for with the others.
    assert survey.fit(client, folder, obsids=[int(before.obsid[0])]).fitted == 0


def test_lost_and_damaged_results_are_fitted_again(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_fits(folder).load()
    shutil.rmtree(folder / "fits")
    monkeypatch.setattr(survey, "TASK_ROWS", 3)
    report = survey.fit(client, folder, everything=True)
    assert report.fitted == expected.sizes["exposure"]
    results = sorted((folder / "fits").rglob("results/*.zip"))
    assert len(results) == -(-report.fitted // 3)
    # As after a kill: a result without its marker, one that is cut short, and a store that was not finished.
    marker = next((folder / "fits").rglob("done/*.json"))
    marker.unlink()
    other = next(path for path in results if path.name.split(".")[0] != marker.stem)
    other.write_bytes(other.read_bytes()[:-7])
    (other.parent.parent / ".fits.1-deadbeef").mkdir()
    shutil.rmtree(next((folder / "fits").rglob("fits-*.zarr")))
    report = survey.fit(client, folder, everything=True)
    assert 0 < report.fitted <= 6
    found = open_fits(folder).load()
    assert not list((folder / "fits").rglob(".fits.*"))
    for name in ("obsid", "lmjm", "content_hash", "fit_pixels"):
        np.testing.assert_array_equal(found[name], expected[name])
    double = shows_two(expected)
    np.testing.assert_allclose(found.rv2[double], expected.rv2[double], atol=0.3)  # other batches, other last bits


def test_a_lost_result_costs_no_row_that_was_published(client: Client, folder: Path) -> None:
    before = open_fits(folder).load()
    for path in (folder / "fits").rglob("results/*.zip"):
        path.write_bytes(bytes(path.stat().st_size))  # of the right size
    report = survey.fit(client, folder, obsids=[int(before.obsid[0])])
    assert report.fitted == 0
    np.testing.assert_array_equal(open_fits(folder)["rv1"], before["rv1"])


def test_what_was_opened_stays_as_it_was(client: Client, folder: Path) -> None:
    shutil.rmtree(folder / "fits")
    rows = catalog.open(folder).load()
    survey.fit(client, folder, obsids=[int(rows.obsid.max())])
    opened = open_fits(folder)
    first = opened["rv1"].values.copy()
    survey.fit(client, folder, everything=True)
    np.testing.assert_array_equal(opened["rv1"].values, first)
    assert opened.sizes["exposure"] < open_fits(folder).sizes["exposure"]


def test_a_release_that_is_gone_is_named(client: Client, folder: Path) -> None:
    shutil.rmtree(folder / "fits")
    shutil.rmtree(folder / "releases" / "dr1")
    with pytest.raises(FitsError, match="come from dr1"):
        survey.fit(client, folder, everything=True)


@pytest.mark.parametrize("written", [b"", b"../../..", bytes(range(40))])
def test_a_damaged_pointer_is_named_and_mended(client: Client, folder: Path, written: bytes) -> None:
    (folder / "fits" / "CURRENT").write_bytes(written)
    with pytest.raises(FitsError, match="CURRENT is damaged"):
        open_fits(folder)
    assert survey.fit(client, folder, everything=True).fitted == 0
    open_fits(folder)


def test_a_damaged_store_is_named_and_made_again(client: Client, folder: Path) -> None:
    (path,) = (folder / "fits").rglob("fits-*.zarr")
    chunk = next(file for file in (path / "rv1" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(bytes(chunk.stat().st_size))
    with pytest.raises(FitsError, match="is damaged"):
        store.load_fits(folder)
    assert survey.fit(client, folder, everything=True).fitted == 0
    assert store.load_fits(folder).sizes["exposure"] > 4


def test_a_new_release_costs_its_new_rows(
    client: Client, folder: Path, files: list[Path], untrained_weights: Path
) -> None:
    before = open_fits(folder).load()
    add_release(client, folder, files[4:], "dr2", untrained_weights)
    rows = catalog.open(folder).load()
    fresh = rows.sizes["exposure"] - before.sizes["exposure"]
    assert fresh > 0
    missing = join(rows, open_fits(folder))
    assert int((missing.fit_quality == FitQuality.NO_SPECTRUM).sum()) == fresh
    report = survey.fit(client, folder, everything=True)
    assert (report.fitted, report.before) == (fresh, before.sizes["exposure"])
    joined = join(rows, open_fits(folder))
    assert not (joined.fit_quality == FitQuality.NO_SPECTRUM).any()
    np.testing.assert_array_equal(joined.obsid, rows.obsid)
    # Each row has its own exposure's fit.
    fits = open_fits(folder).load()
    where = {key: row for row, key in enumerate(zip(fits.obsid.values, fits.lmjm.values, strict=True))}
    own = [where[key] for key in zip(rows.obsid.values, rows.lmjm.values, strict=True)]
    np.testing.assert_array_equal(joined.rv1, fits.rv1.values[own])
    # An exposure that has changed since has no fit.
    changed = rows.assign(content_hash=rows.content_hash + np.uint64(1))
    assert (join(changed, fits).fit_quality == FitQuality.NO_SPECTRUM).all()
    assert np.isnan(join(changed, fits).rv1).all()
    assert join(rows.isel(exposure=[]), fits).sizes["exposure"] == 0


def test_what_the_networks_doubt_is_fitted_if_asked_for(client: Client, folder: Path) -> None:
    said = catalog.open(folder).sb2.probability("J").values
    middle = float(np.nanmedian(said))
    report = survey.fit(client, folder, least_probability=middle)
    assert report.asked == np.count_nonzero(said >= middle)
    assert 0 < report.asked < len(said)
    assert survey.fit(client, folder, least_probability=0.0).asked == np.count_nonzero(np.isfinite(said))


def test_what_cannot_be_fitted_is_said(client: Client, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FitsError, match="no exposure of obsid 5"):
        survey.fit(client, folder, obsids=[5])
    for several in ({"obsids": [5], "everything": True}, {"everything": True, "least_probability": 0.1}):
        with pytest.raises(FitsError, match="of some probability are asked for; give one"):
            survey.fit(client, folder, **several)  # type: ignore[arg-type]
    with pytest.raises(FitsError, match="the least probability is 3; give a number from 0 to 1"):
        survey.fit(client, folder, least_probability=3)
    with pytest.raises(CatalogError, match="there is no survey"):
        survey.fit(client, tmp_path / "nowhere")
    with (
        locks.lock(folder, "twinlines binaries fit", survey.LOCK),
        pytest.raises(LockedError, match="binaries fit"),
    ):
        survey.fit(client, folder)
    shutil.rmtree(folder / "fits")
    with pytest.raises(FitsError, match="'twinlines binaries fit --survey"):
        open_fits(folder)
    with pytest.raises(FitsError, match="there is no survey at"):
        open_fits(tmp_path / "nowhere")
    with pytest.raises(FitsError, match="no fits of two stars yet"):
        export_fits(folder, tmp_path / "binaries.fits")


def test_the_commands_show_and_write_fits(folder: Path, tmp_path: Path) -> None:
    fits = open_fits(folder).load()
    double = int(shows_two(fits).sum())
    shown = CliRunner().invoke(cli.app, ["binaries", "list", "--survey", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert f"{double} exposures" in shown.output
    every = CliRunner().invoke(cli.app, ["binaries", "list", "--survey", str(folder), "--all", "--json"])
    assert every.output.count('"fit_quality"') == fits.sizes["exposure"]
    out = tmp_path / "fits.fits"
    written = CliRunner().invoke(cli.app, ["binaries", "export", "--survey", str(folder), str(out), "--all"])
    assert written.exit_code == 0, written.output
    table = Table.read(out)
    assert len(table) == fits.sizes["exposure"]
    assert str(table["rv1"].unit) == "km / s"
    assert set(FITS.variables) < set(table.colnames)
    order = np.lexsort((table["lmjm"], table["obsid"]))
    np.testing.assert_array_equal(table["rv2"][order], fits.rv2.values)
    again = CliRunner().invoke(cli.app, ["binaries", "export", "--survey", str(folder), str(out)])
    assert again.exit_code == 1


def test_stars_of_a_survey_are_kept_beside_its_fits(folder: Path) -> None:
    with pytest.raises(FitsError, match="has no stars yet"):
        stars.open_sources(folder)
    table = stars.make_sources(folder)
    SOURCES.validate(table)
    fits = open_fits(folder).load()
    rows = catalog.open(folder).load()
    assert table.sizes["source"] == 4  # each a file
    assert set(table["obsid"].values.tolist()) == set(rows["obsid"].values.tolist())
    assert int(table["epochs"].sum()) == rows.sizes["exposure"]
    assert int(table["epochs_fitted"].sum()) == fits.sizes["exposure"]
    assert int(table["epochs_double"].sum()) <= int(shows_two(fits).sum())
    assert np.isnan(table["period"]).all()  # no orbit was asked for
    kept = stars.open_sources(folder).load()
    for name in SOURCES.variables:
        np.testing.assert_array_equal(kept[name], table[name])
    with pytest.raises(FitsError, match="the radius of a star is -1"):
        stars.make_sources(folder, radius=-1.0)
    again = stars.make_sources(folder)
    for name in SOURCES.variables:
        np.testing.assert_array_equal(again[name], table[name])
    listed = CliRunner().invoke(cli.app, ["binaries", "sources", "--survey", str(folder)])
    assert listed.exit_code == 0, listed.output
    double = int((table["epochs_double"] > 0).sum())
    assert f"{double} stars with two sets of lines" in listed.output
    everything = ["--least-probability", "0", "--prevalence", "0.5", "--json"]
    told = CliRunner().invoke(cli.app, ["binaries", "sources", "--survey", str(folder), *everything])
    assert told.exit_code == 0, told.output
    assert told.output.count('"sb2_probability"') == 4
    common = stars.open_sources(folder).load()
    assert common.attrs["prevalence"] == {"sb2": 0.5, "sb1": 0.05}
    assert (np.sort(common["sb2_probability"]) > np.sort(table["sb2_probability"])).all()
    wrong = CliRunner().invoke(cli.app, ["binaries", "sources", "--survey", str(folder), "--prevalence", "1.5"])
    assert wrong.exit_code == 1
    assert "the prevalence of SB2s is 1.5; give" in str(wrong.exception)
    # The star's spectra come from the release, in the order of its exposures.
    binary = open_binary(folder, int(table["obsid"][0]))
    assert binary.spectra is not None
    for name in ("obsid", "lmjm", "content_hash"):
        np.testing.assert_array_equal(binary.spectra[name], binary.exposures[name])
    picture = folder / "binary.png"
    command = ["catalog", "source", str(int(table["obsid"][0])), "--survey", str(folder), "--figure", str(picture)]
    shown = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert "no orbit was asked for since its velocities are these" in shown.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_other_exposures_of_the_same_stars_are_fitted_if_asked_for(client: Client, folder: Path) -> None:
    rows = catalog.open(folder).load()
    one = int(rows.obsid[0])
    shutil.rmtree(folder / "fits")
    assert survey.fit(client, folder, obsids=[one]).asked == int((rows.obsid == one).sum())
    position = rows.isel(exposure=0)
    near = (abs(rows.ra - position.ra) < 1e-3) & (abs(rows.dec - position.dec) < 1e-3)
    report = survey.fit(client, folder, obsids=[one], whole_stars=True)
    assert report.asked == int(near.sum())
