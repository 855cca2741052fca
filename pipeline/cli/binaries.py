"""The commands ``twinlines binaries``: two velocities of each exposure of a binary."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    ClusterOptions,
    IgnorePlanOption,
    JsonOption,
    OverwriteOption,
    SurveyOption,
    TableOut,
    connected,
    grouped,
)

if TYPE_CHECKING:
    import xarray as xr

    from twinlines.pipeline.binaries.fits.survey import FitReport

_LISTED = 50  # exposures that are printed, if nothing else is asked for
_WHAT = {
    "obsid": "d",
    "lmjm": "d",
    "rv1": ".1f",
    "rv1_err": ".1f",
    "rv2": ".1f",
    "rv2_err": ".1f",
    "flux_ratio_B": ".2f",
    "flux_ratio_R": ".2f",
    "teff1": ".0f",
    "teff2": ".0f",
    "delta_chi2": ".0f",
}
"""Columns that tell a reader most, and how their numbers are printed."""
_FIRST = ("obsid", "lmjm", "rv1", "rv2", "flux_ratio_B", "delta_chi2", "fit")  # where there is no room for all

binaries_app = typer.Typer(help="What follows the verdict: two velocities of each exposure.", no_args_is_help=True)

LimitOption = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Most rows to print.", show_default=f"{_LISTED}; all with --json"),
]
AllOption = Annotated[bool, typer.Option("--all", help="Exposures that turn out to show one star, too.")]


@binaries_app.command(epilog="Example: twinlines binaries fit --survey survey")
@grouped
def fit(
    *,
    survey: SurveyOption,
    release: Annotated[str | None, typer.Option("--release", help="Newest release whose candidates are meant.")] = None,
    obsid: Annotated[
        list[int] | None, typer.Option("--obsid", help="Fit all exposures of this instead; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Fit all exposures instead.")] = False,
    least_probability: Annotated[
        float | None,
        typer.Option(
            "--least-probability", help="Fit all exposures of this median probability or more instead, such as 0.003."
        ),
    ] = None,
    whole_stars: Annotated[
        bool, typer.Option("--whole-stars", help="The other exposures of the same stars, too: what orbits are made of.")
    ] = False,
    where: ClusterOptions,
    ignore_plan: IgnorePlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit two stars to the candidates of the catalog. What is fitted already is not fitted again."""
    from twinlines.pipeline.binaries.fits.survey import fit as fit_survey

    with connected(where) as client, console.progress() as progress:
        report = fit_survey(
            client,
            survey,
            release=release,
            obsids=obsid,
            everything=everything,
            least_probability=least_probability,
            whole_stars=whole_stars,
            progress=progress,
            ignore_plan=ignore_plan,
        )
    console.show(report.to_json(), as_json, lambda screen: show_fits(report, screen))
    if not report.complete:
        raise typer.Exit(1)


@binaries_app.command("list", epilog="Example: twinlines binaries list --survey survey")
def list_(
    survey: SurveyOption,
    every: AllOption = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the exposures that were fitted and show two stars, with both velocities."""
    from twinlines.pipeline.binaries.fits.store import FitsError, load_fits, shows_two

    fits = load_fits(survey)
    rows = fits if every else fits.isel(exposure=shows_two(fits))
    if not fits.sizes["exposure"]:
        raise FitsError(f"no exposure of {survey} was fitted")
    shown = rows.isel(exposure=slice(limit))
    console.show(
        rows_to_json(shown) if as_json else [], as_json, lambda screen: show_rows(rows, limit or _LISTED, screen)
    )


class What(StrEnum):
    """What there are tables of."""

    FITS = "fits"
    SOURCES = "sources"
    ORBITS = "orbits"
    SOLUTIONS = "solutions"
    SAMPLES = "samples"


class OrbitFormat(StrEnum):
    """Formats of tables; the last one is of orbits alone."""

    FITS = "fits"
    VOTABLE = "votable"
    PARQUET = "parquet"
    HATS = "hats"
    MRT = "mrt"
    CDS = "cds"
    MOC = "moc"
    SB9 = "sb9"


@binaries_app.command(epilog="Example: twinlines binaries export --survey survey binaries.fits")
def export(
    survey: SurveyOption,
    out: TableOut,
    what: Annotated[
        What,
        typer.Option(
            "--what",
            help="fits: two stars of each exposure; sources: the stars; orbits: the likeliest of each star, under the "
            "names of Gaia's tables; solutions: every likely one, and limits; samples: of the posteriors.",
        ),
    ] = What.FITS,
    columns: Annotated[
        str, typer.Option("--columns", help="all; or a file that names some, one a line.", metavar="all|FILE")
    ] = "all",
    format_: Annotated[
        OrbitFormat | None,
        typer.Option(
            "--format",
            help="Format of the table; sb9: orbits in the layout of SB9, a folder.",
            show_default="as the file's name ends",
        ),
    ] = None,
    every: AllOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a table of the fits, with the catalog's positions, S/N and verdict of both arms; or of stars, or orbits."""
    if every and what is not What.FITS:
        raise typer.BadParameter("--all is of exposures; it goes with --what fits")
    from twinlines.pipeline.binaries import export as tables
    from twinlines.pipeline.catalog.export import read_names

    asked: dict[str, Any] = {
        "columns": "all" if columns == "all" else read_names(Path(columns)),
        "format": None if format_ is None else format_.value,
        "overwrite": overwrite,
    }
    if what is What.FITS:
        rows = tables.export_fits(survey, out, every=every, **asked)
    else:
        rows = tables.export_stars(survey, out, what.value, **asked)
    console.show({"file": str(out), "rows": rows}, as_json, lambda where: where.print(f"{out}: {rows} rows"))


def rows_to_json(rows: xr.Dataset) -> list[dict[str, Any]]:
    """Rows of fits, with the names of their quality bits, as objects for JSON."""
    from twinlines.pipeline.binaries.schema import FITS, FitQuality

    columns = {name: rows[name].values.tolist() for name in FITS.variables}
    columns["fit_quality"] = [[bit.name for bit in FitQuality(bits)] for bits in columns["fit_quality"]]
    return [{name: values[row] for name, values in columns.items()} for row in range(rows.sizes["exposure"])]


def show_fits(report: FitReport, where: Console) -> None:
    """Print what a call did."""
    console.say(
        where,
        [
            f"exposures: {report.asked} asked for, {report.fitted} fitted now, {report.before} before",
            f"{report.double} of them show two stars",
            *(f"failed: {failure.piece}: {failure.error} ({failure.file})" for failure in report.failed),
            f"fits: {report.store}" if report.store else "nothing was fitted",
        ],
    )


def show_rows(rows: xr.Dataset, limit: int, where: Console) -> None:
    """Print those columns of the first ``limit`` rows that tell a reader most."""
    from twinlines.pipeline.binaries.schema import FitQuality

    shown = rows.isel(exposure=slice(limit))
    columns = {name: [format(value, style) for value in shown[name].values.tolist()] for name, style in _WHAT.items()}
    bits = [FitQuality(value) for value in shown["fit_quality"].values.tolist()]
    columns["fit"] = [", ".join(str(bit.name).lower() for bit in each) or "good" for each in bits]
    where.print(console.table(list(columns), list(zip(*columns.values(), strict=True)), first=_FIRST))
    hidden = rows.sizes["exposure"] - limit
    if hidden > 0:
        where.print(f"... and {hidden} more; --limit shows more, 'twinlines binaries export' writes all")
    where.print(f"{rows.sizes['exposure']} exposures")
