"""Colour-magnitude diagrams of a catalog: its binaries over all stars (Figure 10), its candidates (Figure 12)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from twinlines.pipeline.catalog.questions import MAXIMUM_COLOUR
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save
from twinlines.pipeline.figures.crossmatch import HEAD_COLOURS
from twinlines.pipeline.validation.colours.correlations import WIDEST, StarCorrelation
from twinlines.pipeline.validation.colours.diagram import COLOUR_STEP, MAGNITUDE_STEP, Diagram
from twinlines.pipeline.validation.colours.sequence import EQUAL

_TITLES = {
    "B": "$p_0$ > 0.5, blue arm",
    "R": "$p_0$ > 0.5, red arm",
    "both": "$p_0$ > 0.5, each arm",
    "J": "candidates, both arms together",
}
_COLOURS = {**HEAD_COLOURS, "both": "#009E73"}
_LEAST_CELL = 3  # stars of a cell whose fraction is drawn
_MOST_POINTS = 20_000  # of all stars; more are drawn as densities
_COLOUR_LABEL, _MAGNITUDE_LABEL = r"$(G_{BP} - G_{RP})_0$ (mag)", r"$M_{G,0}$ (mag)"


def diagram_figure(result: Diagram, path: str | Path) -> Path:
    """Draw binaries by each head over all stars, the fraction over the diagram, and heights; returns the PNG's path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    heads = [head for head in _TITLES if head in result.double]
    figure = new_figure(3.1 * max(len(heads), 3), 8.6)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1.0), squeeze=False)[:, 0]
    panels = upper.subplots(1, len(heads), sharex=True, sharey=True, squeeze=False)[0]
    for panel, head in zip(panels, heads, strict=True):
        _all_stars(panel, result)
        mine = result.shown & result.double[head]
        panel.plot(
            *(result.colour[mine], result.magnitude[mine]),
            linestyle="",
            marker="o",
            markersize=3.0 if mine.sum() < 500 else 1.2,
            color=_COLOURS[head],
            zorder=3,
        )
        judged, above = result.exposures.get(head, (0, 0))
        panel.set_title(f"{_TITLES[head]}\n{int(mine.sum())} stars; {above} of {judged} exposures", fontsize=8)
        panel.set_xlabel(_COLOUR_LABEL, fontsize=9)
        panel.tick_params(labelsize=8)
    _limits(panels[0], result)
    panels[0].set_ylabel(_MAGNITUDE_LABEL, fontsize=9)
    if len(result.ridge[0]):
        panels[0].legend(fontsize=7, loc="upper right")
    cells, heights = lower.subplots(1, 2)
    _fractions(cells, result)
    _heights(heights, result)
    return save(figure, path)


def _all_stars(panel: Axes, result: Diagram) -> None:
    mine = result.shown
    colour, magnitude = result.colour[mine], result.magnitude[mine]
    if len(colour) > _MOST_POINTS:
        panel.hexbin(colour, magnitude, gridsize=120, bins="log", cmap="Greys", mincnt=1, linewidths=0.0, zorder=1)
    else:
        size = 3.0 if len(colour) < 500 else 1.0
        panel.plot(colour, magnitude, linestyle="", marker=".", markersize=size, color="0.7", zorder=1)
    if len(result.ridge[0]):
        panel.plot(*result.ridge, color="0.2", linewidth=1.0, label="single stars", zorder=2)
        panel.plot(
            *(result.ridge[0], result.ridge[1] - EQUAL),
            color="0.2",
            linewidth=1.0,
            linestyle="--",
            label=f"{EQUAL:.2f} mag brighter",
            zorder=2,
        )


def _limits(panel: Axes, result: Diagram) -> None:
    mine = result.shown
    if mine.any():
        panel.set_xlim(result.colour[mine].min() - 0.1, result.colour[mine].max() + 0.1)
        panel.set_ylim(result.magnitude[mine].max() + 0.5, result.magnitude[mine].min() - 0.5)
    else:
        panel.invert_yaxis()


def _fractions(panel: Axes, result: Diagram) -> None:
    cells = result.cells()
    for row in cells[cells["stars"] >= _LEAST_CELL]:
        colours = np.array([row["colour_from"], row["colour_below"]])
        magnitudes = np.array([row["magnitude_from"], row["magnitude_below"]])
        mesh = panel.pcolormesh(colours, magnitudes, [[row["fraction"]]], vmin=0.0, vmax=1.0, cmap="viridis")
        if len(cells) < 60:
            panel.text(
                *(colours.mean(), magnitudes.mean(), f"{row['candidates']}/{row['stars']}"),
                ha="center",
                va="center",
                fontsize=6,
                color="white" if row["fraction"] < 0.6 else "black",
            )
    _limits(panel, result)
    panel.set_title(
        f"Fraction of candidates, cells of {COLOUR_STEP:g} by {MAGNITUDE_STEP:g} mag with {_LEAST_CELL} stars or more",
        fontsize=8,
    )
    panel.set_xlabel(_COLOUR_LABEL, fontsize=9)
    panel.set_ylabel(_MAGNITUDE_LABEL, fontsize=9)
    panel.tick_params(labelsize=8)
    if (cells["stars"] >= _LEAST_CELL).any():
        panel.figure.colorbar(mesh, ax=panel).ax.tick_params(labelsize=7)


def _heights(panel: Axes, result: Diagram) -> None:
    height = result.height
    edges = np.linspace(-0.8, 1.6, 25)
    for words, mine, colour in (
        ("no candidates", ~result.candidate, "0.6"),
        ("candidates", result.candidate, RED_COLOUR),
    ):
        values = height[mine & np.isfinite(height)]
        if len(values):
            weights = np.full(len(values), 1.0 / len(values))
            panel.hist(
                *(np.clip(values, edges[0], edges[-1]), edges.tolist()),
                weights=weights,
                histtype="step" if words == "candidates" else "stepfilled",
                color=colour,
                linewidth=1.6,
                label=f"{words}: {len(values)} dwarfs, median {np.median(values):+.2f} mag",
            )
    panel.axvline(0.0, color="0.2", linewidth=1.0)
    panel.axvline(EQUAL, color="0.2", linewidth=1.0, linestyle="--")
    panel.set_xlabel("Brighter than single stars of the same colour by (mag)", fontsize=9)
    panel.set_ylabel("Fraction of stars", fontsize=9)
    panel.tick_params(labelsize=8)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=7)
    else:
        panel.set_title("too few single stars for a main sequence", fontsize=8)


def candidates_figure(result: Diagram, some: Sequence[StarCorrelation], path: str | Path) -> Path:
    """Draw candidates, those that their colour eliminates, and correlation functions of some; returns the PNG's path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    figure = new_figure(9.6, 6.4)
    columns = 2 if len(some) > 5 else 1
    left, right = figure.subfigures(1, 2, width_ratios=(1.2, 0.55 * columns), squeeze=False)[0]
    panel = left.subplots()
    _all_stars(panel, result)
    kept, cut = result.shown & result.candidate & ~result.eliminated, result.shown & result.eliminated
    for mine, colour, words in (
        (kept, "#56B4E9", f"{int(kept.sum())} candidates"),
        (cut, "black", f"{int(cut.sum())} eliminated: redder than {MAXIMUM_COLOUR:g} mag"),
    ):
        panel.plot(
            *(result.colour[mine], result.magnitude[mine]),
            linestyle="",
            marker="o",
            markersize=3.5 if mine.sum() < 500 else 1.5,
            color=colour,
            label=words,
            zorder=3,
        )
    _limits(panel, result)
    panel.set_xlabel(_COLOUR_LABEL, fontsize=9)
    panel.set_ylabel(_MAGNITUDE_LABEL, fontsize=9)
    panel.legend(fontsize=8, loc="upper right")
    if some:
        insets = right.subplots(-(-len(some) // columns), columns, squeeze=False, sharex=True).ravel(order="F")
        for number, (inset, star) in enumerate(zip(insets, some, strict=False), start=1):
            _inset(inset, star)
            inset.set_title(f"{number}: obsid {star.obsid}", fontsize=7, pad=2.0)
            panel.annotate(
                str(number),
                (result.colour[star.star], result.magnitude[star.star]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
                zorder=4,
            )
        for inset in insets[len(some) :]:
            inset.set_axis_off()
        right.supxlabel("Velocity about the measured one (km/s); blue and red arm", fontsize=8)
    return save(figure, path)


def _inset(inset: Axes, star: StarCorrelation) -> None:
    for name, (velocity, coefficient) in star.arms.items():
        inset.plot(velocity, coefficient, color=BLUE_COLOUR if name == "B" else RED_COLOUR, linewidth=0.9)
    inset.set_xlim(-WIDEST, WIDEST)
    inset.set_yticks([])
    inset.tick_params(labelsize=6, length=2.0)
