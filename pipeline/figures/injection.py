"""What part of injected binaries is found, by velocity separation, flux ratio, S/N and type, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinlines.pipeline.figures.canvas import BLUE_COLOUR, new_figure, save
from twinlines.pipeline.validation.injection.completeness import Bin, Completeness

_MARKERS = "osD^v<>p"
_TITLES = {"snr": "S/N of the blue arm", "type": "Temperature of the first star"}


def completeness_figure(found: Completeness, path: str | Path, title: str = "") -> Path:
    """Draw what was found of injected binaries into a PNG; returns its path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    return save(draw(found, title), path)


def draw(found: Completeness, title: str = "") -> Figure:
    """By separation, a line for each range of flux ratios; by S/N; by type."""
    figure = new_figure(11.0, 3.9)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.7, 1.0, 1.0))
    rows = [(at, row) for at, row in enumerate(found.grid) if any(one.found.trials for one in row)]
    ratios = [one.label for one in found.by["flux_ratio"]]  # those that have a binary, as these rows
    for order, (at, row) in enumerate(rows):
        colour = colormaps["viridis"](0.9 * order / max(len(rows) - 1, 1))
        aside = 0.12 * (order - (len(rows) - 1) / 2.0)
        _line(panels[0], row, aside, colour, _MARKERS[at % len(_MARKERS)], ratios[order])
    _ticks(panels[0], found.grid[0], "Velocity separation")
    figure.legend(loc="outside right center", title="Flux ratio", fontsize=7, title_fontsize=8)
    for panel, (name, label) in zip(panels[1:], _TITLES.items(), strict=True):
        _line(panel, found.by[name], 0.0, BLUE_COLOUR, "o", None)
        _ticks(panel, found.by[name], label)
    panels[0].set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("Part found")
    whole = found.whole
    figure.suptitle(
        f"{title + ': ' if title else ''}{whole.found.trials} binaries of {whole.stars} single stars, "
        f"{whole.found.value:.2f} found; 95 % intervals",
        fontsize=10,
    )
    return figure


def _line(panel: Axes, bins: Sequence[Bin], aside: float, colour: object, marker: str, label: str | None) -> None:
    place = np.array([at for at, one in enumerate(bins) if one.found.trials], dtype=np.float64)
    counted = [one.found for one in bins if one.found.trials]
    value = np.array([rate.value for rate in counted])
    ends = np.array([(rate.value - rate.low, rate.high - rate.value) for rate in counted]).T.reshape(2, -1)
    panel.errorbar(
        place + aside,
        value,
        np.maximum(ends, 0.0),
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.0,
        elinewidth=0.8,
        capsize=2.0,
        label=label,
    )


def _ticks(panel: Axes, bins: Sequence[Bin], label: str) -> None:
    panel.set_xticks(range(len(bins)), [one.label for one in bins], rotation=35, ha="right", fontsize=7)
    panel.set_xlim(-0.5, len(bins) - 0.5)
    panel.set_xlabel(label, fontsize=9)
    panel.grid(axis="y", color="0.9", linewidth=0.6)
    panel.set_axisbelow(True)
