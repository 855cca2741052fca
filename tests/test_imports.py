"""The direction of imports: between the houses, and between the rooms of the pipeline; what each may know of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.houses import HOUSES, MODULES, ROOMS
from tests.places import ROOT

MOST_LINES = 400


@dataclass(frozen=True)
class Import:
    """A name that a module imports."""

    name: str
    line: int
    for_types: bool
    """Whether only a type checker follows it."""


def _imports(node: ast.AST, for_types: bool = False) -> Iterator[Import]:
    """All that a module imports, wherever in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", child.lineno, for_types)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(child, True)
        else:
            yield from _imports(child, for_types)


def _imports_of(path: Path) -> list[Import]:
    return list(_imports(ast.parse(path.read_text())))


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _room(path: Path) -> str | None:
    """The room of one of the pipeline's modules; None beside the rooms."""
    parts = path.relative_to(ROOT / "pipeline").parts
    return parts[0] if len(parts) > 1 else None


IN_PIPELINE = [path for path in MODULES if path.is_relative_to(ROOT / "pipeline")]
each_module = pytest.mark.parametrize("path", MODULES, ids=_named)
# What a room's stub offers is imported, too, when it is used.
each_file_of_the_pipeline = pytest.mark.parametrize(
    "path", [*IN_PIPELINE, *sorted((ROOT / "pipeline").rglob("*.pyi"))], ids=_named
)


@each_module
def test_imports_run_in_one_direction(path: Path) -> None:
    house = path.relative_to(ROOT).parts[0]
    for imported in _imports_of(path):
        parts = imported.name.split(".")
        assert parts[0] not in HOUSES, f"line {imported.line}: import {imported.name} as twinlines.{imported.name}"
        if parts[0] == "twinlines":
            target, allowed = next((part for part in parts[1:2] if part in HOUSES), "front"), HOUSES[house]
            assert target in allowed, f"line {imported.line}: {house} imports {imported.name}, not of {sorted(allowed)}"


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {folder.parent.name for folder in (ROOT / "pipeline").glob("*/__init__.py")}
    assert rooms == set(ROOMS), "name a new room in tests/houses.py, and in docs/architecture.md"


@each_file_of_the_pipeline
def test_a_room_imports_only_those_before_it(path: Path) -> None:
    room = _room(path)
    allowed = () if room is None else ROOMS[: ROOMS.index(room) + 1]
    for imported in _imports_of(path):
        if imported.name.startswith("twinlines.pipeline."):
            target = imported.name.split(".")[2]
            assert target not in ROOMS or target in allowed, (
                f"line {imported.line}: {room or 'a module beside the rooms'} imports {imported.name}; "
                f"{target} comes after it"
            )


@each_module
def test_only_commands_print_and_only_figures_draw(path: Path) -> None:
    room = _room(path) if path in IN_PIPELINE else None
    for imported in _imports_of(path):
        top = imported.name.split(".")[0]
        if top in ("rich", "typer"):
            assert room == "cli", f"line {imported.line}: what prints stands in pipeline/cli"
        if top == "matplotlib" and not imported.for_types:
            assert room == "figures", f"line {imported.line}: what draws stands in pipeline/figures"


def test_no_module_imports_itself_through_others() -> None:
    by_name: dict[str, Path] = {}
    for path in MODULES:
        parts = ("twinlines", *path.relative_to(ROOT).with_suffix("").parts)
        parts = tuple(part for part in parts if part != "front")
        by_name[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for name, path in by_name.items():
        names = {imported.name for imported in _imports_of(path) if not imported.for_types}
        # A name is a module's, or something in a module.
        modules = {part for full in names for part in (full, full.rpartition(".")[0]) if part in by_name}
        graph[name] = modules - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@each_module
def test_a_module_is_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{_named(path)} has {lines} lines; make two modules of it"


def test_the_models_know_no_dask_and_no_file_format_of_the_survey() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        tops = {imported.name.split(".")[0] for imported in _imports_of(path)}
        assert not tops & {"dask", "distributed", "fitsio", "astropy"}, path


def test_the_inference_knows_no_dask() -> None:
    names = {imported.name for imported in _imports_of(ROOT / "pipeline" / "spectra" / "inference.py")}
    assert not {name for name in names if name.startswith(("dask", "distributed", "twinlines.cluster"))}


def test_the_survey_knows_no_wavelength() -> None:
    for path in (ROOT / "pipeline" / "survey").glob("*.py"):
        names = {imported.name for imported in _imports_of(path)}
        rooms = {name.split(".")[2] for name in names if name.startswith("twinlines.pipeline.")}
        # What a worker loads comes as a function; its default is imported inside the one function that needs it.
        assert not rooms & {"arms", "lamost", "library", "stars"}, path
