"""What an evaluation leaves behind: files, figures, and what the command prints."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client
from rich.console import Console
from typer.testing import CliRunner

from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.cli import main
from twinlines.pipeline.cli.evaluation import show_beside, show_evaluation, write
from twinlines.pipeline.evaluation.beside import Summary
from twinlines.pipeline.evaluation.report import EvaluationReport
from twinlines.pipeline.evaluation.tasks import EvaluationError
from twinlines.pipeline.evaluation.twins import TWINS, Twin
from twinlines.pipeline.figures import evaluation as evaluationfigures


def test_files_and_figures_are_written(report: EvaluationReport, tmp_path: Path) -> None:
    paths = write(report, tmp_path / "new")
    assert {path.name for path in paths} == {
        *("evaluation.json", "table3.csv", "evaluation.txt", "figure4.png", "figure6.png", "reliability.png"),
        *("figure5_B.png", "figure5_R.png", "figure5_J.png", "operating.png"),
    }
    assert all(path.stat().st_size > 200 for path in paths)
    lines = (tmp_path / "new/table3.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2
    row = next(row for row in report.table if (row.head, row.penalty) == ("B", 16))
    assert lines[2].split(",")[:5] == ["B", "16", "2", str(row.rates.tpr.trials), str(row.rates.fpr.trials)]
    assert lines[2].endswith(",0.359925,0.001275")
    assert lines[-1].startswith("J,16,2,")
    assert lines[-1].endswith(",,")  # what the paper has not
    # Written again without twins and curves, none of an earlier evaluation's figures is left.
    write(replace(report, twins=(), curves=()), tmp_path / "new")
    assert not list((tmp_path / "new").glob("figure5*"))
    assert not (tmp_path / "new/operating.png").exists()


def test_what_is_printed_says_all(report: EvaluationReport) -> None:
    text = io.StringIO()
    show_evaluation(report, Console(file=text, width=100_000))
    printed = text.getvalue()
    for words in (
        *("p0 of both arms > 0.5", "p50 of J > 0.5", "J: 0.0013", "R: 0.0016", "flux ratio", "log g of the primary"),
        *("single, 30 km/s off rest", "unseen by construction", "frame of the pairs: "),
    ):
        assert words in printed
    rule = next(row for row in report.rule if (row.rule, row.penalty) == ("joint", 16))
    line = next(line for line in printed.splitlines() if "p50 of J > 0.5" in line and " 16 " in line)
    assert f"{rule.rates.tpr.value:.3f} ({rule.rates.tpr.low:.3f}" in line


def test_an_operating_curve_is_drawn_for_each_verdict(report: EvaluationReport) -> None:
    (panel,) = evaluationfigures.operating(report).axes
    _, labels = panel.get_legend_handles_labels()
    assert labels[: len(report.curves)] == [
        *("blue arm", "red arm", "both arms, J"),
        *("rule: p0 of both arms", "rule: p50 of J", "rule: p0 of J"),
    ]
    for line, curve in zip(panel.lines, report.curves, strict=False):
        assert list(line.get_ydata()) == [point.rates.tpr.value for point in curve.points]  # type: ignore[arg-type]
    assert report.frame in panel.get_title()


def test_every_head_has_a_panel(report: EvaluationReport) -> None:
    titles = [panel.get_title() for panel in evaluationfigures.reliability(report).axes]
    assert titles == ["Blue arm", "Red arm", "Both arms, J"]
    handles = evaluationfigures.marginals(report).axes[0].get_legend_handles_labels()[1]
    assert len(handles) == len(HEADS)


@pytest.mark.parametrize("head", HEADS)
def test_a_star_that_the_library_lacks_is_left_out_with_the_reason(
    head: str, report: EvaluationReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluationfigures, "TWINS", (*TWINS[:5], Twin("O dwarf", 40_000.0, 4.0)))
    lacking = replace(report, twins_left_out={"O dwarf": "no library node above"})
    assert "twins: O dwarf is left out: no library node above" in lacking.notes
    figure = evaluationfigures.twins(lacking, head)
    assert sum(text.get_text() == "not in the library" for panel in figure.axes for text in panel.texts) == 1


def test_evaluations_stand_side_by_side(report: EvaluationReport, tmp_path: Path) -> None:
    write(replace(report, frame="drawn", twins=()), tmp_path)
    (earlier, now) = Summary.read(tmp_path), Summary.of(report)
    assert earlier == replace(now, frame="drawn")
    text = io.StringIO()
    show_beside([now, earlier], Console(file=text, width=100_000))
    rows = [line for line in text.getvalue().splitlines() if report.pairs in line]
    assert [row.split("│")[2].strip() for row in rows] == [report.frame, "drawn"]
    tpr = report.operating[2].point.rates.tpr
    assert f"{tpr.value:.3f} ({tpr.low:.3f}-{tpr.high:.3f})" in rows[1]
    for content in ("", "{}", '{"operating": [{"head": "J"}]}'):
        (tmp_path / "evaluation.json").write_text(content)
        with pytest.raises(EvaluationError, match="no evaluation of this version"):
            Summary.read(tmp_path)
    with pytest.raises(EvaluationError, match=r"none/evaluation\.json is no evaluation"):
        Summary.read(tmp_path / "none")


def test_from_the_command_line(client: Client, store: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/figure5_B.png").write_bytes(b"of an earlier evaluation")
    arguments = ["evaluate", "--pairs", store, "--weights", weights, "--out", tmp_path / "out", "--twins", 0]
    address = client.scheduler_info()["address"]
    options = ["--rule-pairs", "2", "--joint-threshold", "0.8", "--sb2-fraction", "0.1", "--cluster", address, "--json"]
    done = CliRunner().invoke(main.app, [*map(str, arguments), *options])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["sb2_fraction"] == 0.1
    assert {row["rule"]: row["threshold"] for row in summary["rule"]} == {"paper": 0.5, "joint": 0.8, "joint p0": 0.8}
    assert all(Path(path).exists() for path in summary["files"])
    assert not (tmp_path / "out/figure5_B.png").exists()
    assert not (tmp_path / "out/.answers").exists()
    wrong = CliRunner().invoke(main.app, [*map(str, arguments), "--beside", str(tmp_path), "--cluster", address])
    assert isinstance(wrong.exception, EvaluationError)
