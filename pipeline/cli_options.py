"""Options that several commands share, and how commands get their workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from distributed import Client

QUARANTINED = 3
"""Exit status of a command that did its work but put files aside."""

SurveyOption = Annotated[Path, typer.Option("--survey", help="Folder of the survey.", metavar="S")]
ClusterOption = Annotated[
    str, typer.Option("--cluster", help="Where to run: local, or a scheduler's address such as tcp://host:8786.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes of a local cluster; one per core by default.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
IgnorePlanOption = Annotated[
    bool, typer.Option("--ignore-plan", help="Start even if memory or disk seem too small for the work.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@contextmanager
def connected(cluster: str, workers: int | None) -> Iterator[Client]:
    """Yield a client of the cluster that ``--cluster`` and ``--workers`` describe."""
    from twinlines.cluster.launch import launch
    from twinlines.cluster.profiles import parse

    with launch(parse(cluster, n_workers=workers)) as client:
        yield client
