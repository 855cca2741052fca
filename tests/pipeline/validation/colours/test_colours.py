"""The colour-magnitude diagram: what is in it and what is not, extinction, and a catalog with intrinsic colours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from typer.testing import CliRunner

from twinlines.pipeline.binaries.zeropoints.calibrated import calibrate, open_zero_points
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.cli import main
from twinlines.pipeline.figures.colours import candidates_figure, diagram_figure
from twinlines.pipeline.schema import CATALOG
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.testing.velocities import write_catalog
from twinlines.pipeline.testing.verdicts import MadeVerdicts, make_verdicts
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.validation.colours.diagram import Diagram, diagram, read_photometry
from twinlines.pipeline.validation.colours.extinction import A_G, E_BP_RP, from_map
from twinlines.pipeline.validation.colours.publish import publish
from twinlines.pipeline.validation.colours.sequence import EQUAL
from twinlines.pipeline.validation.observed import ValidationError

EBV = 0.1


@pytest.fixture(scope="module")
def made() -> MadeVerdicts:
    return make_verdicts(4, plates=6, stars=30, exposures=3)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time of a publication goes into making it outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def gaia(made: MadeVerdicts) -> Table:
    """Photometry of a main sequence, on which binaries are pairs of equal stars; reddened, with Gaia's names."""
    stars, rng = made.stars, np.random.default_rng(1)
    colour, parallax = rng.uniform(0.5, 1.5, len(stars)), rng.uniform(4.0, 10.0, len(stars))
    magnitude = 1.5 + 4.0 * colour - np.where(stars["binary"], EQUAL, 0.0) + rng.normal(0.0, 0.03, len(stars))
    table = Table(
        {
            "source_id": 10**18 + np.arange(len(stars)),
            "ra": stars["ra"],
            "dec": stars["dec"],
            "parallax": parallax,
            "parallax_error": np.full(len(stars), 0.1),
            "phot_g_mean_mag": magnitude - 5.0 * np.log10(parallax / 100.0) + A_G * EBV,
            "bp_rp": colour + E_BP_RP * EBV,
            "ruwe": np.ones(len(stars)),
            "ebv": np.full(len(stars), EBV),
        }
    )
    table["parallax"].unit = table["parallax_error"].unit = "mas"
    return table


def drawn(made: MadeVerdicts, table: Table, path: Path, **how: object) -> Diagram:
    table.write(path, overwrite=True)
    return diagram(made.catalog, read_photometry(path), **how)  # type: ignore[arg-type]


def test_equal_pairs_are_three_quarters_of_a_magnitude_above_single_stars(made: MadeVerdicts, tmp_path: Path) -> None:
    table = gaia(made)
    result = drawn(made, table, tmp_path / "gaia.fits")
    number = result.observed.obsid[result.observed.first_rows()] - 700_000_000
    np.testing.assert_allclose(result.colour, table["bp_rp"][number] - E_BP_RP * EBV, atol=1e-6)
    candidates = np.asarray(made.stars["recovered"])[number]
    np.testing.assert_array_equal(result.candidate, candidates)
    said = result.to_json()
    assert said["extinction"]["source"] == "columns"
    assert said["median_height"]["others"] == pytest.approx(0.0, abs=0.03)
    assert said["median_height"]["candidates"] == pytest.approx(EQUAL, abs=0.05)
    rates = {(row["from"], row["below"]): row for row in said["fraction_by_height"]}
    assert rates[-0.2, 0.2]["count"] == 0
    assert rates[0.6, 0.9]["value"] > 0.7
    assert sum(row["trials"] for row in said["fraction_by_height"]) == np.isfinite(result.height).sum()
    cells = result.cells()
    assert cells["stars"].sum() == result.shown.sum() == said["stars"]["with an absolute magnitude"]
    assert cells["candidates"].sum() == (result.shown & candidates).sum() == said["stars"]["candidates"]
    assert np.all((cells["fraction_low"] <= cells["fraction"]) & (cells["fraction"] <= cells["fraction_high"]))
    assert diagram_figure(result, tmp_path / "cmd.png").stat().st_size > 10_000
    assert candidates_figure(result, (), tmp_path / "candidates.png").stat().st_size > 10_000


def test_stars_without_a_usable_parallax_are_counted_and_not_shown(made: MadeVerdicts, tmp_path: Path) -> None:
    table = gaia(made)
    table["parallax"][1], table["parallax"][2], table["parallax"][4] = np.nan, -0.4, 2.9
    table["parallax_error"][5], table["ruwe"][8], table["bp_rp"][10] = 2.0, 1.7, np.nan
    table["bp_rp"][11] = 3.4
    table["phot_g_mean_mag"][11] -= 12.0
    table["ebv"][13] = np.nan
    result = drawn(made, table, tmp_path / "gaia.fits")
    number = result.observed.obsid[result.observed.first_rows()] - 700_000_000
    shown = dict(zip(number.tolist(), result.shown.tolist(), strict=True))
    judged = [star for star in shown if star % 7]
    assert {star for star in judged if not shown[star]} == {1, 2, 4, 5, 8, 10, 13}
    assert any(note.endswith("which have no distance and are not in the diagram: 1") for note in result.notes)
    assert any(note.endswith("without a parallax, which are not in the diagram: 1") for note in result.notes)
    colours = dict(zip(number.tolist(), result.colour.tolist(), strict=True))
    assert np.isfinite([colours[star] for star in (1, 2, 4, 5, 8)]).all()  # colours need no parallax
    assert np.isnan([colours[10], colours[13]]).all()


def test_candidates_that_are_too_red_are_shown_as_eliminated(made: MadeVerdicts, tmp_path: Path) -> None:
    table = gaia(made)
    red = int(made.stars["star"][made.stars["recovered"]][0])
    table["bp_rp"][red] = 4.0
    result = drawn(made, table, tmp_path / "gaia.fits")
    assert result.observed.obsid[result.observed.first_rows()][result.eliminated].tolist() == [700_000_000 + red]
    # And in a catalog that has the colour already.
    known = made.catalog.assign(bprp0=("exposure", np.where(made.catalog["obsid"] == 700_000_000 + red, 3.9, np.nan)))
    again = diagram(known, read_photometry(tmp_path / "gaia.fits"))
    assert again.eliminated.sum() == 1


def test_few_stars_have_no_main_sequence(made: MadeVerdicts, tmp_path: Path) -> None:
    result = drawn(made, gaia(made)[:9], tmp_path / "gaia.fits")
    assert len(result.ridge[0]) == 0
    assert np.isnan(result.height).all()
    assert diagram_figure(result, tmp_path / "cmd.png").exists()


def test_photometry_that_cannot_be_used(made: MadeVerdicts, tmp_path: Path) -> None:
    table = gaia(made)
    colourless = table.copy()
    colourless.remove_column("bp_rp")
    colourless.write(tmp_path / "colourless.fits")
    with pytest.raises(UserTableError, match="it has no colour"):
        read_photometry(tmp_path / "colourless.fits")
    undusted = table.copy()
    undusted.remove_column("ebv")
    assert drawn(made, undusted, tmp_path / "undusted.fits").extinction.source == "none"
    with pytest.raises(ValidationError, match=r"undusted\.fits has no columns of extinction"):
        drawn(made, undusted, tmp_path / "undusted.fits", source="columns")
    with pytest.raises(ValidationError, match="a scale of the dust map is given, but extinction comes from columns"):
        drawn(made, table, tmp_path / "gaia.fits", scale=0.9)


def test_a_map_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    position = np.array([10.0]), np.array([20.0]), np.array([100.0])
    monkeypatch.setitem(sys.modules, "dustmaps.bayestar", None)
    with pytest.raises(ValidationError, match=r"needs the package dustmaps .*'pip install twinlines\[dust\]'"):
        from_map("bayestar", *position)

    def missing(**_: str) -> None:
        raise OSError("no file bayestar2019.h5")

    module = ModuleType("dustmaps.bayestar")
    module.BayestarQuery = missing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dustmaps.bayestar", module)
    with pytest.raises(
        ValidationError, match=r"cannot be opened \(no file bayestar2019\.h5\).*dustmaps\.bayestar\.fetch"
    ):
        from_map("bayestar", *position)


def test_a_map_is_asked_where_stars_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the interface of dustmaps, whose maps take gigabytes."""

    class Query:
        def __init__(self, version: str) -> None:
            print(f"loading {version}")

        def __call__(self, where: SkyCoord, mode: str) -> np.ndarray:
            assert mode == "median"
            return np.asarray(where.distance.pc / 1000.0)

    module = ModuleType("dustmaps.bayestar")
    module.BayestarQuery = Query  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dustmaps.bayestar", module)
    found = from_map("bayestar", np.full(3, 10.0), np.full(3, 20.0), np.array([100.0, 500.0, np.nan]))
    np.testing.assert_allclose(found.e_bp_rp, [0.1 * 0.884 * E_BP_RP, 0.5 * 0.884 * E_BP_RP, np.nan])
    assert "E(B-V) = 0.5 of its unit" in from_map("bayestar", *np.full((3, 1), 10.0), scale=0.5).words


def test_colours_are_published_once_and_zero_points_stay(made: MadeVerdicts, tmp_path: Path) -> None:
    survey = tmp_path / "s"
    write_catalog(survey, "dr-1.zarr", made.catalog)
    table = gaia(made)
    table.write(tmp_path / "gaia.fits")
    arguments = ["validate", "cmd", "--survey", str(survey), "--photometry", str(tmp_path / "gaia.fits"), "--publish"]

    def told(*more: str) -> dict[str, object]:
        done = CliRunner().invoke(main.app, [*arguments, "--json", *more], catch_exceptions=False)
        return dict(json.loads(done.output)["published"])

    first = told()
    assert (first["new"], first["exposures"], first["rows"]) == (True, 540, 540)
    assert told()["new"] is False
    old, new = catalog.open(survey, "dr-1.zarr"), catalog.open(survey)
    for name in CATALOG.variables:
        if name != "bprp0":
            np.testing.assert_array_equal(new[name].values, old[name].values)
    star = new["obsid"].values - 700_000_000
    np.testing.assert_allclose(new["bprp0"].values, table["bp_rp"][star] - E_BP_RP * EBV, atol=1e-6)
    about = json.loads(new.attrs["colours"])
    assert (about["file"], new.attrs["made_of"]) == ("gaia.fits", "dr-1.zarr")
    # Zero points are computed of the catalog with colours, and keep them; other colours keep zero points.
    report = calibrate(survey)
    zero = catalog.open(survey)
    np.testing.assert_array_equal(zero["bprp0"].values, new["bprp0"].values)
    assert np.isfinite(zero["rv_abs_B"].values).all()
    assert told()["new"] is False
    assert not calibrate(survey).new
    bare = told("--extinction", "none")
    assert bare["new"]
    last = catalog.open(survey)
    np.testing.assert_allclose(last["bprp0"].values, table["bp_rp"][star], atol=1e-6)
    np.testing.assert_array_equal(last["rv_abs_B"].values, zero["rv_abs_B"].values)
    assert (
        open_zero_points(survey)["zero_point"].shape
        == open_zero_points(survey, report.catalog.name)["zero_point"].shape
    )
    assert len(Survey(survey).catalogs) == 4


def test_colours_that_cannot_be_published(made: MadeVerdicts, tmp_path: Path) -> None:
    survey = tmp_path / "s"
    write_catalog(survey, "dr-1.zarr", made.catalog)
    table = gaia(made)
    table.remove_column("ebv")
    result = drawn(made, table, tmp_path / "gaia.fits")
    with pytest.raises(
        ValidationError, match=r"colours are of the catalog dr-0\.zarr, but the current one is dr-1\.zarr"
    ):
        publish(survey, result, "dr-0.zarr")
    arguments = ["validate", "cmd", "--survey", str(survey), "--photometry", str(tmp_path / "gaia.fits"), "--publish"]
    done = CliRunner().invoke(main.app, arguments)
    assert done.exit_code == 1
    assert "bprp0 is an intrinsic colour" in str(done.exception)
    chunk = next(path for path in (survey / "catalogs" / "dr-1.zarr" / "ra").rglob("*") if path.name == "0")
    chunk.unlink()
    with pytest.raises(ValidationError, match="is damaged"):
        publish(survey, result, "dr-1.zarr")
    assert Survey(survey).catalogs == ("dr-1.zarr",)
