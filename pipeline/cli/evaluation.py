"""The command ``twinlines evaluate``: how good an ensemble is, on pairs that training never saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    ClusterOptions,
    JsonOption,
    LibraryOption,
    SeedOption,
    WeightsOption,
    connected,
    grouped,
)

if TYPE_CHECKING:
    from twinlines.models.evaluation import Precision, Rate, Rates
    from twinlines.pipeline.evaluation.beside import Summary
    from twinlines.pipeline.evaluation.limit import LimitRow
    from twinlines.pipeline.evaluation.report import EvaluationReport
    from twinlines.pipeline.evaluation.rows import FrameCurves, OperatingRow, PopulationRow, TableRow

evaluation_app = typer.Typer()

_DISPLACED_SHOWN, _CENTRED_SHOWN = (0.0, 30.0, 50.0, 100.0), (100.0, 200.0)  # km/s
_POPULATION_COLUMNS = (
    *("head", "penalty", "population", "at FPR"),
    *("members' TPR", "ensemble's TPR", "TPR at 0.5", "FPR at 0.5"),
)
_STRATA_TITLES = {
    "separation": "separation (km/s)",
    "flux_ratio": "flux ratio",
    "snr": "S/N",
    "vsini1": "vsini of the primary (km/s)",
    "logg1": "log g of the primary",
}
_FRAME_COLUMNS = (
    *("star", "head", "penalty"),
    *(f"single, {velocity:g} km/s off rest" for velocity in _DISPLACED_SHOWN),
    *(f"twins, {velocity:g} km/s apart about rest" for velocity in _CENTRED_SHOWN),
)


_LIMIT_COLUMNS = ("information limit", "population", "binaries", "at FPR", "TPR", "labels known", "chi2 decreases by")


class SplitOption(StrEnum):
    """Which pairs are judged."""

    TEST = "test"
    ALL = "all"


@evaluation_app.command(epilog="Example: twinlines evaluate --pairs pairs.zarr --weights weights --out evaluation")
@grouped
def evaluate(
    *,
    pairs: Annotated[Path, typer.Option("--pairs", help="Training store, from 'twinlines synthesize'.")],
    weights: WeightsOption = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the figures and the numbers; those of an earlier one are replaced."),
    ] = Path("evaluation"),
    split: Annotated[
        SplitOption, typer.Option("--split", help="all: for a set of which training has seen nothing.")
    ] = SplitOption.TEST,
    twins: Annotated[
        int, typer.Option("--twins", min=0, help="Noisy spectra at each point of Figure 5, 2000 in the paper; 0: none.")
    ] = 100,
    rule_pairs: Annotated[
        int, typer.Option("--rule-pairs", min=0, help="Most pairs that the catalog's rules are tried on; 0: none.")
    ] = 2000,
    joint_threshold: Annotated[
        float | None,
        typer.Option(
            "--joint-threshold",
            help="Probability of both arms together that a candidate has.",
            show_default="that of 'twinlines catalog candidates'",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Binaries of which the information limit is measured; 0: none.")
    ] = 0,
    sb2_fraction: Annotated[
        float, typer.Option("--sb2-fraction", min=0.0, max=1.0, help="Fraction of SB2s for which precision is given.")
    ] = 0.02,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside", help="Folder of an earlier evaluation, to be shown beside this one; as often as need be."
        ),
    ] = None,
    seed: SeedOption = 0,
    library: LibraryOption = None,
    where: ClusterOptions,
    as_json: JsonOption = False,
) -> None:
    """Measure an ensemble on pairs that training never saw: the paper's Table 3 and Figures 4 to 6, and more.

    Verdicts are those of the blue arm (B), the red one (R), and both together (J).

    Killed, it goes on where it was.
    """
    import shutil

    from twinlines.pipeline.catalog.questions import JOINT_THRESHOLD
    from twinlines.pipeline.evaluation.beside import Summary
    from twinlines.pipeline.evaluation.evaluation import Options
    from twinlines.pipeline.evaluation.evaluation import evaluate as run_evaluation
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS

    options = Options(
        split=split.value,
        twins=twins,
        rule_pairs=rule_pairs,
        joint_threshold=JOINT_THRESHOLD if joint_threshold is None else joint_threshold,
        limit=limit,
        sb2_fraction=sb2_fraction,
        seed=seed,
        library=library,
    )
    others = [Summary.read(folder) for folder in beside or ()]  # before the work: a wrong name costs nothing then
    answers = out / ".answers"
    with connected(where) as client, console.progress() as progress:
        report = run_evaluation(client, pairs, weights or SHIPPED_WEIGHTS, options, answers=answers, progress=progress)
    files = write(report, out)
    shutil.rmtree(answers, ignore_errors=True)

    def lines(screen: Console) -> None:
        show_evaluation(report, screen)
        if others:
            show_beside([Summary.of(report), *others], screen)
        console.say(screen, [f"written: {path}" for path in files])

    console.show({**report.to_json(), "files": [str(path) for path in files]}, as_json, lines)


def write(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write all that an evaluation has measured into ``folder``, and return the paths.

    ``evaluation.json`` holds every number, ``table3.csv`` Table 3, ``evaluation.txt`` what the command prints; figures
    are PNG. Files of an earlier evaluation are replaced.

    Parameters
    ----------
    report
        What was measured.
    folder
        Where to; made if there is none.
    """
    from twinlines.pipeline.evaluation.report import write_numbers
    from twinlines.pipeline.figures import evaluation as figures

    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "evaluation.txt"
    with text.open("w", encoding="utf-8") as file:
        show_evaluation(report, Console(file=file, width=console.UNLIMITED, highlight=False))
    return [*write_numbers(report, folder), text, *figures.write(report, folder)]


def show_evaluation(report: EvaluationReport, where: Console) -> None:
    """Print Table 3 beside the paper's, operating points, populations, the catalog's rules and what to know of them."""
    from twinlines.pipeline.evaluation.rows import RULES

    precision = f"precision at {100 * report.sb2_fraction:g} % SB2s"
    columns = ("head", "penalty", "members", "TPR", "FPR", "paper's TPR", "FPR", precision)
    where.print(console.table(columns, [_table_row(row) for row in report.table]))
    where.print("the paper's rates are of another population and library; intervals are at 95 % confidence")
    if report.operating:
        _show_operating(report.operating, where)
    where.print(console.table(_POPULATION_COLUMNS, [_population_row(row) for row in report.populations]))
    if report.frames:
        where.print(console.table(_FRAME_COLUMNS, [_frame_row(row) for row in report.frames]))
    if report.rule:
        rows: list[tuple[object, ...]] = [
            (f"{RULES[row.rule]} > {row.threshold:g}", row.penalty, *_both(row.rates), _precision(row.precision))
            for row in report.rule
        ]
        where.print(console.table(("candidates", "penalty", "TPR", "FPR", precision), rows))
        singles = report.rule[0].rates.fpr.trials
        where.print(f"{singles} single stars, {report.rule_draws} draws of each by every member")
    if report.limit:
        where.print(console.table(_LIMIT_COLUMNS, [_limit_row(row, report.limit.fpr) for row in report.limit.rows]))
        where.print("a likelihood-ratio test between the best single star and the best binary, the library exact")
    console.say(where, report.notes)


def _show_operating(rows: tuple[OperatingRow, ...], where: Console) -> None:
    """Print what the heads find at the paper's false positive rates, and of which binaries."""
    columns = ("at the FPR of", "", "binaries", *(f"{row.head}: {row.point.fpr:g}" for row in rows))
    first = rows[-1]
    lines: list[tuple[object, ...]] = [
        ("all", "", first.point.rates.tpr.trials, *(_rate(row.point.rates.tpr, 3) for row in rows))
    ]
    for place, stratum in enumerate(first.strata):
        for number, bounds in enumerate(stratum.bins):
            rates = [row.strata[place].bins[number].rate for row in rows]
            within = f"{bounds.start:g} to {bounds.stop:g}"
            title = _STRATA_TITLES[stratum.parameter] if number == 0 else ""
            lines.append((title, within, bounds.rate.trials, *(_rate(rate, 3) for rate in rates)))
    where.print(console.table(columns, lines))
    singles = first.point.rates.fpr.trials
    where.print(
        f"TPR of the members' mean logit at penalty {first.penalty}; its thresholds are set on {singles} single stars, "
        "and what they leave open is not in the intervals; flux ratio and S/N are the arm's, of J the mean of both arms"
    )


def show_beside(summaries: Sequence[Summary], where: Console) -> None:
    """Print what heads find on several sets of pairs."""
    from twinlines.models.evaluation import PAPER_FPR

    columns = ("pairs", "frame", "weights", *(f"{head}: {fpr:g}" for head, fpr in PAPER_FPR.items()))
    rows = [
        (
            *(each.pairs, each.frame, each.weights_digest[:12]),
            *(_rate(each.rates[head], 3) if head in each.rates else "-" for head in PAPER_FPR),
        )
        for each in summaries
    ]
    where.print(console.table(columns, rows, title="TPR at the FPR of"))


def _table_row(row: TableRow) -> tuple[object, ...]:
    paper = ("-", "-") if row.paper is None else (f"{row.paper['tpr']:.4f}", f"{row.paper['fpr']:.6f}")
    return row.head, row.penalty, row.members, *_both(row.rates), *paper, _precision(row.precision)


def _population_row(row: PopulationRow) -> tuple[object, ...]:
    at_fpr = (_rate(row.members, 3), _rate(row.ensemble, 3)) if row.members.trials else ("-", "-")
    return row.head, row.penalty, row.population, f"{row.fpr:.6f}", *at_fpr, *_both(row.rates)


def _frame_row(row: FrameCurves) -> tuple[object, ...]:
    from twinlines.pipeline.evaluation.twins import CENTRED, DISPLACED

    displaced = (row.displaced[DISPLACED.index(velocity)] for velocity in _DISPLACED_SHOWN)
    centred = (row.centred[CENTRED.index(velocity)] for velocity in _CENTRED_SHOWN)
    return row.star, row.head, row.penalty, *(f"{probability:.3f}" for probability in (*displaced, *centred))


def _limit_row(row: LimitRow, fpr: float) -> tuple[object, ...]:
    limit = f"{row.fraction:.3f} ({row.low:.3f}-{row.high:.3f})"
    threshold = f"{row.threshold:.1f} +- {row.threshold_error:.1f}"
    return row.arms, row.population, row.binaries, f"{fpr:.6f}", limit, f"{row.known:.3f}", threshold


def _both(rates: Rates) -> tuple[str, str]:
    return _rate(rates.tpr, 3), _rate(rates.fpr, 5)


def _rate(rate: Rate, digits: int) -> str:
    if not rate.trials:
        return "none to judge"
    return f"{rate.value:.{digits}f} ({rate.low:.{digits}f}-{rate.high:.{digits}f})"


def _precision(precision: Precision) -> str:
    return "-" if math.isnan(precision.value) else f"{precision.value:.3f} (from {precision.low:.3f})"
