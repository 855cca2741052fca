"""The commands ``twinlines validate`` of the paper's section 4: other lists, eclipsing binaries, colours, the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.catalog import (
    PenaltyOption,
    PercentileOption,
    ReleaseOption,
    RuleOption,
    ThresholdOption,
)
from twinlines.pipeline.cli.options import (
    TABLES,
    ColumnOption,
    EpochOffsetOption,
    JsonOption,
    MatchedByOption,
    OverwriteOption,
    PlaceColumns,
    SurveyOption,
    grouped,
)

if TYPE_CHECKING:
    from twinlines.pipeline.validation.observed import Asked

literature_app = typer.Typer()

RadiusOption = Annotated[float, typer.Option("--radius", help="Largest distance of a match, arcsec.")]


class OutputFolderError(ValueError):
    """What a validation makes cannot be written as asked."""


@dataclass(frozen=True)
class RuleOptions:
    """Which exposures are candidates, of which catalog."""

    rule: Annotated[
        RuleOption,
        typer.Option("--rule", help="joint: the probability by both arms together; paper: that of each arm."),
    ] = RuleOption.JOINT
    penalty: PenaltyOption = 16
    percentile: PercentileOption = None
    threshold: ThresholdOption = None
    release: ReleaseOption = None

    def asked(self) -> Asked:
        """The rule."""
        from twinlines.pipeline.validation.observed import Asked

        return Asked(self.rule.value, self.penalty, self.percentile, self.threshold)


@dataclass(frozen=True)
class OutOptions:
    """Where figures and tables go."""

    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for figures (.png) and tables (.ecsv); made if need be.")
    ] = None
    overwrite: OverwriteOption = False

    def files(self, names: Sequence[str]) -> dict[str, Path]:
        """Paths of files by their names, none of which may be there; nothing without a folder.

        Raises
        ------
        OutputFolderError
            If one is there, or the folder is a file.
        """
        if self.out is None:
            return {}
        if self.out.exists() and not self.out.is_dir():
            raise OutputFolderError(f"{self.out} is a file; name a folder for {', '.join(names)}")
        there = [name for name in names if (self.out / name).exists()]
        if there and not self.overwrite:
            raise OutputFolderError(
                f"{self.out} has {', '.join(there)} already; name another folder, or give --overwrite"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        return {name: self.out / name for name in names}


@literature_app.command(
    epilog="Example: twinlines validate crossmatch --survey survey kounkel.fits sb9.vot --out lists"
)
@grouped
def crossmatch(
    *,
    tables: Annotated[
        list[Path],
        typer.Argument(help=f"Lists of SB2s: {TABLES}.", metavar="TABLE..."),
    ],
    survey: SurveyOption,
    rules: RuleOptions,
    radius: RadiusOption = 3.0,
    match: MatchedByOption = None,
    columns: PlaceColumns,
    period_column: ColumnOption = None,
    periods: Annotated[
        str, typer.Option("--periods", help="Ends of the period's bins, days, with commas between.")
    ] = "1,10,100,1000",
    files: OutOptions,
    as_json: JsonOption = False,
) -> None:
    """Hold the catalog against other lists of SB2s: which stars it recovers, by period; how lists agree (Figure 11)."""
    from twinlines.pipeline.catalog import catalog
    from twinlines.pipeline.cli.literature_show import show_crossmatch
    from twinlines.pipeline.validation.foreign import crossmatch as lists

    names = ["matched.ecsv", "crossmatch.png", *(["agreement.png"] if len(tables) > 1 else [])]
    written = files.files(names)
    ends = _numbers(periods, "--periods")
    foreign = lists.read_lists(tables, columns.asked(period=period_column))
    opened = catalog.open(survey, release=rules.release)
    result = lists.crossmatch(
        opened, foreign, rules.asked(), radius=radius, by=match.value if match else None, periods=ends
    )
    if written:
        from twinlines.pipeline.figures import crossmatch as figures

        _write(result.table(), written["matched.ecsv"], opened.attrs)
        figures.crossmatch_figure(result, written["crossmatch.png"])
        if len(tables) > 1:
            figures.agreement_figure(result, written["agreement.png"])
    console.show(
        _summary(result.to_json(), opened.attrs, written), as_json, lambda where: show_crossmatch(result, where)
    )
    _say(written, as_json)


@literature_app.command(epilog="Example: twinlines validate kebc --survey survey --table kebc.csv --out eclipses")
@grouped
def kebc(
    *,
    survey: SurveyOption,
    table: Annotated[
        Path,
        typer.Option("--table", help="Ephemerides: the Kepler Eclipsing Binary Catalog's CSV, or any such table."),
    ],
    star: Annotated[
        str | None,
        typer.Option(
            "--star",
            help="Name in the table, or an obsid, of the star whose spectra are drawn.",
            show_default="that with the most exposures",
        ),
    ] = None,
    penalty: PenaltyOption = 16,
    snr: Annotated[float, typer.Option("--snr", help="Least S/N of an exposure that counts.")] = 10.0,
    periods: Annotated[
        str, typer.Option("--periods", help="Shortest and longest period of a star that counts, days.")
    ] = "1,10",
    radius: RadiusOption = 3.0,
    columns: PlaceColumns,
    period_column: ColumnOption = None,
    epoch_column: ColumnOption = None,
    epoch_offset: EpochOffsetOption = None,
    release: ReleaseOption = None,
    files: OutOptions,
    as_json: JsonOption = False,
) -> None:
    """Eclipsing binaries with known periods: probabilities against phase (Figure 8), spectra by phase (Figure 9)."""
    from twinlines.pipeline.catalog import catalog
    from twinlines.pipeline.cli.literature_show import show_eclipsing
    from twinlines.pipeline.usertables.ephemerides import read_ephemerides
    from twinlines.pipeline.validation.eclipsing.phases import EclipsingConfig, eclipsing
    from twinlines.pipeline.validation.eclipsing.spectra import phased_spectra, star_row

    written = files.files(["phases.ecsv", "phases.png", "spectra.png"])
    ends = _numbers(periods, "--periods")
    if len(ends) != 2 or not 0.0 < ends[0] < ends[1]:
        raise OutputFolderError(f"--periods is {periods!r}; give the shortest and the longest, days, such as 1,10")
    named = columns.asked(period=period_column, eclipse=epoch_column)
    stars = read_ephemerides(table, named, epoch_offset, timed=True)
    opened = catalog.open(survey, release=release)
    result = eclipsing(survey, opened, stars, EclipsingConfig(snr, (ends[0], ends[1]), radius), penalty)
    shown = star_row(result, star)
    if written:
        from twinlines.pipeline.figures import eclipsing as figures

        _write(result.table(), written["phases.ecsv"], opened.attrs)
        figures.phases_figure(result, written["phases.png"])
        figures.spectra_figure(phased_spectra(survey, result, star), written["spectra.png"])
    console.show(
        _summary(result.to_json(), opened.attrs, written), as_json, lambda where: show_eclipsing(result, shown, where)
    )
    _say(written, as_json)


class ExtinctionOption(StrEnum):
    """Where extinction comes from."""

    COLUMNS = "columns"
    BAYESTAR = "bayestar"
    SFD = "sfd"
    NONE = "none"


@dataclass(frozen=True)
class PhotometryColumns:
    """Columns of photometry."""

    parallax_column: ColumnOption = None
    g_column: ColumnOption = None
    bp_rp_column: ColumnOption = None
    ebv_column: ColumnOption = None


@dataclass(frozen=True)
class NearbyOptions:
    """Which stars are in the diagram."""

    parallax: Annotated[float, typer.Option("--parallax", help="Least parallax, mas.")] = 3.0
    parallax_over_error: Annotated[
        float, typer.Option("--parallax-over-error", help="Least parallax over its error.")
    ] = 5.0
    ruwe: Annotated[float, typer.Option("--ruwe", help="Largest RUWE.")] = 1.4
    snr: Annotated[float, typer.Option("--snr", help="Least S/N of an exposure, in either arm.")] = 10.0


@literature_app.command(epilog="Example: twinlines validate cmd --survey survey --photometry gaia.fits --out colours")
@grouped
def cmd(
    *,
    survey: SurveyOption,
    photometry: Annotated[
        Path,
        typer.Option("--photometry", help=f"Gaia's columns of the stars, parallax, G, BP-RP: {TABLES}."),
    ],
    extinction: Annotated[
        ExtinctionOption | None,
        typer.Option(
            "--extinction",
            help="Where extinction comes from: columns of the table, or a dust map (needs dustmaps).",
            show_default="columns, if the table has any, else none",
        ),
    ] = None,
    dust_scale: Annotated[
        float | None, typer.Option("--dust-scale", help="E(B-V) over the map's unit.", show_default="the usual one")
    ] = None,
    rules: RuleOptions,
    nearby: NearbyOptions,
    radius: RadiusOption = 3.0,
    match: MatchedByOption = None,
    columns: PlaceColumns,
    more_columns: PhotometryColumns,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish the catalog anew, with intrinsic colours (bprp0).")
    ] = False,
    files: OutOptions,
    as_json: JsonOption = False,
) -> None:
    """Put stars into the colour-magnitude diagram: binaries lie 0.75 mag above single stars (Figures 10 and 12)."""
    from twinlines.pipeline.catalog import catalog
    from twinlines.pipeline.cli.literature_show import show_diagram
    from twinlines.pipeline.validation.colours import diagram as diagrams
    from twinlines.pipeline.validation.colours.correlations import correlations
    from twinlines.pipeline.validation.colours.publish import publish as publish_colours

    written = files.files(["stars.ecsv", "fractions.ecsv", "cmd.png", "candidates.png"])
    named = {name.removesuffix("_column"): value for name, value in vars(more_columns).items()}
    table = diagrams.read_photometry(photometry, columns.asked(**named))
    opened = catalog.open(survey, release=rules.release)
    result = diagrams.diagram(
        opened,
        table,
        rules.asked(),
        diagrams.NearbyConfig(**vars(nearby)),
        source=extinction.value if extinction else None,
        scale=dust_scale,
        radius=radius,
        by=match.value if match else None,
    )
    if publish and extinction is None and result.extinction.source == "none":
        raise OutputFolderError(
            "bprp0 is an intrinsic colour, and the table has no columns of extinction; give --extinction bayestar or "
            "sfd, or --extinction none if there is none to speak of"
        )
    if written:
        from twinlines.pipeline.figures import colours as figures

        _write(result.stars(), written["stars.ecsv"], opened.attrs)
        _write(result.cells(), written["fractions.ecsv"], opened.attrs)
        figures.diagram_figure(result, written["cmd.png"])
        figures.candidates_figure(result, correlations(survey, opened, result), written["candidates.png"])
    published = publish_colours(survey, result, str(opened.attrs["name"])) if publish else None
    summary = _summary(result.to_json(), opened.attrs, written)
    summary["published"] = published.to_json() if published else None
    console.show(summary, as_json, lambda where: show_diagram(result, published, where))
    _say(written, as_json)


@literature_app.command(epilog="Example: twinlines validate summary --survey survey --out summary")
@grouped
def summary(
    *,
    survey: SurveyOption,
    rules: RuleOptions,
    radius: Annotated[float, typer.Option("--radius", help="Exposures within this are of one star, arcsec.")] = 3.0,
    files: OutOptions,
    as_json: JsonOption = False,
) -> None:
    """The catalog at a glance: probabilities against S/N (Figure 7), observations of candidates (Figure 13)."""
    from twinlines.pipeline.catalog import catalog
    from twinlines.pipeline.cli.literature_show import show_overview
    from twinlines.pipeline.schema import HEADS
    from twinlines.pipeline.validation.overview import overview

    names = {head: f"probabilities-{head}.png" for head in HEADS}
    written = files.files([*names.values(), "observations.png"])
    opened = catalog.open(survey, release=rules.release)
    result = overview(opened, rules.asked(), radius)
    if written:
        from twinlines.pipeline.figures import overview as figures

        heads = {head for head, _, _ in result.counts}
        for head, name in names.items():
            if head in heads:
                figures.probabilities_figure(result, head, written[name])
            else:
                del written[name]
        figures.observations_figure(result, written["observations.png"])
    console.show(_summary(result.to_json(), opened.attrs, written), as_json, lambda where: show_overview(result, where))
    _say(written, as_json)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OutputFolderError(f"{option} is {text!r}; give numbers with commas between, such as 1,10,100") from None


def _write(table: Any, path: Path, attrs: Mapping[str, Any]) -> None:
    """Write a table (ECSV) with the catalog that it comes of."""
    table.meta["catalog"] = str(attrs.get("name", ""))
    table.write(path, format="ascii.ecsv", overwrite=True)


def _summary(numbers: Mapping[str, Any], attrs: Mapping[str, Any], written: Mapping[str, Path]) -> dict[str, Any]:
    return {"catalog": attrs.get("name"), **numbers, "files": [str(path) for path in written.values()]}


def _say(written: Mapping[str, Path], as_json: bool) -> None:
    if written and not as_json:
        console.say(console.out(), [f"written: {path}" for path in written.values()])
