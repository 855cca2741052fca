"""A survey of which nothing was fitted: its stars by the catalog alone, and what fits add later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from typer.testing import CliRunner

from twinlines.pipeline.binaries.fits.store import FitsError
from twinlines.pipeline.binaries.sources.binary import open_binary
from twinlines.pipeline.binaries.sources.orbits import sample_orbits
from twinlines.pipeline.binaries.sources.survey import StaleWarning, make_sources, open_sources
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.cli import main as cli


def asked(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_stars_are_grouped_and_weighed_before_anything_was_fitted(client: Client, three: Path, tmp_path: Path) -> None:
    fitted = make_sources(three)
    shutil.move(three / "fits", tmp_path / "fits")
    said = asked("binaries", "sources", "--survey", three)
    assert "0 stars with two sets of lines" in said
    assert "3 others that may be double-lined" in said
    assert "'twinlines binaries fit'" in said
    table = open_sources(three).load()
    order = np.argsort(table["obsid"].values)
    alike = np.argsort(fitted["obsid"].values)
    for name in (
        "obsid",
        "ra",
        "epochs",
        "best_probability",
        "sb2_probability",
        "sb2_log_evidence",
        "rv_range",
        "nights",
    ):
        np.testing.assert_allclose(table[name].values[order], fitted[name].values[alike], rtol=1e-12, err_msg=name)
    for name in ("epochs_fitted", "epochs_double", "epochs_blended"):
        assert not table[name].values.any(), name
    for name in ("wilson_mass_ratio", "separation_largest", "flux_ratio", "period"):
        assert np.isnan(table[name].values).all(), name
    listed = json.loads(asked("catalog", "sources", "--survey", three, "--least-double", "0", "--json"))
    assert len(listed) == 3
    asked("binaries", "export", "--survey", three, "--what", "sources", tmp_path / "stars.vot")
    # What needs fits says so, and how to make them.
    for needs_fits in (lambda: sample_orbits(client, three), lambda: open_binary(three, 1000)):
        with pytest.raises(FitsError, match="has no fits of two stars yet; 'twinlines binaries fit --survey"):
            needs_fits()
    # Fits come: the stars of before count, as stale ones, until they are made anew.
    shutil.copytree(tmp_path / "fits", three / "fits", dirs_exist_ok=True)
    shutil.rmtree(next((three / "fits").glob("0*/sources-*.zarr")))
    with pytest.warns(StaleWarning, match="are of fits that were added to since; 'twinlines binaries sources"):
        assert open_sources(three).sizes["source"] == 3
    with (
        pytest.warns(StaleWarning),
        pytest.raises(FitsError, match="were made before anything was fitted; 'twinlines binaries sources"),
    ):
        sample_orbits(client, three)
    assert int(make_sources(three)["epochs_double"].values.sum()) > 3
    assert int(open_sources(three)["epochs_double"].values.sum()) > 3


def test_without_a_catalog_or_a_survey_there_are_no_stars(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no survey"):
        make_sources(tmp_path / "nowhere")
    with pytest.raises(FitsError, match="there is no survey at"):
        open_sources(tmp_path / "nowhere")
    with pytest.raises(FitsError, match="has no stars yet; 'twinlines binaries sources"):
        open_sources(tmp_path)
