"""Whether probabilities of stars hold: fractions of binaries against probability, and how many are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twinlines.models.evaluation import Bin
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save


def evidence_figure(bins: Sequence[Bin], found: NDArray[np.float64], prevalence: float, path: str | Path) -> Path:
    """Draw a reliability diagram, and completeness by number of nights, into a PNG; returns its path.

    Parameters
    ----------
    bins
        Fractions of binaries among stars, by probability.
    found
        (number of nights, 4): nights, completeness, lower and upper end of its interval.
    prevalence
        Fraction of binaries that probabilities of the diagram take for granted.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    return save(draw(bins, found, prevalence), path)


def draw(bins: Sequence[Bin], found: NDArray[np.float64], prevalence: float) -> Figure:
    """The two panels."""
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    filled = [each for each in bins if each.rate.trials]
    value = np.array([each.rate.value for each in filled])
    ends = np.array([(each.rate.value - each.rate.low, each.rate.high - each.rate.value) for each in filled])
    left.plot((0.0, 1.0), (0.0, 1.0), color="0.6", linewidth=0.8, linestyle="--", label="as told")
    left.errorbar(
        np.array([each.mean for each in filled]),
        value,
        ends.T.clip(0.0) if len(filled) else None,
        color=BLUE_COLOUR,
        marker="o",
        markersize=5,
        linestyle="none",
        capsize=2.5,
        label="mock stars, 95 % intervals",
    )
    for each in filled:
        inside = each.mean < 0.8
        left.annotate(
            f"{each.rate.trials}",
            (each.mean, each.rate.value),
            xytext=(7, -9) if inside else (-7, -9),
            textcoords="offset points",
            ha="left" if inside else "right",
            fontsize=7,
            color="0.35",
        )
    left.set_xlabel("Probability to be a double-lined binary")
    left.set_ylabel("Fraction that are")
    left.set_title(f"Stars by probability, prevalence {prevalence:.2g}", fontsize=10)
    left.legend(fontsize=8, loc="upper left")
    nights, complete, low, high = found.T
    right.errorbar(
        nights,
        complete,
        np.stack([complete - low, high - complete]).clip(0.0),
        color=RED_COLOUR,
        marker="s",
        capsize=2.5,
    )
    right.set_xticks(nights)
    right.set_ylim(0.0, 1.02)
    right.set_xlabel("Nights")
    right.set_ylabel("Fraction of binaries with a probability above 0.5")
    right.set_title("Found, at a prevalence of 1 %", fontsize=10)
    return figure
