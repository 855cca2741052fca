"""Other people's lists against a catalog: probabilities of their stars (Figure 11), recovery, and how lists agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save, verbatim
from twinlines.pipeline.validation.foreign.crossmatch import OURS, Crossmatch
from twinlines.pipeline.validation.foreign.recovery import Group

HEAD_TITLES = {"B": "Blue arm", "R": "Red arm", "J": "Both arms together"}
"""What heads are called above panels."""

HEAD_COLOURS = {"B": BLUE_COLOUR, "R": RED_COLOUR, "J": "0.25"}
"""Colours of heads."""

_SPLIT = 10.0  # d, of the paper's Figure 11
_MARKERS = "osD^v<>p"
_TITLES = {"period": "Period (d)", "snr": "Best S/N, blue arm", "epochs": "Judged exposures"}


def crossmatch_figure(result: Crossmatch, path: str | Path) -> Path:
    """Draw p0 of the exposures of lists' stars by arm and period, and recovery, into a PNG; returns its path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    heads = list(result.probability)
    period = result.exposure_period
    parts = {
        f"P < {_SPLIT:g} d": period < _SPLIT,
        f"P ≥ {_SPLIT:g} d": period >= _SPLIT,
        "P unknown": ~np.isfinite(period),
    }
    parts = {words: part for words, part in parts.items() if part.any()}
    figure = new_figure(9.6, 2.1 * len(parts) + 3.4)
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.1 * len(parts), 3.4), squeeze=False)[:, 0]
    panels = upper.subplots(len(parts), len(heads), squeeze=False, sharex=True, sharey="row")
    for row, (words, part) in zip(panels, parts.items(), strict=True):
        for panel, head in zip(row, heads, strict=True):
            values = result.probability[head][part]
            values = values[np.isfinite(values)]
            panel.hist(values, bins=np.linspace(0.0, 1.0, 21).tolist(), color=HEAD_COLOURS[head], alpha=0.85)
            panel.axvline(0.5, color="0.4", linewidth=0.8, linestyle="--")
            panel.set_yscale("symlog", linthresh=10.0)
            above = int((values > 0.5).sum())
            share = f" = {100.0 * above / len(values):.1f} %" if len(values) else ""
            panel.text(
                *(0.5, 0.96, f"{above} of {len(values)}{share}"),
                transform=panel.transAxes,
                ha="center",
                va="top",
                fontsize=8,
            )
            panel.set_ylim(0.0, 2.2 * panel.get_ylim()[1])
            panel.tick_params(labelsize=8)
        row[0].set_ylabel(f"{words}\nexposures", fontsize=9)
    for panel, head in zip(panels[0], heads, strict=True):
        panel.set_title(HEAD_TITLES[head], fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel(rf"$p_0$, Λ = {result.asked.penalty}", fontsize=9)
    _recovery(lower, result)
    return save(figure, path)


def _recovery(where: SubFigure, result: Crossmatch) -> None:
    by_name = [name for name in _TITLES if any(group.by == name for each in result.lists for group in each.groups)]
    panels = where.subplots(1, len(by_name), squeeze=False, sharey=True)[0]
    for panel, by in zip(panels, by_name, strict=True):
        every = [[group for group in each.groups if group.by == by] for each in result.lists]
        longest = max(every, key=len)
        for place, groups in enumerate(every):
            label = verbatim(
                f"{result.lists[place].table.label} ({result.lists[place].groups[0].recovered.trials} stars)"
            )
            _bars(panel, groups, place, len(every), label)
        panel.set_xticks(range(len(longest)), [_ends(group) for group in longest], fontsize=7)
        panel.set_xlim(-0.6, len(longest) - 0.4)
        panel.set_xlabel(_TITLES[by], fontsize=9)
        panel.set_ylim(-0.03, 1.03)
        panel.tick_params(axis="y", labelsize=8)
        panel.grid(axis="y", color="0.9")
    panels[0].set_ylabel("Recovered stars, 95 % interval", fontsize=9)
    handles, labels = panels[-1].get_legend_handles_labels()
    where.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4), fontsize=8, frameon=False)


def _bars(panel: Axes, groups: list[Group], place: int, lists: int, label: str) -> None:
    known = [(at, group.recovered) for at, group in enumerate(groups) if group.recovered.trials]
    x = np.array([at for at, _ in known]) + 0.5 * (place - (lists - 1) / 2.0) / max(lists, 2)
    y = np.array([rate.value for _, rate in known])
    low, high = (np.array([getattr(rate, end) for _, rate in known]) for end in ("low", "high"))
    panel.errorbar(
        *(x, y),
        yerr=np.stack([y - low, high - y]) if len(x) else None,
        linestyle="none",
        marker=_MARKERS[place % len(_MARKERS)],
        color=colormaps["viridis"](0.85 * place / max(lists - 1, 1)),
        markersize=4.5,
        capsize=2.0,
        label=label,
    )
    for at, rate in known:
        if lists == 1:
            panel.text(at + 0.1, rate.value, f" {rate.count:.0f}/{rate.trials}", fontsize=7, va="center")


def _ends(group: Group) -> str:
    if np.isnan(group.low):
        return "unknown"
    if group.low == 0.0:
        return f"< {group.high:g}"
    return f"≥ {group.low:g}" if np.isinf(group.high) else f"{group.low:g}–{group.high:g}"


def agreement_figure(result: Crossmatch, path: str | Path) -> Path:
    """Draw which share of each list's stars is in each other into a PNG; returns its path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    names = [*(each.table.label for each in result.lists), OURS]
    figure = new_figure(2.6 + 1.1 * len(names), 2.0 + 0.8 * len(names))
    panel = figure.subplots()
    share = np.full((len(names), len(names)), np.nan)
    for each in result.agreement:
        row, column = names.index(each.of), names.index(each.within)
        share[row, column] = each.rate.value
        text = f"{each.rate.count:.0f}/{each.rate.trials}"
        if each.rate.trials:
            text += f"\n{100.0 * each.rate.value:.0f} % ({100.0 * each.rate.low:.0f}–{100.0 * each.rate.high:.0f})"
        dark = not each.rate.value < 0.55
        panel.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    panel.imshow(share, vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
    for place in range(len(names)):
        panel.text(place, place, "·", ha="center", va="center", color="0.6")
    panel.set_xticks(range(len(names)), [verbatim(name) for name in names], fontsize=8, rotation=20, ha="right")
    panel.set_yticks(range(len(names)), [verbatim(name) for name in names], fontsize=8)
    panel.set_xlabel("... that are in this list", fontsize=9)
    panel.set_ylabel("Stars of this list", fontsize=9)
    return save(figure, path)
