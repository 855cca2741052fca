"""How members learned: losses and learning rates against epochs, from the logs beside the weights."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinlines.models.trainingstate import Epoch, read_log
from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.figures.canvas import ARM_TITLES, new_figure, save

FIGURE = "learning.png"
"""Name of the figure in an ensemble's folder."""


def read_logs(folder: Path) -> dict[tuple[str, int, int], list[Epoch]]:
    """Epochs by arm, penalty and member, of the logs ``<arm>_p<penalty>_m<member>.jsonl`` in a folder."""
    logs = {}
    for path in folder.glob("*_p*_m*.jsonl"):
        name, penalty, member = path.stem.split("_")
        logs[name, int(penalty[1:]), int(member[1:])] = read_log(path)
    return dict(sorted(logs.items()))


def learning_curves(folder: Path) -> Path | None:
    """Draw all members' losses and learning rates into ``folder``; returns the figure's path, None without a log."""
    logs = read_logs(folder)
    return save(draw(logs), folder / FIGURE) if logs else None


def draw(logs: dict[tuple[str, int, int], list[Epoch]]) -> Figure:
    """Losses above, learning rates below, an arm a column: a colour for each penalty, a line for each member."""
    arms = [name for name in ARM_NAMES if any(key[0] == name for key in logs)]
    penalties = sorted({penalty for _, penalty, _ in logs})
    colours = {
        penalty: colormaps["viridis"](0.85 * place / max(len(penalties) - 1, 1))
        for place, penalty in enumerate(penalties)
    }
    figure = new_figure(5.2 * len(arms) + 1.2, 6.0)
    panels = figure.subplots(2, len(arms), sharex="col", squeeze=False, height_ratios=(2.4, 1.0))
    for (losses, rates), name in zip(panels.T, arms, strict=True):
        for (arm, penalty, _), epochs in logs.items():
            if arm != name:
                continue
            numbers = [epoch.epoch for epoch in epochs]
            style = {"color": colours[penalty], "linewidth": 1.1}
            losses.plot(numbers, [epoch.validation_loss for epoch in epochs], "o-", markersize=3.5, **style)
            losses.plot(numbers, [epoch.training_loss for epoch in epochs], "x:", markersize=4.0, **style)
            rates.plot(numbers, [epoch.learning_rate for epoch in epochs], "o-", markersize=3.0, **style)
        losses.set_title(ARM_TITLES[name], fontsize=10)
        losses.xaxis.set_major_locator(MaxNLocator(integer=True))
        rates.set_yscale("log")
        rates.set_xlabel("Epoch")
    panels[0, 0].set_ylabel("Loss (equation 7)")
    panels[1, 0].set_ylabel("Learning rate at its start")
    for penalty in penalties:
        panels[0, 0].plot([], [], color=colours[penalty], label=f"penalty {penalty}")
    panels[0, 0].plot([], [], "o-", color="0.4", markersize=3.5, label="validation")
    panels[0, 0].plot([], [], "x:", color="0.4", markersize=4.0, label="training, with dropout and more noise")
    panels[0, 0].legend(fontsize=8)
    return figure
