"""The commands ``twinlines cluster``: what would be launched, and whether it works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import ClusterOptions, JsonOption, connected, grouped

if TYPE_CHECKING:
    from twinlines.cluster.inventory import Report
    from twinlines.cluster.show import Shown

cluster_app = typer.Typer(help="Where to run: look at a cluster's description, and try it.", no_args_is_help=True)


@cluster_app.command(epilog="Example: twinlines cluster show --cluster site.yaml")
@grouped
def show(
    where: ClusterOptions,
    script: Annotated[bool, typer.Option("--script", help="Print the SLURM script, and nothing else.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what would be launched, the SLURM script included, without launching it."""
    from twinlines.cluster import show as cluster_show
    from twinlines.cluster.errors import ProfileError
    from twinlines.cluster.site import parse

    if script and as_json:
        raise typer.BadParameter("--script and --json exclude each other; the JSON has the script as 'script'")
    shown = cluster_show.show(parse(where.cluster, n_workers=where.workers), insecure=where.insecure)
    if not script:
        console.show(shown.to_json(), as_json, lambda screen: show_cluster(shown, screen))
    elif shown.script is not None:
        print(shown.script, end="")
    else:
        raise ProfileError(f"{where.cluster} has no script: only the profile 'slurm' submits jobs")


@cluster_app.command(epilog="Example: twinlines cluster check --cluster site.yaml")
@grouped
def check(where: ClusterOptions, as_json: JsonOption = False) -> None:
    """Launch a cluster, let its workers say what they are, and stop it: a site is tried before a long run."""
    from twinlines.cluster.inventory import collect
    from twinlines.models.precision import has_bfloat16

    with connected(where) as client:
        scheduler = client.scheduler_info()["address"]
        workers = collect(client, has_bfloat16)
    answer = {"scheduler": scheduler, "workers": {address: worker.to_json() for address, worker in workers.items()}}
    console.show(answer, as_json, lambda screen: show_workers(scheduler, workers, screen))


def show_cluster(shown: Shown, where: Console) -> None:
    """Print what would be launched."""
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


def show_workers(scheduler: str, workers: Mapping[str, Report], where: Console) -> None:
    """Print what workers say of themselves, and their packages' versions, which are the same on all."""
    console.say(where, [f"scheduler: {scheduler}"])
    rows: list[tuple[object, ...]] = [
        (
            address,
            worker.host,
            f"{worker.device} ({worker.device_name})",
            "yes" if worker.bfloat16 else "no",
            worker.threads,
            f"{worker.memory / 2**30:.3g} GiB",
        )
        for address, worker in workers.items()
    ]
    where.print(console.table(("worker", "host", "device", "bfloat16", "threads", "memory"), rows))
    versions = next(iter(workers.values())).versions
    console.say(where, [f"{package}: {version}" for package, version in versions.items()])
