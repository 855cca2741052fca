"""What every figure stands on: a canvas of its own, a file, and colours. Knows nothing of what is drawn.

Every figure is drawn on its own Agg canvas, without pyplot and without state, so a figure may be made in a worker, a
test or a notebook alike. Colours are those of Okabe and Ito (2008) and the perceptually uniform maps, which stay apart
for colour-blind readers; what a colour says, a marker or a label says too.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from twinlines.pipeline.arms import ArmName

BLUE_COLOUR, RED_COLOUR = "#0072B2", "#D55E00"
"""Blue and vermilion: of the two stars of a binary, and of the two arms."""

ARM_TITLES: dict[ArmName, str] = {"B": "Blue arm", "R": "Red arm"}
"""What the arms are called above panels."""


class FigureError(ValueError):
    """A figure cannot be written as asked."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches on a canvas of its own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def verbatim(text: str) -> str:
    """Text, such as the name of a file, for a figure: matplotlib takes what stands between dollars for a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write a figure as PNG and return its path.

    Raises
    ------
    FigureError
        If it is not named so, or there is no folder for it.
    """
    path = check(path)
    figure.savefig(path, dpi=dpi, format="png")
    return path


def check(path: str | Path) -> Path:
    """The path of a figure, if one can be written there.

    Raises
    ------
    FigureError
        If it is not named as one, or there is no folder for it.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FigureError(f"{path} is not named .png, and PNG is the format of figures; name it {path.stem}.png")
    if not path.parent.is_dir():
        raise FigureError(f"there is no folder {path.parent} to draw {path.name} in; make it first")
    return path
