"""The page of one star: its epochs' spectra, correlations, probabilities, the two-star fit, velocities and orbit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from twinlines.models.threads import one_thread
from twinlines.pipeline.arms import ARM_NAMES, ArmName
from twinlines.pipeline.binaries.fits.store import shows_two
from twinlines.pipeline.binaries.sources.binary import Binary
from twinlines.pipeline.binaries.twostar.explained import explained
from twinlines.pipeline.report import charts
from twinlines.pipeline.report.charts import WINDOWS
from twinlines.pipeline.report.svg import Picture, sparkline
from twinlines.pipeline.schema import MINIMUM_SNR
from twinlines.pipeline.spectra.inference import ArmSpectra

Array = NDArray[np.float64]

_MOST = 12  # epochs that are drawn
_SHORT = 2_450_000.0


@dataclass(frozen=True)
class StarPage:
    """What is shown of one star."""

    thumbnail: str
    """Its best spectrum in the blue window, SVG."""
    pictures: tuple[Picture, ...]
    """What is drawn."""
    epochs: tuple[dict[str, str], ...]
    """A row of text for each exposure, by column."""


@one_thread()
def page(exposures: xr.Dataset, spectra: xr.Dataset, binary: Binary | None) -> StarPage:
    """Draw what is known of one star.

    Parameters
    ----------
    exposures
        Its rows of the catalog with the columns of their fits, by time.
    spectra
        Rows of :data:`twinlines.pipeline.schema.EXPOSURES` of these, in their order.
    binary
        What :func:`twinlines.open_binary` tells of it, if two sets of lines were told apart.
    """
    time = exposures["bjdmid"].values.astype(np.float64)
    phase = binary.phase(time) if binary is not None else np.full(len(time), np.nan)
    velocities = _velocities(exposures, binary)
    drawn = _chosen(exposures, spectra, phase, time)
    names = [_name(time[row], phase[row]) for row in drawn]
    best = _best(exposures, drawn)
    seen = {name: _normalised(spectra, name) for name in ARM_NAMES}
    pictures = [charts.spectra_chart(name, drawn, names, *seen[name], velocities) for name in ARM_NAMES]
    pictures += [charts.ccf_chart(name, spectra, drawn, names, velocities) for name in ARM_NAMES]
    pictures.append(charts.probability_chart(exposures))
    if binary is not None:
        pictures += [charts.line_chart(binary), charts.curve_chart(binary)]
    if best is not None and np.isfinite(float(exposures["rv2"].values[best])):
        told = explained(spectra.isel(exposure=[best]), exposures.isel(exposure=[best]))
        name_of_best = _name(time[best], np.nan)
        pictures += [charts.fit_chart(name, told[name][0], velocities[best], name_of_best) for name in ARM_NAMES]
    place = best if best is not None else drawn[0] if drawn else None
    return StarPage(
        thumbnail="" if place is None else _thumbnail(*seen["B"], place),
        pictures=tuple(chart.picture() for chart in pictures if chart is not None),
        epochs=tuple(_row(exposures, row, velocities[row], phase[row]) for row in range(len(time))),
    )


def _velocities(exposures: xr.Dataset, binary: Binary | None) -> Array:
    """Velocities of star 1 and star 2, (exposure, 2); NaN where two are not told apart."""
    velocities = np.full((exposures.sizes["exposure"], 2), np.nan)
    double = shows_two(exposures)
    for place, name in enumerate(("rv1", "rv2")):
        velocities[double, place] = exposures[name].values[double]
        if f"{name}_abs" in exposures:
            scaled = exposures[f"{name}_abs"].values
            velocities[:, place] = np.where(double & np.isfinite(scaled), scaled, velocities[:, place])
    if binary is not None:
        rows = np.searchsorted(exposures["bjdmid"].values, binary.epochs.time)
        for row, values, resolved in zip(rows, binary.epochs.velocity, binary.epochs.resolved, strict=True):
            if row < len(velocities) and resolved:
                velocities[row] = values
    return velocities


def _chosen(exposures: xr.Dataset, spectra: xr.Dataset, phase: Array, time: Array) -> list[int]:
    """Exposures that are drawn, the first at the bottom."""
    snr = spectra["snr"].values.astype(np.float64)
    bright = np.flatnonzero((snr > MINIMUM_SNR).any(axis=1))
    if len(bright) > _MOST:
        double = shows_two(exposures)
        worth = np.nansum(snr, axis=1) * np.where(double, 3.0, 1.0)
        bright = np.sort(bright[np.argsort(-worth[bright], kind="stable")[:_MOST]])
    order = np.where(np.isfinite(phase), phase, 0.0)
    return [int(row) for row in bright[np.lexsort((time[bright], order[bright]))]]


def _best(exposures: xr.Dataset, drawn: list[int]) -> int | None:
    """The exposure that shows two stars best, of those that are drawn."""
    if not drawn:
        return None
    gain = np.where(shows_two(exposures), np.nan_to_num(exposures["delta_chi2_diluted"].values), 0.0)
    return max(drawn, key=lambda row: (gain[row], float(np.nan_to_num(exposures["snr_B"].values[row]))))


def _name(time: float, phase: float) -> str:
    if np.isfinite(phase):
        return f"φ {phase:.2f}"
    return f"{time - _SHORT:.2f}" if np.isfinite(time) else "?"


def _normalised(spectra: xr.Dataset, name: ArmName) -> tuple[Array, Array]:
    """Wavelength and flux over continuum, (exposure, pixel) each."""
    seen = ArmSpectra.of(name, spectra).observe(name)
    return seen.wavelength.double().numpy(), seen.normalised.double().numpy()


def _thumbnail(wavelength: Array, flux: Array, row: int) -> str:
    window = WINDOWS["B"]
    inside = (wavelength[row] > window.low) & (wavelength[row] < window.high)
    values = flux[row][inside]
    return sparkline(values[:: max(1, len(values) // 110)], "Mg b lines of the best exposure")


def _row(exposures: xr.Dataset, row: int, velocities: Array, phase: float) -> dict[str, str]:
    """One exposure in words."""

    def said(value: float, digits: int, missing: str = "–") -> str:
        return f"{value:.{digits}f}" if np.isfinite(value) else missing

    def of(name: str) -> float:
        return float(exposures[name].values[row])

    def probability(head: str) -> str:
        if not exposures.sb2.has(head, 16):
            return "–"
        return said(float(exposures.sb2.probability(head).values[row]), 3)

    return {
        "BJD": said(of("bjdmid"), 4),
        "phase": said(phase, 3),
        "S/N B": said(of("snr_B"), 0),
        "S/N R": said(of("snr_R"), 0),
        "p J": probability("J"),
        "p B": probability("B"),
        "p R": probability("R"),
        "rv1 (km/s)": said(float(velocities[0]), 1),
        "rv2 (km/s)": said(float(velocities[1]), 1),
        "Δχ²": said(of("delta_chi2_diluted"), 0),
        "flux ratio B": said(of("flux_ratio_B"), 2),
        "obsid": str(int(exposures["obsid"].values[row])),
        "lmjm": str(int(exposures["lmjm"].values[row])),
    }
