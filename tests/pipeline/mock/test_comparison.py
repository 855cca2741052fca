"""A catalog against a known truth: every count, from rows made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table

from twinlines.pipeline.catalog import questions
from twinlines.pipeline.mock.comparison import Comparison, compare
from twinlines.pipeline.mock.release import TRUNCATED, MockTruth
from twinlines.pipeline.schema import CATALOG

assert questions.SB2  # the accessor that compare uses

# star, kind, delta_v, defect, in catalog, p0, p50 (both arms), measured minus true velocity
ROWS: list[tuple[int, str, float, str, bool, float, float, float]] = [
    (0, "SB2", -20.0, "", True, 0.1, 0.4, 3.0),
    (0, "SB2", 150.0, "", True, 0.9, 0.99, 4.0),
    (0, "SB2", 120.0, "", True, 0.3, 0.9, 5.0),
    (1, "SB2", 70.0, "", True, 0.2, 0.45, 0.0),
    (2, "single", np.nan, "", True, 0.0, 0.01, 1.0),
    (2, "single", np.nan, "", True, 0.0, 0.02, 2.0),
    (3, "giant", np.nan, "", True, 0.7, 0.8, 3.0),
    (4, "SB1", np.nan, TRUNCATED, False, np.nan, np.nan, np.nan),
    (5, "single", np.nan, "no red arm", True, np.nan, np.nan, 1.5),
]


def catalog_rows(present: list[int]) -> xr.Dataset:
    """The rows ``present`` of ROWS as a catalog, in the opposite order."""
    order = present[::-1]
    columns: dict[str, Any] = {
        "obsid": np.array([100 + ROWS[row][0] for row in order]),
        "lmjm": np.array([1000 + row for row in order]),
        "bprp0": np.full(len(order), np.nan),
    }
    for arm in "BR":
        probability = np.full((len(order), 5), np.nan)
        probability[:, 0] = [ROWS[row][5] for row in order]
        probability[:, 2] = [ROWS[row][6] for row in order]
        columns |= {
            f"pb_pct_{arm}_16": probability,
            f"rv_obs_{arm}": np.array([10.0 + ROWS[row][7] for row in order]),
            f"rv_obs_err_{arm}": np.full(len(order), 0.5),
        }
    columns["pb_pct_J_16"] = columns["pb_pct_B_16"]
    return CATALOG.dataset(columns, len(order))


def mock_truth() -> MockTruth:
    names = ("star", "kind", "delta_v", "defect")
    table = Table(rows=[row[:4] for row in ROWS], names=names)
    table["obsid"], table["lmjm"] = 100 + table["star"], 1000 + np.arange(len(ROWS))
    table["file"] = [f"file{number}" for number in range(len(ROWS))]
    table["v1"] = 10.0
    for name in ("teff1", "q", "light_ratio_R", "period", "snr_B", "snr_R"):
        table[name] = np.arange(len(ROWS), dtype=float)
    return MockTruth(Path("nowhere"), table, Table(names=("file", "defect", "exposures"), dtype=(str, str, int)))


@pytest.fixture
def comparison() -> Comparison:
    return compare(mock_truth(), catalog_rows([row for row in range(len(ROWS)) if ROWS[row][4]]))


def test_rows_meet_whatever_their_order(comparison: Comparison) -> None:
    table = comparison.exposures
    assert table["in_catalog"].tolist() == [row[4] for row in ROWS]
    assert np.array_equal(table["p0_B"], np.float32([row[5] for row in ROWS]), equal_nan=True)
    assert np.array_equal(table["p50_R"], np.float32([row[6] for row in ROWS]), equal_nan=True)
    assert np.flatnonzero(table["candidate_paper"]).tolist() == [1, 6]
    assert np.flatnonzero(table["candidate"]).tolist() == [1, 2, 6]


def test_recall_and_false_alarms_are_counted(comparison: Comparison) -> None:
    assert comparison.recall() == [
        {"separation_kms": "0-50", "exposures": 1, "candidates": 0, "by_the_papers_rule": 0},
        {"separation_kms": "50-100", "exposures": 1, "candidates": 0, "by_the_papers_rule": 0},
        {"separation_kms": ">100", "exposures": 2, "candidates": 2, "by_the_papers_rule": 1},
    ]
    assert comparison.alarms() == [
        {"kind": "single", "exposures": 2, "candidates": 0, "by_the_papers_rule": 0},
        {"kind": "giant", "exposures": 1, "candidates": 1, "by_the_papers_rule": 1},
        {"kind": "SB1", "exposures": 0, "candidates": 0, "by_the_papers_rule": 0},
    ]


def test_stars_get_their_verdict(comparison: Comparison) -> None:
    stars = comparison.stars()
    verdicts = dict(zip(stars["star"].tolist(), stars["verdict"].tolist(), strict=True))
    expected = ["found", "missed", "rightly single", "false alarm", "not judged", "not judged"]
    assert verdicts == dict(enumerate(expected))
    assert stars["delta_v"][0] == 150.0
    assert stars["p50_B"][0] == pytest.approx(0.99)
    assert stars["p50_B"][2] == pytest.approx(0.02)
    assert (stars["exposures"][0], stars["candidates"][0]) == (3, 2)


def test_velocities_are_those_of_one_visible_star(comparison: Comparison) -> None:
    found = comparison.velocities()["B"]
    low, middle, high = np.percentile([1.0, 2.0, 3.0, 1.5], [16, 50, 84])
    assert found["exposures"] == 4
    assert found["median_kms"] == pytest.approx(middle, abs=1e-3)
    assert found["scatter_kms"] == pytest.approx((high - low) / 2, abs=1e-3)
    assert found["scatter_over_error"] == pytest.approx((high - low), abs=2e-3)


def test_an_exposure_of_a_sound_file_that_is_not_there_is_lost(comparison: Comparison) -> None:
    assert comparison.lost == []
    assert compare(mock_truth(), catalog_rows([0, 1, 3])).lost == ["file2", "file4", "file5", "file6", "file8"]
    nothing = compare(mock_truth(), catalog_rows([]))
    assert len(nothing.lost) == 8
    assert nothing.velocities() == {"B": {"exposures": 0}, "R": {"exposures": 0}}
    assert set(nothing.stars()["verdict"].tolist()) == {"not judged"}
