"""How the commands of :mod:`.literature` print what they found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from twinlines.pipeline.cli import console

if TYPE_CHECKING:
    from twinlines.models.evaluation import Rate
    from twinlines.pipeline.validation.foreign.crossmatch import Crossmatch
    from twinlines.pipeline.validation.foreign.table import ForeignTable


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


def table_lines(table: ForeignTable, notes: tuple[str, ...]) -> list[str]:
    """How a table was read."""
    taken = ", ".join(f"{what} from {name!r}" for what, name in table.columns.items())
    return [f"{table.path}: {table.rows} rows; {taken}", *(f"{table.label}: {note}" for note in notes)]


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
