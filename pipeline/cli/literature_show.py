"""How the commands of :mod:`twinlines.pipeline.cli.literature` print what they found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from twinlines.pipeline.cli import console

if TYPE_CHECKING:
    from twinlines.models.evaluation import Rate
    from twinlines.pipeline.usertables.stars import StarTable
    from twinlines.pipeline.validation.colours.diagram import Diagram
    from twinlines.pipeline.validation.colours.publish import PublishedColours
    from twinlines.pipeline.validation.eclipsing.phases import Eclipsing
    from twinlines.pipeline.validation.foreign.crossmatch import Crossmatch
    from twinlines.pipeline.validation.overview import Overview


def percent(rate: Rate) -> str:
    """A rate in per cent, with its interval."""
    if not rate.trials:
        return "-"
    return f"{100.0 * rate.value:.1f} ({100.0 * rate.low:.1f} to {100.0 * rate.high:.1f})"


def rule_line(asked: dict[str, object]) -> str:
    """What a candidate is, in words."""
    return (
        f"rule {asked['rule']}: percentile {asked['percentile']} of the probability at penalty {asked['penalty']} "
        f"above {asked['threshold']:g}"
    )


def table_lines(table: StarTable, notes: tuple[str, ...]) -> list[str]:
    """How a table was read."""
    taken = ", ".join(f"{what} from {name!r}" for what, name in table.columns.items())
    return [f"{table.path}: {table.rows} rows; {taken}", *(f"{table.label}: {note}" for note in notes)]


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def show_crossmatch(result: Crossmatch, where: Console) -> None:
    """Print how lists were read, what became of their stars, recovery by group, and how lists agree."""
    console.say(where, [rule_line(result.asked.to_json())])
    console.say(where, [f"catalog: {result.stars} stars are judged, {result.candidates} of them candidates"])
    for each in result.lists:
        console.say(where, table_lines(each.table, each.notes))
        fates = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in each.fates.items() if count)
        console.say(where, [f"{each.table.label}: {int(each.first.sum())} stars by {each.match.by}: {fates}"])
    shown = [
        (
            each.table.label,
            group.words,
            f"{group.recovered.count:.0f}",
            group.recovered.trials,
            percent(group.recovered),
        )
        for each in result.lists
        for group in each.groups
        if group.recovered.trials
    ]
    titles = ("list", "stars", "recovered", "of", "% (95 % interval)")
    where.print(console.table(titles, shown, title="Recovered among recovered and missed"))
    exposures = [
        (each.table.label, row["head"], row["of"], row["p0_above_half"], row["judged"])
        for each in result.lists
        for row in each.exposures
    ]
    where.print(
        console.table(
            ("list", "head", "exposures", "p0 > 0.5", "judged"), exposures, title="Exposures of their stars (Figure 11)"
        )
    )
    if len(result.lists) > 1:
        pairs = [
            (each.of, each.within, f"{each.rate.count:.0f}", each.rate.trials, percent(each.rate))
            for each in result.agreement
        ]
        where.print(
            console.table(("stars of", "that are in", "number", "of", "% (95 % interval)"), pairs, title="Agreement")
        )


def show_eclipsing(result: Eclipsing, star: int, where: Console) -> None:
    """Print how many exposures show two stars by phase, orbits, and one star's exposures."""
    console.say(where, table_lines(result.ephemerides.table, result.notes))
    numbers = result.to_json()
    console.say(where, [f"in the catalog: {_of(numbers['exposures'], 'exposure')} of {_of(numbers['stars'], 'star')}"])
    low, high = result.config.periods
    for head, said in numbers["heads"].items():
        outside, near = said["out_of_eclipse"], said["near_eclipse"]
        text = (
            f"{head}: {_of(said['exposures'], 'exposure')} of {_of(said['stars'], 'star')} with S/N above "
            f"{result.config.snr:g} and P of {low:g} to {high:g} d; p50 above 0.5 in {outside['double']} of "
            f"{outside['exposures']} at phases 0.1 to 0.4 and 0.6 to 0.9, in {near['double']} of {near['exposures']} "
            "nearer to eclipses"
        )
        console.say(where, [text])
    for row, circle in list(result.circles.items())[:20]:
        text = (
            f"{result.ephemerides.name[row]}: K1 + K2 = {circle.sum_amplitude:.1f} +- {circle.sum_amplitude_error:.1f} "
            f"km/s from {_of(circle.exposures, 'exposure')} (circular orbit), scatter {circle.scatter:.1f} km/s; "
            f"eclipsed at phase 0: K = {circle.amplitude_a:.1f}, the other: {circle.amplitude_b:.1f}, both +- "
            f"{circle.amplitude_error:.1f} km/s"
        )
        console.say(where, [text])
    mine = [at for at, one in enumerate(result.star.tolist()) if one == star]
    columns = ["obsid", "lmjm", "phase", *(f"p50 {head}" for head in result.probability), "separation", "expected"]
    rows = [
        (
            int(result.rows["obsid"].values[at]),
            int(result.rows["lmjm"].values[at]),
            f"{result.phase[at]:.4f}",
            *(f"{values[at]:.3f}" for values in result.probability.values()),
            f"{result.separation[at]:.1f}",
            f"{result.expected[at]:.1f}",
        )
        for at in mine
    ]
    name, period = result.ephemerides.name[star], result.ephemerides.period[star]
    where.print(console.table(columns, rows, title=f"{name}, P = {period:.7g} d; separations in km/s"))


def show_diagram(result: Diagram, published: PublishedColours | None, where: Console) -> None:
    """Print how many stars are in the diagram, where its candidates lie, and what was published."""
    console.say(where, table_lines(result.table, result.notes))
    console.say(where, [rule_line(result.observed.asked.to_json()), f"extinction: {result.extinction.words}"])
    console.say(where, ["stars: " + ", ".join(f"{count} {words}" for words, count in result.counts.items())])
    for head, (judged, above) in result.exposures.items():
        console.say(where, [f"{head}: {above} of {_of(judged, 'exposure')} have p0 above 0.5"])
    middle = result.to_json()["median_height"]
    text = (
        f"median height above the main sequence of single stars: candidates {middle['candidates']:+.2f} mag, others "
        f"{middle['others']:+.2f} mag; two equal stars are 0.75 mag brighter"
    )
    console.say(where, [text, f"candidates redder than 2.5 mag, put aside: {int(result.eliminated.sum())}"])
    rows = [
        (
            "below" if low == float("-inf") else f"{low:g}",
            "and more" if high == float("inf") else f"{high:g}",
            f"{each.count:.0f}",
            each.trials,
            percent(each),
        )
        for low, high, each in result.fractions()
    ]
    titles = ("height from", "below", "candidates", "stars", "% (95 % interval)")
    where.print(console.table(titles, rows, title="Candidates by height above the main sequence (mag)"))
    if published is not None:
        what = "published" if published.new else "there already"
        text = f"catalog with bprp0 of {published.exposures} of {published.rows} exposures, {what}: {published.catalog}"
        console.say(where, [text])


def show_overview(result: Overview, where: Console) -> None:
    """Print how many stars are candidates, and how often they were observed."""
    said = result.to_json()
    often = said["observations"]
    lines = [
        rule_line(result.observed.asked.to_json()),
        f"candidates: {said['stars_candidates']} of {said['stars_judged']} judged stars, {percent(result.fraction)} %",
    ]
    if len(result.observations):
        lines.append(
            f"candidate exposures: {said['exposures_candidates']}; exposures of a candidate star: median "
            f"{often['median']:g}, of which candidates {often['median_double']:g}; stars with 6 or more: "
            f"{often['stars_with_6_or_more']}"
        )
    console.say(where, lines)
