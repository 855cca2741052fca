"""The commands that are about stars: ``twinlines binaries sources|orbits`` and ``twinlines catalog sources|source``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.binaries import LimitOption, binaries_app
from twinlines.pipeline.cli.catalog import PenaltyOption, ReleaseOption, catalog_app, rows_to_json, show_rows
from twinlines.pipeline.cli.options import (
    TABLES,
    ClusterOptions,
    EpochOffsetOption,
    JsonOption,
    SurveyOption,
    connected,
    grouped,
)

if TYPE_CHECKING:
    import xarray as xr

    from twinlines.pipeline.binaries.sources.binary import Binary
    from twinlines.pipeline.binaries.sources.orbits import OrbitReport

_LISTED = 50  # stars that are printed, if nothing else is asked for
_OF_SOURCES = {
    "obsid": "d",
    "ra": ".5f",
    "dec": ".5f",
    "epochs": "d",
    "epochs_double": "d",
    "sb2_probability": ".3f",
    "sb1_probability": ".3f",
    "rv_excess": ".1f",
    "wilson_mass_ratio": ".3f",
    "wilson_mass_ratio_error": ".3f",
    "wilson_velocity": ".1f",
    "period": ".5f",
    "period_error": ".5f",
    "eccentricity": ".2f",
    "semi_amplitude_primary": ".1f",
    "semi_amplitude_secondary": ".1f",
    "mode_probability": ".2f",
}
"""Columns that tell a reader most, and how their numbers are printed."""
_OF_SOLUTIONS = {
    "solution_id": "d",
    "mode_probability": ".3f",
    "period": ".6f",
    "period_error": ".6f",
    "eccentricity": ".3f",
    "semi_amplitude_primary": ".1f",
    "semi_amplitude_secondary": ".1f",
    "mass_ratio": ".3f",
    "mass_ratio_error": ".3f",
    "center_of_mass_velocity": ".1f",
    "obj_func": ".1f",
    "freedom": "d",
}
_MOST_SOLUTIONS = 8  # that are printed


class OrderOption(StrEnum):
    """What stars are sorted by."""

    EVIDENCE = "evidence"
    DOUBLE = "double"
    EPOCHS = "epochs"
    PERIOD = "period"
    SEPARATION = "separation"
    MASS_RATIO = "mass_ratio"
    OBSID = "obsid"


def _pairs(values: list[str] | None, option: str) -> dict[str, str]:
    """Options of the form WHAT=NAME."""
    named = {}
    for value in values or []:
        what, sign, name = value.partition("=")
        if not (sign and what and name):
            raise typer.BadParameter(f"{value!r} is not of the form WHAT=NAME, such as period=P", param_hint=option)
        named[what] = name
    return named


@binaries_app.command("sources", epilog="Example: twinlines binaries sources --survey survey")
def sources_(
    survey: SurveyOption,
    radius: Annotated[
        float, typer.Option("--radius", help="Exposures within this angle are of one star, arcseconds.")
    ] = 3.0,
    prevalence: Annotated[
        float, typer.Option("--prevalence", help="Fraction of stars that are double-lined binaries, beforehand.")
    ] = 0.01,
    sb1_prevalence: Annotated[
        float, typer.Option("--sb1-prevalence", help="Fraction of the others that are single-lined ones, beforehand.")
    ] = 0.05,
    least_probability: Annotated[
        float,
        typer.Option("--least-probability", help="Least sb2_probability of those shown; double ones always are."),
    ] = 0.5,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Group exposures into stars: how likely each is a binary; of double ones mass ratios, systemic velocities."""
    import numpy as np

    from twinlines.pipeline.binaries.evidence.evidence import Prevalence
    from twinlines.pipeline.binaries.fits.store import FitsError
    from twinlines.pipeline.binaries.sources.survey import make_sources

    if not 0.0 <= least_probability <= 1.0:
        raise FitsError(f"the least probability is {least_probability}; give one between 0 and 1")
    table = make_sources(survey, radius=radius, prevalence=Prevalence(prevalence, sb1_prevalence))
    likely = (table["epochs_double"].values > 0) | (table["sb2_probability"].values >= least_probability)
    _show(table.isel(source=np.flatnonzero(likely)), limit, as_json)


@binaries_app.command("orbits", epilog="Example: twinlines binaries orbits --survey survey --ephemerides kebc.csv")
@grouped
def orbits_(
    *,
    survey: SurveyOption,
    ephemerides: Annotated[
        Path | None,
        typer.Option("--ephemerides", help=f"Table of known periods, and times of eclipses: {TABLES}."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="A column of that table, as period=P or eclipse=T0; may be repeated."),
    ] = None,
    epoch_offset: EpochOffsetOption = None,
    sampled: Annotated[
        int | None,
        typer.Option("--samples", min=0, help="Stars whose posterior samples are kept.", show_default="10000"),
    ] = None,
    where: ClusterOptions,
    as_json: JsonOption = False,
) -> None:
    """Sample the orbits of the stars that 'sources' made. What was sampled for the same velocities stays."""
    from twinlines.pipeline.binaries.sources.orbits import SAMPLED, sample_orbits
    from twinlines.pipeline.binaries.sources.priors import read_priors
    from twinlines.pipeline.usertables.ephemerides import EphemerisError

    named = _pairs(column, "--column")
    if (named or epoch_offset is not None) and ephemerides is None:
        raise EphemerisError("--column and --epoch-offset say how ephemerides are read; give --ephemerides, too")
    known = None if ephemerides is None else read_priors(ephemerides, named, epoch_offset)
    with connected(where) as client, console.progress() as progress:
        report = sample_orbits(
            client, survey, ephemerides=known, sampled=SAMPLED if sampled is None else sampled, progress=progress
        )
    console.show(report.to_json(), as_json, lambda screen: show_orbits(report, screen))


@catalog_app.command("sources", epilog="Example: twinlines catalog sources --survey survey --sort evidence")
def list_sources(
    survey: SurveyOption,
    sort: Annotated[
        OrderOption, typer.Option("--sort", help="What comes first; evidence: the largest P(SB2) by all exposures.")
    ] = OrderOption.DOUBLE,
    least_double: Annotated[
        int, typer.Option("--least-double", min=0, help="Fewest exposures that show two stars, resolved; 0: all stars.")
    ] = 1,
    least_evidence: Annotated[
        float, typer.Option("--least-evidence", min=0.0, max=1.0, help="Least P(SB2) by all exposures of a star.")
    ] = 0.0,
    least_certainty: Annotated[
        float, typer.Option("--least-certainty", min=0.0, max=1.0, help="Least probability of the best period.")
    ] = 0.0,
    shortest: Annotated[float | None, typer.Option("--shortest", help="Shortest period, days.")] = None,
    longest: Annotated[float | None, typer.Option("--longest", help="Longest period, days.")] = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the stars that show two sets of lines: epochs, mass ratios, orbits."""
    from twinlines.pipeline.binaries.sources.questions import select
    from twinlines.pipeline.binaries.sources.survey import open_sources

    table = select(
        open_sources(survey).load(),
        sort=sort.value,
        least_double=least_double,
        least_evidence=least_evidence,
        least_certainty=least_certainty,
        period=(shortest, longest),
    )
    _show(table, limit, as_json)


@catalog_app.command("source", epilog="Example: twinlines catalog source --survey survey 738216075")
def source(
    survey: SurveyOption,
    obsid: Annotated[int, typer.Argument(help="Any obsid of the star.")],
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw its spectra, velocities and period (.png).")
    ] = None,
    penalty: PenaltyOption = 16,
    limit: LimitOption = None,
    release: ReleaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the star that was observed as OBSID: its exposures in time order, velocities, mass ratio, orbits."""
    from twinlines.pipeline.binaries.sources.questions import try_binary
    from twinlines.pipeline.catalog import catalog

    if figure is not None:  # not after all is read
        from twinlines.pipeline.figures.canvas import check

        check(figure)
    rows = catalog.open(survey, release=release).sb2.source(obsid)
    rows.sb2.probability("B", penalty=penalty)  # refuses a penalty that there is none of
    binary, why_not = try_binary(survey, obsid, spectra=figure is not None)
    if figure is not None:
        from twinlines.pipeline.binaries.fits.store import FitsError

        if binary is None:
            raise FitsError(f"there is nothing to draw: {why_not}")
        from twinlines.pipeline.figures.binary import binary as draw
        from twinlines.pipeline.figures.canvas import save

        save(draw(binary), figure)
    summary: dict[str, Any] = {}
    if as_json:
        shown = rows_to_json(rows.isel(exposure=slice(limit)))
        summary = {"exposures": shown, "binary": None if binary is None else binary.to_json()}

    def show(screen: Console) -> None:
        show_rows(rows, limit or _LISTED, penalty, screen)
        if binary is None:
            console.say(screen, [f"no binary: {why_not}"])
        else:
            show_binary(binary, screen)
        if figure is not None:
            console.say(screen, [f"figure: {figure}"])

    console.show(summary, as_json, show)


def _show(table: xr.Dataset, limit: int | None, as_json: bool) -> None:
    shown = table.isel(source=slice(limit))
    columns = {str(name): shown[name].values.tolist() for name in shown.variables} if as_json else {}
    summary = [{name: values[row] for name, values in columns.items()} for row in range(shown.sizes["source"])]
    console.show(summary if as_json else [], as_json, lambda screen: show_sources(table, limit or _LISTED, screen))


def _table(rows: xr.Dataset, styles: dict[str, str], first: tuple[str, ...]) -> Any:
    columns = {name: [format(value, style) for value in rows[name].values.tolist()] for name, style in styles.items()}
    return console.table(list(columns), list(zip(*columns.values(), strict=True)), first=first)


def show_sources(table: xr.Dataset, limit: int, where: Console) -> None:
    """Print those columns of the first ``limit`` stars that tell a reader most."""
    first = ("obsid", "epochs_double", "sb2_probability", "wilson_mass_ratio", "period", "mode_probability")
    where.print(_table(table.isel(source=slice(limit)), _OF_SOURCES, first))
    hidden = table.sizes["source"] - limit
    if hidden > 0:
        where.print(f"... and {hidden} more; --limit shows more")
    periods = int((table["mode_probability"].values >= 0.95).sum())
    double = int((table["epochs_double"].values > 0).sum())
    where.print(f"{double} stars with two sets of lines; the period of {periods} is known")
    all_moonlit = (table["epochs_double"] > 0) & (table["epochs_moonlight"] == table["epochs_double"])
    if moonlit := int(all_moonlit.sum()):
        where.print(f"{moonlit} of them may be single stars in the Moon's light, at each of their double exposures")
    if not (table["epochs_fitted"].values > 0).any():
        where.print("two stars were fitted to no exposure of these: 'twinlines binaries fit' shows sets of lines")
    if table.sizes["source"] > double:
        where.print(f"{table.sizes['source'] - double} others that may be double-lined, by all of their exposures")


def show_orbits(report: OrbitReport, where: Console) -> None:
    """Print what a call did, and how ephemerides were read."""
    lines = []
    if report.ephemerides is not None:
        said = report.ephemerides
        taken = ", ".join(f"{what} from {name!r}" for what, name in said["columns"].items())
        lines.append(f"ephemerides: {said['file']}, {said['ephemerides']} of {said['rows']} rows; {taken}")
        lines += [f"ephemerides: {note}" for note in said["notes"]]
        lines.append(f"ephemerides: {said['stars']} of the survey's {report.stars} stars have one, by {said['by']}")
    lines += [
        f"stars: {report.stars}, {report.sampled} sampled now, {report.before} before",
        f"orbits: {report.orbits}; the others have too few epochs, and limits",
        f"periods that are known (95 % or more): {report.periods}; samples are kept of {report.samples} stars",
        f"solutions: {report.store}",
    ]
    console.say(where, lines)


def _velocity(epoch: dict[str, Any], star: str) -> str:
    """A velocity, the error that the fit states, and the total one."""
    velocity, own, total = (epoch[f"rv_{star}{end}"] for end in ("", "_fit_error", "_error"))
    return f"{velocity:.1f} ± {own:.1f} (± {total:.1f})"


def show_binary(binary: Binary, where: Console) -> None:
    """Print a star's velocities, its mass ratio and its solutions."""
    said = binary.to_json()
    rows = [
        (
            f"{each['bjdmid']:.4f}",
            f"{each['phase']:.3f}",
            *(_velocity(each, "primary"), _velocity(each, "secondary") if each["resolved"] else "blend"),
        )
        for each in said["velocities"]
    ]
    names = ("bjdmid", "phase", *(f"star {star}, ± fit (± total), km/s" for star in (1, 2)))
    where.print(console.table(names, rows, title=binary.name))
    scale = "zero points added" if binary.scaled else "no zero points: 4 km/s that a night's n exposures share count √n"
    where.print(f"± fit: the fit's own error; ± total: what mass ratio and orbit are made with ({scale})")
    star = said["star"]
    ratio = f"{star['wilson_mass_ratio']:.3f} ± {star['wilson_mass_ratio_error']:.3f}"
    gamma = f"{star['wilson_velocity']:.1f} ± {star['wilson_velocity_error']:.1f} km/s"
    lines = [f"mass ratio by the velocities alone: {ratio}, systemic velocity {gamma}"]
    solutions = binary.solutions
    if not solutions.sizes["solution"]:
        lines.append("no orbit was asked for since its velocities are these: 'twinlines binaries orbits' does so")
    elif not binary.period > 0.0:
        first = said["solutions"][0]
        lines.append(
            f"no orbit: {first['rv_n_obs_primary']} epochs with two velocities on {first['rv_n_nights']} nights; "
            f"(K1 + K2)(1 + e) is above {first['limit_amplitude_sum']:.0f} km/s"
        )
    else:
        where.print(_table(solutions.isel(solution=slice(_MOST_SOLUTIONS)), _OF_SOLUTIONS, tuple(_OF_SOLUTIONS)[:6]))
        from twinlines.pipeline.binaries.orbits.summary import OrbitStatus

        bits = OrbitStatus(int(solutions["flags"][0]))
        lines.append(f"orbit: {', '.join(str(bit.name).lower() for bit in bits) or 'good'}")
    console.say(where, lines)
