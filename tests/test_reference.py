"""The reference that ``make docs`` builds: no warning, and an entry for everything that is public."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import twinlines

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The names that have entries, by kind; the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("reference")
    for folder in ("docs", "models", "pipeline"):
        ignored = shutil.ignore_patterns("api", "__pycache__", "*.safetensors", "*.npz", "*.zip")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.cff")]:
        shutil.copyfile(path, source / path.name)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "-c", "docs", ".", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    inventory = InventoryFile.loads((out / "objects.inv").read_bytes(), uri="")
    return {kind: set(inventory.data[kind]) for kind in inventory.data if kind.startswith("py:")}


def test_every_name_of_the_front_door_has_an_entry(entries: dict[str, set[str]]) -> None:
    assert {f"twinlines.{name}" for name in twinlines.__all__} <= set.union(*entries.values())


def test_every_module_has_a_page(entries: dict[str, set[str]]) -> None:
    modules: set[str] = set()
    for house in ("cluster", "models", "pipeline"):
        package = importlib.import_module(f"twinlines.{house}")
        modules |= {module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}
    assert len(modules) > 100
    assert {name for name in modules if not name.rpartition(".")[2].startswith("_")} <= entries["py:module"]
