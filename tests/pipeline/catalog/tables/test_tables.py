"""Every format is read back by other people's tools, says where it comes from, and is there whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import ascii, fits  # noqa: A004 (astropy's)
from astropy.io.votable import parse, ucd
from astropy.table import Table as AstropyTable

from tests.pipeline.catalog.tables.conftest import N, make
from twinlines.pipeline.catalog.export import export
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.catalog.tables import hats, mrt, table, units
from twinlines.pipeline.catalog.tables.cells import Counts
from twinlines.pipeline.catalog.tables.columns import ExportError
from twinlines.pipeline.catalog.tables.formats import FORMATS, guess
from twinlines.pipeline.catalog.tables.moc import uniq
from twinlines.pipeline.cli.binaries import OrbitFormat
from twinlines.pipeline.cli.options import TableFormat
from twinlines.pipeline.schema import CATALOG, Schema

NAMES = {name: f"table{format_.suffixes[0]}" for name, format_ in FORMATS.items()}
needs_stilts = pytest.mark.skipif(shutil.which("stilts") is None, reason="stilts is not installed (Debian has it)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cat: xr.Dataset) -> dict[str, Path]:
    """The catalog in each format, written in blocks of 128 rows."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "BLOCK_ROWS", 128)
        for name in NAMES.values():
            assert cat.sb2.export(folder / name, columns="all") == N
    return {name: folder / file for name, file in NAMES.items()}


def same(read: AstropyTable, cat: xr.Dataset) -> None:
    """Compare a table with one value a column and row with a catalog, but for hashes."""
    for name, variable in CATALOG.variables.items():
        if name not in read.colnames or name == "content_hash":
            continue
        column, wanted = read[name], cat[name].values
        if variable.dtype == "str":
            assert [str(text).strip() for text in column] == wanted.tolist(), name
        else:
            floats = np.dtype(variable.dtype).kind == "f"
            values = np.ma.filled(column.astype(float), np.nan) if floats else np.asarray(column)
            np.testing.assert_array_equal(values.astype(variable.dtype), wanted, err_msg=name)


@pytest.mark.parametrize("schema", [CATALOG], ids=lambda schema: schema.name)
def test_each_column_has_a_unit_a_ucd_and_a_description(schema: Schema) -> None:
    for name, variable in schema.variables.items():
        assert variable.long_name, name
        assert ucd.parse_ucd(variable.ucd, check_controlled_vocabulary=True), name
        if variable.units:
            assert u.Unit(units.vounit(variable.units), format="vounit") == u.Unit(variable.units, format="fits")
            assert u.Unit(units.cds(variable.units), format="cds") == u.Unit(variable.units, format="fits")


def test_units_in_each_spelling() -> None:
    assert [units.vounit(unit) for unit in ("km s-1", "km2 s-2", "")] == ["km.s**-1", "km**2.s**-2", ""]
    assert [units.cds(unit) for unit in ("km s-1", "km2 s-2", "")] == ["km/s", "km2/s2", "---"]


def test_the_commands_know_every_format() -> None:
    assert [format_.value for format_ in TableFormat] == list(FORMATS)
    assert [format_.value for format_ in OrbitFormat] == [*FORMATS, "sb9"]
    for name, file in NAMES.items():
        assert guess(Path(file)) == guess(Path("anything"), name) == FORMATS[name]
    assert guess(Path("A.FITS.GZ")) == FORMATS["fits"]


def test_fits_says_what_its_columns_are(made: dict[str, Path], cat: xr.Dataset) -> None:
    same(AstropyTable.read(made["fits"]), cat)
    with fits.open(made["fits"]) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
    names = [header[f"TTYPE{number}"] for number in range(1, header["TFIELDS"] + 1)]
    for number, name in enumerate(names, start=1):
        if name in CATALOG.variables:
            assert header[f"TUCD{number}"] == CATALOG.variables[name].ucd
            assert header[f"TCOMM{number}"].startswith(CATALOG.variables[name].long_name.partition(";")[0])
    assert "256 UNFAMILIAR" in header[f"TCOMM{names.index('quality_B') + 1}"]
    assert "percentile 0, 16, 50, 84, 100" in header[f"TCOMM{names.index('pb_pct_J_16') + 1}"]
    assert (header["ROWSIN"], header["ROWSOUT"], header["RELEASE"], header["WEIGHTS"]) == (9000, N, "dr7", "89ab")
    assert json.loads(header["PARAMS"]) == {"seed": 0, "n_draws": 20}


def test_votable_is_read_by_astropy(made: dict[str, Path], cat: xr.Dataset) -> None:
    document = parse(made["votable"], verify="exception")
    read = document.get_first_table()
    assert {info.name: info.value for info in document.resources[0].infos}["weights_digest"] == "89ab"
    astropy = read.to_table(use_names_over_ids=True)
    same(astropy, cat)
    assert [int(str(text), 16) for text in astropy["content_hash"]] == cat["content_hash"].values.tolist()
    np.testing.assert_array_equal(astropy["unfamiliar_B"], (cat["quality_B"].values & 256) > 0)
    by_name = {field.name: field for field in read.fields}
    assert by_name["rv_obs_B"].unit == u.km / u.s
    assert (by_name["ra"].ref, by_name["bjdmid"].ref, by_name["ra"].ucd) == ("sky", "bjd", "pos.eq.ra;meta.main")


@needs_stilts
def test_stilts_finds_nothing_to_say_and_reads_every_row(made: dict[str, Path], cat: xr.Dataset) -> None:
    linted = subprocess.run(["stilts", "votlint", str(made["votable"])], capture_output=True, text=True, check=True)
    assert linted.stdout + linted.stderr == ""
    for name in ("fits", "votable", "mrt"):
        column = "pb_pct_J_16_p50" if name == "mrt" else "pb_pct_J_16[2]"
        asked = f"select lmjm>84000009;addcol twice 2*{column};keepcols 'lmjm ra twice'"
        done = subprocess.run(
            ["stilts", "tpipe", f"in={made[name]}", f"ifmt={name}", f"cmd={asked}", "omode=out", "ofmt=csv"],
            capture_output=True,
            text=True,
            check=True,
        )
        read = ascii.read(done.stdout, format="csv")
        assert len(read) == N - 10
        np.testing.assert_array_equal(read["lmjm"], cat["lmjm"].values[10:])
        np.testing.assert_allclose(read["ra"], cat["ra"].values[10:], rtol=1e-15)
        np.testing.assert_allclose(read["twice"], 2 * cat["pb_pct_J_16"].values[10:, 2], rtol=1e-7)


def test_parquet_is_read_by_pandas_and_polars_and_says_what_its_columns_are(
    made: dict[str, Path], cat: xr.Dataset
) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for read in (pandas.read_parquet(made["parquet"]), polars.read_parquet(made["parquet"])):
        for name, variable in CATALOG.variables.items():
            if variable.dtype == "str":
                assert list(read[name]) == cat[name].values.tolist()
            else:
                np.testing.assert_array_equal(np.stack(list(read[name])), cat[name].values, err_msg=name)
    import pyarrow.parquet as pq

    schema = pq.read_schema(made["parquet"])
    about = schema.metadata
    assert about[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    described = parse(io.BytesIO(about[b"IVOA.VOTable-Parquet.content"]), verify="exception").get_first_table()
    assert [field.name for field in described.fields] == schema.names
    assert {field.name: field.ucd for field in described.fields}["rv_obs_B"] == CATALOG.variables["rv_obs_B"].ucd
    assert pq.ParquetFile(made["parquet"]).num_row_groups == -(-N // 128)
    astropy = AstropyTable.read(made["parquet"], format="parquet.votable")
    assert astropy["rv_obs_B"].unit == u.km / u.s
    np.testing.assert_array_equal(astropy["lmjm"], cat["lmjm"].values)


_LSDB = """
import sys, json, warnings
import lsdb
from hats.io.validation import is_valid_catalog
from hats.pixel_math.spatial_index import compute_spatial_index
assert is_valid_catalog(sys.argv[1], strict=True)
catalog = lsdb.open_catalog(sys.argv[1])
rows = catalog.compute()
assert (compute_spatial_index(rows["ra"].values, rows["dec"].values) == rows.index.values).all()
about = catalog.hc_structure.catalog_info
print(json.dumps([rows["lmjm"].tolist(), about.total_rows, about.model_extra["twinlines_weights_digest"]]))
"""


def test_hats_is_opened_by_lsdb(cat: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lsdb", reason="lsdb is not installed")
    monkeypatch.setattr(hats, "MAXIMUM_ROWS", 100)
    monkeypatch.setattr(table, "BLOCK_ROWS", 17)
    shuffled = cat.isel(exposure=np.random.default_rng(1).permutation(N)).drop_vars("healpix29")
    for name, rows in (("sorted.hats", cat), ("shuffled.hats", shuffled)):
        rows.sb2.export(tmp_path / name)
    command = [sys.executable, "-W", "ignore", "-c", _LSDB, str(tmp_path / "shuffled.hats")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    lmjm, rows_said, weights = json.loads(done.stdout.splitlines()[-1])
    assert lmjm == cat["lmjm"].values.tolist()  # in the order of the index, whatever it was
    assert (rows_said, weights) == (N, "89ab")
    import pyarrow.parquet as pq

    files = sorted((tmp_path / "sorted.hats/dataset").rglob("*.parquet"))
    assert len(files) > 3
    for file in files:
        other = tmp_path / "shuffled.hats" / file.relative_to(tmp_path / "sorted.hats")
        read = pq.read_table(file)
        assert 0 < len(read) <= 100
        for name in ("_healpix_29", "lmjm", "planid", "obsid"):
            assert read[name].equals(pq.read_table(other)[name])


def test_parts_hold_every_row_once() -> None:
    counts = Counts(3, np.array([0, 1, 5, 63, 64, 767]), np.array([10, 1, 1, 5, 900_000, 2_000_000]), True, 0)
    made = hats.parts(counts)
    assert [(part.order, part.cell, part.stop - part.start) for part in made] == [
        (0, 0, 17), (0, 1, 900_000), (3, 767, 2_000_000)
    ]  # fmt: skip
    assert [part.start for part in made[1:]] == [part.stop for part in made[:-1]]
    assert hats.Part(8, 31_234, 0, 1).path == "Norder=8/Dir=30000/Npix=31234.parquet"


def test_mrt_and_cds_are_read_by_astropy(made: dict[str, Path], cat: xr.Dataset) -> None:
    aas = AstropyTable.read(made["mrt"], format="ascii.mrt")
    cds = AstropyTable.read(made["cds"] / mrt.DATA, format="ascii.cds", readme=str(made["cds"] / mrt.README))
    for read in (aas, cds):
        same(read, cat.drop_vars([name for name in cat if cat[name].ndim > 1]))
        for number, percentile in enumerate((0, 16, 50, 84, 100)):
            np.testing.assert_array_equal(
                np.asarray(read[f"pb_pct_J_16_p{percentile}"], np.float32), cat["pb_pct_J_16"].values[:, number]
            )
        assert [int(text, 16) for text in read["content_hash"]] == cat["content_hash"].values.tolist()
        assert read["rv_obs_B"].unit == u.km / u.s
    assert "Note: weights_digest = 89ab" in (made["cds"] / mrt.README).read_text()
    assert max(map(len, (made["cds"] / mrt.README).read_text().splitlines())) <= 81


def test_text_says_the_stored_number_and_keeps_its_point(cat: xr.Dataset, tmp_path: Path) -> None:
    odd = [0.0, -0.0, 5.0, 1e-30, 3.4e38, -1.17e-38, 123456792.0, 0.1, np.nan]
    rows = cat.isel(exposure=slice(len(odd))).copy(deep=True)
    rows["rv_obs_B"][:], rows["bjdmid"][:-1] = odd, np.nextafter(2458000.5, 2458000.6)
    export(rows, tmp_path / "t.mrt", columns=["obsid", "rv_obs_B", "bjdmid"])
    lines = (tmp_path / "t.mrt").read_text().splitlines()[-len(odd) :]
    words = [line.split()[1] for line in lines[:-1]]
    assert all("." in word for word in words)  # Fortran would put one elsewhere
    assert [np.float32(word) for word in words] == [np.float32(value) for value in odd[:-1]]
    assert len(lines[-1].split()) == 2
    assert float(lines[0].split()[2]) == np.nextafter(2458000.5, 2458000.6)


def test_moc_is_read_by_mocpy(made: dict[str, Path], cat: xr.Dataset) -> None:
    mocpy = pytest.importorskip("mocpy")
    footprint = mocpy.MOC.load(made["moc"], format="fits")
    assert footprint.contains_lonlat(cat["ra"].values * u.deg, cat["dec"].values * u.deg).all()
    wanted = mocpy.MOC.from_lonlat(cat["ra"].values * u.deg, cat["dec"].values * u.deg, max_norder=11)
    assert footprint == wanted


def test_four_cells_of_one_parent_are_the_parent() -> None:
    every = np.arange(48)
    assert uniq(every, 1).tolist() == list(range(4, 16))
    assert uniq(np.array([0, 1, 2, 3, 5]), 1).tolist() == [4, 21]
    assert uniq(np.empty(0, np.int64), 5).tolist() == []


def provenance(name: str, path: Path) -> str:
    """All that a file says of where it comes from."""
    if name == "hats":
        return (path / "properties").read_text()
    if name == "cds":
        return "".join(line for line in (path / mrt.README).read_text().splitlines(True) if line.startswith("Note"))
    if name in ("fits", "moc"):
        return str(fits.getheader(path, 1)["RELEASE" if name == "fits" else "HISTORY"])
    if name == "parquet":
        import pyarrow.parquet as pq

        return pq.read_schema(path).metadata[b"twinlines.provenance"].decode()
    return path.read_text(encoding="latin-1")[:6000]


@pytest.mark.parametrize("name", FORMATS)
def test_two_releases_differ_in_provenance(name: str, tmp_path: Path) -> None:
    said = []
    for release in ("dr7", "dr8"):
        path = tmp_path / f"{release}{FORMATS[name].suffixes[0]}"
        make(20, release).drop_vars(["release"]).sb2.export(path)
        said.append(provenance(name, path))
    assert "dr7" in said[0]
    assert "dr8" in said[1]
    assert "dr8" not in said[0]


@pytest.mark.parametrize("name", [*FORMATS, "gzipped"])
def test_a_disk_that_fills_leaves_nothing(name: str, cat: xr.Dataset, small_disk: Path) -> None:
    old = small_disk / NAMES.get(name, "table.fits.gz")
    cat.isel(exposure=slice(3)).sb2.export(old)
    before = sorted(small_disk.rglob("*"))
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free - 8_000))
    with pytest.raises(CatalogError, match=rf"{old.name} c.*make room"):
        cat.sb2.export(old, columns="all", overwrite=True)
    filler.unlink()
    assert sorted(small_disk.rglob("*")) == before  # what was there stays
    assert cat.sb2.export(old, columns="all", overwrite=True) == N


def test_a_folder_that_is_no_table_is_not_replaced(cat: xr.Dataset, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("...")
    for name in ("hats", "cds"):
        with pytest.raises(CatalogError, match="is no such table"):
            cat.sb2.export(mine, format=name, overwrite=True)
        with pytest.raises(CatalogError, match="exists already"):
            cat.sb2.export(mine, format=name)
    with pytest.raises(CatalogError, match="is a folder"):
        cat.sb2.export(mine, format="votable", overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.tex"]


def test_columns_by_name(cat: xr.Dataset, tmp_path: Path) -> None:
    export(cat, tmp_path / "few.fits", columns=["lmjm", "unfamiliar_R", "ra"])
    assert AstropyTable.read(tmp_path / "few.fits").colnames == ["lmjm", "unfamiliar_R", "ra"]
    for names, said in (
        (["lmjm", "rv_obs"], r"no column 'rv_obs'; did you mean rv_obs_[BR]"),
        (["zzz"], "it has obsid, lmjm"),
        (["ra", "ra"], "'ra' is asked for twice"),
        ([], "no column is asked for"),
    ):
        with pytest.raises(ExportError, match=said):
            export(cat, tmp_path / "x.fits", columns=names)
    with pytest.raises(ExportError, match="no format is called 'xls'; there are fits, votable"):
        export(cat, tmp_path / "x.fits", format="xls")
    with pytest.raises(ExportError, match="the columns lack ra"):
        export(cat, tmp_path / "x.hats", columns=["lmjm", "dec"])
    with pytest.raises(ExportError, match="these rows lack obsid"):
        export(cat.drop_vars("obsid"), tmp_path / "x.fits")
    with pytest.raises(CatalogError, match="no dimension 'exposure'; select a row by a list"):
        cat.isel(exposure=0).sb2.export(tmp_path / "x.fits")


@pytest.mark.parametrize("name", ["hats", "moc"])
def test_rows_without_a_position_are_not_left_out_silently(name: str, cat: xr.Dataset, tmp_path: Path) -> None:
    rows = cat.drop_vars("healpix29").copy(deep=True)
    rows["ra"][3] = np.nan
    with pytest.raises(CatalogError, match=f"1 of {N} rows have no position"):
        rows.sb2.export(tmp_path / NAMES[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("hats", "mrt", "cds")])
def test_an_empty_catalog_is_an_empty_table(name: str, cat: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / NAMES[name]
    assert cat.isel(exposure=slice(0)).sb2.export(path) == 0
    if name == "parquet":
        import pyarrow.parquet as pq

        assert len(pq.read_table(path)) == 0
    else:
        assert len(AstropyTable.read(path)) == 0


def test_hats_of_nothing_is_refused(cat: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no way of saying that a catalog is empty"):
        cat.isel(exposure=slice(0)).sb2.export(tmp_path / "x.hats")
