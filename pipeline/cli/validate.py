"""The commands ``twinlines calibrate`` and ``twinlines validate``: how far a catalog can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.catalog import RuleOption
from twinlines.pipeline.cli.literature import literature_app
from twinlines.pipeline.cli.options import (
    TABLES,
    ClusterOptions,
    IgnorePlanOption,
    JsonOption,
    SeedOption,
    SurveyOption,
    WeightsOption,
    connected,
    grouped,
)

if TYPE_CHECKING:
    from twinlines.pipeline.validation.false_positives import NullReport
    from twinlines.pipeline.validation.injection.survey import InjectionReport
    from twinlines.pipeline.validation.intervals import ExactRate
    from twinlines.pipeline.validation.known import KnownReport
    from twinlines.pipeline.validation.trust.classes import Classes
    from twinlines.pipeline.validation.trust.nulls import NullRule
    from twinlines.pipeline.validation.trust.survey import TrustReport

calibrate_app = typer.Typer()
validate_app = typer.Typer(help="How far a catalog can be trusted, and what others have found.", no_args_is_help=True)
validate_app.add_typer(literature_app)

_SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2)  # rates at which the number of candidates is printed

ConfidenceOption = Annotated[
    float, typer.Option("--confidence", min=0.5, max=0.99, help="Chance with which bounds and intervals hold.")
]


@dataclass(frozen=True)
class NullOptions:
    """Which stars are presumed single, and in what classes they fall."""

    nulls: Annotated[
        Path | None,
        typer.Option(
            "--nulls",
            help=f"List of single stars, by position or obsid: {TABLES}.",
            show_default="the survey's own, of constant velocity and narrow lines",
        ),
    ] = None
    nights: Annotated[int, typer.Option("--nights", min=2, help="Of the survey's own: fewest nights.")] = 4
    snr_edges: Annotated[
        str, typer.Option("--snr-edges", help="S/N of the blue arm that divide classes; '' for none.")
    ] = "10,20,40"
    teff_edges: Annotated[
        str, typer.Option("--teff-edges", help="Temperatures of templates, K, that divide classes; '' for none.")
    ] = "4750,6000,7250"

    def classes(self) -> Classes:
        """Where classes end."""
        from twinlines.pipeline.validation.trust.classes import Classes

        return Classes(_numbers("--snr-edges", self.snr_edges), _numbers("--teff-edges", self.teff_edges))

    def rule(self) -> NullRule:
        """What the survey's own single stars must show."""
        from twinlines.pipeline.validation.trust.nulls import NullRule

        return NullRule(nights=self.nights)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"{option} is {text!r}; give numbers between commas, such as 10,20,40") from None


@calibrate_app.command(epilog="Example: twinlines calibrate --survey survey --fdr 0.05")
@grouped
def calibrate(
    *,
    survey: SurveyOption,
    which: NullOptions,
    fdr: Annotated[
        float, typer.Option("--fdr", min=0.0001, max=0.9999, help="False discovery rate that is asked for.")
    ] = 0.05,
    least_nulls: Annotated[int, typer.Option("--least-nulls", min=2, help="Fewest nulls of a class.")] = 20,
    confidence: ConfidenceOption = 0.95,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare the catalog's stars with presumed single ones: p-values, prevalence, candidates of a stated purity."""
    import numpy as np

    from twinlines.pipeline.catalog.questions import CatalogError
    from twinlines.pipeline.validation.trust.calibration import Settings
    from twinlines.pipeline.validation.trust.survey import calibrate as calibrate_survey
    from twinlines.pipeline.validation.trust.survey import open_calibrated

    settings = Settings(which.classes(), least_nulls, confidence, seed)
    report = calibrate_survey(survey, nulls=which.nulls, settings=settings, rule=which.rule())
    rows, refused, candidates = open_calibrated(survey), None, 0
    try:
        candidates = len(np.unique(rows["star"].values[rows.sb2.is_warranted(fdr)]))
    except CatalogError as error:
        refused = str(error)
    summary = {**report.to_json(), "fdr": fdr, "candidates": candidates, "refused": refused}
    console.show(summary, as_json, lambda screen: show_calibration(report, fdr, screen))
    if refused is not None:
        console.complain(refused)
        raise typer.Exit(1)


@validate_app.command(epilog="Example: twinlines validate nulls --survey survey")
@grouped
def nulls(
    *,
    survey: SurveyOption,
    which: NullOptions,
    rule: Annotated[RuleOption, typer.Option("--rule", help="The candidates' rule.")] = RuleOption.JOINT,
    confidence: ConfidenceOption = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Measure how often presumed single stars are taken for binaries, by class; the worst class is named."""
    from twinlines.pipeline.validation.false_positives import false_positives

    report = false_positives(
        survey,
        nulls=which.nulls,
        candidates=rule.value,
        classes=which.classes(),
        rule=which.rule(),
        confidence=confidence,
    )
    console.show(report.to_json(), as_json, lambda screen: show_nulls(report, screen))


@validate_app.command(epilog="Example: twinlines validate known --survey survey truth.csv --two star2 --by kind")
@grouped
def known(
    truth: Annotated[Path, typer.Argument(help=f"Table of exposures: obsid, lmjm, and what they are; {TABLES}.")],
    *,
    survey: SurveyOption,
    two: Annotated[
        str, typer.Option("--two", help="Its column that says what shows two stars; empty, 0 or false: one.")
    ] = "binary",
    by: Annotated[str, typer.Option("--by", help="Its columns, between commas, whose values make groups.")] = "",
    confidence: ConfidenceOption = 0.95,
    as_json: JsonOption = False,
) -> None:
    """Compare the catalog with exposures whose truth is known: what is found, and what is false, by group."""
    from twinlines.pipeline.validation.known import known as compare

    columns = [name.strip() for name in by.split(",") if name.strip()]
    report = compare(survey, truth, two=two, by=columns, confidence=confidence)
    console.show(report.to_json(), as_json, lambda screen: show_known(report, screen))


@validate_app.command(epilog="Example: twinlines validate injection --survey survey --figure completeness.png")
@grouped
def injection(
    *,
    survey: SurveyOption,
    count: Annotated[int, typer.Option("--count", min=1, help="Binaries to inject.")] = 2000,
    which: NullOptions,
    minimum_snr: Annotated[
        float, typer.Option("--minimum-snr", help="S/N that a single spectrum must have in both arms.")
    ] = 30.0,
    mass_ratio: Annotated[float, typer.Option("--mass-ratio", help="Least mass ratio; the largest is 1.")] = 0.6,
    weights: WeightsOption = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw what is found (.png).")] = None,
    seed: SeedOption = 0,
    where: ClusterOptions,
    ignore_plan: IgnorePlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Combine the survey's own single spectra into known binaries, and count what the whole chain finds of them.

    What is judged is kept: the same command goes on where it was, and more binaries cost those that are new.
    """
    from twinlines.pipeline.validation.injection.draws import InjectionConfig
    from twinlines.pipeline.validation.injection.reals import RealConfig
    from twinlines.pipeline.validation.injection.survey import inject

    if figure is not None:  # not after all is computed
        from twinlines.pipeline.figures.canvas import check

        check(figure)
    with connected(where) as client, console.progress() as progress:
        report = inject(
            client,
            survey,
            count=count,
            config=InjectionConfig(mass_ratio=(mass_ratio, 1.0), seed=seed),
            real=RealConfig(minimum_snr),
            nulls=which.nulls,
            rule=which.rule(),
            classes=which.classes(),
            weights=weights,
            progress=progress,
            ignore_plan=ignore_plan,
        )
    if figure is not None:
        from twinlines.pipeline.figures.injection import completeness_figure

        completeness_figure(report.completeness, figure, report.catalog)
    summary = {**report.to_json(), "figure": str(figure) if figure else None}
    console.show(summary, as_json, lambda screen: show_injection(report, figure, screen))


def show_calibration(report: TrustReport, fdr: float, where: Console) -> None:
    """Print nulls, classes, the prevalence, and how many candidates there are at some rates."""
    import numpy as np

    from twinlines.pipeline.validation.false_positives import said

    result = report.calibration
    share, tested = result.prevalence, result.tested
    percent = f"{100 * share.confidence:g} %"
    interval = f"{share.value:.4f} ({share.low:.4f} to {share.high:.4f}, {percent})"
    console.say(
        where,
        [
            f"nulls: {int(result.null.sum())} presumed single stars ({said(report.counts)})",
            f"nulls: for bounds they are worth {result.equal_nulls} of equal weight",
            f"stars: {int(tested.sum())} tested of {int((~result.null).sum())}",
            f"prevalence: {interval} of the stars tested show more than single stars do",
        ],
    )
    table = [(one.label, one.nulls, one.stars, one.untested) for one in result.classes]
    where.print(console.table(("class", "nulls", "stars tested", "too few nulls for"), table))
    rows: list[tuple[object, ...]] = []
    for rate in sorted({*_SHOWN, fdr}):
        counts = [int(np.sum(values[tested] <= rate)) for values in (result.bounded_false, result.expected_false)]
        rows.append((f"{rate:g}", *counts))
    where.print(console.table(("at most false", f"stars ({percent})", "stars (in the mean)"), rows))
    console.say(where, [f"calibration: {report.store}"])


def show_nulls(report: NullReport, where: Console) -> None:
    """Print rates by class."""
    from twinlines.pipeline.validation.false_positives import said

    rows = [
        (
            one.label,
            one.stars,
            one.exposures.trials,
            one.exposures.count,
            _interval(one.exposures),
            _interval(one.any_exposure),
        )
        for one in (*report.classes, report.whole)
    ]
    titles = ("class", "nulls", "exposures", "candidates", "false positive rate", "of stars, any exposure")
    where.print(console.table(titles, rows, first=("class", "exposures", "false positive rate")))
    console.say(
        where,
        [
            f"nulls: {report.nulls} presumed single stars ({said(report.counts)})",
            f"rule: {report.rule}; intervals of {100 * report.confidence:g} %; catalog {report.catalog}",
            f"worst: {report.worst or 'none, as no exposure of a null was a candidate'}",
        ],
    )


def show_known(report: KnownReport, where: Console) -> None:
    """Print what each group is called, per cent."""
    for two, title in ((False, "of one star, called binary, %"), (True, "of two stars, found, %")):
        groups = [one for one in report.groups if one.two is two]
        rows = [
            (
                *(value or "-" for value in one.values),
                one.exposures,
                *(_percent(rate, two) for rate in one.called.values()),
                _percent(one.unfamiliar, True),
                one.missing or "",
                one.unjudged or "",
            )
            for one in groups
        ]
        heads = ("B", "R", "J", "rule", "paper's rule", "unfamiliar", "missing", "unjudged")
        if rows:
            where.print(console.table((*(report.by or ()), "exposures", *heads), rows, title=title))
    ends = f"in brackets the upper end (one star) or the lower end (two) at {100 * report.confidence:g} %"
    notes = [
        f"B, R, J: median probability above 0.5, penalty 16; rules with their cuts; {ends}",
        f"catalog: {report.catalog}",
    ]
    console.say(where, [*notes, *(f"note: {note}" for note in report.notes)])


def show_injection(report: InjectionReport, figure: Path | None, where: Console) -> None:
    """Print what was found, by what binaries are."""
    found = report.completeness
    titles = {"separation": "velocity separation", "flux_ratio": "flux ratio, blue arm", "snr": "S/N", "type": "type"}
    rows: list[tuple[object, ...]] = [
        (titles[name] if at == 0 else "", one.label, one.found.trials, one.stars, _interval(one.found))
        for name, bins in found.by.items()
        for at, one in enumerate(bins)
    ]
    rows.append(("all", "", found.whole.found.trials, found.whole.stars, _interval(found.whole.found)))
    where.print(console.table(("binaries", "of", "injected", "real stars", "found"), rows))
    lost = f"{len(report.left_out)} could not be used{': ' + report.left_out[0] if report.left_out else ''}"
    lines = [
        f"real spectra: {report.spectra} of {report.stars} single stars of {report.release}; {lost}",
        f"injections: {report.store}",
        f"each star's own completeness: {report.of_stars}",
    ]
    console.say(where, [*lines, *([f"figure: {figure}"] if figure else [])])


def _interval(rate: ExactRate) -> str:
    return f"{rate.value:.4f} ({rate.low:.4f} to {rate.high:.4f})"


def _percent(rate: ExactRate, from_below: bool) -> str:
    return f"{100 * rate.value:.3g} ({100 * (rate.low if from_below else rate.high):.3g})" if rate.trials else "-"
