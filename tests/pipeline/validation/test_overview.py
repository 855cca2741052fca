"""A catalog at a glance: every exposure in one bin, every candidate star once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from twinlines.pipeline.cli import main
from twinlines.pipeline.schema import CATALOG_PENALTIES, HEADS, PERCENTILES
from twinlines.pipeline.testing.velocities import write_catalog
from twinlines.pipeline.testing.verdicts import make_verdicts
from twinlines.pipeline.validation.observed import Asked
from twinlines.pipeline.validation.overview import overview


def test_counts_are_those_of_the_catalog() -> None:
    made = make_verdicts(3)
    result = overview(made.catalog)
    judged = np.isfinite(made.catalog["pb_pct_J_16"].values[:, 0])
    assert set(result.counts) == {(h, p, q) for h in HEADS for p in CATALOG_PENALTIES for q in PERCENTILES}
    assert all(counts.sum() == judged.sum() for counts in result.counts.values())
    double = made.catalog["pb_pct_J_16"].values[:, 2] > 0.5
    said = result.to_json()
    assert said["exposures_candidates"] == double.sum() == result.double.sum()
    assert said["stars_candidates"] == made.stars["recovered"].sum()
    assert said["stars_judged"] == np.sum(np.arange(60) % 7 != 0)
    assert result.observations.tolist() == [4] * len(result.observations)
    by_snr = next(row for row in said["by_snr"] if (row["head"], row["penalty"], row["percentile"]) == ("J", 16, 50))
    assert by_snr["above_half"].sum() == double.sum()
    assert overview(made.catalog, Asked(threshold=0.99)).to_json()["observations"]["median"] is None


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    write_catalog(tmp_path / "s", "dr-1.zarr", make_verdicts(3).catalog)
    arguments = ["validate", "summary", "--survey", str(tmp_path / "s"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main.app, arguments, catch_exceptions=False)
    assert done.output.startswith("rule joint: percentile 50 of the probability at penalty 16 above 0.5")
    names = [*(f"probabilities-{head}.png" for head in HEADS), "observations.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main.app, [*arguments[:-1], str(tmp_path / "file")])
    assert "is a file; name a folder" in str(done.exception)
