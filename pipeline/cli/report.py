"""The commands ``twinlines report`` and ``twinlines catalog vetted``: a page to vet stars in, and what comes back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.catalog import catalog_app
from twinlines.pipeline.cli.options import JsonOption, OverwriteOption, SurveyOption

report_app = typer.Typer()


class VerdictOption(StrEnum):
    """What a person may say of a star."""

    ACCEPT = "accept"
    REJECT = "reject"
    UNSURE = "unsure"


VettedArgument = Annotated[Path, typer.Argument(help="CSV file that a report's page saved.")]


@report_app.command(epilog="Example: twinlines report --survey survey --best 50")
def report(
    survey: SurveyOption,
    out: Annotated[Path | None, typer.Option("--out", help="File to write.", show_default="S/report.html")] = None,
    best: Annotated[int, typer.Option("--best", min=0, help="Stars that have a page of their own.")] = 50,
    most: Annotated[int, typer.Option("--most", min=1, help="Stars in the table at most.")] = 2000,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML file: what ran, counts, trust, and a page for each of the best stars, to be vetted by keys."""
    from twinlines.pipeline.report.document import write_report

    with console.progress() as progress:
        written = write_report(
            survey, out or survey / "report.html", best=best, most=most, overwrite=overwrite, progress=progress
        )
    words = f"{written.path}: {written.stars} stars, {written.pages} pages, {written.bytes / 1e6:.1f} MB"
    lines = [words, "open it in a browser; verdicts that you save there are read by 'twinlines catalog vetted'"]
    if written.left_out:
        lines.append(f"{written.left_out} more stars would have a page, but the file would be larger than 20 MB")
    for words in written.stale:
        console.complain(f"warning: {words}")
    console.show(written.to_json(), as_json, lambda screen: console.say(screen, lines))


@catalog_app.command(epilog="Example: twinlines catalog vetted vetted.csv --survey survey --verdict accept")
def vetted(
    file: VettedArgument,
    survey: SurveyOption,
    verdict: Annotated[VerdictOption | None, typer.Option("--verdict", help="Show these alone.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read verdicts that were saved from a report, check them against the catalog, and list them."""
    from twinlines.pipeline.report.vetting import read_vetted

    found = read_vetted(survey, file)
    stars = found.with_verdict(verdict.value if verdict else None)
    lines = [", ".join(f"{count} {name}" for name, count in found.counts.items())]
    if found.other_catalogs:
        lines.append(f"{found.other_catalogs} were judged by a report of another catalog than the current one")
    lines += [
        f"{star['obsid']}  {star['ra']:.5f} {star['dec']:+.5f}  {star['verdict']}"
        + (f"  {star['comment']}" if star["comment"] else "")
        for star in stars
    ]
    summary = {**found.to_json(), "stars": [dict(star) for star in stars]}
    console.show(summary, as_json, lambda screen: console.say(screen, lines))
