"""What a spectral library holds, as a figure: its nodes and holes, and a few spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS
from twinlines.pipeline.figures.canvas import ARM_TITLES, BLUE_COLOUR, RED_COLOUR, new_figure, verbatim
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.spectra.continuum import normalise

_STARS = {"F dwarf": (6500.0, 4.0), "G dwarf": (5750.0, 4.5), "K dwarf": (4750.0, 4.5), "K giant": (4500.0, 2.0)}
"""Teff (K) and log g of the stars that are shown, at [Fe/H] = [alpha/Fe] = 0, if the library has the like."""

_UNLIKE = np.array([400.0, 0.75])  # K and dex; a node farther off is not called by the star's name
_OFFSET = 1.0  # between spectra, in units of the continuum
_COLOURS = (BLUE_COLOUR, "#009E73", RED_COLOUR, "#CC79A7")
_FULL, _PART = BLUE_COLOUR, "#F2B880"  # faces of points where all and where some combinations exist
_MOST_NUMBERS, _MOST_TICKS = 400, 12  # more would overlap


def nodes_and_spectra(library: Library, title: str) -> Figure:
    """Draw where a library has nodes, and spectra of a few of them, both arms, divided by their continuum.

    Each point of the (Teff, log g) plane says how many combinations of [Fe/H] and [alpha/Fe] exist there; it is orange
    where some are missing, and a cross where all are.
    """
    chosen = typical_nodes(library)
    figure = new_figure(13.0, 6.5 + 1.1 * len(chosen))
    rows = figure.add_gridspec(2, 1, height_ratios=[4.6, 1.9 + 1.1 * len(chosen)])
    _draw_nodes(figure.add_subfigure(rows[0]), library)
    _draw_spectra(figure.add_subfigure(rows[1]), library, chosen)
    figure.suptitle(verbatim(title), fontsize=11)
    return figure


def typical_nodes(library: Library) -> list[tuple[str, NDArray[np.float64]]]:
    """Name and labels (4,) of the nodes nearest to a few well-known kinds of stars; each node once, one at least."""
    nodes = library.nodes()
    spread = np.array([1000.0, 1.0, 0.5, 0.5])  # what counts as equally far: K and dex
    chosen: list[tuple[str, NDArray[np.float64]]] = []
    for name, (teff, logg) in _STARS.items():
        nearest = nodes[np.argmin((((nodes - [teff, logg, 0.0, 0.0]) / spread) ** 2).sum(axis=1))]
        like = (np.abs(nearest[:2] - (teff, logg)) <= _UNLIKE).all()
        if like and not any(np.array_equal(nearest, labels) for _, labels in chosen):
            chosen.append((name, nearest))
    return chosen or [("first node", nodes[0])]


def _draw_nodes(figure: SubFigure, library: Library) -> None:
    present = (library.index >= 0).sum(axis=(2, 3))  # (teff, logg)
    most = library.feh.size * library.alpha.size
    teff, logg = np.meshgrid(library.teff, library.logg, indexing="ij")
    panel = figure.subplots()
    panel.scatter(teff[present == 0], logg[present == 0], marker="x", color="0.7", s=14, linewidths=0.8)
    for which, face, ink in ((present == most, _FULL, "white"), ((present > 0) & (present < most), _PART, "black")):
        panel.scatter(teff[which], logg[which], color=face, edgecolors="0.3", linewidths=0.6, s=_size(present.size))
        if present.size <= _MOST_NUMBERS:
            for x, y, number in zip(teff[which], logg[which], present[which], strict=True):
                panel.annotate(f"{number}", (x, y), ha="center", va="center", fontsize=7, color=ink)
    for axis, direction in ((library.teff, panel.set_xlim), (library.logg, panel.set_ylim)):
        margin = 0.06 * np.ptp(axis) if axis.size > 1 else 0.1 * max(abs(axis[0]), 1.0)
        direction(axis[-1] + margin, axis[0] - margin)  # hot stars left, dwarfs below, as in a Kiel diagram
    if library.logg.size <= _MOST_TICKS:
        panel.set_yticks(library.logg)
    panel.set_xlabel("Teff (K)")
    panel.set_ylabel("log g (cm s⁻²)")
    panel.set_title(
        f"{present.sum()} of {library.index.size} nodes. Numbers: combinations of {_count(library.feh, '[Fe/H]')} and "
        f"{_count(library.alpha, '[α/Fe]')} that exist (orange: some of {most} missing; ×: all)",
        fontsize=10,
    )


def _size(points: int) -> float:
    """Area of a marker, points^2, by how many there are to draw."""
    return 260.0 if points <= 200 else max(8.0, 260.0 * 200.0 / points)


def _count(axis: NDArray[np.float64], name: str) -> str:
    if axis.size == 1:
        return f"{name} = {_plain(axis[0])}"
    return f"{axis.size} {name} ({_plain(axis[0])} to {_plain(axis[-1])})"


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _draw_spectra(figure: SubFigure, library: Library, chosen: Sequence[tuple[str, NDArray[np.float64]]]) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    labels = np.array([node for _, node in chosen])
    for panel, name in zip(panels, ARM_NAMES, strict=True):
        arm = ARMS[name]
        flux = torch.from_numpy(library.flux(name, labels)).double()
        flux /= flux.median(dim=1, keepdim=True).values
        shown = normalise(torch.from_numpy(arm.library_wavelength), flux)[0].numpy()[:, arm.on_library]
        for number, ((star, (teff, logg, feh, alpha)), spectrum) in enumerate(zip(chosen, shown, strict=True)):
            row = _OFFSET * (len(chosen) - 1 - number)
            panel.axhline(row + 1.0, color="0.85", linewidth=0.8, zorder=0)
            panel.plot(arm.wavelength, row + spectrum, color=_COLOURS[number], linewidth=0.6)
            if name == "R":  # where the red giants' spectra, too, leave room above
                text = f"{star}: {teff:g} K, log g {_plain(logg)}, [Fe/H] {_plain(feh)}, [α/Fe] {_plain(alpha)}"
                panel.text(arm.wavelength[20], row + 1.07, text, fontsize=9, va="bottom")
        panel.set_xlim(arm.wavelength[0], arm.wavelength[-1])
        panel.set_title(f"{ARM_TITLES[name]}, R = 7500", fontsize=10)
        panel.set_xlabel("Vacuum wavelength (Å)")
    panels[0].set_ylim(0.0, _OFFSET * (len(chosen) - 1) + 1.3)
    panels[0].set_ylabel("Flux / continuum" + (f", offset by {_OFFSET:g}" if len(chosen) > 1 else ""))
