"""What is drawn of one star: spectra, correlations, probabilities, velocities, and the fit of two stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.pipeline.arms import ArmName, doppler_factor
from twinlines.pipeline.binaries.sources.binary import Binary
from twinlines.pipeline.binaries.twostar.explained import Explained
from twinlines.pipeline.report.svg import Chart, within
from twinlines.pipeline.schema import COLOURS
from twinlines.pipeline.spectra.judging import ccf
from twinlines.pipeline.spectra.lines import TITLES, WAVELENGTHS

Array = NDArray[np.float64]

_STEP = 0.32  # between spectra, of the continuum
_REACH = 350.0  # km/s, of the correlations that are drawn
_SHORT = 2_450_000.0  # days that are taken off Julian dates
_CURVE = 200  # points of a velocity curve
_HEADS = (("J", "joint"), ("B", "blue"), ("R", "red"))


@dataclass(frozen=True)
class Window:
    """A part of an arm."""

    low: float
    """From, Angstrom in vacuum."""
    high: float
    """To."""
    lines: tuple[float, ...]
    """Lines in it, NIST's wavelengths in vacuum, Angstrom."""
    name: str
    """What it is called."""


WINDOWS: dict[ArmName, Window] = {
    "B": Window(5161.0, 5192.5, WAVELENGTHS["B"], TITLES["B"]),
    "R": Window(6545.0, 6585.0, WAVELENGTHS["R"], TITLES["R"]),
}


def spectra_chart(
    name: ArmName, drawn: list[int], names: list[str], wavelength: Array, flux: Array, velocities: Array
) -> Chart | None:
    """Spectra of epochs, one above the other; None if there is none."""
    window, there = WINDOWS[name], [row for row in drawn if np.isfinite(flux[row]).any()]
    if not there:
        return None
    top = 1.0 + _STEP * (len(there) - 1)
    inside = {row: (wavelength[row] > window.low) & (wavelength[row] < window.high) for row in there}
    lowest = min(float(np.nanpercentile(flux[there[0]][inside[there[0]]], 1.0)), 0.75)
    chart = Chart(
        *((window.low, window.high), (lowest - 0.05, top + 0.3)),
        what=f"{window.name}, {COLOURS[name]} arm: {len(there)} of {len(flux)} exposures, with both stars' lines",
        x_label="Heliocentric wavelength in vacuum (Å)",
        width=460.0,
        height=110.0 + 46.0 * len(there),
        y_ticks=False,
    )
    labels = dict(zip(drawn, names, strict=True))
    for level, row in enumerate(there):
        offset = _STEP * level
        chart.line(wavelength[row][inside[row]], flux[row][inside[row]] + offset, "flux")
        chart.aside(0.97 + offset, labels[row])
        for star, style in enumerate(("star1", "star2")):
            if np.isfinite(velocities[row, star]):
                for line in window.lines:
                    at = line * doppler_factor(velocities[row, star : star + 1])[0]
                    chart.tick(float(at), 1.03 + offset, style, 9.0)
    return chart


def ccf_chart(
    name: ArmName, spectra: xr.Dataset, drawn: list[int], names: list[str], velocities: Array
) -> Chart | None:
    """Correlation functions of epochs with the template that suits each best."""
    found = ccf(spectra.isel(exposure=drawn), name) if drawn else None
    if found is None:
        return None
    x = found["velocity"].values
    inside = np.flatnonzero(np.abs(x) <= _REACH)
    inside = inside[:: max(1, len(inside) // 180)]
    values = found.values[:, inside]
    # Broad lines correlate a little wherever they are: curves start at their own lowest level.
    lowest = np.where(
        np.isfinite(values).any(axis=1), np.nanmin(np.where(np.isfinite(values), values, np.inf), axis=1), 0.0
    )
    values = values - lowest[:, None]
    there = [place for place in range(len(drawn)) if np.isfinite(values[place]).any()]
    if not there:
        return None
    chart = Chart(
        *((-_REACH, _REACH), (-0.1, 1.0 + _STEP * len(there))),
        what=f"Correlation with the best template, {COLOURS[name]} arm, each from its lowest value on",
        x_label="Velocity (km/s)",
        width=460.0,
        height=110.0 + 46.0 * len(there),
        y_ticks=False,
    )
    for level, place in enumerate(there):
        row, offset = drawn[place], _STEP * level
        chart.line(x[inside], values[place] + offset, "flux")
        chart.aside(offset + float(np.nan_to_num(values[place][0])), names[place])
        for star, style in enumerate(("star1", "star2")):
            at = velocities[row, star]
            if abs(at) < _REACH:
                peak = float(np.interp(at, x[inside], values[place])) + offset
                chart.tick(float(at), peak + 0.04, style, 9.0)
    return chart


def probability_chart(exposures: xr.Dataset) -> Chart:
    """Binary probabilities of exposures, by time."""
    turn = np.arange(1, exposures.sizes["exposure"] + 1)
    chart = Chart(
        *((0.4, len(turn) + 0.6), (-0.03, 1.05)),
        what="Binary probability of every exposure (median, 16 to 84 per cent)",
        x_label="Exposure, by time",
        y_label="p, penalty 16",
        width=460.0,
    )
    chart.level(0.5, "guide")
    for shift, (head, style) in zip((0.0, -0.14, 0.14), _HEADS, strict=True):
        if not exposures.sb2.has(head, 16):
            continue
        low, middle, high = (
            exposures.sb2.probability(head, percentile=which).values.astype(np.float64) for which in (16, 50, 84)
        )
        chart.points(
            turn + shift,
            middle,
            style,
            radius=3.2 if head == "J" else 2.2,
            titles=[f"{name}: {each:.3f}" for name, each in zip([head] * len(turn), middle, strict=True)],
        )
        for place in np.flatnonzero(np.isfinite(low) & np.isfinite(high)):
            chart.line([turn[place] + shift] * 2, [low[place], high[place]], f"{style} bar")
    return chart


def line_chart(binary: Binary) -> Chart:
    """Star 2's velocity against star 1's, and the line of one binary."""
    resolved = binary.epochs.resolved
    velocity = binary.epochs.velocity[resolved]
    error = np.sqrt(np.diagonal(binary.epochs.covariance[resolved], axis1=1, axis2=2))
    limits = within(velocity, 0.1)
    ratio = float(binary.table["wilson_mass_ratio"].values[0])
    gamma = float(binary.table["wilson_velocity"].values[0])
    what = "Velocities of both stars"
    if np.isfinite(ratio) and ratio > 0.0:
        what += f": mass ratio {ratio:.3f} ± {float(binary.table['wilson_mass_ratio_error'].values[0]):.3f}"
    chart = Chart(
        limits, limits, what=what, x_label="Star 1 (km/s)", y_label="Star 2 (km/s)", width=460.0, height=300.0
    )
    chart.line(limits, limits, "guide")
    if np.isfinite(ratio) and ratio > 0.0:
        x = np.linspace(*limits, 80)
        y = gamma - (x - gamma) / ratio
        chart.line(x, np.where((y >= limits[0]) & (y <= limits[1]), y, np.nan), "model")
    chart.points(velocity[:, 0], velocity[:, 1], "joint", x_error=error[:, 0], error=error[:, 1])
    return chart


def curve_chart(binary: Binary) -> Chart:
    """Velocities against phase by the likeliest orbit, or against time."""
    epochs = binary.epochs
    error = np.sqrt(np.diagonal(epochs.covariance, axis1=1, axis2=2))
    period = binary.period
    if np.isfinite(period):
        best = binary.elements([0])
        phase = binary.phase(epochs.time)
        grid = np.linspace(0.0, 1.0, _CURVE)
        start = epochs.time[0] - phase[0] * period
        curves = [np.asarray(each[0]) for each in best.velocities(start + grid * period)]
        row = binary.solutions.isel(solution=0)
        what = (
            f"P = {period:.5f} d ({float(row['mode_probability']):.0%} of the posterior), "
            f"e = {float(row['eccentricity']):.2f}, K = {float(row['semi_amplitude_primary']):.1f} and "
            f"{float(row['semi_amplitude_secondary']):.1f} km/s"
        )
        y = within(np.concatenate([*curves, epochs.velocity.ravel()]))
        chart = Chart((0.0, 1.0), y, what=what, x_label="Phase", y_label="Velocity (km/s)", width=460.0, height=300.0)
        for curve, style in zip(curves, ("star1", "star2"), strict=True):
            chart.line(grid, curve, f"{style} curve")
        x = phase
    else:
        x = epochs.time - _SHORT
        chart = Chart(
            within(x),
            within(epochs.velocity),
            what="Velocities against time; no period is known",
            x_label="BJD − 2450000",
            y_label="Velocity (km/s)",
            width=460.0,
            height=300.0,
        )
    for star, style in enumerate(("star1", "star2")):
        shown = epochs.resolved
        chart.points(x[shown], epochs.velocity[shown, star], style, error=error[shown, star])
        chart.points(x[~shown], epochs.velocity[~shown, star], f"{style} hollow", radius=2.6)
    return chart


def fit_chart(name: ArmName, fit: Explained | None, velocities: Array, epoch: str) -> Chart | None:
    """An arm of the best exposure with the light of two stars, and what is left, below."""
    if fit is None:
        return None
    step = max(1, len(fit.wavelength) // 900)
    low = float(np.nanpercentile(fit.flux, 0.3))
    floor, room = low - 0.42, 0.16
    chart = Chart(
        *((float(fit.wavelength[0]), float(fit.wavelength[-1])), (floor, 1.18)),
        what=f"Two stars fitted to the {COLOURS[name]} arm at {epoch}; below, residuals (band: 3 σ)",
        x_label="Heliocentric wavelength in vacuum (Å)",
        y_label="Flux over continuum",
        width=940.0,
        height=300.0,
    )
    chart.line(fit.wavelength[::step], fit.model[::step], "model")
    chart.line(fit.wavelength[::step], fit.flux[::step], "flux")
    middle = floor + room
    for sigma in (-3.0, 0.0, 3.0):
        chart.level(middle + sigma / 3.0 * 0.5 * room, "guide")
    scaled = middle + np.clip(fit.residual, -6.0, 6.0) / 3.0 * 0.5 * room
    chart.line(fit.wavelength[::step], scaled[::step], "residual")
    for star, style in enumerate(("star1", "star2")):
        if np.isfinite(velocities[star]):
            for line in WINDOWS[name].lines:
                at = float(line * doppler_factor(velocities[star : star + 1])[0])
                chart.tick(at, 1.12, style, 10.0)
    return chart
