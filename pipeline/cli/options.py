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
    str,
    typer.Option(
        "--cluster",
        help="Where to run: local, cuda, a site's YAML file, or a scheduler: tls://HOST:8786 or its JSON file.",
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
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@contextmanager
def connected(cluster: str, workers: int | None, insecure: bool = False) -> Iterator[Client]:
    """Yield a client of the cluster that ``--cluster``, ``--workers`` and ``--insecure`` describe."""
    from twinlines.cluster.launch import launch
    from twinlines.cluster.site import parse
    from twinlines.models.precision import has_bfloat16

    with launch(parse(cluster, n_workers=workers), insecure=insecure, probe=has_bfloat16) as client:
        yield client
