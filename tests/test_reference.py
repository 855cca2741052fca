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


def _build(out: Path, *options: str) -> dict[str, set[str]]:
    """Build pages into ``out``; the names that have entries, by kind."""
    source = out / "source"
    for folder in ("docs", "models/weights", "pipeline/data"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("api", "*.safetensors", "*.npz"))
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff"):
        shutil.copyfile(ROOT / page, source / page)
    command = [sys.executable, "-m", "sphinx", "--quiet", *options, "-c", "docs", ".", str(out / "html")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    inventory = InventoryFile.loads((out / "html" / "objects.inv").read_bytes(), uri="")
    return {kind: set(inventory.data[kind]) for kind in inventory.data if kind.startswith("py:")}


def test_every_name_of_the_front_door_has_an_entry(tmp_path: Path) -> None:
    entries = _build(tmp_path, "-D", "include_patterns=docs/front-door.md", "-D", "root_doc=docs/front-door")
    assert {f"twinlines.{name}" for name in twinlines.__all__} <= set.union(*entries.values())


@pytest.mark.slow
def test_the_pages_and_the_reference_build_without_a_warning(tmp_path: Path) -> None:
    entries = _build(tmp_path, "--fail-on-warning")
    modules = {module.name for module in pkgutil.walk_packages(twinlines.__path__, "twinlines.")}
    for house in ("cluster", "models", "pipeline"):
        package = importlib.import_module(f"twinlines.{house}")
        modules |= {module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}
    assert len(modules) > 100
    assert {name for name in modules if not name.rpartition(".")[2].startswith("_")} <= entries["py:module"]
