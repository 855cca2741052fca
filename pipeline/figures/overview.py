"""A catalog at a glance: probabilities against S/N (Figure 7), observations of candidates (Figure 13)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinlines.pipeline.figures.canvas import BLUE_COLOUR, new_figure, save
from twinlines.pipeline.figures.crossmatch import HEAD_TITLES
from twinlines.pipeline.validation.overview import PROBABILITY_EDGES, SNR_EDGES, Overview


def probabilities_figure(result: Overview, head: str, path: str | Path) -> Path:
    """Draw one head's probabilities against S/N by penalty and percentile, each S/N's normalised; returns the path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    penalties = sorted({penalty for mine, penalty, _ in result.counts if mine == head})
    percentiles = sorted({percentile for mine, _, percentile in result.counts if mine == head})
    figure = new_figure(2.2 * len(percentiles), 1.9 * len(penalties) + 0.5)
    panels = figure.subplots(len(penalties), len(percentiles), sharex=True, sharey=True, squeeze=False)
    for row, penalty in zip(panels, penalties, strict=True):
        for panel, percentile in zip(row, percentiles, strict=True):
            counts = result.counts[head, penalty, percentile].astype(np.float64)
            total = counts.sum(axis=1, keepdims=True)
            share = np.where(counts > 0, counts / np.maximum(total, 1.0), np.nan)
            mesh = panel.pcolormesh(SNR_EDGES, PROBABILITY_EDGES, share.T, norm="log", vmin=1e-3, vmax=1.0)
            panel.axhline(0.5, color="0.5", linewidth=0.6, linestyle="--")
            panel.set_xscale("log")
            panel.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
            panel.minorticks_off()
            panel.tick_params(labelsize=7)
            panel.text(
                0.97, 0.55, f"Λ = {penalty}, q = {percentile}", transform=panel.transAxes, ha="right", fontsize=7
            )
        row[0].set_ylabel("$p_q^Λ$", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("S/N" if head != "J" else "S/N, blue arm", fontsize=8)
    judged = int(result.counts[head, penalties[0], percentiles[0]].sum())
    figure.suptitle(f"{HEAD_TITLES[head]}: {judged} exposures", fontsize=10)
    figure.colorbar(mesh, ax=panels, label="Fraction of each S/N", aspect=40, pad=0.01).ax.tick_params(labelsize=7)
    return save(figure, path)


def observations_figure(result: Overview, path: str | Path) -> Path:
    """Draw how often candidates were observed, and were candidates; returns the path of the PNG.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    figure = new_figure(6.4, 4.2)
    panel = figure.subplots()
    most = int(result.observations.max(initial=1))
    edges = (np.arange(0, most + 1) + 0.5).tolist()
    panel.hist(result.observations, bins=edges, histtype="step", color="black", linewidth=1.4, label="judged exposures")
    panel.hist(
        result.double, bins=edges, histtype="step", color=BLUE_COLOUR, linewidth=1.4, label="of these, candidates"
    )
    panel.set_xlabel("Exposures of a star", fontsize=9)
    panel.set_ylabel("Candidate stars", fontsize=9)
    panel.set_title(f"{len(result.observations)} of {result.fraction.trials} judged stars are candidates", fontsize=10)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=8)
    return save(figure, path)
