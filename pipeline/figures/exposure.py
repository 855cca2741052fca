"""One exposure at a glance: lines at rest, what was repaired, the cross-correlation, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ARMS, ArmName, doppler_factor
from twinlines.pipeline.figures.canvas import verbatim
from twinlines.pipeline.library.library import Library
from twinlines.pipeline.schema import CATALOG_PENALTIES, JOINT
from twinlines.pipeline.spectra.broadening import broaden_and_shift
from twinlines.pipeline.spectra.continuum import normalise
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.judging import exposures_of, judge
from twinlines.pipeline.spectra.lines import LINES
from twinlines.pipeline.spectra.preprocess import CUSHION
from twinlines.pipeline.spectra.quality import explain
from twinlines.pipeline.spectra.templates import Templates
from twinlines.pipeline.spectra.velocity import Correlation, correlate

SPECTRUM, TEMPLATE, REPAIRED = "0.15", "#0072B2", "#D55E00"
"""Colours: near black; blue and vermilion of Okabe and Ito (2008)."""


@dataclass(frozen=True)
class _Window:
    title: str
    low: float
    high: float
    lines: tuple[tuple[float, str], ...]  # rest wavelengths in vacuum (NIST), Angstrom, and what stands at them


_WINDOWS: dict[ArmName, _Window] = {
    "B": _Window("Mg b, blue arm", 5145.0, 5210.0, LINES["B"]),
    "R": _Window("Hα, red arm", 6530.0, 6600.0, LINES["R"]),
}
_HIGHEST = 1.3
"""Flux over continuum at the top of a panel."""

_LOWEST = -0.2
"""Flux over continuum below which nothing is drawn."""

_ROOM = 0.62
"""Room for the correlation and the words, in units of what the spectrum takes."""


def exposure(
    spectrum: xr.Dataset,
    verdict: xr.Dataset | None = None,
    axes: Sequence[Axes] | None = None,
    *,
    penalty: int = 16,
) -> tuple[Axes, Axes]:
    """Draw one exposure: Mg b and H-alpha at rest, the correlation with the best template, and the verdict in words.

    Parameters
    ----------
    spectrum
        One row of :data:`twinlines.pipeline.schema.EXPOSURES`, with or without its dimension.
    verdict
        Rows of results or of a catalog, the exposure's among them; without, the exposure is judged here.
    axes
        Two axes to draw in, for the blue and the red arm; without, pyplot makes a figure of them.
    penalty
        Which penalty's probabilities count: 8, 16 or 32.

    Returns
    -------
    tuple
        The two axes; ``axes[0].figure`` is the figure.

    Raises
    ------
    SchemaError
        If ``spectrum`` is no exposure.
    ValueError
        If it is several, the verdict has no row of it, or there is no such penalty.

    Examples
    --------
    >>> import twinlines as tw
    >>> axes = tw.plot.exposure(spectra.isel(exposure=0), verdict)  # doctest: +SKIP
    >>> axes[0].figure.savefig("verdict.png")  # doctest: +SKIP
    """
    spectrum = exposures_of(spectrum)
    if spectrum.sizes["exposure"] != 1:
        raise ValueError(f"{spectrum.sizes['exposure']} exposures; draw one, such as spectra.isel(exposure=0)")
    if penalty not in CATALOG_PENALTIES:
        raise ValueError(f"there is no penalty {penalty}; the penalties are {CATALOG_PENALTIES}")
    row = judge(spectrum).isel(exposure=0) if verdict is None else _row_of(spectrum, verdict)
    blue, red = _axes(spectrum, row, penalty) if axes is None else axes
    for name, panel in zip(ARM_NAMES, (blue, red), strict=True):
        _draw(panel, name, spectrum, row, penalty)
    return blue, red


def _row_of(spectrum: xr.Dataset, verdict: xr.Dataset) -> xr.Dataset:
    """The verdict's row of an exposure."""
    if "exposure" not in verdict.dims:
        verdict = verdict.expand_dims("exposure")
    obsid, lmjm = (int(spectrum[name].values[0]) for name in ("obsid", "lmjm"))
    rows = np.flatnonzero((verdict["obsid"].values == obsid) & (verdict["lmjm"].values == lmjm))
    if not rows.size:
        raise ValueError(f"the verdict has no row of obsid {obsid}, lmjm {lmjm}; judge the exposure, or leave it out")
    return verdict.isel(exposure=int(rows[0]))


def _axes(spectrum: xr.Dataset, row: xr.Dataset, penalty: int) -> tuple[Axes, Axes]:
    from matplotlib import pyplot

    figure, (blue, red) = pyplot.subplots(2, 1, figsize=(9.0, 8.4), layout="constrained")
    obsid, lmjm, source = (spectrum[name].values[0] for name in ("obsid", "lmjm", "source_file"))
    both = float(row[f"pb_pct_{JOINT}_{penalty}"].sel(percentile=50))
    figure.suptitle(
        f"obsid {obsid}, lmjm {lmjm}{'  ·  ' + verbatim(source) if source else ''}\n"
        + (f"both arms together: binary probability {both:.3f}" if np.isfinite(both) else "no verdict of both arms"),
        fontsize=10,
    )
    return blue, red


@dataclass(frozen=True)
class _Seen:
    """One arm as it is drawn, (pixel,) each, in the frame that is drawn."""

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]  # over continuum, repaired
    sigma: NDArray[np.float64]
    stored: NDArray[np.float64]  # over continuum, as it was
    bad: NDArray[np.bool_]
    correlation: Correlation


@one_thread()
def _seen(name: ArmName, spectrum: xr.Dataset, velocity: float) -> _Seen:
    """An arm of an exposure, moved to rest by a velocity in km/s, as the inference sees it."""
    arrays = ArmSpectra.of(name, spectrum)
    observed = arrays.observe(name)
    wavelength, repaired, normalised, sigma = (
        tensor.numpy()[0].astype(np.float64)
        for tensor in (observed.wavelength, observed.flux, observed.normalised, observed.normalised_sigma)
    )
    order = np.argsort(arrays.loglam[0], kind="stable")[CUSHION:-CUSHION]
    with np.errstate(divide="ignore", invalid="ignore"):
        stored = arrays.flux[0][order] / (repaired / normalised)
    correlation = correlate(
        *(name, observed.wavelength, observed.normalised, observed.normalised_sigma, Templates.default(), observed.bad)
    )
    bad = observed.bad.numpy()[0]
    return _Seen(wavelength / doppler_factor(velocity), normalised, sigma, stored, bad, correlation)


@one_thread()
def _template(name: ArmName, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """A template's flux over continuum on the library's wavelengths."""
    flux = torch.from_numpy(Library.load().flux(name, labels[None, :4])).double()
    flux = broaden_and_shift(flux / flux.mean(), torch.tensor([labels[4]], dtype=torch.float64), torch.zeros(1))
    normalised, _ = normalise(torch.from_numpy(ARMS[name].library_wavelength), flux)
    return np.asarray(normalised.numpy()[0])


def _draw(panel: Axes, name: ArmName, spectrum: xr.Dataset, row: xr.Dataset, penalty: int) -> None:
    window = _WINDOWS[name]
    velocity = float(row[f"rv_obs_{name}"])
    at_rest = bool(np.isfinite(velocity))
    seen = _seen(name, spectrum, velocity if at_rest else 0.0)
    shown = (seen.wavelength >= window.low) & (seen.wavelength <= window.high) & np.isfinite(seen.flux)
    lowest = float(np.clip(seen.flux[shown].min(), _LOWEST, 0.85)) if shown.any() else 0.0
    panel.set_xlim(window.low, window.high)
    panel.set_ylim(lowest - 0.08 - _ROOM * (_HIGHEST - lowest), _HIGHEST + 0.12)
    panel.set_title(window.title, fontsize=10, loc="left")
    panel.set_xlabel(f"Wavelength, vacuum, {'at rest' if at_rest else 'as observed: no velocity'} (Å)", fontsize=9)
    panel.set_ylabel("Flux / continuum", fontsize=9, loc="top")
    panel.set_yticks([tick for tick in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25) if tick >= lowest - 0.05])
    panel.tick_params(labelsize=9)
    words = _words(row, name, penalty)
    if not shown.any():
        panel.text(0.5, 0.5, words, transform=panel.transAxes, ha="center", va="center", fontsize=10)
        return
    # Lines of a template that explains little are deep enough to run through the words.
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 2.0, "alpha": 0.9}
    place: dict[str, Any] = {"transform": panel.transAxes, "va": "bottom", "zorder": 5}
    panel.text(0.55, 0.03, words, fontsize=9, linespacing=1.45, bbox=behind, **place)
    for wavelength, label in window.lines if at_rest else ():
        panel.axvline(wavelength, ymin=0.42, ymax=0.925, color="0.85", linewidth=0.8, zorder=0)
        panel.text(wavelength, _HIGHEST, label, ha="center", va="bottom", fontsize=8, color="0.35")
    labels = seen.correlation.labels[0]
    if at_rest and np.isfinite(labels).all():
        panel.plot(
            *(ARMS[name].library_wavelength, _template(name, labels)),
            color=TEMPLATE,
            linewidth=1.0,
            alpha=0.75,
            label=f"template, {labels[0]:.0f} K" + (f", {labels[4]:.0f} km/s" if labels[4] else ""),
        )
    x, y, sigma = (values[shown] for values in (seen.wavelength, seen.flux, seen.sigma))
    low, middle, high = (np.clip(values, lowest, _HIGHEST + 0.2) for values in (y - sigma, y, y + sigma))
    panel.fill_between(x, low, high, step="mid", color="0.87", linewidth=0.0, zorder=1)
    panel.step(x, middle, where="mid", color=SPECTRUM, linewidth=0.9, label="spectrum")
    bad = seen.bad[shown]
    if bad.any():
        panel.plot(
            x[bad], middle[bad], linestyle="", marker="o", markersize=3.0, color=REPAIRED, label="masked or repaired"
        )
        before = np.clip(seen.stored[shown][bad], lowest, _HIGHEST)
        panel.plot(x[bad], before, linestyle="", marker="x", markersize=4.0, color=REPAIRED, label="as stored")
    # Beside the title: within the panel it would hide lines' names.
    panel.legend(loc="lower right", bbox_to_anchor=(1.01, 0.985), fontsize=8, ncols=4, columnspacing=1.2, frameon=False)
    if np.isfinite(seen.correlation.coefficient).all():
        _draw_correlation(panel.inset_axes((0.06, 0.07, 0.43, 0.24)), seen.correlation, velocity)


def _draw_correlation(inset: Axes, correlation: Correlation, velocity: float) -> None:
    (coefficient,) = correlation.coefficient
    inset.plot(correlation.velocity, coefficient, color=SPECTRUM, linewidth=0.9)
    centre = velocity if np.isfinite(velocity) else 0.0
    inset.set_xlim(centre - 400.0, centre + 400.0)
    if np.isfinite(velocity):
        inset.axvline(velocity, color=TEMPLATE, linewidth=0.8, zorder=0)
    highest = float(coefficient.max())
    inset.set_ylim(min(-0.1, float(coefficient.min())), 1.25 * highest if highest > 0.0 else 0.1)
    inset.set_title("correlation against velocity (km/s)", fontsize=8, pad=2.5)
    inset.tick_params(labelsize=7, length=2.0)


def _words(row: xr.Dataset, name: ArmName, penalty: int) -> str:
    """The verdict on one arm."""
    quality = int(row[f"quality_{name}"])
    lowest, _, median, _, highest = (float(value) for value in row[f"pb_pct_{name}_{penalty}"].values)
    lines = []
    if np.isfinite(median):
        verdict = (
            "Two stars" if lowest > 0.5 else "Probably two stars" if median > 0.5 else "One star, as far as is seen"
        )
        lines += [verdict, f"binary probability {median:.3f} ({lowest:.3f} to {highest:.3f})"]
    else:
        lines.append(f"No verdict: {explain(quality)}")
    if np.isfinite(float(row[f"rv_obs_{name}"])):
        lines.append(f"velocity {float(row[f'rv_obs_{name}']):.2f} ± {float(row[f'rv_obs_err_{name}']):.2f} km/s")
    snr = float(row[f"snr_{name}"])
    if np.isfinite(snr):
        bad = f", {int(row[f'npixbad_{name}'])} bad pixels" if np.isfinite(median) else ""
        lines.append(f"S/N {snr:.1f}{bad}")
    if np.isfinite(median) and quality:
        lines.append(explain(quality))
    return "\n".join(lines)
