"""Zero points of radial velocities against time and spectrograph: a row of panels for each arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.figures.canvas import ARM_TITLES, new_figure, save

_MARKERS = "osD^v<>p"  # of spectrographs, in turn: neighbours' colours are near each other
_MINUTES = 1440.0
_MJD_EPOCH = np.datetime64("1858-11-17T00:00:00", "s")
_MOST_BARS = 1500  # of units; more are drawn without errors, which would cover all


def zero_points_figure(table: xr.Dataset, path: str | Path) -> Path:
    """Draw a table of zero points, of :data:`twinlines.pipeline.schema.ZERO_POINTS`, into a PNG; returns its path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    return save(draw(table), path)


def draw(table: xr.Dataset) -> Figure:
    """Zero points against local time, and against the spectrograph, with a colour and a marker for each of these."""
    figure = new_figure(9.6, 6.2)
    panels = figure.subplots(2, 2, sharey="row", sharex="col", width_ratios=(2.4, 1.0))
    spid = table["spid"].values
    spectrographs = np.unique(spid)
    time = _MJD_EPOCH + np.round(table["lmjm"].values * (86400.0 / _MINUTES)).astype("timedelta64[s]")
    for row, arm in zip(panels, ARM_NAMES, strict=True):
        zero, error = (table[name].sel(arm=arm).values.astype(np.float64) for name in ("zero_point", "error"))
        known = np.isfinite(zero)
        for place, number in enumerate(spectrographs.tolist()):
            mine = known & (spid == number)
            style: dict[str, Any] = {
                "color": colormaps["viridis"](0.92 * place / max(len(spectrographs) - 1, 1)),
                "marker": _MARKERS[place % len(_MARKERS)],
            }
            _points(row[0], time[mine], zero[mine], error[mine], known.sum(), style, f"{number}")
            # Side by side: their spread is what the panel shows.
            beside = number + np.linspace(-0.3, 0.3, mine.sum()) if mine.sum() > 1 else np.full(mine.sum(), number)
            _points(row[1], beside, zero[mine], error[mine], known.sum(), style, None)
        for panel in row:
            panel.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
        missing = f"; {np.sum(~known)} units have none" if not known.all() else ""
        row[0].set_title(f"{ARM_TITLES[arm]}: {known.sum()} zero points{missing}", fontsize=10)
        row[0].set_ylabel("Zero point (km/s)")
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    panels[1, 0].xaxis.set_major_locator(locator)
    panels[1, 0].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    panels[1, 0].set_xlabel("Local time of the exposure's start")
    panels[1, 1].set_xlabel("Spectrograph")
    panels[1, 1].set_xticks(spectrographs[:: 1 + len(spectrographs) // 10])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", title="Spectrograph", fontsize=7, title_fontsize=8)
    return figure


def _points(
    panel: Axes,
    where: NDArray[Any],
    zero: NDArray[np.float64],
    error: NDArray[np.float64],
    points: int,
    style: dict[str, Any],
    label: str | None,
) -> None:
    size = 3.5 if points <= _MOST_BARS else 1.5
    panel.errorbar(
        where,
        zero,
        yerr=error if points <= _MOST_BARS else None,
        linestyle="none",
        markersize=size,
        elinewidth=0.6,
        alpha=0.85,
        label=label,
        **style,
    )
