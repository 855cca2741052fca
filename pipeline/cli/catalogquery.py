"""The commands ``twinlines catalog where`` and ``crossmatch``: questions in words, and by somebody else's table."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.catalog import LimitOption, PenaltyOption, ReleaseOption, answer
from twinlines.pipeline.cli.options import TABLES, JsonOption, OverwriteOption, SurveyOption

if TYPE_CHECKING:
    import astropy.table

    from twinlines.pipeline.catalog.crossmatch import SkyMatch

_LISTED = 20  # pairs that are printed, if nothing else is asked for
_SHOWN = {
    "table_row": "d",
    "separation": ".2f",
    "obsid": "d",
    "lmjm": "d",
    "snr_B": ".1f",
    "snr_R": ".1f",
    "p50_J": ".3f",
    "p50_B": ".3f",
    "p50_R": ".3f",
}
"""Columns of a pair that are printed, and how."""


class UnitOption(StrEnum):
    """Units of positions."""

    DEG = "deg"
    RAD = "rad"
    HOUR = "hour"


query_app = typer.Typer()


@query_app.command(
    epilog="Example: twinlines catalog where --survey survey 'pb_pct_J_16.p50 > 0.9 and snr_B > 20 and not quality_B & "
    "UNFAMILIAR'"
)
def where(
    survey: SurveyOption,
    condition: Annotated[
        str,
        typer.Argument(
            help="A condition on columns: comparisons, and, or, not, in, arithmetic, bits of flags by their names, "
            "isnan, isfinite, abs, sqrt, log10, min, max; percentiles as pb_pct_J_16[2] or pb_pct_J_16.p50."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the rows as a FITS table (.fits or .fits.gz), all columns.")
    ] = None,
    overwrite: OverwriteOption = False,
    penalty: PenaltyOption = 16,
    limit: LimitOption = None,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List exposures for which a condition on columns holds."""
    from twinlines.pipeline.catalog import catalog

    rows = catalog.open(survey, release=release).sb2.where(condition)
    if out is None:
        answer(rows, limit, penalty, as_json)
        return
    count = rows.sb2.export(out, columns="all", overwrite=overwrite)
    console.show({"file": str(out), "rows": count}, as_json, lambda screen: screen.print(f"{out}: {count} rows"))


@query_app.command(epilog="Example: twinlines catalog crossmatch --survey survey sb9.fits --radius 3 --out pairs.ecsv")
def crossmatch(
    survey: SurveyOption,
    table: Annotated[Path, typer.Argument(help=f"Table with positions: {TABLES}.")],
    radius: Annotated[float, typer.Option("--radius", help="Largest separation, arcseconds.")] = 3.0,
    ra_column: Annotated[
        str | None, typer.Option("--ra-column", help="Column of right ascensions.", show_default="a usual name")
    ] = None,
    dec_column: Annotated[
        str | None, typer.Option("--dec-column", help="Column of declinations.", show_default="a usual name")
    ] = None,
    unit: Annotated[
        UnitOption | None,
        typer.Option("--unit", help="Unit of positions; hour: of right ascensions.", show_default="the columns'"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the pairs as a table (.fits, .ecsv or .csv).")
    ] = None,
    overwrite: OverwriteOption = False,
    penalty: PenaltyOption = 16,
    limit: LimitOption = None,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the exposures at the positions of another table."""
    from twinlines.pipeline.catalog import catalog, matches

    if out is not None:
        matches.check(out, overwrite=overwrite)
    opened = catalog.open(survey, release=release)
    match = opened.sb2.crossmatch(table, radius, ra=ra_column, dec=dec_column, unit=unit.value if unit else None)
    pairs = matches.table(match, opened, penalty=penalty)
    if out is not None:
        matches.write(pairs, out, overwrite=overwrite)
    summary = {**match.to_json(), "file": str(out) if out else None}
    if as_json and out is None:
        summary["matches"] = [dict(zip(pairs.colnames, pair, strict=True)) for pair in pairs[:limit]]
    console.show(summary, as_json, lambda screen: show_match(match, pairs, limit or _LISTED, screen, out))


def show_match(match: SkyMatch, pairs: astropy.table.Table, limit: int, where: Console, out: Path | None) -> None:
    """Print how a table was read, what was found and, if it is in no file, the first pairs."""
    said = match.to_json()
    columns = ", ".join(f"{match.table.columns[what]!r} ({match.table.units[what]})" for what in ("ra", "dec"))
    console.say(where, [f"positions of {match.table.source}: {columns}", *match.table.notes])
    if out is None and len(pairs):
        shown = [[format(pair[name], style) for name, style in _SHOWN.items()] for pair in pairs[:limit]]
        where.print(console.table(list(_SHOWN), shown, first=("table_row", "separation", "obsid", "p50_J")))
        if len(pairs) > limit:
            where.print(f"... and {len(pairs) - limit} more; --limit shows more, --out writes all")
    found = (
        f"{said['rows_matched']} of {said['rows']} rows are within {said['radius']:g} arcsec of "
        f"{said['exposures_matched']} of the catalog's {said['exposures']} exposures; {said['pairs']} pairs"
    )
    console.say(where, [found, *([f"{out}: {len(pairs)} pairs"] if out else [])])
