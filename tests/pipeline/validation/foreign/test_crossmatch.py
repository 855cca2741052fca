"""Lists against a catalog whose truth is known: fates, fractions, agreement, and lists that have nothing in common."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from typer.testing import CliRunner

from twinlines.models.evaluation import rate
from twinlines.pipeline.cli import main
from twinlines.pipeline.sky import nearest
from twinlines.pipeline.testing.velocities import write_catalog
from twinlines.pipeline.testing.verdicts import MadeVerdicts, make_verdicts
from twinlines.pipeline.usertables.files import UserTableError
from twinlines.pipeline.validation.foreign.crossmatch import OURS, crossmatch, read_lists
from twinlines.pipeline.validation.foreign.recovery import Fate
from twinlines.pipeline.validation.observed import Asked, ValidationError


@pytest.fixture(scope="module")
def made() -> MadeVerdicts:
    return make_verdicts(2, exposures=2)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time of a publication goes into making it outlive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def as_foreign(stars: Table) -> Table:
    """A list with names, units and forms of its own."""
    sky = SkyCoord(stars["ra"], stars["dec"])
    return Table(
        {
            "Seq": stars["star"],
            "RAJ2000": sky.ra.to_string("hour", sep=" ", precision=4),
            "DEJ2000": sky.dec.to_string(sep=" ", precision=3, alwayssign=True),
            "Per": stars["period"].data,
        }
    )


@pytest.fixture
def truth(made: MadeVerdicts, tmp_path: Path) -> Path:
    """The catalog's own binaries as somebody's list."""
    as_foreign(made.stars[made.stars["binary"]]).write(tmp_path / "truth.csv")
    return tmp_path / "truth.csv"


def test_its_own_truth_as_a_foreign_list(made: MadeVerdicts, truth: Path) -> None:
    (found,) = crossmatch(made.catalog, read_lists([truth])).lists
    binaries = made.stars[made.stars["binary"]]
    judged = np.asarray(binaries["star"]) % 7 != 0
    recovered = np.asarray(binaries["recovered"])
    assert 0 < recovered.sum() < judged.sum()
    expected = np.select([recovered, judged], [Fate.RECOVERED, Fate.MISSED], Fate.NOT_JUDGED)
    assert found.fate.tolist() == expected.tolist()
    assert found.fates == {
        "recovered": recovered.sum(),
        "missed": (judged & ~recovered).sum(),
        "not_judged": (~judged).sum(),
        "not_observed": 0,
        "no_position": 0,
    }
    groups = {group.words: group.recovered for group in found.groups}
    assert groups["all"] == rate(int(recovered.sum()), int(judged.sum()))
    for low, high in ((1.0, 10.0), (10.0, 100.0)):
        mine = judged & (binaries["period"] >= low) & (binaries["period"] < high)
        assert groups[f"period {low:g} to {high:g}"] == rate(int((recovered & mine).sum()), int(mine.sum()))
    # Every way of parting the stars has each of them once.
    for by in ("period", "snr", "epochs"):
        assert sum(group.recovered.trials for group in found.groups if group.by == by) == judged.sum()
    heads = {row["head"]: row for row in found.exposures if row["of"] == "all"}
    of_binaries = np.isin(made.catalog["obsid"].values, binaries["obsid"])
    p0 = made.catalog["pb_pct_B_16"].values[of_binaries, 0]
    assert heads["B"]["judged"] == np.isfinite(p0).sum()
    assert heads["B"]["p0_above_half"] == (p0 > 0.5).sum()


def test_rows_are_matched_by_obsid_where_there_are_no_positions(
    made: MadeVerdicts, tmp_path: Path, truth: Path
) -> None:
    binaries = made.stars[made.stars["binary"]]
    Table({"OBSID": binaries["obsid"], "period": binaries["period"].data}).write(tmp_path / "ids.fits")
    by_position, by_obsid = crossmatch(made.catalog, read_lists([truth, tmp_path / "ids.fits"])).lists
    assert (by_position.match.by, by_obsid.match.by) == ("position", "obsid")
    assert by_obsid.fate.tolist() == by_position.fate.tolist()
    assert by_obsid.object.tolist() == by_position.object.tolist()


def test_a_star_counts_once_and_no_row_is_lost(made: MadeVerdicts, tmp_path: Path) -> None:
    stars = as_foreign(made.stars[made.stars["recovered"]])
    again, elsewhere = stars[:3].copy(), stars[:2].copy()
    again["Per"][0] *= 1.5  # contradicts the first row of the star
    elsewhere["DEJ2000"] = ["-80 00 00", "-80 00 01"]
    elsewhere["RAJ2000"] = "01 00 00.0"
    nowhere = stars[:1].copy()
    nowhere["RAJ2000"] = nowhere["DEJ2000"] = ""
    vstack([stars, again, elsewhere, nowhere]).write(tmp_path / "list.csv")
    result = crossmatch(made.catalog, read_lists([tmp_path / "list.csv"]))
    (found,) = result.lists
    count = len(stars)
    assert found.fates == {
        "recovered": count, "missed": 0, "not_judged": 0, "not_observed": 1, "no_position": 1
    }  # fmt: skip
    assert found.groups[0].recovered == rate(count, count)
    assert np.isnan(found.period[[0, count]]).all()
    assert found.period[1] == found.period[count + 1] == stars["Per"][1]
    assert any("4 of its" in note and "repeat a star" in note for note in found.notes)
    assert any(note.startswith("2 stars have rows whose periods differ") for note in found.notes)
    rows = result.table()
    assert rows["row"].tolist() == list(range(count + 6))
    assert rows["fate"].tolist()[-3:] == ["not observed", "not observed", "no position"]
    assert rows["counts"].sum() == count + 2
    assert np.nanmax(rows["distance"]) < 0.1


def test_lists_agree_where_they_share_stars(made: MadeVerdicts, tmp_path: Path) -> None:
    found, missed = (made.stars[made.stars["binary"] & (made.stars["recovered"] == what)] for what in (True, False))
    elsewhere = found[:1].copy()
    elsewhere["dec"] = -70.0
    as_foreign(vstack([found, elsewhere], metadata_conflicts="silent")).write(tmp_path / "one.csv")
    as_foreign(vstack([missed, found[:2], elsewhere], metadata_conflicts="silent")).write(tmp_path / "two.csv")
    result = crossmatch(made.catalog, read_lists([tmp_path / "one.csv", tmp_path / "two.csv"]))
    shares = {(each.of, each.within): (each.rate.count, each.rate.trials) for each in result.agreement}
    judged = int((np.asarray(missed["star"]) % 7 != 0).sum()) + 2
    assert shares == {
        ("one", "two"): (3, len(found) + 1),  # two stars, and the one that is in no catalog
        ("two", "one"): (3, len(missed) + 3),
        ("one", OURS): (len(found), len(found)),
        ("two", OURS): (2, judged),
        (OURS, "one"): (len(found), len(found)),
        (OURS, "two"): (2, len(found)),
    }
    assert result.candidates == len(found)


def test_a_stricter_rule_recovers_less(made: MadeVerdicts, truth: Path) -> None:
    def recovered(asked: Asked) -> int:
        (found,) = crossmatch(made.catalog, read_lists([truth]), asked).lists
        return found.fates["recovered"]

    assert recovered(Asked("paper")) == recovered(Asked()) > 0
    assert recovered(Asked(threshold=0.98)) == 0


def test_lists_that_have_nothing_in_common_say_why(made: MadeVerdicts, tmp_path: Path) -> None:
    ra, dec = (np.asarray(made.stars[name]) for name in ("ra", "dec"))
    lists = {
        "swapped": (dec, ra, "60 would if 'ra' and 'dec' are swapped"),
        "hours": (ra / 15.0, dec, "60 would if 'ra' is in hours"),
        "radians": (np.radians(ra), np.radians(dec), "60 would if both are in radians"),
        "other": (ra, -dec, r"none of its 60 rows lies within 3 arcsec .* 'ra' runs from 10\.0000 to"),
    }
    for name, (first, second, message) in lists.items():
        Table({"ra": first, "dec": second}).write(tmp_path / f"{name}.fits")
        with pytest.raises(UserTableError, match=message):
            crossmatch(made.catalog, read_lists([tmp_path / f"{name}.fits"]))
    Table({"obsid": [5, 6]}).write(tmp_path / "ids.fits")
    with pytest.raises(UserTableError, match=r"none of its 2 obsids \(5 to 6\) is that of an exposure .* \(700000000"):
        crossmatch(made.catalog, read_lists([tmp_path / "ids.fits"]))


def test_other_refusals(made: MadeVerdicts, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(UserTableError, match="two lists are called 'truth'"):
        read_lists([truth, truth])
    with pytest.raises(UserTableError, match="no list has a column 'P_orb'"):
        read_lists([truth], {"period": "P_orb"})
    tables = read_lists([truth])
    with pytest.raises(UserTableError, match="radius of a match is 0"):
        crossmatch(made.catalog, tables, radius=0.0)
    with pytest.raises(UserTableError, match=r"ends of the period's bins are \[10, 1\]"):
        crossmatch(made.catalog, tables, periods=[10, 1])
    with pytest.raises(UserTableError, match="has no obsid"):
        crossmatch(made.catalog, tables, by="obsid")
    with pytest.raises(ValidationError, match="the catalog has no exposure"):
        crossmatch(made.catalog.isel(exposure=[]), tables)
    with pytest.raises(ValidationError, match="no exposure of the catalog has a verdict of J at penalty 16"):
        crossmatch(made.catalog.isel(exposure=np.flatnonzero(made.catalog["obsid"].values == 700_000_000)), tables)


def test_the_nearest_wins_also_across_the_meridian() -> None:
    ra, dec = np.array([0.0002, 359.9999, np.nan, 100.0]), np.array([0.0, 0.0, 0.0, 89.9999])
    to_ra, to_dec = np.array([359.9998, 0.0001, 280.0, np.nan]), np.array([0.0, 0.0, 89.9999, 0.0])
    index, distance = nearest(ra, dec, to_ra, to_dec, 3.0)
    assert index.tolist() == [1, 0, -1, 2]
    np.testing.assert_allclose(distance, [0.36, 0.36, np.nan, 0.72], atol=1e-3)
    assert nearest(ra[:1], dec[:1], to_ra, to_dec, 0.35)[0].tolist() == [-1]


def test_the_command(made: MadeVerdicts, truth: Path, tmp_path: Path) -> None:
    survey, out = tmp_path / "s", tmp_path / "out"
    write_catalog(survey, "dr-1.zarr", made.catalog)
    arguments = ["validate", "crossmatch", str(truth), "--survey", str(survey), "--out", str(out)]
    done = CliRunner().invoke(main.app, [*arguments, "--json"], catch_exceptions=False)
    said = json.loads(done.output)
    assert said["catalog"] == "dr-1.zarr"
    assert said["lists"][0]["columns"] == {"ra": "RAJ2000", "dec": "DEJ2000", "period": "Per", "name": "Seq"}
    assert said["lists"][0]["recovery"][0]["count"] == made.stars["recovered"].sum()
    assert sorted(path.name for path in out.iterdir()) == ["crossmatch.png", "matched.ecsv"]
    assert Table.read(out / "matched.ecsv").meta["catalog"] == "dr-1.zarr"
    again = CliRunner().invoke(main.app, arguments)
    assert again.exit_code == 1
    assert "has matched.ecsv, crossmatch.png already" in str(again.exception)
    shown = CliRunner().invoke(main.app, arguments[:5], catch_exceptions=False)
    assert "ra from 'RAJ2000', dec from 'DEJ2000', period from 'Per'" in shown.output
