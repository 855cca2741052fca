"""Other people's tables: the same stars whatever the format, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.usertables.stars import StarTable, read_stars

RA, DEC = np.array([10.25, 359.999, 120.5]), np.array([-0.5, 60.125, -5.75])
PERIOD = np.array([1.5, 22.0, np.nan])


def read(path: Path, **settings: Any) -> StarTable:
    """The table, without its columns."""
    return read_stars(path, **settings)[0]


def table() -> Table:
    made = Table({"name": ["a", "b", "c"], "RAJ2000": RA, "DEJ2000": DEC, "Per": PERIOD})
    made["RAJ2000"].unit = made["DEJ2000"].unit = "deg"
    made["Per"].unit = "d"
    return made


@pytest.mark.parametrize("ending", [".fits", ".ecsv", ".csv", ".vot", ".mrt", ".parquet"])
def test_every_format_holds_the_same_stars(tmp_path: Path, ending: str) -> None:
    path, made = tmp_path / f"list{ending}", table()
    formats = {".fits": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".vot": "votable", ".mrt": "ascii.mrt"}
    formats |= {".parquet": "parquet"}
    if ending == ".mrt":
        made["Per"] = np.nan_to_num(made["Per"], nan=99.0)
        made["Per"].unit = "d"
    made.write(path, format=formats[ending])
    if ending == ".csv":
        path.write_text(f"# a list of\n# somebody\n{path.read_text()}")
    found = read(path, wanted=("period", "name"))
    np.testing.assert_allclose(found.values["ra"], RA, atol=1e-6)
    np.testing.assert_allclose(found.values["dec"], DEC, atol=1e-6)
    np.testing.assert_allclose(found.values["period"][:2], PERIOD[:2])
    assert (found.label, found.rows) == ("list", 3)
    if ending != ".mrt":  # whose writer makes RAh to DEs of names that it knows, or leaves these as they are
        assert found.columns == {"ra": "RAJ2000", "dec": "DEJ2000", "period": "Per", "name": "name"}
        assert np.isnan(found.values["period"][2])
    assert bool(found.notes) == (ending == ".csv")  # a table without units


def test_sexagesimal_text_and_the_columns_of_machine_readable_tables(tmp_path: Path) -> None:
    sky = SkyCoord(RA, DEC, unit="deg")
    text = Table({"RA": sky.ra.to_string("hour", sep=":", precision=4), "Dec": sky.dec.to_string(sep=" ", precision=3)})
    text.write(tmp_path / "text.csv")
    machine = Table(
        {
            "RAh": sky.ra.hms.h.astype(int),
            "RAm": sky.ra.hms.m.astype(int),
            "RAs": sky.ra.hms.s,
            "DE-": np.where(DEC < 0.0, "-", "+"),
            "DEd": np.abs(sky.dec.dms.d).astype(int),
            "DEm": np.abs(sky.dec.dms.m).astype(int),
            "DEs": np.abs(sky.dec.dms.s),
        }
    )
    machine.write(tmp_path / "machine.fits")
    for name in ("text.csv", "machine.fits"):
        found = read(tmp_path / name)
        np.testing.assert_allclose(found.values["ra"], RA, atol=1e-6)
        np.testing.assert_allclose(found.values["dec"], DEC, atol=1e-6)  # of which one is -00:30


def test_units_are_converted(tmp_path: Path) -> None:
    made = Table({"ra": RA / 15.0, "dec": np.radians(DEC), "period": 24.0 * PERIOD})
    made["ra"].unit, made["dec"].unit, made["period"].unit = "hourangle", "rad", "h"
    made.write(tmp_path / "list.ecsv")
    found = read(tmp_path / "list.ecsv", wanted=("period",))
    np.testing.assert_allclose(found.values["ra"], RA)
    np.testing.assert_allclose(found.values["dec"], DEC)
    np.testing.assert_allclose(found.values["period"][:2], PERIOD[:2])


def test_rows_without_a_position_stay(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("ra,dec\n1.0,2.0\n,\n3.0,4.0\n")
    found = read(tmp_path / "list.csv")
    assert found.rows == 3
    assert np.isnan(found.values["ra"][1])
    assert "1 of its 3 rows have no position" in found.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "star,mag\na,1\n",
            r"list\.csv: it has no column of ra, .*raj2000.*; dec, .*, nor an obsid .*; it has star",
        ),
        ("source_id,mag\n5,1\n", "a Gaia source_id alone does not do, as the catalog has none"),
        (
            "ra,dec\n10,20\n30,120\n",
            "row 1 is at ra 30, dec 120 deg, .*; 'ra' and 'dec' look swapped",
        ),
        ("ra,dec\n10,twenty\n", "row 0 has 'twenty' in 'dec', which is no number; it is taken for dec"),
        ("ra,dec\n,\n,\n", "none of its 2 rows has a position in ra and dec"),
        ("ra,dec,period\n1,2,long\n", "row 0 has 'long' in 'period', which is no number"),
        ("obsid\nabc\n", "row 0 has 'abc' in 'obsid'; identifiers are whole numbers"),
        ("ra,dec\n", "has no row"),
        ("ra,dec\n18:36:56,38:47:01\n5.5,1\n", "row 1 has '5.5' in 'ra'; it is taken for ra, in hours, minutes"),
        ("ra,dec\n18:36:56,38:99:01\n", "row 0 has '38:99:01' in 'dec', .*minute.*; it is taken for dec, in degrees"),
        ("RAh,RAm,RAs,DEd,DEm,DEs\n1,2,3,4,75,6\n", "row 0 has DEm = 75; give 0 to 60"),
        ("ra,dec\n400,20\n", "row 0 is at ra 400, dec 20 deg, which is no position"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserTableError, match=message):
        read(tmp_path / "list.csv", wanted=("period",))


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserTableError, match="there is no table"):
        read(tmp_path / "none.fits")
    (tmp_path / "page.fits").write_text("<html>503</html>")
    with pytest.raises(UserTableError, match=r"page\.fits"):
        read(tmp_path / "page.fits")
    made = table()
    made["Per"].unit = "km"
    made.write(tmp_path / "list.ecsv")
    with pytest.raises(UserTableError, match="'Per' is in 'km', which is no unit of period; give it in d"):
        read(tmp_path / "list.ecsv", wanted=("period",))
    with pytest.raises(UserTableError, match="no column of period: 'P', as was asked for; it has name"):
        read(tmp_path / "list.ecsv", wanted=("period",), asked={"period": "P"})
    with pytest.raises(UserTableError, match="no column of parallax, by any of the names parallax"):
        read(tmp_path / "list.ecsv", needed=("parallax",))
    with pytest.raises(UserTableError, match="no quantity 'colour' to name a column of; there are ra, dec, obsid"):
        read(tmp_path / "list.ecsv", asked={"colour": "Per"})


def test_missing_values_of_parquet_files_are_missing(tmp_path: Path) -> None:
    deg = {"unit": "deg"}
    schema = pa.schema(
        [
            pa.field("ra", pa.float64(), metadata=deg),
            pa.field("dec", pa.float32(), metadata=deg),
            *(
                pa.field(name, kind)
                for name, kind in (("obsid", pa.int64()), ("name", pa.string()), ("x", pa.date32()))
            ),
        ]
    )
    rows = {"ra": [1.0, None], "dec": [2.0, 3.0], "obsid": [2**60 + 1, None], "name": [None, "b"], "x": [None, None]}
    pq.write_table(pa.table(rows, schema), tmp_path / "list.parquet")
    found = read(tmp_path / "list.parquet", wanted=("name",))
    np.testing.assert_array_equal(found.values["ra"], [1.0, np.nan])
    assert found.values["obsid"].tolist() == [2**60 + 1, -1]  # which no float is
    assert found.values["name"].tolist() == ["", "b"]
    assert found.notes == ("1 of its 2 rows have no position",)


def test_missing_values_have_many_names_and_numbers_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("ra,dec,obsid,period\n1.0,2.0,7,N/A\nnull,,--,3.5\n3.0,4.0,9,\n")
    found = read(tmp_path / "list.csv", wanted=("period",))
    np.testing.assert_array_equal(found.values["ra"], [1.0, np.nan, 3.0])
    assert found.values["obsid"].tolist() == [7, -1, 9]
    np.testing.assert_array_equal(found.values["period"], [np.nan, 3.5, np.nan])


def test_numbers_may_be_text_of_one_letter(tmp_path: Path) -> None:
    made = Table({"ra": ["1", "", "3"], "dec": ["4", "5", "6"], "obsid": ["7", "", "9"]})
    made.write(tmp_path / "list.vot", format="votable")
    found = read(tmp_path / "list.vot")
    np.testing.assert_array_equal(found.values["ra"], [1.0, np.nan, 3.0])
    assert found.values["obsid"].tolist() == [7, -1, 9]


def test_a_needed_period_may_be_called_p_and_a_wanted_one_not(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("ra,dec,p\n1.0,2.0,0.9\n")
    assert "period" not in read(tmp_path / "list.csv", wanted=("period",)).values
    assert read(tmp_path / "list.csv", needed=("period",)).values["period"].tolist() == [0.9]
