"""Tables of ephemerides: what is guessed, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from tests.places import SHARED
from twinlines.pipeline.binaries.sources.priors import match, read_priors
from twinlines.pipeline.usertables.ephemerides import EphemerisError


def table(rows: int = 5) -> Table:
    number = np.arange(rows)
    return Table(
        {
            "ra": (10.0 + number) * u.deg,
            "dec": (20.0 + number) * u.deg,
            "period": (1.5 + number) * u.day,
            "period_err": np.full(rows, 1e-4) * u.day,
            "bjd0": 2_455_000.0 + number,
            "bjd0_err": np.full(rows, 0.02),
        }
    )


def written(tmp_path: Path, content: Table) -> Path:
    content.write(tmp_path / "eb.ecsv", overwrite=True)
    return tmp_path / "eb.ecsv"


def test_columns_are_guessed_units_converted_and_stars_matched(tmp_path: Path) -> None:
    content = table()
    content["period"] = content["period"].to(u.hour)
    known = read_priors(written(tmp_path, content))
    assert known.by == "position"
    assert known.table.columns["eclipse_error"] == "bjd0_err"
    assert known.to_json()["ephemerides"] == 5
    matched = match(known, np.array([80.0, 12.0 + 1e-4]), np.array([0.0, 22.0]), {})
    assert list(matched) == [1]
    assert matched[1].period == pytest.approx(3.5)
    assert (matched[1].period_error, matched[1].eclipse, matched[1].eclipse_error) == (1e-4, 2_455_002.0, 0.02)


def test_stars_may_be_named_by_obsid_and_columns_by_the_user(tmp_path: Path) -> None:
    content = table()
    content["obsid"] = 700 + np.arange(5)
    content.rename_column("period", "P_orbit")
    content.remove_columns(["ra", "dec", "bjd0", "bjd0_err", "period_err"])
    known = read_priors(written(tmp_path, content), {"period": "P_orbit"})
    assert known.by == "obsid"
    matched = match(known, np.zeros(2), np.zeros(2), {702: 1, 9: 0})
    assert matched[1].period == 3.5
    assert matched[1].period_error == pytest.approx(3.5e-6)  # as good as none is told
    assert matched[1].eclipse is None
    assert any("5 periods have no error" in note for note in known.notes)
    with pytest.raises(EphemerisError, match=r"none of its 5 obsids \(700 to 704\) is that of one of the survey's 1"):
        match(known, np.zeros(1), np.zeros(1), {9: 0})
    with pytest.raises(EphemerisError, match=r"rows 1 and 2 .* are both of the star"):
        match(known, np.zeros(1), np.zeros(1), {701: 0, 702: 0})


def test_rows_without_a_period_or_an_eclipse_are_counted(tmp_path: Path) -> None:
    content = table()
    content["period"] = MaskedColumn(content["period"], mask=[True, False, False, False, False], unit="d")
    content["bjd0"][1], content["bjd0"][2] = 5500.4, np.nan
    content["bjd0"][3] = 55_003.0
    content["period_err"][4] = -1.0
    known = read_priors(written(tmp_path, content))
    assert known.usable.tolist() == [False, True, True, True, True]
    np.testing.assert_array_equal(known.eclipse, [np.nan, np.nan, np.nan, 2_455_003.0, 2_455_004.0])
    assert known.period_error[4] == pytest.approx(5.5e-6)
    told = "\n".join(known.notes)
    assert "1 of its 5 rows have no period: left out" in told
    assert "1 times of eclipses are no Julian dates, the first in row 1 (bjd0 = 5500.4): left out" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["period"].__setitem__(slice(None), np.nan), "no row has a period above 0 in 'period'"),
        (
            lambda content: content["period"].__setattr__("unit", "km"),
            "'period' is in 'km', which is no unit of period",
        ),
        (lambda content: content.remove_column("period"), "no column of period, by any of the names period, per"),
        (lambda content: content.remove_column("dec"), "no column of dec, by any"),
        (lambda content: content["dec"].__setitem__(0, 95.0), "row 0 is at ra 10, dec 95 deg, which is no position"),
        (
            lambda content: content["bjd0"].__setitem__(slice(None), 12.0),
            "row 0 has bjd0 = 12, .*; give --epoch-offset",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, change: object, message: str) -> None:
    content = table()
    change(content)  # type: ignore[operator]
    with pytest.raises(EphemerisError, match=message) as error:
        read_priors(written(tmp_path, content))
    assert "eb.ecsv" in str(error.value)


def test_files_that_are_no_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(EphemerisError, match="there is no table of ephemerides"):
        read_priors(tmp_path / "none.fits")
    (tmp_path / "bad.csv").write_text("# only a comment\n")
    with pytest.raises(EphemerisError, match=r"bad\.csv"):
        read_priors(tmp_path / "bad.csv")
    with pytest.raises(EphemerisError, match="no quantity 'colour' to name a column of; there are ra, dec"):
        read_priors(tmp_path / "bad.csv", {"colour": "x"})


@pytest.mark.skipif(not (SHARED / "catalogs").is_dir(), reason="needs the Kepler binaries in ../shared")
def test_the_kepler_catalog_is_read_as_it_is() -> None:
    known = read_priors(SHARED / "catalogs" / "kebc.csv")
    matched = match(known, np.array([292.058716]), np.array([43.925304]), {})
    assert matched[0].period == pytest.approx(4.3059177)
    assert matched[0].eclipse == pytest.approx(2_454_956.737583)
    assert len(known.period) > 2800
