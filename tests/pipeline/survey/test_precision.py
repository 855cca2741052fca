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
from twinlines.pipeline.survey.precision import asked, usual
from twinlines.pipeline.survey.releases import SurveyError


def _start(survey: Survey, arithmetic: str) -> None:
    recipe = replace(RECIPE, parameters={"precision": arithmetic})
    survey.run(recipe.key).begin(recipe, 4096, survey.next_start_number)


def test_a_first_run_is_mixed_where_the_hardware_has_it(client: Client, tmp_path: Path) -> None:
    assert usual(client, Survey(tmp_path)) == ("mixed" if has_bfloat16("cpu") else "float32")


def _workers(monkeypatch: pytest.MonkeyPatch, *hardware: bool) -> None:
    """Let workers have bfloat16 or not; one machine has one kind of them."""
    workers = {f"tcp://{place}": Report("here", {}, bfloat16=has) for place, has in enumerate(hardware)}
    monkeypatch.setattr(precision, "collect", lambda *_: workers)


@pytest.mark.parametrize("hardware", [(True, True), (True, False)])
def test_the_first_run_follows_all_workers_hardware_and_later_ones_the_run_before(
    hardware: tuple[bool, ...], client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _workers(monkeypatch, *hardware)
    survey = Survey(tmp_path)
    assert usual(client, survey) == ("mixed" if all(hardware) else "float32")
    _workers(monkeypatch, True, True)
    for started in ("float32", "mixed", "float32"):
        _start(survey, started)
        assert usual(client, survey) == started


def test_what_workers_cannot_is_said_before_anything_is_begun(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was begun is the last one: refused by its workers, it would be asked for again, and refused."""
    survey = Survey(tmp_path)
    _start(survey, "float32")
    _workers(monkeypatch, True, False)
    assert asked(client, "float32") == usual(client, survey) == "float32"
    with pytest.raises(SurveyError, match=r"1 of the workers, first that on here, do not .* give --precision float32"):
        asked(client, "mixed")
    _start(survey, "mixed")  # elsewhere
    with pytest.raises(SurveyError, match="the survey's last run was in it, and 1 of the workers"):
        usual(client, survey)


def test_a_precision_that_is_unknown_or_not_said_is_told_with_what_to_do(client: Client, tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    _start(survey, "float8")
    with pytest.raises(SurveyError, match=r"run\.json .* no precision is called 'float8'.* give --precision float32"):
        usual(client, survey)
    (survey.runs[-1].folder / "run.json").write_text("{}")
    with pytest.raises(SurveyError, match=r"run\.json does not say in which precision .* give --precision float32"):
        usual(client, survey)
