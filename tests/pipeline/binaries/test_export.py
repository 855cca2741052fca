"""Fits, stars and orbits as tables: every column described, under Gaia's names, in SB9's layout."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse, ucd
from astropy.table import Table
from scipy import stats

import twinlines as tw
from twinlines.pipeline.binaries import export as tables
from twinlines.pipeline.binaries.export import ExportError, goodness, orbits_of
from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.orbits import sb9
from twinlines.pipeline.binaries.schema import (
    FITS,
    GAIA_ORBITS,
    GAIA_SOLUTIONS,
    ON_SCALE,
    ORBIT_SAMPLES,
    ORBITS,
    SOURCES,
)
from twinlines.pipeline.catalog.tables import units
from twinlines.pipeline.schema import Variable

N = 40


def stars(rows: int = N) -> xr.Dataset:
    """Stars, of which every second one has a period."""
    rng = np.random.default_rng(3)
    columns = {
        name: rng.uniform(0.1, 0.9, rows) for name, variable in SOURCES.variables.items() if variable.dtype[0] == "f"
    }
    columns |= {"ra": rng.uniform(0, 360, rows), "dec": rng.uniform(-80, 80, rows), "obsid": np.arange(rows) + 10}
    columns |= {"t_periastron": 2458000.0 + rng.uniform(0, 100, rows), "epochs_double": rng.integers(3, 20, rows)}
    columns |= {"orbit_freedom": rng.integers(1, 20, rows), "orbit_status": rng.integers(0, 64, rows)}
    for name in ("period", "period_error"):
        columns[name][::2] = np.nan
    return SOURCES.dataset(columns, rows, catalog="dr7-0123.zarr", fits="fits-000001.zarr", radius=3.0)


def fitted() -> xr.Dataset:
    rng = np.random.default_rng(4)
    columns = {"obsid": np.arange(N), "rv1": rng.normal(0, 50, N), "fit_quality": rng.integers(0, 512, N)}
    return FITS.dataset(columns, N)


@pytest.mark.parametrize(
    "variables",
    [
        *({**FITS.variables, **ON_SCALE}, SOURCES.variables, GAIA_ORBITS, GAIA_SOLUTIONS),
        *(ORBITS.variables, ORBIT_SAMPLES.variables),
    ],
    ids=["fits", "sources", "orbits", "solutions", "orbits as stored", "samples"],
)
def test_each_column_has_a_unit_a_ucd_and_a_description(variables: dict[str, Variable]) -> None:
    for name, variable in variables.items():
        assert variable.long_name, name
        assert ucd.parse_ucd(variable.ucd, check_controlled_vocabulary=True), name
        if variable.units:
            assert u.Unit(units.vounit(variable.units), format="vounit") == u.Unit(variable.units, format="fits")
            assert u.Unit(units.cds(variable.units), format="cds") == u.Unit(variable.units, format="fits")


@pytest.mark.parametrize("name", ["stars.vot", "stars.fits", "stars.parquet", "stars.mrt", "stars.hats", "stars.moc"])
def test_stars_are_written_in_each_format(name: str, tmp_path: Path) -> None:
    rows = stars()
    assert tw.export(rows, tmp_path / name) == N
    if name.endswith((".vot", ".fits", ".mrt")):
        read = Table.read(tmp_path / name, format="ascii.mrt" if name.endswith("mrt") else None)
        assert read.colnames == list(SOURCES.variables)
        np.testing.assert_array_equal(np.ma.filled(read["period"].astype(float), np.nan), rows["period"].values)
        assert read["minimum_mass_primary"].unit == u.solMass


def test_fits_are_written_with_the_names_of_their_bits(tmp_path: Path) -> None:
    rows = fitted()
    tw.export(rows, tmp_path / "fits.vot")
    table = parse(tmp_path / "fits.vot", verify="exception").get_first_table()
    field = next(field for field in table.fields if field.name == "fit_quality")
    assert "64 NOT_DOUBLE" in field.description
    np.testing.assert_array_equal(table.array["fit_quality"], rows["fit_quality"].values)
    tw.export(rows, tmp_path / "few.fits", columns=["rv1", "obsid"])
    assert Table.read(tmp_path / "few.fits").colnames == ["rv1", "obsid"]
    with pytest.raises(ExportError, match="give 'all', or a list of names"):
        tw.export(rows, tmp_path / "x.fits", columns="table4")
    with pytest.raises(ExportError, match="no table of Twinlines; give a catalog, fits, stars, orbits"):
        tw.export(xr.Dataset({"x": ("y", [1])}), tmp_path / "x.fits")


def test_orbits_have_gaia_s_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = stars()
    monkeypatch.setattr(tables, "open_sources", lambda _: every)
    with_period = np.flatnonzero(np.isfinite(every["period"].values))
    assert tables.export_stars(tmp_path, tmp_path / "orbits.vot", "orbits") == N // 2
    read = Table.read(tmp_path / "orbits.vot")
    assert set(read["nss_solution_type"]) == {"SB2"}
    for name in ("period", "center_of_mass_velocity", "semi_amplitude_secondary_error", "arg_periastron"):
        np.testing.assert_array_equal(read[name], every[name].values[with_period])
    np.testing.assert_array_equal(read["conf_spectro_period"], every["mode_probability"].values[with_period])
    np.testing.assert_array_equal(read["rv_n_obs_secondary"], every["epochs_double"].values[with_period])
    assert tables.export_stars(tmp_path, tmp_path / "stars.fits", "sources") == N
    assert fits.getheader(tmp_path / "stars.fits", 1)["CATALOG"] == "dr7-0123.zarr"
    with pytest.raises(FitsError, match="exists already"):
        tables.export_stars(tmp_path, tmp_path / "orbits.vot", "orbits")


def solved() -> tuple[xr.Dataset, xr.Dataset]:
    """Solutions of the stars, two of each but the last three, which have limits; and samples of the first ten."""
    rng = np.random.default_rng(5)
    obsid = np.r_[np.repeat(np.arange(N - 3) + 10, 2), np.arange(N - 3, N) + 10]
    rows = len(obsid)
    columns = {
        name: rng.uniform(0.1, 0.9, rows) for name, variable in ORBITS.variables.items() if variable.dtype[0] == "f"
    }
    for name in ("period", "mode_probability", "obj_func"):
        columns[name][-3:] = np.nan
    columns |= {"solution_id": np.r_[np.tile([0, 1], N - 3), np.zeros(3)], "freedom": rng.integers(3, 9, rows)}
    about = {"fitting": {"p_value": 0.001}, "numerics": 2, "created": "2024-01-01T00:00:00+00:00"}
    orbits = ORBITS.dataset({**columns, "obsid": obsid, "velocities_hash": obsid.astype(np.uint64)}, rows, **about)
    sampled = {name: rng.uniform(1.0, 9.0, 80) for name in ORBIT_SAMPLES.variables}
    return orbits, ORBIT_SAMPLES.dataset({**sampled, "obsid": np.repeat(np.arange(10) + 10, 8)}, 80, **about)


@pytest.fixture
def orbits(monkeypatch: pytest.MonkeyPatch) -> tuple[xr.Dataset, xr.Dataset]:
    """Orbits and samples that are a survey's."""
    made = solved()
    monkeypatch.setattr(tables, "open_sources", lambda _: stars())
    monkeypatch.setattr(tables, "open_orbits", lambda _: made[0])
    monkeypatch.setattr(tables, "open_samples", lambda _: made[1])
    return made


def unit_of(path: Path, read: Table, name: str) -> u.UnitBase:
    """Unit of a column; astropy does not read that of Parquet."""
    if path.suffix == ".parquet":
        return u.Unit(pq.read_schema(path).field(name).metadata[b"unit"].decode(), format="vounit")
    return u.Unit(read[name].unit)


@pytest.mark.parametrize("end", ["vot", "fits", "parquet", "mrt", "cds", "hats", "moc"])
def test_all_solutions_are_written_in_each_format(
    end: str, tmp_path: Path, orbits: tuple[xr.Dataset, xr.Dataset]
) -> None:
    path, rows = tmp_path / f"orbits.{end}", orbits[0]
    assert tables.export_stars(tmp_path, path, "solutions") == rows.sizes["solution"] == 2 * N - 3
    if end in ("hats", "moc", "cds"):
        return
    read = Table.read(path, format="ascii.mrt" if end == "mrt" else None)
    assert read.colnames == list(GAIA_SOLUTIONS)
    for name, stored in {
        "conf_spectro_period": "mode_probability",
        "t_periastron": "t_periastron",
        "obsid": "obsid",
    }.items():
        values = np.ma.filled(read[name].astype(float), np.nan)
        np.testing.assert_allclose(values, rows[stored].values.astype(float), rtol=1e-15)
    kind = [str(each) for each in np.ma.filled(read["nss_solution_type"].astype(str), "")]
    assert kind[:-3] == ["SB2"] * (2 * N - 6)
    assert set(kind[-3:]) <= {"", "--"}  # limits are no solution
    assert unit_of(path, read, "minimum_mass_primary") == u.solMass
    where = {int(obsid): ra for obsid, ra in zip(stars()["obsid"].values, stars()["ra"].values, strict=True)}
    np.testing.assert_allclose(read["ra"], [where[int(obsid)] for obsid in read["obsid"]])


@pytest.mark.parametrize("end", ["fits", "parquet", "vot"])
def test_samples_are_written_with_their_units(end: str, tmp_path: Path, orbits: tuple[xr.Dataset, xr.Dataset]) -> None:
    path = tmp_path / f"samples.{end}"
    assert tables.export_stars(tmp_path, path, "samples", columns=["obsid", "period", "semi_amplitude_primary"]) == 80
    read = Table.read(path)
    np.testing.assert_array_equal(read["period"], orbits[1]["period"])
    assert unit_of(path, read, "semi_amplitude_primary") == u.km / u.s
    if end == "fits":
        header = fits.getheader(path, 1)
        assert header["CATALOG"] == "dr7-0123.zarr"
        assert "p_value" in header["FITTING"]
    with pytest.raises(FitsError, match="HATS files rows by position, and the columns lack ra and dec"):
        tables.export_stars(tmp_path, tmp_path / "samples.hats", "samples")


def test_what_was_opened_is_written_as_it_is_stored(tmp_path: Path, orbits: tuple[xr.Dataset, xr.Dataset]) -> None:
    assert tw.export(orbits[0], tmp_path / "orbits.fits") == 2 * N - 3
    assert Table.read(tmp_path / "orbits.fits").colnames == list(ORBITS.variables)
    assert tw.export(orbits[1].isel(sample=slice(5)), tmp_path / "few.parquet") == 5


@pytest.mark.skipif(shutil.which("stilts") is None, reason="stilts is not installed (Debian has it)")
def test_stilts_finds_nothing_to_say_of_solutions_and_samples(
    tmp_path: Path, orbits: tuple[xr.Dataset, xr.Dataset]
) -> None:
    tables.export_stars(tmp_path, tmp_path / "solutions.vot", "solutions")
    tables.export_stars(tmp_path, tmp_path / "samples.vot", "samples")
    for name in ("solutions.vot", "samples.vot"):
        linted = subprocess.run(["stilts", "votlint", str(tmp_path / name)], capture_output=True, text=True, check=True)
        assert linted.stdout + linted.stderr == ""


@pytest.mark.skipif(shutil.which("stilts") is None, reason="stilts is not installed (Debian has it)")
def test_stilts_finds_nothing_to_say_of_orbits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "open_sources", lambda _: stars())
    tables.export_stars(tmp_path, tmp_path / "orbits.vot", "orbits")
    linted = subprocess.run(
        ["stilts", "votlint", str(tmp_path / "orbits.vot")], capture_output=True, text=True, check=True
    )
    assert linted.stdout + linted.stderr == ""


def test_the_goodness_of_fit_is_a_standard_normal_variable() -> None:
    freedom = np.full(4000, 12.0)
    made = goodness(np.random.default_rng(1).chisquare(12.0, 4000), freedom)
    assert stats.kstest(made, "norm").pvalue > 1e-3
    assert np.isnan(goodness(np.array([3.0]), np.array([0.0]))).all()


def test_orbits_in_the_layout_of_sb9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = stars()
    every["arg_periastron_error"][1] = np.nan
    monkeypatch.setattr(tables, "open_sources", lambda _: every)
    assert tables.export_stars(tmp_path, tmp_path / "orbits.sb9", "orbits") == N // 2
    rows = orbits_of(every)
    read = {
        name: list(csv.reader((tmp_path / "orbits.sb9" / name).read_text().splitlines(), delimiter="|"))
        for name in (sb9.MAIN, sb9.ORBITS, sb9.ALIAS)
    }
    assert [len(lines) for lines in read.values()] == [N // 2] * 3
    assert {len(line) for line in read[sb9.ORBITS]} == {26}  # fields of SB9's description
    assert {len(line) for line in read[sb9.MAIN]} == {10}
    for name, column, shift in (
        ("period", 2, 0.0),
        ("t_periastron", 4, 2_400_000.0),
        ("eccentricity", 7, 0.0),
        ("arg_periastron", 9, 0.0),
        ("semi_amplitude_primary", 11, 0.0),
        ("semi_amplitude_secondary_error", 14, 0.0),
        ("center_of_mass_velocity", 15, 0.0),
        ("rv_n_obs_secondary", 20, 0.0),
    ):
        said = [float(line[column]) + shift for line in read[sb9.ORBITS]]
        np.testing.assert_allclose(said, rows[name].values, rtol=0, atol=1e-9, err_msg=name)
    assert read[sb9.ORBITS][0][10] == ""
    assert [line[25] for line in read[sb9.ORBITS]] == ["JD"] * (N // 2)
    assert [int(line[2]) for line in read[sb9.ALIAS]] == rows["obsid"].values.tolist()


def test_positions_are_spelled_as_sb9_has_them() -> None:
    """The first systems of SB9: HD 28 in 1900 and in 2000, and one of the north."""
    star = SkyCoord("00h05m20.141s", "-05d42m27.43s", frame="fk5")
    assert sb9.fine(star) == "000520141-05422743"
    north = SkyCoord("00h06m03.386s", "+63d40m46.76s", frame="fk5")
    assert sb9.fine(north) == "000603386+63404676"
    for place, old in ((star, "00002-0616"), (north, "00009+6307")):
        assert sb9.coarse(place.transform_to("fk4")).startswith("000")
        assert sb9.coarse(place.transform_to(sb9.FK4(equinox="B1900"))) == old
    assert sb9.fine(SkyCoord(359.9999999, -0.0000001, unit="deg", frame="fk5")) == "000000000-00000000"
