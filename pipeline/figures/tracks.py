"""Pictures of tracks: the Hertzsprung-Russell and the Kiel diagram of one composition, and what the set covers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure
from twinlines.pipeline.stars.tracks import MAXIMUM_AGE, RGB_TIP, SOLAR_LOGG, SOLAR_TEFF, TAMS, ZAMS, State, Tracks

Array = NDArray[np.float64]

_PHASES = (
    (-np.inf, ZAMS, "0.75", "Before the main sequence"),
    (ZAMS, TAMS, BLUE_COLOUR, "Main sequence (EEP 202 to 454)"),
    (TAMS, RGB_TIP, RED_COLOUR, "To the giant tip (454 to 605)"),
    (RGB_TIP, np.inf, "#CC79A7", "Beyond (from 605)"),
)
"""EEP from, EEP to, colour (Okabe and Ito 2008), name."""

_MASSES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0, 120.0)
"""Masses that are drawn, where tracks are near; solar masses."""

_ISOCHRONES = ((1.0, ":"), (5.0, "--"), (10.0, "-."))
"""Age in Gyr and line style."""

_ISOCHRONE_MASSES = 20_000  # so many that the giant branch, some 0.02 solar masses wide, is a curve
_DOMAIN_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_LABELLED = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0, 120.0)


def diagram(tracks: Tracks, feh: float = 0.0, alpha: float = 0.0) -> Figure:
    """Draw the tracks of the composition nearest to ([Fe/H], [alpha/Fe]), isochrones, and the domain.

    Parameters
    ----------
    tracks
        What to draw.
    feh, alpha
        Composition, dex. It is drawn as it is in the tracks, not interpolated.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels: log Teff and log L; Teff and log g; [Fe/H] and the masses that there are at it.
    """
    distance = np.hypot(tracks.feh - feh, tracks.alpha - alpha)
    nearest = int(np.argmin(distance))
    rows = np.flatnonzero((tracks.feh == tracks.feh[nearest]) & (tracks.alpha == tracks.alpha[nearest]))
    figure = new_figure(15.0, 5.6)
    panels = figure.subplots(1, 3, width_ratios=[1.0, 1.0, 0.8])
    log_teff, log_g = tracks.log_teff, tracks.log_g
    _draw_tracks(panels[0], tracks, rows, log_teff, tracks.log_l)
    _draw_tracks(panels[1], tracks, rows, log_teff, log_g)
    for age, style, state in _isochrones(tracks, rows):
        for panel, values in ((panels[0], np.log10(state.luminosity)), (panels[1], state.logg)):
            panel.plot(
                np.log10(state.teff), values, color="black", linewidth=1.1, linestyle=style, label=f"{age:g} Gyr"
            )
    _draw_sun(panels[0], 0.0)
    _draw_sun(panels[1], SOLAR_LOGG)
    for panel, name in ((panels[0], "log L (solar luminosities)"), (panels[1], "log g (cm s$^{-2}$)")):
        panel.set_xlabel("log Teff (K)")
        panel.set_ylabel(name)
        panel.invert_xaxis()
    panels[1].invert_yaxis()
    panels[0].legend(
        handles=_legend(tracks, panels[0]),
        title="Numbers: solar masses",
        title_fontsize=8,
        fontsize=8,
        loc="lower left",
    )
    composition = f"[Fe/H] = {tracks.feh[nearest]:+.2f}, [α/Fe] = {tracks.alpha[nearest]:+.2f}"
    panels[0].set_title(f"Hertzsprung-Russell diagram, {composition}", fontsize=10)
    panels[1].set_title(f"Kiel diagram, {composition}", fontsize=10)
    _draw_domain(panels[2], tracks, nearest)
    return figure


def _draw_tracks(panel: Axes, tracks: Tracks, rows: NDArray[np.int64], x: Array, y: Array) -> None:
    """Draw the tracks of a readable number of masses, (track, eep), as far as the universe's age goes."""
    masses = tracks.mass[rows]
    wanted = [mass for mass in _MASSES if 0.95 * masses[0] <= mass <= 1.05 * masses[-1]] or [masses[0]]
    shown = np.unique([np.argmin(np.abs(masses - mass)) for mass in wanted])
    for row in rows[shown]:
        too_old = ~(tracks.log_age[row] <= np.log10(MAXIMUM_AGE))
        for start, stop, colour, _ in _PHASES:
            phase = (tracks.eep >= start) & (tracks.eep <= stop)
            panel.plot(x[row, phase & ~too_old], y[row, phase & ~too_old], color=colour, linewidth=1.2)
        zams = int(np.searchsorted(tracks.eep, ZAMS))
        if zams < tracks.length[row] and np.isclose(tracks.mass[row], _LABELLED, rtol=0.03).any():
            panel.annotate(
                f"{tracks.mass[row]:g}",
                (x[row, zams], y[row, zams]),
                (-3, -2),  # below and left of the main sequence nothing else is drawn
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
            )


def _isochrones(tracks: Tracks, rows: NDArray[np.int64]) -> Iterator[tuple[float, str, State]]:
    """Ages in Gyr, line styles and states along the isochrones of one composition."""
    mass = np.linspace(tracks.mass[rows[0]], tracks.mass[rows[-1]], _ISOCHRONE_MASSES)
    feh, alpha = tracks.feh[rows[0]], tracks.alpha[rows[0]]
    for age, style in _ISOCHRONES:
        eep, _ = tracks.eep_at_age(mass, feh, 1e9 * age, alpha)
        on_track = eep >= ZAMS  # not what is still contracting
        if on_track.any():
            yield age, style, tracks.state(mass[on_track], feh, eep[on_track], alpha)


def _draw_sun(panel: Axes, y: float) -> None:
    for size, marker in ((70, "o"), (5, ".")):
        panel.scatter(np.log10(SOLAR_TEFF), y, s=size, marker=marker, facecolor="none", edgecolor="black", zorder=5)


def _legend(tracks: Tracks, panel: Axes) -> list[Line2D]:
    phases = [
        Line2D([], [], color=colour, label=name)
        for start, stop, colour, name in _PHASES
        if tracks.eep[0] < stop and tracks.eep[-1] > start
    ]
    isochrones = [line for line in panel.get_lines() if str(line.get_label()).endswith("Gyr")]
    return [*phases, *isochrones, Line2D([], [], color="black", marker="$\\odot$", linestyle="none", label="The Sun")]


def _draw_domain(panel: Axes, tracks: Tracks, nearest: int) -> None:
    """Mark the tracks of one [alpha/Fe] in ([Fe/H], mass): those that reach the tip of the giant branch, and others."""
    here = tracks.alpha == tracks.alpha[nearest]
    reaches = tracks.length >= np.searchsorted(tracks.eep, min(RGB_TIP, tracks.eep[-1]), side="right")
    for which, marker, colour, label in (
        (here & reaches, "o", BLUE_COLOUR, "Track to the giant tip or beyond"),
        (here & ~reaches, "v", "#E69F00", "Track ends before"),
    ):
        panel.scatter(
            tracks.feh[which], tracks.mass[which], s=9, marker=marker, color=colour, label=label, linewidths=0
        )
    panel.axvline(tracks.feh[nearest], color="0.6", linewidth=0.8, zorder=0)
    panel.set_yscale("log")
    low, high = tracks.mass.min(), tracks.mass.max()
    panel.set_yticks([mass for mass in _DOMAIN_TICKS if 0.9 * low <= mass <= 1.1 * high] or [low, high])
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("[Fe/H]")
    panel.set_ylabel("Initial mass (solar masses)")
    others = tracks.mesh.alpha.size - 1
    panel.set_title(
        f"{tracks.mass.size} tracks, {tracks.mesh.feh.size} [Fe/H]" + (f", {others} more [α/Fe]" if others else ""),
        fontsize=10,
    )
    panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
