"""Other people's tables against the catalog: all pairs, and tables that have no positions, or not in degrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
import xarray as xr
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, Table

from twinlines.pipeline.catalog import catalog, crossmatch, matches
from twinlines.pipeline.catalog.crossmatch import PositionsError, positions
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.survey.folder import Survey


def some_positions(sky: xr.Dataset) -> Table:
    """Positions beside some of the catalog's rows, others that are nowhere near, and one that is missing."""
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.arange(0, len(sky["ra"]), 37), [0, 0]])
    ra = sky["ra"].values[rows] + rng.normal(0.0, 2e-4, len(rows))
    dec = np.clip(sky["dec"].values[rows] + rng.normal(0.0, 2e-4, len(rows)), -90.0, 90.0)
    ra[::9] += 3.0
    ra %= 360.0
    return Table({"name": [f"star {row}" for row in range(len(ra))], "RA_ICRS": ra * u.deg, "DE_ICRS": dec * u.deg})


@pytest.mark.parametrize("radius", [0.5, 3.0, 60.0, 1800.0])
def test_pairs_are_those_of_a_look_at_every_row(sky: xr.Dataset, whole: Survey, radius: float) -> None:
    table = some_positions(sky)
    match = catalog.open(whole.path).sb2.crossmatch(table, radius)
    theirs = SkyCoord(sky["ra"].values, sky["dec"].values, unit="deg")
    expected: list[tuple[int, int]] = []
    for row, (ra, dec) in enumerate(zip(table["RA_ICRS"], table["DE_ICRS"], strict=True)):
        if np.isfinite(ra):
            apart = theirs.separation(SkyCoord(ra, dec, unit="deg")).arcsec
            expected += [(row, int(found)) for found in np.flatnonzero(apart <= radius)]
    assert len(expected) > 50
    assert sorted(zip(match.table_row.tolist(), match.row.tolist(), strict=True)) == expected
    assert (np.diff(match.table_row) >= 0).all()
    same = np.diff(match.table_row) == 0
    assert (np.diff(match.separation)[same] >= 0.0).all()
    assert match.exposures.sum() == len(expected)
    matched = np.flatnonzero(match.exposures)
    assert (match.nearest[match.exposures == 0] == -1).all()
    assert match.nearest[matched].tolist() == [match.row[match.table_row == row][0] for row in matched]
    said = match.to_json()
    assert (said["columns"], said["units"]) == ({"ra": "RA_ICRS", "dec": "DE_ICRS"}, {"ra": "deg", "dec": "deg"})
    assert said["rows_without_position"] == int(np.isnan(table["RA_ICRS"]).sum()) > 0


def test_pairs_have_their_exposures_beside_them(sky: xr.Dataset, whole: Survey) -> None:
    opened = catalog.open(whole.path)
    match = opened.sb2.crossmatch(some_positions(sky), 3.0)
    rows = match.rows(opened)
    assert rows["lmjm"].values.tolist() == sky["lmjm"].values[match.row].tolist()
    assert rows["table_row"].values.tolist() == match.table_row.tolist()
    assert rows["separation"].attrs["units"] == "arcsec"


def test_blocks_do_not_matter(sky: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    table = some_positions(sky)
    one = sky.sb2.crossmatch(table, 60.0)
    monkeypatch.setattr(crossmatch, "BLOCK_ROWS", 100)
    many = sky.sb2.crossmatch(table, 60.0)
    for name in ("table_row", "row", "separation"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    monkeypatch.setattr(crossmatch, "MOST_PAIRS", 30)
    with pytest.raises(CatalogError, match=r"more than 30 exposures lie within 60 arcsec .* give a smaller radius"):
        sky.sb2.crossmatch(table, 60.0)


RA, DEC = np.array([10.0, 120.0, 250.0, 359.0]), np.array([-3.0, 33.0, 60.0, 88.0])


@pytest.mark.parametrize(
    "table",
    [
        {"ra": RA, "dec": DEC},
        Table({"RAJ2000": Column(np.radians(RA), unit="rad"), "DEJ2000": Column(np.radians(DEC), unit="rad")}),
        Table({"ra": Column(RA / 15.0, unit="hourangle"), "dec": Column(DEC, unit="deg")}),
        Table({"RA": Column(RA / 15.0, unit="h"), "Dec": Column(DEC * 3600.0, unit="arcsec")}),
        Table({"id": [1, 2, 3, 4], "Ra_Deg": RA.astype(np.float32), "DEC_deg": DEC}),
        xr.Dataset({"ra": ("star", RA), "dec": ("star", DEC)}),
    ],
)
def test_units_are_those_of_the_columns(table: Any) -> None:
    found = positions(table)
    np.testing.assert_allclose(found.ra, RA, atol=1e-9)
    np.testing.assert_allclose(found.dec, DEC, atol=1e-9)


def test_units_can_be_said() -> None:
    radians = {"a": np.radians(RA), "d": np.radians(DEC)}
    np.testing.assert_allclose(positions(radians, ra="a", dec="d", unit="rad").ra, RA)
    hours = positions({"ra": RA / 15.0, "dec": DEC}, unit="hour")
    np.testing.assert_allclose(hours.ra, RA)
    np.testing.assert_allclose(hours.dec, DEC)
    degrees = positions({"ra": RA / 15.0, "dec": DEC}, unit="deg")
    np.testing.assert_allclose(degrees.ra, RA / 15.0)
    with pytest.raises(PositionsError, match=r"unit of positions is 'degrees'; give 'deg', 'rad' or 'hour'"):
        positions({"ra": RA, "dec": DEC}, unit="degrees")


def test_what_is_missing_is_counted() -> None:
    ra = MaskedColumn([*RA, 7.0], mask=[False, True, False, False, False], unit="deg")
    found = positions(Table({"ra": ra, "dec": Column([*DEC, np.nan], unit="deg")}))
    assert found.placed.tolist() == [True, False, True, True, False]
    assert found.notes == ("2 of its 5 rows have no position",)


LISTS: dict[str, tuple[Any, str]] = {
    "no positions": (
        {"name": ["a"], "period": [3.0]},
        r"no column of ra, by any of the names ra, .*period",
    ),
    "no declination": (
        {"ra": RA, "period": RA},
        r"it has no column of dec, by any of the names dec, .*; it has ra, period; name its columns",
    ),
    "nothing": ({}, r"no column of ra, .*; it has none"),
    "text": ({"ra": ["19 28 13.9", "x"], "dec": DEC[:2]}, r"row 1 has 'x' in 'ra'; it is taken for ra, in hours"),
    "truth": ({"ra": DEC > 0, "dec": DEC}, r"'ra' holds bool, and no numbers"),
    "vectors": ({"ra": np.ones((4, 2)), "dec": DEC}, r"'ra' has 1 dimensions besides its rows"),
    "lengths": ({"ra": RA, "dec": DEC[:3]}, r"4 right ascensions go with 3 declinations"),
    "another unit": (
        Table({"ra": Column(RA, unit="km"), "dec": DEC}),
        r"'ra' is in 'km', which is no unit of ra; give it in deg",
    ),
    "hours of declination": (
        Table({"ra": Column(RA, unit="deg"), "dec": Column(DEC, unit="h")}),
        r"'dec' is in 'h', which is no unit",
    ),
    "swapped": ({"ra": DEC, "dec": RA}, r"row 1 is at ra 33, dec 120 deg.*'ra' and 'dec' look swapped"),
    "beyond": ({"ra": RA, "dec": DEC + 10.0}, r"row 3 is at ra 359, dec 98 deg, which is no position"),
    "arcseconds": ({"ra": RA * 3600.0, "dec": DEC * 3600.0}, r"row 0 is at ra 36000, dec -10800 deg"),
    "said degrees": (Table({"ra": Column(RA * 60, unit="deg"), "dec": DEC}), r"row 0 is at ra 600, dec -3 deg"),
    "radians": ({"ra": np.radians(RA), "dec": np.radians(DEC)}, r"look like radians: .*; say --unit rad, or deg"),
    "hours": ({"ra": RA / 15.0, "dec": DEC}, r"look like hours: right ascensions lie between 0.66.*; say --unit hour"),
    "all missing": ({"ra": [np.nan] * 2, "dec": DEC[:2]}, r"none of its 2 rows has a position in ra and dec"),
}


@pytest.mark.parametrize("what", LISTS)
def test_lists_without_positions_are_refused(what: str, sky: xr.Dataset) -> None:
    table, message = LISTS[what]
    with pytest.raises(CatalogError, match=message):
        sky.sb2.crossmatch(table, 3.0)


def test_small_lists_that_could_be_anything_are_taken_with_a_note() -> None:
    found = positions({"ra": RA[:2] / 15.0, "dec": DEC[:2]})
    assert found.notes[0] == "columns without a unit are taken as they usually are: 'ra', 'dec' in deg"
    field = positions({"ra": [19.1, 19.3, 19.5], "dec": [40.0, 41.0, 42.0]})
    assert any("if these are hours, say so (--unit hour)" in note for note in field.notes)


def test_files_and_columns_that_are_not_there(sky: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"there is no table .*none\.fits; give a FITS"):
        sky.sb2.crossmatch(tmp_path / "none.fits")
    (tmp_path / "x.fits").write_text("no table")
    with pytest.raises(CatalogError, match=r"x\.fits cannot be read as a table"):
        sky.sb2.crossmatch(tmp_path / "x.fits")
    with pytest.raises(CatalogError, match=r"it has no column of ra: 'RA', as was asked for; it has ra, dec"):
        sky.sb2.crossmatch({"ra": RA, "dec": DEC}, ra="RA")
    for radius, message in ((0.0, "between 0 and 3600"), (4000.0, "asked: 4000"), (3.0 * u.s, "no angle")):
        with pytest.raises(CatalogError, match=message):
            sky.sb2.crossmatch({"ra": RA, "dec": DEC}, radius)
    assert sky.sb2.crossmatch({"ra": [], "dec": []}, 3.0).to_json()["pairs"] == 0


@pytest.mark.parametrize("suffix", matches.FORMATS)
def test_pairs_are_written_for_others_to_read(sky: xr.Dataset, whole: Survey, tmp_path: Path, suffix: str) -> None:
    opened, path = catalog.open(whole.path), tmp_path / f"pairs{suffix}"
    match = opened.sb2.crossmatch(some_positions(sky), 3.0)
    matches.write(matches.table(match, opened), path)
    again = Table.read(path)
    assert again["table_row"].tolist() == match.table_row.tolist()
    np.testing.assert_allclose(again["separation"], match.separation)
    p50 = np.ma.filled(np.ma.asarray(again["p50_J"]), np.nan)
    np.testing.assert_allclose(p50, sky["pb_pct_J_16"].values[match.row, 2], rtol=1e-6)
    with pytest.raises(CatalogError, match="exists already"):
        matches.write(again, path)
    with pytest.raises(CatalogError, match=r"no format that is known here; give one of \.fits"):
        matches.check(tmp_path / "pairs.txt")
    with pytest.raises(CatalogError, match="no folder"):
        matches.check(tmp_path / "none/pairs.csv")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
