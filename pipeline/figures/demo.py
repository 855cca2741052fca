"""The demo's pictures: one SB2's spectra, probabilities by separation, velocities and the truth, a binary's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName, doppler_factor
from twinlines.pipeline.binaries.sources.binary import open_binary
from twinlines.pipeline.figures.binary import binary
from twinlines.pipeline.figures.canvas import ARM_TITLES, BLUE_COLOUR, RED_COLOUR, new_figure, save
from twinlines.pipeline.mock.demo import DemoResult
from twinlines.pipeline.mock.showpiece import Epoch, showpiece
from twinlines.pipeline.spectra.lines import TITLES, WAVELENGTHS

_WINDOWS: dict[ArmName, tuple[float, float, tuple[float, ...], str]] = {
    # wavelengths from, to, rest wavelengths of the lines (vacuum, NIST), name; Angstrom
    "B": (5150.0, 5205.0, WAVELENGTHS["B"], TITLES["B"]),
    "R": (6535.0, 6595.0, WAVELENGTHS["R"], TITLES["R"]),
}
_OFFSET = 1.3  # between spectra, in units of the continuum: room for the deepest lines of K stars
_SNR_TICKS = (5, 10, 20, 50, 100)
_SNR_LIMITS = (4.5, 150.0)


def write(result: DemoResult) -> tuple[Path, ...]:
    """Draw what came out of a demo into the folder ``figures`` in its own, and return the pictures' paths."""
    folder = result.folder / "figures"
    folder.mkdir(exist_ok=True)
    comparison = result.comparison
    table = comparison.exposures
    data = {name: np.asarray(table[name]) for name in table.colnames}
    snr = {name: data[f"snr_{name}"] for name in ARM_NAMES}
    figures = {}
    if (star := showpiece(comparison, result.store)) is not None:
        figures["epochs"] = epochs(star.title, star.epochs)
    figures["probability"] = probability_by_separation(
        data["kind"], np.abs(data["delta_v"]), snr, {name: data[f"p50_{name}"] for name in ARM_NAMES}
    )
    figures["velocities"] = velocity_residuals(
        snr,
        {name: comparison.residuals(name) for name in ARM_NAMES},
        {name: data[f"rv_obs_err_{name}"] for name in ARM_NAMES},
    )
    known = [each for each in result.binaries if each.period_probability > 0.95] or list(result.binaries)
    if known:
        figures["binary"] = binary(open_binary(result.folder / "survey", known[0].obsid))
    return tuple(save(figure, folder / f"{name}.png") for name, figure in figures.items())


def epochs(star: str, shown: Sequence[Epoch]) -> Figure:
    """Draw spectra of one star at several epochs around Mg b and H-alpha, one above the other.

    Ticks mark where the lines of each star are expected; the binary probability stands beside each spectrum.

    Raises
    ------
    ValueError
        If there is no epoch to show.
    """
    if not shown:
        raise ValueError(f"no epoch of {star} to draw; give one or more")
    figure = new_figure(11.0, 1.6 + 1.3 * len(shown))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, name in zip(panels, ARM_NAMES, strict=True):
        low, high, lines, title = _WINDOWS[name]
        wavelength = ARMS[name].wavelength
        window = (wavelength >= low) & (wavelength <= high)
        for number, epoch in enumerate(reversed(shown)):
            row = _OFFSET * number
            flux = epoch.flux[name][window]
            panel.axhline(row + 1.0, color="0.85", linewidth=0.8, zorder=0)
            # What noise and cosmic rays leave above must not run into the next spectrum.
            panel.plot(wavelength[window], row + np.clip(flux, 0.0, 1.2), color="0.15", linewidth=0.9)
            for velocity, colour in zip(epoch.velocities[name], (BLUE_COLOUR, RED_COLOUR), strict=False):
                places = np.array(lines) * doppler_factor(float(velocity))
                panel.vlines(places, row + 1.07, row + 1.18, color=colour, linewidth=1.6)
            panel.text(
                high - 0.6,
                row + 1.27,
                f"binary probability {epoch.probability[name]:.2f}",
                ha="right",
                va="center",
                fontsize=9,
            )
            if name == "B":
                panel.text(low + 0.6, row + 1.27, epoch.label, ha="left", va="center", fontsize=9)
        panel.set_xlim(low, high)
        panel.set_title(f"{title} ({ARM_TITLES[name].lower()})", fontsize=10)
        panel.set_xlabel("Wavelength in the measured rest frame, vacuum (Å)")
    panels[0].set_ylim(0.05, _OFFSET * (len(shown) - 1) + 1.42)
    panels[0].set_yticks([])
    panels[0].set_ylabel(f"Flux / continuum, offset by {_OFFSET}")
    figure.suptitle(f"{star}   (ticks: true velocities, blue: primary, orange: secondary)", fontsize=11)
    return figure


_MARKERS = {"single": ("v", "Single dwarf"), "giant": ("^", "Giant"), "SB1": ("s", "SB1"), "SB2": ("o", "SB2")}


def probability_by_separation(
    kind: NDArray[np.str_],
    separation: NDArray[np.float64],
    snr: Mapping[ArmName, NDArray[np.float64]],
    probability: Mapping[ArmName, NDArray[np.float64]],
    threshold: float = 0.5,
) -> Figure:
    """Draw median binary probabilities against the true velocity separation, coloured by S/N, an arm a panel.

    Parameters
    ----------
    kind
        "single", "giant", "SB1" or "SB2", shape (exposure,). Stars without a visible companion stand in a strip of
        their own, spread sideways so that they can be told apart.
    separation
        ``|v2 - v1|`` in km/s, shape (exposure,); NaN without a visible companion.
    snr, probability
        Signal-to-noise ratio and median probability by arm, shape (exposure,); NaN is not drawn.
    threshold
        Probability at which a line is drawn.
    """
    figure = new_figure(11.0, 4.8)
    grid = figure.subplots(1, 4, sharey=True, width_ratios=[1.1, 3.0, 1.1, 3.0])
    colours = LogNorm(*_SNR_LIMITS)
    spread = (np.arange(len(kind)) * 0.6180339887) % 1.0 - 0.5  # golden ratio: even, and the same every time
    drawn = None
    for name, strip, panel in zip(ARM_NAMES, grid[::2], grid[1::2], strict=True):
        for which, (marker, label) in _MARKERS.items():
            rows = (kind == which) & np.isfinite(probability[name])
            axes: Axes = panel if which == "SB2" else strip
            place = {"single": 0.0, "giant": 1.0, "SB1": 2.0}.get(which)
            x = separation[rows] if place is None else place + 0.8 * spread[rows]
            drawn = axes.scatter(
                *(x, probability[name][rows]),
                c=snr[name][rows],
                norm=colours,
                cmap="viridis",
                marker=marker,
                s=22,
                edgecolors="0.2",
                linewidths=0.3,
                label=label,
            )
        strip.set_xticks([0, 1, 2], ["Single", "Giant", "SB1"], rotation=35, fontsize=9)
        strip.set_xlim(-0.6, 2.6)
        panel.set_title(f"{ARM_TITLES[name]}: SB2s", fontsize=10)
        strip.set_title("One visible star", fontsize=10)
        panel.set_xlabel("True velocity separation |v2 − v1| (km/s)")
        panel.set_xlim(left=0.0)
        for axes in (strip, panel):
            axes.axhline(threshold, color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    grid[0].set_ylim(-0.03, 1.03)
    grid[0].set_ylabel("Binary probability, median of the ensemble")
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(grid), label="S/N per pixel of the arm", pad=0.01, ticks=_SNR_TICKS)
        bar.ax.yaxis.set_major_formatter(ScalarFormatter())
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def velocity_residuals(
    snr: Mapping[ArmName, NDArray[np.float64]],
    residual: Mapping[ArmName, NDArray[np.float64]],
    error: Mapping[ArmName, NDArray[np.float64]],
) -> Figure:
    """Draw measured minus true velocities of stars with one visible component against S/N, an arm a panel.

    Parameters
    ----------
    snr, residual, error
        Signal-to-noise ratio, velocity residual and its error (km/s) by arm, shape (exposure,); NaN is not drawn.
    """
    figure = new_figure(11.0, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    everything = np.concatenate([np.abs(values[np.isfinite(values)]) for values in residual.values()])
    limit = float(np.clip(1.5 * np.percentile(everything, 95.0), 3.0, 60.0)) if everything.size else 3.0
    for panel, name, colour in zip(panels, ARM_NAMES, (BLUE_COLOUR, RED_COLOUR), strict=True):
        rows = np.isfinite(residual[name])
        values = residual[name][rows]
        panel.axhline(0.0, color="0.6", linewidth=0.8)
        outside = np.abs(values) > limit
        panel.errorbar(
            *(snr[name][rows][~outside], values[~outside], error[name][rows][~outside]),
            fmt="o",
            color=colour,
            markersize=3.0,
            elinewidth=0.6,
            alpha=0.7,
        )
        panel.scatter(
            *(snr[name][rows][outside], np.sign(values[outside]) * 0.97 * limit),
            marker="x",
            color=colour,
            s=20,
            clip_on=False,
        )
        summary = f"\n{_summary(values, int(outside.sum()))}" if values.size else ""
        panel.set_title(ARM_TITLES[name] + summary, fontsize=10)
        panel.set_xlabel("S/N per pixel of the arm")
        panel.set_xscale("log")
        panel.set_xlim(*_SNR_LIMITS)
        panel.set_xticks(_SNR_TICKS)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylim(-limit, limit)
    panels[0].set_ylabel("Measured − true velocity (km/s)")
    return figure


def _summary(values: NDArray[np.float64], outside: int) -> str:
    low, middle, high = np.percentile(values, [16.0, 50.0, 84.0])
    text = f"{values.size} exposures: median {middle:+.2f}, scatter {(high - low) / 2.0:.2f} km/s"
    return text + (f"; {outside} beyond the axis (x)" if outside else "")
