"""The commands ``twinlines tracks``: import stellar tracks, look at them."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import QUARANTINED, JsonOption, OverwriteOption

if TYPE_CHECKING:
    from twinlines.pipeline.stars.mist_import import TracksImportReport
    from twinlines.pipeline.stars.summary import TrackSummary

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
    console.show(report.to_json(), as_json, lambda screen: show_import(report, screen))
    if report.left_out:
        raise typer.Exit(QUARANTINED)


@tracks_app.command(epilog="Example: twinlines tracks show mist.zarr.zip --out hr.png --feh -0.5")
def show(
    tracks: Annotated[Path | None, typer.Argument(help="Store of tracks; by default the one that ships.")] = None,
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("hr.png"),
    feh: Annotated[float, typer.Option("--feh", help=r"\[Fe/H] to draw; the nearest that there is.")] = 0.0,
    alpha: Annotated[float, typer.Option("--alpha", help=r"\[alpha/Fe] to draw; the nearest that there is.")] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """List what tracks cover, and draw their Hertzsprung-Russell and Kiel diagrams."""
    from twinlines.pipeline.figures.canvas import save
    from twinlines.pipeline.figures.tracks import diagram
    from twinlines.pipeline.stars.summary import summarise
    from twinlines.pipeline.stars.tracks import Tracks

    loaded = Tracks.load(tracks)
    summary = summarise(loaded)
    save(diagram(loaded, feh, alpha), out)

    def lines(where: Console) -> None:
        show_summary(summary, where)
        console.say(where, [f"drawn: {out}"])

    console.show({"figure": str(out), **summary.to_json()}, as_json, lines)


def show_summary(summary: TrackSummary, where: Console) -> None:
    """Print what tracks cover as a table, a row for each composition."""
    title = ("[Fe/H]", "[alpha/Fe]", "tracks", "from Msun", "to Msun", "widest step", "shortest to EEP", "longest")
    rows: list[tuple[object, ...]] = [
        (
            *(composition.feh, composition.alpha, composition.tracks),
            *(composition.mass_low, composition.mass_high, composition.widest_gap),
            *(composition.last_eep_low, composition.last_eep_high),
        )
        for composition in summary.compositions
    ]
    where.print(console.table(title, rows))
    n_tracks = sum(composition.tracks for composition in summary.compositions)
    n_compositions = len(summary.compositions)
    compositions = "1 composition" if n_compositions == 1 else f"{n_compositions} compositions"
    lines = [f"{n_tracks} tracks, {compositions}, from EEP {summary.first_eep} on; content {summary.digest}"]
    lines += [
        f"no tracks at [Fe/H] {feh:g}, [alpha/Fe] {alpha:g}: stars next to it have no state"
        for feh, alpha in summary.holes
    ]
    console.say(where, lines)


def show_import(report: TracksImportReport, where: Console) -> None:
    """Print what an import of tracks has made."""
    show_summary(report.covers, where)
    lines = [f"models: {models} ({number} tracks)" for models, number in report.models.items()]
    rotation = ", ".join(f"{value:g}" for value in report.rotation) or "not stated"
    lines.append(f"initial rotation v/v_crit: {rotation}")
    if len(report.models) > 1 or len(report.rotation) > 1:
        lines.append("attention: these tracks are of different models, and are interpolated as if they were of one")
    if report.ages_moved:
        lines.append(f"ages that did not rise, by less than one part in 1e9, and were moved: {report.ages_moved}")
    lines += [f"left out: {error}" for error in report.left_out]
    console.say(where, [*lines, f"written: {report.file}"])
