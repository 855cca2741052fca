"""The reference that ``make docs`` has built: an entry for everything that is public."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from sphinx.util.inventory import InventoryFile

import twinlines
from tests.places import ROOT

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def entries() -> dict[str, set[str]]:
    """The names that have entries, by kind."""
    built = ROOT / ".build/docs/objects.inv"
    assert built.is_file(), "'make docs' builds the reference, and then runs this"
    inventory = InventoryFile.loads(built.read_bytes(), uri="")
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
