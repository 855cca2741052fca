"""The command ``twinlines``: its commands by group, what it says of errors, and its exit status.

Exit status: 0 everything asked for was done; 1 it was not; 2 the command line is wrong; 3 it was done, but files were
quarantined, or contradict each other; 128 and a signal's number, that signal stopped it. Modules are imported within
the commands, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from twinlines.pipeline.cli import console, sources, stopping, streams
from twinlines.pipeline.cli.audit import audit_app
from twinlines.pipeline.cli.binaries import binaries_app
from twinlines.pipeline.cli.catalog import catalog_app
from twinlines.pipeline.cli.catalogquery import query_app
from twinlines.pipeline.cli.cluster import cluster_app
from twinlines.pipeline.cli.evaluation import evaluation_app
from twinlines.pipeline.cli.library import library_app
from twinlines.pipeline.cli.mock import mock_app
from twinlines.pipeline.cli.report import report_app
from twinlines.pipeline.cli.survey import survey_app
from twinlines.pipeline.cli.tracks import tracks_app
from twinlines.pipeline.cli.training import training_app
from twinlines.pipeline.cli.validate import calibrate_app, validate_app
from twinlines.pipeline.cli.zeropoints import zero_points_app

_RESUMED = ("ingest", "run", "synthesize", "train", "evaluate", "validate")  # that go on where they were

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
assert sources  # its commands are in the groups binaries and catalog
# Groups without a name add their commands to those of ``twinlines`` itself; --help lists them in this order.
app.add_typer(mock_app)
app.add_typer(survey_app)
app.add_typer(audit_app)
app.add_typer(zero_points_app)
catalog_app.add_typer(query_app)
app.add_typer(catalog_app, name="catalog")
app.add_typer(binaries_app, name="binaries")
app.add_typer(calibrate_app)
app.add_typer(validate_app, name="validate")
app.add_typer(report_app)
app.add_typer(cluster_app, name="cluster")
app.add_typer(library_app, name="library")
app.add_typer(tracks_app, name="tracks")
app.add_typer(training_app)
app.add_typer(evaluation_app)


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


def main() -> None:
    """Run the command line; an expected error is one message and exit status 1, and a warning one message."""
    streams.prepare()
    warnings.showwarning = console.warn
    with stopping.asked() as stop:
        try:
            app()
        except (SystemExit, KeyboardInterrupt):
            if stop.status is None:
                raise
        except Exception as error:
            if not _expected(error):
                raise
            if stop.status is None:  # else it comes of being stopped
                console.complain(str(error))
                sys.exit(1)
    kept = "; what is finished is kept, and the same command goes on from there" if _resumes(sys.argv) else ""
    console.complain(f"stopped{kept}")
    sys.exit(stop.status)


def _resumes(arguments: list[str]) -> bool:
    return bool(set(arguments[1:2]) & set(_RESUMED))


def _expected(error: Exception) -> bool:
    """Whether the error is the user's to mend: ours all say how, and the system's name their file."""
    return isinstance(error, OSError | ImportError) or type(error).__module__.startswith("twinlines.")
