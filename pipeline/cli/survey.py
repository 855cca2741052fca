"""The commands that work on a survey: ``twinlines ingest``, ``run`` and ``status``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    QUARANTINED,
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
    from twinlines.pipeline.ingest.report import IngestReport
    from twinlines.pipeline.survey.compute import RunReport
    from twinlines.pipeline.survey.status import SurveyStatus

_LISTED = 20  # entries of one kind

survey_app = typer.Typer()


class PrecisionOption(StrEnum):
    """Arithmetic of the networks."""

    AS_BEFORE = "as-before"
    FLOAT32 = "float32"
    MIXED = "mixed"


@survey_app.command(epilog="Example: twinlines ingest /data/dr8/medfits --survey survey --release dr8")
@grouped
def ingest(
    *,
    fits_dir: Annotated[Path, typer.Argument(help="Folder of FITS files; subfolders are searched too.")],
    survey: SurveyOption,
    release: Annotated[str, typer.Option("--release", help="Name of the new release.")],
    where: ClusterOptions,
    without_unreadable: Annotated[
        bool,
        typer.Option("--without-unreadable", help="Leave out files that the system does not let us read, for now."),
    ] = False,
    ignore_plan: IgnorePlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a folder of LAMOST MRS FITS files into a release of a survey. A bad file is quarantined, not a crash."""
    from twinlines.pipeline.ingest.ingestion import ingest as run_ingest

    with connected(where) as client, console.progress() as progress:
        report = run_ingest(
            client,
            fits_dir,
            survey,
            release,
            progress=progress,
            ignore_plan=ignore_plan,
            without_unreadable=without_unreadable,
        )
    console.show(report.to_json(), as_json, lambda screen: show_ingestion(report, screen))
    if report.quarantined or report.conflicts:
        raise typer.Exit(QUARANTINED)


@survey_app.command(epilog="Example: twinlines run --survey survey --cluster local")
@grouped
def run(
    *,
    survey: SurveyOption,
    release: Annotated[str | None, typer.Option("--release", help="Newest release to include.")] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Noisy copies of each spectrum.")] = 20,
    precision: Annotated[
        PrecisionOption,
        typer.Option(
            "--precision",
            help="Of the networks. As before: of the survey's last run; of its first one, mixed, which is faster, "
            "where the hardware of all workers multiplies bfloat16. Another one computes everything anew.",
        ),
    ] = PrecisionOption.AS_BEFORE,
    where: ClusterOptions,
    ignore_plan: IgnorePlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compute what is not yet done and publish the catalog. Killed, it goes on where it was."""
    from twinlines.models import checkpoint
    from twinlines.pipeline.binaries.zeropoints.calibrated import command_again
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
    from twinlines.pipeline.survey.compute import run as run_survey
    from twinlines.pipeline.survey.folder import Survey
    from twinlines.pipeline.survey.precision import asked, usual

    if weights is not None:
        for member in checkpoint.members(weights):
            checkpoint.load(member)  # so that wrong weights are one clear error before any worker starts
    with connected(where) as client, console.progress() as progress:
        place = Survey.at(survey)
        as_before = precision is PrecisionOption.AS_BEFORE
        arithmetic = usual(client, place) if as_before else asked(client, precision.value)
        report = run_survey(
            client,
            survey,
            weights=weights or SHIPPED_WEIGHTS,
            parameters=InferenceParameters(seed=seed, n_draws=draws, precision=arithmetic),
            release=release,
            progress=progress,
            ignore_plan=ignore_plan,
        )
    again = command_again(survey) if report.published else None
    console.show(report.to_json(), as_json, lambda screen: show_run(report, screen, again))
    if not report.complete:
        raise typer.Exit(1)


@survey_app.command(epilog="Example: twinlines status --survey survey")
def status(
    survey: SurveyOption,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare releases and results with their checksums; reads all of them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show releases, what is done, pending and failed, the time left, and the published catalog."""
    from twinlines.pipeline.survey.status import status as survey_status

    report = survey_status(survey, verify=verify)
    console.show(report.to_json(), as_json, lambda screen: show_status(report, screen))
    if report.damaged:
        raise typer.Exit(1)


def show_ingestion(report: IngestReport, where: Console) -> None:
    """Print what became of the files of a folder."""
    files = f"{report.files_used} of {report.files_seen} files in {report.folder}"
    lines = [f"release {report.release}: {report.rows} exposures, {files}"]
    if report.follows:
        lines.append(
            f"{report.new} exposures are new, {report.changed} changed, {report.unchanged} left out as they are in "
            f"{report.follows} or before it"
        )
    if report.reasons:
        lines.append("quarantined: " + ", ".join(f"{count} {reason}" for reason, count in report.reasons.items()))
    if report.duplicates:
        lines.append(f"{report.duplicates} exposures are in several files with the same content; one each is kept")
    if report.conflicts:
        lines.append(f"{len(report.conflicts)} exposures are in several files with other content; the first has them")
    if report.hidden:
        lines.append(f"{report.hidden} hidden folders or files were passed over (a dot begins their names)")
    if report.named_otherwise:
        lines.append(
            f"{report.named_otherwise} files were passed over whose names only resemble a spectrum's; if they are "
            "spectra, rename them and ingest again"
        )
    sections: list[tuple[str, list[str]]] = [
        ("quarantined", [f"{file.path} ({file.reason}): {file.message}" for file in report.quarantined]),
        ("conflict", [f"{row.obsid}, {row.lmjm}: {row.kept} kept, {row.dropped} differs" for row in report.conflicts]),
        ("warning", [f"{warning.path}: {warning.message}" for warning in report.warnings]),
        ("passed over", list(report.passed_over)),
    ]
    for title, entries in sections:
        lines += [f"{title}: {entry}" for entry in entries[:_LISTED]]
        if len(entries) > _LISTED:
            lines.append(f"{title}: and {len(entries) - _LISTED} more; all are in the release's report.json")
    console.say(where, lines)


def show_run(report: RunReport, where: Console, zero_points_again: str | None = None) -> None:
    """Print what a run did, and the command that gives its catalog zero points as the one before had."""
    done = (
        f"run {report.config_key} of {', '.join(report.releases)}: {report.rows} exposures in {report.shards} shards, "
        f"{report.computed} computed now ({report.rows_computed} exposures, {report.seconds:.1f} s), "
        f"{report.skipped} done before, {len(report.failed)} failed"
    )
    parameters = ", ".join(f"{name} {value}" for name, value in report.parameters.items())
    lines = [done, f"parameters: {parameters}"]
    lines += [f"failed: {shard.piece}: {shard.error} (traceback in {shard.file})" for shard in report.failed]
    if report.failed:
        lines.append("no catalog was published; mend the cause and run again: only what failed is computed")
    else:
        lines.append(f"catalog: {report.catalog}")
        if not report.computed and not report.published:
            lines.append("nothing to do: all of it was computed with these weights and parameters, and published")
        if zero_points_again:
            lines.append(
                f"rv_abs_* have no values in this catalog yet, as the one before had; {zero_points_again!r} gives them"
            )
    console.say(where, lines)


def show_status(status: SurveyStatus, where: Console) -> None:
    """Print where a survey stands."""
    names = ("name", "rows", "shards", "done", "pending", "failed", "quarantined")
    rows: list[tuple[object, ...]] = [tuple(getattr(release, name) for name in names) for release in status.releases]
    where.print(console.table(("release", *names[1:-1], "quarantined files"), rows))
    lines = [f"catalog: {status.catalog or 'none yet'}"]
    lines += [
        f"{release.name} is being ingested: {release.batches_scanned} batches scanned, {release.shards_written} shards "
        f"written; {release.in_use_by or 'nobody is at work on it, and the same command goes on'}"
        for release in status.ingesting
    ]
    if status.in_use_by:
        lines.append(f"in use by: {status.in_use_by}")
    if status.rows_left:
        left = duration(status.seconds_left) if status.seconds_left is not None else "unknown before the first shard"
        lines.append(f"to do: {status.rows_left} exposures; time left with as many workers: {left}")
    lines += [
        f"failed: {failure.piece}: {failure.error} (traceback in {failure.file})"
        for failure in status.failures[:_LISTED]
    ]
    lines += [f"{path} is a copy of a release and does not count; move it elsewhere" for path in status.copies]
    if status.failures:
        lines.append(f"{len(status.failures)} shards failed to the last retry; mend the cause and run again")
    if status.damaged is not None:
        lines += status.damaged or ["all releases and catalogs are as they were made"]
    console.say(where, lines)


def duration(seconds: float) -> str:
    """A duration in words, of two units at most."""
    minutes = seconds / 60.0
    if minutes < 1.0:
        return f"{seconds:.0f} s"
    if minutes < 60.0:
        return f"{minutes:.0f} min"
    if minutes < 48 * 60.0:
        return f"{int(minutes // 60)} h {int(minutes % 60)} min"
    return f"{int(minutes // 1440)} d {int(minutes % 1440 // 60)} h"
