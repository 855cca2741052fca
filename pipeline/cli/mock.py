"""The commands that need no survey of one's own: ``twinlines demo`` and ``mock``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from twinlines.pipeline.cli import console
from twinlines.pipeline.cli.options import ClusterOptions, JsonOption, SeedOption, WorkersOption, connected
from twinlines.pipeline.cli.survey import show_ingestion
from twinlines.pipeline.cli.tables import FittedTable

if TYPE_CHECKING:
    from twinlines.pipeline.mock.comparison import BinaryComparison, Comparison
    from twinlines.pipeline.mock.demo import DemoResult

_STAR_NUMBERS = {
    "Teff (K)": ("teff1", ".0f"),
    "q": ("q", ".2f"),
    "L2/L1 red": ("light_ratio_R", ".2f"),
    "P (d)": ("period", ".1f"),
    "max |Δv| (km/s)": ("delta_v", ".0f"),
    "S/N B": ("snr_B", ".0f"),
    "S/N R": ("snr_R", ".0f"),
    "p50 B": ("p50_B", ".2f"),
    "p50 R": ("p50_R", ".2f"),
}
_STAR_TITLES = ("star", "kind", *_STAR_NUMBERS, "candidates", "verdict")
_VERDICT_STYLES = {"found": "green", "missed": "yellow", "false alarm": "red"}

mock_app = typer.Typer()


class LayoutName(StrEnum):
    """Layouts of LAMOST MRS files."""

    ROWS = "rows"
    VECTORS = "vectors"


@mock_app.command(epilog="Example: twinlines demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the demo; an earlier demo there is replaced.")] = Path(
        "demo"
    ),
    stars: Annotated[int, typer.Option("--stars", min=10, help="Stars of the mock release.")] = 48,
    seed: SeedOption = 1,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole chain on a small mock survey: candidates beside the injected truth, and figures."""
    from twinlines.pipeline.figures.demo import write
    from twinlines.pipeline.mock.demo import run_demo

    with connected(ClusterOptions(workers=workers)) as client, console.progress() as progress:
        result = run_demo(client, out, stars=stars, seed=seed, draw=write, progress=progress)
    console.show(result.to_json(), as_json, lambda screen: show_demo(result, screen))


@mock_app.command(epilog="Example: twinlines mock fits/ --stars 500")
def mock(
    out: Annotated[Path, typer.Argument(help="New folder for the FITS files.")],
    stars: Annotated[int, typer.Option("--stars", min=1, help="Number of stars.")] = 500,
    seed: SeedOption = 0,
    layout: Annotated[LayoutName, typer.Option("--layout", help="rows: to DR8; vectors: from DR9.")] = LayoutName.ROWS,
    plate: Annotated[int, typer.Option("--stars-per-plate", min=1, help="Stars that are observed together.")] = 12,
    zero_points: Annotated[
        float, typer.Option("--zero-points", min=0.0, help="Scatter of zero points, km/s; above 0, with references.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Write a mock release: LAMOST-format FITS files with known binaries and defects, and tables of the truth."""
    from twinlines.pipeline.mock.release import MockConfig, make_release

    with console.progress() as progress:
        config = MockConfig(stars_per_plate=plate, zero_points=zero_points)
        truth = make_release(out, stars=stars, seed=seed, layout=layout.value, config=config, progress=progress)
    summary = truth.summary()
    console.show(summary, as_json, lambda screen: show_mock(summary, screen))


def show_mock(summary: Mapping[str, Any], where: Console) -> None:
    """Print what is in a mock release: a line for each thing that is counted."""
    lines = []
    for name, value in summary.items():
        parts = [f"{count} {kind}" for kind, count in value.items()] if isinstance(value, Mapping) else [str(value)]
        lines.append(f"{name}: {', '.join(parts) or 'none'}")
    console.say(where, lines)


def show_demo(result: DemoResult, where: Console) -> None:
    """Print the candidates against the truth, and what the numbers come to."""
    where.print(_stars(result.comparison))
    numbers = result.to_json()
    where.print(_exposures(numbers["sb2_exposures"], numbers["other_exposures"]))
    if result.binaries:
        where.print(_binaries(result.binaries))
    lines = [
        f"{arm} velocities of {values['exposures']} exposures of one visible star against the truth: "
        f"median {values['median_kms']:+.2f}, scatter {values['scatter_kms']:.2f} km/s, "
        f"{values['scatter_over_error']:.2f} times the errors"
        for arm, values in numbers["velocities"].items()
        if values["exposures"]
    ]
    console.say(where, lines)
    show_ingestion(result.ingested, where)
    lost = result.comparison.lost
    console.say(where, [f"lost: {', '.join(lost)}" if lost else "no exposure of a readable file was lost"])
    for path in result.figures:
        where.print(f"figure: {path}", highlight=False, soft_wrap=True)
    spent = ", ".join(f"{stage} {value:.0f} s" for stage, value in result.seconds.items())
    console.say(where, [f"time: {spent}"])


def _exposures(sb2s: list[dict[str, Any]], others: list[dict[str, Any]]) -> FittedTable:
    """How many of the judged exposures are candidates: a row for each bin of separation and each other kind."""
    named = [(f"SB2, |Δv| {counts['separation_kms']} km/s", counts) for counts in sb2s]
    named += [(str(counts["kind"]), counts) for counts in others]
    return console.table(
        ("", "exposures", "candidates", "by the paper's rule"),
        [
            (name, *(counts[column] for column in ("exposures", "candidates", "by_the_papers_rule")))
            for name, counts in named
        ],
        title="Exposures judged in both arms",
    )


def _binaries(binaries: Sequence[BinaryComparison]) -> FittedTable:
    """Mass ratios and periods of the stars with two sets of lines, beside the truth."""

    def number(value: float, error: float, digits: int, unknown: str) -> str:
        return f"{value:.{digits}f} ± {error:.{digits}f}" if math.isfinite(value + error) else unknown

    def share(probability: float) -> str:
        return f"{probability:.2f}" if math.isfinite(probability) else ""

    return console.table(
        (
            *("obsid", "kind", "double epochs", "q", "true q"),
            *("period (d)", "its probability", "true period (d)", "probability given to it"),
        ),
        [
            (
                *(each.obsid, each.kind, each.epochs),
                *(number(each.mass_ratio, each.mass_ratio_error, 3, "one phase"), f"{each.true_mass_ratio:.3f}"),
                *(number(each.period, each.period_error, 4, "too few nights"), share(each.period_probability)),
                *(f"{each.true_period:.4f}", share(each.true_period_probability)),
            )
            for each in binaries
        ],
        first=("obsid", "q", "true q", "period (d)", "true period (d)", "probability given to it"),
        title="Binaries: mass ratios and periods against the injected truth",
    )


def _stars(comparison: Comparison) -> FittedTable:
    """Every double-lined star and every star with a candidate; the rest is one line."""
    import numpy as np

    from twinlines.pipeline.mock.stars import SB2

    stars = comparison.stars()
    interesting = (stars["kind"] == SB2) | (stars["candidates"] > 0)
    rows: list[tuple[object, ...]] = []
    for star in stars[interesting][np.lexsort((-stars["delta_v"][interesting], stars["kind"][interesting]))]:
        numbers = (format(star[name], spec) if np.isfinite(star[name]) else "" for name, spec in _STAR_NUMBERS.values())
        candidates = f"{star['candidates']} of {star['exposures']}"
        rows.append((star["star"], star["kind"], *numbers, candidates, star["verdict"]))
    rest = stars[~interesting]
    quiet = int((rest["verdict"] == "rightly single").sum())
    return console.table(
        _STAR_TITLES,
        rows,
        first=("star", "kind", "verdict", "max |Δv| (km/s)", "candidates"),
        title="Candidates against the injected truth",
        caption=f"and {quiet} other stars without a candidate, rightly; {len(rest) - quiet} could not be judged",
        styles=[_VERDICT_STYLES.get(str(row[-1])) for row in rows],
    )
