"""The command ``twinlines``: argument parsing, progress and exit status, nothing else.

Exit status: 0 everything asked for was done; 1 it was not; 2 the command line is wrong; 3 it was done, but files were
quarantined. Modules are imported within the commands, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlines.pipeline import console
from twinlines.pipeline.cli_library import library_app
from twinlines.pipeline.cli_options import (
    QUARANTINED,
    ClusterOption,
    JsonOption,
    OverwriteOption,
    SeedOption,
    SurveyOption,
    WorkersOption,
    connected,
)
from twinlines.pipeline.cli_tracks import tracks_app
from twinlines.pipeline.cli_training import training_app

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Console

_STOPPED = 130

app = typer.Typer(
    help="Finds double-lined spectroscopic binaries in survey spectra.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
catalog_app = typer.Typer(help="Questions to the published catalog.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
app.add_typer(library_app, name="library")
app.add_typer(tracks_app, name="tracks")
app.add_typer(training_app)


class LayoutName(StrEnum):
    """Layouts of LAMOST MRS files."""

    ROWS = "rows"
    VECTORS = "vectors"


LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Rows to print.")]
PenaltyOption = Annotated[int, typer.Option("--penalty", help="Penalty (Lambda): 8, 16 or 32.")]


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
    from twinlines.pipeline.demo import run_demo

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
    from twinlines.pipeline.mock import make_release

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
    as_json: JsonOption = False,
) -> None:
    """Read a folder of LAMOST MRS FITS files into a release of a survey. A bad file is quarantined, not a crash."""
    from twinlines.pipeline.ingest import ingest as run_ingest

    with connected(cluster, workers) as client, console.progress() as progress:
        report = run_ingest(client, fits_dir, survey, release, progress=progress)
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
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute what is not yet done and publish the catalog. Killed, it goes on where it was."""
    from twinlines.pipeline.inference import SHIPPED_WEIGHTS, Parameters
    from twinlines.pipeline.survey import run as run_survey

    parameters = Parameters(seed=seed, n_draws=draws)
    with connected(cluster, workers) as client, console.progress() as progress:
        report = run_survey(
            client,
            survey,
            weights=weights or SHIPPED_WEIGHTS,
            parameters=parameters,
            release=release,
            progress=progress,
        )
    console.show(report.to_json(), as_json, report.show)
    if not report.complete:
        raise typer.Exit(1)


@app.command(epilog="Example: twinlines status --survey survey")
def status(survey: SurveyOption, as_json: JsonOption = False) -> None:
    """Show releases, what is done and pending, and the published catalog."""
    from twinlines.pipeline.survey import status as survey_status

    found = survey_status(survey)
    names = ("name", "rows", "shards", "done", "pending", "failed", "quarantined")
    rows: list[tuple[object, ...]] = [tuple(one[name] for name in names) for one in found["releases"]]

    def lines(where: Console) -> None:
        where.print(console.table(("release", *names[1:-1], "quarantined files"), rows))
        where.print(f"catalog: {found['catalog'] or 'none yet'}")
        if found["in_use_by"]:
            where.print(f"in use by: {found['in_use_by']}")

    console.show(found, as_json, lines)


@catalog_app.command(epilog="Example: twinlines catalog candidates --survey survey --penalty 16")
def candidates(
    survey: SurveyOption,
    penalty: PenaltyOption = 16,
    percentile: Annotated[int, typer.Option("--percentile", help="Percentile: 0, 16, 50, 84 or 100.")] = 0,
    threshold: Annotated[float, typer.Option("--threshold", min=0.0, max=1.0, help="Least probability.")] = 0.5,
    any_arm: Annotated[bool, typer.Option("--any-arm", help="One arm is enough.")] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List exposures of SB2 candidates: p0 > 0.5 and fewer than 100 bad pixels in both arms by default."""
    from twinlines.pipeline import catalog

    rows = catalog.open(survey).sb2.candidates(
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
    as_json: JsonOption = False,
) -> None:
    """List exposures around a position, nearest first."""
    from twinlines.pipeline import catalog

    _answer(catalog.open(survey).sb2.cone(ra, dec, radius), limit, as_json, penalty)


@catalog_app.command(epilog="Example: twinlines catalog source --survey survey 738216075")
def source(
    survey: SurveyOption,
    obsid: Annotated[int, typer.Argument(help="Any obsid of the star.")],
    penalty: PenaltyOption = 16,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List all exposures of the star that was observed as OBSID, in time order."""
    from twinlines.pipeline import catalog

    _answer(catalog.open(survey).sb2.source(obsid), limit, as_json, penalty)


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
    as_json: JsonOption = False,
) -> None:
    """Write the catalog as a FITS table with the paper's 34 columns."""
    from twinlines.pipeline import catalog

    rows = catalog.open(survey).sb2.export(out, overwrite=overwrite)
    console.show({"file": str(out), "rows": rows}, as_json, lambda where: where.print(f"{out}: {rows} rows"))
