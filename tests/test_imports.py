"""The direction of imports: ``pipeline -> models``, ``pipeline -> cluster``, and no other between the three."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.places import ROOT

ALLOWED = {"cluster": {"cluster"}, "models": {"models"}, "pipeline": {"pipeline", "models", "cluster"}}
MODULES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))


def _imported(tree: ast.AST) -> set[str]:
    """Absolute names of all modules that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_in_one_direction(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in _imported(ast.parse(path.read_text())):
        parts = name.split(".")
        assert parts[0] not in ALLOWED, f"{name}: import it as twinlines.{name}"
        if parts[0] == "twinlines":
            assert parts[1] in ALLOWED[package], f"{package} imports {name}; it may import {sorted(ALLOWED[package])}"


def test_the_models_know_no_dask_and_no_file_format_of_the_survey() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        tops = {name.split(".")[0] for name in _imported(ast.parse(path.read_text()))}
        assert not tops & {"dask", "distributed", "fitsio", "astropy"}, path


def test_the_inference_knows_no_dask() -> None:
    names = _imported(ast.parse((ROOT / "pipeline" / "spectra" / "inference.py").read_text()))
    assert not {name for name in names if name.startswith(("dask", "distributed", "twinlines.cluster"))}


def test_the_survey_knows_no_wavelength() -> None:
    for path in (ROOT / "pipeline" / "survey").glob("*.py"):
        names = _imported(ast.parse(path.read_text()))
        rooms = {name.split(".")[2] for name in names if name.startswith("twinlines.pipeline.")}
        # What a worker loads comes as a function; its default is imported inside the one function that needs it.
        assert not rooms & {"arms", "lamost", "library", "stars"}, path
