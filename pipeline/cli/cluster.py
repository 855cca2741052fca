"""The commands ``twinlines cluster``: what would be launched, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import ClusterOption, InsecureOption, JsonOption, WorkersOption, connected

if TYPE_CHECKING:
    from rich.console import Console

cluster_app = typer.Typer(help="Where to run: look at a cluster's description, and try it.", no_args_is_help=True)


@cluster_app.command(epilog="Example: twinlines cluster show --cluster site.yaml")
def show(
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    insecure: InsecureOption = False,
    script: Annotated[bool, typer.Option("--script", help="Print the SLURM script, and nothing else.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what would be launched, the SLURM script included, without launching it."""
    from twinlines.cluster import show as cluster_show
    from twinlines.cluster.errors import ProfileError
    from twinlines.cluster.site import parse

    shown = cluster_show.show(parse(cluster, n_workers=workers), insecure=insecure)
    if script:
        if shown.script is None:
            raise ProfileError(f"{cluster} has no script: only the profile 'slurm' submits jobs")
        print(shown.script, end="")
        return

    def lines(where: Console) -> None:
        rows: list[tuple[object, ...]] = [
            (name, getattr(shown, name)) for name in ("profile", "workers", "scheduler", "security")
        ]
        rows += [(f"dask {name}", value) for name, value in shown.dask.items()]
        if shown.script is None:
            rows += [(name, value) for name, value in shown.options.items() if value not in (None, {}, [])]
            rows += [(f"${name}", value) for name, value in shown.environment.items()]
        where.print(console.table(("", ""), rows))
        if shown.script is not None:
            where.print("what sbatch would be given for each job:\n")
            where.print(shown.script, markup=False, soft_wrap=True)

    console.show(shown.to_json(), as_json, lines)


@cluster_app.command(epilog="Example: twinlines cluster check --cluster site.yaml")
def check(
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Launch a cluster, let its workers say what they are, and stop it: a site is tried before a long run."""
    from twinlines.cluster.inventory import collect
    from twinlines.models.precision import has_bfloat16

    with connected(cluster, workers, insecure) as client:
        scheduler = client.scheduler_info()["address"]
        reports = collect(client, has_bfloat16)

    def lines(where: Console) -> None:
        where.print(f"scheduler: {scheduler}", markup=False)
        rows: list[tuple[object, ...]] = [
            (
                address,
                one.host,
                f"{one.device} ({one.device_name})",
                "yes" if one.bfloat16 else "no",
                one.threads,
                f"{one.memory / 2**30:.3g} GiB",
            )
            for address, one in reports.items()
        ]
        where.print(console.table(("worker", "host", "device", "bfloat16", "threads", "memory"), rows))
        for package, version in next(iter(reports.values())).versions.items():
            where.print(f"{package}: {version}", markup=False)

    answer = {"scheduler": scheduler, "workers": {address: one.to_json() for address, one in reports.items()}}
    console.show(answer, as_json, lines)
