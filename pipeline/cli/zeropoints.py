"""The command ``twinlines zeropoints``: velocities of a survey's catalog on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import (
    TABLES,
    ColumnOption,
    JsonOption,
    MatchedByOption,
    PlaceColumns,
    SurveyOption,
    grouped,
)

if TYPE_CHECKING:
    from twinlines.pipeline.binaries.zeropoints.calibrated import CalibrationReport

zero_points_app = typer.Typer()


@zero_points_app.command(epilog="Example: twinlines zeropoints --survey survey --reference gaia.fits")
@grouped
def zeropoints(
    *,
    survey: SurveyOption,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help=f"Table of reference velocities, such as Gaia's: {TABLES}."),
    ] = None,
    match: MatchedByOption = None,
    radius: Annotated[float, typer.Option("--radius", help="Exposures within this are of one star, arcsec.")] = 3.0,
    columns: PlaceColumns,
    velocity_column: ColumnOption = None,
    error_column: ColumnOption = None,
    least_stars: Annotated[int, typer.Option("--least-stars", min=3, help="Fewest stars of a zero point.")] = 5,
    floor: Annotated[float, typer.Option("--floor", help="What velocities scatter besides their errors, km/s.")] = 1.0,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw zero points by time and spectrograph (.png).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put velocities on one scale: rv_abs_* of a new catalog, by references or by stars observed several times."""
    from twinlines.pipeline.binaries.sources.survey import commands_again
    from twinlines.pipeline.binaries.zeropoints.calibrated import ReferenceSource, calibrate, open_zero_points
    from twinlines.pipeline.binaries.zeropoints.references import ReferenceColumns
    from twinlines.pipeline.binaries.zeropoints.units import ZeroPointConfig, ZeroPointError

    names = columns.asked(velocity=velocity_column, error=error_column)
    if reference is None and (match is not None or names):
        raise ZeroPointError("--match and names of columns say how a reference table is read; give --reference, too")
    if figure is not None:  # not after all is computed
        from twinlines.pipeline.figures.canvas import check

        check(figure)
    source = None
    if reference is not None:
        source = ReferenceSource(reference, ReferenceColumns(**names), match.value if match else None)
    config = ZeroPointConfig(least_stars=least_stars, floor=floor, radius=radius)
    report = calibrate(survey, source, config)
    if figure is not None:
        from twinlines.pipeline.figures.zeropoints import zero_points_figure

        zero_points_figure(open_zero_points(survey), figure)
    again = commands_again(survey)
    summary = {**report.to_json(), "figure": str(figure) if figure else None, "stars_again": again}
    console.show(summary, as_json, lambda screen: show_calibration(report, figure, again, screen))


def show_calibration(report: CalibrationReport, figure: Path | None, stars_again: str | None, where: Console) -> None:
    """Print where zero points come from, how many there are, the catalog that has them, and what is made of others."""
    lines = []
    if report.reference is None:
        lines.append("no references: zero points come from repeated stars, and are relative to each other")
    else:
        said = report.reference
        taken = ", ".join(f"{what} from {name!r}" for what, name in said["columns"].items())
        lines.append(f"references: {said['file']}, {said['stars']} of {said['rows']} rows; {taken}")
        lines += [f"references: {note}" for note in said["notes"]]
        lines.append(
            f"references: {said['stars_matched']} stars are in the catalog, in {said['exposures_matched']} of "
            f"{report.rows} exposures; {said['stars_elsewhere']} are not"
        )
    for arm, numbers in report.zero_points["arms"].items():
        reasons = ", ".join(f"{count} {name}" for name, count in numbers["reasons"].items())
        lines.append(f"{arm}: {numbers['zero_points']} zero points of {report.zero_points['units']} units: {reasons}")
        if numbers["zero_points"]:
            lines.append(
                f"{arm}: median {numbers['median_kms']:+.2f}, spread {numbers['spread_kms']:.2f}, median error "
                f"{numbers['median_error_kms']:.2f} km/s; rv_abs_{arm} of {report.calibrated[arm]} exposures"
            )
    lines += [f"zero points: {report.table}", f"catalog: {report.catalog}"]
    if stars_again is not None:
        lines.append(f"the survey's stars are of velocities without these; {stars_again} make them anew; fits stay")
    if not report.new:
        lines.append("nothing to do: all of it was computed from this catalog in this way, and published")
    if figure is not None:
        lines.append(f"figure: {figure}")
    console.say(where, lines)
