"""The command ``twinlines``: argument parsing, progress and exit status, nothing else.

Exit status: 0 everything asked for was done; 1 it was not; 2 the command line is wrong; 3 it was done, but files were
quarantined. Modules are imported within the commands, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.catalog import catalog_app
from twinlines.pipeline.cli.cluster import cluster_app
from twinlines.pipeline.cli.library import library_app
from twinlines.pipeline.cli.options import (
    QUARANTINED,
    ClusterOption,
    IgnorePlanOption,
    InsecureOption,
    JsonOption,
    SeedOption,
    SurveyOption,
    WorkersOption,
    connected,
)
from twinlines.pipeline.cli.tracks import tracks_app
from twinlines.pipeline.cli.training import training_app

_STOPPED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(catalog_app, name="catalog")
app.add_typer(cluster_app, name="cluster")
app.add_typer(library_app, name="library")
app.add_typer(tracks_app, name="tracks")
app.add_typer(training_app)


class LayoutName(StrEnum):
    """Layouts of LAMOST MRS files."""

    ROWS = "rows"
    VECTORS = "vectors"


class PrecisionOption(StrEnum):
    """Arithmetic of the networks."""

    FLOAT32 = "float32"
    MIXED = "mixed"


def main() -> None:
    """Run the command line; an expected error is one message and exit status 1, not a traceback."""
    try:
        app()
    except SystemExit as end:
        if end.code == _STOPPED:  # typer's word for Ctrl-C
            console.complain("stopped; what is finished is kept, and the same command goes on from there")
        raise
    except Exception as error:
        if not _expected(error):
            raise
        console.complain(str(error))
        sys.exit(1)


def _expected(error: Exception) -> bool:
    """Whether the error is the user's to mend: ours all say how, and the system's name their file."""
    return isinstance(error, OSError | ImportError) or type(error).__module__.startswith("twinlines.")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"twinlines {version('twinlines')}")
        raise typer.Exit


@app.callback()
def whole(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Finds double-lined spectroscopic binaries in survey spectra."""


@app.command(epilog="Example: twinlines demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the demo; an earlier demo there is replaced.")] = Path(
        "demo"
    ),
    stars: Annotated[int, typer.Option("--stars", min=10, help="Stars of the mock release.")] = 48,
    seed: SeedOption = 1,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything below on a small mock survey: a table of candidates against the injected truth, and figures."""
    from twinlines.pipeline.cli.demo import run_demo

    with connected("local", workers) as client, console.progress() as progress:
        result = run_demo(client, out, stars=stars, seed=seed, progress=progress)
    console.show(result.to_json(), as_json, result.show)


@app.command(epilog="Example: twinlines mock fits/ --stars 500")
def mock(
    out: Annotated[Path, typer.Argument(help="New folder for the FITS files.")],
    stars: Annotated[int, typer.Option("--stars", min=1, help="Number of stars.")] = 500,
    seed: SeedOption = 0,
    layout: Annotated[LayoutName, typer.Option("--layout", help="rows: to DR8; vectors: from DR9.")] = LayoutName.ROWS,
    as_json: JsonOption = False,
) -> None:
    """Write a mock release: LAMOST-format FITS files with known binaries and defects, and tables of the truth."""
    from twinlines.pipeline.mock.release import make_release

    with console.progress() as progress:
        truth = make_release(out, stars=stars, seed=seed, layout=layout.value, progress=progress)
    rows: list[tuple[object, ...]] = [(name, value) for name, value in truth.summary().items()]
    console.show(truth.summary(), as_json, lambda where: where.print(console.table(("", ""), rows)))


@app.command(epilog="Example: twinlines ingest /data/dr8/medfits --survey survey --release dr8")
def ingest(
    fits_dir: Annotated[Path, typer.Argument(help="Folder of FITS files; subfolders are searched too.")],
    survey: SurveyOption,
    release: Annotated[str, typer.Option("--release", help="Name of the new release.")],
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    ignore_plan: IgnorePlanOption = False,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a folder of LAMOST MRS FITS files into a release of a survey. A bad file is quarantined, not a crash."""
    from twinlines.pipeline.ingest.ingestion import ingest as run_ingest

    with connected(cluster, workers, insecure) as client, console.progress() as progress:
        report = run_ingest(client, fits_dir, survey, release, progress=progress, ignore_plan=ignore_plan)
    console.show(report.to_json(), as_json, report.show)
    if report.quarantined:
        raise typer.Exit(QUARANTINED)


@app.command(epilog="Example: twinlines run --survey survey --cluster local")
def run(
    survey: SurveyOption,
    release: Annotated[str | None, typer.Option("--release", help="Newest release to include.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder of an ensemble, if not the shipped one.")
    ] = None,
    seed: SeedOption = 0,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Noisy copies of each spectrum.")] = 20,
    precision: Annotated[
        PrecisionOption,
        typer.Option(
            "--precision",
            help="Of the networks; mixed: faster, where the hardware multiplies bfloat16.",
        ),
    ] = PrecisionOption.FLOAT32,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    ignore_plan: IgnorePlanOption = False,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compute what is not yet done and publish the catalog. Killed, it goes on where it was."""
    from twinlines.pipeline.spectra.inference import SHIPPED_WEIGHTS, InferenceParameters
    from twinlines.pipeline.survey.compute import run as run_survey

    parameters = InferenceParameters(seed=seed, n_draws=draws, precision=precision.value)
    with connected(cluster, workers, insecure) as client, console.progress() as progress:
        report = run_survey(
            client,
            survey,
            weights=weights or SHIPPED_WEIGHTS,
            parameters=parameters,
            release=release,
            progress=progress,
            ignore_plan=ignore_plan,
        )
    console.show(report.to_json(), as_json, report.show)
    if not report.complete:
        raise typer.Exit(1)


@app.command(epilog="Example: twinlines status --survey survey")
def status(
    survey: SurveyOption,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare releases and results with their checksums; reads all of them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show releases, what is done, pending and failed, the time left, and the published catalog."""
    from twinlines.pipeline.cli.survey import show_status
    from twinlines.pipeline.survey.status import status as look

    found = look(survey, verify=verify)
    console.show(found.to_json(), as_json, lambda where: show_status(found, where))
    if found.damaged:
        raise typer.Exit(1)
