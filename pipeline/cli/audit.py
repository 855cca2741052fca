"""The command ``twinlines audit``: whether every exposure of a survey's files is where it should be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import ClusterOptions, JsonOption, SurveyOption, connected, grouped

if TYPE_CHECKING:
    from twinlines.pipeline.validation.audit.report import AuditReport, Lost

_LISTED = 20  # of what is lost

audit_app = typer.Typer()


@audit_app.command(epilog="Example: twinlines audit --survey survey")
@grouped
def audit(
    *,
    survey: SurveyOption,
    release: Annotated[
        str | None, typer.Option("--release", help="Follow the files of this release alone.", show_default="all")
    ] = None,
    fits: Annotated[
        Path | None,
        typer.Option("--fits", help="Where the release's files are now.", show_default="where they were ingested"),
    ] = None,
    contents: Annotated[
        bool, typer.Option("--contents", help="Read files wholly, and compare contents, too; else their headers.")
    ] = False,
    where: ClusterOptions,
    as_json: JsonOption = False,
) -> None:
    """Follow every exposure of every file to a row of the catalog, an older row, or a reason; name what is lost."""
    from twinlines.pipeline.validation.audit.audit import audit as audit_survey

    with connected(where) as client, console.progress() as progress:
        report = audit_survey(client, survey, release=release, folder=fits, compare=contents, progress=progress)
    console.show(report.to_json(), as_json, lambda screen: show_audit(report, screen))
    if not report.complete:
        raise typer.Exit(1)


def show_audit(report: AuditReport, where: Console) -> None:
    """Print where the exposures of files ended, and what is lost."""
    columns = ("exposures", "in_rows", "duplicates", "unchanged", "unusable", "quarantined", "later", "lost")
    asked = [release for release in report.releases if release.there]
    if asked:
        titles = ("release", "files", *(name.replace("_", " ") for name in columns))
        rows = [(release.name, release.files, *(getattr(release, name) for name in columns)) for release in asked]
        first = ("release", "exposures", "in rows", "quarantined", "lost")
        where.print(console.table(titles, rows, first=first, title="Exposures of files, and where they ended"))
    lines = []
    for release in report.releases:
        if not release.there:
            lines.append(
                f"{release.name}: its files are not at {release.folder} any more, so that what they held is not "
                "checked; if they are elsewhere, say so: --release and --fits"
            )
        elif release.files_gone:
            lines.append(f"{release.name}: {release.files_gone} of its files are gone, and were not checked")
    if asked:
        how = "contents and identifiers" if all(release.compared for release in asked) else "identifiers"
        lines.append(f"compared: {how}")
    if report.catalog:
        lines.append(
            f"catalog {report.catalog}: {report.rows_out} rows of {report.rows_in} of its releases; "
            f"{report.superseded} are superseded by newer ones"
        )
    if report.waiting:
        lines.append(f"not in the catalog yet, for they are not run: {', '.join(report.waiting)}")
    lines += [_said(lost) for lost in report.lost[:_LISTED]]
    if report.problems > _LISTED:
        lines.append(f"... and {report.problems - _LISTED} more; --json names a thousand")
    if report.problems:
        lines.append(f"{report.problems} are not where they should be")
    elif report.files_gone:
        lines.append(f"nothing is lost of the files that are there; {report.files_gone} could not be checked")
    else:
        lines.append("nothing is lost")
    console.say(where, lines)


def _said(lost: Lost) -> str:
    what = f"obsid {lost.obsid}, LMJM {lost.lmjm}" if lost.lmjm >= 0 else "a file"
    places = ", ".join(place for place in (lost.release, lost.file) if place)
    return f"lost: {what}{f' ({places})' if places else ''}: {lost.why}"
