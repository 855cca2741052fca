"""Options in groups: that typer sees each, and that the command gets the group."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from twinlines.pipeline.cli.options import JsonOption, SeedOption, grouped
from twinlines.pipeline.cli.training import TrainingOptions
from twinlines.pipeline.training.members import Training


@dataclass(frozen=True)
class Sampling:
    """A group with an option that must be said, and one that need not be."""

    size: Annotated[int, typer.Option("--size", min=1, help="How many.")]
    seed: SeedOption = 7


def test_a_command_gets_its_group() -> None:
    got: list[tuple[str, Sampling, bool]] = []
    app = typer.Typer()

    @app.command()
    @grouped
    def sample(*, name: Annotated[str, typer.Argument()], how: Sampling, as_json: JsonOption = False) -> None:
        got.append((name, how, as_json))

    assert CliRunner().invoke(app, ["star", "--size", "3"]).exit_code == 0
    assert CliRunner().invoke(app, ["--size", "4", "--seed", "1", "--json", "star"]).exit_code == 0
    assert got == [("star", Sampling(3, 7), False), ("star", Sampling(4, 1), True)]
    assert CliRunner().invoke(app, ["star"]).exit_code == 2
    assert CliRunner().invoke(app, ["star", "--size", "0"]).exit_code == 2
    assert "How many." in CliRunner().invoke(app, ["--help"]).output


def test_two_options_of_one_name_are_refused() -> None:
    def sample(*, seed: SeedOption = 0, how: Sampling) -> None: ...

    with pytest.raises(TypeError, match="two options are named 'seed'"):
        grouped(sample)


def test_training_without_an_option_is_training_s_own_default() -> None:
    assert TrainingOptions().training() == Training()


def test_training_takes_as_many_penalties_as_are_said() -> None:
    paper = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert list(TrainingOptions(penalty=paper).training().penalties) == paper


def test_help_waits_for_nothing_heavy() -> None:
    code = (
        "import sys, twinlines.pipeline.cli.main; sys.exit(bool({'torch', 'matplotlib', 'xarray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
