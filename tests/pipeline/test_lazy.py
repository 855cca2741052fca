"""Rooms offer lazily what the modules of their names offered, and the old names of other modules still work."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator

import pytest

import twinlines.pipeline
from tests.places import ROOT
from twinlines.pipeline.moved import MOVED, PACKAGE, SPLIT

STUBS = sorted((ROOT / "pipeline").glob("*/__init__.pyi"))
SHOWN = {
    "catalog": ("open",),
    "library": ("Library",),
    "lamost": ("MrsFile", "read", "write"),
    "synthesis": ("Scene", "pairs"),
    "ingest": ("ingest",),
    "survey": ("run",),
    "evaluation": ("evaluate",),
    "mock": ("make_release",),
    "training": ("train",),
    "figures": ("save",),
    "testing": ("random_file",),
}
"""What the pages show, or showed, to import from a room."""


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_a_room_s_stub_tells_the_truth(stub: object) -> None:
    path = ROOT / "pipeline" / str(stub).split("/")[-2] / "__init__.pyi"
    room = importlib.import_module(f"{PACKAGE}.{path.parent.name}")
    lines = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    offered = {alias.name: node.module for node in lines for alias in node.names}
    assert all(alias.asname == alias.name for node in lines for alias in node.names)
    assert dir(room) == sorted(offered) == list(room.__all__)
    for name, module in offered.items():
        assert getattr(room, name) is getattr(importlib.import_module(str(module)), name)
    with pytest.raises(AttributeError, match=f"module '{room.__name__}' has no attribute 'nothing_like_it'; it has"):
        _ = room.nothing_like_it


@pytest.mark.parametrize("room", SHOWN)
def test_what_pages_show_works(room: str) -> None:
    module = importlib.import_module(f"{PACKAGE}.{room}")
    assert set(SHOWN[room]) <= set(dir(module))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Python forgets afterwards that old names were imported, so that every test is told again."""
    yield
    for old in (*MOVED, *SPLIT):
        sys.modules.pop(f"{PACKAGE}.{old}", None)
        vars(twinlines.pipeline).pop(old, None)


@pytest.mark.parametrize("old", MOVED)
def test_a_moved_module_is_itself_under_its_old_name(old: str, forgotten: None) -> None:
    new = importlib.import_module(MOVED[old])
    spec = new.__spec__
    with pytest.warns(DeprecationWarning, match=f"{PACKAGE}.{old} has moved; import {MOVED[old]}$") as told:
        module = importlib.import_module(f"{PACKAGE}.{old}")
    assert module is new
    assert new.__spec__ is spec
    assert len(told) == 1
    assert not (ROOT / "pipeline" / f"{old}.py").exists()


@pytest.mark.parametrize("old", SPLIT)
def test_a_module_that_was_taken_apart_still_has_its_names(old: str, forgotten: None) -> None:
    with pytest.warns(DeprecationWarning, match=f"{PACKAGE}.{old} was taken apart; import {PACKAGE}"):
        module = importlib.import_module(f"{PACKAGE}.{old}")
    for name, (new, attribute) in SPLIT[old].items():
        assert getattr(module, name) is getattr(importlib.import_module(new), attribute)


def test_the_warning_points_at_the_line_that_imports(forgotten: None) -> None:
    with pytest.warns(DeprecationWarning, match="stores has moved") as told:
        from twinlines.pipeline import stores
    assert [warning.filename for warning in told] == [__file__]
    assert stores.__name__ == f"{PACKAGE}.storage.stores"


def test_no_other_name_is_known() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{PACKAGE}.nothing")
    assert not set(MOVED) & {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
