"""What a report says of the whole catalog: what ran, how many of what, and pictures of probabilities, S/N and sky."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from twinlines.pipeline.arms import ARM_NAMES
from twinlines.pipeline.report.svg import Chart, Picture
from twinlines.pipeline.schema import COLOURS, JOINT, Quality

_CELL = 6.0  # degrees, of the sky's map


@dataclass(frozen=True)
class WholeCatalog:
    """The whole catalog in a few words and pictures."""

    ran: tuple[tuple[str, str], ...]
    """What made the catalog: names and values."""
    counts: tuple[tuple[str, int], ...]
    """How many of what."""
    charts: tuple[Picture, ...]
    """Pictures."""


def overview(catalog: xr.Dataset) -> WholeCatalog:
    """Summarise a catalog, reading one column at a time.

    Parameters
    ----------
    catalog
        What :func:`twinlines.open_catalog` returned.
    """
    return WholeCatalog(_ran(catalog.attrs), _counts(catalog), tuple(chart.picture() for chart in _charts(catalog)))


def _ran(attrs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    parameters = json.loads(attrs.get("parameters", "{}"))
    releases = attrs.get("releases", [])
    said = {
        "Catalog": attrs.get("name", ""),
        "Published": str(attrs.get("created", ""))[:19].replace("T", " "),
        "Releases": ", ".join([releases] if isinstance(releases, str) else releases),
        "Weights": str(attrs.get("weights_digest", ""))[:16],
        "Parameters": ", ".join(f"{name} {value}" for name, value in parameters.items()),
        "twinlines": str(attrs.get("twinlines", "")),
    }
    return tuple((name, value) for name, value in said.items() if value)


def _counts(catalog: xr.Dataset) -> tuple[tuple[str, int], ...]:
    rows = catalog.sizes["exposure"]
    counts = [("Exposures", rows)]
    judged = np.zeros(rows, bool)
    for arm in ARM_NAMES:
        mine = np.isfinite(catalog.sb2.probability(arm).values) if catalog.sb2.has(arm, 16) else np.zeros(rows, bool)
        counts.append((f"with a verdict of the {COLOURS[arm]} arm", int(mine.sum())))
        judged |= mine
    if catalog.sb2.has(JOINT, 16):
        both = np.isfinite(catalog.sb2.probability(JOINT).values)
        counts.append(("with a verdict of both arms together", int(both.sum())))
    counts.append(("without a verdict", int((~judged).sum())))
    for bit, words in ((Quality.LOW_SNR, "S/N too low"), (Quality.NO_ARM, "arm absent")):
        for arm in ARM_NAMES:
            number = int(np.count_nonzero(catalog[f"quality_{arm}"].values & bit))
            counts.append((f"{COLOURS[arm]} arm: {words}", number))
    counts.append(("unlike any star, or two, of the library", int(catalog.sb2.is_unfamiliar().sum()) if rows else 0))
    return tuple(counts)


def _charts(catalog: xr.Dataset) -> list[Chart]:
    if not catalog.sizes["exposure"]:
        return []
    head = JOINT if catalog.sb2.has(JOINT, 16) else "B"
    probability = catalog.sb2.probability(head).values.astype(np.float64)
    return [_probabilities(probability, head), _by_snr(catalog, probability), _sky(catalog)]


def _probabilities(probability: np.ndarray[Any, np.dtype[np.float64]], head: str) -> Chart:
    edges = np.linspace(0.0, 1.0, 41)
    counts = np.histogram(probability[np.isfinite(probability)], edges)[0]
    what = "both arms together" if head == JOINT else "the blue arm"
    chart = Chart(
        *((0.0, 1.0), (0.0, np.log10(max(counts.max(), 1)) * 1.08 + 0.1)),
        what=f"Median binary probability by {what}",
        x_label="p, penalty 16",
        y_label="log₁₀ exposures",
    )
    chart.bars(edges, np.where(counts > 0, np.log10(np.maximum(counts, 1)) + 0.03, 0.0), "bar-all")
    return chart


def _by_snr(catalog: xr.Dataset, probability: np.ndarray[Any, np.dtype[np.float64]]) -> Chart:
    snr = np.clip(catalog["snr_B"].values.astype(np.float64), 1.0, 300.0)
    there = np.isfinite(snr) & np.isfinite(probability)
    edges = np.linspace(0.0, 2.5, 26)
    every = np.histogram(np.log10(snr[there]), edges)[0]
    high = np.histogram(np.log10(snr[there & (probability > 0.5)]), edges)[0]
    chart = Chart(
        *((0.5, 2.5), (0.0, max(every.max(), 1) * 1.08)),
        what="S/N of judged exposures; dark: p above 0.5",
        x_label="log₁₀ S/N, blue arm",
        y_label="Exposures",
    )
    first = int(np.searchsorted(edges, 0.5))
    chart.bars(edges[first:], every[first:], "bar-all")
    chart.bars(edges[first:], high[first:], "bar-high")
    return chart


def _sky(catalog: xr.Dataset) -> Chart:
    ra, dec = catalog["ra"].values, catalog["dec"].values
    there = np.isfinite(ra) & np.isfinite(dec)
    across, down = np.arange(0.0, 360.1, _CELL), np.arange(-90.0, 90.1, _CELL)
    counts = np.histogram2d(ra[there] % 360.0, dec[there], (across, down))[0]
    chart = Chart((360.0, 0.0), (-90.0, 90.0), what="Where the exposures are", x_label="RA (deg)", y_label="Dec (deg)")
    most = np.log1p(counts.max()) or 1.0
    for column, row in np.argwhere(counts > 0):
        share = np.log1p(counts[column, row]) / most
        chart.cell(across[column], down[row], _CELL, "sky", 0.25 + 0.75 * float(share))
    return chart
