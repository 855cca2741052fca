"""Figures of a training set: what was drawn, what was kept, how a binary's spectrum comes about, and twenty pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure, save
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import PAIRS, POPULATIONS
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.stars.tracks import Tracks
from twinlines.pipeline.storage import stores
from twinlines.pipeline.synthesis.population import PARAMETERS
from twinlines.pipeline.synthesis.spectra import Stars, component
from twinlines.pipeline.training.recipe import TrainingSet

_SEED = 1
_POINTS = 1000
_SHOWN = 20
_AGES = (0.1e9, 1.0e9, 5.0e9, 10.0e9)
_COLUMNS = {"feh": "feh1", "alpha": "alpha1", "snr": "snr_B"}  # where a parameter has another name in the store
_TITLES = {
    "mass1": "$m_1$ (M$_\\odot$)",
    "mass_ratio": "$q$",
    "feh": "[Fe/H]",
    "alpha": "[α/Fe]",
    "eep1": "EEP$_1$",
    "vsini1": "$v \\sin i$, primary (km s$^{-1}$)",
    "vsini2": "$v \\sin i$, secondary (km s$^{-1}$)",
    "velocity1": "$v_1$ (km s$^{-1}$)",
    "separation": "Δ$v$ (km s$^{-1}$)",
    "snr": "S/N, blue",
    "red_snr": "S/N, red over blue",
}


def write(store: Path, training_set: TrainingSet, folder: Path) -> list[Path]:
    """Draw the figures of a training set into ``folder``, and return their paths.

    Parameters
    ----------
    store
        The pairs.
    training_set
        What they were made of.
    folder
        Where the figures go; made if there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracks, library = Tracks.load(training_set.tracks), Library.load(training_set.library)
    scalar = [name for name, variable in PAIRS.variables.items() if variable.dims == (PAIRS.row,)]
    with stores.open_store(store, PAIRS) as pairs:
        scalars = pairs[scalar].load()
        figures = {
            "states": states(scalars, tracks),
            "synthesis": synthesis(tracks, library),
            "priors": marginals(scalars, training_set),
            **{f"pairs_{name}": twenty(pairs, name) for name in ARM_NAMES},
        }
        return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def states(pairs: xr.Dataset, tracks: Tracks) -> Figure:
    """Figure 1 of Zhang et al. (2022): both stars of random binaries in Teff and log g, by luminosity ratio."""
    coeval = np.flatnonzero(pairs["population"].values == 0)
    rows = np.random.default_rng(_SEED).permutation(coeval)[:_POINTS]
    shown = pairs.isel(pair=np.sort(rows))
    figure = new_figure(11.0, 5.6)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    ratio = np.log10(shown["luminosity_ratio"].values)
    order = np.argsort(ratio)
    for panel, star, title in zip(panels, "12", ("Primaries", "Secondaries"), strict=True):
        _isochrones(panel, tracks)
        teff, logg = (shown[f"{name}{star}"].values[order] for name in ("teff", "logg"))
        points = panel.scatter(teff, logg, c=ratio[order], s=9, cmap="viridis", vmin=-4.0, vmax=0.0, zorder=2)
        panel.set_title(f"{title} of {len(rows)} random binaries", fontsize=10)
        panel.set_xlabel("$T_{\\mathrm{eff}}$ (K)")
    panels[0].set_ylabel("log $g$")
    panels[0].invert_xaxis()
    panels[0].invert_yaxis()
    panels[0].legend(loc="upper left", fontsize=8, title="[Fe/H] = 0", title_fontsize=8)
    figure.colorbar(points, ax=panels, label="log$_{10}$ $L_2 / L_1$", extend="min", pad=0.01)
    return figure


def _isochrones(panel: Axes, tracks: Tracks) -> None:
    mass = np.linspace(tracks.mesh.mass[0], tracks.mesh.mass[-1], 4000)
    feh = float(np.clip(0.0, tracks.mesh.feh[0], tracks.mesh.feh[-1]))
    for age, grey in zip(_AGES, ("0.75", "0.6", "0.4", "0.0"), strict=True):
        eep, _ = tracks.eep_at_age(mass, feh, age)
        state = tracks.state(mass, feh, eep)
        panel.plot(state.teff, state.logg, color=grey, linewidth=1.0, label=f"{age / 1e9:g} Gyr", zorder=1)


def synthesis(
    tracks: Tracks,
    library: Library,
    mass: float = 1.0,
    mass_ratio: float = 0.9,
    age: float = 5.0e9,
    separation: float = 100.0,
) -> Figure:
    """Figure 2 of Zhang et al. (2022): a primary, a secondary and their sum, before and after normalisation.

    Parameters
    ----------
    tracks, library
        Where states and spectra come from.
    mass, mass_ratio, age, separation
        Initial mass of the primary (solar masses), q, age (years) and velocity separation (km/s); the defaults are the
        paper's.
    """
    masses = np.array([mass, mass * mass_ratio])
    feh = float(np.clip(0.0, tracks.mesh.feh[0], tracks.mesh.feh[-1]))
    eep, _ = tracks.eep_at_age(masses, feh, age)
    state = tracks.state(masses, feh, eep)
    labels = np.stack([state.teff, state.logg, np.full(2, feh), np.zeros(2)], axis=1)
    stars = Stars(labels, state.radius, np.full(2, 5.0), np.array([0.0, separation]))
    figure = new_figure(13.0, 6.5)
    panels = figure.subplots(2, 2, sharex="col")
    for column, name in zip(panels.T, ARM_NAMES, strict=True):
        _two_stars(column, name, library, stars)
    panels[0, 0].set_ylabel("$F R^2$, relative")
    panels[1, 0].set_ylabel("Flux / continuum")
    panels[1, 0].legend(loc="lower right", fontsize=8, ncols=2)
    what = f"{mass:g} M$_\\odot$ and q = {mass_ratio:g} at {age / 1e9:g} Gyr, [Fe/H] = {feh:g}"
    figure.suptitle(f"{what}, Δv = {separation:g} km s$^{{-1}}$", fontsize=11)
    return figure


def _two_stars(panels: NDArray[np.object_], name: ArmName, library: Library, stars: Stars) -> None:
    arm = ARMS[name]
    light = component(arm, library, stars).double()
    spectra = torch.cat([light, light.sum(dim=0, keepdim=True)])
    normalised, _ = normalise(torch.from_numpy(arm.wavelength), spectra)
    colours = (BLUE_COLOUR, RED_COLOUR, "0.0")
    for row, (label, colour) in enumerate(zip(("primary", "secondary", "binary"), colours, strict=True)):
        panels[0].plot(arm.wavelength, spectra[row] / light[0].max(), color=colour, linewidth=0.6)
        if label != "secondary":
            panels[1].plot(arm.wavelength, normalised[row], color=colour, linewidth=0.7, label=label)
    panels[0].set_ylim(0.0, None)
    panels[1].set_xlabel("Vacuum wavelength (Å)")
    panels[1].set_xlim(arm.wavelength[0], arm.wavelength[-1])


def marginals(pairs: xr.Dataset, training_set: TrainingSet) -> Figure:
    """Distribution of each free parameter among the pairs of Table 1's population, and its prior."""
    figure = new_figure(13.0, 5.8)
    panels = figure.subplots(2, 6)
    of_table1 = pairs.isel(pair=pairs["population"].values == 0)
    columns = {name: of_table1[_COLUMNS.get(name, name)].values for name in PARAMETERS if name != "red_snr"}
    columns["red_snr"] = of_table1["snr_R"].values / of_table1["snr_B"].values
    panels[1, 5].set_axis_off()  # eleven parameters
    for panel, name in zip(panels.ravel(), PARAMETERS, strict=False):
        prior = getattr(training_set.priors, name).quantile((np.arange(100_000) + 0.5) / 100_000)
        edges = np.histogram_bin_edges(prior, 30)
        options = {"bins": edges, "density": True, "histtype": "step"}
        panel.hist(prior, color="0.6", linestyle="--", label="prior", **options)
        panel.hist(columns[name], color=BLUE_COLOUR, label="pairs", **options)
        panel.set_xlabel(_TITLES[name])
        panel.set_yticks([])
    panels[0, 0].legend(loc="lower left", fontsize=8)
    figure.suptitle(f"{of_table1.sizes['pair']} pairs of population {POPULATIONS[0]}", fontsize=11)
    return figure


def twenty(pairs: xr.Dataset, name: ArmName) -> Figure:
    """Twenty random pairs in one arm: the binary over its single star."""
    count = pairs.sizes["pair"]
    rows = np.sort(np.random.default_rng(_SEED).permutation(count)[:_SHOWN])
    shown = pairs.isel(pair=rows).load()
    wavelength = ARMS[name].wavelength
    figure = new_figure(16.0, 1.1 * len(rows) + 1.0)
    panel = figure.subplots()
    for place, row in enumerate(range(len(rows))):
        pair, base = shown.isel(pair=row), -1.0 * place
        single, binary = np.clip(pair[f"flux_{name}"].values, 0.2, 1.5)
        panel.plot(wavelength, base + single, color=BLUE_COLOUR, linewidth=0.5)
        panel.plot(wavelength, base + binary, color=RED_COLOUR, linewidth=0.5)
        panel.text(wavelength[-1] + 1.0, base + 1.0, _caption(pair, name), fontsize=7, va="center")
    panel.set_xlim(wavelength[0], wavelength[-1] + 0.16 * (wavelength[-1] - wavelength[0]))
    panel.set_ylim(1.2 - len(rows) - 0.2, 1.7)
    panel.set_yticks([])
    panel.set_xlabel("Vacuum wavelength (Å)")
    panel.set_title("Noisy flux over continuum: single star (blue) and binary (orange)", fontsize=10)
    return figure


def _caption(pair: xr.Dataset, name: ArmName) -> str:
    names = ("teff1", "logg1", "teff2", "feh1", "vsini1", "vsini2", "separation", f"snr_{name}")
    value = {key: float(pair[key]) for key in names}
    population, ratio = POPULATIONS[int(pair["population"])], float(pair[f"flux_ratio_{name}"])
    first = f"{population}: {value['teff1']:.0f} K, {value['logg1']:.1f}, [Fe/H] {value['feh1']:.1f}"
    speed = f"vsini {value['vsini1']:.0f}"
    if not np.isfinite(ratio):
        return f"{first}\n{speed}, S/N {value[f'snr_{name}']:.0f}"
    second = f"+ {value['teff2']:.0f} K, flux ratio {ratio:.2f}, Δv {value['separation']:.0f}"
    return f"{first}\n{second}\n{speed}, {value['vsini2']:.0f}, S/N {value[f'snr_{name}']:.0f}"
