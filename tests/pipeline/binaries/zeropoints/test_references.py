"""Tables of references: what is read, what is refused and how that is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from twinlines.pipeline.binaries.zeropoints.references import (
    NO_MATCH,
    ReferenceColumns,
    References,
    ReferenceTableError,
    read,
)


def gaia(rows: int = 6) -> Table:
    """A table as Gaia's archive gives it, with columns that are of no use here."""
    number = np.arange(rows)
    table = Table({"solution_id": number, "source_id": 2_000_000_000_000_000_000 + number})
    table["ra"], table["dec"] = (10.0 + number) * u.deg, (-30.0 + 20.0 * number) * u.deg
    table["radial_velocity"] = MaskedColumn(10.0 * number, mask=number == 3, unit="km / s")
    table["radial_velocity_error"] = np.linspace(0.2, 2.0, rows).astype(np.float32) * u.km / u.s
    return table


def written(tmp_path: Path, table: Table, name: str = "gaia.fits") -> Path:
    table.write(tmp_path / name, overwrite=True)
    return tmp_path / name


def without_unit(table: Table, name: str) -> None:
    table[name].unit = None


@pytest.mark.parametrize("name", ["gaia.fits", "gaia.fits.gz", "gaia.ecsv", "gaia.csv", "gaia.vot"])
def test_formats_of_archives_give_the_same_stars(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    gaia().write(path, format="votable" if name.endswith(".vot") else None)
    stars = read(path)
    assert stars.by == "position"
    assert stars.columns == {
        "ra": "ra",
        "dec": "dec",
        "velocity": "radial_velocity",
        "error": "radial_velocity_error",
    }
    assert stars.velocity.tolist() == [0.0, 10.0, 20.0, 40.0, 50.0]
    assert stars.rows == 6
    assert "1 of its 6 rows lack a velocity, its error or a position: left out" in stars.notes
    assert any("'ra', 'dec' in deg" in note for note in stars.notes) == (name == "gaia.csv")


def test_units_are_converted_and_columns_may_have_other_names(tmp_path: Path) -> None:
    table = gaia()
    table["RAJ2000"], table["DEJ2000"] = table["ra"].to(u.arcsec), table["dec"].to(u.rad)
    table["cz"] = table["radial_velocity"].filled(np.nan).to(u.m / u.s)
    table.remove_columns(["ra", "dec", "radial_velocity", "radial_velocity_error"])
    stars = read(written(tmp_path, table), ReferenceColumns(velocity="cz"))
    assert stars.ra is not None
    np.testing.assert_allclose(stars.ra, [10.0, 11.0, 12.0, 14.0, 15.0])
    np.testing.assert_allclose(stars.velocity, [0.0, 10.0, 20.0, 40.0, 50.0])
    assert stars.error.tolist() == [0.0] * 5
    assert "it has no column of errors: its velocities count as exact" in stars.notes
    assert stars.to_json()["columns"] == {"ra": "RAJ2000", "dec": "DEJ2000", "velocity": "cz"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.remove_column("radial_velocity"), "no column of velocity, by any of the names radial_vel"),
        (lambda table: table.remove_column("dec"), "no column of dec, by any.*source_id alone does not do.*it has sol"),
        (lambda table: table.keep_columns(["source_id"]), "no column of ra, .*; dec, .*; velocity, "),
        (lambda table: table["radial_velocity"].__setattr__("unit", "mag"), "'radial_velocity' is in 'mag', which is"),
        (lambda table: table["ra"].__setattr__("unit", "km"), "'ra' is in 'km', which is no unit of ra; give"),
        (lambda table: table["dec"].__setitem__(4, 120.0), "row 4 is at ra 14, dec 120 deg, which is no position"),
        (lambda table: table["source_id"].__setitem__(5, table["source_id"][2]), "source_id 2.*2 stands in rows 2 and"),
        (lambda table: table["radial_velocity_error"].__setitem__(1, -1), "row 1 has the error -1; an error is 0"),
        (lambda table: table["radial_velocity"].mask.__setitem__(slice(None), True), "no row has a finite 'radial_vel"),
        (lambda table: table.replace_column("ra", np.array(list("abcdef"))), "row 0 has 'a' in 'ra', which is"),
        (lambda table: table.replace_column("dec", np.zeros((6, 2))), "'dec' has 1 dimensions besides its rows"),
        (lambda table: table.remove_rows(slice(None)), "it has no row"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_by_name_and_row(
    tmp_path: Path, spoil: Callable[[Table], None], message: str
) -> None:
    table = gaia()
    spoil(table)
    with pytest.raises(ReferenceTableError, match=message) as refused:
        read(written(tmp_path, table))
    assert str(tmp_path / "gaia.fits") in str(refused.value)


def test_velocities_in_metres_without_a_unit_are_told_by_their_size(tmp_path: Path) -> None:
    table = gaia()
    table["radial_velocity"] = table["radial_velocity"] * 1000.0
    without_unit(table, "radial_velocity")
    with pytest.raises(ReferenceTableError, match="row 1 is 10000, too fast for a star in km/s; give the column its"):
        read(written(tmp_path, table))


def test_two_rows_of_one_place_are_refused_and_rows_without_a_velocity_may_repeat(tmp_path: Path) -> None:
    table = gaia()
    table.remove_column("source_id")
    table["ra"][5], table["dec"][5] = table["ra"][3], table["dec"][3]  # row 3 has no velocity
    assert len(read(written(tmp_path, table)).velocity) == 5
    table["ra"][5], table["dec"][5] = table["ra"][1], table["dec"][1]
    with pytest.raises(ReferenceTableError, match=r"position 11.000000, -10.000000 stands in rows 1 and 5, and 1 rows"):
        read(written(tmp_path, table))


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReferenceTableError, match=r"there is no table of references .*nowhere.fits; give a FITS"):
        read(tmp_path / "nowhere.fits")
    for name, content in (("page.fits", "<html>"), ("notes.docx", "PK"), ("empty.csv", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ReferenceTableError, match=f"{name}"):
            read(tmp_path / name)
    with pytest.raises(ReferenceTableError, match=r"no column of velocity: 'vr', as was asked for; it has solution_id"):
        read(written(tmp_path, gaia()), ReferenceColumns(velocity="vr"))


def test_exposures_get_the_nearest_star(tmp_path: Path) -> None:
    table = gaia()
    table["ra"][1], table["dec"][1] = table["ra"][0] + 2.0 / 3600.0, table["dec"][0]
    stars = read(written(tmp_path, table))
    ra = np.array([10.0, 10.0 + 1.5 / 3600.0, 10.0 + 9.0 / 3600.0, np.nan, 12.0, 370.0])
    dec = np.array([-30.0, -30.0, -30.0, -30.0, 10.0, -30.0])
    assert stars.match(np.zeros(6, np.int64), ra, dec).tolist() == [0, 1, NO_MATCH, NO_MATCH, 2, 0]
    assert stars.match(np.zeros(6, np.int64), ra, dec, 10.0).tolist() == [0, 1, 1, NO_MATCH, 2, 0]
    with pytest.raises(ReferenceTableError, match=r"none of its 5 rows lies within 3 arcsec.*'ra' runs from 10.0000"):
        stars.match(np.zeros(1, np.int64), np.array([200.0]), np.array([0.0]))
    with pytest.raises(ReferenceTableError, match="no exposure of the catalog has a position"):
        stars.match(np.zeros(1, np.int64), np.array([np.nan]), np.array([0.0]))


def test_stars_are_matched_by_obsid(tmp_path: Path) -> None:
    table = gaia()
    table["obsid"] = [30, 10, 20, 10, 50, 40]  # 10 is twice, but one of the two has no velocity
    assert read(written(tmp_path, table)).by == "position"
    stars = read(written(tmp_path, table), by="obsid")
    obsid = np.array([10, 20, 30, 40, 50, 60, 5])
    row = stars.match(obsid, *[np.full(7, np.nan)] * 2)
    assert row[5:].tolist() == [NO_MATCH] * 2
    assert stars.velocity[row[:5]].tolist() == [10.0, 20.0, 0.0, 50.0, 40.0]
    with pytest.raises(
        ReferenceTableError, match=r"none of its 5 obsids \(10 to 50\) is that of an exposure of the catalog \(7 to 7\)"
    ):
        stars.match(np.array([7]), np.zeros(1), np.zeros(1))
    table["obsid"][2] = 40
    with pytest.raises(ReferenceTableError, match="the obsid 40 stands in rows 2 and 5, and 1 rows in all repeat one"):
        read(written(tmp_path, table), by="obsid")
    table.remove_columns(["ra", "dec"])
    table["obsid"] = [f"{number}" for number in range(6)]
    only: References = read(written(tmp_path, table))
    assert only.by == "obsid"
    table["obsid"] = list("abcdef")
    with pytest.raises(ReferenceTableError, match=r"row 0 has 'a' in 'obsid'; identifiers are whole numbers"):
        read(written(tmp_path, table))
