"""Eclipsing binaries against phase: probabilities with the W of Figure 8 of the paper, and spectra as in Figure 9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from twinlines.pipeline.arms import doppler_factor
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save, verbatim
from twinlines.pipeline.figures.crossmatch import HEAD_TITLES
from twinlines.pipeline.validation.eclipsing.phases import BINS, OUT_OF_ECLIPSE, Eclipsing
from twinlines.pipeline.validation.eclipsing.spectra import WINDOWS, PhasedSpectra

_SPREAD = 0.12  # of a line's depth in units of the phase
_SURE = 0.2  # of K1 + K2: amplitudes with larger errors are not drawn
_MOST_LINES = 60  # spectra that are drawn as lines; more are drawn as an image


def phases_figure(result: Eclipsing, path: str | Path) -> Path:
    """Draw probabilities and the fraction below one half against phase, an arm a panel, and velocity separations.

    Returns the path of the PNG.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    heads = list(result.probability)
    measured = bool(np.isfinite(result.separation).any())
    figure = new_figure(9.6, 2.2 * len(heads) + (2.4 if measured else 0.4))
    panels = figure.subplots(len(heads) + measured, 1, sharex=True, squeeze=False)[:, 0]
    period = result.ephemerides.period[result.star]
    norm = LogNorm(*(np.clip(result.config.periods, 1e-3, None)))
    for panel, head in zip(panels[: len(heads)], heads, strict=True):
        _draw_head(panel, result, head, norm)
    if measured:
        _draw_separations(panels[-1], result)
    panels[-1].set_xlabel("Orbital phase; 0 and 1 are primary eclipses", fontsize=9)
    panels[-1].set_xlim(0.0, 1.0)
    for panel in panels:
        panel.tick_params(labelsize=8)
        for low, high in OUT_OF_ECLIPSE:
            panel.axvspan(low, high, color="0.96", zorder=0)
    chosen = np.unique(period[np.any(list(result.counts.values()), axis=0)])
    if len(chosen) > 1:
        mappable = figure.colorbar(
            _mappable(norm), ax=list(panels[: len(heads)]), label="Period (d)", aspect=40, pad=0.01
        )
        mappable.ax.tick_params(labelsize=8)
    return save(figure, path)


def _mappable(norm: LogNorm) -> ScalarMappable:
    return ScalarMappable(norm, colormaps["viridis"])


def _draw_head(panel: Axes, result: Eclipsing, head: str, norm: LogNorm) -> None:
    mine = result.counts[head]
    every, single, _ = result.w(head)
    known = every > 0
    edges = np.linspace(0.0, 1.0, BINS + 1)
    fraction = np.where(known, single / np.maximum(every, 1), np.nan)
    panel.stairs(fraction, edges, baseline=None, color="0.6", linewidth=4.0, alpha=0.9, zorder=1)
    colours = colormaps["viridis"](norm(result.ephemerides.period[result.star][mine]))
    panel.scatter(
        *(result.phase[mine], result.probability[head][mine]),
        c=colours,
        s=14.0,
        edgecolors="white",
        linewidths=0.3,
        zorder=2,
    )
    stars = len(np.unique(result.star[mine]))
    panel.set_title(
        f"{HEAD_TITLES[head]}: {int(mine.sum())} exposures of {stars} star{'s' if stars != 1 else ''}; grey: fraction "
        "below one half",
        fontsize=9,
        loc="left",
    )
    panel.set_ylim(-0.06, 1.06)
    panel.set_ylabel(rf"$p_{{50}}$, Λ = {result.penalty}", fontsize=9)


def _draw_separations(panel: Axes, result: Eclipsing) -> None:
    shown = np.unique(result.star[np.isfinite(result.separation)]).tolist()
    for place, star in enumerate(shown):
        mine = (result.star == star) & np.isfinite(result.separation)
        colour = colormaps["viridis"](0.85 * place / max(len(shown) - 1, 1))
        label = str(result.ephemerides.name[star]) if len(shown) <= 8 else None
        panel.plot(
            *(result.phase[mine], result.separation[mine]),
            linestyle="",
            marker="o",
            markersize=4.0,
            color=colour,
            label=label,
        )
        if star in result.circles and len(shown) <= 8:
            phase = np.linspace(0.0, 1.0, 401)
            panel.plot(phase, result.circles[star].separation(phase), color=colour, linewidth=0.9)
            undetected = (
                (result.star == star)
                & ~np.isfinite(result.separation)
                & np.any([np.isfinite(values) for values in result.probability.values()], axis=0)
            )
            panel.plot(
                *(result.phase[undetected], result.expected[undetected]),
                linestyle="",
                marker="o",
                markersize=5.0,
                fillstyle="none",
                color=colour,
            )
    panel.set_ylabel("|v₂ − v₁| (km/s)", fontsize=9)
    panel.set_ylim(bottom=0.0)
    panel.set_title(
        "Two-star fits; lines: circular orbits; open: exposures that show one star, at the separation expected",
        fontsize=9,
        loc="left",
    )
    if len(shown) <= 8:
        panel.legend(fontsize=8, loc="upper right")


def spectra_figure(result: PhasedSpectra, path: str | Path) -> Path:
    """Draw one star's spectra by phase, those that show two stars apart from the others; returns the PNG's path.

    Raises
    ------
    FigureError
        If the figure cannot be written there.
    """
    figure = new_figure(9.6, 7.2)
    panels = figure.subplots(1, len(WINDOWS), sharey=True)
    double = result.probability > 0.5
    judged = np.isfinite(result.probability)
    for panel, window, wavelength, flux in zip(panels, WINDOWS, result.wavelength, result.flux, strict=True):
        if len(result.phase) <= _MOST_LINES:
            for at, spectrum in enumerate(flux):
                colour = RED_COLOUR if double[at] else "0.45" if judged[at] else "0.75"
                panel.plot(wavelength, result.phase[at] + _SPREAD * (spectrum - 1.0), color=colour, linewidth=0.8)
        else:
            _draw_image(panel, result, wavelength, flux, double)
        if result.circle is not None and result.circle.amplitude_error < _SURE * result.circle.sum_amplitude:
            phase = np.linspace(0.0, 1.0, 401)
            sine = np.sin(2.0 * np.pi * phase)
            circle = result.circle
            for line in window.lines:
                for velocity, style in (
                    (circle.gamma - circle.amplitude_a * sine, "-"),
                    (circle.gamma + circle.amplitude_b * sine, "--"),
                ):
                    panel.plot(
                        *(line * doppler_factor(velocity), phase),
                        linestyle=style,
                        color=BLUE_COLOUR,
                        linewidth=0.8,
                        alpha=0.8,
                        zorder=0,
                    )
        panel.set_xlim(window.low, window.high)
        panel.set_title(window.title, fontsize=10)
        panel.set_xlabel("Wavelength, vacuum, barycentric (Å)", fontsize=9)
        panel.tick_params(labelsize=8)
    panels[0].set_ylim(-0.06 - _SPREAD * 0.6, 1.06)
    panels[0].set_ylabel("Orbital phase; 0 and 1 are primary eclipses", fontsize=9)
    of = HEAD_TITLES[result.head].lower()
    handles = [
        Line2D([], [], color=RED_COLOUR, label=f"$p_{{50}}$ > 0.5 ({of})"),
        Line2D([], [], color="0.45", label="$p_{50}$ ≤ 0.5"),
    ]
    title = f"{verbatim(result.name)}, P = {result.period:.7g} d, {len(result.phase)} exposures"
    if result.circle is not None:
        handles.append(Line2D([], [], color=BLUE_COLOUR, label="star eclipsed at phase 0"))
        handles.append(Line2D([], [], color=BLUE_COLOUR, linestyle="--", label="the other"))
        title += f"; K₁ + K₂ = {result.circle.sum_amplitude:.0f} ± {result.circle.sum_amplitude_error:.0f} km/s"
    figure.suptitle(title, fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return save(figure, path)


def _draw_image(
    panel: Axes,
    result: PhasedSpectra,
    wavelength: NDArray[np.float64],
    flux: NDArray[np.float64],
    double: NDArray[np.bool_],
) -> None:
    """Spectra as strips: in colour where two stars are seen, grey elsewhere."""
    for mine, colours in ((~double, "gray"), (double, "viridis")):
        for at in np.flatnonzero(mine).tolist():
            extent = (wavelength[0], wavelength[-1], result.phase[at] - 0.005, result.phase[at] + 0.005)
            panel.imshow(flux[at][None, :], extent=extent, aspect="auto", vmin=0.5, vmax=1.05, cmap=colours)
