"""The commands ``twinlines catalog``: questions to the published catalog."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import JsonOption, OverwriteOption, SurveyOption, TableFormatOption, TableOut

if TYPE_CHECKING:
    import xarray as xr

    from twinlines.pipeline.catalog.diff import CatalogDiff

_CROSSINGS = 20  # that are printed
_LISTED = 50  # exposures that are printed, if nothing else is asked for
_COLUMNS = {
    "obsid": "d",
    "lmjm": "d",
    "ra": ".5f",
    "dec": ".5f",
    "snr_B": ".1f",
    "snr_R": ".1f",
    "rv_obs_B": ".1f",
    "rv_obs_R": ".1f",
}
"""Columns that tell a reader most, and how their numbers are printed."""
_FIRST = ("obsid", "lmjm", "p50 J", "p50 B", "p50 R", "p0 B", "p0 R")  # where there is no room for all
_CALIBRATED = {"p_value": "p", "star_p_value": "p star", "star_bounded_false": "false at most"}
"""Columns of a calibrated catalog, and their titles."""
_QUALITY = {"quality B": "quality_B", "quality R": "quality_R"}


class RuleOption(StrEnum):
    """The candidates' rules."""

    JOINT = "joint"
    PAPER = "paper"


catalog_app = typer.Typer(help="Questions to the published catalog.", no_args_is_help=True)

LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Most rows to print.", show_default=f"{_LISTED}; all with --json"),
]
PenaltyOption = Annotated[int, typer.Option("--penalty", help="Penalty (Lambda): 8, 16 or 32.")]
PercentileOption = Annotated[
    int | None,
    typer.Option("--percentile", help="Percentile: 0, 16, 50, 84 or 100.", show_default="50; 0 by the paper's rule"),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--threshold", min=0.0, max=1.0, help="Least probability.", show_default="the rule's"),
]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", help="Ask the catalog of this release; by default the current one.")
]


@catalog_app.command(epilog="Example: twinlines catalog candidates --survey survey --penalty 16")
def candidates(
    survey: SurveyOption,
    rule: Annotated[
        RuleOption,
        typer.Option("--rule", help="joint: the probability by both arms together; paper: that of each arm."),
    ] = RuleOption.JOINT,
    penalty: PenaltyOption = 16,
    percentile: PercentileOption = None,
    threshold: ThresholdOption = None,
    any_arm: Annotated[bool, typer.Option("--any-arm", help="Of the paper's rule: one arm is enough.")] = False,
    unfamiliar: Annotated[
        bool, typer.Option("--unfamiliar", help="Also exposures that are unlike any star, or two, of the library.")
    ] = False,
    fdr: Annotated[
        float | None,
        typer.Option("--fdr", help="Of a calibrated catalog, instead: at most this part of the stars is single."),
    ] = None,
    in_the_mean: Annotated[
        bool, typer.Option("--in-the-mean", help="Of --fdr: in the mean over surveys, not in this one.")
    ] = False,
    limit: LimitOption = None,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exposures of SB2 candidates: by both arms together, by the paper's rule, or at a false discovery rate."""
    from twinlines.pipeline.catalog import catalog

    if fdr is not None:
        if rule is not RuleOption.JOINT or percentile is not None or threshold is not None or any_arm or unfamiliar:
            raise typer.BadParameter("--fdr goes by the calibration; leave the other options of the rule out")
        if release is not None:
            raise typer.BadParameter("--fdr is of the current catalog, which was calibrated; leave --release out")
        answer(_warranted(survey, fdr, in_the_mean), limit, penalty, as_json)
        return
    if in_the_mean:
        raise typer.BadParameter("--in-the-mean says how --fdr is meant; give --fdr, too")
    every = catalog.open(survey, release=release).sb2.candidates(
        rule=rule.value,
        penalty=penalty,
        percentile=percentile,
        threshold=threshold,
        arms="any" if any_arm else "both",
        unfamiliar=True,
    )
    odd = every.sb2.is_unfamiliar() & (rule is RuleOption.JOINT and not unfamiliar)
    answer(every.isel(exposure=~odd), limit, penalty, as_json, left_out=int(odd.sum()))


@catalog_app.command(epilog="Example: twinlines catalog cone --survey survey --ra 292.0587 --dec 43.9253 --radius 3")
def cone(
    survey: SurveyOption,
    ra: Annotated[float, typer.Option("--ra", help="Right ascension (J2000), degrees.")],
    dec: Annotated[float, typer.Option("--dec", help="Declination (J2000), degrees.")],
    radius: Annotated[float, typer.Option("--radius", help="Radius, arcseconds.")] = 3.0,
    penalty: PenaltyOption = 16,
    limit: LimitOption = None,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exposures around a position, nearest first."""
    from twinlines.pipeline.catalog import catalog

    rows = catalog.open(survey, release=release).sb2.cone(ra, dec, radius)
    answer(rows, limit, penalty, as_json)


@catalog_app.command(epilog="Example: twinlines catalog export --survey survey catalog.fits")
def export(
    survey: SurveyOption,
    out: TableOut,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            help="table4: the paper's 34, J not among them; all: ours, too; or a file that names some, one a line.",
            metavar="table4|all|FILE",
        ),
    ] = "table4",
    format_: TableFormatOption = None,
    overwrite: OverwriteOption = False,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the catalog as a table: FITS, VOTable, Parquet, HATS, text of the AAS or CDS; or its footprint as a MOC."""
    from twinlines.pipeline.catalog import catalog
    from twinlines.pipeline.catalog.export import read_names

    chosen = columns if columns in ("table4", "all") else read_names(Path(columns))
    rows = catalog.open(survey, release=release).sb2.export(
        out, columns=chosen, format=None if format_ is None else format_.value, overwrite=overwrite
    )
    console.show({"file": str(out), "rows": rows}, as_json, lambda where: where.print(f"{out}: {rows} rows"))


@catalog_app.command(epilog="Example: twinlines catalog diff dr8 dr9 --survey survey")
def diff(
    old: Annotated[str, typer.Argument(help="A release, or the name of a catalog.")],
    new: Annotated[str, typer.Argument(help="What it is compared with: a release, or the name of a catalog.")],
    survey: SurveyOption,
    rule: Annotated[
        RuleOption | None,
        typer.Option(
            "--rule", help="The candidates' rule.", show_default="joint; paper if a catalog has no such verdict"
        ),
    ] = None,
    penalty: PenaltyOption = 16,
    percentile: PercentileOption = None,
    threshold: ThresholdOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two catalogs: rows, and the probabilities that crossed the threshold."""
    from twinlines.pipeline.catalog.diff import diff as compare

    report = compare(
        survey, old, new, rule=rule.value if rule else None, penalty=penalty, percentile=percentile, threshold=threshold
    )
    console.show(report.to_json(), as_json, lambda screen: show_diff(report, screen))


def _warranted(survey: Path, fdr: float, in_the_mean: bool) -> xr.Dataset:
    from twinlines.pipeline.validation.trust.survey import open_calibrated

    rows: xr.Dataset = open_calibrated(survey).sb2.candidates(fdr=fdr, in_the_mean=in_the_mean)
    return rows


def answer(rows: xr.Dataset, limit: int | None, penalty: int, as_json: bool, left_out: int = 0) -> None:
    """Print rows of a catalog, at most ``limit``, for people or as JSON; ``left_out`` odd ones are not among them."""
    rows.sb2.probability("B", penalty=penalty)  # refuses a penalty that there is none of, also where JSON has them all
    # They are put together only if they are asked for.
    summary = rows_to_json(rows.isel(exposure=slice(limit))) if as_json else []
    console.show(summary, as_json, lambda screen: show_rows(rows, limit or _LISTED, penalty, screen, left_out))


def rows_to_json(rows: xr.Dataset) -> list[dict[str, Any]]:
    """Rows with the columns of Table 4, and the names of their quality bits, as objects for JSON."""
    from twinlines.pipeline.schema import TABLE4, Quality

    columns = {name: rows[name].values.tolist() for name in (*TABLE4, *_CALIBRATED) if name in rows}
    for name in _QUALITY.values():
        columns[name] = [[bit.name for bit in Quality(bits)] for bits in rows[name].values.tolist()]
    return [{name: values[row] for name, values in columns.items()} for row in range(rows.sizes["exposure"])]


def show_rows(rows: xr.Dataset, limit: int, penalty: int, where: Console, left_out: int = 0) -> None:
    """Print those columns of the first ``limit`` rows that tell a reader most, and how many odd ones were left out."""
    from twinlines.pipeline.spectra.quality import explain

    shown = rows.isel(exposure=slice(limit))
    columns = {
        name: [format(value, style) for value in shown[name].values.tolist()] for name, style in _COLUMNS.items()
    }
    for head, percentile in (("J", 50), ("B", 50), ("R", 50), ("B", 0), ("R", 0)):
        values = shown.sb2.probability(head, penalty=penalty, percentile=percentile).values
        columns[f"p{percentile} {head}"] = [f"{value:.3f}" for value in values]
    columns |= {
        title: [f"{value:.2g}" for value in shown[name].values] for name, title in _CALIBRATED.items() if name in shown
    }
    columns |= {title: list(explain(shown[name].values)) for title, name in _QUALITY.items()}
    where.print(console.table(list(columns), list(zip(*columns.values(), strict=True)), first=_FIRST))
    hidden = rows.sizes["exposure"] - limit
    if hidden > 0:
        where.print(f"... and {hidden} more; --limit shows more, 'twinlines catalog export' writes the whole catalog")
    if left_out:
        where.print(f"{left_out} more are like nothing that the library knows; --unfamiliar lists them, too")
    source = f"; catalog {rows.attrs['name']}" if "name" in rows.attrs else ""
    stars = f" of {len(set(rows['star'].values.tolist()))} stars" if "star" in rows else ""
    where.print(f"{rows.sizes['exposure']} exposures{stars}; probabilities at penalty {penalty}{source}")


def show_diff(report: CatalogDiff, where: Console) -> None:
    """Print what changed between two catalogs."""
    rows = (
        f"{report.added} new, {report.gone} gone, {report.changed} changed by content, {report.recomputed} recomputed"
    )
    asked = f"{report.rule} rule, penalty {report.penalty}, percentile {report.percentile}"
    what = f"({asked}) that crossed {report.threshold}"
    console.say(
        where,
        [
            f"{report.old} ({report.rows_old} rows) -> {report.new} ({report.rows_new} rows)",
            f"rows: {rows}, {report.same} as they were",
            *(f"{name}: {before} -> {after}" for name, (before, after) in report.recipe.items()),
            f"candidates among the rows of both: {report.candidates_gained} gained, {report.candidates_lost} lost",
            f"probabilities {what}: {len(report.crossings)}",
        ],
    )
    if report.crossings:
        table: list[tuple[object, ...]] = [
            (
                *(crossing.obsid, crossing.lmjm, crossing.head),
                *(_probability(crossing.before), _probability(crossing.after), crossing.cause),
            )
            for crossing in report.crossings[:_CROSSINGS]
        ]
        where.print(console.table(("obsid", "lmjm", "verdict", "before", "after", "cause"), table))
    if len(report.crossings) > _CROSSINGS:
        where.print(f"... and {len(report.crossings) - _CROSSINGS} more; --json has all")


def _probability(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
