"""Figures of an evaluation, after the paper's 4, 5 and 6, operating curves, and a reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, ScalarFormatter
from numpy.typing import NDArray

from twinlines.models.evaluation import Bin, calibrated
from twinlines.models.vocabulary import HEADS
from twinlines.pipeline.evaluation.paper import PAPER, reference
from twinlines.pipeline.evaluation.report import EvaluationReport
from twinlines.pipeline.evaluation.rows import (
    JOINT_LOWEST,
    JOINT_RULE,
    PAPER_RULE,
    RULES,
    Marginal,
    OperatingCurve,
    Reliability,
    TableRow,
    TwinCurves,
)
from twinlines.pipeline.evaluation.twins import RATIOS, SEPARATIONS, TWINS
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save

_COLOURS = {"B": BLUE_COLOUR, "R": RED_COLOUR, "J": "#009E73"}
_MARKERS = {"B": "o", "R": "s", "J": "D"}
_ASIDE = {"B": 0.95, "R": 1.05, "J": 1.0}  # factors of penalties, so that no head hides another
_NAMES = {"B": "blue arm", "R": "red arm", "J": "both arms, J"}
_RULE_LINES = {PAPER_RULE: ("0.2", "--"), JOINT_RULE: (_COLOURS["J"], "--"), JOINT_LOWEST: (_COLOURS["J"], ":")}
_TITLES = {
    "mass_ratio": "$q$",
    "separation": "|Δ$v$| (km s$^{-1}$)",
    "luminosity_ratio": "log$_{10}$ $L_2 / L_1$",
    "snr": "S/N",
    "teff1": "$T_{\\mathrm{eff}}$, primary (K)",
    "logg1": "log $g$, primary",
    "feh1": "[Fe/H]",
    "alpha1": "[α/Fe]",
    "vsini1": "$v \\sin i$, primary (km s$^{-1}$)",
    "vsini2": "$v \\sin i$, secondary (km s$^{-1}$)",
}


def write(report: EvaluationReport, folder: Path) -> list[Path]:
    """Draw the figures of an evaluation into a folder that is there, and return their paths.

    Those of an earlier evaluation are replaced, or removed where this one has none.
    """
    figures = {"figure4": penalties(report), "figure6": marginals(report), "reliability": reliability(report)}
    for stale in (*folder.glob("figure5_*.png"), folder / "operating.png"):
        stale.unlink(missing_ok=True)  # an evaluation without such a figure must not keep another's
    if any(curve.points for curve in report.curves):
        figures["operating"] = operating(report)
    if report.twins:
        figures |= {f"figure5_{head}": twins(report, head) for head in HEADS}
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _style(head: str) -> dict[str, Any]:
    return {"color": _COLOURS[head], "marker": _MARKERS[head], "linewidth": 1.2}


def penalties(report: EvaluationReport) -> Figure:
    """Figure 4: TPR and FPR against penalty, by head, with intervals; the paper's are drawn open."""
    figure = new_figure(10.0, 4.4)
    panels = figure.subplots(1, 2)
    for head in HEADS:
        rows = [row for row in report.table if row.head == head]
        for panel, which in zip(panels, (0, 1), strict=True):
            _rates(panel, head, rows, which)
            if head in PAPER:
                paper = [(penalty, values[which]) for penalty, values in PAPER[head].items()]
                _papers(panel, head, paper, linestyle=":")
    shown = sorted({row.penalty for row in report.table} | set(PAPER["B"]))
    for panel, title in zip(panels, ("True positive rate", "False positive rate"), strict=True):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(FixedLocator(shown))
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.set_xlabel("Penalty Λ")
        panel.set_ylabel(title)
    panels[0].set_ylim(0.0, 1.0)
    panels[1].set_yscale("log")
    handles, labels = panels[0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda place: labels[place].startswith("Zhang"))
    panels[0].legend([handles[place] for place in order], [labels[place] for place in order], fontsize=8)
    singles = report.table[0].rates.fpr.trials
    panels[1].set_title(f"{singles} single stars; 95 % intervals, arrow: an upper limit", fontsize=9)
    panels[0].set_title("Mean over members at threshold 0.5", fontsize=9)
    return figure


def _papers(panel: Axes, head: str, points: Sequence[tuple[float, float]], linestyle: str) -> None:
    """Points of the paper's, drawn open."""
    panel.plot(
        *zip(*points, strict=True),
        color=_COLOURS[head],
        marker=_MARKERS[head],
        markerfacecolor="white",
        linestyle=linestyle,
        linewidth=0.8,
        markersize=4,
        label=f"Zhang et al. (2022), {_NAMES[head]}",
        zorder=1,
    )


def _rates(panel: Axes, head: str, rows: Sequence[TableRow], which: int) -> None:
    """TPR (0) or FPR (1) of one head; where nothing was counted, an arrow hangs from the upper limit."""
    rates = [(_ASIDE[head] * row.penalty, row.rates.fpr if which else row.rates.tpr) for row in rows]
    counted = [(penalty, rate) for penalty, rate in rates if rate.count > 0]
    style = {**_style(head), "zorder": 3, "capsize": 2.5, "markersize": 5.5}
    if counted:
        value = np.array([rate.value for _, rate in counted])
        ends = np.array([(rate.value - rate.low, rate.high - rate.value) for _, rate in counted]).T
        panel.errorbar([penalty for penalty, _ in counted], value, ends, label=_NAMES[head], **style)
    for penalty, rate in rates:
        if not rate.count and rate.trials:
            panel.errorbar([penalty], [rate.high], [[rate.high / 2.0], [0.0]], uplims=True, **style)


def operating(report: EvaluationReport) -> Figure:
    """TPR against FPR of every head, and of the catalog's rules, as their thresholds vary; the paper's are open."""
    figure = new_figure(7.6, 5.2)
    panel = figure.subplots()
    for curve in (curve for curve in report.curves if curve.points):
        _operating(panel, curve)
    for head, rows in PAPER.items():
        _papers(panel, head, [(fpr, tpr) for tpr, fpr in rows.values()], linestyle="")
    panel.set_xscale("log")
    panel.set_xlim(8.0e-5, 1.0)
    panel.set_ylim(0.0, 1.0)
    panel.set_xlabel("False positive rate")
    panel.set_ylabel("True positive rate")
    panel.legend(fontsize=8, loc="upper left")
    first = next(curve for curve in report.curves if curve.points)
    singles = first.points[0].rates.fpr.trials
    panel.set_title(f"Penalty {first.penalty}, pairs in the {report.frame} frame; {singles} single stars", fontsize=10)
    return figure


def _operating(panel: Axes, curve: OperatingCurve) -> None:
    fpr = [point.fpr for point in curve.points]
    tpr = [point.rates.tpr for point in curve.points]
    colour, line = _RULE_LINES.get(curve.verdict) or (_COLOURS[curve.verdict], "-")
    name = f"rule: {RULES[curve.verdict]}" if curve.verdict in RULES else _NAMES[curve.verdict]
    panel.plot(fpr, [rate.value for rate in tpr], line, color=colour, linewidth=1.4, label=name)
    if curve.verdict not in RULES:  # theirs are of fewer pairs, and would hide all else
        panel.fill_between(
            fpr, [rate.low for rate in tpr], [rate.high for rate in tpr], color=colour, alpha=0.18, linewidth=0.0
        )


def twins(report: EvaluationReport, head: str) -> Figure:
    """Figure 5: probability of twin binaries against separation, a star a column and a rotation a row."""
    of_head = [curves for curves in report.twins if curves.head == head]
    penalty = reference([curves.penalty for curves in of_head])
    by_star = {(curves.star, curves.vsini): curves for curves in of_head if curves.penalty == penalty}
    rotations = sorted({curves.vsini for curves in of_head})
    figure = new_figure(15.0, 1.6 + 2.0 * len(rotations))
    panels = figure.subplots(len(rotations), len(TWINS), sharex=True, sharey=True, squeeze=False)
    for column, twin in zip(panels.T, TWINS, strict=True):
        column[0].set_title(f"{twin.name}\n{twin.teff:.0f} K, log $g$ {twin.logg:g}", fontsize=10)
        for panel, vsini in zip(column, rotations, strict=True):
            _curves(panel, by_star.get((twin.name, vsini)))
        column[-1].set_xlabel("Δ$v$ (km s$^{-1}$)")
    for panel, vsini in zip(panels[:, 0], rotations, strict=True):
        panel.set_ylabel(f"$v \\sin i$ = {vsini:g} km s$^{{-1}}$\nBinary probability")
    panels[0, 0].set_xlim(SEPARATIONS[0], SEPARATIONS[-1])
    panels[0, 0].set_ylim(-0.03, 1.03)
    handles, labels = next(panel for panel in panels.ravel() if panel.lines[1:]).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", title="S/N", fontsize=9)
    what = f"median, and 16 to 84 %, of {report.twin_spectra} spectra a point"
    figure.suptitle(f"Twin binaries, {_NAMES[head]}, penalty {penalty}: {what}", fontsize=11)
    return figure


def _curves(panel: Axes, curves: TwinCurves | None) -> None:
    panel.axhline(0.5, color="0.7", linewidth=0.8, linestyle="--", zorder=0)
    if curves is None:
        panel.text(0.5, 0.62, "not in the library", ha="center", transform=panel.transAxes, fontsize=9, color="0.4")
        return
    values: NDArray[np.float64] = np.array(curves.percentiles)
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(RATIOS)))
    for column, (snr, colour) in enumerate(zip(RATIOS, colours, strict=True)):
        low, middle, high = values[:, column].T
        panel.fill_between(SEPARATIONS, low, high, color=colour, alpha=0.18, linewidth=0.0)
        panel.plot(SEPARATIONS, middle, color=colour, linewidth=1.4, label=f"{snr:g}")


def marginals(report: EvaluationReport) -> Figure:
    """Figure 6's diagonal: TPR against each parameter, by head, over the distribution of the binaries judged."""
    names = list(dict.fromkeys(marginal.parameter for marginal in report.marginals))
    figure = new_figure(14.0, 5.8)
    panels = figure.subplots(2, -(-len(names) // 2), sharey=True)
    for panel, parameter in zip(panels.ravel(), names, strict=True):
        shown = [marginal for marginal in report.marginals if marginal.parameter == parameter]
        _distribution(panel, shown[0].bins)
        for marginal in shown:
            _marginal(panel, marginal)
        panel.set_xlabel(_TITLES[parameter])
        panel.set_xlim(shown[0].bins[0].start, shown[0].bins[-1].stop)
    panels[0, 0].set_ylim(0.0, 1.0)
    for panel in panels[:, 0]:
        panel.set_ylabel("True positive rate")
    panels[0, 0].legend(fontsize=8, loc="upper left")
    binaries = report.table[0].rates.tpr.trials
    figure.suptitle(
        f"Penalty {report.marginals[0].penalty}, threshold 0.5: {binaries} binaries; grey: how they spread", fontsize=11
    )
    return figure


def _distribution(panel: Axes, bins: Sequence[Bin]) -> None:
    trials = np.array([part.rate.trials for part in bins], np.float64)
    heights = 0.4 * trials / max(float(trials.max()), 1.0)  # below the rates, so that neither hides the other
    panel.stairs(heights, [bins[0].start, *(part.stop for part in bins)], fill=True, color="0.88", zorder=0)


def _marginal(panel: Axes, marginal: Marginal) -> None:
    filled = [part for part in marginal.bins if part.rate.trials]
    value = np.array([part.rate.value for part in filled])
    ends = np.array([(part.rate.value - part.rate.low, part.rate.high - part.rate.value) for part in filled])
    centre = [(part.start + part.stop) / 2.0 for part in filled]
    style = {**_style(marginal.head), "markersize": 3.5, "elinewidth": 0.8, "capsize": 1.5}
    panel.errorbar(centre, value, ends.reshape(-1, 2).T, label=_NAMES[marginal.head], **style)


def reliability(report: EvaluationReport) -> Figure:
    """Observed fraction of binaries against predicted probability, a head a panel, a penalty a curve."""
    figure = new_figure(13.5, 4.9)
    panels = figure.subplots(1, len(HEADS), sharey=True)
    penalties = sorted({measured.penalty for measured in report.reliability})
    colours = dict(zip(penalties, colormaps["viridis"](np.linspace(0.0, 0.85, len(penalties))), strict=True))
    for panel, head in zip(panels, HEADS, strict=True):
        panel.plot([0.0, 1.0], [0.0, 1.0], color="0.75", linewidth=0.8)
        for measured in report.reliability:
            if measured.head == head:
                _reliability(panel, measured, colours[measured.penalty])
        panel.set_xlabel("Members' mean probability")
        panel.set_title(_NAMES[head][0].upper() + _NAMES[head][1:], fontsize=10)
        panel.set_xlim(-0.02, 1.02)
    panels[0].set_ylabel("Fraction of binaries among the spectra")
    panels[0].set_ylim(-0.02, 1.02)
    known = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    labels = [str(penalty) for penalty in penalties]
    figure.legend([known[label] for label in labels], labels, loc="outside right center", title="Penalty")
    figure.suptitle("Dashed: what a penalty means to a network without error; grey: the diagonal", fontsize=10)
    return figure


def _reliability(panel: Axes, measured: Reliability, colour: NDArray[np.float64]) -> None:
    filled = [part for part in measured.bins if part.rate.trials]
    value = [part.rate.value for part in filled]
    ends = np.array([(part.rate.value - part.rate.low, part.rate.high - part.rate.value) for part in filled]).T
    style: dict[str, Any] = {"fmt": "o", "color": colour, "markersize": 4.5, "capsize": 2.0}
    panel.errorbar([part.mean for part in filled], value, ends, label=str(measured.penalty), **style)
    predicted = np.linspace(0.0, 1.0, 201)
    panel.plot(predicted, calibrated(predicted, measured.penalty), "--", color=colour, linewidth=0.9)
