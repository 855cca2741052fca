"""The commands ``twinlines catalog``: questions to the published catalog."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import JsonOption, OverwriteOption, SurveyOption

if TYPE_CHECKING:
    import xarray as xr

catalog_app = typer.Typer(help="Questions to the published catalog.", no_args_is_help=True)

LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Rows to print.")]
PenaltyOption = Annotated[int, typer.Option("--penalty", help="Penalty (Lambda): 8, 16 or 32.")]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", help="Ask the catalog of this release; by default the current one.")
]


@catalog_app.command(epilog="Example: twinlines catalog candidates --survey survey --penalty 16")
def candidates(
    survey: SurveyOption,
    penalty: PenaltyOption = 16,
    percentile: Annotated[int, typer.Option("--percentile", help="Percentile: 0, 16, 50, 84 or 100.")] = 0,
    threshold: Annotated[float, typer.Option("--threshold", min=0.0, max=1.0, help="Least probability.")] = 0.5,
    any_arm: Annotated[bool, typer.Option("--any-arm", help="One arm is enough.")] = False,
    limit: LimitOption = 50,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exposures of SB2 candidates: p0 > 0.5 and fewer than 100 bad pixels in both arms by default."""
    from twinlines.pipeline.catalog import catalog

    rows = catalog.open(survey, release=release).sb2.candidates(
        penalty=penalty, percentile=percentile, threshold=threshold, arms="any" if any_arm else "both"
    )
    _answer(rows, limit, as_json, penalty)


@catalog_app.command(epilog="Example: twinlines catalog cone --survey survey --ra 292.0587 --dec 43.9253 --radius 3")
def cone(
    survey: SurveyOption,
    ra: Annotated[float, typer.Option("--ra", help="Right ascension (J2000), degrees.")],
    dec: Annotated[float, typer.Option("--dec", help="Declination (J2000), degrees.")],
    radius: Annotated[float, typer.Option("--radius", help="Radius, arcseconds.")] = 3.0,
    penalty: PenaltyOption = 16,
    limit: LimitOption = 50,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exposures around a position, nearest first."""
    from twinlines.pipeline.catalog import catalog

    _answer(catalog.open(survey, release=release).sb2.cone(ra, dec, radius), limit, as_json, penalty)


@catalog_app.command(epilog="Example: twinlines catalog source --survey survey 738216075")
def source(
    survey: SurveyOption,
    obsid: Annotated[int, typer.Argument(help="Any obsid of the star.")],
    penalty: PenaltyOption = 16,
    limit: LimitOption = 50,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all exposures of the star that was observed as OBSID, in time order."""
    from twinlines.pipeline.catalog import catalog

    _answer(catalog.open(survey, release=release).sb2.source(obsid), limit, as_json, penalty)


def _answer(rows: xr.Dataset, limit: int, as_json: bool, penalty: int) -> None:
    if as_json:
        console.show(console.catalog_json(rows), True, lambda _: None)
    else:
        console.catalog_rows(rows, limit, console.out(), penalty)


@catalog_app.command(epilog="Example: twinlines catalog export --survey survey catalog.fits")
def export(
    survey: SurveyOption,
    out: Annotated[Path, typer.Argument(help="FITS table to write (.fits or .fits.gz).")],
    overwrite: OverwriteOption = False,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the catalog as a FITS table with the paper's 34 columns."""
    from twinlines.pipeline.catalog import catalog

    rows = catalog.open(survey, release=release).sb2.export(out, overwrite=overwrite)
    console.show({"file": str(out), "rows": rows}, as_json, lambda where: where.print(f"{out}: {rows} rows"))


@catalog_app.command(epilog="Example: twinlines catalog diff dr8 dr9 --survey survey")
def diff(
    old: Annotated[str, typer.Argument(help="A release, or the name of a catalog.")],
    new: Annotated[str, typer.Argument(help="What it is compared with: a release, or the name of a catalog.")],
    survey: SurveyOption,
    penalty: PenaltyOption = 16,
    percentile: Annotated[int, typer.Option("--percentile", help="Percentile: 0, 16, 50, 84 or 100.")] = 0,
    threshold: Annotated[float, typer.Option("--threshold", min=0.0, max=1.0, help="What is crossed.")] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Say what changed between two catalogs: rows new, gone, changed, recomputed; probabilities that crossed 0.5."""
    from twinlines.pipeline.catalog.diff import diff as compare

    found = compare(survey, old, new, penalty=penalty, percentile=percentile, threshold=threshold)
    console.show(found.to_json(), as_json, found.show)
