"""One binary on a page: spectra of its epochs, velocities against each other and against phase, its period."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ArmName, doppler_factor
from twinlines.pipeline.binaries.sources.binary import Binary
from twinlines.pipeline.figures.canvas import BLUE_COLOUR, RED_COLOUR, new_figure
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.spectra.inference import ArmSpectra
from twinlines.pipeline.spectra.lines import LINES

Array = NDArray[np.float64]

STARS = (BLUE_COLOUR, RED_COLOUR)
"""Colours of star 1 and star 2."""

_WINDOWS: dict[ArmName, tuple[float, float, tuple[tuple[float, str], ...]]] = {
    # wavelengths from, to, and lines that are named (vacuum, NIST), Angstrom
    "B": (5161.0, 5192.5, LINES["B"]),
    "R": (6540.0, 6590.0, LINES["R"]),
}
_MOST = 12  # spectra that are drawn: more would be too small to be read
_CURVES = 60  # samples whose curves are drawn
_SMOOTH = 3  # pixels; a third of a resolution element
_BEYOND = 0.12  # of a turn, that is drawn again on either side
_SHORT = 2_450_000.0  # days that are taken off Julian dates
_MARKERS = ("o", "s")
_DAY = {"d": 1.0, "h": 24.0, "min": 1440.0, "s": 86400.0}


def binary(source: Binary, *, arm: str = "B", most: int = _MOST) -> Figure:
    """Draw all that is known of a binary: spectra, mass ratio, velocity curve, and the posterior of its period.

    Spectra stand in the order of phase by the likeliest orbit, or of time if there is none, in the frame of the
    systemic velocity; ticks mark where the lines of both stars are. Blends, whose stars are not told apart, have open
    symbols.

    Parameters
    ----------
    source
        What ``tw.open_binary`` or ``tw.solve_binary`` returned.
    arm
        The arm whose spectra are drawn: "B" (Mg b) or "R" (H-alpha).
    most
        Spectra that are drawn at most, those of a good S/N that are spread over the phases.

    Raises
    ------
    ValueError
        If there is no such arm, or ``most`` is below 1.

    Examples
    --------
    >>> import twinlines as tw
    >>> binary = tw.open_binary("S", 747412076)  # doctest: +SKIP
    >>> tw.plot.binary(binary).savefig("binary.png")  # doctest: +SKIP
    """
    if arm not in ARM_NAMES:
        raise ValueError(f"no arm is called {arm!r}; the arms are {ARM_NAMES}")
    if most < 1:
        raise ValueError(f"{most} spectra are to be drawn; give 1 or more")
    name: ArmName = "B" if arm == "B" else "R"
    spectra = _chosen(source, name, most)
    figure = new_figure(13.0, max(8.0, 2.0 + 0.62 * len(spectra)))
    halves = figure.add_gridspec(1, 2, width_ratios=(1.0, 1.05), wspace=0.03)
    panel = figure.add_subplot(halves[0])
    rows = halves[1].subgridspec(2, 2, height_ratios=(1.15, 1.0), hspace=0.06, wspace=0.06)
    curve = figure.add_subplot(rows[0, :])
    _draw_spectra(panel, source, name, spectra)
    _draw_curve(curve, source)
    _draw_line(figure.add_subplot(rows[1, 0]), source)
    _draw_period(figure.add_subplot(rows[1, 1]), source)
    figure.suptitle(_title(source), fontsize=12)
    return figure


def _title(source: Binary) -> str:
    row = source.table
    parts = [
        f"{source.name}     RA {float(row['ra'][0]):.4f}°  Dec {float(row['dec'][0]):+.4f}°",
        f"{int(row['epochs'][0])} exposures, {int(source.epochs.resolved.sum())} double",
    ]
    ratio, error = float(row["mass_ratio"][0]), float(row["mass_ratio_error"][0])
    if not np.isfinite(ratio):
        ratio, error = float(row["wilson_mass_ratio"][0]), float(row["wilson_mass_ratio_error"][0])
    if np.isfinite(ratio):
        parts.append(f"q = {_with_error(ratio, error)}")
    return "     ".join(parts)


def _gamma(source: Binary) -> float:
    """Systemic velocity, km/s, by the best that is known."""
    for name in ("center_of_mass_velocity", "wilson_velocity"):
        value = float(source.table[name][0])
        if np.isfinite(value):
            return value
    return float(source.epochs.velocity.mean())


def _chosen(source: Binary, name: ArmName, most: int) -> list[int]:
    """Rows of the exposures that are drawn, from the bottom of the panel to its top."""
    if source.spectra is None:
        return []
    snr = source.spectra["snr"].sel(arm=name).values.astype(np.float64)
    there = np.flatnonzero(snr > MINIMUM_SNR)
    time = source.exposures["bjdmid"].values
    there = there[np.isfinite(time[there])]
    # What shows the stars goes first, then what is exposed well.
    useful = np.isin(time, source.epochs.time)
    there = there[np.lexsort((-snr[there], ~useful[there]))]
    place = source.phase(time) if np.isfinite(source.period) else time
    if len(there) > most:
        there = _spread(there, place, most)
    return [int(row) for row in there[np.argsort(-place[there], kind="stable")]]


def _spread(rows: NDArray[np.int64], place: Array, most: int) -> NDArray[np.int64]:
    """The best rows, but no two that are nearer to each other than need be."""
    low, high = place[rows].min(), place[rows].max()
    cell = np.floor((place[rows] - low) / max(high - low, 1e-12) * (most - 1e-9)).astype(int)
    first = np.unique(cell, return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(rows)), first)
    return np.asarray(rows[np.sort(np.concatenate([first, rest])[:most])], np.int64)


@one_thread()
def _normalised(spectra: xr.Dataset, name: ArmName) -> tuple[Array, Array]:
    """Wavelengths and flux over continuum, as the inference sees them, (exposure, pixel) each."""
    observed = ArmSpectra.of(name, spectra).observe(name)
    return observed.wavelength.double().numpy(), observed.normalised.double().numpy()


def _draw_spectra(panel: Axes, source: Binary, name: ArmName, rows: Sequence[int]) -> None:
    low, high, lines = _WINDOWS[name]
    panel.set_xlim(low, high)
    panel.set_xlabel("Wavelength in the frame of the systemic velocity, vacuum (Å)")
    panel.set_yticks([])
    if not rows or source.spectra is None:
        panel.text(0.5, 0.5, "no spectrum of this arm", transform=panel.transAxes, ha="center", color="0.4")
        return
    gamma, phases = _gamma(source), source.phase(source.exposures["bjdmid"].values)
    wavelength, flux = _normalised(source.spectra.isel(exposure=list(rows)), name)
    wavelength = wavelength / doppler_factor(gamma)
    kernel = np.ones(_SMOOTH) / _SMOOTH
    shown = [(each >= low) & (each <= high) for each in wavelength]
    deep = [float(np.nanpercentile(each[mine], 2.0)) for each, mine in zip(flux, shown, strict=True) if mine.any()]
    step = float(np.clip(1.2 * (1.0 - np.median(deep or [0.4])) + 0.2, 0.5, 1.2))
    labels = []
    for number, row in enumerate(rows):
        base = step * number
        panel.axhline(base + 1.0, color="0.9", linewidth=0.8, zorder=0)
        mine = shown[number]
        smooth = np.convolve(np.nan_to_num(flux[number], nan=1.0), kernel, "same")
        panel.plot(
            wavelength[number][mine], base + np.clip(smooth[mine], 0.0, 1.0 + 0.35 * step), color="0.15", linewidth=0.9
        )
        velocities, certain = _velocities_at(source, row)
        for star, velocity in enumerate(velocities):
            places = np.array([place for place, _ in lines]) * doppler_factor(velocity - gamma)
            panel.vlines(
                *(places, base + 1.0 + 0.13 * step, base + 1.0 + 0.30 * step),
                color=STARS[star],
                linewidth=2.0 if certain else 1.2,
                linestyle="solid" if certain else (0, (1.2, 0.8)),
            )
        labels.append(_label(source, row, float(phases[row]), name))
    top = step * (len(rows) - 1) + 1.0 + 0.5 * step
    for place, label in lines:
        panel.text(place, top, label, ha="center", va="bottom", fontsize=8.5, color="0.35")
    panel.set_ylim(1.0 - step, top + 0.22 * step)
    panel.set_yticks([1.0 + step * number for number in range(len(rows))], labels, fontsize=8)
    panel.tick_params(axis="y", length=0.0)
    order = "phase" if np.isfinite(source.period) else "time"
    panel.set_title(
        f"{len(rows)} of {source.exposures.sizes['exposure']} exposures by {order}; beside: BJD − 2450000, S/N"
        f"\nFlux over continuum, each {step:.2f} higher; ticks: both stars' lines, dotted by the orbit",
        fontsize=9.5,
        loc="left",
    )


def _velocities_at(source: Binary, row: int) -> tuple[tuple[float, ...], bool]:
    """Velocities of both stars at an exposure, and whether they were measured rather than told by the orbit."""
    time = float(source.exposures["bjdmid"][row])
    (mine,) = np.nonzero((source.epochs.time == time) & source.epochs.resolved)
    if len(mine):
        return tuple(source.epochs.velocity[mine[0]].tolist()), True
    if np.isfinite(source.period):
        first, second = source.elements([0]).velocities(np.array([time]))
        return (float(first[0, 0]), float(second[0, 0])), False
    return (), False


def _label(source: Binary, row: int, phase: float, name: ArmName) -> str:
    assert source.spectra is not None
    snr = float(source.spectra["snr"].sel(arm=name).values[row])
    when = f"{float(source.exposures['bjdmid'][row]) - _SHORT:.3f}"
    return (f"phase {phase:.3f}\n" if np.isfinite(phase) else "") + f"{when}, S/N {snr:.0f}"


def _draw_points(panel: Axes, source: Binary, x: Array, *, label: bool = True) -> None:
    """Velocities of both stars against ``x``, (epoch,); blends open."""
    error = np.sqrt(np.diagonal(source.epochs.covariance, axis1=1, axis2=2))
    resolved = source.epochs.resolved
    for star, (colour, marker) in enumerate(zip(STARS, _MARKERS, strict=True)):
        panel.errorbar(
            *(x[resolved], source.epochs.velocity[resolved, star]),
            yerr=error[resolved, star],
            **_style(colour, marker),
            label=f"star {star + 1}" if label else None,
        )
    if (~resolved).any():
        panel.plot(
            *(x[~resolved], source.epochs.velocity[~resolved, 0], "D"),
            markersize=5.5,
            markerfacecolor="none",
            color="0.35",
            label="blend" if label else None,
            zorder=4,
        )


def _style(colour: str, marker: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "color": colour,
        "marker": marker,
        "markersize": 5.5,
        "zorder": 5,
        "elinewidth": 1.0,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
    }


def _draw_curve(panel: Axes, source: Binary) -> None:
    panel.set_ylabel("Radial velocity (km/s)")
    if not np.isfinite(source.period):
        _draw_points(panel, source, source.epochs.time - _SHORT)
        panel.axhline(_gamma(source), color="0.75", linewidth=0.8, zorder=0)
        panel.set_xlabel(f"BJD − {_SHORT:.0f} (days)")
        panel.set_title("Velocities; no orbit", fontsize=9.5, loc="left")
        panel.legend(fontsize=8, ncols=3, loc="best")
        return
    best = source.elements([0])
    turns = np.linspace(-_BEYOND, 1.0 + _BEYOND, 400)
    middle = 0.5 * (source.epochs.time.min() + source.epochs.time.max())
    start = middle - float(source.phase(np.array([middle]))[0]) * float(best.period[0])
    times = start + turns * float(best.period[0])
    mine = np.flatnonzero(source.samples["solution_id"].values == 0)
    some = mine[:: max(1, len(mine) // _CURVES)]
    for values, colour in zip(source.sampled().take(some).velocities(times), STARS, strict=True):
        panel.plot(turns, values.T, color=colour, alpha=0.07, linewidth=0.8, zorder=1)
    for values, colour in zip(best.velocities(times), STARS, strict=True):
        panel.plot(turns, values[0], color=colour, linewidth=1.5, zorder=2)
    phase = source.phase(source.epochs.time)
    _draw_points(panel, source, phase)
    panel.axhline(float(best.center_of_mass_velocity[0]), color="0.7", linewidth=0.8, zorder=0)
    for edge in (0.0, 1.0):
        panel.axvline(edge, color="0.85", linewidth=0.8, zorder=0)
    panel.set_xlim(-_BEYOND, 1.0 + _BEYOND)
    panel.set_xlabel("Phase, from star 1's largest velocity on")
    row = source.solutions.isel(solution=0)
    panel.set_title(
        f"P = {_with_error(float(row['period']), float(row['period_error']))} d    "
        f"e = {_with_error(float(row['eccentricity']), float(row['eccentricity_error']))}\n"
        f"K₁ = {_with_error(float(row['semi_amplitude_primary']), float(row['semi_amplitude_primary_error']))} km/s    "
        f"K₂ = {_with_error(float(row['semi_amplitude_secondary']), float(row['semi_amplitude_secondary_error']))} "
        f"km/s",
        fontsize=9.5,
        loc="left",
    )
    panel.legend(fontsize=8, ncols=3, loc="upper center")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.13 * (high - low))


def _draw_line(panel: Axes, source: Binary) -> None:
    """Star 2's velocity against star 1's, and the line on which all epochs of one binary lie."""
    resolved = source.epochs.resolved
    velocity = source.epochs.velocity[resolved]
    error = np.sqrt(np.diagonal(source.epochs.covariance[resolved], axis1=1, axis2=2))
    panel.errorbar(
        *(velocity[:, 0], velocity[:, 1]),
        **{"xerr": error[:, 0], "yerr": error[:, 1], **_style("0.2", "o")},
    )
    low, high = velocity.min() - 12.0, velocity.max() + 12.0
    panel.plot([low, high], [low, high], color="0.8", linewidth=0.9, linestyle="dashed", zorder=0)
    row = source.table.isel(source=0)
    ratio, gamma = float(row["wilson_mass_ratio"]), float(row["wilson_velocity"])
    title = "Mass ratio: not bounded"
    if np.isfinite(ratio) and ratio > 0.0:
        x = np.array([low, high])
        panel.plot(x, gamma - (x - gamma) / ratio, color="0.35", linewidth=1.3, zorder=2)
        panel.plot([gamma], [gamma], marker="+", color="0.2", markersize=9)
        title = f"q = {_with_error(ratio, float(row['wilson_mass_ratio_error']))} by this line alone"
    panel.set_title(title, fontsize=9.5, loc="left")
    panel.set_xlim(low, high)
    panel.set_ylim(low, high)
    panel.set_box_aspect(1.0)
    panel.set_xlabel("Velocity of star 1 (km/s)")
    panel.set_ylabel("Velocity of star 2 (km/s)")


def _draw_period(panel: Axes, source: Binary) -> None:
    if not np.isfinite(source.period):
        _write_limits(panel, source)
        return
    probability = source.solutions["mode_probability"].values
    period = source.solutions["period"].values
    known = float(source.solutions["ephemeris_period"][0])
    if source.samples.sizes["sample"] and probability[0] > 0.99:
        mine = source.samples["solution_id"].values == 0
        apart = source.samples["period"].values[mine] - period[0]
        unit = next((name for name, size in _DAY.items() if np.std(apart) * size >= 0.5), "s")
        panel.hist(apart * _DAY[unit], bins=36, color="0.55", edgecolor="white", linewidth=0.3)
        panel.set_xlabel(f"Period − {period[0]:.6f} d ({unit})")
        panel.set_ylabel("Samples")
        title = f"Period: {probability[0]:.0%} of the posterior"
        if np.isfinite(known):
            panel.axvline((known - period[0]) * _DAY[unit], color="0.1", linewidth=1.2, linestyle="dashed")
            title = "Period; dashed: the ephemeris'"
        panel.set_title(title, fontsize=9.5, loc="left")
        return
    panel.vlines(period, 0.0, probability, color="0.45", linewidth=2.0)
    panel.plot(period, probability, "o", color="0.45", markersize=4.0)
    panel.plot(period[:1], probability[:1], "o", color=BLUE_COLOUR, markersize=7.0, zorder=3)
    highest = float(probability[0])
    for place in range(min(3, len(period))):
        panel.annotate(
            f"{period[place]:.4g} d, {probability[place]:.0%}",
            (period[place], probability[place]),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=8,
        )
    panel.set_xscale("log")
    low, high = period.min(), period.max()
    panel.set_xlim(low / 1.6, high * 2.6)
    panel.set_ylim(0.0, 1.22 * highest)
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.set_xlabel("Period (days)")
    panel.set_ylabel("Probability")
    rest = 1.0 - float(probability.sum())
    more = f"; {rest:.0%} elsewhere" if rest > 0.005 else ""
    panel.set_title(f"Period: {int(source.solutions['modes'][0])} modes{more}", fontsize=9.5, loc="left")


def _write_limits(panel: Axes, source: Binary) -> None:
    panel.set_axis_off()
    lines = [f"{int(source.epochs.resolved.sum())} epochs with two velocities: no period"]
    if source.solutions.sizes["solution"]:
        row = source.solutions.isel(solution=0)
        lines = [
            f"{int(row['rv_n_obs_primary'])} epochs with two velocities, on {int(row['rv_n_nights'])} nights:",
            "too few for a period. Whatever it is:",
            "",
            f"(K₁ + K₂)(1 + e) > {float(row['limit_amplitude_sum']):.0f} km/s (95 %)",
            f"P < {float(row['limit_longest_period']):.3g} d if circular, for {float(row['limit_most_mass']):.0f} suns",
        ]
    panel.text(0.02, 0.9, "\n".join(lines), transform=panel.transAxes, va="top", fontsize=10, linespacing=1.5)


def _with_error(value: float, error: float) -> str:
    """A number with two digits of its error, which stands in parentheses' stead after a plus-minus sign."""
    if not (np.isfinite(error) and error > 0.0):
        return f"{value:.4g}"
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 8))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
