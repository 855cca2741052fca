"""Other people's tables: the same stars whatever the format, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from twinlines.pipeline.validation.foreign.table import ForeignTableError, read

RA, DEC = np.array([10.25, 359.999, 120.5]), np.array([-0.5, 60.125, -5.75])
PERIOD = np.array([1.5, 22.0, np.nan])


def table() -> Table:
    made = Table({"name": ["a", "b", "c"], "RAJ2000": RA, "DEJ2000": DEC, "Per": PERIOD})
    made["RAJ2000"].unit = made["DEJ2000"].unit = "deg"
    made["Per"].unit = "d"
    return made


@pytest.mark.parametrize("ending", [".fits", ".ecsv", ".csv", ".vot", ".mrt"])
def test_every_format_holds_the_same_stars(tmp_path: Path, ending: str) -> None:
    path, made = tmp_path / f"list{ending}", table()
    formats = {".fits": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv", ".vot": "votable", ".mrt": "ascii.mrt"}
    if ending == ".mrt":
        made["Per"] = np.nan_to_num(made["Per"], nan=99.0)
        made["Per"].unit = "d"
    made.write(path, format=formats[ending])
    if ending == ".csv":
        path.write_text(f"# a list of\n# somebody\n{path.read_text()}")
    found = read(path, wanted=("period",))
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
        ("star,mag\na,1\n", r"list\.csv: it has no positions .*raj2000.* and no obsid; it has star, mag"),
        ("source_id,mag\n5,1\n", "a Gaia source_id alone does not do, as the catalog has none"),
        ("ra,dec\n10,20\n30,120\n", "row 1 is at ra 30, dec 120, and 1 rows in all .* seem to be swapped"),
        ("ra,dec\n10,twenty\n", "row 0 has 'twenty' in 'dec'"),
        ("ra,dec\n,\n,\n", "no row has a position in 'ra' and 'dec'"),
        ("ra,dec,period\n1,2,long\n", "'period' holds no numbers, but <U4, such as 'long'"),
        ("obsid\nabc\n", "'obsid' holds <U3, such as 'abc'; identifiers are whole numbers"),
        ("ra,dec\n", "has no row"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ForeignTableError, match=message):
        read(tmp_path / "list.csv", wanted=("period",))


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(ForeignTableError, match="there is no table"):
        read(tmp_path / "none.fits")
    (tmp_path / "page.fits").write_text("<html>503</html>")
    with pytest.raises(ForeignTableError, match=r"page\.fits"):
        read(tmp_path / "page.fits")
    made = table()
    made["Per"].unit = "km"
    made.write(tmp_path / "list.ecsv")
    with pytest.raises(ForeignTableError, match="'Per' is in 'km', which is no unit of period; give it in d"):
        read(tmp_path / "list.ecsv", wanted=("period",))
    with pytest.raises(ForeignTableError, match="no column 'P'"):
        read(tmp_path / "list.ecsv", asked={"period": "P"})
    with pytest.raises(ForeignTableError, match="no column of parallax, by any of the names parallax"):
        read(tmp_path / "list.ecsv", needed=("parallax",))
