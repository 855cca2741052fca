"""The commands ``twinlines library``: import a grid of synthetic spectra, show what a library holds."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import JsonOption, OverwriteOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinlines.pipeline.library.source import SpectrumSource

library_app = typer.Typer(help="Libraries of synthetic spectra.", no_args_is_help=True)


class FormatName(StrEnum):
    """Formats of grids."""

    FERRE = "ferre"
    FITS = "fits"


class MediumName(StrEnum):
    """What wavelengths are measured in."""

    AIR = "air"
    VACUUM = "vacuum"


@library_app.command(
    "import",
    epilog="Example: twinlines library import f_grid.dat --format ferre --wavelengths vacuum --out library.npz",
)
def import_grid(
    source: Annotated[Path, typer.Argument(help="FERRE file, or folder of FITS spectra.")],
    file_format: Annotated[FormatName, typer.Option("--format", help="ferre: one text file; fits: a folder.")],
    wavelengths: Annotated[MediumName, typer.Option("--wavelengths", help="What the source's wavelengths are.")],
    out: Annotated[Path, typer.Option("--out", help="Library to write (.npz).")],
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="Resolving power lambda/FWHM, if the files do not state it.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", help="Value of a further label, NAME=VALUE.", metavar="NAME=VALUE")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file that says where a folder's FITS files keep what.")
    ] = None,
    components: Annotated[
        int | None, typer.Option("--components", min=1, help="Principal components to keep; 250 by default.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a library of a grid of synthetic spectra: degraded to R = 7500, on the arms' wavelengths, packed."""
    from twinlines.pipeline.library.importing import Choices, import_library
    from twinlines.pipeline.library.packing import COMPONENTS
    from twinlines.pipeline.library.source import selection

    choices = Choices(wavelengths.value, resolution, selection(select or []), components or COMPONENTS)
    with console.progress() as progress:
        report = import_library(
            _source(source, file_format, config), out, choices, overwrite=overwrite, progress=progress
        )

    def lines(where: Console) -> None:
        show_library(report.axes, report.nodes, report.combinations, report.notes, where)
        console.say(where, [f"{out}: {report.nodes} nodes"])

    console.show(asdict(report), as_json, lines)


def _source(path: Path, file_format: FormatName, config: Path | None) -> SpectrumSource:
    from twinlines.pipeline.library.ferre import FerreGrid
    from twinlines.pipeline.library.fits_folder import FolderConfig, SpectraFolder

    if file_format is FormatName.FERRE:
        if config is not None:
            raise typer.BadParameter("a FERRE file describes itself; --config is for --format fits")
        return FerreGrid(path)
    if config is None:
        raise typer.BadParameter("a folder of FITS files needs --config: a TOML file that says where they keep what")
    return SpectraFolder(path, FolderConfig.read(config))


@library_app.command(epilog="Example: twinlines library show library.npz --out nodes.png")
def show(
    library: Annotated[
        Path | None, typer.Argument(help="Library, from 'twinlines library import'; by default the one that ships.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="PNG to draw nodes and spectra in.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a library's axes, nodes, holes and provenance; with --out, draw its nodes and a few spectra."""
    from twinlines.pipeline.library.library import Library
    from twinlines.pipeline.library.packing import AXES

    loaded = Library.load(library)
    axes = {name: axis.tolist() for name, axis in zip(AXES, loaded.axes, strict=True)}
    nodes = int((loaded.index >= 0).sum())
    if out is not None:
        from twinlines.pipeline.figures.canvas import save
        from twinlines.pipeline.figures.library import nodes_and_spectra

        title = f"{library or 'the packaged library'} ({loaded.digest[:8]})"
        save(nodes_and_spectra(loaded, title), out)

    def lines(where: Console) -> None:
        show_library(axes, nodes, loaded.index.size, loaded.notes, where)
        if out is not None:
            console.say(where, [f"{out}: nodes and spectra"])

    summary = {
        "library": str(library) if library else "packaged",
        "digest": loaded.digest,
        "nodes": nodes,
        "combinations": loaded.index.size,
        "axes": axes,
        "notes": dict(loaded.notes),
        "figure": str(out) if out else None,
    }
    console.show(summary, as_json, lines)


def show_library(
    axes: Mapping[str, list[float]], nodes: int, combinations: int, notes: Mapping[str, object], where: Console
) -> None:
    """Print what a library covers, and what is noted of where it comes from."""
    rows: list[tuple[object, ...]] = [
        (name, len(values), f"{values[0]:g}", f"{values[-1]:g}") for name, values in axes.items()
    ]
    where.print(console.table(("axis", "values", "from", "to"), rows))
    where.print(f"nodes: {nodes} of {combinations} combinations; {combinations - nodes} holes")
    shown = {name: value for name, value in notes.items() if name != "nodes" and value not in ([], {}, None)}
    console.say(where, [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in shown.items()])


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(element)}" for name, element in value.items())
    if isinstance(value, list):
        elements = (f"({_plain(element)})" if isinstance(element, list) else _plain(element) for element in value)
        return "; ".join(elements)
    return f"{value:g}" if isinstance(value, float) else str(value)
