"""What the pages show can be done: their imports, their commands, and the files that they name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import typer

from twinlines.pipeline.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[mp]*/**/README.md")])


def _blocks(page: Path) -> list[str]:
    """The blocks of a page, indented or between fences: programs and command lines."""
    text = page.read_text() + "\n"
    indented = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", text, re.MULTILINE)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [dedent(block) for block in (*indented, *fenced)]


def _programs() -> list[tuple[str, str]]:
    """What uses Twinlines from Python, by page."""
    blocks = [(page.name, block) for page in PAGES for block in _blocks(page)]
    return [(page, block) for page, block in blocks if re.search(r"^(from|import) twinlines\b", block, re.MULTILINE)]


def _commands(start: str, *pages: Path) -> Iterator[str]:
    """Lines that begin with ``start``: what follows a backslash at their end joined to them, comments cut off."""
    for page in pages:
        for block in _blocks(page):
            for shown in block.replace("\\\n", " ").splitlines():
                line = shown.removeprefix("$ ")
                if line.startswith(start):
                    yield line.partition(" #")[0]


@pytest.mark.parametrize(("page", "block"), _programs())
def test_what_a_program_on_a_page_imports_is_there(page: str, block: str) -> None:
    tree = ast.parse(block)
    names: dict[str, object] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            exec(ast.unparse(statement), names)
    # And what it takes from modules and classes by name.
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            assert hasattr(names[node.value.id], node.attr), f"{page}: {ast.unparse(node)}"


@pytest.mark.parametrize("module", sorted({line.split()[2] for line in _commands("python -m ", *PAGES)}))
def test_a_module_that_a_page_runs_has_help(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_page_have_the_options_that_they_are_shown_with(page: Path) -> None:
    for line in _commands("twinlines ", page):
        words = re.sub(r"[\[\]]", " ", line).split()[1:]
        command: Any = typer.main.get_command(app)
        while commands := getattr(command, "commands", None):
            assert words[:1], line
            assert words[0] in commands, line
            command = commands[words.pop(0)]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_scripts_that_a_page_runs_are_there() -> None:
    scripts = {line.split()[1] for line in _commands("python benchmarks/", *PAGES)}
    assert all((ROOT / script).is_file() for script in scripts), scripts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    # The page of the architecture names modules within their rooms; its own tests know them.
    for name in re.findall(r"`(?:python )?([\w/]+\.py)\b", page.read_text()):
        beside = "/" not in name and any(ROOT.glob(f"[pmc]*/**/{name}"))
        assert beside or (ROOT / name).is_file() or page.name == "architecture.md", name
