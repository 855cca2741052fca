"""What commands print: JSON that any reader takes, and results that nobody reads."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from twinlines.pipeline.binaries.sources.survey import StaleWarning
from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.main import main
from twinlines.pipeline.cli.streams import Forgiving, OutputError


def refused(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_json_is_valid_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    summary = {
        "missing": float("nan"),
        "infinite": [1.0, float("-inf")],
        "numpy": {"number": np.float32(0.5), "nan": np.float32("nan"), "count": np.int64(3), "true": np.bool_(True)},
        "array": np.array([[1.0, np.nan]]),
        "path": Path("a/b"),
        "tuple": (1, None),
        "name": "caf\udce9",
    }
    console.show(summary, True, lambda _: None)
    assert json.loads(capsys.readouterr().out, parse_constant=refused) == {
        "missing": None,
        "infinite": [1.0, None],
        "numpy": {"number": 0.5, "nan": None, "count": 3, "true": True},
        "array": [[1.0, None]],
        "path": "a/b",
        "tuple": [1, None],
        "name": "caf\udce9",
    }


def test_what_json_does_not_know_is_an_error_and_no_text() -> None:
    with pytest.raises(TypeError, match="JSON does not know: object"):
        console.show({"thing": object()}, True, lambda _: None)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_reader_that_has_left_misses_the_answer_no_more(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        console.show({"rows": 3}, as_json, lambda screen: screen.print("3 rows"))
        console.show({"rows": 3}, as_json, lambda screen: screen.print("3 rows"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(screen: Console) -> None:
        screen.print("3 rows")

    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputError, match="cannot be printed: No space left on device; the work itself is done"):
            console.show({"rows": 3}, False, lines)


def test_progress_goes_on_when_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", Forgiving(pipe))
        with console.progress() as progress:
            for step in range(3):
                progress("scan", step, 2)
        console.complain("a word")


@pytest.mark.parametrize(
    ("category", "said"),
    [
        (StaleWarning, "twinlines: warning: make them anew: [bold]x[/bold]\n"),
        (UserWarning, "twinlines: warning: make them anew: [bold]x[/bold]\n"),
        (RuntimeWarning, "twinlines: warning (RuntimeWarning): make them anew: [bold]x[/bold]\n"),
    ],
)
def test_a_warning_is_a_message_without_a_line_of_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], category: type[Warning], said: str
) -> None:
    def command() -> None:
        warnings.warn("make them anew: [bold]x[/bold]", category, stacklevel=1)
        sys.exit(0)

    monkeypatch.setattr("twinlines.pipeline.cli.main.app", command)
    # What main changes in its own process.
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit):
            main()
    assert capsys.readouterr().err == said
