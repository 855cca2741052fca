"""How members learned: losses and learning rates against epochs, from the logs beside the weights."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinlines.models.trainingstate import Epoch, read_log
from twinlines.pipeline.figures.canvas import new_figure, save

FIGURE = "learning.png"
"""Name of the figure in an ensemble's folder."""


def read_logs(folder: Path) -> dict[int, list[Epoch]]:
    """Epochs by member, of the logs ``member_<number>.jsonl`` in a folder."""
    logs = {int(path.stem.removeprefix("member_")): read_log(path) for path in folder.glob("member_*.jsonl")}
    return dict(sorted(logs.items()))


def learning_curves(folder: Path) -> Path | None:
    """Draw all members' losses and learning rates into ``folder``; returns the figure's path, None without a log."""
    logs = read_logs(folder)
    return save(draw(logs), folder / FIGURE) if logs else None


def draw(logs: dict[int, list[Epoch]]) -> Figure:
    """Losses above, learning rates below: a colour for each member."""
    figure = new_figure(6.4, 6.0)
    losses, rates = figure.subplots(2, 1, sharex="col", height_ratios=(2.4, 1.0))
    for place, (member, epochs) in enumerate(logs.items()):
        numbers = [epoch.epoch for epoch in epochs]
        style = {"color": colormaps["viridis"](0.85 * place / max(len(logs) - 1, 1)), "linewidth": 1.1}
        losses.plot(numbers, [epoch.validation_loss for epoch in epochs], "o-", markersize=3.5, **style)
        losses.plot(numbers, [epoch.training_loss for epoch in epochs], "x:", markersize=4.0, **style)
        losses.plot([], [], color=style["color"], label=f"member {member}")
        rates.plot(numbers, [epoch.learning_rate for epoch in epochs], "o-", markersize=3.0, **style)
    losses.plot([], [], "o-", color="0.4", markersize=3.5, label="validation")
    losses.plot([], [], "x:", color="0.4", markersize=4.0, label="training, with variations and more noise")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set_ylabel("Loss (equation 7), mean of heads and penalties")
    losses.legend(fontsize=8)
    rates.set_yscale("log")
    rates.set_xlabel("Epoch")
    rates.set_ylabel("Learning rate at its start")
    return figure
