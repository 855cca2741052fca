"""Figures of an evaluation, after the paper's 4, 5 and 6, and a reliability diagram."""

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
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.evaluation.report import (
    PAPER,
    EvaluationReport,
    Marginal,
    Reliability,
    TableRow,
    TwinCurves,
    reference,
)
from twinlines.pipeline.evaluation.twins import RATIOS, SEPARATIONS, TWINS
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save

_COLOURS: dict[ArmName, str] = {"B": BLUE_COLOUR, "R": RED_COLOUR}
_MARKERS: dict[ArmName, str] = {"B": "o", "R": "s"}
_ASIDE: dict[ArmName, float] = {"B": 0.95, "R": 1.05}  # factors of penalties, so that no arm hides the other
_NAMES: dict[ArmName, str] = {"B": "blue arm", "R": "red arm"}
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
    for stale in folder.glob("figure5_*.png"):
        stale.unlink()  # an evaluation without twins must not keep another's
    if report.twins:
        figures |= {f"figure5_{name}": twins(report, name) for name in ARM_NAMES}
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _style(name: ArmName) -> dict[str, Any]:
    return {"color": _COLOURS[name], "marker": _MARKERS[name], "linewidth": 1.2}


def penalties(report: EvaluationReport) -> Figure:
    """Figure 4: TPR and FPR against penalty, both arms, with intervals; the paper's are drawn open."""
    figure = new_figure(10.0, 4.4)
    panels = figure.subplots(1, 2)
    for name in ARM_NAMES:
        rows = [row for row in report.table if row.arm == name]
        for panel, which in zip(panels, (0, 1), strict=True):
            _rates(panel, name, rows, which)
            paper = [(penalty, values[which]) for penalty, values in PAPER[name].items()]
            panel.plot(
                *zip(*paper, strict=True),
                color=_COLOURS[name],
                marker=_MARKERS[name],
                markerfacecolor="white",
                linestyle=":",
                linewidth=0.8,
                markersize=4,
                label=f"Zhang et al. (2022), {_NAMES[name]}",
                zorder=1,
            )
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


def _rates(panel: Axes, name: ArmName, rows: Sequence[TableRow], which: int) -> None:
    """TPR (0) or FPR (1) of one arm; where nothing was counted, an arrow hangs from the upper limit."""
    rates = [(_ASIDE[name] * row.penalty, row.rates.fpr if which else row.rates.tpr) for row in rows]
    counted = [(penalty, rate) for penalty, rate in rates if rate.count > 0]
    style = {**_style(name), "zorder": 3, "capsize": 2.5, "markersize": 5.5}
    if counted:
        value = np.array([rate.value for _, rate in counted])
        ends = np.array([(rate.value - rate.low, rate.high - rate.value) for _, rate in counted]).T
        panel.errorbar([penalty for penalty, _ in counted], value, ends, label=_NAMES[name], **style)
    for penalty, rate in rates:
        if not rate.count and rate.trials:
            panel.errorbar([penalty], [rate.high], [[rate.high / 2.0], [0.0]], uplims=True, **style)


def twins(report: EvaluationReport, name: ArmName) -> Figure:
    """Figure 5: probability of twin binaries against separation, a star a column and a rotation a row."""
    of_arm = [curves for curves in report.twins if curves.arm == name]
    penalty = reference([curves.penalty for curves in of_arm])
    by_star = {(curves.star, curves.vsini): curves for curves in of_arm if curves.penalty == penalty}
    rotations = sorted({curves.vsini for curves in of_arm})
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
    figure.suptitle(f"Twin binaries, {_NAMES[name]}, penalty {penalty}: {what}", fontsize=11)
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
    """Figure 6's diagonal: TPR against each parameter, both arms, over the distribution of the binaries judged."""
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
    penalties_of_arms = {marginal.arm: marginal.penalty for marginal in report.marginals}
    shown_penalties = " and ".join(sorted({str(penalty) for penalty in penalties_of_arms.values()}))
    binaries = report.table[0].rates.tpr.trials
    figure.suptitle(
        f"Penalty {shown_penalties}, threshold 0.5: {binaries} binaries; grey: how they spread", fontsize=11
    )
    return figure


def _distribution(panel: Axes, bins: Sequence[Bin]) -> None:
    trials = np.array([part.rate.trials for part in bins], np.float64)
    heights = 0.4 * trials / max(float(trials.max()), 1.0)  # below the rates, so that neither hides the other
    panel.stairs(heights, [bins[0].start, *(part.stop for part in bins)], fill=True, color="0.88", zorder=0)


def _marginal(panel: Axes, marginal: Marginal) -> None:
    name: ArmName = "B" if marginal.arm == "B" else "R"
    filled = [part for part in marginal.bins if part.rate.trials]
    value = np.array([part.rate.value for part in filled])
    ends = np.array([(part.rate.value - part.rate.low, part.rate.high - part.rate.value) for part in filled])
    centre = [(part.start + part.stop) / 2.0 for part in filled]
    style = {**_style(name), "markersize": 3.5, "elinewidth": 0.8, "capsize": 1.5}
    panel.errorbar(centre, value, ends.reshape(-1, 2).T, label=_NAMES[name], **style)


def reliability(report: EvaluationReport) -> Figure:
    """Observed fraction of binaries against predicted probability, an arm a panel, a penalty a curve."""
    figure = new_figure(10.0, 4.9)
    panels = figure.subplots(1, 2, sharey=True)
    penalties = sorted({measured.penalty for measured in report.reliability})
    colours = dict(zip(penalties, colormaps["viridis"](np.linspace(0.0, 0.85, len(penalties))), strict=True))
    for panel, name in zip(panels, ARM_NAMES, strict=True):
        panel.plot([0.0, 1.0], [0.0, 1.0], color="0.75", linewidth=0.8)
        for measured in report.reliability:
            if measured.arm == name:
                _reliability(panel, measured, colours[measured.penalty])
        panel.set_xlabel("Members' mean probability")
        panel.set_title(_NAMES[name].capitalize(), fontsize=10)
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
