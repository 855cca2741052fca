"""A stranger's script passes mypy --strict, from a wheel and from an editable install."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import twinlines as tw
from tests.places import ROOT

SCRIPT = """
from typing import assert_type

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

import twinlines as tw
from twinlines.models.ensemble import Ensemble
from twinlines.pipeline import catalog
from twinlines.pipeline.binaries.sources.binary import Binary
from twinlines.pipeline.evaluation import evaluate
from twinlines.pipeline.figures import save
from twinlines.pipeline.ingest import ingest
from twinlines.pipeline.lamost import MrsFile, read, write
from twinlines.pipeline.library import Library
from twinlines.pipeline.mock import MockTruth, make_release
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.survey import run
from twinlines.pipeline.synthesis import Scene, pairs
from twinlines.pipeline.testing import random_file
from twinlines.pipeline.training import train

assert_type(tw.__version__, str)
spectra = tw.read_lamost(["a.fits", "b.fits.gz"], skip_bad=True)
assert_type(spectra, xr.Dataset)
verdict = tw.judge(spectra, progress=lambda stage, done, total: None)
assert_type(verdict, xr.Dataset)
assert_type(tw.judge_arrays("B", np.linspace(4900.0, 5400.0, 4000), np.ones(4000), sigma=0.1), xr.Dataset)
assert_type(tw.ccf(spectra, arm="R"), xr.DataArray)
assert_type(tw.plot.exposure(spectra.isel(exposure=0), verdict), tuple[Axes, Axes])
assert_type(tw.explain(3), str)
assert_type(tw.explain(np.array([1])), NDArray[np.str_])
assert_type(tw.explain(verdict["quality_B"]), xr.DataArray)
assert_type(tw.open_catalog("S", release="dr8"), xr.Dataset)
assert_type(tw.fit_pair(spectra), xr.Dataset)
assert_type(tw.open_fits("S"), xr.Dataset)
assert_type(tw.open_sources("S"), xr.Dataset)
assert_type(tw.open_orbits("S"), xr.Dataset)
assert_type(tw.open_calibrated("S"), xr.Dataset)
assert_type(tw.open_binary("S", 747412076), Binary)
assert_type(tw.solve_binary(spectra), Binary)
assert_type(tw.export(tw.open_sources("S"), "stars.vot"), int)
assert_type(tw.mock_release("fits", stars=3, seed=1), MockTruth)
assert_type(tw.load_library(), Library)
assert_type(tw.load_tracks(), Tracks)
assert_type(tw.load_ensemble(), Ensemble)
assert_type(tw.synthesize(4, seed=1), xr.Dataset)
assert_type(catalog.open("S"), xr.Dataset)
file: MrsFile = read(__import__("pathlib").Path("a.fits"))
"""

WRONG = """
import twinlines as tw

tw.jugde()
tw.judge_arrays("G", [1.0], [1.0])
tw.read_lamost(3)
"""


def test_the_script_uses_every_name() -> None:
    assert all(f"tw.{name}" in SCRIPT for name in tw.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_a_stranger_s_script_is_typed(way: str, tmp_path: Path) -> None:
    checkout, environment = tmp_path / "checkout", tmp_path / "environment"
    for folder in ("front", "pipeline", "models", "cluster"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, checkout / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in shared))
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet"]
    editable = ["-e"] if way == "editable" else []
    subprocess.run([*command, "--no-build-isolation", *editable, checkout], cwd=tmp_path, check=True)
    said = {}
    for name, text in (("right", SCRIPT), ("wrong", WRONG)):
        script = tmp_path / f"{name}.py"
        script.write_text(text)
        mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, script]
        said[name] = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert said["right"].startswith("Success"), said["right"]
    assert 'Module has no attribute "jugde"' in said["wrong"]
    assert '"judge_arrays" has incompatible type "Literal[\'G\']"' in said["wrong"].replace("Argument 1 to ", "")
    assert "Found 3 errors" in said["wrong"], said["wrong"]
