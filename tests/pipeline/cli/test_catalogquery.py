"""Conditions and crossmatches from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.cli import main
from twinlines.pipeline.schema import CATALOG, Quality

ROWS = 30


@pytest.fixture(autouse=True)
def sky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty stars in a row; the blue S/N rises, and every third is unfamiliar."""
    made = CATALOG.dataset({}, ROWS)
    made["obsid"][:] = 700_000_000 + np.arange(ROWS)
    made["ra"][:], made["dec"][:] = 200.0 + np.arange(ROWS), 43.0
    made["snr_B"][:] = np.arange(ROWS)
    made["quality_B"][::3] = Quality.UNFAMILIAR
    monkeypatch.setattr(catalog, "open", lambda *_, **__: made.drop_vars("healpix29"))


def asked(*arguments: str) -> str:
    result = CliRunner().invoke(main.app, ["catalog", *arguments, "--survey", "s"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_condition_lists_its_rows(tmp_path: Path) -> None:
    condition = "snr_B > 20 and quality_B & UNFAMILIAR"
    rows = json.loads(asked("where", condition, "--json"))
    assert [row["snr_B"] for row in rows] == [21.0, 24.0, 27.0]
    assert "3 exposures" in asked("where", condition)
    out = tmp_path / "some.fits"
    assert f"{out}: 3 rows" in asked("where", condition, "--out", str(out))
    assert Table.read(out)["snr_B"].tolist() == [21.0, 24.0, 27.0]
    with pytest.raises(CatalogError, match="did you mean snr_"):
        asked("where", "snr_b > 3")


def test_a_crossmatch_says_how_the_table_was_read_and_writes_pairs(tmp_path: Path) -> None:
    table, out = tmp_path / "list.csv", tmp_path / "pairs.ecsv"
    table.write_text("name,RAJ2000,DEJ2000\na,205.0,43.0002\nb,300.0,-80.0\nc,207.0,43.0\n")
    shown = asked("crossmatch", str(table))
    assert "'RAJ2000' (deg, as none is given)" in shown
    assert "2 of 3 rows are within 3 arcsec of 2 of the catalog's 30 exposures; 2 pairs" in shown
    assert "700000005" in shown
    said = json.loads(asked("crossmatch", str(table), "--radius", "0.5", "--json"))
    assert (said["rows_matched"], said["pairs"], said["columns"]["dec"]) == (1, 1, "DEJ2000")
    assert [pair["obsid"] for pair in said["matches"]] == [700_000_007]
    assert f"{out}: 2 pairs" in asked("crossmatch", str(table), "--out", str(out))
    pairs = Table.read(out)
    assert pairs["table_row"].tolist() == [0, 2]
    np.testing.assert_allclose(pairs["separation"], [0.72, 0.0], atol=1e-6)
    with pytest.raises(CatalogError, match="exists already"):
        asked("crossmatch", str(table), "--out", str(out))
    asked("crossmatch", str(table), "--out", str(out), "--overwrite")


def test_a_list_without_positions_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("name,period,alfa,delto\na,3.0,205.0,43.0\n")
    with pytest.raises(CatalogError, match=r"list\.csv: it has no column of ra, .*--ra-column"):
        asked("crossmatch", str(table))
    named = ("--ra-column", "alfa", "--dec-column", "delto", "--unit", "deg")
    assert "1 of 1 rows are within 3 arcsec" in asked("crossmatch", str(table), *named)
