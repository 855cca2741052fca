"""Options that several commands share, options in groups, and how commands get their workers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from distributed import Client


class TableFormat(StrEnum):
    """Formats of tables."""

    FITS = "fits"
    VOTABLE = "votable"
    PARQUET = "parquet"
    HATS = "hats"
    MRT = "mrt"
    CDS = "cds"
    MOC = "moc"


QUARANTINED = 3
"""Exit status of a command that did its work but put files aside."""

SurveyOption = Annotated[Path, typer.Option("--survey", help="Folder of the survey.", metavar="S")]
ClusterOption = Annotated[
    str,
    typer.Option(
        "--cluster",
        help="local, cuda, a site's YAML file (SLURM, SSH), or a scheduler (tls://HOST:PORT or its JSON file).",
        metavar="NAME|FILE|ADDRESS",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Worker processes on this machine; by default one per core, or per GPU."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Let machines talk without TLS: whoever reaches them can run code as you.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
IgnorePlanOption = Annotated[
    bool, typer.Option("--ignore-plan", help="Start even if memory or disk seem too small for the work.")
]
EpochOffsetOption = Annotated[
    float | None,
    typer.Option(
        "--epoch-offset", help="Days to add to epochs to have BJD.", show_default="2400000 where they lack it"
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
TableOut = Annotated[
    Path,
    typer.Argument(
        help="Table to write; its name says the format: .fits, .fits.gz, .vot, .parquet, .hats, .mrt, .cds, .moc.fits."
    ),
]
TableFormatOption = Annotated[
    TableFormat | None, typer.Option("--format", help="Format of the table.", show_default="as the file's name ends")
]
WeightsOption = Annotated[Path | None, typer.Option("--weights", help="Folder of an ensemble, if not the shipped one.")]
LibraryOption = Annotated[
    Path | None,
    typer.Option("--library", help="Spectral library, from 'twinlines library import'; else the one that ships."),
]


TABLES = "FITS, ECSV, CSV, VOTable, Parquet or machine-readable text"
"""Formats in which users' tables are read, for help."""


class MatchOption(StrEnum):
    """How stars of a user's table are found in a catalog."""

    POSITION = "position"
    OBSID = "obsid"


MatchedByOption = Annotated[
    MatchOption | None,
    typer.Option("--match", help="How stars are found.", show_default="by position, if a table has any"),
]
ColumnOption = Annotated[str | None, typer.Option(help="Column of the table.", show_default="a usual name")]


@dataclass(frozen=True)
class PlaceColumns:
    """Columns of a user's table by which stars are found."""

    ra_column: ColumnOption = None
    dec_column: ColumnOption = None
    obsid_column: ColumnOption = None

    def asked(self, **others: str | None) -> dict[str, str]:
        """Names by what they are for, those that were given."""
        every = {name.removesuffix("_column"): value for name, value in vars(self).items()} | others
        return {what: name for what, name in every.items() if name is not None}


@dataclass(frozen=True)
class ClusterOptions:
    """Where a command runs."""

    cluster: ClusterOption = "local"
    workers: WorkersOption = None
    insecure: InsecureOption = False


@contextmanager
def connected(where: ClusterOptions) -> Iterator[Client]:
    """Yield a client of the cluster that the options describe."""
    from twinlines.cluster.launch import launch
    from twinlines.cluster.site import parse
    from twinlines.models.precision import has_bfloat16

    profile = parse(where.cluster, n_workers=where.workers)
    with launch(profile, insecure=where.insecure, probe=has_bfloat16) as client:
        yield client


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have parameters that are groups of options: dataclasses.

    Each field of such a dataclass becomes an option of the command, in the parameter's place, with the field's name,
    its ``Annotated`` type and its default; the command itself gets the dataclass. Parameters are keyword-only, so that
    they may stand in the order in which ``--help`` lists them, whichever have defaults.

    Raises
    ------
    TypeError
        If two options would have the same name.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    options: dict[str, inspect.Parameter] = {}

    def add(name: str, default: Any, annotation: Any) -> None:
        if name in options:
            raise TypeError(f"{command.__name__}: two options are named {name!r}; rename one of them")
        options[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            add(name, parameter.default, hints[name])
            continue
        group = groups[name] = hints[name]
        annotations = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            add(field.name, default, annotations[field.name])

    @wraps(command)
    def with_options(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    # What typer reads: the signature, and the annotations beside it.
    with_options.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
    with_options.__annotations__ = {name: option.annotation for name, option in options.items()}
    return with_options
