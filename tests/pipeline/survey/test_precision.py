"""In which precision a survey is computed where nobody says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from tests.pipeline.survey.test_runs import RECIPE
from twinlines.cluster.inventory import Report
from twinlines.models.precision import has_bfloat16
from twinlines.pipeline.survey import precision
from twinlines.pipeline.survey.folder import Survey
from twinlines.pipeline.survey.precision import usual


def _start(survey: Survey, arithmetic: str) -> None:
    recipe = replace(RECIPE, parameters={"precision": arithmetic})
    survey.run(recipe.key).begin(recipe, 4096, survey.next_start_number)


def test_a_first_run_is_mixed_where_the_hardware_has_it(client: Client, tmp_path: Path) -> None:
    assert usual(client, Survey(tmp_path)) == ("mixed" if has_bfloat16("cpu") else "float32")


@pytest.mark.parametrize("hardware", [(True, True), (True, False)])
def test_the_first_run_follows_all_workers_hardware_and_later_ones_the_run_before(
    hardware: tuple[bool, ...], client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = {f"tcp://{place}": Report("here", {}, bfloat16=has) for place, has in enumerate(hardware)}
    monkeypatch.setattr(precision, "collect", lambda *_: workers)  # one machine has one kind of workers
    survey = Survey(tmp_path)
    assert usual(client, survey) == ("mixed" if all(hardware) else "float32")
    for started in ("float32", "mixed", "float32"):
        _start(survey, started)
        assert usual(client, survey) == started


def test_a_precision_that_is_unknown_is_said(client: Client, tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    _start(survey, "float8")
    with pytest.raises(ValueError, match="no precision is called 'float8'"):
        usual(client, survey)
