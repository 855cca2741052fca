"""The script that measures GPUs: what it does without one, and that it needs little."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu
from tests.models.conftest import SMALL
from tests.places import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_ends_well() -> None:
    """And needs torch, numpy, scipy and safetensors only, and the networks' code from where it lies."""
    code = f"""
import runpy, sys
sys.argv = ["gpu.py"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
ours = {{name: module for name, module in sys.modules.items() if name.startswith("twinlines.")}}
assert all(name.startswith("twinlines.models") for name in ours), ours
files = [file for module in ours.values() if (file := getattr(module, "__file__", None))]
assert all(file.startswith({str(ROOT)!r}) for file in files), files
loaded = {{"zarr", "xarray", "dask", "astropy", "threadpoolctl", "matplotlib"}} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, result = done.stdout.splitlines()
    assert said.startswith("no GPU: torch ")
    assert json.loads(result) == {"name": "gpu", "gpu": None}


def test_its_checks_pass_where_the_device_is_the_cpu() -> None:
    apart = {**gpu.noise_apart("cpu", 2, 61), **gpu.probabilities_apart("cpu", SMALL, count=3, n_draws=4)}
    assert apart.keys() == gpu.MOST_APART.keys()
    assert all(value <= gpu.MOST_APART[name] for name, value in apart.items()), apart
    assert apart["captured"] == 0.0


def test_the_grids_are_the_survey_s() -> None:
    from twinlines.pipeline.arms import BLUE, RED

    assert (BLUE.n_pixels, RED.n_pixels) == gpu.PIXELS
