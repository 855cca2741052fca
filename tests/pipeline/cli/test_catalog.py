"""Answers to questions to a catalog, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import twinlines.pipeline.binaries.sources.questions  # noqa: F401 (it takes the true open, before that is replaced)
from twinlines.pipeline.catalog import catalog
from twinlines.pipeline.catalog.questions import CatalogError
from twinlines.pipeline.cli import main
from twinlines.pipeline.schema import CATALOG, Quality


@pytest.fixture(autouse=True)
def sky(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty exposures of one star; of the first, the blue arm has too low an S/N, and the red is absent."""
    made = CATALOG.dataset({}, 60)
    made["obsid"][:] = 747412076
    made["ra"][:], made["dec"][:] = 292.0, 43.0
    made["bjdmid"][:] = np.arange(60.0)
    made["quality_B"][0] = Quality.LOW_SNR | Quality.NO_VELOCITY
    made["quality_R"][0] = Quality.NO_ARM
    monkeypatch.setattr(catalog, "open", lambda *_, **__: made.drop_vars("healpix29"))


def asked(*arguments: str) -> str:
    result = CliRunner().invoke(main.app, ["catalog", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def exposures(text: str) -> list[dict[str, Any]]:
    """Those of an answer in JSON: a list of them, or of one star, which is no known binary."""
    answer = json.loads(text)
    if isinstance(answer, dict):
        assert answer["binary"] is None
        answer = answer["exposures"]
    return list(answer)


def test_quality_is_in_words_and_as_names() -> None:
    shown = asked("source", "747412076", "--survey", "s")
    assert "S/N of 5 or less; no velocity" in shown
    assert "no spectrum of this arm" in shown
    rows = exposures(asked("source", "747412076", "--survey", "s", "--json"))
    assert (rows[0]["quality_B"], rows[0]["quality_R"]) == (["LOW_SNR", "NO_VELOCITY"], ["NO_ARM"])
    assert (rows[1]["quality_B"], rows[1]["rv_obs_B"]) == ([], None)


@pytest.mark.parametrize("command", [("source", "747412076"), ("cone", "--ra", "292", "--dec", "43")])
def test_a_limit_is_one_of_json_too(command: tuple[str, ...]) -> None:
    assert asked(*command, "--survey", "s").count("747412076") == 50
    assert asked(*command, "--survey", "s", "--limit", "3").count("747412076") == 3
    assert len(exposures(asked(*command, "--survey", "s", "--json"))) == 60
    assert len(exposures(asked(*command, "--survey", "s", "--json", "--limit", "3"))) == 3


def test_a_penalty_that_the_catalog_lacks_is_named(tmp_path: Path) -> None:
    command = ["catalog", "source", "747412076", "--survey", str(tmp_path), "--penalty", "5"]
    with pytest.raises(CatalogError, match="the catalog has no penalty 5"):
        CliRunner().invoke(main.app, command, catch_exceptions=False)
    with pytest.raises(CatalogError, match="the catalog has no penalty 5"):
        CliRunner().invoke(main.app, [*command, "--json"], catch_exceptions=False)
