"""The commands ``twinlines tracks``: argument parsing and printing, as in :mod:`twinlines.pipeline.cli.main`."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import QUARANTINED, JsonOption, OverwriteOption

if TYPE_CHECKING:
    from rich.console import Console

tracks_app = typer.Typer(help="Stellar tracks: import and look at them.", no_args_is_help=True)


@tracks_app.command("import", epilog="Example: twinlines tracks import MIST_v1.2_*_EEPS.txz --out mist.zarr.zip")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Files *.track.eep, archives of them (.txz, .tar.gz), folders of either.", metavar="SOURCE..."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Store to write, *.zarr.zip.")] = Path("tracks.zarr.zip"),
    maximum_mass: Annotated[
        float, typer.Option("--maximum-mass", help="Leave out heavier tracks; solar masses.", show_default="all")
    ] = inf,
    last_eep: Annotated[
        int | None, typer.Option("--last-eep", min=2, help="Cut tracks after this EEP.", show_default="all")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out files that cannot be read; exit status 3 tells.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one store of MIST's evolutionary tracks, of any set of compositions."""
    from twinlines.pipeline.stars.mist_import import import_tracks

    with console.progress() as progress:
        report = import_tracks(
            sources,
            out,
            maximum_mass=maximum_mass,
            last_eep=last_eep,
            skip_damaged=skip_damaged,
            overwrite=overwrite,
            progress=progress,
        )
    console.show(report.to_json(), as_json, report.show)
    if report.left_out:
        raise typer.Exit(QUARANTINED)


@tracks_app.command(epilog="Example: twinlines tracks show mist.zarr.zip --out hr.png --feh -0.5")
def show(
    tracks: Annotated[Path | None, typer.Argument(help="Store of tracks; by default the one that ships.")] = None,
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("hr.png"),
    feh: Annotated[float, typer.Option("--feh", help="[Fe/H] to draw; the nearest that there is.")] = 0.0,
    alpha: Annotated[float, typer.Option("--alpha", help="[alpha/Fe] to draw; the nearest that there is.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """List what tracks cover, and draw their Hertzsprung-Russell and Kiel diagrams."""
    from twinlines.pipeline.figures.demo import save
    from twinlines.pipeline.figures.tracks import diagram
    from twinlines.pipeline.stars.summary import summarise
    from twinlines.pipeline.stars.tracks import Tracks

    loaded = Tracks.load(tracks)
    summary = summarise(loaded)
    save(diagram(loaded, feh, alpha), out)

    def lines(where: Console) -> None:
        summary.show(where)
        where.print(f"drawn: {out}", markup=False)

    console.show({"figure": str(out), **summary.to_json()}, as_json, lines)
